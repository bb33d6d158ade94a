"""Pre-drawn random tiles, made once per process and then only shifted: drawing fresh noise is what costs."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["fractal_tile", "normal_tile", "window"]

_TILE_SEED = 20260719
_NORMAL_HW = (1024, 2048)


@lru_cache(maxsize=1)
def normal_tile() -> NDArray[np.int16]:
    """Return unit normal noise times 64 as int16 (1024, 2048, 3); the same in every process, 12 MB."""
    rng = np.random.default_rng(_TILE_SEED)
    tile = rng.standard_normal((*_NORMAL_HW, 3), dtype=np.float32)
    result = np.rint(tile * 64).astype(np.int16)
    result.flags.writeable = False
    return result


@lru_cache(maxsize=8)
def fractal_tile(seed: int, side: int = 512, coarsest: int = 4, octaves: int = 5) -> NDArray[np.float32]:
    """Return cloudy noise with values spread evenly over 0..1, float32 (side, side), that repeats without a seam."""
    rng = np.random.default_rng((_TILE_SEED, seed))
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        cells = coarsest << octave
        if cells > side:
            break
        grid = np.pad(rng.random((cells, cells), dtype=np.float32), 2, mode="wrap")
        step = side // cells
        fine = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += fine[2 * step : 2 * step + side, 2 * step : 2 * step + side] * 0.55**octave
    # Ranks instead of values: a threshold of 0.3 then covers exactly 30 % of the area.
    order = np.empty(total.size, np.float32)
    order[np.argsort(total, axis=None, kind="stable")] = np.linspace(0.0, 1.0, total.size, dtype=np.float32)
    result = order.reshape(total.shape)
    result.flags.writeable = False
    return result


def window(tile: NDArray[np.float32], size_wh: tuple[int, int], x: float, y: float) -> NDArray[np.float32]:
    """Return a (height, width) window of a repeating tile whose corner lies at (x, y), to a fraction of a pixel."""
    width, height = size_wh
    columns = np.arange(width + 1) + int(np.floor(x))
    rows = np.arange(height + 1) + int(np.floor(y))
    block = np.take(np.take(tile, rows, axis=0, mode="wrap"), columns, axis=1, mode="wrap")
    part_x, part_y = np.float32(x % 1.0), np.float32(y % 1.0)
    across = block[:, :-1] * (1 - part_x) + block[:, 1:] * part_x
    return np.asarray(across[:-1] * (1 - part_y) + across[1:] * part_y, dtype=np.float32)
