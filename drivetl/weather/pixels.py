"""The few pixel operations that the kernels share, each chosen because OpenCV does it in vector instructions."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import BgrImage

__all__ = ["Bgr", "Float", "add_light", "attenuate", "enlarge", "over", "planck_bgr", "scaled", "towards"]

Float = NDArray[np.float32]
Bgr = tuple[float, float, float]


def towards(image_bgr: BgrImage, colour_bgr: Bgr, kept: Float) -> BgrImage:
    """Return ``kept * image + (1 - kept) * colour`` in float32, rounded once; ``kept`` is (height, width) in 0..1."""
    target = (*colour_bgr, 0.0)
    difference = cv2.subtract(image_bgr, target, dtype=cv2.CV_32F)
    cv2.multiply(difference, cv2.merge([kept, kept, kept]), dst=difference)
    return cv2.add(difference, target, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def over(image_bgr: BgrImage, colour_bgr: Bgr, alpha: BgrImage) -> BgrImage:
    """Lay one colour over the picture; ``alpha`` is uint8 (height, width), 255 covers."""
    inverse = cv2.bitwise_not(alpha)
    kept = cv2.multiply(image_bgr, cv2.merge([inverse, inverse, inverse]), scale=1 / 255)
    paint = cv2.merge([cv2.convertScaleAbs(alpha, alpha=channel / 255) for channel in colour_bgr])
    return cv2.add(kept, paint).astype(np.uint8, copy=False)


def attenuate(image_bgr: BgrImage, gain: Float) -> BgrImage:
    """Multiply the picture by a small map of gains in 0..1 (rows, columns, 3), enlarged to the picture."""
    full = enlarge(scaled(gain), image_bgr)
    return cv2.multiply(image_bgr, full, scale=1 / 255).astype(np.uint8, copy=False)


def add_light(image_bgr: BgrImage, light: Float) -> BgrImage:
    """Add a small map of light in 0..1 (rows, columns, 3), enlarged to the picture, as a screen: never beyond white.

    1 - (1 - image)(1 - light) saturates softly, as a sensor with a response curve does.
    """
    shade = cv2.bitwise_not(enlarge(scaled(light), image_bgr))
    dark = cv2.multiply(cv2.bitwise_not(image_bgr), shade, scale=1 / 255)
    return cv2.bitwise_not(dark).astype(np.uint8, copy=False)


def scaled(share: Float) -> BgrImage:
    """Return values in 0..1 as uint8 0..255, rounded and clipped."""
    return cv2.convertScaleAbs(np.clip(share, 0.0, 1.0), alpha=255.0).astype(np.uint8, copy=False)


def enlarge(small: BgrImage, like: BgrImage) -> BgrImage:
    """Return a small uint8 map at the size of the picture ``like``."""
    full = cv2.resize(small, (like.shape[1], like.shape[0]), interpolation=cv2.INTER_LINEAR)
    return full.astype(np.uint8, copy=False)


@lru_cache(maxsize=64)
def planck_bgr(kelvin: float) -> Bgr:
    """Return the colour of a black body as gains for blue, green and red, relative to 6500 K, the largest 1.

    Planck's law at 450, 550 and 610 nm, where the three filters of a camera peak.
    """
    wavelength_m = np.array([450e-9, 550e-9, 610e-9])

    def radiance(temperature: float) -> NDArray[np.float64]:
        # Second radiation constant hc/k in metre kelvin; the factors in front cancel in the quotient.
        exponent = 0.014388 / (wavelength_m * temperature)
        result: NDArray[np.float64] = 1.0 / np.expm1(exponent)
        return result

    gains = radiance(kelvin) / radiance(6500.0)
    blue, green, red = (gains / gains.max()).tolist()
    return blue, green, red
