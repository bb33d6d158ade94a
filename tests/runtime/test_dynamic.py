"""Open dimensions and batches: what the contract says of them, and what contradicts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.deploy import Sampling, bench
from drivetl.errors import BundleError
from drivetl.runtime import Contract, Detector, open_bundle

Make = Callable[..., Path]


def _wide(batch: int | str, side: int | str = 64) -> Callable[[Any], None]:
    """Give the tiny graph a batch, or leave its dimensions open."""

    def change(model: Any) -> None:
        import json

        from onnx import TensorProto, helper, numpy_helper

        graph = model.graph
        graph.input[0].CopyFrom(helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side]))
        anchors = 64 if isinstance(side, int) else "anchors"
        graph.output[0].CopyFrom(helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 6, anchors]))
        for value in graph.initializer:
            if value.name == "shape":
                value.CopyFrom(numpy_helper.from_array(np.array([-1, 6, 64]), "shape"))
        entry = model.metadata_props[0]
        document = json.loads(entry.value)
        _contract(batch, side)(document)
        entry.value = json.dumps(document)

    return change


def _contract(batch: int | str, side: int | str = 64) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        count = batch if isinstance(batch, int) else 3
        document["input"]["shape_nchw"] = [count, 3, 64, 64]
        document["output"]["shape"] = [count, 6, 64]
        if not isinstance(side, int):
            document["input"]["dynamic"] = {"sizes_hw": [[64, 64], [64, 128]]}

    return change


def _pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (90 + index, 160, 3), dtype=np.uint8) for index in range(count)]


@pytest.mark.parametrize(("batch", "side"), [(2, 64), ("batch", "side")])
def test_a_batch_gives_each_picture_what_it_gives_alone(batch: Any, side: Any, tiny_bundle: Make) -> None:
    alone = Detector(tiny_bundle(), confidence=0.4)
    together = Detector(tiny_bundle("wide", graph=_wide(batch, side), change=_contract(batch, side)), confidence=0.4)
    for count in (0, 1, 2, 3, 5):
        found = together.batch(_pictures(count))
        assert len(found) == count
        for ours, picture in zip(found, _pictures(count), strict=True):
            wanted = alone(picture)
            assert len(wanted) > 5
            for name in ("xyxy_px", "confidence", "class_id"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(wanted, name))
                np.testing.assert_array_equal(getattr(together(picture), name), getattr(wanted, name))


@pytest.mark.parametrize(("batch", "side"), [(2, 64), ("batch", "side")])
def test_the_bare_loop_of_the_bench_takes_a_batch_too(batch: Any, side: Any, tiny_bundle: Make) -> None:
    bundle = tiny_bundle("wide", graph=_wide(batch, side), change=_contract(batch, side))
    result = bench(bundle, sampling=Sampling(iterations=5, warm_up=1, against_bare=True))
    assert result.against_bare is not None and result.against_bare.ratio > 0


def test_a_dynamic_contract_survives_json_and_names_its_sizes(tiny_bundle: Make) -> None:
    bundle = tiny_bundle("wide", graph=_wide("batch", "side"), change=_contract("batch", "side"))
    contract = open_bundle(bundle).contract
    assert contract.dynamic and contract.batch == 3 and contract.size_range_hw == ((64, 64), (64, 128))
    assert Contract.from_document(contract.document(), "again") == contract
    assert contract.shape_ranges() == ((1, 3, 64, 64), (3, 3, 64, 64), (3, 3, 64, 128))
    assert Detector(bundle, size_hw=(64, 128)).contract.letterbox.size_hw == (64, 128)
    with pytest.raises(BundleError, match="takes inputs of 64x64 to 64x128 and was asked for 96x64"):
        Detector(bundle, size_hw=(96, 64))
    with pytest.raises(BundleError, match="export it with --dynamic"):
        Detector(tiny_bundle("fixed"), size_hw=(96, 64))


def test_a_shape_that_the_graph_cannot_compute_is_one_sentence(tiny_bundle: Make) -> None:
    bundle = tiny_bundle("wide", graph=_wide("batch", "side"), change=_contract("batch", "side"))
    # A column of cells more, and this graph's reshaping knows one number of them.
    with pytest.raises(BundleError, match=r"cannot run the graph on an input of shape \(1, 3, 64, 72\)"):
        Detector(bundle, size_hw=(64, 72))(_pictures(1)[0])


def test_a_contract_that_says_otherwise_than_the_graph_is_refused(tiny_bundle: Make) -> None:
    says_open = tiny_bundle("a", graph=_wide(3), change=_contract("batch", "side"))
    with pytest.raises(BundleError, match="takes "):
        open_bundle(says_open).session()
    says_fixed = tiny_bundle("b", graph=_wide("batch", "side"), change=_contract(3))
    with pytest.raises(BundleError, match="takes "):
        open_bundle(says_fixed).session()


@pytest.mark.parametrize("sizes", [[], [[64, 64]], [[64, 64], [32, 64]], [[64, 64], [64, 9000]], [["a", 1], [2, 3]], 7])
def test_a_range_that_is_none_is_refused(sizes: object, tiny_bundle: Make) -> None:
    def change(document: dict[str, Any]) -> None:
        document["input"]["dynamic"] = {"sizes_hw": sizes}

    with pytest.raises(BundleError, match="sizes_hw"):
        open_bundle(tiny_bundle(change=change))


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ({"decoding": "xyxy_nms", "shape": [1, 300, 6]}, "graph_confidence is missing"),
        ({"decoding": "xyxy_nms", "shape": [1, 300, 7], "graph_confidence": 0.1}, r"expected \[1, rows, 6\]"),
        ({"decoding": "xyxy_one_to_one", "shape": [2, 300, 6]}, r"expected \[1, rows, 6\]"),
        ({"decoding": "xywh"}, "expected cxcywh_scores or xyxy_one_to_one or xyxy_nms"),
    ],
)
def test_an_output_that_contradicts_itself_is_refused(output: dict[str, Any], sentence: str, tiny_bundle: Make) -> None:
    with pytest.raises(BundleError, match=sentence):
        open_bundle(tiny_bundle(change=lambda document: document["output"].update(output)))
