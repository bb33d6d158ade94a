"""Source pictures beside the target's in one loader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.job import Replay
from drivetl.adapt.sampling import EpochBatches, repeat_factors
from drivetl.data import open_dataset
from drivetl.data.dataset import Dataset
from drivetl.errors import DatasetError, quoted
from drivetl.files import atomic_file
from drivetl.taxonomy import map_detections
from drivetl.yolo.dataset import ReadOnlyDataset
from drivetl.yolo.ultra import build_module

__all__ = ["check_sources", "plan_replay", "set_batches", "told"]


def told(dataset: Dataset, split: str, target: Path, pictures: Sequence[Path] | None = None) -> object:
    """Return what Ultralytics is told to load: the places of a split, or ``target``, a list that is written.

    Args:
        dataset: the dataset.
        split: which split.
        target: where a list goes, if there must be one: for some of the pictures only, or where Ultralytics would read
            the places of the split in another way, see `Dataset.needs_list`.
        pictures: those to load; None: all.

    Raises:
        DatasetError, OutputError: the list cannot be read, or written; or a path in it is not UTF-8.
    """
    if pictures is None and not dataset.needs_list(split):
        return dataset.training_document()[split]
    paths = [path.absolute() for path in (dataset.pictures(split) if pictures is None else pictures)]
    lines = "".join(f"{path}\n" for path in paths)
    try:
        data = lines.encode()
    except UnicodeEncodeError as error:
        bad = paths[lines.count("\n", 0, error.start)]
        raise DatasetError(
            f"the path {quoted(bad)} is not UTF-8, in which Ultralytics reads its list of pictures; rename it"
        ) from error
    with atomic_file(target, overwrite=True) as temporary:
        temporary.write_bytes(data)
    return str(target.absolute())


def plan_replay(config: TrainConfig, target_names: tuple[str, ...], target: Path) -> Replay | None:
    """Return what is replayed under the target's classes; None if nothing. ``target`` is for a list, see `told`.

    Raises:
        DatasetError: the dataset or split cannot be used, or shares no class with the target.
    """
    if config.replay is None:
        return None
    dataset, mapping = _shared(config.replay, config.replay_split, target_names, "replay")
    return Replay(told(dataset, config.replay_split, target), dataset.names, mapping)


def check_sources(config: TrainConfig, target_names: tuple[str, ...]) -> list[str]:
    """Check the datasets of source pictures, before hours of training end in their error; return notes on them.

    Raises:
        DatasetError: one cannot be used, lacks its split, or shares no class with the target.
    """
    notes = []
    if config.replay is not None:
        source, mapping = _shared(config.replay, config.replay_split, target_names, "replay")
        if not any(sample.boxes for sample in source.samples(config.replay_split)):
            raise DatasetError(
                f"no object is labelled in the split {quoted(config.replay_split)} of the replay dataset "
                f"{quoted(config.replay)}, so it would teach that every picture is empty; give labelled source pictures"
            )
        if unlabelled := [name for index, name in enumerate(target_names) if index not in set(mapping.values())]:
            notes.append(
                f"The replay dataset {quoted(config.replay)} has no class for {', '.join(unlabelled)}: what its "
                "pictures show of that trains as background."
            )
    if config.retention is not None:
        _shared(config.retention, config.retention_split, target_names, "retention")
    return notes


def _shared(path: Path, split: str, target_names: tuple[str, ...], name: str) -> tuple[Dataset, dict[int, int]]:
    """Return a dataset of source pictures, and its class id → the target's."""
    dataset = open_dataset(path)
    if split not in dataset.splits:
        raise DatasetError(
            f"the {name} dataset {quoted(path)} has no split {quoted(split)}; it has {', '.join(dataset.splits)}"
        )
    mapping = map_detections(dataset.names, target_names)
    if not mapping:
        raise DatasetError(
            f"the {name} dataset {quoted(path)} shares no class with the target: it has {', '.join(dataset.names)}, "
            f"the target has {', '.join(target_names)}"
        )
    return dataset, mapping


def set_batches(loader: Any, config: TrainConfig, batch: int) -> None:
    """Let a training loader draw its batches as the settings say, if they say more than to shuffle.

    ``batch`` is the pictures of one, which a GPU without memory for more may have lowered.
    """
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
        batch=batch,
        ratio=config.replay_ratio,
        factors=factors,
        generator=loader.generator,
    )
    # The loader repeats its batch sampler without end, and asks the sampler inside for the length of an epoch.
    object.__setattr__(loader, "batch_sampler", build_module._RepeatSampler(batches))
