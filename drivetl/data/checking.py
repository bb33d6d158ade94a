"""Find what would spoil training or make a figure meaningless, and say where it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from drivetl.cores import usable_cores
from drivetl.data.dataset import Dataset, label_path, open_dataset
from drivetl.data.grouping import near_identical_across, picture_hash
from drivetl.data.labels import LabelLineError, label_line, label_lines, parse_label_line
from drivetl.data.merging import HELD_OUT
from drivetl.data.pictures import PictureError, decode_picture, is_picture
from drivetl.data.recordings import original_of
from drivetl.data.records import Sample
from drivetl.data.sample_lines import sample_from, stored_lines
from drivetl.data.shared import in_both
from drivetl.errors import DatasetError, quoted
from drivetl.progress import Progress, silent, tracked

__all__ = ["CheckReport", "Problem", "check_dataset"]

# Six decimals round an edge by at most 0.75e-6 of the side; this allows for that and for nothing visible.
_OUTSIDE_TOLERANCE = 1e-5

_LABELIMG = "classes.txt"  # LabelImg puts the names of its classes beside the labels


@dataclass(frozen=True, slots=True)
class Problem:
    """One defect: what kind, in which file (relative to the dataset where possible), and on which line if any."""

    kind: str
    file: str
    line: int | None
    message: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The verdict. ``notes`` holds what is worth knowing and no defect."""

    ok: bool
    images: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Entry:
    """One picture to inspect: what is stored of it (None for a stranger's dataset), and then what was found.

    ``background`` is a stranger's picture without a label file.
    """

    picture: Path
    split: str
    stored: Sample | None = None
    stored_bytes: int | None = None
    background: bool = False
    problems: list[Problem] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    hash_bits: npt.NDArray[np.bool_] | None = None


def check_dataset(path: Path, progress: Progress = silent) -> CheckReport:
    """Decode every picture and read every label of a dataset.

    Found are: pictures that are missing, unreadable, truncated, too large or changed since the import; labels that
    are missing, orphaned, malformed or changed; boxes outside the picture, without area, with NaN or twice; unknown
    class ids; pictures that are the same, near-identical or of one group on two sides of a split; classes without
    examples.
    Missing labels are a defect only where drivetl wrote the dataset: elsewhere such pictures are background.

    Raises:
        DatasetError: there is no dataset to check, or it has no pictures.
    """
    dataset = open_dataset(path)
    total = sum(dataset.splits.values())
    with ThreadPoolExecutor(usable_cores()) as pool:
        inspected = pool.map(lambda entry: _inspect(entry, dataset), _entries(dataset))
        entries = list(tracked(inspected, "checking pictures", total, progress))
    problems = [problem for entry in entries for problem in entry.problems]
    problems += _orphans(dataset, entries)
    shared, places = _shared(dataset, entries)
    problems += shared
    problems += _near_identical(dataset, [entry for entry in entries if entry.picture not in places])
    problems += _divided_groups(dataset, [entry for entry in entries if entry.picture not in places])
    missing, notes = _classes_without_examples(dataset, entries)
    problems += missing
    background = sum(entry.background for entry in entries)
    if background:
        notes.append(f"{background} pictures without a label file are taken as background.")
    return CheckReport(not problems, len(entries), tuple(problems), (*dataset.notes, *notes))


def _entries(dataset: Dataset) -> Iterator[_Entry]:
    if not dataset.made_by_drivetl:
        for split in dataset.splits:
            yield from (_Entry(picture, split) for picture in dataset.pictures(split))
        return
    for number, document in stored_lines(dataset.samples_path):
        sample = sample_from(document, dataset.root, f"{quoted(dataset.samples_path)}, line {number}")
        yield _Entry(sample.image, sample.split, sample, document.get("bytes"))


def _inspect(entry: _Entry, dataset: Dataset) -> _Entry:
    _inspect_picture(entry, dataset)
    _inspect_labels(entry, dataset)
    return entry


