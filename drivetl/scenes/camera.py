"""A pinhole camera over a ground plane.

World: x to the right, y up, z along the road, in metres; the road is y = 0. Camera: x right, y down, z forward.
Pixels are continuous: the first pixel spans 0 to 1, and its middle is 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Camera", "Float", "f32", "u8"]

Float = NDArray[np.float32]


def f32(values: Any) -> Float:
    """Return an array as float32, without a copy where it is already: OpenCV's results have no exact type."""
    return np.asarray(values, dtype=np.float32)


def u8(values: Any) -> NDArray[np.uint8]:
    """Return an array as uint8, without a copy where it is already."""
    return np.asarray(values, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera without roll; the principal point is the middle of the picture.

    Attributes:
        size_hw: height and width of the picture in pixels.
        focal_px: focal length in pixels.
        height_m: height above the road.
        pitch_deg: how far it looks down.
        yaw_deg: how far it looks to the right of the road's direction.
        x_m: where it is across the road; 0 is the middle of the road.
        z_m: where it is along the road.
    """

    size_hw: tuple[int, int]
    focal_px: float
    height_m: float
    pitch_deg: float = 0.0
    yaw_deg: float = 0.0
    x_m: float = 0.0
    z_m: float = 0.0

    @property
    def centre_px(self) -> tuple[float, float]:
        """The principal point (x, y)."""
        return self.size_hw[1] / 2, self.size_hw[0] / 2

    @property
    def horizon_px(self) -> float:
        """The row of the horizon."""
        return self.size_hw[0] / 2 - self.focal_px * math.tan(math.radians(self.pitch_deg))

    def turned(self, directions: Any) -> Float:
        """Turn world directions (..., 3) into the camera's axes, float32 (..., 3)."""
        d = np.asarray(directions, dtype=np.float32)
        cy, sy = math.cos(math.radians(self.yaw_deg)), math.sin(math.radians(self.yaw_deg))
        cp, sp = math.cos(math.radians(self.pitch_deg)), math.sin(math.radians(self.pitch_deg))
        rotation = np.array([[cy, 0, -sy], [-sp * sy, -cp, -sp * cy], [cp * sy, -sp, cp * cy]], dtype=np.float32)
        return d @ rotation.T

    def to_camera(self, points: Any) -> Float:
        """Return world points (..., 3) in the camera's axes; the third is the depth in metres."""
        position = np.array([self.x_m, self.height_m, self.z_m], dtype=np.float32)
        return self.turned(np.asarray(points, dtype=np.float32) - position)

    def project(self, points: Any) -> tuple[Float, Float]:
        """Return pixels (..., 2) and depths in metres (...) of world points (..., 3).

        A point behind the camera has a depth below zero; its pixel means nothing.
        """
        seen = self.to_camera(points)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = seen[..., :2] * (np.float32(self.focal_px) / seen[..., 2:])
        centre = np.array(self.centre_px, dtype=np.float32)
        return pixels + centre, seen[..., 2]

    def ground_rows(self) -> tuple[int, Float, Float]:
        """Return the first row below the horizon and, from there on, depth and forward distance of the road.

        Both are in metres, float32 (rows,), for the middles of the rows. Depth is along the optical axis; the forward
        distance is along the heading, on the ground.
        """
        pitch = math.radians(self.pitch_deg)
        # A flat, wide picture may lie above the horizon altogether.
        first = min(max(0, math.floor(self.horizon_px + 0.5) + 1), self.size_hw[0])
        y = (np.arange(first, self.size_hw[0], dtype=np.float32) + 0.5 - self.size_hw[0] / 2) / self.focal_px
        depth = self.height_m / np.maximum(y * math.cos(pitch) + math.sin(pitch), 1e-5)
        forward = depth * (math.cos(pitch) - y * math.sin(pitch))
        return first, depth.astype(np.float32), forward.astype(np.float32)
