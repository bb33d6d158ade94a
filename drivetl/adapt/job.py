"""What one training run works with, and what Ultralytics' trainer is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.state import RunState
from drivetl.progress import Progress
from drivetl.yolo.ultra import torch_device

__all__ = ["Job", "Replay", "overrides"]


@dataclass(frozen=True, slots=True)
class Replay:
    """Source pictures that are shown beside the target's.

    Attributes:
        pictures: what Ultralytics is told to load: a folder or list file, or several.
        names: class names of the dataset they come from.
        class_ids: its class id → the target's.
    """

    pictures: Any
    names: tuple[str, ...]
    class_ids: dict[int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """What one training run works with.

    Attributes:
        config: its settings.
        model: the start model, head transferred, on the CPU.
        data_yaml: a YAML for Ultralytics whose ``val`` is the selection split.
        scratch: a folder for what Ultralytics writes and nobody needs.
        state_path: where the state is kept.
        log_path: where each epoch adds a line of JSON.
        progress: told the batches.
        state: where to continue, or None.
        known_classes: ids of the dataset's classes that the start model already detects under some name.
        replay: source pictures, or None.
        untrained: names of the parameters that hold classifier rows which did not come with the start.
    """

    config: TrainConfig
    model: Any
    data_yaml: Path
    scratch: Path
    state_path: Path
    log_path: Path
    progress: Progress
    state: RunState | None
    known_classes: tuple[int, ...] = ()
    replay: Replay | None = None
    untrained: frozenset[str] = frozenset()


def overrides(job: Job) -> dict[str, Any]:
    """Return the settings that Ultralytics' trainer is given."""
    config = job.config
    device = torch_device(config.device)
    return {
        "task": "detect",
        "mode": "train",
        "model": "drivetl.pt",
        "data": str(job.data_yaml),
        "save_dir": str(job.scratch),
        "exist_ok": True,
        "device": "cpu" if device.type == "cpu" else str(device.index or 0),
        # Where no epoch is trained, Ultralytics still wants a number to build its schedule with.
        "epochs": max(1, config.epochs),
        "imgsz": config.imgsz,
        "batch": config.batch,
        "nbs": config.batch,
        "optimizer": config.optimizer,
        "lr0": config.lr0,
        "lrf": config.lrf,
        "cos_lr": True,
        "momentum": 0.9,
        "weight_decay": config.weight_decay,
        "warmup_epochs": config.warmup_epochs,
        "warmup_bias_lr": 0.0,
        "warmup_momentum": 0.9,
        "mosaic": config.mosaic,
        "close_mosaic": config.close_mosaic_epochs if config.mosaic else 0,
        "scale": config.scale,
        "fliplr": config.fliplr,
        # Albumentations' default list draws from generators of its own, which no seed reaches.
        "augmentations": [],
        "freeze": config.freeze or None,
        "patience": config.patience,
        "val": config.selection_split is not None,
        "seed": config.seed,
        "deterministic": True,
        "workers": config.workers,
        "amp": config.amp and device.type == "cuda",
        "plots": False,
        "verbose": False,
    }
