"""The detector that runs in the car, and that every figure is measured with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import BundleError, ConfigError, quoted
from drivetl.runtime.bundle import Bundle, open_bundle
from drivetl.runtime.contract import Contract
from drivetl.runtime.decode import BOX_ROWS, decode
from drivetl.runtime.detections import Detections
from drivetl.runtime.letterbox import Geometry
from drivetl.runtime.preprocess import Preprocessor
from drivetl.runtime.replay import Replay

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
        size_hw: tuple[int, int] | None = None,
        engine_cache: Path | None = None,
        cuda_graph: bool = False,
    ) -> None:
        """Open a bundle on one execution provider.

        Args:
            bundle: the folder, or a bundle that is already open.
            provider: ``cpu``, ``cuda`` or ``tensorrt``; there is no fallback.
            threads: threads of one operator, 0 for ONNX Runtime's choice.
            confidence: threshold in [0, 1]; None takes the contract's.
            size_hw: height and width of the input, where the graph is dynamic; None takes the contract's.
            engine_cache: a folder where TensorRT keeps its engines; None builds them at every start.
            cuda_graph: replay the network as one CUDA graph; then only the first thread that detects may go on to.

        Raises:
            BundleError: the bundle cannot be used, at that size or at all.
            ConfigError: the threshold is none.
            DeviceError: the GPU has no memory for the buffers of a CUDA graph, or failed.
            ProviderUnavailable: the provider cannot run here, or has no CUDA graph.

        Warns:
            RuntimeWarning: TensorRT cannot read the engine that it kept, and builds it once more.
        """
        if confidence is not None and not 0 <= confidence <= 1:
            raise ConfigError(f"confidence is {confidence:g}; it is a share from 0 to 1, such as 0.25")
        if isinstance(bundle, Bundle):
            opened = bundle if bundle.model else open_bundle(bundle.path)  # that of another detector has no graph
        else:
            opened = open_bundle(bundle)
        self._contract = opened.contract
        if size_hw is not None:
            self._contract = self._contract.at_size(size_hw, str(opened.path))
        self.session = opened.session(provider, threads=threads, engine_cache=engine_cache, cuda_graph=cuda_graph)
        # The session has its own copy of the graph, and a board has one memory for everything.
        self._bundle = replace(opened, model=b"")
        self._replay = Replay(self.session, self.contract) if cuda_graph else None
        self._buffers = threading.local()
        self._preprocess = Preprocessor(self.contract.letterbox, self.contract.input_dtype)
        limits = self.contract.thresholds
        self.confidence = limits.confidence if confidence is None else confidence

    @property
    def bundle(self) -> Bundle:
        """The bundle that runs; without the serialised graph, which the session has read."""
        return self._bundle

    @property
    def contract(self) -> Contract:
        """What the model takes and gives, at the size that it was opened for."""
        return self._contract

    @property
    def provider(self) -> str:
        """The execution provider that every node of the graph runs on."""
        return self.session.provider

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Detect objects in one picture, uint8 ``(height, width, 3)``, BGR.

        Raises:
            ImageError: the array is not such a picture.
            BundleError, DeviceError: see `infer`.
        """
        tensor, geometry = self.preprocess(image_bgr)
        return self.postprocess(self.infer(tensor), geometry)

    def batch(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Detect objects in several pictures, as many in a run as the graph takes; same order, same results.

        Raises:
            ImageError: an array is no picture, see `__call__`.
            BundleError, DeviceError: see `infer`.
        """
        found: list[Detections] = []
        for start in range(0, len(images_bgr), self.contract.batch):
            part = images_bgr[start : start + self.contract.batch]
            tensor, geometries = self._buffer(), []
            for place, image_bgr in zip(tensor, part, strict=False):
                single, geometry = self.preprocess(image_bgr)
                place[...] = single[0]
                geometries.append(geometry)
            raw = self.infer(tensor[: len(part)] if self.contract.dynamic else tensor)
            found += [self.postprocess(raw[i : i + 1], geometry) for i, geometry in enumerate(geometries)]
        return found

    def preprocess(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[Any], Geometry]:
        """Return the input tensor, of the contract's input shape and type, and how the picture lies in it.

        The tensor is a buffer of the calling thread, overwritten by its next call: copy it to keep it.
        """
        return self._preprocess(image_bgr)

    def infer(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Return the output for a tensor of pictures, float32; see `drivetl.runtime.decode` for its layouts.

        A graph of a fixed batch runs with it also for fewer pictures, and only theirs are returned.

        Raises:
            BundleError: the graph cannot compute it.
            DeviceError: the GPU failed.
            ProviderUnavailable: of a CUDA graph, another thread has recorded it.
        """
        count = len(tensor)
        if count < self.contract.batch and not self.contract.dynamic:
            whole = self._buffer()
            whole[:count] = tensor
            tensor = whole
        return self._run(tensor)[:count]

    def _run(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        if self._replay is not None:
            return self._replay(tensor)
        return self.session.run(self.contract.output_name, self.contract.input_name, tensor)

    def postprocess(
        self,
        raw: NDArray[np.float32],
        geometry: Geometry,
        *,
        confidence: float | None = None,
        multi_label: bool = False,
    ) -> Detections:
        """Return the detections in picture pixels; see `drivetl.runtime.decode.decode`.

        Raises:
            BundleError: the output holds what is no number, or names a class that the contract lacks.
        """
        limits = self.contract.thresholds
        if self.contract.decoding in BOX_ROWS:
            self._check_classes(raw[0])
        return decode(
            raw,
            geometry,
            confidence=self.confidence if confidence is None else confidence,
            iou=limits.iou,
            max_detections=limits.max_detections,
            multi_label=multi_label,
            decoding=self.contract.decoding,
        )

    def _buffer(self) -> NDArray[Any]:
        """Return the calling thread's buffer for a whole batch."""
        buffer: NDArray[Any] | None = getattr(self._buffers, "whole", None)
        if buffer is None:
            buffer = self._buffers.whole = np.zeros(self.contract.input_shape, self.contract.input_dtype)
        return buffer

    def _check_classes(self, rows: NDArray[np.float32]) -> None:
        class_id, most = rows[rows[:, 4] > 0, 5], len(self.contract.class_names)
        if not ((class_id >= 0) & (class_id < most)).all():
            raise BundleError(
                f"{quoted(self._bundle.path)} gives a class id that is none of 0 to {most - 1}; export it again"
            )
