"""Painted once and used in every scene: noise, foliage, and the atlas of walls."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Float, f32, u8

__all__ = ["CROWNS", "TILES", "TILE_PX", "crown", "fractal_noise", "grain_tile", "tiles_of", "wall_tiles"]

CROWNS = 16
TILE_PX = 384
_CROWN_PX = 160
# Style of each tile of the atlas; "shop" and "base" are ground floors.
TILES = (
    "plaster",
    "plaster",
    "plaster",
    "brick",
    "brick",
    "glass",
    "glass",
    "hall",
    "hall",
    "house",
    "house",
    "shop",
    "shop",
    "shop",
    "base",
    "base",
)
Picture = NDArray[np.uint8]


def tiles_of(style: str) -> tuple[int, ...]:
    """Return the tiles of a style."""
    return tuple(index for index, name in enumerate(TILES) if name == style)


@lru_cache(maxsize=16)
def fractal_noise(seed: int, size_px: int = 512, coarsest_px: int = 128, roughness: float = 0.5) -> Float:
    """Return noise that repeats without a seam, float32 (size, size), mean 0, deviation 1."""
    rng = np.random.default_rng([seed, 11])
    total = np.zeros((size_px, size_px), np.float32)
    cell, weight = coarsest_px, 1.0
    while cell >= 2:
        count = size_px // cell
        values = rng.standard_normal((count, count)).astype(np.float32)
        padded = np.pad(values, 2, mode="wrap")
        big = cv2.resize(padded, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += weight * big[2 * cell : 2 * cell + size_px, 2 * cell : 2 * cell + size_px]
        cell //= 2
        weight *= roughness
    total -= total.mean()
    return f32(total / total.std())


@lru_cache(maxsize=2)
def grain_tile(height_px: int, width_px: int) -> Picture:
    """Return the noise of a sensor after its own processing, uint8 (height, width, 3): 128, deviation 24."""
    rng = np.random.default_rng(23)
    fine = rng.standard_normal((height_px, width_px, 1)).astype(np.float32)
    colour = rng.standard_normal((height_px, width_px, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(fine * 0.85 + colour * 0.5, (3, 3), 0.6)
    return u8(np.clip(128 + 24 * soft / soft.std(), 0, 255))


@lru_cache(maxsize=CROWNS)
def crown(index: int) -> tuple[Picture, Picture]:
    """Return mask and shade of a tree's crown, uint8 (160, 160) each; the shade is 255 times the root of its half."""
    rng = np.random.default_rng([index, 12])
    size, conifer = _CROWN_PX, index >= CROWNS * 3 // 4
    mask, shade = np.zeros((size, size), np.uint8), np.full((size, size), 60, np.float32)
    count = 700
    if conifer:
        y = np.sort(rng.random(count)) ** 0.8
        x = 0.5 + rng.uniform(-0.46, 0.46, count) * y * (0.75 + 0.25 * np.sin(y * 40))
    else:
        lumps = np.column_stack([rng.uniform(0.22, 0.78, 9), rng.uniform(0.2, 0.75, 9), rng.uniform(0.12, 0.26, 9)])
        chosen = lumps[rng.integers(0, 9, count)]
        turn, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)) * chosen[:, 2]
        x, y = chosen[:, 0] + reach * np.cos(turn), chosen[:, 1] + reach * np.sin(turn) * 0.85
    depth = np.argsort(rng.random(count) + (0.35 * (1 - y) if not conifer else y))
    for i in depth:
        radius = int(rng.integers(3, 8))
        centre = int(np.clip(x[i], 0.05, 0.95) * size), int(np.clip(y[i], 0.04, 0.97) * (size - 8)) + 4
        light = 128 * (0.55 + 0.65 * (1 - y[i]) + 0.3 * rng.standard_normal() * 0.5 + 0.25 * (x[i] - 0.5))
        axes = radius, max(2, radius * 2 // 3)
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(mask, centre, axes, angle, 0, 360, 255, -1)
        cv2.ellipse(shade, centre, axes, angle, 0, 360, float(light), -1)
    shade = f32(cv2.GaussianBlur(shade, (3, 3), 0.7))
    return mask, (np.sqrt(np.clip(shade, 20, 255) / 256) * 255).astype(np.uint8)


@lru_cache(maxsize=1)
def wall_tiles() -> tuple[tuple[Picture, ...], ...]:
    """Return every wall tile in four sizes, uint8 (side, side, 3), from `TILE_PX` down by halves.

    The values are square roots of linear shares, so that 255 is the wall's own colour.
    """
    pictures = [_tile(style, index) for index, style in enumerate(TILES)]
    sizes = [TILE_PX >> level for level in range(4)]
    return tuple(
        tuple(u8(cv2.resize(p, (side, side), interpolation=cv2.INTER_AREA)) for side in sizes) for p in pictures
    )


def _tile(style: str, index: int) -> Picture:
    rng = np.random.default_rng([index, 13])
    wall = np.full((TILE_PX, TILE_PX, 3), 0.8, np.float32)
    wall *= 1 + 0.03 * fractal_noise(index % 4, 512)[:TILE_PX, :TILE_PX, None]
    if style in ("brick", "house") and index % 2:
        _bricks(wall, rng)
    if style in ("shop", "base"):
        _ground_floor(wall, rng, shop=style == "shop")
    elif style == "hall":
        wall *= (1 + 0.06 * np.sign(np.sin(np.arange(TILE_PX) * (2 * np.pi / 12))))[None, :, None]
        _windows(wall, rng, (1, 2), (0.6, 0.16), 0.15)
    elif style == "glass":
        wall *= 0.75
        _windows(wall, rng, (3, 4), (0.9, 0.78), 0.1)
    else:
        _windows(wall, rng, (3, 3), (float(rng.uniform(0.34, 0.5)), float(rng.uniform(0.5, 0.62))), 0.2)
        for floor in range(3):
            y = floor * TILE_PX // 3
            wall[y : y + 5] *= 0.86
            wall[y + 5 : y + 7] *= 1.1
    return u8(np.clip(np.sqrt(np.clip(wall, 0, 1)) * 255, 0, 255))


def _bricks(wall: Float, rng: np.random.Generator) -> None:
    rows = TILE_PX // 6
    shades = rng.normal(1, 0.09, (rows, TILE_PX // 12)).astype(np.float32)
    field = np.repeat(np.repeat(shades, 6, axis=0), 12, axis=1)
    field[::6] *= 1.12
    for row in range(0, rows, 2):
        field[row * 6 : row * 6 + 6] = np.roll(field[row * 6 : row * 6 + 6], 6, axis=1)
    wall *= field[:TILE_PX, :TILE_PX, None] * 0.95


def _windows(
    wall: Float, rng: np.random.Generator, grid: tuple[int, int], share_wh: tuple[float, float], darkest: float
) -> None:
    rows, columns = grid
    for row in range(rows):
        for column in range(columns):
            width, height = TILE_PX / columns, TILE_PX / rows
            w, h = int(width * share_wh[0]), int(height * share_wh[1])
            x, y = int((column + 0.5) * width - w / 2), int((row + 0.5) * height - h / 2)
            frame = max(2, w // 22)
            wall[y - frame : y + h + frame, x - frame : x + w + frame] *= rng.choice([1.15, 0.6])
            wall[y + h + frame : y + h + frame + 5, x - frame * 2 : x + w + frame * 2] *= 1.1
            _pane(wall[y : y + h, x : x + w], rng, darkest)
            if share_wh[0] < 0.7:
                wall[y : y + h, x + w // 2 - 1 : x + w // 2 + 2] = 0.7
                wall[y + h // 3 : y + h // 3 + 2, x : x + w] = 0.7


def _pane(pane: Float, rng: np.random.Generator, darkest: float) -> None:
    height, width = pane.shape[:2]
    top, bottom = rng.uniform(0.15, 0.55), rng.uniform(darkest * 0.3, darkest)
    slope = np.linspace(top, bottom, height, dtype=np.float32)[:, None] + np.linspace(
        -0.05, 0.05, width, dtype=np.float32
    )
    pane[:] = np.maximum(slope, 0.03)[..., None] * np.array([1.1, 1.0, 0.9], np.float32)
    pane[: max(2, height // 14)] *= 0.5
    if rng.random() < 0.35:
        pane[: int(height * rng.uniform(0.2, 0.8))] = rng.uniform(0.45, 0.75)
    elif rng.random() < 0.4:
        edge = max(2, int(width * rng.uniform(0.1, 0.28)))
        pane[:, :edge] = pane[:, -edge:] = rng.uniform(0.4, 0.65)


def _ground_floor(wall: Float, rng: np.random.Generator, *, shop: bool) -> None:
    size = TILE_PX
    wall[int(size * 0.9) :] *= 0.6
    if not shop:
        for x in (0.1, 0.43, 0.72):
            _pane(wall[int(size * 0.25) : int(size * 0.7), int(size * x) : int(size * (x + 0.2))], rng, 0.12)
        wall[int(size * 0.22) :, int(size * 0.31) : int(size * 0.42)] = rng.uniform(0.08, 0.35, 3)
        wall[: int(size * 0.05)] *= 1.15
        return
    x = 0.03
    while x < 0.93:
        width = float(rng.uniform(0.26, 0.45))
        end = min(0.97, x + width)
        columns = slice(int(size * x), int(size * end))
        wall[int(size * 0.04) : int(size * 0.2), columns] = rng.uniform(0.05, 0.9, 3)
        for letter in np.arange(x + 0.05, end - 0.06, 0.035):
            high = float(rng.uniform(0.07, 0.1))
            wall[int(size * (0.16 - high)) : int(size * 0.16), int(size * letter) : int(size * (letter + 0.02))] = 0.85
        glass = wall[int(size * 0.25) : int(size * 0.86), columns]
        _pane(glass, rng, 0.1)
        for _ in range(7):
            y, a = int(rng.uniform(0.3, 0.85) * glass.shape[0]), int(rng.uniform(0, 0.85) * glass.shape[1])
            glass[y : y + int(rng.integers(8, 50)), a : a + int(rng.integers(6, 26))] = rng.uniform(0.05, 0.6, 3)
        if rng.random() < 0.4:
            wall[int(size * 0.2) : int(size * 0.32), columns] = rng.uniform(0.1, 0.7, 3)
        x = end + 0.03
