"""One fit: start weights and a list of pictures → the weights of every kind that the run may need."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from drivetl import __version__
from drivetl.adapt.averaging import interpolate
from drivetl.adapt.config import TrainConfig
from drivetl.adapt.head_transfer import HeadRow, transfer_head, untrained_parameters
from drivetl.adapt.job import Job
from drivetl.adapt.loading import plan_replay, told
from drivetl.adapt.places import Place
from drivetl.adapt.run_folder import write_yaml
from drivetl.adapt.state import load_state, trim_log
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.data.dataset import Dataset
from drivetl.errors import ConfigError, quoted
from drivetl.files import atomic_file
from drivetl.progress import Progress
from drivetl.yolo.checkpoint import Checkpoint, load_checkpoint
from drivetl.yolo.saving import save_tensors
from drivetl.yolo.ultra import DEFAULT_CFG_DICT
from drivetl.yolo.weights import resolve_weights

__all__ = ["Fit", "fit", "load_start"]


class Fit:
    """What one fit gave.

    Attributes:
        trainer: the trainer, finished.
        end: state dict of the chosen epoch's average, float32 on the CPU.
    """

    def __init__(
        self,
        trainer: AdaptTrainer,
        start: Checkpoint,
        start_state: dict[str, torch.Tensor],
        rows: Sequence[HeadRow],
    ) -> None:
        self.trainer = trainer
        self._start = start
        self._start_state = start_state
        self._new_rows = [index for index, row in enumerate(rows) if not row.sources]
        self.end = trainer.best_state
        if trainer.job.config.batch_norm == "reestimated":
            self.end = trainer.reestimated(self.end)

    def write(self, target: Path, share: float) -> None:
        """Write the weights with this share of the fine-tuned ones; 0 is the start with its new head."""
        state = interpolate(
            self._start_state, self.end, share, new_entries=self.trainer.job.untrained, new_rows=self._new_rows
        )
        _write_weights(self.trainer.averaged_model(state), target, self.trainer.job.config, self._start)

    def write_last(self, target: Path) -> None:
        """Write the last epoch's weights."""
        _write_weights(self.trainer.averaged_model(), target, self.trainer.job.config, self._start)


def load_start(config: TrainConfig, dataset: Dataset) -> tuple[Checkpoint, tuple[HeadRow, ...]]:
    """Return the start with its head transferred to the dataset's classes, and where each row came from.

    Raises:
        WeightsError: the weights cannot be used.
    """
    start = load_checkpoint(resolve_weights(config.weights), for_training=True)
    model: Any = start.model
    layers = len(model.model)
    if config.freeze >= layers:
        raise ConfigError(
            f"freeze is {config.freeze}, and {quoted(config.weights)} has {layers} layers, the head among them, so "
            f"nothing would learn; freeze {layers - 1} at most"
        )
    rows = transfer_head(start.model, dataset.names, seed=config.seed)
    start.model.requires_grad_(True)
    return start, rows


def fit(
    config: TrainConfig,
    dataset: Dataset,
    place: Place,
    *,
    pictures: Sequence[Path] | None,
    resume: bool,
    progress: Progress,
) -> Fit:
    """Train on a dataset's split ``train``, or on some of its pictures.

    Args:
        config: settings.
        dataset: the dataset.
        place: where the files go.
        pictures: paths of the pictures to train on; None: the whole split.
        resume: continue from the state at ``place``, if there is one.
        progress: told the batches.

    Raises:
        DatasetError, WeightsError, ConfigError, OutputError: see `drivetl.adapt.training.train`.
    """
    start, rows = load_start(config, dataset)
    start_state = {name: value.clone() for name, value in start.model.state_dict().items()}
    document = dataset.training_document()
    document["train"] = told(dataset, "train", place.pictures, pictures)
    # Ultralytics insists on a 'val'; without selection it is loaded but never used.
    split = config.selection_split
    document["val"] = document["train"] if split is None else told(dataset, split, place.selection)
    write_yaml(place.data, {key: document[key] for key in ("path", "train", "val", "names")})
    state = load_state(place.state) if resume and place.state.is_file() else None
    trim_log(place.log, 0 if state is None else state.epoch + 1)
    # Beside the state and not in /tmp, so that the features of a run that was killed are found and deleted.
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=place.state.parent) as scratch:
        job = Job(
            config,
            start.model,
            place.data,
            Path(scratch),
            place.state,
            place.log,
            progress,
            state,
            known_classes=tuple(index for index, row in enumerate(rows) if row.kind in ("same", "synonym")),
            replay=plan_replay(config, dataset.names, place.replay),
            untrained=untrained_parameters(start.model, rows),
        )
        return Fit(_run(job), start, start_state, rows)


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
        save_tensors(document, temporary)
