"""Ultralytics' own way from picture to boxes on an ONNX file, stage by stage, as something to be measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from drivetl.yolo.ultra import DetectionPredictor, set_threads

__all__ = ["UltralyticsOnnx"]


class UltralyticsOnnx:
    """Ultralytics' predictor on an ONNX file on the CPU: its letterbox, its tensor, its suppression, its results."""

    def __init__(
        self,
        model: Path,
        session: Any,
        *,
        size_hw: tuple[int, int],
        limits: tuple[float, float, int],
        threads: int | None = None,
    ) -> None:
        """Set the predictor up.

        Args:
            model: the ``.onnx`` file with the metadata that Ultralytics' exporter wrote.
            session: the ONNX Runtime session that runs it. Ultralytics' backend leaves the threads to ONNX Runtime;
                with a session handed in, both sides infer with the same graph, threads and memory.
            size_hw: height and width of the input in pixels.
            limits: confidence in [0, 1], overlap of the suppression in [0, 1], most detections.
            threads: CPU threads of torch, set for the whole process; None leaves Ultralytics' own choice.
        """
        confidence, iou, most = limits
        options = {"model": str(model), "imgsz": list(size_hw), "conf": confidence, "iou": iou, "max_det": most}
        switches = {"device": "cpu", "save": False, "verbose": False, "mode": "predict", "task": "detect"}
        self._predictor: Any = DetectionPredictor(overrides={**options, **switches})
        self._predictor.setup_model(str(model), verbose=False)
        self._predictor.imgsz = list(size_hw)
        self._predictor.batch = ([str(model)], None, None)
        self._predictor.model.backend.session = session
        if threads:
            # Only now: choosing its device, the predictor sets them to one less than there are cores.
            set_threads(threads)

    @property
    def threads(self) -> int:
        """CPU threads of torch in this process."""
        return torch.get_num_threads()

    def preprocess(self, image_bgr: npt.NDArray[np.uint8]) -> Any:
        """Return the input tensor of one picture, a torch tensor ``(1, 3, h, w)``."""
        return self._predictor.preprocess([image_bgr])

    def infer(self, tensor: Any) -> Any:
        """Return what the network gives for the tensor."""
        return self._predictor.model(tensor)

    def postprocess(self, raw: Any, tensor: Any, image_bgr: npt.NDArray[np.uint8]) -> int:
        """Decode what `infer` gave into Ultralytics' results; return how many boxes there are."""
        return len(self._predictor.postprocess(raw, tensor, [image_bgr])[0])
