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
    drives = _drives(source, labels.parent)
    reading = Reading(_samples(label_files, pictures, drives), len(label_files))
    unlabelled = len(pictures) - len(label_files)
    if unlabelled:
        reading.notes.append(f"{unlabelled} pictures without a label file were left out.")
    if drives:
        reading.notes.append("Pictures of one drive form a group, by the development kit's mapping.")
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


def _drives(source: Path, training: Path) -> dict[str, str]:
    """Return the drive of each frame from the kit's ``mapping/``, or nothing where it is not beside the labels.

    Line n of train_rand.txt holds the line number, from 1, in train_mapping.txt that frame n was taken from; that
    line holds date, drive and frame.
    """
    for folder in (source / "mapping", training / "mapping", source / "devkit_object" / "mapping"):
        order, lines = folder / "train_rand.txt", folder / "train_mapping.txt"
        if order.is_file() and lines.is_file():
            mapping = [text.split() for _, text in label_lines(lines)]
            positions = next((text for _, text in label_lines(order)), "").replace(",", " ").split()
            try:
                return {f"{frame:06d}": mapping[int(line) - 1][1] for frame, line in enumerate(positions)}
            except (IndexError, ValueError) as error:
                raise DatasetError(
                    f"{quoted(order)} does not fit {quoted(lines)}; restore both from the kit"
                ) from error
    return {}
