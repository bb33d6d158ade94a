"""Trucks and buses: boxes with rounded edges, rows of windows and many wheels."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from drivetl.scenes.camera import Float
from drivetl.scenes.cars import add_wheels, plate_and_lamps
from drivetl.scenes.mesh import Finish, Mesh, MeshBuilder, Slot

__all__ = ["HEAVY_SHAPES", "bus_mesh", "truck_mesh"]

HEAVY_SHAPES = 10


def _rounded(half_m: float, low_m: float, high_m: float, round_m: float) -> Float:
    """Return a cross-section (points, 2): from the right sill over the roof to the left."""
    right = [
        (half_m * 0.98, low_m),
        (half_m, low_m + 0.3),
        (half_m, high_m - round_m),
        (half_m - 0.3 * round_m, high_m - 0.3 * round_m),
        (half_m - round_m, high_m),
    ]
    return np.array([*right, *((-x, y) for x, y in reversed(right))], np.float32)


def _hull(
    builder: MeshBuilder, section: Float, z_m: tuple[float, float], slot: Slot, finish: Finish = Finish.PAINT
) -> None:
    """Add a prism with closed ends, in pieces along its length so that shading can vary."""
    stations = np.linspace(z_m[0], z_m[1], max(2, round((z_m[1] - z_m[0]) / 2.5) + 1))
    rings = np.stack([np.column_stack([section, np.full(len(section), z)]) for z in stations])
    builder.loft(rings, slot, finish, smooth=0.15)
    for ring, forward in ((rings[0], -1), (rings[-1], 1)):
        count = len(section) // 2
        rows = [[ring[j], ring[j + 1], ring[-2 - j], ring[-1 - j]] for j in range(count - 1)]
        normals = np.array([[0, 0.25 * (j / count) - 0.1, forward] for j in range(count - 1)])[:, None, :]
        builder.quads(rows, normals, slot, finish)


def _across(x0: float, x1: float, y0: float, y1: float, z: float) -> list[tuple[float, float, float]]:
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def _aside(x: float, y0: float, y1: float, z0: float, z1: float) -> list[tuple[float, float, float]]:
    return [(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)]


@lru_cache(maxsize=64)
def bus_mesh(variant: int, fine: bool) -> Mesh:
    """Return a city bus or a coach."""
    rng = np.random.default_rng([variant, 77])
    length, height = float(rng.uniform(9.0, 13.0)), float(rng.uniform(2.9, 3.4))
    half = 1.25
    builder = MeshBuilder()
    _hull(builder, _rounded(half, 0.32, height, 0.22), (-length / 2, length / 2), Slot.PAINT)
    belt, top = float(rng.uniform(1.15, 1.45)), height - float(rng.uniform(0.45, 0.7))
    count = round(length / 1.5)
    edges = np.linspace(-length / 2 + 0.3, length / 2 - 0.25, count + 1)
    for side in (-1, 1):
        x = side * (half + 0.01)
        builder.quads([_aside(x, belt - 0.06, top + 0.06, edges[0], edges[-1])], (side, 0, 0), Slot.DARK, layer=1)
        panes = [_aside(x + 0.006 * side, belt, top, a + 0.05, b - 0.05) for a, b in pairwise(edges)]
        builder.quads(panes, (side, 0.12, 0), Slot.GLASS, Finish.GLASS, layer=2)
        builder.quads([_aside(x, 0.5, 0.75, edges[0], edges[-1])], (side, 0, 0), Slot.SECOND, Finish.PAINT, layer=1)
        if side > 0:
            doors = (edges[-1] - 1.4, edges[count // 2])
            panels = [_aside(x + 0.01, 0.4, top - 0.05, z, z + 1.2) for z in doors]
            builder.quads(panels, (1, 0.12, 0), Slot.GLASS, Finish.GLASS, layer=3)
    front, rear = length / 2 + 0.012, -length / 2 - 0.012
    builder.quads([_across(-1.12, 1.12, 1.0, height - 0.5, front)], (0, 0.15, 1), Slot.GLASS, Finish.GLASS, layer=1)
    builder.quads([_across(-0.85, 0.85, height - 0.44, height - 0.14, front)], (0, 0, 1), Slot.DARK, layer=1)
    builder.quads(
        [_across(-0.55, 0.5, height - 0.37, height - 0.21, front + 0.01)], (0, 0, 1), Slot.AMBER, Finish.LAMP, layer=2
    )
    builder.quads([_across(-0.95, 0.95, 1.6, height - 0.6, rear)], (0, 0.1, -1), Slot.GLASS, Finish.GLASS, layer=1)
    builder.quads([_across(-0.8, 0.8, 0.75, 1.15, rear)], (0, 0, -1), Slot.DARK, layer=1)
    plate_and_lamps(builder, half * 0.98, (0.42, 0.95), length / 2, 0.6)
    plate_and_lamps(builder, half * 0.98, (0.45, 1.35), -length / 2, 0.9)
    for side in (-1, 1):
        x = side * 1.42
        builder.box(
            (x - 0.1, height - 1.15, length / 2 + 0.05), (x + 0.1, height - 0.65, length / 2 + 0.17), Slot.DARK, layer=5
        )
    add_wheels(builder, half * 0.99, (-length / 2 + 3.0, length / 2 - 2.6), 0.48, sides=14 if fine else 8, tread_m=0.3)
    return builder.build()


def _cab(builder: MeshBuilder, z_m: tuple[float, float], height: float, half: float) -> None:
    rear, front = z_m
    y0, slope = 0.45, 0.28
    profile = [
        (front, y0),
        (front + 0.02, y0 + 0.55),
        (front - 0.02, 1.45),
        (front - slope, height - 0.12),
        (front - slope - 0.25, height),
    ]
    section = _rounded(half, y0, height, 0.16)
    stations = [(rear, 1.0), (front - slope - 0.25, 1.0), (front - 0.02, 0.985)]
    rings = []
    for z, scale in stations:
        ring = np.column_stack([section[:, 0] * scale, section[:, 1], np.full(len(section), z)])
        if z == front - 0.02:
            # The windscreen leans back, so the foremost cross-section leans too.
            ring[:, 2] = np.interp(ring[:, 1], [y for _, y in profile], [z for z, _ in profile])
        rings.append(ring)
    builder.loft(rings, Slot.PAINT, Finish.PAINT, smooth=0.2)
    for ring, forward in ((rings[0], -1), (rings[-1], 1)):
        count = len(section) // 2
        rows = [[ring[j], ring[j + 1], ring[-2 - j], ring[-1 - j]] for j in range(count - 1)]
        builder.quads(rows, (0, 0.1, forward), Slot.PAINT, Finish.PAINT)
    glass_low, glass_high = 1.5, height - 0.3
    z0, z1 = (
        float(np.interp(y, [y for _, y in profile], [z for z, _ in profile])) + 0.02 for y in (glass_low, glass_high)
    )
    pane = [
        (-half * 0.9, glass_low, z0),
        (half * 0.9, glass_low, z0),
        (half * 0.88, glass_high, z1),
        (-half * 0.88, glass_high, z1),
    ]
    builder.quads([pane], (0, 0.25, 1), Slot.GLASS, Finish.GLASS, layer=1)
    builder.quads(
        [_across(-half * 0.6, half * 0.6, 0.85, 1.35, front + 0.035)], (0, 0, 1), Slot.DARK, Finish.METAL, layer=1
    )
    for side in (-1, 1):
        x = side * (half + 0.012)
        builder.quads(
            [_aside(x, 1.45, height - 0.35, front - 1.15, front - 0.35)],
            (side, 0.12, 0),
            Slot.GLASS,
            Finish.GLASS,
            layer=1,
        )
        builder.quads([_aside(x, 0.6, height - 0.3, front - 1.2, front - 1.17)], (side, 0, 0), Slot.DARK, layer=1)
        builder.box(
            (side * (half + 0.18) - 0.08, 1.5, front - 0.25),
            (side * (half + 0.18) + 0.08, 2.1, front - 0.13),
            Slot.DARK,
            layer=5,
        )


@lru_cache(maxsize=64)
def truck_mesh(variant: int, fine: bool) -> Mesh:
    """Return a delivery truck, a lorry with a box or tarpaulin, a tipper or a tanker."""
    rng = np.random.default_rng([variant, 99])
    kind = ("box", "box", "long", "tipper", "tanker")[variant % 5]
    length = float(rng.uniform(9.5, 14.0) if kind in ("long", "tanker") else rng.uniform(5.8, 8.2))
    half = float(rng.uniform(1.1, 1.24)) if kind == "box" else 1.25
    cab_height = float(rng.uniform(2.3, 2.8)) if kind == "box" else float(rng.uniform(2.8, 3.4))
    cab_length = 1.7 if kind == "box" else 2.1
    front, rear = length / 2, -length / 2
    builder = MeshBuilder()
    _cab(builder, (front - cab_length, front), cab_height, half * 0.97)
    plate_and_lamps(builder, half * 0.95, (0.5, 1.0), front + 0.02, 0.5)
    builder.next_part()
    bed, load = 0.95, (rear, front - cab_length - 0.25)
    builder.box((-half * 0.8, 0.5, rear + 0.1), (half * 0.8, bed, load[1]), Slot.DARK, layer=-1)
    top = cab_height + float(rng.uniform(0.1, 0.8))
    if kind == "tanker":
        turn = np.linspace(-0.5 * np.pi, 1.5 * np.pi, 15)[:-1]
        ring = np.column_stack([half * 0.95 * np.cos(turn), bed + 1.0 + 1.0 * np.sin(turn)])
        rings = [
            np.column_stack([ring * [s, 1] + [0, 0], np.full(14, z)])
            for s, z in ((0.9, load[0]), (1, load[0] + 0.4), (1, load[1] - 0.4), (0.9, load[1]))
        ]
        builder.loft(rings, Slot.SECOND, Finish.METAL, smooth=0.9, closed=True)
        builder.disc((0, bed + 1.0, load[0]), (0, 0, -1), 0.98, Slot.SECOND, Finish.METAL, sides=14, layer=0)
    else:
        high = bed + 1.2 if kind == "tipper" else top
        _hull(builder, _rounded(half, bed, high, 0.05), load, Slot.SECOND, Finish.MATTE)
        for side in (-1, 1):
            ribs = [
                _aside(side * (half + 0.012), bed + 0.05, high - 0.05, z, z + 0.05)
                for z in np.arange(load[0] + 0.5, load[1], 1.3)
            ]
            builder.quads(ribs, (side, 0, 0.5), Slot.SECOND, layer=1)
            builder.quads(
                [
                    _aside(
                        side * (half + 0.016),
                        bed + 0.35 * (high - bed),
                        bed + 0.62 * (high - bed),
                        load[0] + 1.2,
                        load[1] - 1.2,
                    )
                ],
                (side, 0, 0),
                Slot.PAINT,
                layer=2,
            )
        z = rear - 0.012
        builder.quads([_across(-0.02, 0.02, bed + 0.1, high - 0.08, z)], (0, 0, -1), Slot.DARK, layer=1)
        bars = [_across(x - 0.02, x + 0.02, bed + 0.1, high - 0.1, z) for x in (-0.55 * half, 0.55 * half)]
        builder.quads(bars, (0, 0, -1), Slot.RIM, Finish.METAL, layer=2)
    builder.box((-half * 0.95, 0.5, rear - 0.04), (half * 0.95, 0.68, rear + 0.06), Slot.DARK, layer=1)
    plate_and_lamps(builder, half * 0.98, (0.55, 0.95), rear - 0.05, 0.3)
    axles = [front - 1.2, rear + 1.5] if kind == "box" else [front - 1.3, rear + 2.7, rear + 1.5]
    add_wheels(builder, half * 0.98, tuple(axles), 0.42 if kind == "box" else 0.5, sides=14 if fine else 8, tread_m=0.3)
    return builder.build()
