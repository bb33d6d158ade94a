"""Rain: attenuation and mist, streaks of falling drops, wet ground."""

from __future__ import annotations

import math

import cv2
import numpy as np

from drivetl.weather.checks import BgrImage, DepthMap, require_image, require_number, require_rng
from drivetl.weather.depth import DEFAULT_FOCAL
from drivetl.weather.particles import Streaks, View, draw_streaks, fly
from drivetl.weather.pixels import Bgr, Float, f32, lay_over, relight, u8
from drivetl.weather.scattering import extinction, scene_depth
from drivetl.weather.sky import DEFAULT_HORIZON
from drivetl.weather.surface import SmallView, small_view, view_airlight, wet_ground

__all__ = ["drop_speed", "rain", "rain_extinction"]

_FARTHEST_M = 5.0
# The largest drops make the streaks that are seen; the rest is in the veil.
_MOST_DROPS = 4500
_SMALLEST_MM = 1.0
# Share of the detail and colour that light from everywhere takes.
_GREY = 0.18


def rain_extinction(rate_mm_h: float) -> float:
    """Return the extinction of visible light by rain in 1/m: 1.076 R^0.67 dB/km (Carbonneau; ITU-R P.1814)."""
    return 1.076 * math.pow(rate_mm_h, 0.67) / 4343.0


def drop_speed(diameter_mm: Float) -> Float:
    """Return the terminal speed of raindrops in m/s: 9.65 - 10.3 exp(-0.6 D) (Atlas, Srivastava, Sekhon 1973)."""
    return f32(np.maximum(9.65 - 10.3 * np.exp(-0.6 * diameter_mm), 0.1))


def rain(
    image_bgr: BgrImage,
    *,
    rate_mm_h: float,
    depth_m: DepthMap | None = None,
    airlight_bgr: Bgr | None = None,
    ego_m_s: float = 12.0,
    wind_m_s: float = 0.5,
    exposure_ms: float = 8.0,
    mist_visibility_m: float | None = None,
    wetness: float | None = None,
    dimming: float = 0.12,
    rng: np.random.Generator,
    time_s: float = 0.0,
) -> BgrImage:
    """Return the picture in rain.

    Drops follow Marshall and Palmer (1948), N(D) = 8000 exp(-4.1 R^-0.21 D) per cubic metre and millimetre, fall at
    `drop_speed`, and are met by the car at ``ego_m_s``: a streak is the path of one drop during the exposure. A drop
    gathers light from nearly half the sphere, so its streak has the brightness of the sky, thinned by the share of
    the exposure for which the drop covers a pixel (Garg and Nayar, IJCV 75, 2007).

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        rate_mm_h: rain rate R, 0.1 to 200 mm/h. Below 2.5 is light, above 10 heavy, above 50 violent.
        depth_m, airlight_bgr: as for `fog`.
        ego_m_s: speed of the own car, 0 to 70.
        wind_m_s: sideways, -20 to 20.
        exposure_ms: 0.1 to 50.
        mist_visibility_m: visibility in spray and mist on top of the drops themselves; none where None.
        wetness: of the ground, 0 to 1; grows with the rate where None.
        dimming: 0 to 0.8, the share of daylight that the clouds take.
        rng: where the drops are.
        time_s: moment, for a video.

    Raises:
        ImageError: picture or depth cannot be used.
        ConfigError: a parameter is out of range.
    """
    image = require_image(image_bgr)
    rate = require_number("rate_mm_h", rate_mm_h, 0.1, 200.0)
    small = small_view(image, scene_depth(image, depth_m))
    light = 1.0 - require_number("dimming", dimming, 0.0, 0.8)
    blue, green, red = view_airlight(small, airlight_bgr)
    airlight = (blue * light, green * light, red * light)
    wet = min(1.0, 0.5 + 0.1 * math.log2(1.0 + rate)) if wetness is None else wetness
    beta = rain_extinction(rate)
    if mist_visibility_m is not None:
        beta += extinction(require_number("mist_visibility_m", mist_visibility_m, 20.0, 1e6))
    result = _wet_and_veiled(image, small, require_number("wetness", wet, 0.0, 1.0), beta, light, airlight)
    streaks, view = _drops(
        image,
        require_rng(rng),
        rate,
        ego_m_s=require_number("ego_m_s", ego_m_s, 0.0, 70.0),
        wind_m_s=require_number("wind_m_s", wind_m_s, -20.0, 20.0),
        exposure_s=require_number("exposure_ms", exposure_ms, 0.1, 50.0) / 1000,
        time_s=time_s,
    )
    return lay_over(result, _drop_colour(airlight), _coverage(view, streaks, exposure_ms / 1000))