def _inspect_picture(entry: _Entry, dataset: Dataset) -> None:
    try:
        image_bgr = decode_picture(entry.picture)
    except PictureError as error:
        entry.problems.append(Problem(error.kind, _name(entry.picture, dataset), None, str(error)))
        return
    entry.hash_bits = picture_hash(entry.picture)
    found = image_bgr.shape[0], image_bgr.shape[1]
    if entry.stored is not None and (
        entry.stored.size_hw != found or entry.stored_bytes != entry.picture.stat().st_size
    ):
        message = f"is not the picture that was imported ({entry.stored.size_hw} pixels, {entry.stored_bytes} bytes)"
        entry.problems.append(Problem("picture_changed", _name(entry.picture, dataset), None, message))


def _inspect_labels(entry: _Entry, dataset: Dataset) -> None:
    path = label_path(entry.picture)
    name = _name(path, dataset)
    if not path.is_file():
        if not dataset.made_by_drivetl:
            entry.background = True
            return
        entry.problems.append(
            Problem("label_missing", name, None, f"the picture {quoted(entry.picture.name)} has no labels")
        )
        return
    try:
        lines = list(label_lines(path))
    except DatasetError as error:
        entry.problems.append(Problem("label_malformed", name, None, str(error)))
        return
    first_line: dict[tuple[int, tuple[float, float, float, float]], int] = {}
    for number, line in lines:
        try:
            class_id, box = parse_label_line(line, len(dataset.names), dataset.keypoint_columns)
        except LabelLineError as error:
            message = f"{error}; {error.remedy}" if error.kind == "label_in_pixels" else str(error)
            entry.problems.append(Problem(error.kind, name, number, message))
            continue
        entry.classes[dataset.names[class_id]] += 1
        if min(box) < -_OUTSIDE_TOLERANCE or max(box) > 1 + _OUTSIDE_TOLERANCE:
            entry.problems.append(Problem("box_outside", name, number, "the box leaves the picture"))
        if (earlier := first_line.setdefault((class_id, box), number)) != number:
            entry.problems.append(Problem("duplicate_box", name, number, f"repeats line {earlier}"))
    if entry.stored is not None:
        _compare_with_stored(entry.stored, [line for _, line in lines], name, dataset, entry.problems)


def _compare_with_stored(
    stored: Sample, lines: Sequence[str], name: str, dataset: Dataset, problems: list[Problem]
) -> None:
    """Report the first line on which the label file and ``samples.jsonl`` differ; one of them was edited."""
    ids = {class_name: index for index, class_name in enumerate(dataset.names)}
    if any(box.class_name not in ids for box in stored.boxes):
        problems.append(
            Problem("unknown_class", "samples.jsonl", None, f"a box of {quoted(name)} has a class not in data.yaml")
        )
        return
    expected = [label_line(ids[box.class_name], box.xyxy_px, stored.size_hw) for box in stored.boxes]
    for index in range(max(len(expected), len(lines))):
        if lines[index : index + 1] != expected[index : index + 1]:
            message = "differs from samples.jsonl; it was edited after the import"
            problems.append(Problem("label_changed", name, index + 1, message))
            return


def _orphans(dataset: Dataset, entries: Sequence[_Entry]) -> Iterator[Problem]:
    """Yield label files without a picture, and pictures in the dataset's folders that no sample names."""
    known_labels = {label_path(entry.picture) for entry in entries}
    if not dataset.made_by_drivetl:
        # What a list leaves out is not lost: a label there has its picture all the same.
        folders = {entry.picture.parent for entry in entries}
        known_labels |= {
            label_path(path) for folder in folders if folder.is_dir() for path in folder.iterdir() if is_picture(path)
        }
    for folder in sorted({path.parent for path in known_labels}):
        for path in sorted(folder.glob("*.txt")):
            if path not in known_labels and path.name != _LABELIMG:
                yield Problem("label_orphan", _name(path, dataset), None, "belongs to no picture of the dataset")
    known_pictures = {entry.picture for entry in entries}
    if not dataset.made_by_drivetl:
        return
    for folder in sorted({path.parent for path in known_pictures}):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if is_picture(path) and path not in known_pictures:
                yield Problem(
                    "picture_orphan", _name(path, dataset), None, "stands in the folder but not in samples.jsonl"
                )


