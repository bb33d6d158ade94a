"""One training run, from a dataset and weights to adapted weights."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from drivetl import __version__
from drivetl.adapt.averaging import interpolate
from drivetl.adapt.config import TrainConfig
from drivetl.adapt.head_transfer import HeadRow, transfer_head
from drivetl.adapt.job import Job
from drivetl.adapt.run_folder import RunFolder, write_yaml
from drivetl.adapt.state import load_state, trim_log
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.data import open_dataset
from drivetl.data.dataset import Dataset
from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.files import atomic_file, git_commit
from drivetl.progress import Progress, silent
from drivetl.yolo.checkpoint import Checkpoint, load_checkpoint
from drivetl.yolo.ultra import DEFAULT_CFG_DICT, torch_device
from drivetl.yolo.weights import resolve_weights

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run gave.

    Attributes:
        weights: the chosen epoch's weights, mixed with the start's if ``wise_ft`` says so, float32, which
            ``ultralytics.YOLO(path)`` loads. It predicts, validates and exports them as they are; to train them
            further use drivetl, because Ultralytics rebuilds the head for the number of classes and drops rows that
            no longer fit.
        alone_weights: the chosen epoch's weights, never mixed; the same file where nothing was mixed.
        last_weights: the last epoch's weights, never mixed.
        head_transfer: where each classifier row started from.
        optimiser_steps: steps made.
        accumulation: batches per step.
        epochs: epochs trained.
        chosen_epoch: the epoch of ``weights``, from 1.
        seconds: wall-clock time, interrupted parts included.
        threads: CPU threads that torch used.
        precision: what the network was trained in: ``float32``, ``bfloat16`` (CPU) or ``float16`` (GPU).
        notes: sentences about decisions that were taken.
    """

    weights: Path
    alone_weights: Path
    last_weights: Path
    head_transfer: tuple[HeadRow, ...]
    optimiser_steps: int
    accumulation: int
    epochs: int
    chosen_epoch: int
    seconds: float
    threads: int
    precision: str
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "weights": str(self.weights),
            "alone_weights": str(self.alone_weights),
            "last_weights": str(self.last_weights),
            "head_transfer": [row.document() for row in self.head_transfer],
            "optimiser_steps": self.optimiser_steps,
            "accumulation": self.accumulation,
            "epochs": self.epochs,
            "chosen_epoch": self.chosen_epoch,
            "seconds": round(self.seconds, 1),
            "threads": self.threads,
            "precision": self.precision,
            "notes": list(self.notes),
        }


def train(
    config: TrainConfig, out: Path, *, resume: bool = False, overwrite: bool = False, progress: Progress = silent
) -> TrainResult:
    """Fine-tune a detection checkpoint on a dataset.

    On the CPU the same settings, dataset and thread count give the same weights, bit for bit, also when the run was
    interrupted and resumed in between. An interruption (KeyboardInterrupt) loses at most the running epoch.

    Args:
        config: settings, with dataset and weights.
        out: the run's folder; see `drivetl.adapt.run_folder.RunFolder`.
        resume: continue the interrupted run in ``out``.
        overwrite: replace the run in ``out``.
        progress: told the batches.

    Raises:
        DatasetError: the dataset cannot be used.
        WeightsError: the weights cannot be used.
        ConfigError: a setting does not fit this machine, or training diverged.
        OutputError: ``out`` holds something else, or cannot be written.
    """
    torch_device(config.device)
    dataset = open_dataset(config.data)
    config, notes = _selection(config, dataset)
    start = load_checkpoint(resolve_weights(config.weights), for_training=True)
    rows = transfer_head(start.model, dataset.names, seed=config.seed)
    folder = RunFolder(out)
    folder.open(_identity(config, dataset, start, rows), resume=resume, overwrite=overwrite)
    write_yaml(folder.data, _data_document(dataset, config.selection_split))
    state = load_state(folder.state) if resume and folder.state.is_file() else None
    trim_log(folder.log, 0 if state is None else state.epoch + 1)
    start.model.requires_grad_(True)
    start_state = {name: value.clone() for name, value in start.model.state_dict().items()}
    with tempfile.TemporaryDirectory() as scratch:
        known = tuple(index for index, row in enumerate(rows) if row.kind in ("same", "synonym"))
        job = Job(config, start.model, folder.data, Path(scratch), folder.state, folder.log, progress, state, known)
        trainer = _run(job)
    _write_weights(trainer.averaged_model(), folder.last, config, start)
    alone = folder.adapted
    if config.wise_ft < 1:
        alone = folder.alone
        _write_weights(trainer.averaged_model(trainer.best_state), alone, config, start)
    mixed = interpolate(start_state, trainer.best_state, config.wise_ft)
    _write_weights(trainer.averaged_model(mixed), folder.adapted, config, start)
    folder.state.unlink(missing_ok=True)
    return TrainResult(
        weights=folder.adapted,
        alone_weights=alone,
        last_weights=folder.last,
        head_transfer=rows,
        optimiser_steps=trainer.optimiser_steps,
        accumulation=trainer.accumulation,
        epochs=trainer.epoch + 1,
        chosen_epoch=trainer.best_epoch + 1,
        seconds=trainer.seconds,
        threads=trainer.threads,
        precision=trainer.precision,
        notes=(*dataset.notes, *notes, *_step_notes(trainer, config)),
    )


