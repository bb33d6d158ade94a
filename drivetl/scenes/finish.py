"""What a camera makes of light: exposure, lens, tone, grain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Float, u8
from drivetl.scenes.presets import FinishPreset
from drivetl.scenes.textures import grain_tile

__all__ = ["CameraFinish", "develop", "sample_finish"]

_SPARE_PX = 64
# Square roots of linear light up to this become 8 bits; beyond it a highlight is white.
_WHITE = 1.45


@dataclass(frozen=True, slots=True)
class CameraFinish:
    """One camera's settings; see `FinishPreset`."""

    noise: float
    blur_px: float
    vignette: float
    saturation: float
    contrast: float
    jpeg_quality: int


def sample_finish(preset: FinishPreset, rng: np.random.Generator) -> CameraFinish:
    """Draw one camera's settings."""
    low, high = preset.jpeg_quality
    return CameraFinish(
        noise=float(rng.uniform(*preset.noise)),
        blur_px=float(rng.uniform(*preset.blur_px)),
        vignette=float(rng.uniform(*preset.vignette)),
        saturation=float(rng.uniform(*preset.saturation)),
        contrast=float(rng.uniform(*preset.contrast)),
        jpeg_quality=int(rng.integers(low, high + 1)),
    )


def develop(light_bgr: Float, exposure: float, finish: CameraFinish, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture of linear light, uint8 (height, width, 3). ``light_bgr`` is used up."""
    height, width = light_bgr.shape[:2]
    gain = _vignette(height, width, round(20 * finish.vignette))
    cv2.multiply(light_bgr, gain, dst=light_bgr, scale=exposure)
    cv2.sqrt(light_bgr, dst=light_bgr)
    picture = cv2.convertScaleAbs(light_bgr, alpha=255 / _WHITE)
    picture = _out_of_focus(u8(picture), finish.blur_px * width / 960)
    picture = cv2.LUT(picture, _tone(round(finish.contrast, 3)))
    grey = (1 - finish.saturation) * np.array([0.114, 0.587, 0.299])
    matrix = np.eye(3) * finish.saturation + grey
    picture = cv2.transform(picture, matrix)
    if finish.noise > 0:
        tile = grain_tile(height + _SPARE_PX, width + _SPARE_PX)
        y, x = rng.integers(0, _SPARE_PX, 2)
        grain = tile[y : y + height, x : x + width]
        picture = cv2.addWeighted(picture, 1.0, grain, finish.noise / 24, -128 * finish.noise / 24)
    return u8(picture)


def _out_of_focus(picture: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Blur the picture with the fewest taps that keep the deviation within a tenth of ``sigma_px``.

    Three taps do that up to 0.75 pixels and five up to 1.2, which is where the shipped environments end at 1280
    across; beyond that, three sigmas to each side.
    """
    if sigma_px <= 0.2:
        return picture
    taps = 3 if sigma_px <= 0.75 else 5 if sigma_px <= 1.2 else 2 * math.ceil(3 * sigma_px) + 1
    return u8(cv2.GaussianBlur(picture, (taps, taps), sigma_px))


@lru_cache(maxsize=8)
def _vignette(height: int, width: int, twentieths: int) -> Float:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    gain = 1 - np.float32(twentieths / 20) * (x * x + y * y * np.float32(0.6))
    # A strong vignette ends in black before the corners do; light below zero has no square root.
    return np.repeat(np.maximum(gain, np.float32(0))[..., None], 3, axis=2)


@lru_cache(maxsize=64)
def _tone(contrast: float) -> NDArray[np.uint8]:
    """Return the tone curve: a slope around the middle, and a shoulder so that highlights do not clip hard."""
    x = np.arange(256, dtype=np.float64) / 255 * _WHITE
    y = 0.45 + (x - 0.45) * contrast
    knee = 0.72
    shoulder = knee + (1 - knee) * (1 - np.exp(-(y - knee) / (1 - knee)))
    y = np.where(y > knee, shoulder, y)
    return np.clip(np.rint(255 * y), 0, 255).astype(np.uint8)
