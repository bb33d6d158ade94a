"""What became of every detection at IoU 0.5, and which box is behind it, across classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.boxes import Found, Truth, most_confident
from drivetl.evaluate.overlaps import Overlaps, assign, overlaps

__all__ = ["FOREGROUND", "NEAR", "Detected", "detected"]

# TIDE's thresholds: from FOREGROUND a detection is on a box, below NEAR it has nothing to do with it.
FOREGROUND, NEAR = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Detected:
    """Detections by picture, most confident first, with their boxes.

    Attributes:
        truth: the boxes.
        found: the detections.
        pairs: their overlaps of at least `NEAR`, across classes, without crowds.
        box: int64 ``(detections,)``: the box of its class that it found, or -1.
        ignored: bool ``(detections,)``: it found none and lies in a region to ignore.
    """

    truth: Truth
    found: Found
    pairs: Overlaps
    box: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    @property
    def hit(self) -> NDArray[np.bool_]:
        """Whether each detection found a box."""
        return self.box >= 0

    def best(self, keep: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return for every detection the largest overlap among some of the pairs, and its box (0.0 and -1: none)."""
        iou, box = np.zeros(len(self.found)), np.full(len(self.found), -1, dtype=np.int64)
        chosen = np.flatnonzero(keep)
        order = chosen[np.argsort(self.pairs.iou[chosen], kind="stable")]
        iou[self.pairs.detection[order]] = self.pairs.iou[order]
        box[self.pairs.detection[order]] = self.pairs.box[order]
        return iou, box


def detected(truth: Truth, found: Found) -> Detected:
    """Match at IoU 0.5 as COCO does, and keep what overlaps what, whatever its class."""
    found = most_confident(found, truth.classes)
    found = found.rows(np.lexsort((-found.confidence, found.picture)))
    pairs = overlaps(truth, found, lowest=NEAR, across_classes=True)
    crowd = truth.crowd[pairs.box]
    same = truth.class_id[pairs.box] == found.class_id[pairs.detection]
    size = len(found), len(truth.picture)
    box = assign(pairs.only(same & ~crowd), size, np.array([FOREGROUND]))[0]
    ignored = np.zeros(len(found), dtype=bool)
    ignored[pairs.detection[same & crowd & (pairs.iou >= FOREGROUND)]] = True
    return Detected(truth, found, pairs.only(~crowd), box, ignored & (box < 0))
