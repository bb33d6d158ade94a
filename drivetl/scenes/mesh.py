"""Shapes made of quads, with a normal at every corner.

Local axes: x to the right, y up, z forward, in metres; the origin is on the ground below the middle. A mesh has
*parts* (convex pieces, drawn far to near) and within them *layers* (0 the hull, 1 what sits on it, -1 what it hides).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Float, f32

__all__ = ["Finish", "Mesh", "MeshBuilder", "Slot"]


_TAGS = ("slot", "finish", "part", "layer", "tile")


class Slot(IntEnum):
    """Which colour of its owner's palette a face takes."""

    PAINT = 0
    GLASS = 1
    DARK = 2
    TYRE = 3
    RIM = 4
    LAMP = 5
    TAIL = 6
    PLATE = 7
    SECOND = 8
    SKIN = 9
    HAIR = 10
    TOP = 11
    LEGS = 12
    SHOES = 13
    AMBER = 14
    POLE = 15


class Finish(IntEnum):
    """How a face answers to light; the figures are in `drivetl.scenes.light`."""

    MATTE = 0
    PAINT = 1
    GLASS = 2
    METAL = 3
    LAMP = 4


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Quads; a triangle repeats its last corner.

    Attributes:
        corners: float32 (n, 4, 3).
        normals: float32 (n, 4, 3), unit length, outward.
        facing: float32 (n, 3), the flat normal of each quad.
        slot, finish, part, layer: int (n,).
        tile: int (n,), which tile of the wall atlas is stretched over the quad; -1 for none.
        repeat: float32 (n, 2), how often, along the first and the last side.
        part_middle: float32 (parts, 3).
        low, high: float32 (3,), the box around all corners.
    """

    corners: Float
    normals: Float
    facing: Float
    slot: NDArray[np.intp]
    finish: NDArray[np.intp]
    part: NDArray[np.intp]
    layer: NDArray[np.intp]
    tile: NDArray[np.intp]
    repeat: Float
    part_middle: Float
    low: Float
    high: Float


def _unit(vectors: Any) -> Float:
    v = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt((v * v).sum(axis=-1, keepdims=True))
    return f32(v / np.maximum(length, np.float32(1e-9)))


def _cross(a: Float, b: Float) -> Float:
    """Return the cross product of (..., 3); numpy's own takes five times as long."""
    ax, ay, az, bx, by, bz = a[..., 0], a[..., 1], a[..., 2], b[..., 0], b[..., 1], b[..., 2]
    result: Float = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)
    return result


def _slope(points: Float, axis: int) -> Float:
    """Return the difference between each point's neighbours along an axis; at the ends, to the one neighbour."""
    count = points.shape[axis]
    after = np.minimum(np.arange(count) + 1, count - 1)
    before = np.maximum(np.arange(count) - 1, 0)
    return f32(points.take(after, axis) - points.take(before, axis))


def _flat(corners: Float) -> Float:
    return _unit(_cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]))


