"""How much boxes overlap, and which detections of two runs are the same object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivetl.runtime.detections import Detections

__all__ = ["box_iou", "match", "visible"]

# Of a box that the decoder clipped to the picture, less than a pixel may be left: rounding decides whether it is there.
_MIN_SIDE_PX = 1.0


def box_iou(first_xyxy_px: NDArray[np.float32], second_xyxy_px: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the intersection over union of every pair, float64 ``(n, m)`` in [0, 1]; 0 where a box has no area.

    Args:
        first_xyxy_px: ``(n, 4)``: left, top, right, bottom.
        second_xyxy_px: ``(m, 4)``, likewise.
    """
    first = first_xyxy_px.astype(np.float64)[:, None]
    second = second_xyxy_px.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    union = (first[..., 2:] - first[..., :2]).prod(axis=-1) + (second[..., 2:] - second[..., :2]).prod(axis=-1) - shared
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def visible(detections: Detections) -> Detections:
    """Return the detections of which at least one pixel each way lies inside the picture.

    Boxes that stood in the letterbox's padding are clipped to slivers or to nothing, whose overlap says nothing.
    """
    sides_px = detections.xyxy_px[:, 2:] - detections.xyxy_px[:, :2]
    keep = (sides_px >= _MIN_SIDE_PX).all(axis=1)
    return Detections(detections.xyxy_px[keep], detections.confidence[keep], detections.class_id[keep])


def match(first: Detections, second: Detections, min_iou: float) -> list[tuple[int, int]]:
    """Pair detections of the same class one to one, the largest overlap first.

    Returns:
        Index pairs ``(in first, in second)`` whose intersection over union is at least ``min_iou``.
    """
    iou = box_iou(first.xyxy_px, second.xyxy_px)
    iou[first.class_id[:, None] != second.class_id[None]] = -1.0
    rows, columns = np.nonzero(iou >= min_iou)
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for index in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = int(rows[index]), int(columns[index])
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return sorted(pairs.items())
