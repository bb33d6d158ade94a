"""YOLO label lines: ``class centre_x centre_y width height``, as fractions of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from drivetl.data.records import Box, Xyxy
from drivetl.errors import DatasetError, quoted
from drivetl.files import read_limited

__all__ = [
    "LabelLineError",
    "clipped",
    "label_line",
    "label_lines",
    "parse_label_line",
    "read_boxes",
    "read_fractions",
]

_LIMIT_BYTES = 16 << 20
# Labels of objects that leave the picture reach a little beyond 1. A box of which a number is above 2 would be at least
# half outside; pixels are above it everywhere but in the very corner.
_LARGEST_FRACTION = 2.0
# In pictures. What lies beyond overflows where areas are computed.
_LIMIT_FRACTION = 1e6


class LabelLineError(ValueError):
    """One label line cannot be used.

    ``kind`` names the defect for `drivetl.data.check_dataset`, ``remedy`` says what helps.
    """

    def __init__(self, kind: str, message: str, remedy: str = "correct or remove the line") -> None:
        super().__init__(message)
        self.kind = kind
        self.remedy = remedy


def label_line(class_id: int, xyxy_px: Xyxy, size_hw: tuple[int, int]) -> str:
    """Return one YOLO label line; eight decimals keep a box to a ten-thousandth of a pixel."""
    height, width = size_hw
    left, top, right, bottom = xyxy_px
    centre_x, centre_y = (left + right) / 2 / width, (top + bottom) / 2 / height
    return f"{class_id} {centre_x:.8f} {centre_y:.8f} {(right - left) / width:.8f} {(bottom - top) / height:.8f}"


def label_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and text of every line that is not blank; editors on Windows put a BOM before them.

    Raises:
        DatasetError: the file cannot be read as text of at most 16 MiB.
    """
    try:
        text = read_limited(path, _LIMIT_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(f"the label file {quoted(path)} cannot be read as text: {quoted(error)}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def parse_label_line(
    line: str, class_count: int, keypoint_columns: int = 0
) -> tuple[int, tuple[float, float, float, float]]:
    """Return class id and ``left, top, right, bottom`` as fractions of the picture; they may lie outside 0 to 1.

    A line with six or more coordinates is a polygon, as Ultralytics' segmentation labels have it; its extent is
    the box. In a dataset of poses (``kpt_shape`` in its YAML) it is a box, then ``keypoint_columns`` of keypoints.

    Raises:
        LabelLineError: wrong number of columns, not numbers, NaN, an unknown class id, no area, or so far away that the
            numbers must be pixels.
    """
    columns = line.split()
    if keypoint_columns and len(columns) != 5 + keypoint_columns:
        raise LabelLineError(
            "label_malformed",
            f"has {len(columns)} columns; with this kpt_shape a line has {5 + keypoint_columns}: 'class centre_x "
            "centre_y width height' and the keypoints",
        )
    if not keypoint_columns and len(columns) != 5 and (len(columns) < 7 or len(columns) % 2 == 0):
        raise LabelLineError(
            "label_malformed", f"has {len(columns)} columns; a line is 'class centre_x centre_y width height'"
        )
    try:
        number, *values = (float(column) for column in columns)
    except ValueError as error:
        raise LabelLineError(
            "label_malformed", f"{quoted(line.strip(), 60)} holds something that is no number"
        ) from error
    if not all(math.isfinite(value) for value in (number, *values)):
        raise LabelLineError("box_nan", f"{quoted(line.strip(), 60)} holds NaN or infinity")
    if number != int(number) or not 0 <= number < class_count:
        raise LabelLineError(
            "unknown_class", f"has the class id {quoted(columns[0], 20)}; the dataset has ids 0 to {class_count - 1}"
        )
    if len(values) == 4 or keypoint_columns:
        centre_x, centre_y, width, height = values[:4]
        box = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
    else:
        box = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    if max(values[:4] if keypoint_columns else values) > _LARGEST_FRACTION:
        raise LabelLineError(
            "label_in_pixels",
            f"{quoted(line.strip(), 60)} looks like pixels, where YOLO has fractions of the picture",
            "divide what is horizontal by the picture's width, and what is vertical by its height",
        )
    if not all(abs(value) <= _LIMIT_FRACTION for value in box):
        raise LabelLineError(
            "box_outside", f"{quoted(line.strip(), 60)} is a box far outside the picture; coordinates are fractions"
        )
    if box[2] <= box[0] or box[3] <= box[1]:
        raise LabelLineError("box_area", f"{quoted(line.strip(), 60)} is a box without area")
    return int(number), box


def clipped(xyxy_px: Xyxy, size_hw: tuple[int, int]) -> Xyxy:
    """Return the part of a box that lies in the picture; it may have no area."""
    height, width = size_hw
    left, top, right, bottom = xyxy_px
    return (
        min(max(left, 0.0), float(width)),
        min(max(top, 0.0), float(height)),
        min(max(right, 0.0), float(width)),
        min(max(bottom, 0.0), float(height)),
    )


def read_fractions(
    path: Path, class_count: int, keypoint_columns: int = 0
) -> Iterator[tuple[int, str, int, tuple[float, float, float, float]]]:
    """Yield every line of a label file: number and text, then class id and box as `parse_label_line` gives them.

    Raises:
        DatasetError: the file or a line cannot be used; the message gives file and line.
    """
    for number, line in label_lines(path):
        try:
            class_id, box = parse_label_line(line, class_count, keypoint_columns)
        except LabelLineError as error:
            raise DatasetError(f"{quoted(path)}, line {number}: the label {error}; {error.remedy}") from error
        yield number, line, class_id, box


def read_boxes(
    path: Path, names: Sequence[str], size_hw: tuple[int, int], keypoint_columns: int = 0
) -> tuple[Box, ...]:
    """Return the boxes of a label file in pixels, unclipped; ``keypoint_columns`` as in `parse_label_line`.

    Raises:
        DatasetError: a line cannot be used; the message gives file and line.
    """
    height, width = size_hw
    return tuple(
        Box(names[class_id], (left * width, top * height, right * width, bottom * height))
        for _, _, class_id, (left, top, right, bottom) in read_fractions(path, len(names), keypoint_columns)
    )
