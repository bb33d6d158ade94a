"""Weather for road pictures: physical, fast, the same in training and evaluation.

Each condition is a pure kernel (`fog`, `rain`, ...), a sampler of its physical parameters for a severity of 1 to 5,
and a thin Albumentations class (`Fog`, `Rain`, ...). `apply_weather` is the one entrance for a picture, `WeatherClip`
for a video. Importing this package needs no albumentations; its classes load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drivetl.weather.camera import jpeg_compression, motion_blur, sensor_noise
from drivetl.weather.clip import WeatherClip
from drivetl.weather.conditions import CONDITIONS, SUITE, Condition, Scene, apply_weather, find_condition, parse_weather
from drivetl.weather.darkness import night
from drivetl.weather.depth import depth_prior, ground_weight
from drivetl.weather.lenses import dirty_lens, wet_lens
from drivetl.weather.rainfall import rain
from drivetl.weather.scattering import estimate_airlight, extinction, fog, transmission
from drivetl.weather.sheet import contact_sheet
from drivetl.weather.snowfall import snow
from drivetl.weather.sunlight import glare

if TYPE_CHECKING:
    from drivetl.weather.transforms import (
        DirtyLens,
        Fog,
        Glare,
        Haze,
        Jpeg,
        MotionBlur,
        Night,
        Rain,
        SensorNoise,
        Snow,
        WetLens,
    )

__all__ = [
    "CONDITIONS",
    "SUITE",
    "Condition",
    "DirtyLens",
    "Fog",
    "Glare",
    "Haze",
    "Jpeg",
    "MotionBlur",
    "Night",
    "Rain",
    "Scene",
    "SensorNoise",
    "Snow",
    "WeatherClip",
    "WetLens",
    "apply_weather",
    "contact_sheet",
    "depth_prior",
    "dirty_lens",
    "estimate_airlight",
    "extinction",
    "find_condition",
    "fog",
    "glare",
    "ground_weight",
    "jpeg_compression",
    "motion_blur",
    "night",
    "parse_weather",
    "rain",
    "sensor_noise",
    "snow",
    "transmission",
    "wet_lens",
]

_TRANSFORMS = frozenset(
    ("DirtyLens", "Fog", "Glare", "Haze", "Jpeg", "MotionBlur", "Night", "Rain", "SensorNoise", "Snow", "WetLens")
)


def __getattr__(name: str) -> Any:
    if name in _TRANSFORMS:
        from drivetl.weather import transforms

        return getattr(transforms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
