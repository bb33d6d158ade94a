"""What the layers of a published network cost: operations and bytes, counted without computing anything."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from drivetl.errors import ConfigError, quoted
from drivetl.yolo.ultra import DetectionModel

__all__ = ["conv_layers"]

_FAMILIES = ("yolov8", "yolo11", "yolo26")
_SIZES = "nsmlx"


@cache
def conv_layers(name: str, size_hw: tuple[int, int], classes: int = 80) -> tuple[tuple[float, float], ...]:
    """Return operations and values moved of every convolution of a YOLOv8, YOLO11 or YOLO26 detector.

    The network is built from Ultralytics' own description, moved to torch's ``meta`` device, where tensors have shapes
    and no content, and run once.

    Args:
        name: such as ``yolo11n``.
        size_hw: input height and width in pixels, multiples of 32.
        classes: that it tells apart.

    Returns:
        For each convolution floating point operations (two for each multiplication with addition) and the number of
        values that it reads and writes: input, weights, output.

    Raises:
        ConfigError: there is no such network.
    """
    if name[:-1] not in _FAMILIES or name[-1:] not in _SIZES:
        raise ConfigError(
            f"there is no network {quoted(name)}; it is one of {', '.join(_FAMILIES)} and n, s, m, l or x"
        )
    model: Any = DetectionModel(f"{name}.yaml", nc=classes, verbose=False).to("meta").train()
    found: list[tuple[float, float]] = []

    def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        weights = module.weight.numel()
        found.append((2.0 * weights * output[0, 0].numel(), float(inputs[0].numel() + weights + output.numel())))

    for place, module in model.named_modules():
        # YOLO26 has two heads, of which an export holds one; both cost the same.
        if isinstance(module, torch.nn.Conv2d) and "one2one_" not in place:
            module.register_forward_hook(note)
    with torch.no_grad():
        model(torch.zeros(1, 3, *size_hw, device="meta"))
    return tuple(found)
