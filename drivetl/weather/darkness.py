"""Night: little light, the own headlights, lamps that glow, and a sensor at high gain."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.camera import sensor_noise
from drivetl.weather.checks import (
    BgrImage,
    DepthMap,
    require_boxes,
    require_image,
    require_number,
    require_rng,
    require_time,
)
from drivetl.weather.depth import DEFAULT_FOCAL
from drivetl.weather.pixels import Float, add_light, f32, planck_bgr, relight
from drivetl.weather.scattering import scene_depth
from drivetl.weather.sky import DEFAULT_HORIZON, working_scale

__all__ = ["night"]

_LAMP_SPACING_M = 32.0
_LAMP_ABOVE_M = 6.0
_LAMP_ASIDE_M = 7.5
_LAMP_BEHIND_M = 16.0
_VEHICLE_WIDTH_M = 1.2
# Farther away, the light on the road is a line of pixels.
_POOLS_TO_M = 112.0


def night(
    image_bgr: BgrImage,
    *,
    ambient: float,
    headlight: float = 0.45,
    gain_db: float = 18.0,
    colour_temperature_k: float = 3600.0,
    lamp_strength: float = 0.7,
    ego_m_s: float = 10.0,
    depth_m: DepthMap | None = None,
    boxes_xyxy_px: Any = None,
    rng: np.random.Generator,
    noise_rng: np.random.Generator | None = None,
    time_s: float = 0.0,
) -> BgrImage:
    """Return a picture taken by day as if it were taken at night.

    Light is multiplied in linear terms and shown through a gamma of 2.2. The ambient light is what street lamps and
    the sky leave; the own headlights are a low beam (UN Regulation 149: a cut-off just below the horizon, most light
    ahead and towards the kerb). Street lamps stand along both sides, light pools on the road and move past with the
    car; vehicles in boxes get tail lamps, or headlamps left of the middle (right-hand traffic). Lamps glow: a sum of
    Gaussians stands for scatter in the lens (Spencer et al., SIGGRAPH 1995).

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        ambient: light left, as a linear share of daylight exposure, 0.001 to 1.
        headlight: brightness of the beam at its best place on that scale, 0 to 2.
        gain_db: for `sensor_noise`.
        colour_temperature_k: of the ambient light, 1500 to 12000.
        lamp_strength: of street lamps, 0 for none, to 1.
        ego_m_s, depth_m, time_s: as for `rain`.
        boxes_xyxy_px: (n, 4) boxes. Vehicles are those that reach below the horizon, are at least 0.8 times as wide
            as high, and 1.2 m wide where they stand: traffic signs are not.
        rng: where lamps stand.
        noise_rng: for the noise, which changes with every frame of a video; ``rng`` where None.

    Raises:
        ImageError, ConfigError: picture, depth or boxes cannot be used; a parameter is out of range.
    """
    image = require_image(image_bgr)
    dark = require_number("ambient", ambient, 0.001, 1.0)
    beam = require_number("headlight", headlight, 0.0, 2.0)
    kelvin = require_number("colour_temperature_k", colour_temperature_k, 1500.0, 12000.0)
    lamps = require_number("lamp_strength", lamp_strength, 0.0, 1.0)
    speed = require_number("ego_m_s", ego_m_s, 0.0, 70.0)
    generator = require_rng(rng)
    scale = working_scale((image.shape[0], image.shape[1]), 256)
    boxes = require_boxes(boxes_xyxy_px) * (scale.x, scale.y, scale.x, scale.y)
    near = f32(cv2.resize(scene_depth(image, depth_m), scale.size_wh, interpolation=cv2.INTER_NEAREST))
    sky, near = np.isinf(near), np.minimum(near, np.float32(1e4))
    horizon = _row_of_horizon(near)
    posts = _lamp_posts(generator, speed * require_time(time_s)) if lamps > 0 else np.zeros((0, 2))
    pools = _pools(near, horizon, posts) * np.float32(0.5 * lamps * dark**0.3)
    low_beam = _low_beam(near, horizon) * np.float32(beam)
    gains = _gains(_ambient(sky, dark), pools, low_beam, kelvin)
    result = relight(image, np.power(np.minimum(gains, 1.0), 1 / 2.2))
    result = add_light(result, _lamp_light(near, horizon, posts, lamps, boxes))
    return sensor_noise(result, gain_db=gain_db, rng=generator if noise_rng is None else require_rng(noise_rng))


def _gains(ambient: Float, pools: Float, low_beam: Float, kelvin: float) -> Float:
    """Return the linear light of each pixel in blue, green and red; street lamps and headlights have a white each."""
    whites = zip(planck_bgr(kelvin), planck_bgr(3000.0), planck_bgr(5000.0), strict=True)
    return f32(
        cv2.merge([ambient * np.float32(a) + pools * np.float32(b) + low_beam * np.float32(c) for a, b, c in whites])
    )


def _ambient(sky: NDArray[np.bool_], dark: float) -> Float:
    """Return the ambient light of each pixel: a city's sky is darker than its street by more than by day."""
    # Daylight spills over the edge of the sky; by night there is none to spill.
    spread = f32(cv2.blur(cv2.dilate(sky.astype(np.float32), np.ones((3, 3), np.uint8)), (5, 5)))
    return f32(dark * (1.0 - (0.92 - 2.5 * min(dark, 0.1)) * spread))


