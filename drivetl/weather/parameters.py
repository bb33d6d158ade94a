"""The parameters of every condition, and how they are drawn for a severity of 1 to 5.

Each sampler draws the same random numbers whatever the severity, so one seed gives one scene in five strengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetl.weather.checks import require_severity

__all__ = [
    "DirtyLensParameters",
    "FogParameters",
    "GlareParameters",
    "JpegParameters",
    "MotionBlurParameters",
    "NightParameters",
    "Parameters",
    "RainParameters",
    "SensorNoiseParameters",
    "SnowParameters",
    "WetLensParameters",
    "sample_dirty_lens",
    "sample_fog",
    "sample_glare",
    "sample_haze",
    "sample_jpeg",
    "sample_motion_blur",
    "sample_night",
    "sample_rain",
    "sample_sensor_noise",
    "sample_snow",
    "sample_wet_lens",
]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Base of all parameters: the keyword arguments of one kernel that do not depend on the picture."""


@dataclass(frozen=True, slots=True)
class FogParameters(Parameters):
    """See `drivetl.weather.fog`."""

    visibility_m: float
    patchiness: float
    tint_bgr: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class RainParameters(Parameters):
    """See `drivetl.weather.rain`."""

    rate_mm_h: float
    mist_visibility_m: float
    ego_m_s: float
    wind_m_s: float
    exposure_ms: float
    dimming: float


@dataclass(frozen=True, slots=True)
class SnowParameters(Parameters):
    """See `drivetl.weather.snow`."""

    visibility_m: float
    flakes_per_m3: float
    ground_cover: float
    ego_m_s: float
    wind_m_s: float


@dataclass(frozen=True, slots=True)
class NightParameters(Parameters):
    """See `drivetl.weather.night`."""

    ambient: float
    headlight: float
    gain_db: float
    colour_temperature_k: float
    lamp_strength: float


@dataclass(frozen=True, slots=True)
class GlareParameters(Parameters):
    """See `drivetl.weather.glare`."""

    azimuth_deg: float
    elevation_deg: float
    veil: float
    lift: float
    colour_temperature_k: float


@dataclass(frozen=True, slots=True)
class WetLensParameters(Parameters):
    """See `drivetl.weather.wet_lens`."""

    coverage: float
    blur_px: float


@dataclass(frozen=True, slots=True)
class DirtyLensParameters(Parameters):
    """See `drivetl.weather.dirty_lens`."""

    coverage: float
    density: float


@dataclass(frozen=True, slots=True)
class MotionBlurParameters(Parameters):
    """See `drivetl.weather.motion_blur`."""

    turn_deg: float
    direction_deg: float


@dataclass(frozen=True, slots=True)
class SensorNoiseParameters(Parameters):
    """See `drivetl.weather.sensor_noise`."""

    gain_db: float


@dataclass(frozen=True, slots=True)
class JpegParameters(Parameters):
    """See `drivetl.weather.jpeg_compression`."""

    quality: int


def _at(table: Sequence[float], severity: int) -> float:
    return table[require_severity(severity, lowest=1) - 1]


def _vary(rng: np.random.Generator, share: float = 0.08) -> float:
    return float(np.exp(rng.uniform(-share, share)))


def sample_fog(rng: np.random.Generator, severity: int) -> FogParameters:
    """Visibility 750, 375, 190, 100, 50 m at a contrast of 2 %, from where fog begins to dense fog on a motorway.

    At the 5 % of the meteorological optical range, by which WMO-No. 407 sets the beginning of fog to 1 km and Foggy
    Cityscapes (Sakaridis et al., IJCV 2018) takes 600, 300 and 150 m, the first three are 574, 287 and 145 m.
    """
    visibility = _at((750.0, 375.0, 190.0, 100.0, 50.0), severity) * _vary(rng)
    return FogParameters(visibility, patchiness=float(rng.uniform(0.05, 0.35)))


def sample_haze(rng: np.random.Generator, severity: int) -> FogParameters:
    """Visibility 2000 down to 260 m, brownish: dry haze lies below 5 km (WMO-No. 407); smog and dust reach fog's."""
    visibility = _at((2000.0, 1100.0, 650.0, 400.0, 260.0), severity) * _vary(rng)
    blue = _at((0.93, 0.90, 0.87, 0.83, 0.79), severity)
    tint_bgr = (blue, 0.3 * blue + 0.68, 0.98)
    return FogParameters(visibility, patchiness=float(rng.uniform(0.0, 0.15)), tint_bgr=tint_bgr)