def _shared(dataset: Dataset, entries: Sequence[_Entry]) -> tuple[list[Problem], set[Path]]:
    """Return one problem for every two splits that have pictures in common, and these pictures."""
    pictures: dict[str, list[Path]] = defaultdict(list)
    for entry in entries:
        pictures[entry.split].append(entry.picture)
    problems: list[Problem] = []
    places: set[Path] = set()
    for one, other in combinations(pictures, 2):
        if common := in_both(pictures[one], pictures[other]):
            places.update(common, in_both(pictures[other], pictures[one]))
            message = (
                f"{len(common)} of the {len(pictures[other])} pictures of {quoted(other)} stand in {quoted(one)} too, "
                f"the first is {quoted(_name(common[0], dataset))}; each picture belongs in one split"
            )
            problems.append(Problem("picture_shared", _name(dataset.yaml_path, dataset), None, message))
    return problems, places


def _near_identical(dataset: Dataset, entries: Sequence[_Entry]) -> Iterator[Problem]:
    """Yield, for each picture, at most one near-identical picture in each other split."""
    hashed = [(entry, entry.hash_bits) for entry in entries if entry.hash_bits is not None]
    hashes = np.array([bits for _, bits in hashed], bool).reshape(len(hashed), 128)
    number = {split: index for index, split in enumerate(dict.fromkeys(entry.split for entry, _ in hashed))}
    sides = np.array([number[entry.split] for entry, _ in hashed], np.int64)
    for i, j, bits in near_identical_across(hashes, sides):
        other = _name(hashed[j][0].picture, dataset)
        message = f"is nearly {quoted(other)} in another split ({bits} of 128 hash bits differ)"
        yield Problem("near_identical", _name(hashed[i][0].picture, dataset), None, message)


def _divided_groups(dataset: Dataset, entries: Sequence[_Entry]) -> Iterator[Problem]:
    first: dict[str, _Entry] = {}
    told: set[str] = set()
    for entry in entries:
        # A stranger's names say something of splits only where Roboflow made copies of one picture.
        name = entry.picture.stem if entry.stored is None else entry.stored.group
        group = original_of(name)
        if entry.stored is None and group == name:
            continue
        earlier = first.setdefault(group, entry)
        if earlier.split != entry.split and group not in told:
            told.add(group)
            what = "the group" if group == name else "a copy that Roboflow made of"
            message = f"{what} {quoted(group)} stands in {earlier.split} too, with {quoted(earlier.picture.name)}"
            yield Problem("group_divided", _name(entry.picture, dataset), None, message)


def _classes_without_examples(dataset: Dataset, entries: Sequence[_Entry]) -> tuple[list[Problem], list[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        counts[entry.split].update(entry.classes)
    if dataset.made_by_drivetl and not any(entry.stored.boxes for entry in entries if entry.stored is not None):
        # An import makes such a dataset only of a folder that has no labels.
        return [], ["No picture is labelled: train on it with --recipe unlabelled; nothing can be measured on it."]
    problems, notes = [], []
    yaml_name = _name(dataset.yaml_path, dataset)
    for name in dataset.names:
        if not any(found[name] for found in counts.values()):
            message = f"the class {quoted(name)} has no example"
            problems.append(Problem("class_without_examples", yaml_name, None, message))
        elif HELD_OUT in counts and not any(found[name] for split, found in counts.items() if split != HELD_OUT):
            notes.append(f"The class {quoted(name)} has examples in {HELD_OUT} alone, so that it cannot be learned.")
        elif "train" in counts and not counts["train"][name]:
            message = f"the class {quoted(name)} has no example in train"
            problems.append(Problem("class_without_examples", yaml_name, None, message))
        else:
            absent = [split for split, found in counts.items() if not found[name]]
            notes += [
                f"The class {quoted(name)} has no example in {split}, so it gets no figure there." for split in absent
            ]
    return problems, notes


def _name(path: Path, dataset: Dataset) -> str:
    return path.relative_to(dataset.root).as_posix() if path.is_relative_to(dataset.root) else str(path)
