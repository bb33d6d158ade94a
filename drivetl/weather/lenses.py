"""On the glass before the camera: drops that refract, and dirt."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.weather.checks import BgrImage, require_colour, require_image, require_number, require_rng, require_time
from drivetl.weather.pixels import Bgr, Float, enlarge, f32, lay_over, scaled, u8
from drivetl.weather.sky import shrink, working_scale
from drivetl.weather.tiles import fractal_tile, window

__all__ = ["dirty_lens", "wet_lens"]

_FIELD_SIDE = 768
_FIELD_DROPS = 2600
# The long side spans this many pixels of the field of drops; that of a smaller picture, as many as it has.
_GLASS_PX = 480


class _Field(NamedTuple):
    """Drops on a repeating piece of glass: coverage, order of appearance, and how far light is bent; (side, side)."""

    cover: Float
    order: Float
    bend_x: Float
    bend_y: Float


def wet_lens(
    image_bgr: BgrImage,
    *,
    coverage: float,
    blur_px: float = 2.0,
    rng: np.random.Generator,
    time_s: float = 0.0,
) -> BgrImage:
    """Return the picture through glass with raindrops on it.

    Each drop is a strong, short lens: it shows the whole scene upside down and small, out of focus, with a dark rim
    where light is bent past the camera (Halimeh and Roser, "Raindrop detection on car windshields", IV 2009). The
    drops are a field drawn once, of which ``rng`` chooses and turns a piece.

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        coverage: share of all drops of the field that are there, 0 to 1; at 1 they cover about a fifth of the glass.
        blur_px: how far out of focus the drops' outlines are, in 1/480 of the long side (in pixels of a picture
            smaller than that), 0 to 10.
        rng: which piece of the field.
        time_s: moment, for a video: the drops creep down.

    Raises:
        ImageError: the picture cannot be used.
        ConfigError: a parameter is out of range.
    """
    image = require_image(image_bgr)
    share = require_number("coverage", coverage, 0.0, 1.0)
    softness = require_number("blur_px", blur_px, 0.0, 10.0)
    x, y, turn = (int(v) for v in require_rng(rng).integers(0, (_FIELD_SIDE, _FIELD_SIDE, 2)))
    scale = working_scale((image.shape[0], image.shape[1]), _GLASS_PX)
    width, height = scale.size_wh
    field = _drop_field()
    top = (y - int(7.0 * require_time(time_s))) % _FIELD_SIDE
    cover, order, bend_x, bend_y = (part[top : top + height, x : x + width] for part in field)
    if turn:
        cover, order, bend_x, bend_y = cover[:, ::-1], order[:, ::-1], -bend_x[:, ::-1], bend_y[:, ::-1]
    alpha = cover * (order < share)
    if softness > 0:
        alpha = f32(cv2.GaussianBlur(alpha, (0, 0), softness))
    scene = u8(cv2.blur(shrink(image, working_scale((image.shape[0], image.shape[1]), 160)), (3, 3)))
    # A drop gathers light from nearly half the sphere, so it is never as dark as the bonnet that it shows.
    scene = u8(cv2.addWeighted(scene, 0.7, np.full_like(scene, cv2.mean(scene)[:3]), 0.3, 0))
    through = _refracted(scene, bend_x, bend_y, (width, height))
    return lay_over(image, enlarge(through, image, slot=0), enlarge(scaled(alpha * np.float32(0.94)), image, slot=1))


def _refracted(scene: BgrImage, bend_x: Float, bend_y: Float, size_wh: tuple[int, int]) -> BgrImage:
    """Return what the drops show: the scene turned over about each drop's centre, dark at the rim."""
    height, width = scene.shape[:2]
    columns = np.linspace(0, width - 1, size_wh[0], dtype=np.float32)[None, :] * 0.55 + np.float32(0.225 * width)
    rows = np.float32(0.47 * height)
    map_x = columns - bend_x * np.float32(0.42 * width)
    map_y = rows - bend_y * np.float32(0.50 * height)
    through = cv2.remap(scene, map_x, map_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    rim = np.clip(1.22 - 0.75 * np.power(bend_x * bend_x + bend_y * bend_y, 1.5), 0.3, 1.0)
    return u8(cv2.multiply(through, cv2.merge([scaled(rim)] * 3), scale=1 / 255))


@lru_cache(maxsize=1)
def _drop_field() -> _Field:
    """Draw the field once: many small drops, few large ones, none quite round, heavier below."""
    rng = np.random.default_rng(77)
    side = _FIELD_SIDE
    field = _Field(*(np.zeros((side, side), np.float32) for _ in range(4)))
    field.order[:] = 1.0
    radii = np.minimum(1.7 + rng.exponential(2.2, _FIELD_DROPS), 13.0)
    for index in np.argsort(radii):
        _stamp(field, float(radii[index]), rng)
    # Repeated beyond its edges by the largest piece, so that a piece is a plain slice.
    return _Field(*(np.pad(part, (0, _GLASS_PX), mode="wrap") for part in field))


def _stamp(field: _Field, radius: float, rng: np.random.Generator) -> None:
    side = field.cover.shape[0]
    reach = int(np.ceil(1.5 * radius)) + 2
    grid = np.arange(-reach, reach + 1, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    bearing = np.arctan2(y, x)
    phases = rng.uniform(0, 2 * np.pi, 2)
    wobble = 1.0 + 0.10 * np.cos(2 * bearing + phases[0]) + 0.06 * np.cos(3 * bearing + phases[1])
    stretched = y / (1.0 + 0.012 * radius * rng.uniform(0.6, 1.6))
    distance = np.hypot(x, stretched) / (radius * wobble)
    shape = np.clip((1.0 - distance) * radius / 1.4, 0.0, 1.0).astype(np.float32)
    inside = distance < 1.0 + 3.0 / radius
    rows = (int(rng.integers(side)) + np.arange(-reach, reach + 1)) % side
    columns = (int(rng.integers(side)) + np.arange(-reach, reach + 1)) % side
    place = np.ix_(rows, columns)
    field.cover[place] = np.maximum(field.cover[place], shape)
    field.order[place] = np.where(inside, np.float32(rng.random()), field.order[place])
    field.bend_x[place] = np.where(inside, np.clip(x / radius, -1.2, 1.2), field.bend_x[place])
    field.bend_y[place] = np.where(inside, np.clip(stretched / radius, -1.2, 1.2), field.bend_y[place])


def dirty_lens(
    image_bgr: BgrImage,
    *,
    coverage: float,
    density: float = 0.8,
    dirt_bgr: Bgr = (54.0, 64.0, 72.0),
    rng: np.random.Generator,
) -> BgrImage:
    """Return the picture through glass with dried dirt on it.

    Dirt close to the lens is far out of focus: it takes light, I = I0 a, and scatters some of its own, + b (Gu et
    al., "Removing image artifacts due to dirty camera lenses and thin occluders", SIGGRAPH Asia 2009). A film in
    cloudy patches and splashes with soft edges come from tiles drawn once.

    Args:
        image_bgr: uint8 BGR, any size; it is not changed.
        coverage: share of the glass under dirt, 0 to 1.
        density: how much light the thickest dirt takes, 0 to 1.
        dirt_bgr: colour of the dirt as the sun lights it.
        rng: where the dirt is.

    Raises:
        ImageError: the picture cannot be used.
        ConfigError: a parameter is out of range.
    """
    image = require_image(image_bgr)
    share = require_number("coverage", coverage, 0.0, 1.0)
    thickness = require_number("density", density, 0.0, 1.0)
    x, y = require_rng(rng).uniform(0, _FIELD_SIDE, 2)
    scale = working_scale((image.shape[0], image.shape[1]), 320)
    film = window(fractal_tile(3, 512, 4, 7), scale.size_wh, x, y)
    specks = window(_splashes(), scale.size_wh, y, x)
    soft = np.clip((share - film) / 0.3, 0.0, 1.0) * np.float32(0.6)
    hard = np.clip((share - specks) / 0.2, 0.0, 1.0)
    alpha = np.maximum(soft, hard) * np.float32(thickness)
    return lay_over(image, require_colour("dirt_bgr", dirt_bgr), enlarge(scaled(alpha), image, slot=0))


@lru_cache(maxsize=1)
def _splashes() -> NDArray[np.float32]:
    """Return a repeating tile that tells from which coverage on a splash lies there (2: never)."""
    rng = np.random.default_rng(78)
    side = 512
    tile = np.full((side, side), 2.0, np.float32)
    ragged = fractal_tile(4, side, 64, 3)
    for radius in np.sort(np.minimum(0.7 + rng.exponential(1.4, 2200), 8.0)):
        reach = int(2.9 * radius) + 3
        grid = np.arange(-reach, reach + 1, dtype=np.float32)
        place = np.ix_(
            (int(rng.integers(side)) + np.arange(-reach, reach + 1)) % side,
            (int(rng.integers(side)) + np.arange(-reach, reach + 1)) % side,
        )
        distance = np.hypot(*np.meshgrid(grid * rng.uniform(0.7, 1.2), grid)) / radius + 1.3 * (ragged[place] - 0.5)
        # Thicker in the middle: the rim appears later, so splashes grow with coverage.
        needed = np.where(distance < 1.25, rng.random() + 0.12 * np.maximum(distance, 0.0) ** 2, 2.0)
        tile[place] = np.minimum(tile[place], needed)
    tile = f32(cv2.GaussianBlur(tile, (0, 0), 1.3))
    tile.flags.writeable = False
    return tile
