"""Labelled boxes and detections of a set of pictures, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IOU_THRESHOLDS", "MAX_DETECTIONS", "Found", "Truth", "most_confident"]

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
# Of one class in one picture, as COCO's AP has it.
MAX_DETECTIONS = 100


@dataclass(frozen=True, slots=True)
class Truth:
    """The labelled boxes of a set of pictures, one row a box.

    Attributes:
        picture: int64 ``(n,)``: number of the picture.
        class_id: int64 ``(n,)``.
        xywh_px: float64 ``(n, 4)``: left, top, width, height.
        crowd: bool ``(n,)``: a region that absorbs detections and need not be found.
        pictures: how many pictures there are, those without a box included.
        classes: how many classes there are.
    """

    picture: NDArray[np.int64]
    class_id: NDArray[np.int64]
    xywh_px: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    pictures: int
    classes: int

    @classmethod
    def of(cls, annotations: Iterable[Mapping[str, Any]], pictures: int, classes: int) -> Truth:
        """Take COCO annotations (``image_id``, ``category_id``, ``bbox``, ``iscrowd``) whose ids count from 0."""
        # Number by number: a split may have a million boxes, and as rows of Python they would take half a gigabyte.
        rows = ((a["image_id"], a["category_id"], a["iscrowd"], *a["bbox"]) for a in annotations)
        table = np.fromiter((number for row in rows for number in row), np.float64).reshape(-1, 7)
        ids = table[:, :2].astype(np.int64)
        return cls(ids[:, 0], ids[:, 1], table[:, 3:], table[:, 2] > 0, pictures, classes)


@dataclass(frozen=True, slots=True)
class Found:
    """The detections of a set of pictures, one row a detection, in any order.

    Attributes:
        picture: int64 ``(n,)``: number of the picture.
        class_id: int64 ``(n,)``.
        xywh_px: float32 ``(n, 4)``: left, top, width, height.
        confidence: float32 ``(n,)`` in [0, 1].
    """

    picture: NDArray[np.int64]
    class_id: NDArray[np.int64]
    xywh_px: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.confidence)

    def rows(self, index: NDArray[np.intp]) -> Found:
        """Return the detections at the given places, in their order."""
        return Found(self.picture[index], self.class_id[index], self.xywh_px[index], self.confidence[index])


def most_confident(found: Found, classes: int) -> Found:
    """Return the detections by picture and class, most confident first, at most 100 of each: those that count."""
    key = found.picture * classes + found.class_id
    order = np.lexsort((-found.confidence, key))
    _, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, counts)
    return found.rows(order[rank < MAX_DETECTIONS])
