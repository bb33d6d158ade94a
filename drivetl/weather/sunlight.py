"""Low sun: a disc, the veil that the lens spreads from it, ghosts, lifted blacks, dark silhouettes."""

from __future__ import annotations

import math

import cv2
import numpy as np

from drivetl.weather.checks import BgrImage, DepthMap, require_depth, require_image, require_number, require_rng
from drivetl.weather.depth import DEFAULT_FOCAL
from drivetl.weather.pixels import Float, add_light, f32, planck_bgr, u8
from drivetl.weather.sky import DEFAULT_HORIZON, working_scale

__all__ = ["glare"]


def glare(
    image_bgr: BgrImage,
    *,
    azimuth_deg: float,
    elevation_deg: float,
    veil: float,
    lift: float,
    ghosts: float = 0.5,
    colour_temperature_k: float = 4300.0,
    focal_px: float | None = None,
    horizon_px: float | None = None,
    depth_m: DepthMap | None = None,
    rng: np.random.Generator,
) -> BgrImage:
    """Return the picture against a low sun.

    Far from the sun the veil falls with the square of the angle to it, as the disability glare of Stiles and Holladay
    does (CIE 146: L = 10 E / theta^2); near the disc a lens's veil is flat, the more so the weaker it is. It is laid
    over the picture as a screen. The camera closes
    down for the bright sky, so the rest darkens; internal reflections line up through the middle of the picture.

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        azimuth_deg: of the sun, right of the driving direction, -60 to 60.
        elevation_deg: above the horizon, 0 to 45.
        veil: strength of the veil, 0 to 1. Ten degrees from the sun it adds, as a share of white, 0.03 at 0.08, 0.15
            at 0.25 and 0.33 at 0.46.
        lift: light added everywhere, the lifted blacks, 0 to 0.5.
        ghosts: strength of the internal reflections, 0 to 1.
        colour_temperature_k: of the sun, 1500 to 10000; 4300 stands about 15 degrees high, 3000 sets.
        focal_px: as for `depth_prior`.
        horizon_px: row of the horizon; at 46 % of the height where None.
        depth_m: as for `fog`; trees and houses before the sun keep most of its disc from the lens. None: all sky.
        rng: how large the ghosts are and where.

    Raises:
        ImageError: the picture cannot be used.
        ConfigError: a parameter is out of range.
    """
    image = require_image(image_bgr)
    height, width = image.shape[:2]
    focal = DEFAULT_FOCAL * max(height, width) if focal_px is None else require_number("focal_px", focal_px, 1.0, 1e6)
    horizon = DEFAULT_HORIZON * height if horizon_px is None else require_number("horizon_px", horizon_px, 0.0, height)
    strength = require_number("veil", veil, 0.0, 1.0)
    black = require_number("lift", lift, 0.0, 0.5)
    kelvin = require_number("colour_temperature_k", colour_temperature_k, 1500.0, 10000.0)
    sun_x, sun_y = _sun_px(azimuth_deg, elevation_deg, (width / 2, horizon), focal)
    scale = working_scale((height, width), 224)
    dx, dy = _offsets(scale.size_wh, (width, height), sun_x, sun_y)
    disc, veil_light = _sunlight(dx, dy, focal, strength)
    light = disc * _open_sky(depth_m, (height, width), scale.size_wh) + veil_light + np.float32(black)
    layers = [light * np.float32(0.35 + 0.65 * channel) for channel in planck_bgr(kelvin)]
    reflections = require_number("ghosts", ghosts, 0.0, 1.0) * min(1.0, 2.5 * strength)
    if reflections > 0:
        _add_ghosts(layers, scale.size_wh, (sun_x * scale.x, sun_y * scale.y), reflections, require_rng(rng))
    # The camera closes down for the sun; far from the sun's side that is all there is to see.
    closed = cv2.convertScaleAbs(image, alpha=1.0 - min(0.55, 0.12 + 0.8 * strength))
    return add_light(u8(closed), cv2.merge(layers))


