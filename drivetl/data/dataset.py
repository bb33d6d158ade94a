"""Open a dataset: one that drivetl wrote, or any YOLO layout with a ``data.yaml``."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from drivetl.config import load_yaml
from drivetl.data.class_names import case_notes, class_names
from drivetl.data.clipping import Clipping, clipping_notes
from drivetl.data.labels import read_boxes
from drivetl.data.pictures import UNREAD_ENDINGS, is_picture, picture_size_hw
from drivetl.data.places import (
    SPLITS,
    VAL_ALIASES,
    exists,
    label_path,
    listed_in,
    places_of,
    unread_keys,
    without_repeats,
)
from drivetl.data.recordings import named_groups
from drivetl.data.records import Sample
from drivetl.data.sample_lines import fingerprint, picture_of, sample_from, stored_lines
from drivetl.errors import DatasetError, quoted
from drivetl.files import files_below

__all__ = ["Dataset", "find_yaml", "label_path", "leave_out", "open_dataset", "unread_note", "unread_pictures"]

SAMPLES_FILE = "samples.jsonl"
YAML_FILE = "data.yaml"


def find_yaml(path: Path) -> Path | None:
    """Return the dataset's YAML: ``path`` itself if it is one, else ``data.yaml`` or ``data.yml`` inside it."""
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return path
    return next((path / name for name in (YAML_FILE, "data.yml") if (path / name).is_file()), None)


def unread_pictures(folder: Path) -> list[Path]:
    """Return the pictures below a folder that have a label and a format that Ultralytics reads and drivetl does not."""
    unread = (path for path in files_below(folder) if path.suffix.lower() in UNREAD_ENDINGS)
    return [path for path in unread if label_path(path).is_file()]


def unread_note(pictures: Sequence[Path]) -> str:
    """Return a sentence, without its full stop, on what `unread_pictures` found."""
    return (
        f"{len(pictures)} labelled pictures such as {quoted(pictures[0].name)} are left out, because drivetl does not "
        "read their format; convert them to PNG"
    )


def open_dataset(path: Path) -> Dataset:
    """Open the dataset in a folder, or the one that a ``data.yaml`` describes.

    Raises:
        DatasetError: there is no dataset, or its files contradict the schema.
        ConfigError: ``data.yaml`` is not readable YAML.
    """
    path = Path(path)
    if not exists(path):
        raise DatasetError(
            f"there is no dataset {quoted(path)}; make one with: drivetl data import FORMAT SOURCE --out DATASET"
        )
    yaml_path = find_yaml(path)
    if yaml_path is None:
        if path.is_dir() and any(is_picture(file) for file in path.iterdir()):
            raise DatasetError(
                f"{quoted(path)} is a folder of pictures without a {YAML_FILE}; if nobody has labelled them, make a "
                f"dataset of them with: drivetl data import yolo {shlex.quote(str(path))} --names coco --out DATASET"
            )
        raise DatasetError(
            f"{quoted(path)} has no {YAML_FILE}; give a dataset folder, or make one with: "
            "drivetl data import FORMAT SOURCE --out DATASET"
        )
    return Dataset(yaml_path)


def leave_out(samples: Iterable[Sample], datasets: Iterable[str]) -> Iterator[Sample]:
    """Yield the samples whose attribute ``dataset`` (see `drivetl.data.merge_datasets`) is none of ``datasets``."""
    without = frozenset(datasets)
    return (sample for sample in samples if sample.attributes.get("dataset") not in without)


