"""Which detections of two runs of one model agree, and which disagreements rounding excuses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivetl.runtime import Detections
from drivetl.runtime.overlap import box_iou, match

__all__ = ["Agreement", "compare_detections"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two sets of detections of one picture agree.

    Attributes:
        matched: pairs of the same class with enough overlap, one to one.
        missed: detections of either side without a partner.
        excused: of those without a partner, how many rounding explains; not counted in ``missed``.
    """

    matched: int = 0
    missed: int = 0
    excused: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        """Return the sum over two pictures."""
        return Agreement(self.matched + other.matched, self.missed + other.missed, self.excused + other.excused)


def compare_detections(
    reference: Detections, tested: Detections, *, min_iou: float, confidence: float, nms_iou: float | None, near: float
) -> Agreement:
    """Match two sets of detections that were decoded with the same thresholds.

    Args:
        reference: detections of the original model.
        tested: detections of the exported one.
        min_iou: overlap that makes a pair.
        confidence: the confidence threshold of both.
        nms_iou: the limit of non-maximum suppression of both; None where nothing is suppressed.
        near: how close to either threshold a detection without a partner must stand to be excused. A hard threshold
            turns any rounding into a whole detection more or less, so such a miss says nothing of the model.
    """
    pairs = match(reference, tested, min_iou)
    paired_here, alone_here = _divided(reference, [i for i, _ in pairs])
    paired_there, alone_there = _divided(tested, [j for _, j in pairs])
    excused = _excused(alone_here, paired_there, confidence, nms_iou, near)
    excused += _excused(alone_there, paired_here, confidence, nms_iou, near)
    return Agreement(len(pairs), len(alone_here) + len(alone_there) - excused, excused)


def _divided(detections: Detections, indices: list[int]) -> tuple[Detections, Detections]:
    """Return the detections at ``indices``, and the others."""
    chosen = np.zeros(len(detections), dtype=bool)
    chosen[indices] = True
    first, second = (
        Detections(detections.xyxy_px[keep], detections.confidence[keep], detections.class_id[keep])
        for keep in (chosen, ~chosen)
    )
    return first, second


def _excused(alone: Detections, paired: Detections, confidence: float, nms_iou: float | None, near: float) -> int:
    """Count detections just above the confidence threshold, or that a survivor over there just about suppresses.

    Args:
        alone: detections of one side without a partner.
        paired: detections of the other side with one. A box without a partner over there excuses nothing: it may be
            the very box in question, in another place.
        confidence, nms_iou, near: see `compare_detections`.
    """
    excused = alone.confidence <= confidence + near
    if nms_iou is not None:
        iou = box_iou(alone.xyxy_px, paired.xyxy_px)
        # Suppression works downwards only: a less confident box over there cannot have removed this one.
        suppresses = (alone.class_id[:, None] == paired.class_id) & (paired.confidence > alone.confidence[:, None])
        excused |= ((np.abs(iou - nms_iou) <= near) & suppresses).any(axis=1)
    return int(excused.sum())
