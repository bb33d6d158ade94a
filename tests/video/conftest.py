"""A real bundle without weights: a graph of four nodes whose detections are known beforehand."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from drivetl.runtime import Contract, Detector, Letterbox
from drivetl.runtime.contract import METADATA_KEY

# FFmpeg's words about videos that are damaged on purpose; OpenCV reads it at its first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

INPUT_HW = (32, 64)
# The network sees a "car" on the left half with the brightness of the picture as confidence, and on the right half a
# "person" with half of it.
CAR_CXCYWH = (16.0, 16.0, 24.0, 16.0)
PERSON_CXCYWH = (48.0, 16.0, 8.0, 24.0)


def make_bundle(folder: Path) -> Path:
    boxes = np.zeros((1, 6, 2), np.float32)
    boxes[0, :4, 0], boxes[0, :4, 1] = CAR_CXCYWH, PERSON_CXCYWH
    share = np.zeros((1, 6, 2), np.float32)
    share[0, 4, 0], share[0, 5, 1] = 1.0, 0.5
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["brightness"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Squeeze", ["brightness", "axes"], ["mean"]),
            helper.make_node("Mul", ["mean", "share"], ["scores"]),
            helper.make_node("Add", ["scores", "boxes"], ["output0"]),
        ],
        "known",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *INPUT_HW])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 2])],
        [
            numpy_helper.from_array(np.array([3], np.int64), "axes"),
            numpy_helper.from_array(share, "share"),
            numpy_helper.from_array(boxes, "boxes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # Frames of the tests have the model's aspect ratio, so that padding does not dilute their brightness.
    contract = Contract("images", INPUT_HW, "output0", (1, 6, 2), ("car", "person"), Letterbox(INPUT_HW), opset=17)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(contract.metadata_document())})
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    folder.mkdir()
    (folder / "model.onnx").write_bytes(data)
    document = replace(contract, model_sha256=hashlib.sha256(data).hexdigest()).document()
    (folder / "contract.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "known")


@pytest.fixture(scope="session")
def detector(bundle: Path) -> Detector:
    return Detector(bundle, threads=1)


def _grey(level: int, size_wh: tuple[int, int] = (128, 64)) -> NDArray[np.uint8]:
    return np.full((size_wh[1], size_wh[0], 3), level, np.uint8)


@pytest.fixture
def grey() -> Callable[..., NDArray[np.uint8]]:
    return _grey


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Write grey frames of the given levels with OpenCV."""

    def write(
        name: str,
        levels: Sequence[int],
        *,
        fps: float = 25.0,
        size_wh: tuple[int, int] = (128, 64),
        four_cc: str = "mp4v",
        noise: bool = False,
    ) -> Path:
        path = tmp_path / name
        rng = np.random.default_rng(0)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*four_cc), fps, size_wh)
        assert writer.isOpened()
        for level in levels:
            frame = _grey(level, size_wh)
            writer.write(rng.integers(0, 256, frame.shape, np.uint8) if noise else frame)
        writer.release()
        return path

    return write


@pytest.fixture
def read_frames() -> Callable[[Path], list[NDArray[np.uint8]]]:
    return _read_frames


def _read_frames(path: Path) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while True:
        arrived, image_bgr = capture.read()
        if not arrived:
            return frames
        frames.append(np.asarray(image_bgr, np.uint8))
