"""Which detection overlaps which box, and COCO's greedy choice among them, all IoU thresholds at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.boxes import IOU_THRESHOLDS, Found, Truth

__all__ = ["Overlaps", "assign", "overlaps"]

# Pairs of a detection and a box that are compared at a time: bounds the memory at some 100 MB.
_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of a detection and a box of the same picture, sorted by detection, then by box in the truth's order.

    Attributes:
        detection: int64 ``(n,)``: row of the detection.
        box: int64 ``(n,)``: row of the box.
        iou: float64 ``(n,)``; with a crowd, intersection over the detection's own area.
        turn: int64 ``(n,)``: how many detections with a pair in the same picture (and class) choose before this one.
    """

    detection: NDArray[np.int64]
    box: NDArray[np.int64]
    iou: NDArray[np.float64]
    turn: NDArray[np.int64]

    def only(self, keep: NDArray[np.bool_]) -> Overlaps:
        """Return some of the pairs; turns stay as they are, which changes no choice."""
        return Overlaps(self.detection[keep], self.box[keep], self.iou[keep], self.turn[keep])


def overlaps(
    truth: Truth, found: Found, *, lowest: float = float(IOU_THRESHOLDS[0]), across_classes: bool = False
) -> Overlaps:
    """Return the pairs that overlap by at least ``lowest``.

    Args:
        truth: the boxes.
        found: detections sorted by picture, then (unless ``across_classes``) by class, then by falling confidence.
        lowest: the smallest IoU of interest, above 0.
        across_classes: pair detections with boxes of other classes too.
    """
    key, truth_key = found.picture, truth.picture
    if not across_classes:
        key, truth_key = key * truth.classes + found.class_id, truth_key * truth.classes + truth.class_id
    parts = list(_portions(truth, found, key, truth_key, lowest))
    detection = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    box = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    iou = np.concatenate([np.zeros(0), *(part[2] for part in parts)])
    chooser, of_pair = np.unique(detection, return_inverse=True)
    _, first, counts = np.unique(key[chooser], return_index=True, return_counts=True)
    turn = np.arange(len(chooser)) - np.repeat(first, counts)
    return Overlaps(detection, box, iou, turn[of_pair])


def assign(
    pairs: Overlaps,
    size: tuple[int, int],
    thresholds: NDArray[np.float64],
    *,
    reusable: NDArray[np.bool_] | None = None,
    barred: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Let detections choose boxes as COCO does: in turn, each the free box that it overlaps most, if it reaches.

    All pictures take their turns side by side, so that the number of steps is that of the fullest picture. Of equal
    overlaps the later box wins, as in COCO.

    Args:
        pairs: from `overlaps`.
        size: number of detections, number of boxes.
        thresholds: float64 ``(levels,)``, above 0.
        reusable: bool ``(boxes,)``: boxes that any number of detections may choose.
        barred: bool ``(levels, detections)``: detections that do not choose.

    Returns:
        int64 ``(levels, detections)``: the chosen box, or -1.
    """
    levels = len(thresholds)
    chosen = np.full((levels, size[0]), -1, dtype=np.int64)
    taken = np.zeros((levels, size[1]), dtype=bool)
    order = np.argsort(pairs.turn, kind="stable")
    ends = np.cumsum(np.bincount(pairs.turn)) if len(order) else np.zeros(0, np.int64)
    rows = np.arange(levels)[:, None]
    for begin, end in pairwise([0, *ends.tolist()]):
        now = order[begin:end]
        if not len(now):
            continue
        detection, box, iou = pairs.detection[now], pairs.box[now], pairs.iou[now]
        free = (iou >= thresholds[:, None]) & ~taken[:, box]
        if barred is not None:
            free &= ~barred[:, detection]
        value = np.where(free, iou, -1.0)
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        best = np.maximum.reduceat(value, starts, axis=1)
        run = np.repeat(np.arange(len(starts)), np.diff([*starts.tolist(), len(now)]))
        last = np.maximum.reduceat(np.where(value == best[:, run], np.arange(len(now)), -1), starts, axis=1)
        choice = box[last]
        chosen[:, detection[starts]] = np.where(best >= 0, choice, -1)
        used = best >= 0 if reusable is None else (best >= 0) & ~reusable[choice]
        level, place = np.nonzero(used)
        taken[rows[level, 0], choice[level, place]] = True
    return chosen


def _portions(
    truth: Truth, found: Found, key: NDArray[np.int64], truth_key: NDArray[np.int64], lowest: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Yield detection, box and IoU of the pairs of one key, a bounded number of pairs at a time."""
    by_key = np.argsort(truth_key, kind="stable")
    first = np.searchsorted(truth_key[by_key], key, side="left")
    counts = np.searchsorted(truth_key[by_key], key, side="right") - first
    portion = (np.cumsum(counts) - counts) // _PAIRS
    edges = [*np.flatnonzero(np.diff(portion, prepend=-1)).tolist(), len(found)]
    for begin, end in pairwise(edges):
        number = counts[begin:end]
        detection = np.repeat(np.arange(begin, end), number)
        within = np.arange(len(detection)) - np.repeat(np.cumsum(number) - number, number)
        box = by_key[np.repeat(first[begin:end], number) + within]
        iou = _iou(found.xywh_px[detection].astype(np.float64), truth.xywh_px[box], truth.crowd[box])
        keep = iou >= lowest
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
