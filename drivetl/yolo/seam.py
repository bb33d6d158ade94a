"""The NumPy seam: other stages run a checkpoint through this without knowing torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from drivetl.errors import WeightsError, quoted
from drivetl.yolo.checkpoint import load_checkpoint
from drivetl.yolo.ultra import set_threads, torch_device

__all__ = ["TorchModel"]


@contextmanager
def _in_float32() -> Iterator[None]:
    """Let CUDA not round the factors of convolutions to TF32's 10 bits, as the exported graph does not either.

    In ONNX Runtime that moved raw scores by 0.017 on an H100. Restored afterwards, because a training may be going on.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class TorchModel:
    """A checkpoint as a function from input tensor to raw output, the same function that the ONNX export holds.

    Attributes:
        names: class names in the order of the class ids.
        imgsz: the picture size of its training, in pixels of the longer side.
        sha256: of the checkpoint file.
        stride: height and width of an input must be multiples of it.
        licence: what the checkpoint says of its licence; may be empty.
        threads: how many CPU threads torch uses, in the whole process.
    """

    def __init__(
        self, path: Path, device: str = "cpu", threads: int | None = None, *, one_to_one: bool = False
    ) -> None:
        """Load ``path`` onto ``device``.

        Args:
            path: a checkpoint.
            device: ``cpu``, ``cuda``, ``cuda:1`` or ``1``.
            threads: CPU threads for torch, set for the whole process; None leaves them as they are.
            one_to_one: answer with YOLO26's one-to-one head.

        Raises:
            WeightsError: see `drivetl.yolo.checkpoint.load_checkpoint`, or there is no such head.
            ConfigError: there is no such device.
        """
        self._device = torch_device(device)
        self.threads = set_threads(threads) if threads else torch.get_num_threads()
        checkpoint = load_checkpoint(path)
        self.names = checkpoint.names
        self.imgsz = checkpoint.imgsz
        self.sha256 = checkpoint.sha256
        self.licence = checkpoint.licence
        # Any: torch types every attribute of a module as Tensor | Module.
        model: Any = checkpoint.model.to(self._device)
        if one_to_one:
            if getattr(model.model[-1], "one2one_cv2", None) is None:
                raise WeightsError(f"{quoted(path)} has no one-to-one head, as YOLO26 has; give the weights exported")
            model.model[-1].end2end = True
        self._model = model
        self.stride = int(model.stride.max())

    def raw(self, tensor_nchw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the model.

        Args:
            tensor_nchw: float32 of shape (n, 3, h, w), RGB in [0, 1]; h and w multiples of ``stride``.

        Returns:
            float32 of shape (n, 4 + classes, anchors): centre x, centre y, width and height in pixels of the input,
            then one score in [0, 1] per class. YOLO26 answers with its one-to-many head, which wants NMS like the
            others; with its one-to-one head (n, rows, 6), see `drivetl.runtime.decode`.

        Raises:
            ValueError: the tensor has another dtype or shape.
        """
        batch = self._batch(tensor_nchw)
        with torch.inference_mode(), _in_float32():
            output: npt.NDArray[np.float32] = self._model(batch)[0].cpu().numpy()
        return output

    def raw_and_features(
        self, tensor_nchw: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """Return the raw output and what the head made it from: the feature maps that it sees.

        Args:
            tensor_nchw: as for `raw`.

        Returns:
            The output as `raw` gives it, and float32 of shape (n, channels, h / s, w / s) for each of the head's
            strides s, in the head's order.

        Raises:
            ValueError: the tensor has another dtype or shape.
        """
        batch = self._batch(tensor_nchw)
        seen: list[npt.NDArray[np.float32]] = []

        def keep(module: Any, inputs: tuple[Any, ...]) -> None:
            # Copied, because the head works on its input in place.
            seen.extend(level.float().cpu().numpy().copy() for level in inputs[0])

        handle = self._model.model[-1].register_forward_pre_hook(keep)
        try:
            with torch.inference_mode(), _in_float32():
                output: npt.NDArray[np.float32] = self._model(batch)[0].cpu().numpy()
        finally:
            handle.remove()
        return output, seen

    def _batch(self, tensor_nchw: npt.NDArray[np.float32]) -> torch.Tensor:
        if tensor_nchw.dtype != np.float32 or tensor_nchw.ndim != 4 or tensor_nchw.shape[1] != 3:
            raise ValueError(f"expected float32 (n, 3, h, w), got {tensor_nchw.dtype} {tensor_nchw.shape}")
        if any(side % self.stride or not side for side in tensor_nchw.shape[2:]):
            raise ValueError(f"height and width {tensor_nchw.shape[2:]} must be multiples of {self.stride}")
        return torch.from_numpy(np.ascontiguousarray(tensor_nchw)).to(self._device)
