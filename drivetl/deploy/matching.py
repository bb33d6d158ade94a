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
    reference: Detections, tested: Detections, *, min_iou: float, confidence: float, nms_iou: float, near: float
) -> Agreement:
    """Match two sets of detections that were decoded with the same thresholds.

    Args:
        reference: detections of the original model.
        tested: detections of the exported one.
        min_iou: overlap that makes a pair.
        confidence: the confidence threshold of both.
        nms_iou: the limit of non-maximum suppression of both.
        near: how close to either threshold a detection without a partner must stand to be excused. A hard threshold
            turns any rounding into a whole detection more or less, so such a miss says nothing of the model.
    """
    pairs = match(reference, tested, min_iou)
    alone_here = _without(reference, [i for i, _ in pairs])
    alone_there = _without(tested, [j for _, j in pairs])
    excused = _excused(alone_here, tested, confidence, nms_iou, near)
    excused += _excused(alone_there, reference, confidence, nms_iou, near)
    return Agreement(len(pairs), len(alone_here) + len(alone_there) - excused, excused)


def _without(detections: Detections, indices: list[int]) -> Detections:
    keep = np.ones(len(detections), dtype=bool)
    keep[indices] = False
    return Detections(detections.xyxy_px[keep], detections.confidence[keep], detections.class_id[keep])


def _excused(alone: Detections, others: Detections, confidence: float, nms_iou: float, near: float) -> int:
    """Count detections just above the confidence threshold, or that a survivor over there just about suppresses."""
    at_threshold = alone.confidence <= confidence + near
    iou = box_iou(alone.xyxy_px, others.xyxy_px)
    same_class = alone.class_id[:, None] == others.class_id[None]
    at_limit = ((np.abs(iou - nms_iou) <= near) & same_class).any(axis=1)
    return int((at_threshold | at_limit).sum())