class Dataset:
    """A dataset on disk. Nothing but the YAML is read until it is asked for.

    Attributes:
        yaml_path: the ``data.yaml``, which Ultralytics can train on where drivetl wrote it. For a stranger's YAML
            prefer `training_document`: it has absolute paths and no ``download``.
        root: the folder of the YAML.
        names: class names in the order of their ids.
        notes: sentences about what was ignored, and about a stranger's repeated pictures and boxes that left their
            pictures, as far as they were read; for the verbs to print.
        keypoint_columns: how many columns of keypoints follow each box, in a stranger's dataset of poses.
        made_by_drivetl: whether ``samples.jsonl`` is there, with groups, ignore regions and conditions.
    """

    def __init__(self, yaml_path: Path, notes: Sequence[str] = ()) -> None:
        """Open the dataset of a YAML; ``notes`` are more sentences, on what became of the dataset it was made from.

        Raises:
            DatasetError, ConfigError: as `open_dataset`.
        """
        self.yaml_path = yaml_path.absolute()
        self.root = self.yaml_path.parent
        self.samples_path = self.root / SAMPLES_FILE
        self.made_by_drivetl = self.samples_path.is_file()
        self._document = load_yaml(self.yaml_path)
        for name in VAL_ALIASES:
            self._document["val"] = self._document.get("val") or self._document.get(name)
        self.names = class_names(self._document, self.yaml_path)
        self.keypoint_columns = 0 if self.made_by_drivetl else self._read_keypoint_columns()
        self._notes = list(notes)
        self._repeats: dict[str, str] = {}
        self._clipping: dict[str, Clipping] = {}
        if "download" in self._document:
            self._notes.append(
                f"The key 'download' of {quoted(yaml_path)} is ignored: drivetl neither fetches nor runs what a "
                "dataset file names."
            )
        self._notes += case_notes(self.names, yaml_path)

    @property
    def notes(self) -> tuple[str, ...]:
        clipping = clipping_notes(self._clipping.values(), f" of {quoted(self.root)}")
        unread_keys = (f"T{clause[1:]}." for clause in self._unread_keys)
        return (*self._notes, *unread_keys, *self._repeats.values(), *clipping)

    @cached_property
    def _unread_keys(self) -> tuple[str, ...]:
        if self.made_by_drivetl:
            return ()
        return tuple(unread_keys(self._document, self._split_keys(), self.yaml_path))

    @cached_property
    def splits(self) -> dict[str, int]:
        """Number of pictures of each split.

        Raises:
            DatasetError: the files cannot be read, or the YAML names a split without any picture in whatever format.
        """
        if self.made_by_drivetl:
            counts = Counter(str(document.get("split")) for _, document in stored_lines(self.samples_path))
        else:
            counts = Counter({split: len(self._listed(split)) for split in self._split_keys()})
        ordered = sorted(counts, key=lambda split: (SPLITS.index(split) if split in SPLITS else len(SPLITS), split))
        found = {split: counts[split] for split in ordered if counts[split]}
        if not found and self.unread:
            raise DatasetError(f"{quoted(self.root)} has no picture that drivetl reads: {unread_note(self.unread)}")
        if not found:
            hint = "; ".join(self._unread_keys) or f"check the paths in {quoted(self.yaml_path)}"
            raise DatasetError(f"the dataset {quoted(self.root)} has no pictures; {hint}")
        for split in counts.keys() - found.keys():
            self._refuse_empty(split)
        return found

    def _refuse_empty(self, split: str) -> None:
        """Refuse a split whose pictures are nowhere; of what is there in another format, `unread` tells."""
        places = self._places(split)
        if any(unread_pictures(place) for place in places if place.is_dir()):
            return
        raise DatasetError(
            f"{quoted(self.yaml_path)}: {quoted(split)} names {', '.join(map(quoted, places))} without any picture; "
            f"correct the path, or remove {quoted(split)}"
        )

    @cached_property
    def unread(self) -> list[Path]:
        """What `unread_pictures` finds in the folders of a stranger's splits."""
        keys = () if self.made_by_drivetl else self._split_keys()
        places = (place for split in keys for place in self._places(split) if place.is_dir())
        return without_repeats(path for place in places for path in unread_pictures(place))[0]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over class names, labels and the sizes and lengths of the pictures; see `sample_lines.fingerprint`.

        For a stranger's dataset it covers relative picture paths, file lengths and label texts.
        """
        if not self.made_by_drivetl:
            return fingerprint(self.names, (self._stranger_line(s, p) for s in self.splits for p in self._listed(s)))
        try:
            with self.samples_path.open(encoding="utf-8") as handle:
                return fingerprint(self.names, handle)
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"cannot read {quoted(self.samples_path)}: {quoted(error)}") from error

    def samples(self, split: str) -> Iterator[Sample]:
        """Yield the pictures of a split one by one, in a fixed order. Memory does not grow with their number.

        A stranger's boxes are cut to their pictures; of what has no area there, ``notes`` tells.

        Raises:
            DatasetError: there is no such split (raised at once), or, while iterating, a file cannot be used.
        """
        samples = self.unclipped(split)
        return samples if self.made_by_drivetl else self._cut(samples, split)

    def unclipped(self, split: str) -> Iterator[Sample]:
        """Yield what `samples` does, with boxes as the label files have them; errors as there."""
        if split not in self.splits:
            known = "; ".join([", ".join(self.splits), *self._unread_keys])
            raise DatasetError(f"the dataset {quoted(self.root)} has no split {quoted(split)}; it has {known}")
        return self._stored(split) if self.made_by_drivetl else self._stranger(split)

    def pictures(self, split: str) -> list[Path]:
        """Return the pictures of a split without reading labels or headers; errors as in `samples`."""
        if split not in self.splits:
            self.samples(split)
        if not self.made_by_drivetl:
            return list(self._listed(split))
        return [
            picture_of(document, self.root, self._line(number))
            for number, document in stored_lines(self.samples_path)
            if document.get("split") == split
        ]

    def training_document(self) -> dict[str, object]:
        """Return what a ``data.yaml`` for Ultralytics needs, with absolute paths and nothing that runs.

        Raises:
            DatasetError: the labels hold keypoints, which a detector's loader takes for corners of polygons.
        """
        if self.keypoint_columns:
            raise DatasetError(
                f"{quoted(self.yaml_path)} has labels of poses ('kpt_shape'), which cannot be trained on as they are; "
                "make a dataset of their boxes with: drivetl data import yolo"
            )
        paths: dict[str, object] = {}
        for split in self.splits:
            if self.made_by_drivetl:
                paths[split] = str(self.root / "images" / split)
            else:
                places = [str(place) for place in self._places(split)]
                paths[split] = places[0] if len(places) == 1 else places
        return {"path": str(self.root), **paths, "names": dict(enumerate(self.names))}

    def needs_list(self, split: str) -> bool:
        """Whether Ultralytics must be given the pictures of a split one by one, and not its places.

        It takes the paths in a list file from where the program was started, and a picture as often as it is named.
        """
        if self.made_by_drivetl:
            return False
        self._listed(split)
        return split in self._repeats or any(place.is_file() for place in self._places(split))

    def _stored(self, split: str) -> Iterator[Sample]:
        for number, document in stored_lines(self.samples_path):
            if document.get("split") == split:
                sample = sample_from(document, self.root, self._line(number))
                named = (*(box.class_name for box in sample.boxes), *(region.class_name for region in sample.ignore))
                for name in named:
                    if name is not None and name not in self.names:
                        raise DatasetError(
                            f"{self._line(number)}: the class {quoted(name)} is not in 'names' of "
                            f"{quoted(self.yaml_path)}; put the names back as they were, or import again"
                        )
                yield sample

    def _line(self, number: int) -> str:
        return f"{quoted(self.samples_path)}, line {number}"

    def _stranger(self, split: str) -> Iterator[Sample]:
        for path in self._listed(split):
            size_hw = picture_size_hw(path)
            labels = label_path(path)
            boxes = read_boxes(labels, self.names, size_hw, self.keypoint_columns) if labels.is_file() else ()
            yield Sample(path, size_hw, split, self._name_groups[split, path], boxes)

    def _cut(self, samples: Iterator[Sample], split: str) -> Iterator[Sample]:
        clipping = self._clipping[split] = Clipping()  # a split that is read again is counted anew
        for sample in samples:
            inside = ((box, clipping.inside(box.xyxy_px, sample.image, sample.size_hw)) for box in sample.boxes)
            boxes = tuple(replace(box, xyxy_px=xyxy_px) for box, xyxy_px in inside if xyxy_px is not None)
            yield replace(sample, boxes=boxes)

    @cached_property
    def _name_groups(self) -> dict[tuple[str, Path], str]:
        """The group of each picture of a stranger's, by the names of all."""
        listed = [(split, path) for split in self._split_keys() for path in self._listed(split)]
        named = named_groups([path for _, path in listed], [split for split, _ in listed])
        return dict(zip(listed, named.groups, strict=True))

    def _stranger_line(self, split: str, path: Path) -> str:
        relative = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        labels = label_path(path)
        length = path.stat().st_size if path.is_file() else -1
        text = labels.read_bytes().decode("utf-8", "replace") if labels.is_file() else ""
        return f"{split}\0{relative}\0{length}\0{text}"

    def _read_keypoint_columns(self) -> int:
        """Return the number of columns that ``kpt_shape`` [points, 2 or 3 values each] adds to a label line."""
        shape = self._document.get("kpt_shape")
        if shape is None:
            return 0
        if (
            not isinstance(shape, list)
            or len(shape) != 2
            or not all(type(value) is int and value > 0 for value in shape)
            or shape[1] not in (2, 3)
        ):
            raise DatasetError(
                f"{quoted(self.yaml_path)}: 'kpt_shape' is {quoted(shape, 40)}, not [number of keypoints, 2 or 3]; "
                "correct it, or remove it if the labels have no keypoints"
            )
        return int(shape[0] * shape[1])

    def _split_keys(self) -> list[str]:
        return [split for split in SPLITS if self._document.get(split)]

    def _places(self, split: str) -> list[Path]:
        return places_of(self._document, split, self.yaml_path)

    def _listed(self, split: str) -> list[Path]:
        found: list[Path] = []
        for place in self._places(split):
            if place.is_dir():
                found += [path.absolute() for path in files_below(place) if is_picture(path)]
            else:
                found += listed_in(place)
        once, again = without_repeats(found)
        if again:
            self._repeats[split] = (
                f"{len(again)} of the {len(found)} pictures that {quoted(split)} of {quoted(self.yaml_path)} names "
                f"stand in it already, the first is {quoted(again[0].name)}; each is taken once."
            )
        return once
