"""The decoder against Ultralytics' non_max_suppression and scale_boxes."""

from __future__ import annotations

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.errors import BundleError
from drivetl.runtime import Detections, Letterbox, decode, to_tensor
from drivetl.runtime.letterbox import Geometry

# Accuracy is measured with the first, a car runs the second.
PROTOCOLS = [
    {"confidence": 0.001, "iou": 0.7, "max_detections": 300, "multi_label": True},
    {"confidence": 0.25, "iou": 0.7, "max_detections": 300, "multi_label": False},
]
# Two divisions and one subtraction in float32 on values up to 2000 px.
TOLERANCE_PX = 2e-3


def _ultralytics(raw: np.ndarray, geometry: Geometry, protocol: dict[str, float]) -> Detections:
    # The door comes first: it keeps Ultralytics offline. The rest of this function is the oracle.
    from drivetl.yolo.ultra import torch, ultralytics

    nms, ops = (importlib.import_module(f"{ultralytics.__name__}.utils.{name}") for name in ("nms", "ops"))

    rows = nms.non_max_suppression(
        torch.from_numpy(raw.copy()),
        conf_thres=protocol["confidence"],
        iou_thres=protocol["iou"],
        max_det=int(protocol["max_detections"]),
        multi_label=bool(protocol["multi_label"]),
    )[0]
    boxes = ops.scale_boxes(geometry.input_size_hw, rows[:, :4].clone(), geometry.image_size_hw)
    return Detections(boxes.numpy(), rows[:, 4].numpy(), rows[:, 5].numpy().astype(np.int64))


def _random_raw(rng: np.random.Generator, classes: int) -> np.ndarray:
    """Clusters of overlapping boxes as around real objects, some of them over the border, most scores low."""
    objects = rng.uniform(0, 640, (40, 2))
    centres = np.repeat(objects, 20, axis=0) + rng.normal(0, 6, (800, 2))
    sides = np.repeat(rng.uniform(8, 200, (40, 2)), 20, axis=0) * rng.uniform(0.8, 1.25, (800, 2))
    scores = rng.random((800, classes)) ** 6
    return np.concatenate((centres, sides, scores), axis=1).T[None].astype(np.float32)


def _assert_same(ours: Detections, theirs: Detections) -> None:
    """Same detections, in an order that ties cannot change."""
    assert len(ours) == len(theirs)
    first, second = (np.lexsort((d.xyxy_px[:, 0].round(1), d.class_id, -d.confidence)) for d in (ours, theirs))
    np.testing.assert_array_equal(ours.confidence[first], theirs.confidence[second])
    np.testing.assert_array_equal(ours.class_id[first], theirs.class_id[second])
    np.testing.assert_allclose(ours.xyxy_px[first], theirs.xyxy_px[second], rtol=0, atol=TOLERANCE_PX)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["accuracy", "car"])
@pytest.mark.parametrize("seed", range(6))
def test_it_equals_ultralytics_on_random_output(seed: int, protocol: dict[str, float]) -> None:
    # Few classes, because Ultralytics separates classes by an offset of 7680 px each, which costs float32 digits.
    raw = _random_raw(np.random.default_rng(seed), classes=3)
    geometry = Letterbox((640, 640)).geometry((720, 1280))
    theirs = _ultralytics(raw, geometry, protocol)
    assert len(theirs) > 20
    _assert_same(decode(raw, geometry, **protocol), theirs)  # type: ignore[arg-type]


@pytest.mark.material
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["accuracy", "car"])
def test_it_equals_ultralytics_on_real_pictures(material: Path, protocol: dict[str, float]) -> None:
    from drivetl.yolo import TorchModel

    model = TorchModel(material / "weights" / "yolo11n.pt")
    letterbox = Letterbox((640, 640))
    total = 0
    for path in sorted((material / "data" / "dawn-fog" / "images").iterdir())[::40]:
        letterboxed, geometry = letterbox(np.asarray(cv2.imread(str(path)), np.uint8))
        raw = model.raw(to_tensor(letterboxed))
        theirs = _ultralytics(raw, geometry, protocol)
        _assert_same(decode(raw, geometry, **protocol), theirs)  # type: ignore[arg-type]
        total += len(theirs)
    assert total > 10


