"""Which detections of two runs of one model agree, and which disagreements rounding excuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivetl.runtime import Detections
from drivetl.runtime.overlap import box_iou, match

__all__ = ["Agreement", "Candidates", "Raw", "compare_detections"]

_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Raw:
    """What one side had before suppression.

    Attributes:
        found: the boxes as they are reported, clipped to the picture.
        whole_xyxy_px: the same as suppression saw them, float32 ``(n, 4)``: not clipped, in pixels of the input.
    """

    found: Detections
    whole_xyxy_px: NDArray[np.float32]

    def whole(self, kept: Detections) -> NDArray[np.float32]:
        """Return the whole boxes of detections that suppression left of these."""
        if not len(kept):
            return kept.xyxy_px
        same = kept.confidence[:, None] == self.found.confidence
        same &= (kept.xyxy_px[:, None] == self.found.xyxy_px).all(axis=-1)
        boxes: NDArray[np.float32] = self.whole_xyxy_px[same.argmax(axis=1)]
        return boxes


# Of either side; None where the graph suppresses and does not show it.
Candidates = Callable[[], tuple[Raw | None, Raw | None]]


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
    reference: Detections,
    tested: Detections,
    *,
    min_iou: float,
    confidence: float,
    nms_iou: float | None,
    near: float,
    candidates: Candidates | None = None,
) -> Agreement:
    """Match two sets of detections that were decoded with the same thresholds.

    Args:
        reference: detections of the original model.
        tested: detections of the exported one.
        min_iou: overlap that makes a pair.
        confidence: the confidence threshold of both.
        nms_iou: the limit of non-maximum suppression of both; None where nothing is suppressed.
        near: how close to either threshold a detection without a partner must stand to be excused. A hard threshold
            turns any rounding into a whole detection more or less, so such a miss says nothing of the model. As little
            may two scores differ whose order decides which of two boxes suppresses the other.
        candidates: gives what both had before suppression, and is asked only where something has no partner; without
            it no order of suppression excuses anything.
    """
    pairs = match(reference, tested, min_iou)
    paired_here, alone_here = _divided(reference, [i for i, _ in pairs])
    paired_there, alone_there = _divided(tested, [j for _, j in pairs])
    here = _at_threshold(alone_here, paired_there, confidence, nms_iou, near)
    there = _at_threshold(alone_there, paired_here, confidence, nms_iou, near)
    if nms_iou is not None and candidates is not None and not (here.all() and there.all()):
        raw_here, raw_there = candidates()
        found_here = _computed(alone_here, raw_there, min_iou, near)
        found_there = _computed(alone_there, raw_here, min_iou, near)
        boxes = alone_here.xyxy_px, alone_there.xyxy_px
        if raw_here is not None and raw_there is not None:
            boxes = raw_here.whole(alone_here), raw_there.whole(alone_there)
        overlaps = box_iou(*boxes) > nms_iou - near
        overlaps &= alone_here.class_id[:, None] == alone_there.class_id
        lead = alone_here.confidence[:, None] - alone_there.confidence
        here, there = _by_order(here, there, overlaps & found_here[:, None] & found_there, lead, near)
    excused = int(here.sum() + there.sum())
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


def _at_threshold(
    alone: Detections, paired: Detections, confidence: float, nms_iou: float | None, near: float
) -> _Mask:
    """Tell which stand just above the confidence threshold, or which a survivor over there just about suppresses.

    Args:
        alone: detections of one side without a partner.
        paired: detections of the other side with one. A box without a partner over there excuses nothing: it may be
            the very box in question, in another place.
        confidence, nms_iou, near: see `compare_detections`.
    """
    excused: _Mask = alone.confidence <= confidence + near
    if nms_iou is not None:
        iou = box_iou(alone.xyxy_px, paired.xyxy_px)
        # Suppression works downwards only: a less confident box over there cannot have removed this one.
        suppresses = (alone.class_id[:, None] == paired.class_id) & (paired.confidence > alone.confidence[:, None])
        excused |= ((np.abs(iou - nms_iou) <= near) & suppresses).any(axis=1)
    return excused


def _computed(alone: Detections, raw: Raw | None, min_iou: float, near: float) -> _Mask:
    """Tell which of one side's detections the other side computed too, before suppression; all where it is not known.

    This is what keeps a real fault from being excused: a moved box, another class or score has no counterpart.
    """
    if raw is None:
        return np.ones(len(alone), dtype=bool)
    same = alone.class_id[:, None] == raw.found.class_id
    same &= np.abs(alone.confidence[:, None] - raw.found.confidence) <= near
    found: _Mask = (same & (box_iou(alone.xyxy_px, raw.found.xyxy_px) >= min_iou)).any(axis=1)
    return found


def _by_order(
    here: _Mask, there: _Mask, overlaps: _Mask, lead: NDArray[np.float32], near: float
) -> tuple[_Mask, _Mask]:
    """Excuse also what is missing because two nearly equal scores changed places.

    Args:
        here, there: what is excused already, ``(n,)`` and ``(m,)``.
        overlaps: pairs ``(n, m)`` of which both sides computed both, and of which one suppresses the other.
        lead: confidence here minus confidence there, ``(n, m)``.
        near: scores that differ by no more may stand in either order.
    """
    tied = overlaps & (np.abs(lead) <= near)
    here, there = here | tied.any(axis=1), there | tied.any(axis=0)
    while True:
        # The winner of such a tie, absent on the other side, suppresses weaker boxes here that survive there; they may
        # in turn have suppressed others.
        more_there = there | (overlaps & (lead > 0) & here[:, None]).any(axis=0)
        more_here = here | (overlaps & (lead < 0) & more_there).any(axis=1)
        if np.array_equal(more_here, here) and np.array_equal(more_there, there):
            return here, there
        here, there = more_here, more_there