class MeshBuilder:
    """Collects quads; `build` checks and freezes them."""

    def __init__(self) -> None:
        self._corners: list[Float] = []
        self._normals: list[Float] = []
        self._tags: list[NDArray[np.intp]] = []
        self._repeats: list[Float] = []
        self._part = 0

    def next_part(self) -> None:
        """What is added from now on belongs to another convex piece."""
        self._part += 1

    def quads(
        self,
        corners: Any,
        normals: Any,
        slot: Any,
        finish: Finish = Finish.MATTE,
        *,
        layer: Any = 0,
        tile: Any = -1,
        repeat: Any = (1.0, 1.0),
    ) -> MeshBuilder:
        """Add quads (n, 4, 3) with normals (n, 4, 3), (n, 1, 3) or (3,).

        ``slot``, ``layer``, ``tile`` and ``repeat`` are one for all, or one a quad.
        """
        c = np.asarray(corners, dtype=np.float32).reshape(-1, 4, 3)
        tags = np.empty((len(c), 5), np.intp)
        tags[:, 0], tags[:, 1], tags[:, 2], tags[:, 3], tags[:, 4] = slot, finish, self._part, layer, tile
        self._corners.append(c)
        self._normals.append(np.broadcast_to(_unit(normals), c.shape))
        self._tags.append(tags)
        self._repeats.append(np.broadcast_to(np.asarray(repeat, np.float32), (len(c), 2)))
        return self

    def box(
        self, low: Any, high: Any, slot: Slot, finish: Finish = Finish.MATTE, *, layer: int = 0, taper: float = 1.0
    ) -> MeshBuilder:
        """Add an upright box; ``taper`` narrows its top."""
        x0, y0, z0 = low
        x1, y1, z1 = high
        mx, mz = (x0 + x1) / 2, (z0 + z1) / 2
        foot = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
        bottom = np.array([(x, y0, z) for x, z in foot])
        top = np.array([(mx + (x - mx) * taper, y1, mz + (z - mz) * taper) for x, z in foot])
        sides = [[bottom[i], bottom[(i + 1) % 4], top[(i + 1) % 4], top[i]] for i in range(4)]
        normals = [[0, 0, -1], [1, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]
        return self.quads([*sides, list(top), list(bottom)], np.array(normals)[:, None, :], slot, finish, layer=layer)

    def loft(
        self,
        rings: Any,
        slot: Any,
        finish: Finish = Finish.MATTE,
        *,
        smooth: float = 0.7,
        closed: bool = False,
        layer: int = 0,
    ) -> MeshBuilder:
        """Add the skin over cross-sections (m, k, 3); ``closed`` joins the last point of each to its first.

        ``slot`` may be an array of (m - 1, quads a ring), below zero where there is no skin. ``smooth`` mixes the flat
        normals (0) with those of a rounded shape (1).
        """
        p = np.asarray(rings, dtype=np.float32)
        if closed:
            p = np.concatenate([p, p[:, :1]], axis=1)
        along, around = _slope(p, 0), _slope(p, 1)
        if closed:
            around[:, 0] = around[:, -1] = p[:, 1] - p[:, -2]
        rounded = _unit(_cross(along, around))
        grid = np.stack([p[:-1, :-1], p[:-1, 1:], p[1:, 1:], p[1:, :-1]], axis=2).reshape(-1, 4, 3)
        soft = np.stack([rounded[:-1, :-1], rounded[:-1, 1:], rounded[1:, 1:], rounded[1:, :-1]], axis=2)
        soft = soft.reshape(-1, 4, 3)
        middle = np.repeat((p[:-1].mean(axis=1) + p[1:].mean(axis=1)) / 2, p.shape[1] - 1, axis=0)
        flat = _flat(grid)
        outward = np.sign(((grid.mean(axis=1) - middle) * flat).sum(axis=-1))[:, None]
        flat = flat * outward
        soft = soft * np.where((soft * flat[:, None]).sum(axis=-1, keepdims=True) < 0, -1, 1)
        slots = np.broadcast_to(np.asarray(slot, np.intp), (p.shape[0] - 1, p.shape[1] - 1)).reshape(-1)
        keep = slots >= 0
        normals = flat[:, None] * (1 - smooth) + soft * smooth
        return self.quads(grid[keep], normals[keep], slots[keep], finish, layer=layer)

    def disc(
        self,
        middle: Any,
        axis: Any,
        radius: float,
        slot: Slot,
        finish: Finish = Finish.MATTE,
        *,
        layer: int = 1,
        sides: int = 12,
    ) -> MeshBuilder:
        """Add a flat disc that faces along ``axis``; ``sides`` is even."""
        a = _unit(np.asarray(axis, dtype=np.float32))
        other = np.array([0, 1, 0] if abs(a[1]) < 0.9 else [1, 0, 0], dtype=np.float32)
        right = _unit(_cross(a, other))
        up = _cross(right, a)
        turn = np.arange(sides + 1) * (2 * math.pi / sides)
        rim = np.asarray(middle) + radius * (np.cos(turn)[:, None] * right + np.sin(turn)[:, None] * up)
        quads = [[np.asarray(middle), rim[i], rim[i + 1], rim[i + 2]] for i in range(0, sides, 2)]
        return self.quads(quads, a, slot, finish, layer=layer)

    def tube(
        self,
        start: Any,
        end: Any,
        radii: tuple[float, float],
        slot: Slot,
        finish: Finish = Finish.MATTE,
        *,
        sides: int = 6,
        layer: int = 0,
        closed: bool = True,
    ) -> MeshBuilder:
        """Add a round, perhaps tapering rod; its ends are open unless it is ``closed``."""
        a, b = np.asarray(start, dtype=np.float32), np.asarray(end, dtype=np.float32)
        axis = _unit(b - a)
        other = np.array([0, 0, 1] if abs(axis[2]) < 0.8 else [1, 0, 0], dtype=np.float32)
        right = _unit(_cross(axis, other))
        up = _cross(right, axis)
        turn = np.arange(sides) * (2 * math.pi / sides)
        ring = np.cos(turn)[:, None] * right + np.sin(turn)[:, None] * up
        self.loft([a + ring * radii[0], b + ring * radii[1]], slot, finish, smooth=1.0, closed=True, layer=layer)
        for place, direction, radius in ((a, -axis, radii[0]), (b, axis, radii[1])) if closed else ():
            self.disc(place, direction, radius, slot, finish, layer=layer, sides=sides - sides % 2)
        return self

    def build(self) -> Mesh:
        """Return the mesh, without quads that have no area."""
        corners, normals = np.concatenate(self._corners), np.concatenate(self._normals)
        tags, repeats = np.concatenate(self._tags), np.concatenate(self._repeats)
        area = _cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        keep = (area * area).sum(axis=1) > 1e-10
        corners, normals, tags, repeats = corners[keep], normals[keep], tags[keep], repeats[keep]
        facing = _flat(corners)
        facing *= np.where((facing * normals.mean(axis=1)).sum(axis=1, keepdims=True) < 0, -1, 1)
        parts, tags[:, 2] = np.unique(tags[:, 2], return_inverse=True)
        middle = np.stack([corners[tags[:, 2] == part].mean(axis=(0, 1)) for part in range(len(parts))])
        points = corners.reshape(-1, 3)
        return Mesh(
            corners=corners,
            normals=np.ascontiguousarray(normals),
            facing=facing.astype(np.float32),
            **{name: np.ascontiguousarray(tags[:, i]) for i, name in enumerate(_TAGS)},
            repeat=repeats,
            part_middle=middle.astype(np.float32),
            low=points.min(axis=0),
            high=points.max(axis=0),
        )