def _run(job: Job) -> AdaptTrainer:
    try:
        trainer = AdaptTrainer(job)
        trainer.train()
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the GPU {quoted(job.config.device)} has too little memory for batch {job.config.batch} at imgsz "
            f"{job.config.imgsz}; lower --batch or --imgsz"
        ) from error
    return trainer


def _selection(config: TrainConfig, dataset: Dataset) -> tuple[TrainConfig, list[str]]:
    """Check the splits; without pictures to select by, the last epoch is taken."""
    if "train" not in dataset.splits:
        raise DatasetError(
            f"the dataset {quoted(config.data)} has no split 'train', only {', '.join(dataset.splits)}; "
            "make one with: drivetl data split"
        )
    if config.selection_split is None or config.selection_split in dataset.splits:
        return config, []
    if config.selection_split != "val":
        raise ConfigError(
            f"the selection split {quoted(config.selection_split)} is not in {quoted(config.data)}, which has "
            f"{', '.join(dataset.splits)}"
        )
    note = "The dataset has no split 'val' to choose the epoch by, so the last epoch is taken."
    return config.model_copy(update={"selection_split": None}), [note]


def _data_document(dataset: Dataset, selection_split: str | None) -> dict[str, Any]:
    document = dataset.training_document()
    # Ultralytics insists on a 'val'; without selection it is loaded but never used.
    return {
        "path": document["path"],
        "train": document["train"],
        "val": document[selection_split or "train"],
        "names": document["names"],
    }


def _identity(config: TrainConfig, dataset: Dataset, start: Checkpoint, rows: tuple[HeadRow, ...]) -> dict[str, Any]:
    return {
        "drivetl": __version__,
        "git_commit": git_commit(),
        "tools": {name: version(name) for name in ("torch", "ultralytics", "numpy", "opencv-python")},
        "train": config.model_dump(mode="json"),
        "weights_sha256": start.sha256,
        "weights_licence": start.licence,
        "dataset_fingerprint": dataset.fingerprint,
        "splits": dict(dataset.splits),
        "head_transfer": [row.document() for row in rows],
    }


def _step_notes(trainer: AdaptTrainer, config: TrainConfig) -> list[str]:
    batches = len(trainer.train_loader)
    planned = config.steps(batches, trainer.accumulation)
    notes = []
    if trainer.batch_size != config.batch:
        notes.append(f"The batch was lowered from {config.batch} to {trainer.batch_size} to fit the GPU's memory.")
    if planned < config.min_optimiser_steps:
        needed = -(-config.min_optimiser_steps // batches)
        notes.append(
            f"Only {planned} optimiser steps of the {config.min_optimiser_steps} wanted: {batches} batches an epoch, "
            f"{config.epochs} epochs, a step after every batch. {needed} epochs or a smaller batch would give more."
        )
    elif trainer.accumulation > 1:
        notes.append(f"Gradients of {trainer.accumulation} batches were collected for each of {planned} steps.")
    if trainer.epoch + 1 < config.epochs:
        notes.append(f"Stopped after epoch {trainer.epoch + 1}: {config.patience} epochs brought no gain.")
    return notes


def _write_weights(model: Any, target: Path, config: TrainConfig, start: Checkpoint) -> None:
    """Write a checkpoint in Ultralytics' layout, in full precision and without the run's paths."""
    arguments = {**DEFAULT_CFG_DICT, "task": "detect", "mode": "train", "imgsz": config.imgsz, "data": config.data.name}
    model.args = dict(arguments)
    model.criterion = None
    model.pt_path = target.name
    document = {
        "epoch": -1,
        "model": model,
        "train_args": arguments,
        "version": version("ultralytics"),
        "license": start.licence or "AGPL-3.0",
        "drivetl": {"version": __version__, "start_sha256": start.sha256},
    }
    with atomic_file(target, overwrite=True) as temporary:
        torch.save(document, temporary)
