"""YOLO layout: a ``data.yaml``, or bare ``images/`` and ``labels/`` with class names given by hand; or pictures alone.

Source of the schema: docs.ultralytics.com, "Object detection datasets". A picture without a label file is background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from drivetl.data.dataset import Dataset, find_yaml, label_path, unread_note, unread_pictures
from drivetl.data.labels import read_boxes
from drivetl.data.pictures import is_picture, picture_size_hw
from drivetl.data.readers.common import Reading, Request, first_folder
from drivetl.data.records import Sample
from drivetl.errors import DatasetError, quoted
from drivetl.files import files_below

__all__ = ["read"]

_LABEL_ENDINGS = (".txt", ".xml", ".json")


def read(request: Request) -> Reading:
    """Read the dataset that a ``data.yaml`` describes, or ``images/[<split>/]`` beside ``labels/[<split>/]``.

    A folder of pictures with no labels anywhere is unlabelled, all of it to train on.

    Raises:
        DatasetError: folders are missing, there are no class names, drivetl reads none of the pictures, or a label line
            cannot be used.
    """
    if (yaml := find_yaml(request.source)) is not None:
        dataset = Dataset(yaml)
        # As labelled: the import itself cuts boxes to their pictures, and tells of it.
        samples = (sample for split in dataset.splits for sample in dataset.unclipped(split))
        reading = Reading(samples, sum(dataset.splits.values()), dataset.names, notes=list(dataset.notes))
        if not dataset.made_by_drivetl:
            # There a group is only what the names say; they are compared once the splits are known.
            reading.by_folder = True
            reading.samples = (dataclasses.replace(sample, group="") for sample in samples)
            pictures = [path for split in dataset.splits for path in dataset.pictures(split)]
            reading.notes += _notes(pictures, dataset.unread)
        return reading
    if request.names is None:
        raise DatasetError(
            f"{quoted(request.source)} has no data.yaml, so the class names are unknown; pass --names FILE (one name a "
            "line, in the order of the ids) or --names coco"
        )
    if (frames := _unlabelled(request.source)) is not None:
        note = (
            f"{quoted(request.source)} has no labels, so its {len(frames)} pictures are all unlabelled, in the split "
            "'train'; learn from them with: drivetl train --recipe unlabelled."
        )
        alone = (Sample(path, picture_size_hw(path), "train", "", ()) for path in frames)
        return Reading(alone, len(frames), request.names, by_folder=True, unlabelled=True, notes=[note])
    first_folder(request.source, ("labels",), "label files")
    images = first_folder(request.source, ("images",), "pictures")
    pictures = [path for path in files_below(images) if is_picture(path)]
    unread = unread_pictures(images)
    if unread and not pictures:
        raise DatasetError(f"{quoted(images)} has no picture that drivetl reads: {unread_note(unread)}")
    bare = _samples(pictures, images, request.names)
    return Reading(bare, len(pictures), request.names, by_folder=True, notes=_notes(pictures, unread))


def _unlabelled(source: Path) -> list[Path] | None:
    """Return the pictures of a folder; None where something in it may be a label, if not where it is looked for."""
    if not source.is_dir() or (source / "labels").exists():
        return None
    files = files_below(source)
    pictures = [path for path in files if is_picture(path)]
    stems = {path.stem for path in pictures}
    if any(path.suffix.lower() in _LABEL_ENDINGS and path.stem in stems for path in files):
        return None
    return pictures or None


def _notes(pictures: list[Path], unread: list[Path]) -> list[str]:
    """Return notes on pictures that are left out, and on labels that are missing.

    The latter may be meant so, or the folder of labels may have another name.
    """
    notes = [f"{unread_note(unread)}."] if unread else []
    count = sum(not label_path(path).is_file() for path in pictures)
    return [*notes, f"{count} pictures without a label file are taken as background."] if count else notes


def _samples(pictures: list[Path], images: Path, names: tuple[str, ...]) -> Iterator[Sample]:
    for path in pictures:
        folders = path.relative_to(images).parts[:-1]
        size_hw = picture_size_hw(path)
        labels = label_path(path)
        boxes = read_boxes(labels, names, size_hw) if labels.is_file() else ()
        yield Sample(path, size_hw, folders[0] if folders else "", "", boxes)
