"""Drops and flakes in the air before the camera: positions in space, and the streaks they leave in one exposure."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from drivetl.weather.checks import BgrImage, require_time
from drivetl.weather.pixels import Float, u8

__all__ = ["Streaks", "View", "draw_streaks", "fly"]

_NEAREST_M = 0.6
_THICKEST_PX = 24


class View(NamedTuple):
    """What the particles are seen with: picture size, focal length and the point that the car drives towards."""

    height: int
    width: int
    focal_px: float
    centre_x: float
    centre_y: float

    def space_m3(self, farthest_m: float) -> float:
        """Return the volume in which `fly` scatters particles: a box as wide and high as the view at its far end."""
        wide_m, high_m = (side * farthest_m / self.focal_px for side in (self.width, self.height))
        return wide_m * high_m * (farthest_m - _NEAREST_M)


class Streaks(NamedTuple):
    """Particles in view: ends (n, 2, 2) in pixels, distance and diameter in metres, (n,) each."""

    ends_px: Float
    distance_m: Float
    diameter_m: Float


def fly(
    view: View,
    rng: np.random.Generator,
    *,
    diameter_m: Float,
    fall_m_s: Float,
    ego_m_s: float,
    wind_m_s: float,
    exposure_s: float,
    farthest_m: float,
    time_s: float,
) -> Streaks:
    """Scatter particles evenly in the space before the camera, move them to ``time_s``, and project one exposure.

    The camera drives into them, so their paths spread from the point that the car drives towards; what leaves the
    space comes in again on its other side. ``diameter_m`` and ``fall_m_s`` are float32 (n,).
    """
    count = diameter_m.size
    reach = farthest_m / view.focal_px
    low = np.array([-view.centre_x * reach, -view.centre_y * reach, _NEAREST_M], np.float32)
    high = np.array(
        [(view.width - view.centre_x) * reach, (view.height - view.centre_y) * reach, farthest_m], np.float32
    )
    velocity = np.empty((count, 3), np.float32)
    velocity[:, 0] = wind_m_s
    velocity[:, 1] = fall_m_s
    velocity[:, 2] = -ego_m_s
    place = low + rng.random((count, 3), dtype=np.float32) * (high - low)
    # In float64: after an hour of video, float32 would move near particles by whole pixels at a time.
    travelled = np.mod(
        (place - low).astype(np.float64) + velocity.astype(np.float64) * require_time(time_s), high - low
    )
    place = low + travelled.astype(np.float32)
    later = place + velocity * np.float32(exposure_s)
    later[:, 2] = np.maximum(later[:, 2], 0.5 * _NEAREST_M)
    ends = np.stack([place[:, :2] / place[:, 2:], later[:, :2] / later[:, 2:]], axis=1) * np.float32(view.focal_px)
    ends += np.array([view.centre_x, view.centre_y], np.float32)
    # A path is in view while any of it may be; lines are cut at the border when they are drawn.
    beyond = _THICKEST_PX / 2
    size = np.array([view.width, view.height], np.float32)
    seen = ((ends.max(axis=1) > -beyond) & (ends.min(axis=1) < size + beyond)).all(axis=1)
    return Streaks(ends[seen], place[seen, 2], diameter_m[seen])


def draw_streaks(view: View, streaks: Streaks, opacity: Float, *, scale: float, blur_px: float) -> BgrImage:
    """Return coverage as uint8: every streak a line of its own thickness and opacity (0..1).

    The result has ``scale`` times the picture's size and is blurred by ``blur_px`` there: near particles are out of
    focus, so they need no more pixels than that.
    """
    small_w, small_h = max(1, round(view.width * scale)), max(1, round(view.height * scale))
    layer = np.zeros((small_h, small_w), np.uint8)
    factor = np.array([small_w / view.width, small_h / view.height], np.float32)
    # Eight fractional bits keep the line smooth; a degenerate line still leaves a dot.
    points = np.rint(streaks.ends_px * factor * 256).astype(np.int32)
    width_px = streaks.diameter_m * np.float32(view.focal_px * scale) / streaks.distance_m
    # What is thinner than a pixel covers it only in part.
    strength = opacity * np.minimum(width_px, 1.0)
    thickness = np.clip(np.rint(width_px), 1, _THICKEST_PX).astype(np.intp)
    # Every dark level counts: most drops are far thinner than a pixel, the more so in a small picture. Of the others,
    # steps of a twentieth keep the number of calls low.
    shade = np.rint(strength * 255).astype(np.intp)
    shade = np.where(shade > 24, np.minimum((shade + 6) // 12 * 12, 255), shade)
    # A blur smooths the edges anyway, and smooth lines cost three times as much.
    line = cv2.LINE_8 if blur_px > 0 else cv2.LINE_AA
    for size in np.unique(thickness):
        for level in np.unique(shade[(thickness == size) & (shade > 0)]):
            chosen = (thickness == size) & (shade == level)
            cv2.polylines(layer, list(points[chosen]), False, int(level), int(size), line, 8)
    if blur_px > 0:
        layer = u8(cv2.GaussianBlur(layer, (0, 0), blur_px))
    return layer
