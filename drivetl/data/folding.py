"""Folds for cross-validation: every picture is tested once, groups stay whole, and classes are spread evenly."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from drivetl.data.dataset import Dataset, open_dataset
from drivetl.data.grouping import content_groups
from drivetl.data.layout import MARKER, origin_of, refuse_nesting, write_dataset
from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.files import refuse_existing_dir, writing
from drivetl.progress import Progress, silent

__all__ = ["fold_dataset", "stratified_folds"]


def stratified_folds(
    groups: Sequence[str], class_counts: Sequence[Mapping[str, int]], folds: int, rng: np.random.Generator
) -> list[int]:
    """Return the fold of each picture, 0 to ``folds - 1``.

    The rarest class is dealt out first, each of its groups to the fold that lacks most of it, and so on; after
    Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data" (ECML PKDD 2011), with groups in the
    place of examples.

    Args:
        groups: the group of each picture; a group is never divided.
        class_counts: boxes per class of each picture.
        folds: how many folds.
        rng: breaks ties; the same generator state and input give the same folds.

    Raises:
        ConfigError: there are fewer groups than folds.
    """
    sizes = Counter(groups)
    if folds < 2 or folds > len(sizes):
        raise ConfigError(
            f"{folds} folds cannot be made of {len(sizes)} groups of pictures; from 2 to {len(sizes)} can"
        )
    held: dict[str, Counter[str]] = {group: Counter() for group in sizes}
    for group, counts in zip(groups, class_counts, strict=True):
        held[group].update(counts)
    names = sorted({name for counts in held.values() for name in counts})
    # What each fold still lacks: pictures in column 0, then boxes of each class.
    rows = {group: np.array([sizes[group], *(held[group][name] for name in names)], float) for group in sizes}
    lacks = np.tile(np.sum(list(rows.values()), axis=0) / folds, (folds, 1))
    order = [sorted(sizes)[index] for index in rng.permutation(len(sizes))]
    place: dict[str, int] = {}
    while order:
        left = np.sum([rows[group] for group in order], axis=0)
        columns = [column for column in range(1, len(names) + 1) if left[column] > 0]
        column = min(columns, key=lambda c: left[c]) if columns else 0
        for group in sorted((g for g in order if rows[g][column]), key=lambda g: -rows[g][column]):
            fold = max(range(folds), key=lambda f: (lacks[f, column], lacks[f, 0]))
            lacks[fold] -= rows[group]
            place[group] = fold
            order.remove(group)
    return [place[group] for group in groups]


def fold_dataset(
    dataset: Path,
    out: Path,
    *,
    folds: int = 3,
    from_: str = "train",
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> list[Dataset]:
    """Write one dataset for each fold, ``out/fold0`` and so on: its pictures as ``test``, the rest as ``train``.

    Pictures of one recorded group and near-identical pictures stay together. The same dataset and seed give the same
    folds. Other splits of the dataset are left out. With ``overwrite``, further folds that drivetl wrote to ``out`` go:
    they are of another partition, and have pictures to train on that are tested here. The folds have the notes of the
    dataset.

    Raises:
        ConfigError: more folds than groups.
        DatasetError: no dataset, or no split ``from_``.
        OutputError: ``out`` cannot be written, has folds and ``overwrite`` is false, or a fold's place is nested with
            the dataset.
    """
    source = open_dataset(dataset)
    samples = list(source.samples(from_))
    places = [out / f"fold{number}" for number in range(folds)]
    further = _further_folds(out, folds)
    for place in (*places, *further):
        refuse_nesting(source.root, place)
        refuse_existing_dir(place, marker=MARKER, overwrite=overwrite)
    groups = content_groups([s.image for s in samples], [s.group for s in samples], progress)
    counts = [Counter(box.class_name for box in sample.boxes) for sample in samples]
    fold_of = stratified_folds(groups, counts, folds, np.random.default_rng(seed))
    _check_classes(counts, fold_of, dataset)
    origin, written = origin_of(source, samples), []
    for number, place in enumerate(places):
        moved = [
            dataclasses.replace(sample, split="test" if fold == number else "train", group=group)
            for sample, group, fold in zip(samples, groups, fold_of, strict=True)
        ]
        made = write_dataset(place, moved, source.names, origin, overwrite=overwrite, progress=progress)
        written.append(Dataset(made.yaml_path, source.notes))
    for place in further:
        _remove(place)
    return written


def _further_folds(out: Path, folds: int) -> list[Path]:
    """Return the datasets of drivetl in ``out`` that are named like folds beyond the last one to write."""
    found = []
    for path in out.iterdir() if out.is_dir() else ():
        match = re.fullmatch("fold([1-9][0-9]*)", path.name)
        if match is not None and int(match[1]) >= folds and (path / MARKER).is_file():
            found.append(path)
    return sorted(found)


def _remove(place: Path) -> None:
    with writing(place):
        if place.is_symlink():
            place.unlink()  # what it leads to is somebody else's
        else:
            shutil.rmtree(place)


def _check_classes(counts: Sequence[Mapping[str, int]], fold_of: Sequence[int], dataset: Path) -> None:
    """Every class must stand in every training part, or its figures would say nothing."""
    for name in sorted({name for count in counts for name in count}):
        if len({fold for count, fold in zip(counts, fold_of, strict=True) if count.get(name)}) < 2:
            raise DatasetError(
                f"the class {quoted(name)} of {quoted(dataset)} stands in one group of pictures only, so a fold would "
                "have none to train on; leave the class out, or label more"
            )
