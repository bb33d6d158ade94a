"""Albumentations transforms over the kernels, serialisable, for any Albumentations pipeline.

Importing this module needs albumentations; `drivetl.weather` loads it only when one of the classes is asked for.
"""

from __future__ import annotations

import os
from types import new_class
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
        ConfigError: a severity is out of range, or the first is above the second.
        ValueError: another argument is wrong; Albumentations checks those itself.
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


def _transform(name: str, condition: str, what: str) -> type[_Weather]:
    """Return the class of one condition; it knows its module and name, so pipelines with it save, load and pickle."""
    kernel = {"haze": "fog", "jpeg": "jpeg_compression"}.get(condition, condition)
    members = {"__module__": __name__, "__doc__": f"{what}; see `drivetl.weather.{kernel}`.", "condition": condition}
    made: type[_Weather] = new_class(name, (_Weather,), exec_body=lambda namespace: namespace.update(members))
    return made


Fog = _transform("Fog", "fog", "Fog of 750 to 50 m visibility")
Haze = _transform("Haze", "haze", "Brownish haze")
Rain = _transform("Rain", "rain", "Rain of 2.5 to 100 mm/h")
Snow = _transform("Snow", "snow", "Falling and lying snow")
Night = _transform("Night", "night", "Night with headlights and lamps")
Glare = _transform("Glare", "glare", "Low sun")
WetLens = _transform("WetLens", "wet_lens", "Drops on the glass")
DirtyLens = _transform("DirtyLens", "dirty_lens", "Dirt on the glass")
MotionBlur = _transform("MotionBlur", "motion_blur", "The camera turns during the exposure")
SensorNoise = _transform("SensorNoise", "sensor_noise", "Photon and read noise")
Jpeg = _transform("Jpeg", "jpeg", "JPEG compression")
