"""One training run, from a dataset and weights to adapted weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

from drivetl import __version__
from drivetl.adapt.config import TrainConfig
from drivetl.adapt.fits import Fits, training_samples
from drivetl.adapt.fitting import Fit, load_start
from drivetl.adapt.guard import plan_run
from drivetl.adapt.head_transfer import HeadRow
from drivetl.adapt.loading import check_sources
from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.selection import Judge, SharePoint
from drivetl.adapt.trackers import refuse_login
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.adapt.usable import check_usable, settle_selection
from drivetl.adapt.usage import totals
from drivetl.data import open_dataset
from drivetl.data.dataset import Dataset
from drivetl.errors import ConfigError, quoted
from drivetl.files import git_commit, write_json
from drivetl.progress import Progress, silent
from drivetl.yolo.checkpoint import Checkpoint
from drivetl.yolo.ultra import torch_device

__all__ = ["TrainResult", "check_run", "train"]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run gave.

    Attributes:
        weights: the chosen epoch's weights, mixed with the start's as ``wise_ft`` says, float32, which
            ``ultralytics.YOLO(path)`` loads. It predicts, validates and exports them as they are; to train them
            further use drivetl, because Ultralytics rebuilds the head for the number of classes and drops rows that
            no longer fit.
        alone_weights: the chosen epoch's weights, never mixed; the same file where nothing was mixed.
        last_weights: the last epoch's weights, never mixed.
        share: of the fine-tuned weights in ``weights``; 0: no share was better than the start, which was kept.
        curve: what the share was chosen by; empty where it was given.
        head_transfer: where each classifier row started from.
        optimiser_steps: steps made.
        accumulation: batches per step.
        epochs: epochs trained.
        chosen_epoch: the epoch of ``weights``, from 1; 0 where none was trained.
        seconds: wall-clock time, interrupted parts and the choice of the share included.
        threads: CPU threads that torch used.
        precision: what the network was trained in: ``float32``, ``bfloat16`` (CPU) or ``float16`` (GPU).
        usage: ``pictures`` trained on in the fit on all pictures, ``pictures_per_second`` with validation left out,
            ``peak_memory_mib`` of the process and ``peak_gpu_memory_mib``; None where it is not known.
        notes: sentences about decisions that were taken.
    """

    weights: Path
    alone_weights: Path
    last_weights: Path
    share: float
    curve: tuple[SharePoint, ...]
    head_transfer: tuple[HeadRow, ...]
    optimiser_steps: int
    accumulation: int
    epochs: int
    chosen_epoch: int
    seconds: float
    threads: int
    precision: str
    usage: dict[str, float | None]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "weights": str(self.weights),
            "alone_weights": str(self.alone_weights),
            "last_weights": str(self.last_weights),
            "share": self.share,
            "weight_curve": [point.document() for point in self.curve],
            "head_transfer": [row.document() for row in self.head_transfer],
            "optimiser_steps": self.optimiser_steps,
            "accumulation": self.accumulation,
            "epochs": self.epochs,
            "chosen_epoch": self.chosen_epoch,
            "seconds": round(self.seconds, 1),
            "threads": self.threads,
            "precision": self.precision,
            **self.usage,
            "notes": list(self.notes),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TrainResult:
        """Read back what `document` gave."""
        same = ("share", "optimiser_steps", "accumulation", "epochs", "chosen_epoch", "seconds", "threads", "precision")
        return cls(
            weights=Path(document["weights"]),
            alone_weights=Path(document["alone_weights"]),
            last_weights=Path(document["last_weights"]),
            **{name: document[name] for name in same},
            curve=tuple(SharePoint(**point) for point in document["weight_curve"]),
            head_transfer=tuple(HeadRow.of(row) for row in document["head_transfer"]),
            usage={name: document[name] for name in totals([])},
            notes=tuple(document["notes"]),
        )


def _say_nothing(line: str) -> None:
    pass


