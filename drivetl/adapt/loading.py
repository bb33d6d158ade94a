"""Source pictures beside the target's in one loader."""

from __future__ import annotations

from typing import Any

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.job import Replay
from drivetl.adapt.sampling import EpochBatches, repeat_factors
from drivetl.data import open_dataset
from drivetl.errors import DatasetError, quoted
from drivetl.taxonomy import map_detections
from drivetl.yolo.dataset import ReadOnlyDataset
from drivetl.yolo.ultra import build_module

__all__ = ["plan_replay", "set_batches"]


def plan_replay(config: TrainConfig, target_names: tuple[str, ...]) -> Replay | None:
    """Return what is replayed under the target's classes; None if nothing.

    Raises:
        DatasetError: the dataset or split cannot be used, or shares no class with the target.
    """
    if config.replay is None:
        return None
    dataset = open_dataset(config.replay)
    if config.replay_split not in dataset.splits:
        raise DatasetError(
            f"the replay dataset {quoted(config.replay)} has no split {quoted(config.replay_split)}; it has "
            f"{', '.join(dataset.splits)}"
        )
    mapping = map_detections(dataset.names, target_names)
    if not mapping:
        raise DatasetError(
            f"the replay dataset {quoted(config.replay)} shares no class with the target: it has "
            f"{', '.join(dataset.names)}, the target has {', '.join(target_names)}"
        )
    return Replay(dataset.training_document()[config.replay_split], dataset.names, mapping)


def set_batches(loader: Any, config: TrainConfig) -> None:
    """Let a training loader draw its batches as the settings say, if they say more than to shuffle."""
    dataset: ReadOnlyDataset = loader.dataset
    if dataset.ni == dataset.targets and not config.repeat_threshold:
        return
    factors = None
    if config.repeat_threshold:
        classes_of = [frozenset(int(c) for c in label["cls"][:, 0]) for label in dataset.labels[: dataset.targets]]
        factors = repeat_factors(classes_of, config.repeat_threshold)
    batches = EpochBatches(
        dataset.targets,
        dataset.ni - dataset.targets,
        batch=config.batch,
        ratio=config.replay_ratio,
        factors=factors,
        generator=loader.generator,
    )
    # The loader repeats its batch sampler without end, and asks the sampler inside for the length of an epoch.
    object.__setattr__(loader, "batch_sampler", build_module._RepeatSampler(batches))
