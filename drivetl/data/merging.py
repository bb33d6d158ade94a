"""Several environments as one dataset that remembers which picture came from where."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from drivetl.data.dataset import Dataset, open_dataset
from drivetl.data.layout import LinkMode, Origin, read_origin, refuse_nesting, write_dataset
from drivetl.data.records import Sample
from drivetl.data.shared import shared_notes
from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress, silent
from drivetl.taxonomy import DRIVING_CLASSES

__all__ = ["HELD_OUT", "MergeResult", "merge_datasets"]

HELD_OUT = "held_out"


@dataclasses.dataclass(frozen=True)
class MergeResult:
    """The merged dataset, and sentences about what the union of classes means and about what was merged."""

    dataset: Dataset
    notes: tuple[str, ...]


def merge_datasets(
    paths: Sequence[Path],
    out: Path,
    *,
    names: Sequence[str] | None = None,
    leave_out: Collection[str] = (),
    link: LinkMode = "symlink",
    overwrite: bool = False,
    progress: Progress = silent,
) -> MergeResult:
    """Write the pictures of several datasets to ``out``, with the union of their classes.

    Every sample gets the attribute ``dataset``, by which figures can be given for each, and its group is prefixed
    with it. A dataset in ``leave_out`` contributes nothing to any split but ``held_out``: its ``val`` pictures, else
    its ``test`` pictures, else all. So a model trained on the result never sees it and can be measured on it.

    Args:
        paths: two or more datasets.
        out: the new dataset folder.
        names: what to call them; their folder names by default.
        leave_out: names of datasets to hold out.
        link: ``symlink`` to the pictures, or ``copy``.
        overwrite: replace a dataset that stands at ``out``.
        progress: told about writing.

    Raises:
        ConfigError: fewer than two datasets, names that do not fit, or nothing left to train on.
        DatasetError: one of them cannot be read.
        OutputError: ``out`` cannot be written, or is one of them or holds it.
    """
    labels = list(names) if names is not None else [path.resolve().name for path in paths]
    _check(paths, labels, leave_out)
    datasets = dict(zip(labels, map(open_dataset, paths), strict=True))
    for dataset in datasets.values():
        refuse_nesting(dataset.root, out, may_lie_in=True)  # as a training run may
    classes = _union(list(datasets.values()))
    samples = [
        sample
        for label, dataset in datasets.items()
        for sample in (_held_out(label, dataset) if label in leave_out else _all(label, dataset))
    ]
    origins = [read_origin(dataset) for dataset in datasets.values()]
    dropped = sum((Counter(origin.dropped) for origin in origins), Counter[str]())
    origin = Origin(
        "merged",
        "+".join(origin.card for origin in origins),
        origins[0].classes,
        sum(len(sample.ignore) for sample in samples),
        dict(sorted(dropped.items())),
    )
    merged = write_dataset(out, samples, classes, origin, link=link, overwrite=overwrite, progress=progress)
    notes = [
        f"The class {quoted(name)} is not labelled in {quoted(label)}: its objects there train as background."
        for label, dataset in datasets.items()
        for name in classes
        if name not in dataset.names and label not in leave_out  # which does not train
    ]
    notes += [_held_out_note(label, dataset) for label, dataset in datasets.items() if label in leave_out]
    notes += shared_notes(samples)
    notes += [note for dataset in datasets.values() for note in dataset.notes]
    return MergeResult(merged, tuple(notes))


def _check(paths: Sequence[Path], labels: Sequence[str], leave_out: Collection[str]) -> None:
    if len(paths) < 2:
        raise ConfigError("merging takes two or more datasets")
    if len(labels) != len(paths) or len(set(labels)) != len(labels):
        raise ConfigError(
            f"the datasets need one name each, all different, not {', '.join(map(quoted, labels))}; pass --names"
        )
    if unknown := set(leave_out) - set(labels):
        raise ConfigError(
            f"--leave-out names {quoted(min(unknown))}; the datasets are {', '.join(map(quoted, labels))}"
        )
    if len(set(leave_out)) == len(labels):
        raise ConfigError("--leave-out leaves no dataset to train on")


def _union(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """Return all class names: in the taxonomy's order where all are in it, else in the order of first appearance."""
    seen = dict.fromkeys(name for dataset in datasets for name in dataset.names)
    return tuple(n for n in DRIVING_CLASSES if n in seen) if seen.keys() <= set(DRIVING_CLASSES) else tuple(seen)


def _all(label: str, dataset: Dataset) -> Iterator[Sample]:
    return (_named(sample, label) for split in dataset.splits for sample in dataset.samples(split))


def _held_out_split(dataset: Dataset) -> str | None:
    """Return which split of a dataset is held out; None: all."""
    return next((split for split in ("val", "test") if split in dataset.splits), None)


def _held_out_note(label: str, dataset: Dataset) -> str:
    split = _held_out_split(dataset)
    if split is None:
        return f"All {sum(dataset.splits.values())} pictures of {quoted(label)} are held out."
    note = f"Of {quoted(label)} the {dataset.splits[split]} pictures of {split!r} are held out"
    others = ", ".join(f"{count} of {name!r}" for name, count in dataset.splits.items() if name != split)
    return f"{note}; its others ({others}) are not in the new dataset." if others else f"{note}."


def _held_out(label: str, dataset: Dataset) -> Iterator[Sample]:
    split = _held_out_split(dataset)
    for sample in _all(label, dataset):
        if split is None or sample.split == split:
            yield dataclasses.replace(sample, split=HELD_OUT)


def _named(sample: Sample, label: str) -> Sample:
    attributes = {**sample.attributes, "dataset": label}
    return dataclasses.replace(sample, group=f"{label}/{sample.group}", attributes=attributes)
