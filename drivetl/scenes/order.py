"""Which things to draw first, so that what is nearer covers what is farther."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Float

__all__ = ["far_to_near"]

_TOUCH_M = 0.02


def far_to_near(boxes: Float, camera_xz: tuple[float, float], spread_m: Float) -> list[int]:
    """Return the order in which to draw things with the given footprints, the far ones first.

    Two footprints that a line across or along the road separates have a sure order: what is on the camera's side of
    the line cannot be covered by the other. Footprints that overlap go by the distance of their middles. Only what
    is seen in the same direction is compared: seen from one point, such orders never form a circle. Where crowns and
    arms that reach over other footprints make one, the farthest thing is drawn first.

    Args:
        boxes: float32 (n, 4): lowest x, highest x, lowest z, highest z in metres.
        camera_xz: where the camera is.
        spread_m: float32 (n,), how far each reaches beyond its footprint higher up.
    """
    count = len(boxes)
    x0, x1, z0, z1 = (boxes[:, i] for i in range(4))
    middle_x, middle_z = (x0 + x1) / 2 - camera_xz[0], (z0 + z1) / 2 - camera_xz[1]
    distance = np.hypot(middle_x, middle_z)
    front = _same_direction(boxes - np.repeat(np.array(camera_xz, np.float32), 2), spread_m)
    front &= _in_front(x0 - camera_xz[0], x1 - camera_xz[0], z0, z1, distance)
    waiting = front.sum(axis=1).astype(np.int64)
    left = np.ones(count, bool)
    order: list[int] = []
    for _ in range(count):
        free = left & (waiting <= 0)
        candidates = np.flatnonzero(free if free.any() else left)
        chosen = int(candidates[np.argmax(distance[candidates])])
        order.append(chosen)
        left[chosen] = False
        waiting -= front[:, chosen]
    return order


def _in_front(x0: Float, x1: Float, z0: Float, z1: Float, distance: Float) -> NDArray[np.bool_]:
    """Return (n, n): whether the first must be drawn after the second."""
    nearer_z = z1[:, None] <= z0[None, :] + _TOUCH_M
    overlap_z = ~nearer_z & ~nearer_z.T
    right_of = x0[:, None] >= x1[None, :] - _TOUCH_M
    # The first is right of the second: it is in front if the camera is right of the gap, too.
    by_x = (right_of & (x0[:, None] <= 0)) | (right_of.T & (x1[:, None] >= 0))
    sideways = right_of | right_of.T
    by_distance = ~sideways & (distance[:, None] < distance[None, :])
    front: NDArray[np.bool_] = nearer_z | (overlap_z & (np.where(sideways, by_x, by_distance)))
    np.fill_diagonal(front, False)
    return front


def _same_direction(boxes: Float, spread_m: Float) -> NDArray[np.bool_]:
    """Return (n, n): whether two things may overlap in the picture. The camera is at 0."""
    x = boxes[:, [0, 0, 1, 1]] + spread_m[:, None] * np.array([-1, -1, 1, 1], np.float32)
    z = boxes[:, [2, 3, 2, 3]] + spread_m[:, None] * np.array([-1, 1, -1, 1], np.float32)
    angle = np.arctan2(x, z)
    low, high = angle.min(axis=1), angle.max(axis=1)
    # What surrounds the camera, or lies right behind it, is in every direction.
    around = high - low > np.pi
    low, high = np.where(around, -4, low), np.where(around, 4, high)
    shared: NDArray[np.bool_] = (low[:, None] <= high[None, :]) & (low[None, :] <= high[:, None])
    return shared
