"""Shared fixtures: the real material beside the project."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drivetl.cores import let_threads_sleep

# Before any test module imports torch.
let_threads_sleep()

if TYPE_CHECKING:
    from drivetl.runtime import Contract

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def material() -> Path:
    """The folder of real pictures, weights and video that DRIVETL_MATERIAL names."""
    folder = (PROJECT / os.environ.get("DRIVETL_MATERIAL", "../shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"needs real material: DRIVETL_MATERIAL names {folder}, which does not exist")
    return folder


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Make a bundle of a one-convolution network: two classes, 64x64 input, 64 boxes, no torch needed.

    Every cell of 8x8 pixels gives a box of 16x16 around its middle; the score of "bright" is the cell's mean level,
    that of "dark" zero. ``change`` edits the contract's JSON, ``graph`` the ONNX model, before the hash is taken.
    """

    def make(
        name: str = "tiny",
        *,
        change: Callable[[dict[str, Any]], None] | None = None,
        graph: Callable[[Any], None] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        model, contract = tiny_model()
        if graph is not None:
            graph(model)
        data = model.SerializeToString()
        (folder / "model.onnx").write_bytes(data)
        document = {**contract.document(), "model_sha256": hashlib.sha256(data).hexdigest()}
        if change is not None:
            change(document)
        (folder / "contract.json").write_text(json.dumps(document), encoding="utf-8")
        return folder

    return make


def tiny_model() -> tuple[Any, Contract]:
    """Return the ONNX graph of `tiny_bundle` with its contract in the metadata, and that contract."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from drivetl.runtime import Contract, Letterbox
    from drivetl.runtime.contract import METADATA_KEY

    weight = np.zeros((6, 3, 8, 8), np.float32)
    weight[4] = 1 / (3 * 64)
    centres = np.stack(np.meshgrid(np.arange(4, 64, 8), np.arange(4, 64, 8))).reshape(2, 64)
    offset = np.zeros((1, 6, 64), np.float32)
    offset[0, :2], offset[0, 2:4] = centres, 16
    constants = {"weight": weight, "shape": np.array([1, 6, 64]), "offset": offset}
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["cells"], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "shape"], ["rows"]),
        helper.make_node("Add", ["rows", "offset"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 64])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    contract = Contract(
        input_name="images",
        input_size_hw=(64, 64),
        output_name="output0",
        output_shape=(1, 6, 64),
        class_names=("bright", "dark"),
        letterbox=Letterbox((64, 64)),
        opset=17,
        source_weights_sha256="0" * 64,
        tools={"drivetl": "test"},
    )
    helper.set_model_props(model, {METADATA_KEY: json.dumps(contract.metadata_document())})
    return model, contract