def sample_rain(rng: np.random.Generator, severity: int) -> RainParameters:
    """Rate 2.5, 10, 25, 50, 100 mm/h, from light to violent (AMS Glossary; UK Met Office), with growing spray."""
    return RainParameters(
        rate_mm_h=_at((2.5, 10.0, 25.0, 50.0, 100.0), severity) * _vary(rng),
        mist_visibility_m=_at((2500.0, 1200.0, 650.0, 380.0, 230.0), severity) * _vary(rng),
        ego_m_s=float(rng.uniform(6.0, 16.0)),
        wind_m_s=float(rng.uniform(-1.5, 1.5)),
        exposure_ms=float(rng.uniform(12.0, 20.0)),
        dimming=_at((0.05, 0.10, 0.14, 0.18, 0.22), severity),
    )


def sample_snow(rng: np.random.Generator, severity: int) -> SnowParameters:
    """Visibility 2000 to 200 m, flakes 4 to 36 a cubic metre, ground cover 0.15 to 0.95: flurries to heavy snow."""
    return SnowParameters(
        visibility_m=_at((2000.0, 1000.0, 600.0, 350.0, 200.0), severity) * _vary(rng),
        flakes_per_m3=_at((4.0, 9.0, 16.0, 25.0, 36.0), severity) * _vary(rng),
        ground_cover=_at((0.15, 0.35, 0.55, 0.75, 0.95), severity),
        ego_m_s=float(rng.uniform(4.0, 11.0)),
        wind_m_s=float(rng.uniform(-2.0, 2.0)),
    )


def sample_night(rng: np.random.Generator, severity: int) -> NightParameters:
    """Ambient light 0.10 to 0.008 of the day's exposure and gain 12 to 29 dB: from dusk to an unlit road."""
    return NightParameters(
        ambient=_at((0.10, 0.055, 0.03, 0.016, 0.008), severity) * _vary(rng),
        headlight=_at((0.58, 0.54, 0.50, 0.46, 0.42), severity),
        gain_db=_at((12.0, 17.0, 21.0, 25.0, 29.0), severity),
        colour_temperature_k=float(rng.uniform(3200.0, 5600.0)),
        lamp_strength=float(rng.uniform(0.5, 0.9)),
    )


def sample_glare(rng: np.random.Generator, severity: int) -> GlareParameters:
    """Sun 4 to 9.5 degrees high, within 20 degrees of the driving direction, where it blinds; veil 0.08 to 0.46."""
    return GlareParameters(
        azimuth_deg=float(rng.uniform(-20.0, 20.0)),
        elevation_deg=float(rng.uniform(4.0, 9.5)),
        veil=_at((0.08, 0.16, 0.25, 0.35, 0.46), severity) * _vary(rng),
        lift=_at((0.02, 0.05, 0.08, 0.12, 0.16), severity),
        colour_temperature_k=float(rng.uniform(3400.0, 4800.0)),
    )


def sample_wet_lens(rng: np.random.Generator, severity: int) -> WetLensParameters:
    """From a few drops to glass that no wiper has passed for a while."""
    return WetLensParameters(_at((0.07, 0.18, 0.36, 0.62, 1.0), severity), blur_px=float(rng.uniform(0.6, 1.3)))


def sample_dirty_lens(rng: np.random.Generator, severity: int) -> DirtyLensParameters:
    """Dirt on 15 to 75 % of the glass."""
    coverage = _at((0.15, 0.30, 0.45, 0.60, 0.75), severity) * _vary(rng, 0.05)
    return DirtyLensParameters(coverage, density=float(rng.uniform(0.72, 0.88)))


def sample_motion_blur(rng: np.random.Generator, severity: int) -> MotionBlurParameters:
    """A turn of 0.35 to 2.3 degrees in one exposure: 6 to 36 pixels at 1280 wide; mostly to the side, as in a bend."""
    turn = _at((0.35, 0.65, 1.05, 1.6, 2.3), severity) * _vary(rng)
    return MotionBlurParameters(turn, direction_deg=float(rng.normal(0.0, 15.0)))


def sample_sensor_noise(rng: np.random.Generator, severity: int) -> SensorNoiseParameters:
    """Gain 12 to 36 dB: ISO 400 to about 6400 on a sensor of base ISO 100."""
    return SensorNoiseParameters(_at((12.0, 18.0, 24.0, 30.0, 36.0), severity) + float(rng.uniform(-1.0, 1.0)))


def sample_jpeg(rng: np.random.Generator, severity: int) -> JpegParameters:
    """Quality 25, 18, 15, 10, 7, the levels of ImageNet-C (Hendrycks and Dietterich, ICLR 2019); nothing is drawn."""
    return JpegParameters(int(_at((25, 18, 15, 10, 7), severity)))
