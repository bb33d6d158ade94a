"""COCO's greedy matching of detections to boxes, vectorised over the ten IoU thresholds and over pictures.

The evaluator that `drivetl.evaluate.scoring` uses keeps its matches to itself; the bootstrap needs them, because it
weighs the pictures anew a thousand times and must not match a thousand times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IOU_THRESHOLDS", "MAX_DETECTIONS", "ClassMatches", "Found", "Matches", "Truth", "match", "most_confident"]

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
# Of one class in one picture, as COCO's AP has it.
MAX_DETECTIONS = 100

# Pairs of a detection and a box that are compared at a time: bounds the memory at some 100 MB.
_PAIRS = 1_000_000


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
        rows = [(a["image_id"], a["category_id"], a["iscrowd"], *a["bbox"]) for a in annotations]
        table = np.array(rows, dtype=np.float64).reshape(-1, 7)
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
    hit = np.zeros((len(IOU_THRESHOLDS), len(found)), dtype=bool)
    crowd_iou = np.zeros(len(found))
    for detection, box, iou in _overlapping(truth, found):
        crowd = truth.crowd[box]
        np.maximum.at(crowd_iou, detection[crowd], iou[crowd])
        _assign(hit, detection[~crowd], box[~crowd], iou[~crowd])
    ignored = ~hit & (crowd_iou >= IOU_THRESHOLDS[:, None])
    classes = []
    for class_id in range(truth.classes):
        of_class = np.flatnonzero(found.class_id == class_id)
        order = of_class[np.argsort(-found.confidence[of_class], kind="stable")]
        wanted = truth.picture[(truth.class_id == class_id) & ~truth.crowd]
        boxes = np.bincount(wanted, minlength=truth.pictures).astype(np.int64)
        classes.append(
            ClassMatches(found.picture[order], found.confidence[order], hit[:, order], ignored[:, order], boxes)
        )
    return Matches(tuple(classes), truth.pictures)


def most_confident(found: Found, classes: int) -> Found:
    """Return the detections by picture and class, most confident first, at most 100 of each: those that count."""
    key = found.picture * classes + found.class_id
    order = np.lexsort((-found.confidence, key))
    _, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, counts)
    return found.rows(order[rank < MAX_DETECTIONS])


def _overlapping(truth: Truth, found: Found) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]:
    """Yield detection, box and IoU of the pairs of one picture and class that overlap by at least the lowest threshold.

    Pairs come sorted by detection, then by box; all pairs of one picture and class come in the same portion.
    """
    truth_key = truth.picture * truth.classes + truth.class_id
    by_key = np.argsort(truth_key, kind="stable")
    key = found.picture * truth.classes + found.class_id
    first = np.searchsorted(truth_key[by_key], key, side="left")
    counts = np.searchsorted(truth_key[by_key], key, side="right") - first
    # A portion ends where the key changes, so that no box is offered in two portions.
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    portion = (np.cumsum(counts) - counts)[starts] // _PAIRS
    edges = [*starts[np.flatnonzero(np.diff(portion, prepend=-1))], len(found)]
    for begin, end in pairwise(edges):
        number = counts[begin:end]
        detection = np.repeat(np.arange(begin, end), number)
        within = np.arange(len(detection)) - np.repeat(np.cumsum(number) - number, number)
        box = by_key[np.repeat(first[begin:end], number) + within]
        iou = _iou(found.xywh_px[detection].astype(np.float64), truth.xywh_px[box], truth.crowd[box])
        keep = iou >= IOU_THRESHOLDS[0]
        yield detection[keep], box[keep], iou[keep]


def _iou(first: NDArray[np.float64], second: NDArray[np.float64], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the overlap of row pairs in xywh; the operations stand in COCO's order, so that ties fall alike."""
    sides = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    sides -= np.maximum(first[:, :2], second[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    area = first[:, 2] * first[:, 3]
    union = np.where(crowd, area, area + second[:, 2] * second[:, 3] - shared)
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def _assign(
    hit: NDArray[np.bool_], detection: NDArray[np.int64], box: NDArray[np.int64], iou: NDArray[np.float64]
) -> None:
    """Mark the hits among pairs that are sorted by detection in the order of choice, then by box."""
    _, detection_index, of_detection = np.unique(detection, return_inverse=True, return_counts=True)
    _, box_index, of_box = np.unique(box, return_inverse=True, return_counts=True)
    # A box that only one detection reaches, and which reaches no other box, needs no turns to be taken.
    alone = (of_detection[detection_index] == 1) & (of_box[box_index] == 1)
    hit[:, detection[alone]] = iou[alone] >= IOU_THRESHOLDS[:, None]
    thresholds = IOU_THRESHOLDS.tolist()
    taken: list[set[int]] = [set() for _ in thresholds]
    shared = ~alone
    for chooser, candidates in _by_detection(detection[shared], box[shared], iou[shared]):
        for level, threshold in enumerate(thresholds):
            best, best_iou = -1, threshold
            for candidate, overlap in candidates:
                # Of equal overlaps the later box wins, as in COCO.
                if overlap >= best_iou and candidate not in taken[level]:
                    best, best_iou = candidate, overlap
            if best >= 0:
                hit[level, chooser] = True
                taken[level].add(best)


def _by_detection(
    detection: NDArray[np.int64], box: NDArray[np.int64], iou: NDArray[np.float64]
) -> Iterator[tuple[int, list[tuple[int, float]]]]:
    starts = np.flatnonzero(np.diff(detection, prepend=-1)).tolist()
    boxes, overlaps = box.tolist(), iou.tolist()
    for begin, end in zip(starts, [*starts[1:], len(boxes)], strict=False):
        yield int(detection[begin]), list(zip(boxes[begin:end], overlaps[begin:end], strict=True))


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
