"""A checkpoint → raw ONNX, through Ultralytics' exporter held in a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from drivetl.errors import ConfigError, WeightsError, quoted
from drivetl.files import atomic_file
from drivetl.yolo.checkpoint import load_checkpoint
from drivetl.yolo.ultra import Exporter, LetterBox

__all__ = ["export_onnx", "reference_letterbox"]

_TOOLS = ("torch", "ultralytics", "onnx", "onnxslim")


def export_onnx(
    weights: Path,
    target: Path,
    *,
    size_hw: tuple[int, int],
    batch: int = 1,
    opset: int | None = None,
    dynamic: bool = False,
    one_to_one: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Export a checkpoint as raw float32 ONNX: no NMS inside, simplified by onnxslim, on the CPU.

    The graph takes ``images``, NCHW RGB in [0, 1], and gives ``output0`` of shape (batch, 4 + classes, anchors) as
    `drivetl.yolo.seam.TorchModel.raw` describes it. Of YOLO26 it holds the one-to-many head, or the one-to-one head
    with its top-k: (batch, rows, 6), left, top, right, bottom in pixels of the input, confidence, class id. The same
    checkpoint and options give the same bytes on the same tool versions.

    Args:
        weights: the checkpoint.
        target: the ``.onnx`` file to write.
        size_hw: input height and width in pixels, multiples of the model's stride.
        batch: pictures per run.
        opset: ONNX opset; None takes the newest that the installed torch and onnx agree on.
        dynamic: leave batch, height and width open.
        one_to_one: take the one-to-one head of YOLO26.
        overwrite: replace ``target``.

    Returns:
        ``tools`` (package versions), ``opset``, ``names``, ``imgsz``, ``stride``, ``sha256`` and ``licence`` of the
        weights, ``input`` and ``output`` (each name and shape; a name stands for an open dimension).

    Raises:
        WeightsError: the checkpoint cannot be used, or the export failed.
        ConfigError: ``size_hw``, ``batch`` or ``opset`` is out of range, or there is no one-to-one head.
        OutputError: the target exists or cannot be written.
    """
    checkpoint = load_checkpoint(weights)
    model: Any = checkpoint.model
    stride = int(model.stride.max())
    _check_options(size_hw, stride, batch, opset)
    with atomic_file(target, overwrite=overwrite) as temporary, tempfile.TemporaryDirectory() as folder:
        # The exporter writes beside the path that the model says it came from.
        model.pt_path = str(Path(folder) / "model.pt")
        options = {"imgsz": list(size_hw), "batch": batch, "opset": opset, "dynamic": dynamic}
        if one_to_one:
            options["nms"] = _one_to_one(weights, model)
        described = _settle(_exported(model, weights, options), temporary)
    return {
        "tools": {name: version(name) for name in _TOOLS},
        "names": list(checkpoint.names),
        "imgsz": checkpoint.imgsz,
        "stride": stride,
        "sha256": checkpoint.sha256,
        "licence": checkpoint.licence,
        **described,
    }


def _one_to_one(weights: Path, model: Any) -> bool:
    """Return what Ultralytics' option ``nms`` must be for the one-to-one head: None would be the one-to-many head."""
    if getattr(model.model[-1], "one2one_cv2", None) is None:
        raise ConfigError(
            f"{quoted(weights)} has no one-to-one head, as YOLO26 has; leave --head one-to-one out, or take YOLO26"
        )
    return False


def _exported(model: Any, weights: Path, options: dict[str, Any]) -> Path:
    """Let Ultralytics export the model and return the file that it wrote."""
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            # torch announces the successor of the exporter that Ultralytics calls, and traces Python values.
            warnings.simplefilter("ignore")
            return Path(
                str(Exporter(overrides={**options, "format": "onnx", "simplify": True, "device": "cpu"})(model))
            )
    except (RuntimeError, AssertionError, ValueError, ModuleNotFoundError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{quoted(weights)} could not be exported to ONNX: {quoted(reason)}") from error
    finally:
        # The exporter leaves torch with one thread less, for the whole process.
        torch.set_num_threads(threads)


def _check_options(size_hw: tuple[int, int], stride: int, batch: int, opset: int | None) -> None:
    if any(side % stride or not stride <= side <= 8192 for side in size_hw):
        raise ConfigError(f"the input size {size_hw[0]}x{size_hw[1]} must be multiples of {stride} up to 8192")
    if not 1 <= batch <= 1024:
        raise ConfigError(f"the batch {batch} must be 1 to 1024")
    if opset is not None and not 12 <= opset <= 22:
        raise ConfigError(f"the opset {opset} must be 12 to 22")


def _settle(exported: Path, temporary: Path) -> dict[str, Any]:
    """Move the graph to ``temporary`` without the date in its metadata, and describe it."""
    import onnx

    graph = onnx.load(str(exported))
    kept = [entry for entry in graph.metadata_props if entry.key != "date"]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    if graph.ByteSize() > (1 << 31) - 1:
        raise WeightsError(f"the ONNX graph has {graph.ByteSize()} bytes, more than a single file holds (2 GiB)")
    onnx.save(graph, str(exported))
    shutil.move(exported, temporary)
    return {
        "opset": graph.opset_import[0].version,
        "input": _port(graph.graph.input[0]),
        "output": _port(graph.graph.output[0]),
    }


def _port(value: Any) -> dict[str, Any]:
    dimensions = value.type.tensor_type.shape.dim
    return {"name": value.name, "shape": [d.dim_param or d.dim_value for d in dimensions]}


def reference_letterbox(image_bgr: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return Ultralytics' letterbox of a BGR picture, the reference that drivetl's own must match bit for bit.

    Args:
        image_bgr: uint8 of shape (h, w, 3).
        size_hw: height and width of the result.
    """
    boxed: npt.NDArray[np.uint8] = LetterBox(size_hw, auto=False, scaleup=True, center=True)(image=image_bgr)
    return boxed
