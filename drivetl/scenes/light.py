"""Sun, sky and air, and how surfaces answer to them. Colours are linear light in the order blue, green, red."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Float
from drivetl.scenes.presets import LightPreset

__all__ = ["Light", "linear_bgr", "sample_light", "shade"]

# For every Finish: diffuse share, mirror share head-on, strength of the mirror, own light.
_ANSWER = np.array(
    [
        [1.0, 0.0, 0.25, 0.0],
        [0.9, 0.05, 1.0, 0.0],
        [0.25, 0.06, 0.8, 0.0],
        [0.55, 0.25, 0.8, 0.0],
        [0.7, 0.1, 0.7, 0.3],
    ],
    np.float32,
)
_STEPS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """What lights a scene.

    Attributes:
        sun: float32 (3,), the direction towards the sun.
        sun_bgr: its light on a surface that faces it; zero when it is hidden.
        zenith_bgr, horizon_bgr, ground_bgr: what comes from above, from the horizon and back from the ground.
        ambient: float32 (256, 3), light from all sides on a surface, by the height of its normal (-1 to 1).
        mirrored: float32 (256, 3), what a mirror shows, by the height of the reflected direction.
        extinction_per_m: of the air (Koschmieder): 3.912 over the visibility.
        cloud_cover: 0 to 1.
        exposure: what linear light is multiplied by.
    """

    sun: Float
    sun_bgr: Float
    zenith_bgr: Float
    horizon_bgr: Float
    ground_bgr: Float
    ambient: Float
    mirrored: Float
    extinction_per_m: float
    cloud_cover: float
    exposure: float

    @property
    def sunny(self) -> bool:
        """Whether there are shadows."""
        return bool(self.sun_bgr.max() > 0)

    def through_air(self, colour: Any, depth_m: Any) -> Float:
        """Return colours (..., 3) after so many metres (...) of air."""
        kept = np.exp(np.asarray(depth_m, np.float32) * np.float32(-self.extinction_per_m))[..., None]
        result: Float = self.horizon_bgr + (np.asarray(colour, np.float32) - self.horizon_bgr) * kept
        return result


def linear_bgr(rgb: Any) -> Float:
    """Return linear light in BGR order for sRGB colours (..., 3) of 0 to 255 (IEC 61966-2-1)."""
    s = np.asarray(rgb, np.float32)[..., ::-1] / np.float32(255)
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4).astype(np.float32)


def sample_light(preset: LightPreset, rng: np.random.Generator) -> Light:
    """Draw sun, sky, air and exposure."""
    elevation = math.radians(rng.uniform(*preset.sun_elevation_deg))
    azimuth = rng.uniform(0, 2 * math.pi)
    sun = np.array(
        [math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth)],
        np.float32,
    )
    sunny = bool(rng.random() < preset.sunny_share)
    cover = float(rng.uniform(*preset.cloud_cover)) if sunny else float(rng.uniform(0.75, 1.0))
    warmth = float(rng.uniform(*preset.warmth))
    low = 1.0 - min(1.0, math.degrees(elevation) / 25.0)
    balance = np.array([1 - 0.3 * warmth, 1.0, 1 + 0.3 * warmth], np.float32)
    sun_bgr = np.array([0.82 - 0.5 * low, 0.94 - 0.25 * low, 1.0], np.float32) * balance * (2.5 - 0.6 * low)
    if sunny:
        zenith = np.array([0.95, 0.55, 0.32], np.float32) * (0.75 - 0.25 * low)
        horizon = np.array([1.0 - 0.25 * low, 0.92 - 0.08 * low, 0.84 + 0.1 * low], np.float32) * 0.95
        grey = np.float32(0.8)
        zenith = zenith + (grey - zenith) * np.float32(0.5 * cover)
    else:
        sun_bgr = sun_bgr * np.float32(0.0)
        zenith = np.array([0.98, 0.96, 0.94], np.float32) * np.float32(rng.uniform(0.75, 1.25))
        horizon = np.array([0.98, 0.98, 0.97], np.float32) * np.float32(rng.uniform(0.85, 1.2))
    zenith, horizon = zenith * balance, horizon * balance
    bounce = (0.16 * (horizon + sun_bgr * sun[1])).astype(np.float32)
    exposure = float(2.0 ** rng.uniform(*preset.exposure_ev)) * (0.95 if sunny else 1.1)
    ambient, mirrored = _tables(zenith, horizon, bounce, 1.15 if sunny else 1.3)
    extinction = 3.912 / float(rng.uniform(*preset.visibility_m))
    return Light(sun, sun_bgr, zenith, horizon, bounce, ambient, mirrored, extinction, cover, exposure)


def _tables(zenith: Float, horizon: Float, ground: Float, strength: float) -> tuple[Float, Float]:
    up = np.linspace(-1, 1, _STEPS + 1, dtype=np.float32)[:, None]
    sky = zenith * 0.7 + horizon * 0.3
    ambient = (ground + (sky - ground) * (0.5 + 0.5 * up)) * np.float32(strength)
    # A mirror beside a road shows the road below, a dark line of houses and trees, then the bright sky.
    above = horizon + (zenith - horizon) * np.clip(up * 1.4, 0, 1)
    skyline = (ground * 0.8 + horizon * 0.06).astype(np.float32)
    rise = np.clip((up - 0.12) / 0.22, 0, 1)
    mirrored = skyline + (above - skyline) * rise * rise * (3 - 2 * rise)
    mirrored = np.where(up < 0, ground * (1.0 + 0.4 * up), mirrored)
    return ambient.astype(np.float32), mirrored.astype(np.float32)


def _lookup(table: Float, height: Float) -> Float:
    index = (height * (_STEPS / 2) + _STEPS / 2).astype(np.int32)
    return table[np.clip(index, 0, _STEPS)]


def shade(
    light: Light, base_bgr: Float, normals: Float, to_camera: Float, finish: NDArray[np.intp], sunlit: Float
) -> Float:
    """Return the light that comes from surfaces.

    Args:
        light: what lights them.
        base_bgr: float32 (n, 1, 3), their own colour.
        normals: float32 (n, 4, 3).
        to_camera: float32 (n, 4, 3), unit length.
        finish: int (n,).
        sunlit: float32 (n,), how much of the sun reaches them.
    """
    answer = _ANSWER[finish][:, None, :]
    diffuse, head_on, mirror, own = (answer[..., i : i + 1] for i in range(4))
    towards = np.maximum((normals * to_camera).sum(axis=-1, keepdims=True), 0)
    sun = np.maximum(normals @ light.sun, 0)[..., None] * sunlit[:, None, None]
    lit = _lookup(light.ambient, normals[..., 1]) + sun * light.sun_bgr
    grazing = 1 - towards
    fresnel = (head_on + (1 - head_on) * grazing**5 * (head_on > 0)) * mirror
    reflected = 2 * towards * normals - to_camera
    glint = np.maximum(reflected @ light.sun, 0)[..., None] ** 40 * sunlit[:, None, None]
    seen = _lookup(light.mirrored, reflected[..., 1]) + light.sun_bgr * (glint * 2.5)
    result: Float = base_bgr * (lit * diffuse + own * 2.0) + seen * fresnel
    return result
