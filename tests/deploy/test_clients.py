"""Programs that nobody here wrote load a bundle's graph and find the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.deploy.matching import Agreement, compare_detections
from drivetl.runtime import Detector, decode

Client = Callable[[Path], Callable[[Any], Any]]


def _opencv(model: Path) -> Callable[[Any], Any]:
    net = cv2.dnn.readNetFromONNX(str(model))

    def run(tensor: Any) -> Any:
        net.setInput(tensor)
        return net.forward()

    return run


def _openvino(model: Path) -> Callable[[Any], Any]:
    import openvino

    # Without the hint it may compute in bfloat16, where the processor can.
    compiled = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda tensor: compiled(tensor)[compiled.output(0)]


@pytest.mark.material
@pytest.mark.parametrize("client", [_opencv, _openvino])
def test_another_program_finds_the_same(client: Client, material: Path, yolo_bundle: Path) -> None:
    detector = Detector(yolo_bundle)
    run = client(yolo_bundle / "model.onnx")
    agreement = Agreement()
    for path in sorted((material / "data" / "kitti-day" / "image_2").iterdir())[:6]:
        tensor, geometry = detector.preprocess(np.asarray(cv2.imread(str(path)), np.uint8))
        ours, theirs = detector.infer(tensor), np.asarray(run(tensor.copy()))
        assert theirs.shape == ours.shape
        # float32 in another order: the bounds of `drivetl verify`.
        assert np.abs(theirs[:, 4:] - ours[:, 4:]).max() < 1e-3
        assert np.abs(theirs[:, :4] - ours[:, :4]).max() < 0.1
        agreement += compare_detections(
            decode(ours, geometry),
            decode(theirs, geometry),
            min_iou=0.99,
            confidence=0.25,
            nms_iou=0.7,
            near=1e-3,
        )
    assert agreement.missed == 0 and agreement.matched >= 5
