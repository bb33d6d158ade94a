"""KITTI 2D object detection: ``image_2/`` and ``label_2/``, one text line an object.

Source of the schema: readme.txt of the object development kit (A. Geiger, P. Lenz, R. Urtasun, CVPR 2012).
Columns: type, truncated (0..1), occluded (0..3), alpha, left, top, right, bottom, height, width, length, x, y, z,
rotation_y and, in result files, a score. Pixel coordinates start at 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drivetl.data.labels import label_lines
from drivetl.data.pictures import picture_size_hw
from drivetl.data.readers.common import Reading, Request, finite, first_folder, pictures_by_name, xyxy_from
from drivetl.data.records import Box, Sample
from drivetl.errors import DatasetError, quoted

__all__ = ["read"]

_COLUMNS = (15, 16)
_MAPPING = ("train_rand.txt", "train_mapping.txt")


def read(request: Request) -> Reading:
    """Read the object set; it has one labelled split, so every sample's split is open.

    Raises:
        DatasetError: folders are missing, a label has no picture, or a line does not fit the schema.
    """
    source = request.source
    labels = first_folder(source, ("label_2", "training/label_2"), "labels")
    pictures = pictures_by_name(first_folder(labels.parent, ("image_2",), "pictures"), stem=True)
    label_files = sorted(labels.glob("*.txt"))
    for path in label_files:
        if path.stem not in pictures:
            raise DatasetError(
                f"the label file {quoted(path)} has no picture in image_2/; restore it or remove the label"
            )
    places = _mapping_places(labels.parent)
    mapping = next((place for place in places if all((place / name).is_file() for name in _MAPPING)), None)
    drives = {} if mapping is None else _drives(mapping)
    reading = Reading(_samples(label_files, pictures, drives), len(label_files))
    unlabelled = len(pictures) - len(label_files)
    if unlabelled:
        reading.notes.append(f"{unlabelled} pictures without a label file were left out.")
    reading.notes.append(
        f"Pictures of one drive form a group, by the development kit's mapping in {quoted(mapping)}."
        if drives
        else "Near-identical pictures alone form groups, because the development kit's mapping of frames to drives was "
        f"not found; it is looked for in {', '.join(quoted(place) for place in places)}."
    )
    return reading


def _samples(label_files: list[Path], pictures: dict[str, Path], drives: dict[str, str]) -> Iterator[Sample]:
    for path in label_files:
        image = pictures[path.stem]
        boxes = tuple(_box(line, f"{quoted(path)}, line {number}") for number, line in label_lines(path))
        yield Sample(image, picture_size_hw(image), "", drives.get(path.stem, ""), boxes)


def _box(line: str, where: str) -> Box:
    columns = line.split()
    if len(columns) not in _COLUMNS:
        raise DatasetError(f"{where}: {len(columns)} columns where KITTI has 15, or 16 with a score; correct the line")
    truncated = finite(columns[1], where)
    occluded = finite(columns[2], where)
    # DontCare has -1 in both: nobody looked.
    attributes = {} if truncated < 0 else {"truncated": truncated, "occluded": int(occluded)}
    return Box(columns[0], xyxy_from(columns[4:8], where), attributes)


def _mapping_places(training: Path) -> list[Path]:
    """Return where the kit's ``mapping/`` may lie: with the labels or one folder up, as it is or in the kit's own.

    The archives of KITTI unpack to ``training/``; the kit's has no such folder around it, and is put beside.
    """
    top = training.absolute()  # of the path ".", too, the parent is wanted
    return [folder / place for folder in (top, top.parent) for place in ("mapping", "devkit_object/mapping")]


def _drives(mapping: Path) -> dict[str, str]:
    """Return the drive of each frame from the kit's ``mapping/``.

    Line n of train_rand.txt holds the line number, from 1, in train_mapping.txt that frame n was taken from; that
    line holds date, drive and frame.

    Raises:
        DatasetError: the two files do not fit each other.
    """
    order, lines = (mapping / name for name in _MAPPING)
    rows = [text.split() for _, text in label_lines(lines)]
    positions = next((text for _, text in label_lines(order)), "").replace(",", " ").split()
    try:
        return {f"{frame:06d}": rows[int(line) - 1][1] for frame, line in enumerate(positions)}
    except (IndexError, ValueError) as error:
        raise DatasetError(f"{quoted(order)} does not fit {quoted(lines)}; restore both from the kit") from error
