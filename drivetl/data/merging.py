"""Several environments as one dataset that remembers which picture came from where."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from drivetl.data.class_names import renamed_notes, united_names, unlabelled_notes
from drivetl.data.dataset import Dataset, open_dataset
from drivetl.data.layout import LinkMode, Origin, read_origin, refuse_nesting, write_dataset
from drivetl.data.records import Sample
from drivetl.data.shared import shared_notes
from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress, silent

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

    Classes whose names differ in case or spacing alone become one, unless a dataset has both.

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
    classes, renamed = united_names({label: dataset.names for label, dataset in datasets.items()})
    samples = [
        _renamed(sample, renamed[label])
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
    notes = [*renamed_notes(renamed), *_class_notes(datasets, renamed, classes, leave_out), *shared_notes(samples)]
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


def _class_notes(
    datasets: Mapping[str, Dataset],
    renamed: Mapping[str, Mapping[str, str]],
    classes: Sequence[str],
    leave_out: Collection[str],
) -> Iterator[str]:
    """Yield sentences on what each dataset that trains does not label, and then on what is held out."""
    for label, dataset in datasets.items():
        if label not in leave_out:
            yield from unlabelled_notes(label, [renamed[label].get(name, name) for name in dataset.names], classes)
    yield from (_held_out_note(label, dataset) for label, dataset in datasets.items() if label in leave_out)


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


def _renamed(sample: Sample, names: Mapping[str, str]) -> Sample:
    """Return the sample with the classes of ``names`` under their new names."""
    if not names:
        return sample
    boxes = tuple(
        dataclasses.replace(box, class_name=names.get(box.class_name, box.class_name)) for box in sample.boxes
    )
    ignore = tuple(
        region
        if region.class_name is None
        else dataclasses.replace(region, class_name=names.get(region.class_name, region.class_name))
        for region in sample.ignore
    )
    return dataclasses.replace(sample, boxes=boxes, ignore=ignore)
