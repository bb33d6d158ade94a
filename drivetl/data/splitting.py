"""Cut a new split out of an existing one: by chance, never dividing a group, or by a list, which may and is told of."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from drivetl.data.dataset import Dataset, open_dataset
from drivetl.data.grouping import content_groups, take_groups
from drivetl.data.layout import MARKER, read_origin, refuse_nesting, write_dataset
from drivetl.data.records import Sample
from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.files import read_limited, refuse_existing_dir
from drivetl.progress import Progress, silent

__all__ = ["move_listed", "split_dataset"]

_LIST_LIMIT_BYTES = 256 << 20


def split_dataset(
    dataset: Path,
    out: Path,
    *,
    from_: str = "train",
    into: str = "val",
    fraction: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """Write ``dataset`` to ``out`` with about ``fraction`` of the split ``from_`` moved to a new split ``into``.

    What stays together: pictures of one recorded group, and near-identical pictures. Every class keeps examples in
    ``from_``. The same dataset and seed give the same split. ``out`` may be the dataset itself, with ``overwrite``.
    What is returned has the notes of the dataset.

    Raises:
        ConfigError: the fraction is not between 0 and 1.
        DatasetError: no dataset, no split ``from_``, ``into`` exists, or the groups are too large to cut anything.
        OutputError: ``out`` cannot be written.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"--fraction must lie between 0 and 1, not {fraction}")
    source = open_dataset(dataset)
    if into in source.splits:
        raise DatasetError(
            f"{quoted(dataset)} already has a split {quoted(into)}; choose another name with --into, or use that split "
            "as it is (in a recipe: data.selection 0)"
        )
    _refuse_holder(source, out)
    refuse_existing_dir(out, marker=MARKER, overwrite=overwrite)
    samples = list(source.samples(from_))
    groups = content_groups([s.image for s in samples], [s.group for s in samples], progress)
    counts = [Counter(box.class_name for box in sample.boxes) for sample in samples]
    taken = take_groups(groups, counts, fraction, np.random.default_rng(seed))
    if not taken:
        raise DatasetError(
            f"the split {quoted(from_)} of {quoted(dataset)} has {len(set(groups))} groups, and none can be cut off as "
            f"{fraction:.0%} without losing a class; choose a larger --fraction"
        )
    moved = [
        dataclasses.replace(sample, split=into if group in taken else from_, group=group)
        for sample, group in zip(samples, groups, strict=True)
    ]
    others = [sample for split in source.splits if split != from_ for sample in source.samples(split)]
    origin = read_origin(source)
    written = write_dataset(out, moved + others, source.names, origin, overwrite=overwrite, progress=progress)
    return Dataset(written.yaml_path, source.notes)


def move_listed(
    dataset: Path,
    out: Path,
    names: Path,
    *,
    from_: str = "train",
    into: str = "val",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """Write ``dataset`` to ``out`` with the pictures that a list names moved from one split to another.

    The list is obeyed also where it divides a recorded group; the notes of what is returned say so, after those of the
    dataset.

    Args:
        dataset, out, overwrite, progress: as in `split_dataset`.
        names: a text file with one file name a line, folders left out; lines that begin with ``#`` are comments.
        from_: where the pictures are.
        into: where they go; the split may exist.

    Raises:
        DatasetError: no dataset, no split ``from_``, a name that is not in it, or nothing would be left.
        OutputError: ``out`` cannot be written.
    """
    source = open_dataset(dataset)
    _refuse_holder(source, out)
    samples = list(source.samples(from_))
    wanted = set(_listed_names(names))
    if missing := wanted - {sample.image.name for sample in samples}:
        raise DatasetError(
            f"{quoted(names)} names {quoted(sorted(missing)[0])}, which is not in the split {quoted(from_)} of "
            f"{quoted(dataset)}; {len(wanted) - len(missing)} of its {len(wanted)} names are"
        )
    if not wanted or len(wanted) == len(samples):
        raise DatasetError(
            f"{quoted(names)} names {len(wanted)} of the {len(samples)} pictures of {quoted(from_)}; "
            "a split needs some on both sides"
        )
    moved = [dataclasses.replace(sample, split=into) if sample.image.name in wanted else sample for sample in samples]
    others = [sample for split in source.splits if split != from_ for sample in source.samples(split)]
    origin = read_origin(source)
    written = write_dataset(out, moved + others, source.names, origin, overwrite=overwrite, progress=progress)
    divided = _divided({sample.group for sample in samples if sample.image.name in wanted}, moved + others, into)
    return Dataset(written.yaml_path, (*source.notes, *divided))


def _divided(groups: Collection[str], samples: Iterable[Sample], into: str) -> list[str]:
    """Return a sentence on those of the moved ``groups`` that also stand in another split than ``into``."""
    found = sorted({sample.group for sample in samples if sample.split != into and sample.group in groups})
    if not found:
        return []
    return [
        f"The list divides {len(found)} groups of pictures that belong together, such as {quoted(found[0])}: what is "
        f"learned in one split is met again in {quoted(into)}. They are named by: drivetl data check"
    ]


def _refuse_holder(source: Dataset, out: Path) -> None:
    """A dataset may be rewritten in its own place, but not deleted with a folder that holds it."""
    if out.resolve() != source.root.resolve():
        refuse_nesting(source.root, out, may_lie_in=True)


def _listed_names(path: Path) -> list[str]:
    try:
        lines = read_limited(path, _LIST_LIMIT_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{quoted(path)} cannot be read as a list of names in UTF-8") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
