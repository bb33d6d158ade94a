"""The few pixel operations that the kernels share, each chosen because OpenCV does it in vector instructions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import BgrImage

__all__ = [
    "Bgr",
    "Float",
    "add_light",
    "enlarge",
    "f32",
    "lay_over",
    "planck_bgr",
    "relight",
    "scaled",
    "strips",
    "u8",
]

Float = NDArray[np.float32]
Bgr = tuple[float, float, float]

# Work on a frame goes strip by strip: this many pixels stay in the cache, and their temporaries are small enough to
# come from memory that the process already has. Fresh pages from the system cost more than the arithmetic.
_STRIP_PX = 40960
_kept = threading.local()


def strips(height: int, width: int, strip_px: int = _STRIP_PX) -> Iterator[slice]:
    """Yield slices of rows that cover a picture, each of about ``strip_px`` pixels."""
    rows = max(1, strip_px // width)
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def f32(array: NDArray[Any]) -> Float:
    """Return the array as float32, without a copy where it is that already: OpenCV's stubs leave the type open."""
    return np.asarray(array, dtype=np.float32)


def u8(array: NDArray[Any]) -> BgrImage:
    """Return the array as uint8, without a copy where it is that already."""
    return np.asarray(array, dtype=np.uint8)


def relight(image_bgr: BgrImage, gain: NDArray[Any], light: NDArray[Any] | None = None) -> BgrImage:
    """Return ``image * gain + light``, two small maps of values in 0..1, enlarged to the picture.

    The gain is (rows, columns) or (rows, columns, 3), the light (rows, columns, 3).
    """
    gain_full = enlarge(scaled(gain), image_bgr, slot=0)
    light_full = None if light is None else enlarge(scaled(light), image_bgr, slot=1)
    result = np.empty(image_bgr.shape, np.uint8)
    for rows in strips(*image_bgr.shape[:2]):
        factor = gain_full[rows]
        if factor.ndim == 2:
            factor = u8(cv2.cvtColor(factor, cv2.COLOR_GRAY2BGR))
        if light_full is None:
            cv2.multiply(image_bgr[rows], factor, dst=result[rows], scale=1 / 255)
        else:
            cv2.add(cv2.multiply(image_bgr[rows], factor, scale=1 / 255), light_full[rows], dst=result[rows])
    return result


def add_light(image_bgr: BgrImage, light: NDArray[Any]) -> BgrImage:
    """Add a small map of light in 0..1 (rows, columns, 3), enlarged to the picture, as a screen: never beyond white.

    1 - (1 - image)(1 - light) saturates softly, as a sensor with a response curve does.
    """
    shade = enlarge(u8(cv2.bitwise_not(scaled(light))), image_bgr, slot=0)
    result = np.empty(image_bgr.shape, np.uint8)
    for rows in strips(*image_bgr.shape[:2]):
        dark = cv2.multiply(cv2.bitwise_not(image_bgr[rows]), shade[rows], scale=1 / 255)
        cv2.bitwise_not(dark, dst=result[rows])
    return result


def lay_over(image_bgr: BgrImage, paint: BgrImage | Bgr, alpha: BgrImage) -> BgrImage:
    """Lay a colour or another picture over the picture; ``alpha`` is uint8 (height, width), 255 covers."""
    result = np.empty(image_bgr.shape, np.uint8)
    for rows in strips(*alpha.shape):
        share = alpha[rows]
        inverse = cv2.bitwise_not(share)
        kept = cv2.multiply(image_bgr[rows], cv2.cvtColor(inverse, cv2.COLOR_GRAY2BGR), scale=1 / 255)
        if isinstance(paint, tuple):
            laid = cv2.merge([cv2.convertScaleAbs(share, alpha=min(channel, 255.0) / 255) for channel in paint])
        else:
            laid = cv2.multiply(paint[rows], cv2.cvtColor(share, cv2.COLOR_GRAY2BGR), scale=1 / 255)
        cv2.add(kept, laid, dst=result[rows])
    return result


def scaled(share: NDArray[Any]) -> BgrImage:
    """Return values in 0..1 as uint8 0..255, rounded and clipped."""
    return u8(cv2.convertScaleAbs(np.maximum(share, 0.0), alpha=255.0).reshape(share.shape))


def enlarge(small: BgrImage, like: BgrImage, *, slot: int) -> BgrImage:
    """Return a small uint8 map at the size of the picture ``like``, in memory kept for this thread and ``slot``.

    The result is overwritten by the next call with the same slot.
    """
    shape = (*like.shape[:2], *small.shape[2:])
    pool: dict[tuple[int, int], BgrImage] = _kept.__dict__.setdefault("pool", {})
    place = pool.get((slot, len(shape)))
    if place is None or place.shape != shape:
        place = pool[slot, len(shape)] = np.empty(shape, np.uint8)
    cv2.resize(small, (like.shape[1], like.shape[0]), dst=place, interpolation=cv2.INTER_LINEAR)
    return place


@lru_cache(maxsize=64)
def planck_bgr(kelvin: float) -> Bgr:
    """Return the colour of a black body as gains for blue, green and red, relative to 6500 K, the largest 1.

    Planck's law at 450, 550 and 610 nm, where the three filters of a camera peak.
    """
    wavelength_m = np.array([450e-9, 550e-9, 610e-9])

    def radiance(temperature: float) -> NDArray[np.float64]:
        # Second radiation constant hc/k in metre kelvin; the factors in front cancel in the quotient.
        result: NDArray[np.float64] = 1.0 / np.expm1(0.014388 / (wavelength_m * temperature))
        return result

    gains = radiance(kelvin) / radiance(6500.0)
    blue, green, red = (gains / gains.max()).tolist()
    return blue, green, red
