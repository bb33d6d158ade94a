"""Albumentations transforms over the kernels, serialisable, for any Albumentations pipeline.

Importing this module needs albumentations; `drivetl.weather` loads it only when one of the classes is asked for.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

# On import, albumentations would ask PyPI for a newer version of itself.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, quoted
from drivetl.weather.checks import require_severity
from drivetl.weather.conditions import apply_weather

__all__ = [
    "DirtyLens",
    "Fog",
    "Glare",
    "Haze",
    "Jpeg",
    "MotionBlur",
    "Night",
    "Rain",
    "SensorNoise",
    "Snow",
    "WetLens",
]


class _Weather(A.ImageOnlyTransform):  # type: ignore[misc]
    """Apply one condition at a severity drawn evenly from a range; boxes and masks stay as they are.

    Args:
        severity_range: lowest and highest severity, each 1 to 5.
        colour_order: ``rgb`` as is usual with Albumentations, or ``bgr`` as in OpenCV and in Ultralytics' loader.
        p: probability.

    Raises:
        ConfigError: an argument is out of range.
    """

    condition: ClassVar[str]

    class InitSchema(A.ImageOnlyTransform.InitSchema):  # type: ignore[misc]
        severity_range: tuple[int, int]
        colour_order: Literal["rgb", "bgr"]

    def __init__(
        self,
        severity_range: tuple[int, int] = (1, 5),
        colour_order: Literal["rgb", "bgr"] = "rgb",
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        low, high = (require_severity(severity, lowest=1) for severity in severity_range)
        if low > high:
            raise ConfigError(f"severity_range is {quoted(severity_range)}; the first must not be above the second")
        self.severity_range = (low, high)
        self.colour_order = colour_order

    def get_params(self) -> dict[str, Any]:
        low, high = self.severity_range
        generator: np.random.Generator = self.random_generator
        return {"severity": int(generator.integers(low, high + 1)), "seed": int(generator.integers(2**62))}

    def apply(self, img: NDArray[np.uint8], severity: int = 1, seed: int = 0, **_: Any) -> NDArray[np.uint8]:
        image = np.ascontiguousarray(img[..., ::-1]) if self.colour_order == "rgb" else img
        result = apply_weather(image, self.condition, severity, rng=np.random.default_rng(seed))
        return np.ascontiguousarray(result[..., ::-1]) if self.colour_order == "rgb" else result


class Fog(_Weather):
    """Fog of 750 to 50 m visibility; see `drivetl.weather.fog`."""

    condition = "fog"


class Haze(_Weather):
    """Brownish haze; see `drivetl.weather.fog`."""

    condition = "haze"


class Rain(_Weather):
    """Rain of 2.5 to 100 mm/h; see `drivetl.weather.rain`."""

    condition = "rain"


class Snow(_Weather):
    """Falling and lying snow; see `drivetl.weather.snow`."""

    condition = "snow"


class Night(_Weather):
    """Night with headlights and lamps; see `drivetl.weather.night`."""

    condition = "night"


class Glare(_Weather):
    """Low sun; see `drivetl.weather.glare`."""

    condition = "glare"


class WetLens(_Weather):
    """Drops on the glass; see `drivetl.weather.wet_lens`."""

    condition = "wet_lens"


class DirtyLens(_Weather):
    """Dirt on the glass; see `drivetl.weather.dirty_lens`."""

    condition = "dirty_lens"


class MotionBlur(_Weather):
    """The camera turns during the exposure; see `drivetl.weather.motion_blur`."""

    condition = "motion_blur"


class SensorNoise(_Weather):
    """Photon and read noise; see `drivetl.weather.sensor_noise`."""

    condition = "sensor_noise"


class Jpeg(_Weather):
    """JPEG compression; see `drivetl.weather.jpeg_compression`."""

    condition = "jpeg"