def _row_of_horizon(near: Float) -> float:
    """Return the row at which the ground of the small depth would reach infinity, from the two lowest quarters."""
    height = near.shape[0]
    rows = np.arange(height, dtype=np.float32)
    inverse = np.median(1.0 / near, axis=1)
    low, high = inverse[int(0.72 * height)], inverse[-1]
    row = float(rows[int(0.72 * height)])
    if row >= height - 1 or high <= low:
        return DEFAULT_HORIZON * float(height)
    return float(np.clip(row - low * (height - 1 - row) / (high - low), 0.2 * height, 0.8 * height))


def _low_beam(near: Float, horizon: float) -> Float:
    """Return the light of the own headlights for each pixel of the small grid, 1 at its best place."""
    height, width = near.shape
    focal = DEFAULT_FOCAL * max(height, width)
    across = np.degrees(np.arctan((np.arange(width, dtype=np.float32) - width / 2) / focal))[None, :]
    down = np.degrees(np.arctan((np.arange(height, dtype=np.float32) - horizon) / focal))[:, None]
    spread = np.exp(-(((across - 1.5) / 15.0) ** 2)) + 0.35 * np.exp(-((across / 30.0) ** 2))
    # Kerb side: the cut-off rises by up to two degrees to the right, as the beam does for right-hand traffic.
    cut_off = 0.5 + 0.5 * np.tanh((down + np.clip(across, 0.0, 8.0) * 0.22 - 0.2) / 0.9)
    reach = np.minimum(near / 7.0, 1.0) * np.power(9.0 / np.maximum(near, 9.0), 1.5)
    light: Float = ((0.06 + 0.94 * cut_off) * spread * reach / 1.35).astype(np.float32)
    return light


def _lamp_posts(rng: np.random.Generator, driven_m: float) -> NDArray[np.float64]:
    """Return where street lamps stand, (n, 2): aside and ahead in metres, nearest first; they come closer.

    The nearest ones are behind the camera: what they light is in view for longer than they are.
    """
    first = rng.uniform(0, _LAMP_SPACING_M, 2)
    ahead = np.arange(0, 7) * _LAMP_SPACING_M - _LAMP_BEHIND_M
    posts: list[tuple[float, float]] = []
    for side, start in zip((-1.0, 1.0), first, strict=True):
        places = np.mod(start - driven_m, _LAMP_SPACING_M) + ahead
        posts.extend((side * _LAMP_ASIDE_M, place) for place in places)
    return np.array(sorted(posts, key=lambda post: post[1]))


def _faded(ahead_m: float, farthest_m: float) -> float:
    """Return how much a lamp counts, 0 to 1: it comes and goes by degrees, where it hardly matters."""
    return min(max(0.0, ahead_m + _LAMP_BEHIND_M) / 8.0, max(0.0, farthest_m - ahead_m) / _LAMP_SPACING_M, 1.0)


