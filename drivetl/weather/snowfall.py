"""Snow: attenuation, flakes in the air, snow on the ground."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import BgrImage, DepthMap, require_image, require_number, require_rng
from drivetl.weather.depth import DEFAULT_FOCAL
from drivetl.weather.particles import Streaks, View, draw_streaks, fly
from drivetl.weather.pixels import Bgr, Float, f32, lay_over, relight, u8
from drivetl.weather.scattering import extinction, scene_depth
from drivetl.weather.sky import DEFAULT_HORIZON
from drivetl.weather.surface import SmallView, small_view, snow_cover, view_airlight

__all__ = ["snow"]

_FARTHEST_M = 4.5
_SMALLEST_MM = 3.0
_MOST_PER_M3 = 80.0
# Share of the detail and colour that light from everywhere takes.
_GREY = 0.3
# Share of the ground that the thickest snow hides.
_HIDDEN = 0.88


def snow(
    image_bgr: BgrImage,
    *,
    visibility_m: float,
    flakes_per_m3: float,
    ground_cover: float,
    depth_m: DepthMap | None = None,
    airlight_bgr: Bgr | None = None,
    ego_m_s: float = 8.0,
    wind_m_s: float = 0.8,
    exposure_ms: float = 8.0,
    rng: np.random.Generator,
    time_s: float = 0.0,
) -> BgrImage:
    """Return the picture in falling snow.

    Intensity of snowfall is defined by visibility (light above 1 km, moderate to 500 m, heavy below; AMS Glossary of
    Meteorology). Flakes have an exponential size distribution (Gunn and Marshall, J. Meteorology 15, 1958), here of
    3 to 16 mm, and fall at 0.9 to 1.7 m/s, little faster when large (Locatelli and Hobbs, JGR 79, 1974), so the own
    speed decides their path.

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        visibility_m: 20 m to 100 km.
        flakes_per_m3: number of flakes above 3 mm, 0 to 80 per cubic metre.
        ground_cover: share of the ground under snow, 0 to 1.
        depth_m, airlight_bgr, ego_m_s, wind_m_s, exposure_ms, time_s: as for `rain`.
        rng: where flakes and patches are.

    Raises:
        ImageError: picture or depth cannot be used.
        ConfigError: a parameter is out of range.
    """
    image = require_image(image_bgr)
    beta = extinction(require_number("visibility_m", visibility_m, 20.0, 1e5))
    number = require_number("flakes_per_m3", flakes_per_m3, 0.0, _MOST_PER_M3)
    cover = require_number("ground_cover", ground_cover, 0.0, 1.0)
    generator = require_rng(rng)
    small = small_view(image, scene_depth(image, depth_m), 320)
    airlight = view_airlight(small, airlight_bgr)
    level = min(246.0, max(airlight) * 1.06 + 8.0)
    lying = 0.96 * snow_cover(small, cover, generator.uniform(0, 512, 2))
    result = _whitened(image, small, lying, beta, level, airlight)
    height, width = image.shape[:2]
    view = View(height, width, DEFAULT_FOCAL * max(height, width), width / 2, DEFAULT_HORIZON * height)
    diameter_mm = _diameters_mm(view.space_m3(_FARTHEST_M), number, generator)
    streaks = fly(
        view,
        generator,
        diameter_m=(diameter_mm / 1000).astype(np.float32),
        fall_m_s=(0.7 + 0.06 * diameter_mm).astype(np.float32),
        ego_m_s=require_number("ego_m_s", ego_m_s, 0.0, 70.0),
        wind_m_s=require_number("wind_m_s", wind_m_s, -20.0, 20.0),
        exposure_s=require_number("exposure_ms", exposure_ms, 0.1, 50.0) / 1000,
        farthest_m=_FARTHEST_M,
        time_s=time_s,
    )
    return lay_over(result, _white(level + 6.0), _coverage(view, streaks))


def _diameters_mm(space_m3: float, flakes_per_m3: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the flakes of a space; see `snow` for the distribution of their sizes."""
    # As many numbers are drawn for every density, so that in two the same flakes lie in the same places.
    beyond = rng.exponential(2.5, round(_MOST_PER_M3 * space_m3))[: round(flakes_per_m3 * space_m3)]
    return np.minimum(_SMALLEST_MM + beyond, 16.0)


def _whitened(image: BgrImage, small: SmallView, lying: Float, beta: float, level: float, airlight: Bgr) -> BgrImage:
    """Lay snow on the ground, then the veil of falling snow between the ground and the camera."""
    grey = cv2.cvtColor(small.image_bgr, cv2.COLOR_BGR2GRAY).astype(np.float32) * np.float32(_GREY / 255)
    arriving = f32(cv2.exp(small.depth_m * np.float32(-beta)))
    # Snow takes the shape of what it lies on: some of the ground's detail stays.
    white = lying * arriving * np.float32(_HIDDEN)
    gain = arriving - white
    grey *= gain
    veil = 1.0 - arriving
    light = [
        white * np.float32(lit / 255) + veil * np.float32(scattered / 255) + grey
        for lit, scattered in zip(_white(level), airlight, strict=True)
    ]
    return relight(image, gain * np.float32(1.0 - _GREY), cv2.merge(light))


def _white(level: float) -> Bgr:
    return level, 0.985 * level, 0.97 * level


def _coverage(view: View, streaks: Streaks) -> BgrImage:
    """Return how much of each pixel flakes cover, uint8: small ones as sharp dots, large ones as soft discs."""
    length_px = np.hypot(*(streaks.ends_px[:, 1] - streaks.ends_px[:, 0]).T)
    width_px = streaks.diameter_m * np.float32(view.focal_px) / streaks.distance_m
    opacity = np.clip(2.4 * width_px / np.maximum(length_px, width_px), 0.3, 0.95).astype(np.float32)
    total = np.zeros((1, 1), np.uint8)
    # From the coarse layer to the fine one, each enlarged to the next.
    for low, high, scale, blur_px in ((6.0, 1e9, 0.25, 0.8), (2.0, 6.0, 0.5, 0.7), (0.0, 2.0, 1.0, 0.0)):
        chosen = (width_px >= low) & (width_px < high)
        part = Streaks(streaks.ends_px[chosen], streaks.distance_m[chosen], streaks.diameter_m[chosen])
        layer = draw_streaks(view, part, opacity[chosen], scale=scale, blur_px=blur_px)
        larger = cv2.resize(total, (layer.shape[1], layer.shape[0]), interpolation=cv2.INTER_LINEAR)
        total = u8(cv2.max(larger, layer))
    return total
