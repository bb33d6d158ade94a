"""What the camera itself adds: motion blur, sensor noise, compression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, ImageError
from drivetl.weather.checks import BgrImage, require_image, require_number, require_rng
from drivetl.weather.depth import DEFAULT_FOCAL
from drivetl.weather.pixels import u8
from drivetl.weather.tiles import normal_tile

__all__ = ["JPEG_LIMIT_PX", "jpeg_compression", "motion_blur", "sensor_noise"]

# A side of what a JPEG holds.
JPEG_LIMIT_PX = 65500

# Strips of this many pixels stay in the cache.
_STRIP_PX = 32768


def motion_blur(
    image_bgr: BgrImage, *, turn_deg: float, direction_deg: float = 0.0, focal_px: float | None = None
) -> BgrImage:
    """Return the picture blurred along a straight line, as when the camera turns during the exposure.

    A turn smears by the focal length times its tangent: 20 degrees a second for 20 ms at 900 pixels are 6 pixels. The
    average along the line is built by halving steps (two copies half a length apart, then a quarter, ...), so its
    cost grows with the logarithm of the length.

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        turn_deg: how far the camera turns while the shutter is open, 0 to 10 degrees.
        direction_deg: 0 is a turn to the side, 90 a nod; -180 to 180.
        focal_px: as for `depth_prior`.

    Raises:
        ImageError: the picture cannot be used.
        ConfigError: a parameter is out of range.
    """
    result = require_image(image_bgr).copy()
    focal = (
        DEFAULT_FOCAL * max(result.shape[:2]) if focal_px is None else require_number("focal_px", focal_px, 1.0, 1e6)
    )
    length = focal * math.tan(math.radians(require_number("turn_deg", turn_deg, 0.0, 10.0)))
    angle = math.radians(require_number("direction_deg", direction_deg, -180.0, 180.0))
    left_x, left_y = length * math.cos(angle), length * math.sin(angle)
    forth = True
    while max(abs(left_x), abs(left_y)) >= 1.0:
        # Half of what is left, in whole pixels; the later copies fill the gaps.
        dx, dy = round(left_x / 2), round(left_y / 2)
        if dx == dy == 0:
            dx, dy = round(left_x), round(left_y)
        # Steps forth and back in turns: the halves of odd steps would add up and move the whole picture.
        result = _averaged(result, dx, dy, math.ceil if forth else math.floor)
        forth = not forth
        left_x, left_y = left_x - dx, left_y - dy
    return result


def _averaged(image: BgrImage, dx: int, dy: int, rounded: Callable[[float], int]) -> BgrImage:
    """Return the mean of the picture moved by half of (dx, dy), ``rounded``, and back by the rest; edges repeat."""
    height, width = image.shape[:2]
    half_x, half_y = rounded(dx / 2), rounded(dy / 2)
    pad_x, pad_y = abs(dx) + 1, abs(dy) + 1
    padded = cv2.copyMakeBorder(image, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_REPLICATE)
    first, second = (
        padded[pad_y + y : pad_y + y + height, pad_x + x : pad_x + x + width]
        for x, y in ((half_x, half_y), (half_x - dx, half_y - dy))
    )
    return u8(cv2.addWeighted(first, 0.5, second, 0.5, 0))


def sensor_noise(
    image_bgr: BgrImage,
    *,
    gain_db: float,
    rng: np.random.Generator,
    full_well_electrons: float = 6000.0,
    read_noise_electrons: float = 3.0,
) -> BgrImage:
    """Return the picture with photon and read noise at an analogue gain.

    The model of EMVA 1288: in electrons the variance is the signal plus the squared read noise, and a gain of g
    uses only 1/g of the well for white. The variance is carried through the inverse of a gamma of 2.2 to grey
    levels. The random numbers are a tile drawn once and shifted by ``rng``: fresh ones would cost 30 ms.

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        gain_db: 0 to 60; 6 dB doubles.
        rng: where the tile lies.
        full_well_electrons: electrons of a white pixel at 0 dB, 100 to 1e6.
        read_noise_electrons: 0 to 100.

    Raises:
        ImageError: the picture cannot be used.
        ConfigError: a parameter is out of range.
    """
    image = require_image(image_bgr)
    gain = 10.0 ** (require_number("gain_db", gain_db, 0.0, 60.0) / 20.0)
    white = require_number("full_well_electrons", full_well_electrons, 100.0, 1e6) / gain
    read = require_number("read_noise_electrons", read_noise_electrons, 0.0, 100.0)
    generator = require_rng(rng)
    height, width = image.shape[:2]
    tile = normal_tile()
    y, x = (int(offset) for offset in generator.integers(0, tile.shape[:2]))
    table = _noise_table(white, read)
    result = np.empty(image.shape, np.uint8)
    for rows, tile_rows in _pieces(height, y, tile.shape[0], max(1, _STRIP_PX // width)):
        for columns, tile_columns in _pieces(width, x, tile.shape[1], width):
            part = image[rows, columns]
            noise = cv2.multiply(cv2.LUT(part, table), tile[tile_rows, tile_columns], scale=1 / (64 * 64))
            result[rows, columns] = cv2.add(part, noise, dtype=cv2.CV_8U).reshape(part.shape)
    return result


def _pieces(length: int, offset: int, period: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of a side and those of a repeating tile under them, none longer than ``most``."""
    begin = 0
    while begin < length:
        place = (offset + begin) % period
        count = min(most, length - begin, period - place)
        yield slice(begin, begin + count), slice(place, place + count)
        begin += count


@lru_cache(maxsize=64)
def _noise_table(white_electrons: float, read_electrons: float) -> NDArray[np.int16]:
    """Return 64 times the standard deviation in grey levels for each grey level, int16 (256,)."""
    level = np.arange(256) / 255.0
    signal = level**2.2 * white_electrons
    deviation = np.sqrt(signal + read_electrons**2) / white_electrons
    # Where the slope of the gamma curve is steep, at black, the noise itself lifts the signal: take it at that level.
    slope = (1 / 2.2) * np.maximum(level**2.2, deviation) ** (1 / 2.2 - 1)
    return np.minimum(np.rint(64 * 255 * deviation * slope), 32000).astype(np.int16)


def jpeg_compression(image_bgr: BgrImage, *, quality: int) -> BgrImage:
    """Return the picture after JPEG compression (ITU-T T.81) at a quality of 1 to 100 on libjpeg's scale.

    Raises:
        ImageError: the picture cannot be used, or is larger than the 65,500 pixels that JPEG allows a side.
        ConfigError: the quality is out of range.
    """
    image = require_image(image_bgr)
    level = require_number("quality", quality, 1, 100)
    if level != int(level):
        raise ConfigError(f"quality is {level:g}; it must be a whole number from 1 to 100")
    if max(image.shape[:2]) > JPEG_LIMIT_PX:
        raise ImageError(f"the picture is {image.shape[1]}x{image.shape[0]}; JPEG allows {JPEG_LIMIT_PX} pixels a side")
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(level)])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
