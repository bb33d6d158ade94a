"""What a training run needs to continue as if it had never stopped.

Ultralytics' ``last.pt`` keeps weights and optimiser in half precision, so continuing from it gives another model. This
file keeps them in full. It holds no generator states, because the trainer seeds every epoch from the seed and the
epoch's number.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drivetl.errors import DrivetlError, WeightsError, quoted
from drivetl.files import atomic_file
from drivetl.yolo.saving import save_tensors

__all__ = ["RunState", "load_state", "save_state", "trim_log"]

_FORMAT = 3
# torch's unpickler trusts its input to be a pickle, and fails on other bytes in as many ways.
_UNREADABLE = (
    OSError,
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
_FIELDS = {
    "model": dict,
    "ema": dict,
    "ema_updates": int,
    "optimizer": dict,
    "scaler": dict,
    "epoch": int,
    "optimiser_steps": int,
    "best": dict,
    "best_epoch": int,
    "best_fitness": float | None,
    "patience_from": int,
    "seconds": float,
    "finished": bool,
}


@dataclass(slots=True)
class RunState:
    """The run at the end of an epoch; every tensor is in the precision it is trained in.

    Attributes:
        model: state dict of the model.
        ema: state dict of the moving average.
        ema_updates: how often the average was updated.
        optimizer: state dict of the optimiser.
        scaler: state dict of the gradient scaler; empty on the CPU.
        epoch: the epoch just finished, counted from 0.
        optimiser_steps: steps made so far.
        best: state dict of the average at the epoch chosen so far.
        best_epoch: that epoch.
        best_fitness: its mAP50-95 on the selection split; None without one.
        patience_from: the epoch that patience counts from, from 1: the first of that fitness, where several have it.
        seconds: training time so far.
        finished: whether this was the last epoch: the last one planned, or the one that patience ended with.
    """

    model: dict[str, Any]
    ema: dict[str, Any]
    ema_updates: int
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    epoch: int
    optimiser_steps: int
    best: dict[str, Any]
    best_epoch: int
    best_fitness: float | None
    patience_from: int
    seconds: float
    finished: bool


def save_state(state: RunState, path: Path) -> None:
    """Write the state whole; what stood at ``path`` is replaced only by a finished file.

    Raises:
        OutputError: the system refuses to write.
    """
    with atomic_file(path, overwrite=True) as temporary:
        save_tensors({"format": _FORMAT, **{name: getattr(state, name) for name in _FIELDS}}, temporary)


def load_state(path: Path) -> RunState:
    """Read a state, tensors and plain values only: nothing in the file is executed.

    Raises:
        WeightsError: it is no state of a run, or damaged.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{quoted(path)} is not the state of a run that can be continued ({quoted(reason)}); "
            "start again with --overwrite"
        ) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise WeightsError(f"{quoted(path)} was written by another version of drivetl; start again with --overwrite")
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(document.get(name), kind)]
    if wrong:
        raise WeightsError(f"{quoted(path)} lacks {quoted(wrong[0])}; start again with --overwrite")
    return RunState(**{name: document[name] for name in _FIELDS})


def trim_log(path: Path, epochs: int) -> None:
    """Drop log lines after the first ``epochs``: an interruption may fall between the log line and the state.

    It may also fall into the writing of a line, so a last one that cannot be read is dropped too.

    Raises:
        DrivetlError: the log holds another line that is not JSON.
    """
    if not path.is_file():
        return
    kept = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            epoch = int(json.loads(line)["epoch"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise DrivetlError(
                f"{quoted(path)}, line {number} is not a line of a training log; start again with --overwrite"
            ) from error
        if epoch <= epochs:
            kept.append(line + b"\n")  # which a torn line lacks
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_bytes(b"".join(kept))
