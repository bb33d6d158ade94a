"""What weather does to the ground: wet asphalt darkens and mirrors, snow lies on it."""

from __future__ import annotations

import cv2
import numpy as np

from drivetl.weather.checks import BgrImage, DepthMap
from drivetl.weather.depth import ground_weight
from drivetl.weather.pixels import Float, attenuate, enlarge, over, scaled
from drivetl.weather.sky import shrink, working_scale
from drivetl.weather.tiles import fractal_tile

__all__ = ["lay_snow", "wet_ground"]


def wet_ground(image_bgr: BgrImage, depth_m: DepthMap, wetness: float, camera_height_m: float = 1.5) -> BgrImage:
    """Return the picture with wet ground, ``wetness`` 0 to 1: darker, and mirroring what stands behind it.

    Water in the pores darkens asphalt to about half (Lekner and Dorf, Applied Optics 27, 1988). The film reflects by
    Schlick's form of Fresnel's law with 2 % at normal incidence, so more at a distance; its roughness stretches the
    mirror image downwards.
    """
    scale = working_scale((image_bgr.shape[0], image_bgr.shape[1]))
    small = shrink(image_bgr, scale)
    ground = ground_weight(depth_m)
    distance = np.minimum(cv2.resize(depth_m, scale.size_wh, interpolation=cv2.INTER_NEAREST), 1e4)
    cosine = camera_height_m / np.sqrt(distance * distance + camera_height_m**2)
    mirrored = (0.02 + 0.98 * (1.0 - np.minimum(cosine, 1.0)) ** 5) * ground * np.float32(0.62 * wetness)
    result = attenuate(image_bgr, cv2.merge([(1.0 - 0.45 * wetness * ground) * (1.0 - mirrored)] * 3))
    image_in_water = _mirror(small, ground)
    light = cv2.multiply(image_in_water, cv2.merge([scaled(mirrored)] * 3), scale=1 / 255)
    return cv2.add(result, enlarge(light.astype(np.uint8, copy=False), image_bgr)).astype(np.uint8, copy=False)


def _mirror(small: BgrImage, ground: Float) -> BgrImage:
    """Return the small picture mirrored at the line where each column's ground begins, stretched and blurred."""
    height, width = ground.shape
    begins = height - (ground > 0.5).sum(axis=0).astype(np.float32)
    begins = cv2.blur(begins[None, :], (max(3, width // 8) | 1, 1), borderType=cv2.BORDER_REPLICATE)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.broadcast_to(np.arange(width, dtype=np.float32), (height, width))
    source = np.clip(2.0 * begins - rows, 0, height - 1).astype(np.float32)
    mirrored = cv2.remap(small, np.ascontiguousarray(columns), source, cv2.INTER_LINEAR)
    return cv2.blur(mirrored, (5, max(3, height // 7) | 1)).astype(np.uint8, copy=False)


def lay_snow(image_bgr: BgrImage, depth_m: DepthMap, cover: float, level: float, rng: np.random.Generator) -> BgrImage:
    """Return the picture with snow on the ground: ``cover`` 0 to 1 of it, in patches, ``level`` 0 to 255 bright.

    Patches have the size of patches on the road, not in the picture: the cloudy tile is laid on the ground plane.
    What differs strongly from the road in colour (cars without a box, lane paint in part) is covered less.
    """
    scale = working_scale((image_bgr.shape[0], image_bgr.shape[1]))
    ground = ground_weight(depth_m)
    small = shrink(image_bgr, scale).astype(np.float32)
    distance = np.minimum(cv2.resize(depth_m, scale.size_wh, interpolation=cv2.INTER_NEAREST), 80.0)
    aside = (np.arange(scale.size_wh[0], dtype=np.float32) - scale.size_wh[0] / 2) * distance / scale.size_wh[0]
    x, y = rng.uniform(0, 512, 2)
    tile = fractal_tile(2)
    patches = cv2.remap(
        tile, np.mod(aside * 18 + x, 511).astype(np.float32), np.mod(distance * 7 + y, 511).astype(np.float32),
        cv2.INTER_LINEAR,
    )
    covered = np.clip((cover - patches) / 0.22 + 0.35, 0.0, 1.0) * min(1.0, 0.35 + cover)
    weight = cv2.blur((covered * ground * _like_road(small, ground)).astype(np.float32), (3, 3))
    return over(image_bgr, (level, level * 0.985, level * 0.97), enlarge(scaled(weight * 0.93), image_bgr))


def _like_road(small: Float, ground: Float) -> Float:
    """Return how much each pixel looks like ground: not much darker or more colourful than its middle value."""
    if not (ground > 0.6).any():
        return ground
    grey = small.mean(axis=2)
    middle = float(np.median(grey[ground > 0.6]))
    colourful = small.max(axis=2) - small.min(axis=2)
    darker = np.clip((0.55 * middle - grey) / (0.3 * middle + 8.0), 0.0, 1.0)
    weight: Float = (1.0 - 0.75 * darker) * (1.0 - np.clip((colourful - 60.0) / 80.0, 0.0, 0.7))
    return weight