def train(
    config: TrainConfig,
    out: Path,
    *,
    judge: Judge | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = _say_nothing,
) -> TrainResult:
    """Fine-tune a detection checkpoint on a dataset.

    On the CPU the same settings, dataset and thread count give the same weights, bit for bit, also when the run was
    interrupted and resumed in between. An interruption (KeyboardInterrupt) loses at most the running epoch.

    Args:
        config: settings, with dataset and weights.
        out: the run's folder; see `drivetl.adapt.run_folder.RunFolder`.
        judge: measures weights where ``wise_ft`` is ``select``.
        resume: continue the interrupted run in ``out``; of one that is finished, return the result.
        overwrite: replace the run in ``out``.
        progress: told the batches.
        say: told, before the training, what the run comes to and what was chosen from that.

    Raises:
        DatasetError: the dataset cannot be used.
        PictureError: a picture of it cannot be decoded.
        WeightsError: the weights cannot be used.
        ConfigError: a setting does not fit this machine, or training diverged.
        OutputError: ``out`` holds something else or a run that another process trains, or cannot be written.
    """
    torch_device(config.device)
    refuse_login(config.mlflow_uri or "")
    dataset = open_dataset(config.data)
    config, notes = _checked(config, dataset, judge, resume)
    samples = training_samples(dataset, config)
    check_usable(config, dataset, [sample.image for sample in samples])
    plan = plan_run(config, samples, dataset.names)
    config = config.model_copy(update={"warmup_epochs": plan.warmup_epochs})
    start, rows = load_start(config, dataset)
    _check_known(config, rows)
    notes += _row_notes(rows)
    folder = RunFolder(out)
    with folder.open(_identity(config, dataset, start, rows), resume=resume, overwrite=overwrite):
        if resume and folder.result.is_file():
            say("The run is finished; this is what it gave.")
            return TrainResult.of(folder.read_result())
        for line in (*_row_notes(rows), *plan.lines(config)):
            say(line)
        run = Fits(config, dataset, folder, judge, resume, progress)
        result = _carried_out(run, config, folder, rows, (*dataset.notes, *notes))
        write_json(folder.result, result.document(), overwrite=True)
        folder.forget_work()
    return result


