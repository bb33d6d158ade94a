"""What is in a dataset: classes, sizes, conditions and positions, as numbers and as a picture drawn with OpenCV."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.data.dataset import open_dataset
from drivetl.data.records import Sample
from drivetl.progress import Progress, silent, tracked

__all__ = ["SIZE_EDGES_PX", "DatasetStats", "dataset_stats", "draw_stats"]

# Square root of the box area. 32 and 96 are COCO's borders between small, medium and large.
SIZE_EDGES_PX = (0, 8, 16, 32, 64, 96, 128, 256, 512)
POSITION_CELLS = 16
_MOST_VALUES = 12
_SIZE_LABELS = (*(f"{low}-{high}" for low, high in pairwise(SIZE_EDGES_PX)), f"{SIZE_EDGES_PX[-1]}+")
_PER_PICTURE_EDGES = (0, 1, 2, 5, 10, 20, 50)
_PER_PICTURE_LABELS = ("0", "1", "2-4", "5-9", "10-19", "20-49", "50+")


@dataclass(frozen=True)
class DatasetStats:
    """Counts over a dataset.

    Attributes:
        images, boxes, ignore_regions: totals.
        splits: pictures of each split.
        per_class: boxes of each class in each split, zero included.
        sizes_px: boxes by the square root of their area, keyed ``8-16`` and ``512+``.
        boxes_per_picture: pictures by the number of their boxes.
        conditions: for each attribute of pictures, how many have each value (the 12 most frequent).
        position: box centres on a grid of 16 x 16 cells over the picture, row by row from the top.
    """

    images: int
    boxes: int
    ignore_regions: int
    splits: dict[str, int]
    per_class: dict[str, dict[str, int]]
    sizes_px: dict[str, int]
    boxes_per_picture: dict[str, int]
    conditions: dict[str, dict[str, int]]
    position: list[list[int]]


def dataset_stats(path: Path, progress: Progress = silent) -> DatasetStats:
    """Count what is in a dataset; reads labels and no pixels.

    Raises:
        DatasetError: there is no dataset, or its files cannot be used.
    """
    dataset = open_dataset(path)
    per_class = {name: dict.fromkeys(dataset.splits, 0) for name in dataset.names}
    sizes: Counter[str] = Counter()
    crowding: Counter[str] = Counter()
    conditions: dict[str, Counter[str]] = defaultdict(Counter)
    position = np.zeros((POSITION_CELLS, POSITION_CELLS), int)
    ignore_regions = 0
    samples = (sample for split in dataset.splits for sample in dataset.samples(split))
    for sample in tracked(samples, "counting", sum(dataset.splits.values()), progress):
        crowding[_bin(len(sample.boxes), _PER_PICTURE_EDGES, _PER_PICTURE_LABELS)] += 1
        ignore_regions += len(sample.ignore)
        for key, value in sample.attributes.items():
            conditions[key][str(value)] += 1
        for box in sample.boxes:
            left, top, right, bottom = box.xyxy_px
            per_class[box.class_name][sample.split] += 1
            side_px = float(np.sqrt((right - left) * (bottom - top)))
            sizes[_bin(side_px, SIZE_EDGES_PX, _SIZE_LABELS)] += 1
            position[_cell(sample, (left + right) / 2, (top + bottom) / 2)] += 1
    return DatasetStats(
        images=sum(dataset.splits.values()),
        boxes=sum(sizes.values()),
        ignore_regions=ignore_regions,
        splits=dataset.splits,
        per_class=per_class,
        sizes_px=_ordered(sizes, _SIZE_LABELS),
        boxes_per_picture=_ordered(crowding, _PER_PICTURE_LABELS),
        conditions={key: dict(counts.most_common(_MOST_VALUES)) for key, counts in sorted(conditions.items())},
        position=position.tolist(),
    )


def _cell(sample: Sample, x_px: float, y_px: float) -> tuple[int, int]:
    height, width = sample.size_hw
    row, column = (int(share * POSITION_CELLS) for share in (y_px / height, x_px / width))
    return min(max(row, 0), POSITION_CELLS - 1), min(max(column, 0), POSITION_CELLS - 1)


def _bin(value: float, edges: Sequence[int], labels: Sequence[str]) -> str:
    """Return the label of the bin ``low <= value < high`` that holds ``value``."""
    return labels[int(np.searchsorted(edges, value, side="right")) - 1]


def _ordered(counts: Mapping[str, int], labels: Sequence[str]) -> dict[str, int]:
    return {label: counts.get(label, 0) for label in labels}


_WIDTH, _MARGIN, _ROW, _LABEL_WIDTH = 640, 24, 24, 170
_INK, _BAR, _PAPER = (40, 40, 40), (178, 114, 0), (255, 255, 255)


def draw_stats(stats: DatasetStats) -> npt.NDArray[np.uint8]:
    """Return the histograms as one ``(height, 1280, 3)`` uint8 BGR picture."""
    left = [
        _bars("boxes per class", {name: sum(counts.values()) for name, counts in stats.per_class.items()}),
        _bars("pictures per split", stats.splits),
        _bars("pictures by number of boxes", stats.boxes_per_picture),
    ]
    right = [_bars("boxes by size, square root of area in px", stats.sizes_px), _heat_map(stats.position)]
    right += [_bars(f"pictures by {key}", counts) for key, counts in list(stats.conditions.items())[:4]]
    columns = [np.vstack(panels) for panels in (left, right)]
    height = max(len(column) for column in columns)
    padded = [
        cv2.copyMakeBorder(column, 0, height - len(column), 0, 0, cv2.BORDER_CONSTANT, value=_PAPER)
        for column in columns
    ]
    return np.asarray(np.hstack(padded), np.uint8)


def _panel(title: str, rows: int) -> npt.NDArray[np.uint8]:
    canvas = np.full((2 * _MARGIN + _ROW + rows, _WIDTH, 3), 255, np.uint8)
    _write(canvas, title, (_MARGIN, _MARGIN + 8), 0.6)
    return canvas


def _bars(title: str, counts: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    canvas = _panel(title, _ROW * len(counts))
    most = max(counts.values(), default=0) or 1
    room = _WIDTH - _LABEL_WIDTH - 2 * _MARGIN - 70
    for index, (name, count) in enumerate(counts.items()):
        top = _MARGIN + _ROW + index * _ROW
        _write(canvas, name[:20], (_MARGIN, top + 16), 0.5)
        start = _MARGIN + _LABEL_WIDTH
        end = start + round(room * count / most)
        cv2.rectangle(canvas, (start, top + 4), (end, top + _ROW - 4), _BAR, cv2.FILLED)
        _write(canvas, str(count), (end + 6, top + 16), 0.5)
    return canvas


def _heat_map(position: Sequence[Sequence[int]]) -> npt.NDArray[np.uint8]:
    height = 240
    canvas = _panel("where box centres lie in the picture", height)
    cells = np.asarray(position, np.float32)
    # The square root keeps rare positions visible beside the road's vanishing point.
    grey = np.sqrt(cells / max(float(cells.max()), 1.0)) * 255
    heat = cv2.applyColorMap(255 - grey.astype(np.uint8), cv2.COLORMAP_BONE)
    width = _WIDTH - 2 * _MARGIN
    top = _MARGIN + _ROW
    canvas[top : top + height, _MARGIN : _MARGIN + width] = cv2.resize(
        heat, (width, height), interpolation=cv2.INTER_NEAREST
    )
    cv2.rectangle(canvas, (_MARGIN, top), (_MARGIN + width, top + height), _INK, 1)
    return canvas


def _write(canvas: npt.NDArray[np.uint8], text: str, origin: tuple[int, int], scale: float) -> None:
    # OpenCV's fonts have ASCII only.
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    cv2.putText(canvas, plain, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