SQUARE = Geometry((100, 100), (100, 100), (100, 100), (0, 0), 1.0)


def _raw(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).T[None]


def test_suppression_is_class_wise_and_the_stronger_box_stays() -> None:
    raw = _raw((50, 50, 20, 20, 0.6, 0.1), (51, 50, 20, 20, 0.9, 0.1), (50, 50, 20, 20, 0.1, 0.8))
    found = decode(raw, SQUARE)
    np.testing.assert_allclose(found.confidence, [0.9, 0.8])
    np.testing.assert_array_equal(found.class_id, [0, 1])
    np.testing.assert_allclose(found.xyxy_px[0], [41, 40, 61, 60])


def test_boxes_outside_of_the_picture_do_not_suppress_those_of_another_class() -> None:
    # The second lies as far to the left and above as a picture is wide: moved by that, it would cover the first.
    raw = _raw((600, 600, 80, 80, 0.9, 0), (-38, -38, 84, 84, 0, 0.8))
    assert decode(raw, Letterbox((640, 640)).geometry((640, 640)), confidence=0.25).class_id.tolist() == [0, 1]


def test_one_box_gives_one_class_in_the_car_and_all_of_them_for_accuracy() -> None:
    raw = _raw((50, 50, 20, 20, 0.6, 0.5))
    assert decode(raw, SQUARE).class_id.tolist() == [0]
    assert decode(raw, SQUARE, multi_label=True).class_id.tolist() == [0, 1]


def test_the_cap_keeps_the_most_confident() -> None:
    rows = [(10 * i + 5, 50, 6, 6, 0.3 + 0.05 * i) for i in range(9)]
    found = decode(_raw(*rows), SQUARE, max_detections=2)
    np.testing.assert_allclose(found.confidence, [0.7, 0.65], atol=1e-6)


def test_nothing_above_the_threshold_gives_empty_arrays_of_the_right_shape() -> None:
    found = decode(_raw((50, 50, 20, 20, 0.25)), SQUARE, confidence=0.25)
    assert len(found) == 0
    assert found.xyxy_px.shape == (0, 4) and found.xyxy_px.dtype == np.float32
    assert found.class_id.dtype == np.int64


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_no_empty_road(value: float, multi_label: bool) -> None:
    raw = _raw((50, 50, 20, 20, 0.9, 0.1), (50, 80, 20, 20, 0.1, value))
    with pytest.raises(BundleError, match="no numbers"):
        decode(raw, SQUARE, multi_label=multi_label)


def test_a_box_that_is_no_number_is_an_error_where_it_would_be_reported() -> None:
    assert len(decode(_raw((50, 50, 20, 20, 0.9), (np.nan, 80, 20, 20, 0.1)), SQUARE)) == 1
    with pytest.raises(BundleError, match="no numbers"):
        decode(_raw((50, 50, 20, 20, 0.9), (np.nan, 80, 20, 20, 0.8)), SQUARE)


@pytest.mark.parametrize("place", [0, 4])
def test_rows_that_hold_no_numbers_are_an_error(place: int) -> None:
    rows = np.array([[[10, 10, 20, 20, 0.9, 0], [30, 30, 40, 40, 0.8, 1]]], np.float32)
    assert len(decode(rows, SQUARE, decoding="xyxy_nms")) == 2
    rows[0, 1, place] = np.nan
    with pytest.raises(BundleError, match="no numbers"):
        decode(rows, SQUARE, decoding="xyxy_nms")


def test_above_is_strict() -> None:
    found = Detections(
        np.zeros((3, 4), np.float32), np.array([0.75, 0.5, 0.25], np.float32), np.array([2, 1, 0], np.int64)
    )
    kept = found.above(0.5)
    assert kept.class_id.tolist() == [2]
    assert kept.xyxy_px.shape == (1, 4)