def _wet_and_veiled(
    image: BgrImage, small: SmallView, wetness: float, beta: float, light: float, airlight: Bgr
) -> BgrImage:
    gain, mirrored = wet_ground(small, wetness)
    arriving = f32(cv2.exp(small.depth_m * np.float32(-beta)))
    veil = 1.0 - arriving
    arriving *= np.float32(light)
    gain *= arriving
    grey = cv2.cvtColor(small.image_bgr, cv2.COLOR_BGR2GRAY).astype(np.float32) * np.float32(_GREY / 255)
    grey *= gain
    added = [
        mirror * arriving + grey + veil * np.float32(scattered / 255)
        for mirror, scattered in zip(cv2.split(mirrored), airlight, strict=True)
    ]
    return relight(image, gain * np.float32(1.0 - _GREY), cv2.merge(added))


def _drop_colour(airlight: Bgr) -> Bgr:
    blue, green, red = (min(255.0, 60.0 + 0.9 * channel) for channel in airlight)
    return blue, green, red


def _drops(
    image: BgrImage,
    rng: np.random.Generator,
    rate: float,
    *,
    ego_m_s: float,
    wind_m_s: float,
    exposure_s: float,
    time_s: float,
) -> tuple[Streaks, View]:
    height, width = image.shape[:2]
    view = View(height, width, DEFAULT_FOCAL * max(height, width), width / 2, DEFAULT_HORIZON * height)
    slope = 4.1 * rate**-0.21
    space_m3 = view.space_m3(_FARTHEST_M)
    everything = 8000.0 / slope * space_m3
    smallest_mm = max(_SMALLEST_MM, math.log(everything / _MOST_DROPS) / slope)
    count = min(_MOST_DROPS, round(everything * math.exp(-slope * smallest_mm)))
    # As many numbers are drawn at every rate, so that at two rates the same drops lie in the same places.
    diameter_mm = smallest_mm + rng.exponential(1.0 / slope, _MOST_DROPS)[:count]
    diameter_mm = np.minimum(diameter_mm, 5.5).astype(np.float32)
    streaks = fly(
        view,
        rng,
        diameter_m=diameter_mm / np.float32(1000),
        fall_m_s=drop_speed(diameter_mm),
        ego_m_s=ego_m_s,
        wind_m_s=wind_m_s,
        exposure_s=exposure_s,
        farthest_m=_FARTHEST_M,
        time_s=time_s,
    )
    return streaks, view


def _coverage(view: View, streaks: Streaks, exposure_s: float) -> BgrImage:
    """Return how much of each pixel drops cover, uint8: the far ones sharp and thin, the near ones wide and blurred."""
    length_px = np.hypot(*(streaks.ends_px[:, 1] - streaks.ends_px[:, 0]).T)
    width_px = streaks.diameter_m * np.float32(view.focal_px) / streaks.distance_m
    # The share of the exposure for which the drop covers one point of its path, lifted where lenses sharpen.
    opacity = np.clip(6.0 * width_px / np.maximum(length_px, width_px), 0.1, 0.8).astype(np.float32)
    near = width_px > 2.0
    fine, coarse = (
        draw_streaks(
            view,
            Streaks(streaks.ends_px[chosen], streaks.distance_m[chosen], streaks.diameter_m[chosen]),
            opacity[chosen],
            scale=scale,
            blur_px=blur_px,
        )
        for chosen, scale, blur_px in ((~near, 1.0, 0.0), (near, 0.5, 0.9))
    )
    return u8(cv2.max(fine, cv2.resize(coarse, (view.width, view.height), interpolation=cv2.INTER_LINEAR)))
