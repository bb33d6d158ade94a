"""The detector that runs in the car, and that every figure is measured with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.runtime.bundle import Bundle, open_bundle
from drivetl.runtime.contract import Contract
from drivetl.runtime.decode import decode
from drivetl.runtime.detections import Detections
from drivetl.runtime.letterbox import Geometry
from drivetl.runtime.preprocess import Preprocessor

__all__ = ["Detector"]


class Detector:
    """Run a bundle: ``Detector(bundle)(image_bgr) -> Detections``.

    The three stages are methods of their own, so that latency can be measured stage by stage on the code that runs.
    A detector may be shared by threads: each has its own buffers, and nothing else is kept between frames.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        provider: str = "cpu",
        threads: int = 0,
        confidence: float | None = None,
    ) -> None:
        """Open a bundle on one execution provider.

        Args:
            bundle: the folder, or a bundle that is already open.
            provider: ``cpu``, ``cuda`` or ``tensorrt``; there is no fallback.
            threads: threads of one operator, 0 for ONNX Runtime's choice.
            confidence: threshold in [0, 1]; None takes the contract's.

        Raises:
            BundleError: the bundle cannot be used.
            ProviderUnavailable: the provider cannot run here.
        """
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.session = self._bundle.session(provider, threads=threads)
        self._preprocess = Preprocessor(self.contract.letterbox, self.contract.input_dtype)
        limits = self.contract.thresholds
        self.confidence = limits.confidence if confidence is None else confidence

    @property
    def contract(self) -> Contract:
        """What the model takes and gives."""
        return self._bundle.contract

    @property
    def provider(self) -> str:
        """The execution provider that every node of the graph runs on."""
        return self.session.provider

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Detect objects in one picture, uint8 ``(height, width, 3)``, BGR.

        Raises:
            ImageError: the array is not such a picture.
        """
        tensor, geometry = self.preprocess(image_bgr)
        return self.postprocess(self.infer(tensor), geometry)

    def preprocess(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[Any], Geometry]:
        """Return the input tensor, of the contract's input shape and type, and how the picture lies in it.

        The tensor is a buffer of the calling thread, overwritten by its next call: copy it to keep it.
        """
        return self._preprocess(image_bgr)

    def infer(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Return the raw output, float32 of the contract's output shape."""
        return self.session.run(self.contract.output_name, self.contract.input_name, tensor)

    def postprocess(
        self,
        raw: NDArray[np.float32],
        geometry: Geometry,
        *,
        confidence: float | None = None,
        multi_label: bool = False,
    ) -> Detections:
        """Return the detections in picture pixels; see `drivetl.runtime.decode.decode`."""
        limits = self.contract.thresholds
        return decode(
            raw,
            geometry,
            confidence=self.confidence if confidence is None else confidence,
            iou=limits.iou,
            max_detections=limits.max_detections,
            multi_label=multi_label,
        )