def check_run(config: TrainConfig, out: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """Find what `train` would refuse before its first epoch, for callers that do something long before it.

    Raises:
        DatasetError, WeightsError, ConfigError, OutputError: as `train` does.
    """
    torch_device(config.device)
    refuse_login(config.mlflow_uri or "")
    if resume:
        RunFolder(out).require_unused()
    else:
        RunFolder(out).require_free(overwrite=overwrite)
    dataset = open_dataset(config.data)
    config, _ = settle_selection(config, dataset, resume)
    check_sources(config, dataset.names)
    check_usable(config, dataset, [sample.image for sample in training_samples(dataset, config)])
    _, rows = load_start(config, dataset)
    _check_known(config, rows)


def _carried_out(
    run: Fits, config: TrainConfig, folder: RunFolder, rows: tuple[HeadRow, ...], notes: tuple[str, ...]
) -> TrainResult:
    """Choose the share, train, and write the weights; ``notes`` are those of before."""
    crossed = run.cross_validated()
    fitted = run.fit(folder, run.pictures)
    seconds = fitted.trainer.seconds  # which goes on counting while the share is chosen
    curve = run.curve(crossed, fitted)
    share = _share(curve) if config.wise_ft == "select" else run.harmless(fitted, config.wise_ft)
    _write_checkpoints(fitted, folder, curve, share)
    trainer = fitted.trainer
    return TrainResult(
        weights=folder.adapted,
        alone_weights=folder.adapted if share == 1 else folder.alone,
        last_weights=folder.last,
        share=share,
        curve=curve,
        head_transfer=rows,
        seconds=seconds + run.selection_seconds,
        **_figures(trainer),
        usage=totals(folder.log.read_text(encoding="utf-8").splitlines()) if config.epochs else trainer.usage.line(),
        notes=(*notes, *run.notes, *_step_notes(trainer, config), *_share_notes(config, curve, share)),
    )


def _checked(config: TrainConfig, dataset: Dataset, judge: Judge | None, resume: bool) -> tuple[TrainConfig, list[str]]:
    """Return the settings with what chooses the epoch, and notes on it, once they fit each other."""
    config, notes = settle_selection(config, dataset, resume)
    if config.wise_ft == "select" and judge is None:
        raise ConfigError("wise_ft 'select' needs a judge that measures weights; drivetl train has one")
    return config, [*notes, *check_sources(config, dataset.names)]


def _figures(trainer: AdaptTrainer) -> dict[str, Any]:
    """Return the fields of `TrainResult` that the trainer counts."""
    return {
        "optimiser_steps": trainer.optimiser_steps,
        "accumulation": trainer.accumulation,
        "epochs": trainer.epoch + 1,
        "chosen_epoch": trainer.best_epoch + 1,
        "threads": trainer.threads,
        "precision": trainer.precision,
    }


def _share(curve: Sequence[SharePoint]) -> float:
    chosen = [point.share for point in curve if point.chosen]
    return chosen[0] if chosen else 0.0


def _write_checkpoints(fitted: Fit, folder: RunFolder, curve: Sequence[SharePoint], share: float) -> None:
    if curve:
        write_json(folder.curve, {"curve": [point.document() for point in curve]}, overwrite=True)
    fitted.write_last(folder.last)
    if share != 1:
        fitted.write(folder.alone, 1.0)
    fitted.write(folder.adapted, share)


def _row_notes(rows: tuple[HeadRow, ...]) -> list[str]:
    """Say it where no class came with the start. Features carry over to new classes too, so the run goes on."""
    if any(row.sources for row in rows):
        return []
    return [
        f"The weights know none of the dataset's classes ({', '.join(row.target for row in rows)}), so every class row "
        "starts untrained: all that is known of them will come from these labels."
    ]


def _check_known(config: TrainConfig, rows: tuple[HeadRow, ...]) -> None:
    """Refuse to learn from what the weights say of classes that they do not know: it would be that there are none."""
    teaching = "distill" if config.distill else "labels 'teacher'"
    if not config.epochs or not (config.distill or config.labels == "teacher"):
        return
    if not any(row.kind in ("same", "synonym") for row in rows):
        raise ConfigError(
            f"the weights {quoted(config.weights)} know none of the dataset's classes "
            f"({', '.join(row.target for row in rows)}), so with {teaching} they could teach nothing; take weights "
            f"that know one, or leave {teaching} out"
        )


def _share_notes(config: TrainConfig, curve: Sequence[SharePoint], share: float) -> list[str]:
    if config.wise_ft != "select" or not curve:  # why there is no curve was said
        return []
    if share == 0:
        return ["No share of the fine-tuned weights was better than the start, so the start was kept."]
    return [f"Of the fine-tuned weights {share:.0%} were taken, of the start's {1 - share:.0%}."]


def _identity(config: TrainConfig, dataset: Dataset, start: Checkpoint, rows: tuple[HeadRow, ...]) -> dict[str, Any]:
    return {
        "drivetl": __version__,
        "git_commit": git_commit(),
        # OpenCV comes in four distributions; the module knows its version in all of them.
        "tools": {**{name: version(name) for name in ("torch", "ultralytics", "numpy")}, "opencv": cv2.__version__},
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
    if not config.epochs:
        if config.weather is not None:
            notes.append("Without an epoch in which every layer learns, no weather is laid on the pictures.")
        return notes
    if planned < config.min_optimiser_steps:
        needed = -(-config.min_optimiser_steps // batches)
        notes.append(
            f"Only {planned} optimiser steps of the {config.min_optimiser_steps} wanted: {batches} batches an epoch, "
            f"{config.epochs} epochs, a step after every batch. {needed} epochs or a smaller batch would give more."
        )
    elif trainer.accumulation > 1:
        notes.append(f"Gradients of {trainer.accumulation} batches were collected for each of {planned} steps.")
    if trainer.watch.overfitted:
        notes.append(
            f"Stopped after epoch {trainer.epoch + 1}, because it overfits: since epoch {trainer.watch.best_epoch} the "
            "loss on the training pictures falls while loss and accuracy on the selection pictures get worse. More "
            "labelled pictures, replay or a smaller lr0 would help."
        )
    elif trainer.epoch + 1 < config.epochs:
        notes.append(f"Stopped after epoch {trainer.epoch + 1}: {config.patience} epochs brought no gain.")
    return notes
