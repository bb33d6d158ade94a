"""The self-test notices what changes detections, and only that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.deploy.golden import write_golden
from drivetl.errors import BundleError
from drivetl.runtime import Detections, Detector
from drivetl.runtime.overlap import box_iou, match
from drivetl.runtime.selftest import self_test

Make = Callable[..., Path]


@pytest.fixture
def golden_bundle(tiny_bundle: Make) -> Path:
    folder = tiny_bundle()
    write_golden(Detector(folder), None, folder)
    return folder


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "golden" / "expected.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_the_same_machine_reproduces_its_own_detections(golden_bundle: Path) -> None:
    result = self_test(golden_bundle)
    assert result.passed
    assert (result.frames, result.missing, result.unexpected) == (1, 0, 0)
    assert result.detections > 3
    assert result.max_abs_diff_px == 0.0 and result.max_abs_diff_confidence == 0.0


def test_a_moved_box_fails_by_as_much_as_it_moved_in_input_pixels(golden_bundle: Path) -> None:
    def move(document: dict[str, Any]) -> None:
        box = document["frames"][0]["detections"][0]["xyxy_px"]
        box[0] += 10.0

    _edit(golden_bundle, move)
    result = self_test(golden_bundle)
    # The frame is 1280 wide and the input 64: ten picture pixels are half an input pixel.
    assert result.max_abs_diff_px == pytest.approx(0.5, abs=1e-4)
    assert not result.passed


def test_a_changed_confidence_fails(golden_bundle: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["frames"][0]["detections"][0]["confidence"] -= 0.002

    _edit(golden_bundle, change)
    result = self_test(golden_bundle)
    assert result.max_abs_diff_confidence == pytest.approx(0.002, abs=1e-6)
    assert not result.passed


def test_missing_and_unexpected_detections_are_counted(golden_bundle: Path) -> None:
    def other_class(document: dict[str, Any]) -> None:
        document["frames"][0]["detections"][0]["class_id"] = 1

    _edit(golden_bundle, other_class)
    result = self_test(golden_bundle)
    assert (result.missing, result.unexpected, result.passed) == (1, 1, False)


def test_a_detection_at_the_threshold_may_fall_on_either_side(golden_bundle: Path) -> None:
    def at_threshold(document: dict[str, Any]) -> None:
        frame = document["frames"][0]
        weakest = frame["detections"].pop()
        frame["confidence"] = weakest["confidence"] - 0.0005

    _edit(golden_bundle, at_threshold)
    result = self_test(golden_bundle)
    assert result.passed and result.unexpected == 0


def test_a_changed_frame_is_noticed(golden_bundle: Path) -> None:
    frame = golden_bundle / "golden" / "frame-00.png"
    cv2.imwrite(str(frame), np.roll(np.asarray(cv2.imread(str(frame))), 40, axis=1))
    with pytest.raises(BundleError, match=r"frame-00\.png' was changed after export"):
        self_test(golden_bundle)


BROKEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "no frames": lambda d: d.update(frames=[]),
    "frames missing": lambda d: d.pop("frames"),
    "no tolerance": lambda d: d.pop("tolerance_px"),
    "no tolerance of the frame": lambda d: d["frames"][0].pop("tolerance_confidence"),
    "nothing expected": lambda d: d["frames"][0].update(detections=[]),
    "outside the bundle": lambda d: d["frames"][0].update(file="../../frame.png"),
    "three numbers": lambda d: d["frames"][0]["detections"][0].update(xyxy_px=[1, 2, 3]),
    "text": lambda d: d["frames"][0]["detections"][0].update(confidence="high"),
    "not finite": lambda d: d["frames"][0]["detections"][0].update(confidence=float("nan")),
    "no such number": lambda d: d["frames"][0]["detections"][0].update(class_id=2**70),
    "no such float": lambda d: d["frames"][0].update(confidence=10**400),
    "no file name": lambda d: d["frames"][0].update(file="a\0.png"),
    "half a character": lambda d: d["frames"][0].update(file="\ud800.png"),
    "frame gone": lambda d: d["frames"][0].update(file="other.png"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_broken_expectations_are_one_sentence(change: Callable[[dict[str, Any]], None], golden_bundle: Path) -> None:
    _edit(golden_bundle, change)
    with pytest.raises(BundleError, match="export the bundle again"):
        self_test(golden_bundle)


def test_a_bundle_without_golden_frames_says_so(tiny_bundle: Make) -> None:
    with pytest.raises(BundleError, match=r"cannot read .*expected.json'"):
        self_test(tiny_bundle())


def test_overlap_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 30]], np.float32)
    # 50 shared of 150 covered; a box without area overlaps nothing, itself included.
    np.testing.assert_allclose(box_iou(boxes, boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])


def test_pairs_are_of_one_class_and_one_to_one() -> None:
    first = Detections(
        np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([0, 0, 1]),
    )
    second = Detections(
        np.array([[0, 0, 10, 9], [50, 50, 60, 60]], np.float32), np.array([0.9, 0.7], np.float32), np.array([0, 0])
    )
    # The second box fits exactly and so wins over the first; the third is of another class.
    assert match(first, second, 0.5) == [(1, 0)]
