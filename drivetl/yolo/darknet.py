"""YOLOv3-tiny: its network in Ultralytics' modules, and the Darknet file of its weights read into it.

What Darknet computes and Ultralytics' ``yolov3-tiny.yaml`` does not, is put right here: the activation is
LeakyReLU(0.1), the pooling before the widest layer ignores what lies outside of the picture (Ultralytics pads with
zeros, which win over negative values), and the epsilon of batch norm stands outside of the root. The detection head of
Ultralytics has no counterpart in the file; it is new and untrained.

File format: three int32 (major, minor, revision), the count of pictures seen (int64; int32 before version 0.2), then
float32 to the end: of each batch-normalised convolution the biases, scales, means and variances, then its weights
(out, in, height, width); of the two output layers the biases and weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from drivetl.errors import WeightsError, quoted
from drivetl.yolo.ultra import DetectionModel, yaml_model_load

__all__ = ["ARCHITECTURE", "IMGSZ_PX", "UNTRAINED", "build_tiny", "load_darknet"]

ARCHITECTURE = "yolov3-tiny"
IMGSZ_PX = 416
# The class name of a head that has learnt nothing: no dataset has it, so head transfer finds no row to copy.
UNTRAINED = "untrained"

_ACTIVATION = "nn.LeakyReLU(0.1)"
_DARKNET_EPSILON = 1e-6
_LIMIT_BYTES = 1 << 30
# The old output layers, 3 boxes x (4 + 1 + 80 classes), stand behind the module with this index.
_OUTPUT_CHANNELS = 255
_OUTPUT_AFTER = (15, 19)


def build_tiny(seed: int) -> Any:
    """Return YOLOv3-tiny as an Ultralytics DetectionModel with one class and random weights.

    Args:
        seed: of the weights; the global generator of torch is left as it was.
    """
    document = yaml_model_load(f"{ARCHITECTURE}.yaml")
    for layer in document["backbone"]:
        if layer[2] == "nn.ZeroPad2d":
            layer[2] = "nn.ReplicationPad2d"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DetectionModel(document, nc=1, verbose=False)
    for module in model.modules():
        if isinstance(getattr(module, "act", None), nn.SiLU):
            module.act = nn.LeakyReLU(0.1, inplace=True)
    # Written down so that Ultralytics, should it rebuild the model for training of its own, builds the same one.
    model.yaml["activation"] = _ACTIVATION
    model.names = {0: UNTRAINED}
    return model


def load_darknet(path: Path) -> Any:
    """Read a Darknet file of YOLOv3-tiny (80 classes of COCO) into a model with a new head.

    The feature maps are Darknet's. The new head is the same in every call.

    Raises:
        WeightsError: the file cannot be read, has another size, or holds values that no training gives.
    """
    model = build_tiny(seed=0)
    values = _read(path)
    wanted = sum(_float_count(convolution) for convolution in _convolutions(model))
    if values.size != wanted:
        raise WeightsError(
            f"{quoted(path)} holds {values.size} floats, and YOLOv3-tiny for COCO has {wanted}; it is cut off, "
            "damaged, or of another network"
        )
    floats = _Floats(path, values)
    with torch.no_grad():
        for convolution in _convolutions(model):
            floats.fill(convolution)
    return model


@dataclass(frozen=True, slots=True)
class _Convolution:
    index: int
    conv: nn.Conv2d
    bn: nn.BatchNorm2d


def _convolutions(model: Any) -> Iterator[_Convolution]:
    """Yield the batch-normalised convolutions of backbone and neck in the order of the YAML, which is Darknet's."""
    for index, module in enumerate(model.model[:-1]):
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
            yield _Convolution(index, module.conv, module.bn)


def _float_count(convolution: _Convolution) -> int:
    """Return how many floats stand for it in the file, those of an output layer behind it included."""
    return 4 * convolution.conv.out_channels + convolution.conv.weight.numel() + _output_floats(convolution)


def _output_floats(convolution: _Convolution) -> int:
    return _OUTPUT_CHANNELS * (1 + convolution.conv.out_channels) if convolution.index in _OUTPUT_AFTER else 0


def _read(path: Path) -> NDArray[np.float32]:
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _LIMIT_BYTES else b""
    except OSError as error:
        raise WeightsError(f"cannot read the weights {quoted(path)}: {error.strerror or error}") from error
    version = np.frombuffer(data[:12] if len(data) >= 12 else b"", "<i4")
    if len(version) < 3 or not (0 <= version[0] < 10 and 0 <= version[1] < 10):
        raise WeightsError(
            f"{quoted(path)} is no Darknet file of weights (it begins with {quoted(data[:12].hex(' '))})"
        )
    body = data[20 if version[0] * 10 + version[1] >= 2 else 16 :]
    if len(body) % 4:
        raise WeightsError(f"{quoted(path)} is cut off or damaged: {len(body)} bytes of values are no whole floats")
    return np.frombuffer(body, "<f4").astype(np.float32)


class _Floats:
    """The values of a file, handed out from the front."""

    def __init__(self, path: Path, values: NDArray[np.float32]) -> None:
        self._path = path
        self._values = values
        self._used = 0

    def _take(self, *shape: int) -> torch.Tensor:
        count = math.prod(shape)
        values = self._values[self._used : self._used + count]
        self._used += count
        return torch.from_numpy(values.reshape(shape))

    def fill(self, target: _Convolution) -> None:
        """Read one batch-normalised convolution.

        Darknet divides by ``sqrt(variance) + 1e-6``, torch by ``sqrt(variance + eps)``: the variance is shifted so that
        both divide by the same number.
        """
        channels = target.conv.out_channels
        bias, scale, mean, variance = (self._take(channels) for _ in range(4))
        if not bool((variance >= 0).all()):
            raise WeightsError(
                f"{quoted(self._path)} holds a negative or undefined variance in layer {target.index}; it is damaged, "
                "or of another network than YOLOv3-tiny"
            )
        divisor_squared = (variance.double().sqrt() + _DARKNET_EPSILON) ** 2
        target.bn.eps = min(target.bn.eps, float(divisor_squared.min()) / 2)
        target.bn.bias.copy_(bias)
        target.bn.weight.copy_(scale)
        target.bn.running_mean.copy_(mean)  # type: ignore[union-attr]
        target.bn.running_var.copy_(divisor_squared - target.bn.eps)  # type: ignore[union-attr]
        target.conv.weight.copy_(self._take(*target.conv.weight.shape))
        self._used += _output_floats(target)
