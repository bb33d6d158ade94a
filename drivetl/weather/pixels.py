"""The few pixel operations that the kernels share, each chosen because OpenCV does it in vector instructions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import BgrImage

__all__ = ["Bgr", "Float", "add_light", "dim", "enlarge", "lay_over", "planck_bgr", "relight", "scaled", "strips", "towards"]

Float = NDArray[np.float32]
Bgr = tuple[float, float, float]

# Work on a frame goes strip by strip: this many pixels stay in the cache, and their temporaries are small enough to
# come from memory that the process already has. Fresh pages from the system cost more than the arithmetic.
_STRIP_PX = 16384
_kept = threading.local()


def strips(height: int, width: int) -> Iterator[slice]:
    """Yield slices of rows that cover a picture."""
    rows = max(1, _STRIP_PX // width)
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def towards(image_bgr: BgrImage, colour_bgr: Bgr, kept: Float) -> BgrImage:
    """Return ``kept * image + (1 - kept) * colour`` in float32, rounded once; ``kept`` is (height, width) in 0..1."""
    height, width = kept.shape
    target = np.empty((min(height, max(1, _STRIP_PX // width)), width, 3), np.float32)
    target[:] = colour_bgr
    values, weight = np.empty_like(target), np.empty_like(target)
    result = np.empty_like(image_bgr)
    for rows in strips(height, width):
        share = kept[rows]
        count = share.shape[0]
        strip, goal, factor = values[:count], target[:count], weight[:count]
        np.copyto(strip, image_bgr[rows])
        cv2.subtract(strip, goal, dst=strip)
        cv2.multiply(strip, cv2.merge([share, share, share], dst=factor), dst=strip)
        cv2.add(strip, goal, dst=strip)
        cv2.convertScaleAbs(strip, dst=result[rows])
    return result


def relight(image_bgr: BgrImage, gain: Float, light: Float | None = None) -> BgrImage:
    """Return ``image * gain + light``, two small maps of values in 0..1, enlarged to the picture.

    The gain is (rows, columns) or (rows, columns, 3), the light (rows, columns, 3).
    """
    gain_full = enlarge(scaled(gain), image_bgr, slot=0)
    light_full = None if light is None else enlarge(scaled(light), image_bgr, slot=1)
    result = np.empty_like(image_bgr)
    for rows in strips(*image_bgr.shape[:2]):
        factor = gain_full[rows]
        if factor.ndim == 2:
            factor = cv2.merge([factor, factor, factor]).astype(np.uint8, copy=False)
        if light_full is None:
            cv2.multiply(image_bgr[rows], factor, dst=result[rows], scale=1 / 255)
        else:
            cv2.add(cv2.multiply(image_bgr[rows], factor, scale=1 / 255), light_full[rows], dst=result[rows])
    return result


def dim(image_bgr: BgrImage, light: float, grey_share: float) -> BgrImage:
    """Return the picture times ``light``, with ``grey_share`` of its colour taken: light from everywhere, as under cloud."""
    result = np.empty_like(image_bgr)
    for rows in strips(*image_bgr.shape[:2]):
        strip = image_bgr[rows]
        grey = cv2.cvtColor(cv2.cvtColor(strip, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        cv2.addWeighted(strip, (1.0 - grey_share) * light, grey, grey_share * light, 0, dst=result[rows])
    return result


def add_light(image_bgr: BgrImage, light: Float) -> BgrImage:
    """Add a small map of light in 0..1 (rows, columns, 3), enlarged to the picture, as a screen: never beyond white.

    1 - (1 - image)(1 - light) saturates softly, as a sensor with a response curve does.
    """
    shade = enlarge(cv2.bitwise_not(scaled(light)).astype(np.uint8, copy=False), image_bgr, slot=0)
    result = np.empty_like(image_bgr)
    for rows in strips(*image_bgr.shape[:2]):
        dark = cv2.multiply(cv2.bitwise_not(image_bgr[rows]), shade[rows], scale=1 / 255)
        cv2.bitwise_not(dark, dst=result[rows])
    return result


def lay_over(image_bgr: BgrImage, paint: BgrImage | Bgr, alpha: BgrImage) -> BgrImage:
    """Lay a colour or another picture over the picture; ``alpha`` is uint8 (height, width), 255 covers."""
    result = np.empty_like(image_bgr)
    for rows in strips(*alpha.shape):
        share = alpha[rows]
        inverse = cv2.bitwise_not(share)
        kept = cv2.multiply(image_bgr[rows], cv2.merge([inverse, inverse, inverse]), scale=1 / 255)
        if isinstance(paint, tuple):
            laid = cv2.merge([cv2.convertScaleAbs(share, alpha=min(channel, 255.0) / 255) for channel in paint])
        else:
            laid = cv2.multiply(paint[rows], cv2.merge([share, share, share]), scale=1 / 255)
        cv2.add(kept, laid, dst=result[rows])
    return result


def scaled(share: Float) -> BgrImage:
    """Return values in 0..1 as uint8 0..255, rounded and clipped."""
    return cv2.convertScaleAbs(np.maximum(share, 0.0), alpha=255.0).reshape(share.shape).astype(np.uint8, copy=False)


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
