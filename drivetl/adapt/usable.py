"""Find what Ultralytics' loader would refuse or leave out, before anything is written.

Its own words come late, when the run's folder is there, and name a picture where a line is at fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from drivetl.adapt.config import TrainConfig
from drivetl.data import open_dataset
from drivetl.data.dataset import Dataset, label_path
from drivetl.data.labels import read_fractions
from drivetl.data.pictures import has_its_end, picture_size_hw
from drivetl.data.shared import in_both
from drivetl.errors import ConfigError, DatasetError, quoted

__all__ = ["check_usable", "settle_selection"]

# What Ultralytics asks of pictures and labels (ultralytics.data.utils, verify_image_label and check_image).
_SMALLEST_PX = 10
_TOLERANCE = 0.01
_BOX_COLUMNS = 5

_ALL = "run 'drivetl data check' for the whole list"


def check_usable(config: TrainConfig, dataset: Dataset, pictures: Iterable[Path]) -> None:
    """Check labels and pictures that a run loads; headers and ends of the pictures alone, for the sake of time.

    Args:
        config: the settings, with what chooses the epoch.
        dataset: the dataset.
        pictures: those to train on.

    Raises:
        DatasetError: one cannot be used (the message gives file and line), or the labels are of poses.
        ImageError: a picture is missing or none.
    """
    dataset.training_document()
    for picture in pictures:
        _check(picture, dataset)
    if config.selection_split is not None:
        for picture in dataset.pictures(config.selection_split):
            _check(picture, dataset)
    if config.replay is not None:
        source = open_dataset(config.replay)
        source.training_document()
        for picture in source.pictures(config.replay_split):
            _check(picture, source)


def settle_selection(config: TrainConfig, dataset: Dataset, resume: bool) -> tuple[TrainConfig, list[str]]:
    """Return the settings with what chooses the epoch, and notes on it.

    A selection split that is missing, or too small to choose a share, chooses nothing.

    Args:
        config: the settings.
        dataset: the dataset.
        resume: whether an interrupted run continues.

    Raises:
        DatasetError: there is no split ``train``, or it shares pictures with the selection split.
        ConfigError: the selection split is not there, or ``patience`` has nothing to count by.
    """
    # A run to resume may be one in which nothing came to choose; it keeps its settings so.
    if config.idle_patience and not resume:
        raise ConfigError(config.idle_patience)
    if "train" not in dataset.splits:
        raise DatasetError(
            f"the dataset {quoted(config.data)} has no split 'train', only {', '.join(dataset.splits)}; "
            "make one with: drivetl data split"
        )
    split = config.selection_split
    if split in dataset.splits:
        _refuse_shared(dataset, split)
    if split is None or split == config.selecting_split(dataset.splits):
        return config, []
    without = config.model_copy(update={"selection_split": None})
    last = ", and the last epoch is taken" if config.epochs else ""
    idle = f" So patience ({config.patience}) has nothing to count by and stops nothing." * (config.patience > 0)
    if split not in dataset.splits:
        if split != "val":
            raise ConfigError(
                f"the selection split {quoted(split)} is not in {quoted(config.data)}, which has "
                f"{', '.join(dataset.splits)}"
            )
        missing = "The dataset has no split 'val' to choose the epoch by, so the last epoch is taken."
        return without, [missing + idle] * bool(config.epochs)
    return without, [
        f"The split {split!r} has {dataset.splits[split]} pictures, under {config.min_selection_pictures}: the share "
        f"is chosen by cross-validation of the training pictures instead{last}.{idle}"
    ]


def _refuse_shared(dataset: Dataset, split: str) -> None:
    """Refuse to choose by what was trained on: the most overfitted weights would look best.

    Raises:
        ConfigError: ``split`` is ``train`` itself.
        DatasetError: a picture of the split ``train`` stands in ``split`` too.
    """
    if split == "train":
        raise ConfigError(
            "selection_split is 'train', whose pictures are trained on, so it would favour what was learned by heart; "
            "name another split, or null for the last epoch"
        )
    if common := in_both(dataset.pictures("train"), dataset.pictures(split)):
        raise DatasetError(
            f"{len(common)} of the pictures to train on, such as {quoted(common[0])}, stand in the split "
            f"{quoted(split)} of {quoted(dataset.yaml_path)} too, which chooses the epoch and would favour what was "
            f"learned by heart; give {quoted(split)} pictures of its own, as drivetl data split does"
        )


def _check(picture: Path, dataset: Dataset) -> None:
    if min(picture_size_hw(picture)) < _SMALLEST_PX:
        raise DatasetError(
            f"the picture {quoted(picture)} has a side under {_SMALLEST_PX} pixels, which cannot be trained on; leave "
            f"it out; {_ALL}"
        )
    if not has_its_end(picture):
        raise DatasetError(f"the picture {quoted(picture)} is cut off; copy it again or leave it out; {_ALL}")
    labels = label_path(picture)
    if labels.is_file():
        _check_labels(labels, dataset)


def _check_labels(labels: Path, dataset: Dataset) -> None:
    remedy = "'drivetl data import yolo' makes a dataset of boxes inside their pictures"
    kinds = set()
    for number, line, _, box in read_fractions(labels, len(dataset.names)):
        kinds.add(len(line.split()) == _BOX_COLUMNS)
        left, top, right, bottom = box
        numbers = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        if min(numbers) < -_TOLERANCE or max(numbers) > 1 + _TOLERANCE:
            raise DatasetError(
                f"{quoted(labels)}, line {number}: the label {quoted(line.strip(), 60)} leaves the picture too far to "
                f"be trained on, with a number below 0 or above 1; correct it, or import the dataset: {remedy}"
            )
    if len(kinds) > 1:
        raise DatasetError(
            f"the label file {quoted(labels)} has both boxes and polygons, which cannot be trained on together; import "
            f"the dataset: {remedy}"
        )
