"""What became of every detection, by COCO's greedy matching.

The evaluator that `drivetl.evaluate.scoring` uses keeps its matches to itself; the bootstrap needs them, because it
weighs the pictures anew a thousand times and must not match a thousand times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.boxes import IOU_THRESHOLDS, MAX_DETECTIONS, Found, Truth, most_confident
from drivetl.evaluate.overlaps import Overlaps, assign, overlaps

__all__ = [
    "IOU_THRESHOLDS",
    "MAX_DETECTIONS",
    "ClassMatches",
    "Found",
    "Matches",
    "Truth",
    "match",
    "match_part",
    "most_confident",
]


@dataclass(frozen=True, slots=True)
class ClassMatches:
    """What became of every detection of one class, most confident first; equal scores in the order of pictures.

    Attributes:
        picture: int64 ``(n,)``: the detection's picture.
        confidence: float32 ``(n,)``.
        hit: bool ``(10, n)``: found a box of its own, at each of `IOU_THRESHOLDS`.
        ignored: bool ``(10, n)``: absorbed by a crowd; neither hit nor miss.
        boxes: int64 ``(pictures,)``: boxes to be found in each picture.
    """

    picture: NDArray[np.int64]
    confidence: NDArray[np.float32]
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    boxes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Matches:
    """The matches of every class, in the order of class ids.

    Attributes:
        classes: one entry a class.
        pictures: number of pictures.
    """

    classes: tuple[ClassMatches, ...]
    pictures: int

    @property
    def boxes(self) -> NDArray[np.int64]:
        """Boxes of each class, int64 ``(classes,)``."""
        return np.array([entry.boxes.sum() for entry in self.classes], dtype=np.int64)

    def subset(self, pictures: Sequence[int]) -> Matches:
        """Return the matches of some pictures, which are numbered anew in the given order."""
        number = np.full(self.pictures, -1, dtype=np.int64)
        number[list(pictures)] = np.arange(len(pictures))
        return Matches(tuple(_restricted(entry, number, pictures) for entry in self.classes), len(pictures))

    def counted(self) -> Matches:
        """Return the matches without detections that are ignored at every threshold, which changes no AP."""
        classes = []
        for entry in self.classes:
            kept = ~entry.ignored.all(axis=0)
            columns = entry.picture[kept], entry.confidence[kept], entry.hit[:, kept], entry.ignored[:, kept]
            classes.append(ClassMatches(*columns, entry.boxes))
        return Matches(tuple(classes), self.pictures)

    @staticmethod
    def joined(parts: Sequence[Matches]) -> Matches:
        """Return several sets of pictures with the same classes as one set, one after another."""
        if len(parts) == 1:
            return parts[0]
        before = np.cumsum([0, *(part.pictures for part in parts[:-1])])
        columns = zip(*(part.classes for part in parts), strict=True)
        return Matches(tuple(_joined(entries, before) for entries in columns), sum(part.pictures for part in parts))


def match(truth: Truth, found: Found) -> Matches:
    """Match as COCO does (Lin et al. 2014; ``pycocotools.cocoeval``).

    In each picture and class the 100 most confident detections choose, in the order of confidence, the free box that
    they overlap most, if that overlap reaches the threshold. A detection left without one is ignored where its overlap
    with a crowd, measured as intersection over its own area, reaches the threshold; a crowd takes any number.
    """
    found = most_confident(found, truth.classes)
    return match_part(truth, found, overlaps(truth, found), ~truth.crowd, np.ones(len(found), dtype=bool))


def match_part(
    truth: Truth,
    found: Found,
    pairs: Overlaps,
    wanted: NDArray[np.bool_],
    counted: NDArray[np.bool_],
) -> Matches:
    """Match against some of the boxes, as COCO does for its area ranges; the other boxes are there but not to be found.

    A detection chooses among the wanted boxes first. One that finds an unwanted box instead, or none although it is
    not counted, is ignored.

    Args:
        truth: all boxes.
        found: detections from `most_confident`.
        pairs: their overlaps within each class.
        wanted: bool ``(boxes,)``: boxes to be found; a crowd is never wanted.
        counted: bool ``(detections,)``: whether one that finds no box is a false alarm.
    """
    size = len(found), len(truth.picture)
    wanted = wanted & ~truth.crowd
    of_wanted = wanted[pairs.box]
    hit = assign(pairs.only(of_wanted), size, IOU_THRESHOLDS) >= 0
    other = assign(pairs.only(~of_wanted), size, IOU_THRESHOLDS, reusable=truth.crowd, barred=hit) >= 0
    ignored = ~hit & (other | ~counted)
    classes = []
    for class_id in range(truth.classes):
        of_class = np.flatnonzero(found.class_id == class_id)
        order = of_class[np.argsort(-found.confidence[of_class], kind="stable")]
        boxes = np.bincount(truth.picture[(truth.class_id == class_id) & wanted], minlength=truth.pictures)
        columns = found.picture[order], found.confidence[order], hit[:, order], ignored[:, order]
        classes.append(ClassMatches(*columns, boxes.astype(np.int64)))
    return Matches(tuple(classes), truth.pictures)


def _restricted(entry: ClassMatches, number: NDArray[np.int64], pictures: Sequence[int]) -> ClassMatches:
    picture = number[entry.picture]
    # Equal scores keep standing in the order of pictures, as if the subset had been matched on its own.
    kept = np.flatnonzero(picture >= 0)
    kept = kept[np.lexsort((picture[kept], -entry.confidence[kept]))]
    boxes = entry.boxes[list(pictures)]
    return ClassMatches(picture[kept], entry.confidence[kept], entry.hit[:, kept], entry.ignored[:, kept], boxes)


def _joined(entries: Sequence[ClassMatches], before: NDArray[np.int64]) -> ClassMatches:
    confidence = np.concatenate([entry.confidence for entry in entries])
    order = np.argsort(-confidence, kind="stable")
    picture = np.concatenate([entry.picture + offset for entry, offset in zip(entries, before, strict=True)])
    return ClassMatches(
        picture[order],
        confidence[order],
        np.concatenate([entry.hit for entry in entries], axis=1)[:, order],
        np.concatenate([entry.ignored for entry in entries], axis=1)[:, order],
        np.concatenate([entry.boxes for entry in entries]),
    )
