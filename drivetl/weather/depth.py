"""A depth prior for road pictures: how far away is each pixel, when nobody measured it?

Four assumptions, each physical and each cheap. (1) The road is a plane under a camera of known height. (2) What
stands beside the road stands upright; its distance follows from how high it reaches above the horizon, and from a
corridor along the road. (3) Nothing beside a road reaches higher than a tall tree, so what is far above the horizon
is near. (4) Known boxes stand upright where they touch the ground. The sky is found in the picture and is at
infinity. Everything is computed in inverse depth, in which a plane is linear in the image row and the sky is zero, so
there is no step at the horizon; and on a small picture, because depth is smooth.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.errors import ConfigError, ImageError, quoted
from drivetl.weather.checks import BgrImage, DepthMap, require_boxes, require_image, require_number
from drivetl.weather.pixels import Float, f32
from drivetl.weather.sky import DEFAULT_HORIZON, find_sky, shrink, working_scale

__all__ = ["DEFAULT_FOCAL", "contact_distance_m", "depth_prior", "ground_weight"]

# Focal length as a share of the picture's long side: 71 degrees across, between KITTI (0.58) and a phone (0.8).
DEFAULT_FOCAL = 0.7

# Half the width of the corridor between what lines a road, and the height above the camera of what lines it.
_CORRIDOR_M = 11.0
_SKYLINE_M = 6.0
_TALLEST_M = 18.0
# What is not sky is never farther than this; the plane alone would reach infinity at the horizon.
_FARTHEST_M = 600.0
# Largest radius in which an object's outline is looked for on the small grid; the variance of grey that is no edge.
_MATTING_PX = 4
_MATTING_NOISE = 60.0


def depth_prior(
    image_bgr_or_size_hw: BgrImage | tuple[int, int],
    *,
    camera_height_m: float = 1.5,
    focal_px: float | None = None,
    horizon_px: float | None = None,
    pitch_deg: float | None = None,
    boxes_xyxy_px: Any = None,
) -> DepthMap:
    """Return a plausible distance in metres for every pixel, float32 of shape (height, width); the sky is infinite.

    Args:
        image_bgr_or_size_hw: a uint8 BGR picture, in which horizon, sky and skyline are then looked for; or only its
            (height, width), for which a horizon at 46 % of the height and a soft sky above it are assumed.
        camera_height_m: height of the camera above the road, 0.3 to 10 m.
        focal_px: focal length in pixels; 0.7 times the long side where unknown.
        horizon_px: row of the horizon, inside the picture.
        pitch_deg: instead of ``horizon_px``: how far the camera looks down, with the principal point in the middle.
        boxes_xyxy_px: (n, 4) boxes of objects; each stands upright at the depth of its ground contact. A box whose
            bottom is not below the horizon (a traffic light) touches no ground and is left to the prior.

    Raises:
        ImageError: the picture, its size or the boxes cannot be used.
        ConfigError: a parameter is out of range, or the horizon lies outside the picture.
    """
    image, size_hw = _picture_and_size(image_bgr_or_size_hw)
    height, width = size_hw
    boxes = require_boxes(boxes_xyxy_px)
    camera_height = require_number("camera_height_m", camera_height_m, 0.3, 10.0)
    focal = DEFAULT_FOCAL * max(size_hw) if focal_px is None else require_number("focal_px", focal_px, 1.0, 1e6)
    scale = working_scale(size_hw)
    small = None if image is None else shrink(image, scale)
    given = _given_horizon(height, focal, horizon_px, pitch_deg)
    rows = (np.arange(scale.size_wh[1], dtype=np.float32) + 0.5) / scale.y - 0.5
    columns = (np.arange(scale.size_wh[0], dtype=np.float32) + 0.5) / scale.x - 0.5
    if small is None:
        horizon = DEFAULT_HORIZON * height if given is None else given
        below_px = (rows - np.float32(horizon))[:, None]
        sky = np.repeat(_unseen_sky(below_px * np.float32(-1.0 / height)), columns.size, axis=1)
    else:
        horizon_small, sky = find_sky(small, None if given is None else given * scale.y)
        horizon = horizon_small / scale.y
        below_px = (rows - np.float32(horizon))[:, None]
    ground = below_px * np.float32(1.0 / (focal * camera_height))
    standing = _standing(sky, below_px, columns - np.float32(width / 2), focal)
    inverse = np.maximum(_meeting(ground, standing), np.float32(1.0 / _FARTHEST_M))
    inverse *= 1.0 - sky
    if boxes.size:
        _stand_boxes(
            inverse,
            boxes * (scale.x, scale.y, scale.x, scale.y),
            horizon * scale.y,
            scale.y * focal * camera_height,
            small,
        )
    full = cv2.resize(inverse, (width, height), interpolation=cv2.INTER_LINEAR)
    with np.errstate(divide="ignore"):
        depth: DepthMap = np.reciprocal(full, out=full)
    return depth


def contact_distance_m(
    bottom_px: npt.NDArray[np.float64],
    size_hw: npt.NDArray[np.int64],
    *,
    camera_height_m: float = 1.5,
) -> npt.NDArray[np.float64]:
    """Return how far away boxes touch the ground, from where they end in the picture, as the prior without a picture.

    The road is a plane, the horizon lies at 46 % of the height, and the focal length is 0.7 times the long side.

    Args:
        bottom_px: float64 ``(n,)``: lower edge of each box in pixels.
        size_hw: int64 ``(n, 2)``: height and width of each box's picture in pixels.
        camera_height_m: height of the camera above the road.

    Returns:
        float64 ``(n,)`` in metres; infinite where the box ends at or above the horizon and touches no ground.
    """
    below_px = bottom_px - DEFAULT_HORIZON * size_hw[:, 0]
    distance_m: npt.NDArray[np.float64] = np.full(len(below_px), np.inf)
    focal_px = DEFAULT_FOCAL * size_hw.max(axis=1, initial=1)
    np.divide(focal_px * camera_height_m, below_px, out=distance_m, where=below_px > 0)
    return distance_m


def ground_weight(depth_m: DepthMap, long_side_px: int = 240) -> Float:
    """Return how surely each pixel is level ground, float32 in 0..1, on a small grid of the given long side.

    In inverse depth a level plane rises linearly with the row while an upright surface is constant, whatever the
    camera. So the slope down each column, against the slope of the picture's lowest rows, tells ground from walls,
    for the prior as for measured depth.
    """
    scale = working_scale((depth_m.shape[0], depth_m.shape[1]), long_side_px)
    near = cv2.resize(depth_m, scale.size_wh, interpolation=cv2.INTER_NEAREST)
    inverse = 1.0 / np.minimum(near, np.float32(1e6))
    slope = np.zeros_like(inverse)
    if inverse.shape[0] > 2:
        slope[1:-1] = (inverse[2:] - inverse[:-2]) * 0.5
        slope[-1], slope[0] = slope[-2], slope[1]
    lowest = slope[-max(1, slope.shape[0] // 4) :]
    steepness = float(np.median(lowest))
    if steepness <= 0:
        return np.zeros_like(inverse)
    # A roof line or a kerb is steeper than ground, which is as wrong as too flat.
    weight = 1.0 - np.minimum(np.abs(slope / steepness - 1.0) * 1.6, 1.0)
    return f32(cv2.blur(f32(weight), (3, 3)))


def _picture_and_size(given: Any) -> tuple[BgrImage | None, tuple[int, int]]:
    if isinstance(given, np.ndarray):
        image = require_image(given)
        return image, (image.shape[0], image.shape[1])
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(side, int) and side > 0 for side in given):
        return None, (given[0], given[1])
    raise ImageError(f"the depth prior takes a BGR picture or its (height, width), not {quoted(given)}")


def _given_horizon(height: int, focal: float, horizon_px: float | None, pitch_deg: float | None) -> float | None:
    if horizon_px is not None and pitch_deg is not None:
        raise ConfigError("horizon_px and pitch_deg say the same thing; pass one of them")
    if pitch_deg is not None:
        pitch = require_number("pitch_deg", pitch_deg, -45.0, 45.0)
        horizon = height / 2 - focal * math.tan(math.radians(pitch))
        if not 0 <= horizon < height:
            raise ConfigError(
                f"pitch_deg {pitch:g} puts the horizon at row {horizon:.0f}, outside the picture's {height} rows"
            )
        return horizon
    if horizon_px is not None and not 0 <= require_number("horizon_px", horizon_px, -1e9, 1e9) < height:
        raise ConfigError(f"horizon_px is {horizon_px:g}, outside the picture's {height} rows (0 to {height - 1})")
    return None if horizon_px is None else float(horizon_px)


def _unseen_sky(elevation: Float) -> Float:
    """Without a picture: the higher above the horizon (as a share of the height), the likelier it is sky."""
    ramp = np.clip((elevation - 0.04) / 0.3, 0.0, 1.0)
    weight: Float = ramp * ramp * (3.0 - 2.0 * ramp)
    return weight


def _standing(sky: Float, below_px: Float, aside_px: Float, focal: float) -> Float:
    """Return the inverse depth of what stands beside the road, for every pixel of the small grid."""
    above = np.maximum(-below_px, 0.0)
    row_px = abs(float(below_px[1, 0] - below_px[0, 0])) if below_px.shape[0] > 1 else 1.0
    # How far each column's trees and houses reach above the horizon: the low skyline is the distant one.
    reach_px = ((1.0 - sky) * (above > 0)).sum(axis=0, keepdims=True) * np.float32(row_px)
    reach_px = cv2.blur(reach_px, (max(3, sky.shape[1] // 16) | 1, 1), borderType=cv2.BORDER_REPLICATE)
    # The road's own corridor: rounded, so that the middle of the road has no crease and a
    # lorry ahead without a box is not put at infinity.
    corridor = np.sqrt(aside_px * aside_px + (focal * 0.08) ** 2)[None, :] / np.float32(focal * _CORRIDOR_M)
    upright = np.minimum(corridor, reach_px / np.float32(focal * _SKYLINE_M))
    overhead = above * np.float32(1.0 / (focal * _TALLEST_M))
    standing: Float = np.maximum(upright, overhead).astype(np.float32)
    return standing


def _meeting(ground: Float, standing: Float) -> Float:
    """Return the larger of two inverse depths, rounded where they meet: there is no crease at a wall's foot.

    Beyond the reach of the rounding, half of what stands there, both are exact.
    """
    near = np.maximum(ground, standing)
    edge = np.maximum(standing * np.float32(0.5) - np.abs(ground - standing), 0.0)
    near += edge * edge / (standing * np.float32(2.0) + np.float32(1e-9))
    return near


def _stand_boxes(inverse: Float, boxes: Float, horizon: float, ground_px_m: float, small_bgr: BgrImage | None) -> None:
    """Draw boxes into the small inverse depth, the far ones first, each in the outline that the picture shows."""
    contact = (boxes[:, 3] - horizon) / ground_px_m
    grey = None if small_bgr is None else cv2.cvtColor(small_bgr, cv2.COLOR_BGR2GRAY).astype(np.float32)
    for index in np.argsort(contact):
        if contact[index] <= 1.0 / _FARTHEST_M:
            continue
        left, top, right, bottom = boxes[index]
        # A small object is found within fewer pixels, or nothing of it would be left.
        margin = int(np.clip(0.12 * min(right - left, bottom - top), 1, _MATTING_PX))
        x0, x1 = max(0, math.floor(left) - margin), min(inverse.shape[1], math.ceil(right) + margin)
        y0, y1 = max(0, math.floor(top) - margin), min(inverse.shape[0], math.ceil(bottom))
        if x0 >= x1 or y0 >= y1 or right <= 0 or left >= inverse.shape[1] or bottom <= 0:
            continue
        aside = np.abs((np.arange(x0, x1) + 0.5 - (left + right) / 2) / ((right - left) / 2))
        upward = np.maximum((bottom - np.arange(y0, y1) - 0.5) / (bottom - top), 0.0)
        # A superellipse keeps the flanks and rounds the upper corners, where a box shows what is behind the object.
        radius = aside[None, :] ** 4 + upward[:, None] ** 3
        weight = f32(np.clip((1.2 - radius) / 0.7, 0.0, 1.0))
        weight *= (aside <= 1.0)[None, :] & (upward <= 1.0)[:, None]
        if grey is not None:
            weight = _matted(weight, grey[y0:y1, x0:x1], margin)
        region = inverse[y0:y1, x0:x1]
        region += weight * (contact[index] - region)


def _matted(weight: Float, grey: Float, radius_px: int) -> Float:
    """Return the weight with its edges moved to those of the picture, so that no halo of clear air surrounds a car.

    A guided filter (He, Sun and Tang, "Guided image filtering", ECCV 2010): near each pixel the weight is a linear
    function of the grey level.
    """
    size = (2 * radius_px + 1, 2 * radius_px + 1)

    def mean(values: Float) -> Float:
        return f32(cv2.blur(values, size, borderType=cv2.BORDER_REPLICATE))

    level, share = mean(grey), mean(weight)
    slope = (mean(f32(grey * weight)) - level * share) / (
        mean(f32(grey * grey)) - level * level + np.float32(_MATTING_NOISE)
    )
    offset = share - slope * level
    # A third on either side is sure: what the filter leaves of the air around an object is little, but seen.
    return f32(np.clip(1.5 * (mean(f32(slope)) * grey + mean(f32(offset))) - 0.4, 0.0, 1.0))
