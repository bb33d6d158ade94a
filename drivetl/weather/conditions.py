"""From a name and a severity to physical values, and from those to a picture: the one entrance to the kernels.

Training and evaluation both come through `apply_weather`. Every condition has a frozen class of parameters and a
sampler; the five severities are the tables below, each value varied by at most a tenth, so severities never overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from drivetl.errors import ConfigError, quoted
from drivetl.weather.camera import jpeg_compression, motion_blur, sensor_noise
from drivetl.weather.checks import (
    BgrImage,
    DepthMap,
    require_boxes,
    require_depth,
    require_image,
    require_rng,
    require_severity,
)
from drivetl.weather.darkness import night
from drivetl.weather.depth import depth_prior
from drivetl.weather.lenses import dirty_lens, wet_lens
from drivetl.weather.parameters import (
    DirtyLensParameters,
    FogParameters,
    GlareParameters,
    JpegParameters,
    MotionBlurParameters,
    NightParameters,
    Parameters,
    RainParameters,
    SensorNoiseParameters,
    SnowParameters,
    WetLensParameters,
    sample_dirty_lens,
    sample_fog,
    sample_glare,
    sample_haze,
    sample_jpeg,
    sample_motion_blur,
    sample_night,
    sample_rain,
    sample_sensor_noise,
    sample_snow,
    sample_wet_lens,
)
from drivetl.weather.pixels import Bgr
from drivetl.weather.rainfall import rain
from drivetl.weather.scattering import fog
from drivetl.weather.snowfall import snow
from drivetl.weather.sunlight import glare

__all__ = ["CONDITIONS", "SUITE", "Condition", "Scene", "apply_weather", "find_condition", "parse_weather"]

# Name and version of this set of conditions and severities; figures are comparable only under the same one.
SUITE = "drivetl-weather/4"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of one picture besides its pixels.

    Attributes:
        rng: places drops, flakes, lamps and dirt; the same state places them alike in every frame of a video.
        noise_rng: what differs in every frame.
        time_s: moment within a video.
        depth_m: metres, float32 (height, width); the depth prior where None.
        boxes_xyxy_px: (n, 4) boxes of objects.
        airlight_bgr: colour of scattered daylight; from the sky where None.
    """

    rng: np.random.Generator
    noise_rng: np.random.Generator
    time_s: float = 0.0
    depth_m: DepthMap | None = None
    boxes_xyxy_px: Any = None
    airlight_bgr: Bgr | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """One kind of weather or camera fault.

    Attributes:
        name: as in recipes and results.
        kernel: the pure function.
        sample: draws its parameters for a severity of 1 to 5.
        parameters: the class that ``sample`` returns.
        wants: which attributes of `Scene` the kernel takes.
    """

    name: str
    kernel: Callable[..., BgrImage]
    sample: Callable[[np.random.Generator, int], Parameters]
    parameters: type[Parameters]
    wants: frozenset[str]

    def render(self, image_bgr: BgrImage, parameters: Parameters, scene: Scene) -> BgrImage:
        """Return the picture under this condition with the parameters given."""
        values = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
        return self.kernel(image_bgr, **values, **{name: getattr(scene, name) for name in self.wants})


def _condition(
    name: str,
    kernel: Callable[..., BgrImage],
    sample: Callable[[np.random.Generator, int], Parameters],
    parameters: type[Parameters],
    *wants: str,
) -> tuple[str, Condition]:
    return name, Condition(name, kernel, sample, parameters, frozenset(wants))


def _noise(image_bgr: BgrImage, *, gain_db: float, noise_rng: np.random.Generator) -> BgrImage:
    return sensor_noise(image_bgr, gain_db=gain_db, rng=noise_rng)


_AIR = ("depth_m", "airlight_bgr", "rng", "time_s")

CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    dict(
        [
            _condition("fog", fog, sample_fog, FogParameters, *_AIR),
            _condition("haze", fog, sample_haze, FogParameters, *_AIR),
            _condition("rain", rain, sample_rain, RainParameters, *_AIR),
            _condition("snow", snow, sample_snow, SnowParameters, *_AIR),
            _condition(
                "night", night, sample_night, NightParameters, "depth_m", "boxes_xyxy_px", "rng", "noise_rng", "time_s"
            ),
            _condition("glare", glare, sample_glare, GlareParameters, "depth_m", "rng"),
            _condition("wet_lens", wet_lens, sample_wet_lens, WetLensParameters, "rng", "time_s"),
            _condition("dirty_lens", dirty_lens, sample_dirty_lens, DirtyLensParameters, "rng"),
            _condition("motion_blur", motion_blur, sample_motion_blur, MotionBlurParameters),
            _condition("sensor_noise", _noise, sample_sensor_noise, SensorNoiseParameters, "noise_rng"),
            _condition("jpeg", jpeg_compression, sample_jpeg, JpegParameters),
        ]
    )
)


_USUAL_SEVERITY = 3


def parse_weather(text: str) -> tuple[str, int]:
    """Return condition and severity of ``fog:4``; the condition alone means severity 3.

    Raises:
        ConfigError: there is no such condition or severity.
    """
    name, colon, level = text.partition(":")
    find_condition(name)
    if colon and level not in ("1", "2", "3", "4", "5"):
        raise ConfigError(f"{quoted(text)}: the severity is 1 to 5, as in fog:4")
    return name, int(level) if colon else _USUAL_SEVERITY


def find_condition(name: Any) -> Condition:
    """Return the condition of that name.

    Raises:
        ConfigError: there is none; the message lists all.
    """
    if not isinstance(name, str) or name not in CONDITIONS:
        raise ConfigError(f"{quoted(name)} is no weather condition; known: {', '.join(CONDITIONS)}")
    return CONDITIONS[name]


def apply_weather(
    image_bgr: BgrImage,
    condition: str,
    severity: int,
    *,
    rng: np.random.Generator,
    depth_m: DepthMap | None = None,
    boxes_xyxy_px: Any = None,
) -> BgrImage:
    """Return the picture under a condition, as a new uint8 array of the same shape; boxes stay where they are.

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        condition: a key of `CONDITIONS`.
        severity: 1 to 5; 0 returns a copy of the picture.
        rng: draws parameters and places; the same state gives the same bytes.
        depth_m: metres, float32 (height, width), infinity for the sky; the depth prior where None.
        boxes_xyxy_px: (n, 4) boxes of objects, for the depth prior and for the lamps of vehicles.

    Raises:
        ImageError: picture, depth or boxes cannot be used.
        ConfigError: an unknown condition or severity.
    """
    image = require_image(image_bgr)
    chosen = find_condition(condition)
    level = require_severity(severity)
    generator = require_rng(rng)
    boxes = require_boxes(boxes_xyxy_px)
    if depth_m is not None:
        depth_m = require_depth(depth_m, (image.shape[0], image.shape[1]))
    if level == 0:
        return image.copy()
    parameters = chosen.sample(generator, level)
    if depth_m is None and "depth_m" in chosen.wants:
        depth_m = depth_prior(image, boxes_xyxy_px=boxes)
    return chosen.render(image, parameters, Scene(generator, generator, depth_m=depth_m, boxes_xyxy_px=boxes))
