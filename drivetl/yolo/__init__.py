"""The one door to Ultralytics and torch.

Importing this package loads neither; the names below are fetched from their modules on first use::

    environment   switches that keep Ultralytics offline, set before it is imported
    ultra         the door itself: everything of Ultralytics that the project uses
    weights       a name or path -> a checkpoint on this machine; the table of published hashes
    packaged      weights that are shipped inside a package of the Python package index
    darknet       YOLOv3-tiny and its Darknet file
    fresh         networks with random weights, as baselines
    checkpoint    a checkpoint -> a model, without executing anything that the file brings
    seam          the NumPy seam: input tensor -> raw output
    onnx_export   a checkpoint -> raw ONNX
    onnx_predict  Ultralytics' own path on an ONNX file, to be measured against
    dataset       Ultralytics' training loader, kept from writing into the user's dataset
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from drivetl.cores import let_threads_sleep

if TYPE_CHECKING:
    from drivetl.yolo.checkpoint import Checkpoint, load_checkpoint
    from drivetl.yolo.onnx_export import export_onnx, reference_letterbox
    from drivetl.yolo.seam import TorchModel
    from drivetl.yolo.weights import resolve_weights

# Here and in `drivetl.adapt`, whose modules import torch, because a package comes before its modules.
let_threads_sleep()

__all__ = ["Checkpoint", "TorchModel", "export_onnx", "load_checkpoint", "reference_letterbox", "resolve_weights"]

_HOMES = {
    "Checkpoint": "checkpoint",
    "TorchModel": "seam",
    "load_checkpoint": "checkpoint",
    "export_onnx": "onnx_export",
    "reference_letterbox": "onnx_export",
    "resolve_weights": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"drivetl.yolo.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
