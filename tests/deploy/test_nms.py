"""Suppression inside the graph finds what the decoder finds outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.deploy import GraphOptions, export, verify_bundle
from drivetl.deploy.nms import FLOOR, suppress_in_graph
from drivetl.errors import BundleError, ConfigError
from drivetl.files import sha256_file
from drivetl.runtime import Detections, Detector, Letterbox, Thresholds, decode, open_bundle
from drivetl.runtime.selftest import self_test

GEOMETRY = Letterbox((640, 640)).geometry((720, 1280))


def _raw(seed: int, classes: int = 5, batch: int = 1) -> np.ndarray:
    """Clusters of overlapping boxes as around real objects, most scores low."""
    rng = np.random.default_rng(seed)
    objects = rng.uniform(0, 640, (30, 2))
    centres = np.repeat(objects, 20, axis=0) + rng.normal(0, 6, (600, 2))
    sides = np.repeat(rng.uniform(8, 200, (30, 2)), 20, axis=0) * rng.uniform(0.8, 1.25, (600, 2))
    pictures = [np.concatenate((centres, sides, rng.random((600, classes)) ** 6), axis=1).T for _ in range(batch)]
    return np.stack(pictures).astype(np.float32)


def _suppressed(raw: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    import onnx
    from onnx import TensorProto, helper
    from onnxruntime import InferenceSession

    graph = helper.make_graph(
        [helper.make_node("Identity", ["raw"], ["output0"])],
        "nothing",
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, raw.shape)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, raw.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert suppress_in_graph(model, thresholds) == (len(raw), thresholds.max_detections, 6)
    onnx.checker.check_model(model, full_check=True)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["detections"], {"raw": raw})[0])


def _assert_equal(ours: Detections, theirs: Detections) -> None:
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)
    np.testing.assert_array_equal(ours.class_id, theirs.class_id)
    np.testing.assert_array_equal(ours.xyxy_px, theirs.xyxy_px)


@pytest.mark.parametrize("confidence", [FLOOR, 0.25, 0.6])
def test_it_gives_the_same_detections_at_any_threshold_above_its_floor(confidence: float) -> None:
    thresholds = Thresholds(max_detections=1000)
    for seed in range(3):
        raw = _raw(seed)
        rows = _suppressed(raw, thresholds)
        assert rows.shape == (1, 1000, 6)
        outside = decode(raw, GEOMETRY, confidence=confidence, max_detections=1000)
        assert len(outside) > 10
        _assert_equal(decode(rows, GEOMETRY, confidence=confidence, max_detections=1000, decoding="xyxy_nms"), outside)


def test_a_cap_keeps_the_most_confident_and_rows_for_nothing_are_zero() -> None:
    raw = _raw(7)
    capped = _suppressed(raw, Thresholds(max_detections=12))
    _assert_equal(
        decode(capped, GEOMETRY, decoding="xyxy_nms"), decode(raw, GEOMETRY, confidence=0.25, max_detections=12)
    )
    raw[:, 4:, 3:] = 0
    few = _suppressed(raw, Thresholds(max_detections=12))
    assert 1 <= (few[0, :, 4] > 0).sum() <= 3 and (few[few[:, :, 4] == 0] == 0).all()
    raw[:, 4:] = 0
    assert not _suppressed(raw, Thresholds(max_detections=12)).any()


def test_pictures_of_a_batch_do_not_suppress_each_other() -> None:
    raw = _raw(3, batch=3)
    rows = _suppressed(raw, Thresholds())
    for index in range(3):
        _assert_equal(
            decode(rows[index : index + 1], GEOMETRY, decoding="xyxy_nms"), decode(raw[index : index + 1], GEOMETRY)
        )


def test_a_bundle_says_so_and_its_detector_finds_the_same(quick_export: Callable[..., Any], tmp_path: Path) -> None:
    outside = quick_export(tmp_path / "outside").bundle
    inside = quick_export(tmp_path / "inside", options=GraphOptions(in_graph_nms=True)).bundle
    contract = open_bundle(inside).contract
    assert (contract.decoding, contract.output_name, contract.output_shape) == ("xyxy_nms", "detections", (1, 300, 6))
    assert contract.document()["output"]["graph_confidence"] == FLOOR
    assert self_test(inside).passed
    picture = np.random.default_rng(3).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    found = Detector(inside, confidence=0.4)(picture)
    assert len(found) > 5
    _assert_equal(found, Detector(outside, confidence=0.4)(picture))


def test_rows_that_name_a_class_that_is_not_there_are_refused(quick_export: Callable[..., Any], tmp_path: Path) -> None:
    detector = Detector(quick_export(tmp_path / "out", options=GraphOptions(in_graph_nms=True)).bundle)
    for class_id in (2, -1, np.nan):
        rows = np.zeros((1, 300, 6), np.float32)
        rows[0, 0] = (1, 1, 9, 9, 0.9, class_id)
        with pytest.raises(BundleError, match="none of 0 to 1"):
            detector.postprocess(rows, GEOMETRY)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (GraphOptions(in_graph_nms=True, one_to_one=True), "needs no NMS"),
        (GraphOptions(in_graph_nms=True, dynamic=True), "leave --dynamic out"),
        (GraphOptions(size_range_hw=((64, 64), (64, 64))), "give --dynamic"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: GraphOptions, sentence: str, quick_export: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        quick_export(tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.material
def test_verify_compares_its_detections_and_finds_a_wrong_overlap(
    material: Path, road_pictures: Path, tmp_path: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    weights = material / "weights" / "yolo11n.pt"
    options = GraphOptions(in_graph_nms=True)
    bundle = export(weights, tmp_path / "bundle", size_hw=(256, 320), options=options).bundle
    result = verify_bundle(bundle, weights, road_pictures)
    assert result.problems == ("accuracy was not compared (no boxes in the split?)",)
    assert result.agreement.matched > 20 and result.matched == 1.0

    model = onnx.load(str(bundle / "model.onnx"))
    overlap = next(node for node in model.graph.node if node.op_type == "NonMaxSuppression").input[3]
    tensor = next(value for value in model.graph.initializer if value.name == overlap)
    tensor.CopyFrom(numpy_helper.from_array(np.array([0.99], np.float32), overlap))
    onnx.save(model, str(bundle / "model.onnx"))
    document = json.loads((bundle / "contract.json").read_text(encoding="utf-8"))
    document["model_sha256"] = sha256_file(bundle / "model.onnx")
    (bundle / "contract.json").write_text(json.dumps(document), encoding="utf-8")
    assert any("detections match" in problem for problem in verify_bundle(bundle, weights, road_pictures).problems)