def _sun_px(
    azimuth_deg: float, elevation_deg: float, ahead_px: tuple[float, float], focal: float
) -> tuple[float, float]:
    """Return where the sun stands, perhaps outside the picture; ``ahead_px`` is where the road goes."""
    azimuth = math.radians(require_number("azimuth_deg", azimuth_deg, -60.0, 60.0))
    elevation = math.radians(require_number("elevation_deg", elevation_deg, 0.0, 45.0))
    return ahead_px[0] + focal * math.tan(azimuth), ahead_px[1] - focal * math.tan(elevation)


def _open_sky(depth_m: DepthMap | None, size_hw: tuple[int, int], small_wh: tuple[int, int]) -> Float:
    """Return the share of the disc that each pixel lets through: a tree before the sun leaves four tenths."""
    if depth_m is None:
        return np.ones((1, 1), np.float32)
    depth = cv2.resize(require_depth(depth_m, size_hw), small_wh, interpolation=cv2.INTER_NEAREST)
    return f32(0.4 + 0.6 * cv2.blur(np.isinf(depth).astype(np.float32), (3, 3)))


def _offsets(size_wh: tuple[int, int], full_wh: tuple[int, int], x: float, y: float) -> tuple[Float, Float]:
    columns = (np.arange(size_wh[0], dtype=np.float32) + 0.5) * np.float32(full_wh[0] / size_wh[0]) - np.float32(x)
    rows = (np.arange(size_wh[1], dtype=np.float32) + 0.5) * np.float32(full_wh[1] / size_wh[1]) - np.float32(y)
    return columns[None, :], rows[:, None]


def _sunlight(dx: Float, dy: Float, focal: float, strength: float) -> tuple[Float, Float]:
    """Return the disc with its aureole, and the veil with its rays, on the small grid, as shares of white."""
    distance = np.sqrt(dx * dx + dy * dy)
    theta = np.degrees(np.arctan(distance / np.float32(focal)))
    veil = strength * (10.0**2 + 2.0) / (theta * theta + 2.0 + 18.0 / max(strength, 0.05))
    aureole = 1.8 * np.exp(-((theta / (2.8 + 5.0 * strength)) ** 2))
    # Scratches of the wiper and the blades of the aperture spread the disc into rays.
    bearing = np.arctan2(dy, dx)
    rays = (np.abs(np.cos(3.0 * bearing + 0.4)) ** 40 + 0.6 * np.abs(np.cos(4.0 * bearing - 0.9)) ** 60) * np.exp(
        -theta / 6.5
    )
    return f32(aureole), f32(veil + 1.1 * strength * rays)


def _add_ghosts(
    layers: list[Float],
    size_wh: tuple[int, int],
    sun_xy: tuple[float, float],
    strength: float,
    rng: np.random.Generator,
) -> None:
    """Add discs on the line from the sun through the middle: reflections between the lens surfaces."""
    width, height = size_wh
    along = np.array([0.45, 0.8, 1.25, 1.6, 1.95]) + rng.uniform(-0.08, 0.08, 5)
    radii = rng.uniform(0.012, 0.055, 5) * width
    colours = ((0.5, 0.8, 0.4), (0.9, 0.5, 0.3), (0.35, 0.8, 0.9), (0.9, 0.7, 0.4), (0.5, 0.5, 0.9))
    for share, radius, colour in zip(along, radii, colours, strict=True):
        x = sun_xy[0] + share * (width / 2 - sun_xy[0])
        y = sun_xy[1] + share * (height / 2 - sun_xy[1])
        disc = np.zeros((height, width), np.float32)
        cv2.circle(disc, (round(x * 16), round(y * 16)), round(radius * 16), 1.0, -1, cv2.LINE_AA, 4)
        disc = f32(cv2.GaussianBlur(disc, (0, 0), 1.2))
        for layer, channel in zip(layers, colour, strict=True):
            layer += disc * np.float32(0.14 * strength * channel)
