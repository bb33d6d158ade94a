"""Ultralytics' own training, as its users start it: what drivetl is measured against.

Its defaults choose optimiser and learning rate, rebuild the head for the dataset's number of classes, collect
gradients up to 64 pictures and average the weights over thousands of steps. Nothing of that is changed here; only the
loader is the one that leaves the files alone, and trackers, plots and downloads are off.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from drivetl.adapt.loading import told
from drivetl.adapt.run_folder import RunFolder, write_yaml
from drivetl.adapt.usage import peak_memory_mib
from drivetl.data import merge_datasets, open_dataset
from drivetl.data.dataset import Dataset
from drivetl.errors import ConfigError, DatasetError, OutputError, WeightsError, quoted
from drivetl.files import atomic_file
from drivetl.progress import Progress, silent
from drivetl.yolo.checkpoint import load_checkpoint
from drivetl.yolo.dataset import ReadOnlyDataset
from drivetl.yolo.ultra import (
    DetectionTrainer,
    build_module,
    get_cfg,
    patched,
    set_threads,
    torch_device,
    torch_utils_module,
    trainer_module,
)
from drivetl.yolo.weights import resolve_weights

__all__ = ["PlainResult", "check_plain_settings", "on_gpu", "train_plain"]

# What would change where files go, what is reached over the network, which weights are read, or whose code runs.
_FIXED = frozenset(
    {
        *("data", "model", "project", "name", "save_dir", "exist_ok", "resume", "mode", "task", "cfg", "plots"),
        *("cache", "pretrained", "distill_model", "device", "val"),
    }
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class PlainResult:
    """What it gave.

    Attributes:
        weights: the weights that its users would take: ``best.pt`` where a split chose the epoch, else ``last.pt``.
        seconds: wall time, loading included.
        threads: CPU threads that torch used.
        peak_memory_mib: the largest resident size of the process; None where the system does not say.
        notes: sentences about the dataset and what merging did.
    """

    weights: Path
    seconds: float
    threads: int
    peak_memory_mib: float | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        own = {"weights": str(self.weights), "seconds": round(self.seconds, 1), "notes": list(self.notes)}
        return {**asdict(self), **own}


class _PlainTrainer(DetectionTrainer):  # type: ignore[misc]
    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        with patched(build_module, YOLODataset=ReadOnlyDataset):
            return super().build_dataset(img_path, mode, batch)


def train_plain(  # noqa: PLR0913 - the options of one verb, most by keyword
    data: Sequence[Path],
    weights: str | Path,
    out: Path,
    *,
    settings: dict[str, Any],
    selection_split: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> PlainResult:
    """Train with Ultralytics' own trainer and write ``out/weights/adapted.pt``.

    Args:
        data: a dataset with a split ``train``; several are merged into ``out/dataset``.
        weights: the start.
        out: a new folder.
        settings: Ultralytics' settings under its names; whatever is left out keeps its default.
        selection_split: the split that chooses the epoch; None: the last epoch is taken and nothing is validated.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of torch; None: Ultralytics' own number, one less than there are cores and eight at most.
        overwrite: replace weights that an earlier call left there.
        progress: told the epochs.

    Raises:
        ConfigError: a setting that Ultralytics does not have, or that may not be changed here.
        DatasetError, WeightsError, OutputError: see `drivetl.adapt.training.train`.
    """
    check_plain_settings(settings, "these settings")
    target = out / "weights" / "adapted.pt"
    if target.exists() and not overwrite:
        raise OutputError(f"{quoted(target)} exists; pass --overwrite, or choose another --out")
    start = resolve_weights(weights)
    if start.suffix != ".pt":
        raise WeightsError(f"{quoted(start)} is no checkpoint of Ultralytics' own; its trainer starts from a .pt file")
    load_checkpoint(start)  # a hostile file must not reach Ultralytics' loader
    kind = torch_device(device)
    dataset, notes = _dataset(data, RunFolder(out).merged, overwrite, progress)
    _check_splits(dataset, selection_split)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        document = dataset.training_document()
        document["train"] = document["val"] = told(dataset, "train", Path(scratch) / "train.txt")
        if selection_split is not None:
            document["val"] = told(dataset, selection_split, Path(scratch) / "val.txt")
        write_yaml(Path(scratch) / "data.yaml", document)
        own = _own_settings(start, Path(scratch), kind, selection_split is not None)
        # Its own check of mixed precision fetches a model over the network.
        with patched(trainer_module, check_amp=on_gpu), _threads(threads):
            trainer = _PlainTrainer(overrides={**settings, **own})
            trainer.add_callback("on_train_epoch_end", lambda t: progress("training", t.epoch + 1, t.epochs))
            if threads is not None:
                set_threads(threads)
            _train(trainer)
        result = trainer.best if selection_split is not None else trainer.last
        with atomic_file(target, overwrite=True) as temporary:
            temporary.write_bytes(Path(result).read_bytes())
    return PlainResult(target, time.monotonic() - began, torch.get_num_threads(), peak_memory_mib(), notes)


def _threads(threads: int | None) -> AbstractContextManager[None]:
    """Let Ultralytics take this number wherever it sets its own, which it does for the last validation once more."""
    return nullcontext() if threads is None else patched(torch_utils_module, NUM_THREADS=threads)


def on_gpu(model: Any) -> bool:
    """Return what Ultralytics' check of mixed precision says, where nothing is wrong with the GPU."""
    return bool(next(model.parameters()).device.type == "cuda")


