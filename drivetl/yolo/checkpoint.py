"""From a ``.pt`` file to a model, without executing anything that the file brings.

A ``.pt`` is a pickle, and a pickle may call any function. Three gates stand in its way: the file must be a torch
archive of sane size; it may name only classes of ``torch.nn`` and ``ultralytics.nn`` (torch's weights-only loader with
Ultralytics' list of known classes); and the activation in its model description must be a plain ``torch.nn`` call,
because whoever rebuilds a model from its description would evaluate that string.
"""

from __future__ import annotations

import ast
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drivetl.errors import WeightsError, quoted
from drivetl.files import sha256_file
from drivetl.yolo.darknet import IMGSZ_PX, load_darknet
from drivetl.yolo.ultra import DEFAULT_CFG_DICT, Detect, DetectionModel, torch_safe_load

__all__ = ["Checkpoint", "load_checkpoint"]

# The largest published YOLO is 250 MB, and with optimiser state three times that.
_LIMIT_BYTES = 2 << 30
_PICKLE_LIMIT_BYTES = 64 << 20
_DAMAGED = (RuntimeError, AttributeError, TypeError, ValueError, KeyError, IndexError, AssertionError)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded detection model.

    Attributes:
        model: Ultralytics' DetectionModel in float32, in eval mode, on the CPU.
        names: the class names in the order of the class ids.
        imgsz: the picture size it was trained at, in pixels of the longer side.
        sha256: of the file.
        licence: what the file says of its licence; empty if it says nothing.
        fused: whether batch norm was folded into the convolutions, or an unused head removed.
    """

    model: torch.nn.Module
    names: tuple[str, ...]
    imgsz: int
    sha256: str
    licence: str
    fused: bool


def load_checkpoint(path: Path, *, for_training: bool = False) -> Checkpoint:
    """Load a detection checkpoint safely.

    Args:
        path: a ``.pt`` file in the format of Ultralytics 8, or a Darknet file of YOLOv3-tiny that ends in
            ``.weights``; its head is new and has the one class ``untrained``.
        for_training: refuse a fused model: its batch norm is gone, and of YOLO26 one of the two heads.

    Raises:
        WeightsError: the file is missing, no checkpoint, damaged, too large, not a detection model, fused although it
            is to be trained, or wants to import or evaluate something that a model does not need.
    """
    if path.suffix == ".weights":
        return _checked(path, load_darknet(path).eval(), {"train_args": {"imgsz": IMGSZ_PX}}, for_training)
    _check_file(path)
    document = _unpickle(path)
    averaged = document.get("ema")
    model = document.get("model") if averaged is None else averaged
    if not isinstance(model, DetectionModel) or type(model.model[-1]) is not Detect:
        kind = getattr(model, "task", None) or type(model).__name__
        raise WeightsError(f"{quoted(path)} is not a detection model but {quoted(kind)}; drivetl adapts detectors only")
    try:
        return _checked(path, model.float().eval(), document, for_training)
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{quoted(path)} holds a damaged model: {quoted(reason)}; download it again") from error


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(512)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {quoted(path)}: {error.strerror or error}") from error
    if size > _LIMIT_BYTES:
        raise WeightsError(f"{quoted(path)} has {size} bytes; a checkpoint has at most {_LIMIT_BYTES}")
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"{quoted(path)} is a web page (HTML), not weights; the download went to the wrong address")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{quoted(path)} is a Git LFS pointer, not weights; fetch the file with 'git lfs pull'")
    if head[:1] == b"\x80":
        raise WeightsError(
            f"{quoted(path)} is a bare pickle{_wants(_imports(path.read_bytes()[:_PICKLE_LIMIT_BYTES]))}; "
            "only archives that torch.save writes since version 1.6 are accepted"
        )
    if not head.startswith(b"PK"):
        raise WeightsError(
            f"{quoted(path)} is not a checkpoint (it begins with {quoted(head[:8].hex(' '))}); give the .pt file that "
            "training wrote, or a published name such as yolo11n"
        )
    _check_archive(path)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"{quoted(path)} is cut off or damaged ({error}); download it again") from error
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _LIMIT_BYTES:
        raise WeightsError(f"{quoted(path)} would unpack to {unpacked} bytes; a checkpoint has at most {_LIMIT_BYTES}")
    names = [entry.filename for entry in entries]
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise WeightsError(
            f"{quoted(path)} is a zip archive but not a checkpoint: it holds no data.pkl; give the .pt "
            "file that training wrote"
        )
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise WeightsError(f"{quoted(path)} is a TorchScript archive; give the .pt that it was exported from")


def _unpickle(path: Path) -> Mapping[str, Any]:
    try:
        document, _ = torch_safe_load(str(path), safe_only=True)
    except (pickle.UnpicklingError, EOFError, ImportError, *_DAMAGED) as error:
        if refused := _refused_imports(path):
            raise WeightsError(
                f"{quoted(path)} was not loaded because it{_wants(refused)}, which no detection model needs; "
                "it may be malicious, so take weights from a source you trust"
            ) from error
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise WeightsError(f"{quoted(path)} is cut off or damaged ({quoted(reason)}); download it again") from error
    if not isinstance(document, Mapping):
        raise WeightsError(f"{quoted(path)} holds {type(document).__name__}, not the checkpoint of a model")
    return document


def _refused_imports(path: Path) -> list[str]:
    """Return what the file's pickle names beyond the classes that the safe loader has just registered as known."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except (RuntimeError, ValueError, pickle.UnpicklingError, EOFError, KeyError, IndexError):
        return []


