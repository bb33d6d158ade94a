"""Mixed precision on a CPU: the network in bfloat16, the loss in float32.

Ultralytics trains a CPU in float32 only. A CPU that multiplies bfloat16 natively runs forward and backward pass of a
YOLO11n about twice as fast so; bfloat16 has float32's range, so that no gradient scaling is needed. The loss assigns
boxes and takes differences of nearly equal numbers, so it always sees float32.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["FullPrecisionLoss", "cpu_autocast", "cpu_computes_bfloat16"]


def cpu_computes_bfloat16() -> bool:
    """Return whether this CPU has instructions for bfloat16 (AVX-512 BF16 or AMX); emulation would be slower."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def cpu_autocast(enabled: object, device: str = "cpu") -> torch.autocast:
    """Take the place of Ultralytics' ``autocast``, which knows no bfloat16 on a CPU."""
    return torch.autocast("cpu", torch.bfloat16)


class FullPrecisionLoss:
    """A model's criterion that computes in float32 under autocast; everything else is the criterion's own."""

    def __init__(self, criterion: Any) -> None:
        self._criterion = criterion

    def __call__(self, predictions: Any, batch: Any) -> Any:
        """Return what the criterion returns for predictions turned to float32."""
        with torch.autocast("cpu", enabled=False):
            return self._criterion(_float32(predictions), batch)

    def __getattr__(self, name: str) -> Any:
        if name == "_criterion":  # while a copy is made, it is not there yet
            raise AttributeError(name)
        return getattr(self._criterion, name)


def _float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _float32(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_float32(entry) for entry in value)
    return value
