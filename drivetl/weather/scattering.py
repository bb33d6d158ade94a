"""Fog and haze: light is lost on the way from the object, and daylight is scattered into the way."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import (
    BgrImage,
    DepthMap,
    require_colour,
    require_depth,
    require_image,
    require_number,
    require_rng,
    require_time,
)
from drivetl.weather.depth import depth_prior
from drivetl.weather.pixels import Bgr, Float, enlarge, f32, scaled, strips
from drivetl.weather.sky import shrink, working_scale
from drivetl.weather.tiles import fractal_tile, window

__all__ = ["airlight_of", "estimate_airlight", "extinction", "fog", "scene_depth", "transmission"]


# Strips of float32 that fit the cache, in few enough calls.
_FLOAT_STRIP_PX = 40960
# 100 for the middle leaves room for a factor of 2.5 in a byte.
_BANK_SCALE = 100.0


def extinction(visibility_m: float, *, contrast_threshold: float = 0.02) -> float:
    """Return the extinction coefficient in 1/m for a visibility in metres.

    Koschmieder (1924): contrast falls as exp(-beta * distance), and visibility is where it reaches the threshold:
    beta = 3.912 / visibility at 2 %, or 2.996 / MOR at the 5 % of the meteorological optical range (WMO-No. 8).

    Raises:
        ConfigError: visibility outside 1 m to 1000 km, or threshold outside 0.001 to 0.5.
    """
    visibility = require_number("visibility_m", visibility_m, 1.0, 1e6)
    return -math.log(require_number("contrast_threshold", contrast_threshold, 0.001, 0.5)) / visibility


def transmission(depth_m: DepthMap, beta_per_m: float, *, out: Float | None = None) -> Float:
    """Return exp(-beta * depth), the share of light that arrives: float32 in 0..1 of the shape of the depth.

    ``out`` may be memory of that shape for the result, and ``depth_m`` itself.
    """
    exponent = np.multiply(depth_m, np.float32(-beta_per_m), out=out)
    # exp(-16) is 1e-7, far below a grey level; smaller results are denormal numbers, which take ten times as long.
    np.maximum(exponent, np.float32(-16.0), out=exponent)
    return f32(cv2.exp(exponent, dst=exponent))


def estimate_airlight(image_bgr: BgrImage, depth_m: DepthMap) -> Bgr:
    """Return the colour of the scattered daylight: as bright as the sky, nearly grey.

    Where no sky is seen, the brightest twentieth of the picture stands for it (He, Sun and Tang, CVPR 2009, take the
    brightest thousandth of the dark channel, which on roads is too often a headlamp). Droplets are larger than the
    wavelength and scatter every colour alike, so only a fifth of the sky's tint is kept.
    """
    scale = working_scale((image_bgr.shape[0], image_bgr.shape[1]), 80)
    sky = np.isinf(cv2.resize(depth_m, scale.size_wh, interpolation=cv2.INTER_NEAREST))
    return airlight_of(shrink(image_bgr, scale), sky)


def airlight_of(small_bgr: BgrImage, sky: NDArray[np.bool_]) -> Bgr:
    """Do what `estimate_airlight` does for a small picture whose sky (rows, columns) is known."""
    pixels = small_bgr[sky][::3]
    if pixels.shape[0] < max(2, sky.size // 600):
        grey = cv2.cvtColor(small_bgr, cv2.COLOR_BGR2GRAY)
        pixels = small_bgr[grey >= np.percentile(grey, 95)]
    colour = np.median(pixels, axis=0)
    level = min(float(colour.mean()) * 0.96, 222.0)
    blue, green, red = np.clip(level + 0.2 * (colour - colour.mean()), 0, 255).tolist()
    return blue, green, red


def scene_depth(image_bgr: BgrImage, depth_m: DepthMap | None) -> DepthMap:
    """Return the depth that was given, checked, or else the depth prior of the picture.

    It is measured along the optical axis. The path of the light is longer towards the sides, by a quarter at the edge
    of a wide picture, which all that scatters here leaves out.
    """
    if depth_m is None:
        return depth_prior(image_bgr)
    return require_depth(depth_m, (image_bgr.shape[0], image_bgr.shape[1]))


def fog(
    image_bgr: BgrImage,
    *,
    visibility_m: float,
    depth_m: DepthMap | None = None,
    airlight_bgr: Bgr | None = None,
    tint_bgr: Bgr = (1.0, 1.0, 1.0),
    contrast_threshold: float = 0.02,
    linear: bool = False,
    patchiness: float = 0.0,
    rng: np.random.Generator | None = None,
    time_s: float = 0.0,
) -> BgrImage:
    """Return the picture in fog by Koschmieder's equation I = J t + A (1 - t) with t = exp(-beta d).

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        visibility_m: distance at which contrast falls to the threshold.
        depth_m: metres along the optical axis, float32 (height, width), infinity for the sky; the depth prior where
            None.
        airlight_bgr: A, 0 to 255; from the picture's sky where None.
        tint_bgr: factors of 0 to 1 on the airlight: dust and smoke absorb blue, droplets do not.
        contrast_threshold: 0.02 for visibility, 0.05 for the meteorological optical range.
        linear: mix in linear light instead of gamma-coded values, on which the equation is usually applied.
        patchiness: 0 to 0.9, by how much drifting banks change the extinction from place to place.
        rng: where the banks lie; needed with patchiness.
        time_s: how far the banks have drifted.

    Raises:
        ImageError: picture or depth cannot be used.
        ConfigError: a parameter is out of range.
    """
    image = require_image(image_bgr)
    beta = extinction(visibility_m, contrast_threshold=contrast_threshold)
    depth = scene_depth(image, depth_m)
    airlight = estimate_airlight(image, depth) if airlight_bgr is None else require_colour("airlight_bgr", airlight_bgr)
    tint = require_colour("tint_bgr", tint_bgr, highest=1.0)
    airlight = (airlight[0] * tint[0], airlight[1] * tint[1], airlight[2] * tint[2])
    banks = None
    if require_number("patchiness", patchiness, 0.0, 0.9) > 0:
        banks = _banks(image, patchiness, require_rng(rng), require_time(time_s))
    if linear:
        return _mix_linear(image, airlight, _arriving(depth, beta, banks))
    return _mix(image, airlight, depth, beta, banks)


def _banks(image: BgrImage, patchiness: float, rng: np.random.Generator, time_s: float) -> BgrImage:
    """Return 100 times the factor on the extinction, uint8 (height, width): wide, flat banks that drift sideways."""
    scale = working_scale((image.shape[0], image.shape[1]), 96)
    x, y = rng.uniform(0, 256, 2)
    tile = window(fractal_tile(1, 256, 8), scale.size_wh, x + 4.0 * time_s, y)
    factor = 1.0 + patchiness * (2.0 * cv2.blur(tile, (9, 3)) - 1.0)
    return enlarge(scaled(factor * (_BANK_SCALE / 255)), image, slot=0)


def _arriving(depth: Float, beta: float, banks: BgrImage | None, out: Float | None = None) -> Float:
    if banks is None:
        return transmission(depth, beta, out=out)
    thickened = np.empty_like(depth) if out is None else out
    np.copyto(thickened, banks)
    np.multiply(thickened, depth, out=thickened)
    return transmission(thickened, beta / _BANK_SCALE, out=thickened)


def _mix(image: BgrImage, airlight: Bgr, depth: Float, beta: float, banks: BgrImage | None) -> BgrImage:
    """Return A + (J - A) t, in float32 and rounded once, strip by strip in four strips of memory."""
    height, width = depth.shape
    result = np.empty(image.shape, np.uint8)
    target: Float | None = None
    for rows in strips(height, width, _FLOAT_STRIP_PX):
        count = rows.stop - rows.start
        if target is None:
            target = np.empty((count, width, 3), np.float32)
            target[:] = airlight
            values, weight, share = np.empty_like(target), np.empty_like(target), np.empty((count, width), np.float32)
        strip, goal, factor = values[:count], target[:count], weight[:count]
        arriving = _arriving(depth[rows], beta, None if banks is None else banks[rows], share[:count])
        np.copyto(strip, image[rows])
        cv2.subtract(strip, goal, dst=strip)
        cv2.multiply(strip, cv2.merge([arriving, arriving, arriving], dst=factor), dst=strip)
        cv2.add(strip, goal, dst=strip)
        cv2.convertScaleAbs(strip, dst=result[rows])
    return result


@lru_cache(maxsize=1)
def _to_linear() -> Float:
    """The sRGB decoding of IEC 61966-2-1 as a table of 256 values in 0..1."""
    code = np.arange(256, dtype=np.float32) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _mix_linear(image: BgrImage, airlight: Bgr, arriving: Float) -> BgrImage:
    """Return the mixture of decoded values, encoded again."""
    table = _to_linear()
    kept = table[image] * arriving[..., None]
    kept += (1.0 - arriving[..., None]) * np.interp(airlight, np.arange(256), table).astype(np.float32)
    coded = np.where(kept <= 0.0031308, kept * 12.92, 1.055 * np.power(kept, 1 / 2.4) - 0.055)
    return scaled(coded)