def _pools(near: Float, horizon: float, posts: NDArray[np.float64]) -> Float:
    """Return the light of street lamps on ground and walls of the small grid."""
    height, width = near.shape
    aside = (
        (np.arange(width, dtype=np.float32) - width / 2)[None, :]
        / np.float32(DEFAULT_FOCAL * max(height, width))
        * near
    )
    high = (
        (horizon - np.arange(height, dtype=np.float32))[:, None] / np.float32(DEFAULT_FOCAL * max(height, width)) * near
    )
    total = np.zeros_like(near)
    for x, z in posts:
        share = _faded(z, _POOLS_TO_M)
        if share > 0:
            square = (aside - np.float32(x)) ** 2 + (near - np.float32(z)) ** 2
            total += share / (1.0 + square / 50.0) ** 2
    total *= np.clip((7.0 - high) / 4.0, 0.0, 1.0)
    return total


def _lamp_light(near: Float, horizon: float, posts: NDArray[np.float64], strength: float, boxes: Float) -> Float:
    """Return the light of all lamps in view and their glow."""
    sources = np.zeros((*near.shape, 3), np.float32)
    _street_lamps(sources, near, horizon, posts, strength)
    _vehicle_lamps(sources, near, horizon, boxes)
    return _bloom(sources)


def _street_lamps(sources: Float, near: Float, horizon: float, posts: NDArray[np.float64], strength: float) -> None:
    height, width = sources.shape[:2]
    focal = DEFAULT_FOCAL * max(height, width)
    farthest = 6 * _LAMP_SPACING_M - _LAMP_BEHIND_M
    for x, z in posts[::-1]:
        if z <= 0:
            continue
        colour = tuple(6.0 * strength * _faded(z, farthest) * channel for channel in planck_bgr(3000.0))
        column, row = width / 2 + focal * x / z, horizon - focal * _LAMP_ABOVE_M / z
        radius = max(0.45, 0.22 * focal / z)
        # A lamp behind a house or a lorry is not seen.
        if 0 <= column < width and 0 <= row < height and near[int(row), int(column)] >= z:
            _spot(sources, column, row, radius, colour)


def _vehicle_lamps(sources: Float, near: Float, horizon: float, boxes: Float) -> None:
    height, width = sources.shape[:2]
    focal = DEFAULT_FOCAL * max(height, width)
    for left, top, right, bottom in boxes.tolist():
        wide, high = right - left, bottom - top
        if wide < 0.8 * high or wide < 2.0 or bottom <= horizon:
            continue
        middle = near[min(int((top + bottom) / 2), height - 1), min(int((left + right) / 2), width - 1)]
        if wide * middle / focal < _VEHICLE_WIDTH_M:
            continue
        oncoming = (left + right) / 2 < 0.47 * width
        colour = tuple(3.5 * c for c in planck_bgr(4300.0)) if oncoming else (0.16, 0.10, 2.4)
        row = top + (0.66 if oncoming else 0.55) * high
        for column in (left + 0.13 * wide, right - 0.13 * wide):
            _spot(sources, column, row, float(np.clip(0.04 * wide, 0.35, 1.8)), colour)


def _spot(sources: Float, column: float, row: float, radius: float, colour: tuple[float, ...]) -> None:
    """Draw one lamp; smaller than a pixel it is a pixel of less light."""
    share = min(1.0, (radius / 0.6) ** 2)
    paint = tuple(channel * share for channel in colour)
    cv2.circle(sources, (round(column * 16), round(row * 16)), max(8, round(radius * 16)), paint, -1, cv2.LINE_8, 4)


def _bloom(sources: Float) -> Float:
    """Return sources and their glow: three Gaussians, each wider and weaker."""
    if not sources.any():
        return sources
    glow = 0.55 * cv2.GaussianBlur(sources, (0, 0), 0.9)
    glow += 0.5 * cv2.GaussianBlur(sources, (0, 0), 2.5)
    # The widest is smooth enough for a quarter of the pixels.
    quarter = (max(1, sources.shape[1] // 4), max(1, sources.shape[0] // 4))
    small = cv2.resize(sources, quarter, interpolation=cv2.INTER_AREA)
    wide = cv2.resize(cv2.GaussianBlur(small, (0, 0), 3.0), (sources.shape[1], sources.shape[0]))
    result: Float = glow + 0.8 * wide
    return result