def _imports(pickled: bytes) -> list[str]:
    """Return the ``module.name`` that a pickle would import, read from its opcodes; nothing is executed."""
    found, strings = [], [""] * 2
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "GLOBAL":
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                found.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except ValueError:
        # A pickle that ends early or turns into raw data: what was read so far is what can be named.
        return found
    return found


def _wants(imports: list[str]) -> str:
    shown = ", ".join(quoted(name, 60) for name in imports[:5])
    more = f" and {len(imports) - 5} more" if len(imports) > 5 else ""
    return f" wants to import {shown}{more}" if imports else ""


def _checked(path: Path, model: Any, document: Mapping[str, Any], for_training: bool) -> Checkpoint:
    head = model.model[-1]
    _check_activation(path, model.yaml.get("activation"))
    fused = bool(model.is_fused()) or head.cv2 is None or head.cv3 is None
    if fused and for_training:
        raise WeightsError(
            f"{quoted(path)} is fused (batch norm folded in, made for inference) and cannot be trained; "
            "start from the checkpoint as published"
        )
    if head.cv2 is None or head.cv3 is None:
        raise WeightsError(f"{quoted(path)} was fused without its one-to-many head; give the checkpoint as published")
    names = _names(path, model.names, head.nc)
    model.names = dict(enumerate(names))
    if not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
        raise WeightsError(f"{quoted(path)} holds values that are not finite (NaN or infinity)")
    _bring_up_to_date(model)
    head.end2end = False
    with torch.inference_mode():
        raw = model(torch.zeros(1, 3, 64, 64))[0]
    if raw.ndim != 3 or raw.shape[1] != 4 + len(names):
        raise WeightsError(f"{quoted(path)} gives an output of shape {tuple(raw.shape)} for {len(names)} classes")
    # The trial run left tensors of inference mode behind, which training could not differentiate through.
    head.shape = None
    head.anchors, head.strides = torch.empty(0), torch.empty(0)
    licence = document.get("license")
    return Checkpoint(
        model=model,
        names=names,
        imgsz=_imgsz(document),
        sha256=sha256_file(path),
        licence=licence if isinstance(licence, str) else "",
        fused=fused,
    )


def _bring_up_to_date(model: Any) -> None:
    """Give the model the attributes that today's Ultralytics and torch expect and older files lack."""
    model.task = "detect"
    model.args = dict(DEFAULT_CFG_DICT)
    model.criterion = None
    for module in model.modules():
        if isinstance(module, torch.nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None


def _check_activation(path: Path, activation: object) -> None:
    """Refuse an activation that is more than ``nn.Name(literals)``."""
    if activation is None or (isinstance(activation, str) and _is_plain_activation(activation)):
        return
    raise WeightsError(
        f"{quoted(path)} was not loaded because its model description has the activation {quoted(activation)}, which "
        "is more than the name of a torch.nn class: it may be malicious, so take weights from a source you trust"
    )


def _is_plain_activation(text: str) -> bool:
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            return False
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(argument)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    prefix, _, name = ast.unparse(call.func).rpartition(".")
    return prefix in ("nn", "torch.nn") and isinstance(getattr(torch.nn, name, None), type)


def _names(path: Path, names: object, count: int) -> tuple[str, ...]:
    # Ultralytics keeps the order of the YAML that a model was trained with, which need not be that of the ids.
    ordered = isinstance(names, Mapping) and set(names) == set(range(count))
    values = [names[index] for index in range(count)] if ordered and isinstance(names, Mapping) else names
    if not isinstance(values, list | tuple) or len(values) != count or not all(isinstance(v, str) for v in values):
        raise WeightsError(f"{quoted(path)} has {count} class outputs but the class names {quoted(names, 80)}")
    return tuple(values)


def _imgsz(document: Mapping[str, Any]) -> int:
    arguments = document.get("train_args")
    size = arguments.get("imgsz") if isinstance(arguments, Mapping) else None
    size = max(size) if isinstance(size, list | tuple) and size and all(isinstance(v, int) for v in size) else size
    return size if isinstance(size, int) and 32 <= size <= 8192 else 640