def _own_settings(start: Path, scratch: Path, device: torch.device, validates: bool) -> dict[str, Any]:
    """Return the settings that a caller may not choose; everything is written below ``scratch``."""
    return {
        "task": "detect",
        "mode": "train",
        "model": str(start),
        "data": str(scratch / "data.yaml"),
        "save_dir": str(scratch / "run"),
        "exist_ok": True,
        "device": "cpu" if device.type == "cpu" else str(device.index or 0),
        "val": validates,
        "plots": False,
        "verbose": False,
    }


def _dataset(
    data: Sequence[Path], merged: Path, overwrite: bool, progress: Progress
) -> tuple[Dataset, tuple[str, ...]]:
    """Return the one dataset, or what several were merged into, and notes on it."""
    if len(data) == 1:
        dataset = open_dataset(data[0])
        return dataset, dataset.notes
    result = merge_datasets(data, merged, overwrite=overwrite, progress=progress)
    return result.dataset, (*result.dataset.notes, *result.notes)


def _check_splits(dataset: Dataset, selection_split: str | None) -> None:
    for split in ("train", selection_split or "train"):
        if split not in dataset.splits:
            raise DatasetError(f"the dataset {quoted(dataset.root)} has no split {quoted(split)}")


def check_plain_settings(settings: dict[str, Any], where: str) -> None:
    """Find what Ultralytics would refuse of its settings, and what may not be changed here, before any training.

    Raises:
        ConfigError: ``where`` names them.
    """
    if forbidden := sorted(_FIXED & settings.keys()):
        raise ConfigError(f"{where}: the setting {quoted(forbidden[0])} of Ultralytics cannot be changed here")
    try:
        get_cfg(overrides=dict(settings))
    except (SyntaxError, TypeError, ValueError) as error:  # the first is its word for an unknown setting
        raise ConfigError(f"{where}: Ultralytics does not accept them: {_reason(error)}") from error


def _train(trainer: Any) -> None:
    """Train; some settings, an optimiser that does not exist among them, are only noticed there."""
    try:
        trainer.train()
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"Ultralytics' training ended in an error: {_reason(error)}; check its settings") from error


def _reason(error: Exception) -> str:
    """Return what Ultralytics says, without its colours."""
    return quoted(" ".join(_COLOUR.sub("", str(error)).split()), 300)
