"""The rewritten graph against the one that the exporter gave: the same numbers from other operators."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from drivetl.deploy import GraphOptions, export
from drivetl.deploy.graph import decoding_tail
from drivetl.deploy.rewrite import rewrite, split_by_weights, unroll_box_softmax
from drivetl.deploy.sensitivity import raw_of

RNG = np.random.default_rng(3)
BINS, ANCHORS = 16, 40


def _model(nodes: list[Any], weights: dict[str, Any], shapes: dict[str, list[int]], opset: int = 18) -> Any:
    """Return a graph from ``images`` to ``output0``."""
    for index, node in enumerate(nodes):
        node.name = node.name or f"/model.2/{node.op_type}_{index}"
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(
        nodes,
        "made for the test",
        [values["images"]],
        [values["output0"]],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _box_distribution(levels: Any = None, opset: int = 18, axis: int = 1) -> Any:
    levels = np.arange(BINS, dtype=np.float32) if levels is None else levels
    weights = {"by_side": np.array([1, 4, BINS, ANCHORS]), "levels": levels.reshape(1, BINS, 1, 1)}
    nodes = [
        helper.make_node("Reshape", ["images", "by_side"], ["sides"]),
        helper.make_node("Transpose", ["sides"], ["bins"], perm=[0, 2, 1, 3]),
        helper.make_node("Softmax", ["bins"], ["shares"], axis=axis),
        helper.make_node("Conv", ["shares", "levels"], ["expected"]),
        helper.make_node("Reshape", ["expected", "boxes"], ["output0"]),
    ]
    weights["boxes"] = np.array([1, 4, ANCHORS])
    return _model(nodes, weights, {"images": [1, 4 * BINS, ANCHORS], "output0": [1, 4, ANCHORS]}, opset)


def _split_block(*, group: int = 1, also_read: bool = False, sizes: tuple[int, ...] | None = (2, 4)) -> Any:
    weights: dict[str, Any] = {
        "w": RNG.normal(size=(6, 4 // group, 3, 3)).astype(np.float32),
        "b": RNG.normal(size=6).astype(np.float32),
    }
    split = helper.make_node("Split", ["made"], ["first", "second"], axis=1)
    if sizes is None:
        split.attribute.append(helper.make_attribute("num_outputs", 2))
    else:
        weights["sizes"] = np.array(sizes)
        split.input.append("sizes")
    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["raw"], "/model.2/cv1/conv/Conv", pads=[1] * 4, group=group),
        helper.make_node("Sigmoid", ["raw"], ["gate"]),
        helper.make_node("Mul", ["raw", "gate"], ["made"]),
        split,
        helper.make_node("Concat", ["second", "first", *(["made"] if also_read else [])], ["output0"], axis=1),
    ]
    return _model(nodes, weights, {"images": [1, 4, 8, 8], "output0": [1, 12 if also_read else 6, 8, 8]})


def _copy(model: Any) -> Any:
    return onnx.ModelProto.FromString(model.SerializeToString())


def _kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
def test_the_expected_distance_is_that_of_the_softmax_however_large_the_logits(spread: float) -> None:
    before = _box_distribution()
    after = _copy(before)
    assert unroll_box_softmax(after) == 1
    onnx.checker.check_model(after, full_check=True)
    assert "Softmax" not in _kinds(after) and "Conv" not in _kinds(after)
    logits = RNG.normal(scale=spread, size=(1, 4 * BINS, ANCHORS)).astype(np.float32)
    expected = ReferenceEvaluator(before).run(None, {"images": logits})[0]
    assert expected.std() > 0.1
    np.testing.assert_allclose(raw_of(after)(logits), expected, rtol=1e-5, atol=1e-5)
    assert decoding_tail(after) == [node.name for node in after.graph.node], "no trained convolution is in it"


@pytest.mark.parametrize(
    "model",
    [
        _box_distribution(np.arange(BINS, dtype=np.float32) * 2),
        _box_distribution(opset=17),
        _box_distribution(axis=2),
    ],
    ids=["other weights", "older operators", "another axis"],
)
def test_a_softmax_that_is_no_box_distribution_is_left_alone(model: Any) -> None:
    after = _copy(model)
    assert rewrite(after) == {"box_softmax": 0, "splits": 0}
    assert after == model


@pytest.mark.parametrize("sizes", [(2, 4), (3, 3), None], ids=str)
def test_a_split_becomes_two_convolutions_that_give_the_same(sizes: tuple[int, ...] | None) -> None:
    before = _split_block(sizes=sizes)
    after = _copy(before)
    assert split_by_weights(after) == 1
    onnx.checker.check_model(after, full_check=True)
    assert _kinds(after) == {"Conv": 2, "Sigmoid": 2, "Mul": 2, "Concat": 1}
    assert {value.name for value in after.graph.initializer}.isdisjoint({"w", "b", "sizes"})
    assert all(node.name.startswith("/model.2/cv1/conv/Conv/part_") for node in after.graph.node[:-1])
    pictures = RNG.normal(size=(1, 4, 8, 8)).astype(np.float32)
    expected = ReferenceEvaluator(before).run(None, {"images": pictures})[0]
    np.testing.assert_allclose(raw_of(after)(pictures), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", [_split_block(group=2), _split_block(also_read=True)], ids=["grouped", "also read"])
def test_a_split_whose_parts_cannot_be_made_on_their_own_stays(model: Any) -> None:
    after = _copy(model)
    split_by_weights(after)
    assert after == model


@pytest.mark.material
def test_a_yolo_keeps_its_answer_and_loses_its_slow_operators(
    material: Path, yolo_bundle: Path, tmp_path: Path
) -> None:
    options = GraphOptions(as_exported=True)
    plain = export(material / "weights" / "yolo11n.pt", tmp_path / "plain", size_hw=(256, 320), options=options).bundle
    before, after = (onnx.load(str(bundle / "model.onnx")) for bundle in (plain, yolo_bundle))
    kinds = {node.name: node.op_type for node in before.graph.node}
    assert [name for name in decoding_tail(before) if kinds[name] == "Conv"] == ["/model.23/dfl/conv/Conv"]
    # What is left: the softmax of the attention, the splits of its queries and of what is no SiLU's, and of the sums.
    assert _kinds(before)["Softmax"] - _kinds(after)["Softmax"] == 1
    assert _kinds(before)["Split"] - _kinds(after)["Split"] == 9 - 1
    assert _kinds(after)["Conv"] - _kinds(before)["Conv"] == 9 - 1
    said = [json.loads((bundle / "report.json").read_text())["export"]["rewritten"] for bundle in (plain, yolo_bundle)]
    assert said == [None, {"box_softmax": 1, "splits": 9}]
    pictures = RNG.random((1, 3, 256, 320)).astype(np.float32)
    expected, given = raw_of(before)(pictures), raw_of(after)(pictures)
    assert np.abs(given[:, :4] - expected[:, :4]).max() < 1e-3, "pixels"
    assert np.abs(given[:, 4:] - expected[:, 4:]).max() < 1e-5
