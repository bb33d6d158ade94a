"""A checkpoint and a bundle look the same to evaluation: tensor in, raw output out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, quoted
from drivetl.runtime import Detector, Letterbox, to_tensor

if TYPE_CHECKING:
    from drivetl.yolo import TorchModel

__all__ = ["Model", "fitting_size", "model_of", "open_model"]

_MAX_SIDE_PX = 8192


class _Raw(Protocol):
    def __call__(self, tensor: NDArray[Any], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Model:
    """Something that turns an input tensor into raw output.

    Attributes:
        name: for people; never a full path.
        class_names: in the order of class ids.
        letterbox: how a picture becomes its input.
        raw: an input → float32 output in the layout ``decoding``.
        iou: NMS overlap above which the less confident of two boxes of one class goes.
        max_detections: the most detections one picture gives.
        backend: what computes it, such as ``torch cpu`` or ``onnxruntime cpu``.
        multi_label: one box may stand for several classes, as accuracy is measured; a graph with suppression inside
            takes the best class only, and whatever is compared with it must too.
        decoding: layout of the output, see `drivetl.runtime.decode`.
        to_input: makes the input of a letterboxed picture; without in-graph preprocessing a tensor ``(1, 3, h, w)``.
    """

    name: str
    class_names: tuple[str, ...]
    letterbox: Letterbox
    raw: _Raw
    iou: float
    max_detections: int
    backend: str
    to_input: Callable[[NDArray[np.uint8]], NDArray[Any]] = to_tensor
    decoding: str = "cxcywh_scores"
    multi_label: bool = True


def open_model(
    model: str | Path,
    *,
    size_hw: tuple[int, int] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    one_to_one: bool = False,
    engine_cache: Path | None = None,
) -> Model:
    """Open a bundle folder, a checkpoint, or the name of published weights.

    Args:
        model: a folder is a bundle; anything else is resolved as weights.
        size_hw: input size of a checkpoint; None takes the square that it was trained at. A bundle has its own.
        device: ``cpu``, ``cuda`` or ``cuda:N``; ``tensorrt`` for bundles.
        threads: CPU threads; None leaves the library's choice.
        one_to_one: of a YOLO26 checkpoint, take the one-to-one head. A bundle has its own.
        engine_cache: of a bundle on ``tensorrt``, a folder where its engines are kept; None builds one each time.

    Raises:
        WeightsError, BundleError: the model cannot be used.
        ConfigError: the size does not fit the model.
        ProviderUnavailable: a bundle cannot run on the device.
    """
    path = Path(model)
    if path.is_dir():
        return _open_bundle(path, size_hw, device, threads or 0, engine_cache)
    return _open_checkpoint(model, size_hw, device, threads, one_to_one)


def _open_bundle(
    path: Path, size_hw: tuple[int, int] | None, device: str, threads: int, engine_cache: Path | None
) -> Model:
    provider, _, index = device.partition(":")
    if index not in ("", "0"):
        raise ConfigError(
            f"--device {quoted(device)}: a bundle runs on the first device that is visible; give --device "
            f"{quoted(provider)}, with CUDA_VISIBLE_DEVICES={quoted(index)} in the environment for another GPU"
        )
    detector = Detector(path, provider=provider, threads=threads, engine_cache=engine_cache)
    contract = detector.contract
    if size_hw not in (None, contract.input_size_hw):
        raise ConfigError(
            f"the bundle {quoted(path.name)} takes {contract.input_size_hw[0]}x{contract.input_size_hw[1]} pixels, "
            f"not {quoted(size_hw)}; leave --imgsz out, or export again with that size"
        )
    return model_of(detector)


def model_of(detector: Detector) -> Model:
    """Return what measures a bundle that is open already."""
    contract, limits = detector.contract, detector.contract.thresholds
    return Model(
        detector.bundle.path.name,
        contract.class_names,
        contract.letterbox,
        detector.infer,
        limits.iou,
        limits.max_detections,
        f"onnxruntime {detector.provider}",
        contract.to_input,
        contract.decoding,
    )


def fitting_size(network: TorchModel, name: str, size_hw: tuple[int, int] | None) -> tuple[int, int]:
    """Return the input size in pixels, or the square that the network was trained at where none is given.

    Raises:
        ConfigError: a side is no multiple of the network's stride, or too long; ``name`` is what the error calls it.
    """
    size = size_hw or (network.imgsz, network.imgsz)
    if min(size) < network.stride or max(size) > _MAX_SIDE_PX or any(side % network.stride for side in size):
        raise ConfigError(
            f"an input of {size[0]}x{size[1]} pixels does not fit {quoted(name)}: "
            f"--imgsz takes multiples of {network.stride} up to {_MAX_SIDE_PX}"
        )
    return size


def _open_checkpoint(
    model: str | Path, size_hw: tuple[int, int] | None, device: str, threads: int | None, one_to_one: bool
) -> Model:
    from drivetl.runtime import Thresholds
    from drivetl.yolo import TorchModel, resolve_weights

    path = resolve_weights(model)
    network = TorchModel(path, device=device, threads=threads, one_to_one=one_to_one)
    size = fitting_size(network, path.name, size_hw)
    limits = Thresholds()
    return Model(
        path.name,
        network.names,
        Letterbox(size),
        network.raw,
        limits.iou,
        limits.max_detections,
        f"torch {device}",
        decoding="xyxy_one_to_one" if one_to_one else "cxcywh_scores",
    )
