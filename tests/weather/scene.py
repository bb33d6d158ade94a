"""A street drawn by arithmetic: a plane with upright boxes on it, with the exact depth of every pixel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PlaneScene(NamedTuple):
    image_bgr: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    boxes_xyxy_px: NDArray[np.float32]
    horizon_px: float


# Aside, ahead, width and height in metres, colour in BGR.
_UPRIGHT = (
    (-3.2, 14.0, 1.8, 1.5, (40, 40, 160)),
    (0.3, 25.0, 1.8, 1.5, (160, 60, 40)),
    (3.5, 18.0, 1.8, 1.6, (50, 120, 50)),
    (5.2, 40.0, 2.5, 3.2, (60, 60, 70)),
    (-6.0, 60.0, 2.5, 3.4, (80, 90, 90)),
    (2.2, 9.0, 0.6, 1.75, (30, 30, 30)),
)


def plane_scene(height: int = 720, width: int = 1280) -> PlaneScene:
    focal, horizon, camera = 0.7 * width, 0.46 * height, 1.5
    rows = np.arange(height, dtype=np.float64)[:, None]
    below = np.maximum(rows - horizon, 1e-9)
    ground = np.where(rows > horizon, focal * camera / below, np.inf)
    depth = np.repeat(ground, width, axis=1)
    image = np.full((height, width, 3), 95, np.int32)
    image[: int(horizon) + 1] = (235, 205, 170)
    image += np.random.default_rng(0).integers(-8, 9, image.shape)
    boxes = []
    for aside, ahead, wide, high, colour in sorted(_UPRIGHT, key=lambda box: -box[1]):
        left, right = (width / 2 + focal * (aside + side * wide / 2) / ahead for side in (-1, 1))
        top, bottom = horizon + focal * (camera - high) / ahead, horizon + focal * camera / ahead
        place = (slice(round(top), round(bottom)), slice(max(0, round(left)), round(right)))
        depth[place], image[place] = ahead, colour
        boxes.append((left, top, right, bottom))
    return PlaneScene(
        np.clip(image, 0, 255).astype(np.uint8), depth.astype(np.float32), np.array(boxes, np.float32), horizon
    )
