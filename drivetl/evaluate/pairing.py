"""From predictions files to test sets: which files belong together, and that they do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetl.data import Dataset, open_dataset
from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.evaluate.labels import labels_of
from drivetl.evaluate.matching import Matches, match
from drivetl.evaluate.predictions import Predictions, check_dataset, read_predictions
from drivetl.progress import Progress, silent, tracked

__all__ = ["TestSet", "load_test_sets"]

_Key = tuple[str, str]
_Read = tuple[Path, Predictions]


@dataclass(frozen=True, slots=True)
class TestSet:
    """One split of one dataset, with the matches of the models on both sides.

    Attributes:
        name: the dataset's folder, for people.
        fingerprint: of the dataset.
        split: which of its splits.
        class_names: of the dataset.
        groups: the group of each picture.
        before, after: one entry for each seed.
        before_names, after_names: what to call them, for people.
        before_lacks, after_lacks: classes that no model of the side can detect; none where its files do not say.
    """

    __test__ = False  # pytest takes every class called Test… for its own

    name: str
    fingerprint: str
    split: str
    class_names: tuple[str, ...]
    groups: tuple[str, ...]
    before: tuple[Matches, ...]
    after: tuple[Matches, ...]
    before_names: tuple[str, ...] = ()
    after_names: tuple[str, ...] = ()
    before_lacks: frozenset[str] = frozenset()
    after_lacks: frozenset[str] = frozenset()


def load_test_sets(
    data: Sequence[Path], before: Sequence[Path], after: Sequence[Path], *, progress: Progress = silent
) -> list[TestSet]:
    """Read predictions files and give each to its dataset, by fingerprint and split.

    Args:
        data: a dataset for each test set.
        before: predictions of the models to compare with, at least one for each test set.
        after: predictions of the models in question, likewise.
        progress: told after every file.

    Raises:
        DatasetError: a file or dataset cannot be used, or they do not belong together.
        ConfigError: a side is missing, or the number of datasets does not fit the files.
    """
    if not data or not before or not after:
        raise ConfigError("a comparison needs at least one --data, one --before and one --after")
    files = [path for paths in (before, after) for path in paths]
    read = [(path, read_predictions(path)) for path in tracked(files, "read predictions", len(files), progress)]
    sides = (read[: len(before)], read[len(before) :])
    datasets = {dataset.fingerprint: dataset for dataset in (open_dataset(path) for path in data)}
    for path, predictions in read:
        if predictions.dataset_fingerprint not in datasets:
            known = ", ".join(f"{quoted(d.root)} {fingerprint}" for fingerprint, d in datasets.items())
            raise DatasetError(
                f"{quoted(path)} was made on the dataset {predictions.dataset_fingerprint}, which no --data is "
                f"({known}); give the dataset that it was made on, or evaluate again with --predictions"
            )
    keys = list(dict.fromkeys(_key(predictions) for _, predictions in read))
    _check_keys(keys, read, datasets, len(data))
    sets = [_test_set(datasets[key[0]], key, sides) for key in keys]
    _check_classes(sets)
    return sets


def _key(predictions: Predictions) -> _Key:
    return predictions.dataset_fingerprint, predictions.split


def _check_keys(keys: Sequence[_Key], read: Sequence[_Read], datasets: dict[str, Dataset], given: int) -> None:
    if len(keys) != given:
        examples = [next((path, p) for path, p in read if _key(p) == key) for key in keys]
        named = "; ".join(
            f"{quoted(path)} is of the split {quoted(p.split)} of the dataset {p.dataset_fingerprint}"
            for path, p in examples
        )
        raise DatasetError(
            f"the files are of {len(keys)} test set{'s' * (len(keys) > 1)}, but --data stands {given} "
            f"time{'s' * (given > 1)}: {named}; compare files of one test set, or give --data once for each"
        )
    unused = [dataset for fingerprint, dataset in datasets.items() if all(fingerprint != key[0] for key in keys)]
    if unused:
        raise ConfigError(f"no file was made on the dataset {quoted(unused[0].root)}; leave its --data out")


def _test_set(dataset: Dataset, key: _Key, sides: tuple[Sequence[_Read], Sequence[_Read]]) -> TestSet:
    split = key[1]
    labels = labels_of(dataset, split)
    matches: list[tuple[Matches, ...]] = []
    names: list[tuple[str, ...]] = []
    lacking: list[frozenset[str]] = []
    for option, side in zip(("--before", "--after"), sides, strict=True):
        chosen = [(path, predictions) for path, predictions in side if _key(predictions) == key]
        if not chosen:
            raise ConfigError(
                f"there is no {option} for the split {quoted(split)} of {quoted(dataset.root)}; give each test set at "
                "least one file on each side"
            )
        for path, predictions in chosen:
            check_dataset(predictions, path, dataset, labels.pictures)
        matches.append(tuple(match(labels.truth, predictions.found) for _, predictions in chosen))
        names.append(tuple(str(path) for path, _ in chosen))
        lacking.append(frozenset.intersection(*(frozenset(p.missing_classes or ()) for _, p in chosen)))
    groups = tuple(picture.group for picture in labels.pictures)
    root, (fingerprint, _) = str(dataset.root), key
    sides_found = matches[0], matches[1], names[0], names[1], lacking[0], lacking[1]
    return TestSet(root, fingerprint, split, dataset.names, groups, *sides_found)


def _check_classes(sets: Iterable[TestSet]) -> None:
    first, *others = sets
    for other in others:
        if other.class_names != first.class_names:
            raise DatasetError(
                f"{quoted(first.name)} has the classes {quoted(', '.join(first.class_names))}, {quoted(other.name)} "
                f"has {quoted(', '.join(other.class_names))}; test sets that are compared together need the same"
            )
