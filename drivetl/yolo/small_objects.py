"""Training crops around small objects, which a detector learns worst and sees largest this way.

Kisantal et al., "Augmentation for small object detection" (2019) show small objects more often; here they are also
shown enlarged, from the pixels of the file where it is larger than the training size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SMALL_AREA_PX", "choose_window", "crop_boxes", "cropped"]

# COCO's border between small and medium.
SMALL_AREA_PX = 32.0**2
# A window has half the picture's width and height, so that what is in it comes out twice as large.
_ENLARGED = 2
# A box is left out when a smaller share of its area than this is in the window: it is mostly outside.
_INSIDE = 0.5


def choose_window(
    boxes_xyxy_px: NDArray[np.float64], small: NDArray[np.bool_], size_hw: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of a window around one small object in pixels; None if there is none.

    The object is drawn with equal chances, and lies wholly inside at a random place, where it fits.

    Args:
        boxes_xyxy_px: float64 ``(n, 4)`` in the picture that is cut.
        small: ``(n,)``: which of them are small at the training size.
        size_hw: of that picture.
        rng: source of randomness.
    """
    candidates = np.flatnonzero(small)
    if not len(candidates):
        return None
    box = boxes_xyxy_px[rng.choice(candidates)]
    sides = [max(1, round(size / _ENLARGED)) for size in (size_hw[1], size_hw[0])]
    corner = []
    for axis, (size, side) in enumerate(zip((size_hw[1], size_hw[0]), sides, strict=True)):
        low = int(np.ceil(max(0.0, box[axis + 2] - side)))
        high = int(np.floor(min(box[axis], size - side)))
        if low > high:  # the object is longer than the window
            low = high = int(np.clip(round((box[axis] + box[axis + 2] - side) / 2), 0, size - side))
        corner.append(int(rng.integers(low, high + 1)))
    return corner[0], corner[1], corner[0] + sides[0], corner[1] + sides[1]


def crop_boxes(
    boxes_xyxy_px: NDArray[np.float64], window: tuple[int, int, int, int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return boxes clipped to a window, in its pixels, and the numbers of those that stay.

    A box stays when at least half of its area is in the window.

    Args:
        boxes_xyxy_px: float64 ``(n, 4)``.
        window: left, top, right, bottom in the same pixels.

    Returns:
        float64 ``(m, 4)`` and int64 ``(m,)``.
    """
    left, top, right, bottom = window
    clipped = np.clip(boxes_xyxy_px, (left, top, left, top), (right, bottom, right, bottom))
    kept = np.flatnonzero((_areas(clipped) >= _INSIDE * _areas(boxes_xyxy_px)) & (_areas(clipped) > 0))
    return clipped[kept] - (left, top, left, top), kept


def cropped(label: dict[str, Any], original: Callable[[], NDArray[np.uint8]], rng: np.random.Generator) -> None:
    """Replace a training picture and its label in place by a crop around one of its small objects, if it has one.

    Args:
        label: as Ultralytics' ``get_image_and_label`` returns it: ``img`` at the training size, ``instances`` with
            normalised cx, cy, w, h.
        original: decodes the picture's file; called where that is larger than ``img``.
        rng: source of randomness.
    """
    loaded, instances = label["img"], label["instances"]
    boxes = _corners(instances.bboxes)
    height, width = loaded.shape[:2]
    small = _areas(boxes * (width, height, width, height)) < SMALL_AREA_PX
    if not small.any():
        return
    source = original() if label["ori_shape"][0] > height else loaded
    size_hw = source.shape[:2]
    scale = np.array([size_hw[1], size_hw[0]] * 2, dtype=np.float64)
    window = choose_window(boxes * scale, small, size_hw, rng)
    if window is None:
        return
    left, top, right, bottom = window
    part = source[top:bottom, left:right]
    method = cv2.INTER_AREA if part.shape[0] > height else cv2.INTER_LINEAR
    label["img"] = cv2.resize(part, (width, height), interpolation=method).reshape(height, width, -1)
    inside, kept = crop_boxes(boxes * scale, window)
    size = np.array([right - left, bottom - top], dtype=np.float64)
    corners = inside / np.concatenate([size, size])
    centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    label["cls"] = label["cls"][kept]
    segments = instances.segments
    if len(segments):
        # Clipped coordinate by coordinate, so that the outline's own box is the clipped box.
        segments = np.clip((segments[kept] * scale[:2] - (left, top)) / size, 0.0, 1.0)
    label["instances"] = type(instances)(
        centred.astype(np.float32), segments.astype(np.float32), bbox_format="xywh", normalized=True
    )


def _corners(xywh: NDArray[np.float32]) -> NDArray[np.float64]:
    values = xywh.astype(np.float64)
    half = values[:, 2:] / 2
    return np.concatenate([values[:, :2] - half, values[:, :2] + half], axis=1)


def _areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0.0)
    return sides[:, 0] * sides[:, 1]
