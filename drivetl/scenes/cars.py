"""Cars and vans: a lofted body with glass, lamps, plates and wheels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from drivetl.scenes.camera import Float
from drivetl.scenes.mesh import Finish, Mesh, MeshBuilder, Slot

__all__ = ["CAR_SHAPES", "add_wheels", "car_mesh", "plate_and_lamps"]

CAR_SHAPES = 8


@dataclass(frozen=True, slots=True)
class _Body:
    """Station by station from the rear (0) to the front (1): where it is, belt height, roof height, half width."""

    length_m: float
    width_m: float
    sill_m: float
    along: tuple[float, ...]
    belt: tuple[float, ...]
    roof: tuple[float, ...]
    axles: tuple[float, float]
    wheel_m: float


# Shares of length and of height; roof equal to belt: there is no cabin here.
_PROFILES: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "sedan": (
        (0.0, 0.015, 0.06, 0.19, 0.33, 0.46, 0.59, 0.75, 0.9, 0.975, 1.0),
        (0.56, 0.66, 0.69, 0.68, 0.66, 0.65, 0.65, 0.65, 0.59, 0.52, 0.44),
        (0.56, 0.66, 0.69, 0.69, 0.97, 1.0, 0.98, 0.66, 0.6, 0.53, 0.45),
    ),
    "hatch": (
        (0.0, 0.015, 0.04, 0.15, 0.3, 0.46, 0.6, 0.77, 0.92, 0.98, 1.0),
        (0.5, 0.62, 0.66, 0.65, 0.64, 0.63, 0.63, 0.64, 0.58, 0.52, 0.44),
        (0.5, 0.63, 0.67, 0.94, 1.0, 1.0, 0.98, 0.65, 0.59, 0.53, 0.45),
    ),
    "suv": (
        (0.0, 0.015, 0.035, 0.12, 0.3, 0.46, 0.61, 0.74, 0.93, 0.985, 1.0),
        (0.5, 0.6, 0.64, 0.64, 0.63, 0.63, 0.63, 0.64, 0.6, 0.56, 0.46),
        (0.5, 0.61, 0.65, 0.95, 1.0, 1.0, 0.98, 0.65, 0.61, 0.57, 0.47),
    ),
    "estate": (
        (0.0, 0.01, 0.03, 0.11, 0.3, 0.46, 0.6, 0.76, 0.91, 0.975, 1.0),
        (0.5, 0.62, 0.66, 0.66, 0.65, 0.64, 0.64, 0.65, 0.58, 0.52, 0.44),
        (0.5, 0.63, 0.67, 0.93, 1.0, 1.0, 0.98, 0.66, 0.59, 0.53, 0.45),
    ),
    "van": (
        (0.0, 0.008, 0.02, 0.05, 0.3, 0.5, 0.72, 0.87, 0.95, 0.985, 1.0),
        (0.4, 0.52, 0.55, 0.55, 0.55, 0.55, 0.55, 0.55, 0.48, 0.42, 0.36),
        (0.4, 0.53, 0.56, 0.97, 1.0, 1.0, 0.98, 0.56, 0.49, 0.43, 0.37),
    ),
}
# length, width, height, each lowest and highest; how often.
_SIZES = {
    "sedan": ((4.4, 4.95), (1.76, 1.88), (1.4, 1.5)),
    "hatch": ((3.6, 4.35), (1.66, 1.82), (1.42, 1.56)),
    "suv": ((4.2, 4.9), (1.8, 1.98), (1.6, 1.82)),
    "estate": ((4.4, 4.9), (1.76, 1.88), (1.44, 1.54)),
    "van": ((4.5, 5.6), (1.9, 2.05), (1.9, 2.4)),
}
_RING = 13


def _body(kind: str, rng: np.random.Generator) -> _Body:
    length, width, height = (float(rng.uniform(*span)) for span in _SIZES[kind])
    along, belt, roof = (np.array(values) for values in _PROFILES[kind])
    shift = rng.uniform(-0.02, 0.02)
    along = along + shift * np.sin(np.pi * along)
    belt_scale = rng.uniform(0.97, 1.04)
    belt, roof = belt * belt_scale, np.where(roof > belt + 0.1, roof, roof * belt_scale)
    sill = float(rng.uniform(0.2, 0.24)) if kind != "suv" else float(rng.uniform(0.26, 0.32))
    wheel = (0.36 if kind in ("suv", "van") else 0.315) * float(rng.uniform(0.95, 1.06))
    axles = float(rng.uniform(0.17, 0.2)), float(rng.uniform(0.79, 0.82))
    return _Body(length, width, sill, tuple(along), tuple(belt * height), tuple(roof * height), axles, wheel)


def _rings(body: _Body) -> Float:
    """Return the cross-sections (stations, 13, 3), from the right sill over the roof to the left."""
    rings = np.empty((len(body.along), _RING, 3), np.float32)
    for index, (t, belt, roof) in enumerate(zip(body.along, body.belt, body.roof, strict=True)):
        end = min(t, 1 - t) / 0.12
        half = body.width_m / 2 * (1 - 0.1 * max(0.0, 1 - end) ** 2)
        cabin = roof > belt + 0.1
        top = half * (0.77 if cabin else 0.86)
        middle = body.sill_m + 0.55 * (belt - body.sill_m)
        right = [
            (half * 0.94, body.sill_m),
            (half * 1.0, middle),
            (half * 0.985, belt - 0.06),
            (half * 0.94, belt),
            (top, roof - (0.07 if cabin else 0.005)),
            (top * 0.82, roof - (0.01 if cabin else 0.0)),
        ]
        z = (t - 0.5) * body.length_m
        points = [*right, (0.0, roof + 0.025), *((-x, y) for x, y in reversed(right))]
        rings[index] = [(x, y, z) for x, y in points]
    return rings


def _skins(body: _Body, blind: bool) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Return the colour slot of every quad of the loft: paint, or glass where there are windows."""
    cabin = np.array(body.roof) > np.array(body.belt) + 0.1
    slots = np.full((len(cabin) - 1, _RING - 1), int(Slot.PAINT), np.intp)
    for i in range(len(cabin) - 1):
        if cabin[i] and cabin[i + 1]:
            if not blind or i >= len(cabin) - 6:
                slots[i, [3, 8]] = Slot.GLASS
        elif cabin[i] or cabin[i + 1]:
            slots[i, [5, 6]] = Slot.GLASS
            if not blind:
                slots[i, [3, 8]] = Slot.GLASS
    return slots


def _cap(builder: MeshBuilder, ring: Float, forward: int) -> None:
    """Close one end of the body."""
    rows = [[ring[j], ring[j + 1], ring[-2 - j], ring[-1 - j]] for j in range(_RING // 2)]
    slots = [Slot.DARK, *[Slot.PAINT] * (len(rows) - 1)]
    normals = np.array([[0, -0.25 + 0.2 * j, forward] for j in range(len(rows))])[:, None, :]
    builder.quads(rows, normals, slots, Finish.PAINT)


def _face(x0: float, x1: float, y0: float, y1: float, z: float) -> list[list[tuple[float, float, float]]]:
    return [[(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]]


def plate_and_lamps(builder: MeshBuilder, half_m: float, levels_m: tuple[float, float], z: float, fancy: float) -> None:
    """Put lamps, a plate and a grille on the end at ``z`` (below zero: the rear), between two heights."""
    low, high = levels_m
    rise = high - low
    forward = 1 if z > 0 else -1
    normal = (0, 0.1, forward)
    z += 0.012 * forward
    lamp = Slot.LAMP if forward > 0 else Slot.TAIL
    inner, outer = half_m * (0.58 + 0.15 * fancy), half_m * 0.94
    lamp_low = low + rise * (0.5 if forward > 0 else 0.48 - 0.1 * fancy)
    for side in (-1, 1):
        corners = [
            (side * inner, lamp_low + 0.03, z),
            (side * outer, lamp_low, z),
            (side * outer, high - rise * 0.06, z),
            (side * inner, high - rise * 0.12, z),
        ]
        builder.quads([corners], normal, lamp, Finish.LAMP, layer=1)
        if forward < 0:
            spot = [
                (side * (outer - 0.13), lamp_low + 0.02, z),
                (side * (outer - 0.02), lamp_low + 0.02, z),
                (side * (outer - 0.02), lamp_low + 0.07, z),
                (side * (outer - 0.13), lamp_low + 0.07, z),
            ]
            builder.quads([spot], normal, Slot.AMBER, Finish.LAMP, layer=2)
    if forward > 0:
        builder.quads(
            _face(-inner * 0.92, inner * 0.92, low + rise * 0.3, high - rise * 0.2, z),
            normal,
            Slot.DARK,
            Finish.METAL,
            layer=1,
        )
        builder.quads(_face(-half_m * 0.7, half_m * 0.7, low - 0.02, low + rise * 0.16, z), normal, Slot.DARK, layer=1)
        builder.quads(
            _face(-inner * 0.92, inner * 0.92, high - rise * 0.2, high - rise * 0.17, z),
            normal,
            Slot.RIM,
            Finish.METAL,
            layer=1,
        )
    level = low + rise * (0.2 if forward > 0 else 0.42)
    builder.quads(_face(-0.28, 0.28, level - 0.015, level + 0.13, z), normal, Slot.DARK, layer=2)
    builder.quads(_face(-0.26, 0.26, level, level + 0.115, z), normal, Slot.PLATE, layer=3)
    for start in (-0.2, -0.11, -0.02, 0.05, 0.13):
        builder.quads(_face(start, start + 0.055, level + 0.025, level + 0.09, z), normal, Slot.DARK, layer=4)


def add_wheels(
    builder: MeshBuilder,
    half_m: float,
    axles_z: tuple[float, ...],
    radius_m: float,
    *,
    sides: int,
    tread_m: float = 0.2,
) -> None:
    """Add wheels at both sides of each axle: a dark arch, tyre and rim on the outside, the tread below the body."""
    for z in axles_z:
        for side in (-1, 1):
            x = side * half_m
            inner = (x - side * tread_m, radius_m, z)
            builder.tube(inner, (x, radius_m, z), (radius_m, radius_m), Slot.TYRE, sides=sides, layer=-1)
            axis = (side, 0, 0)
            arch = (x + side * 0.004, radius_m * 1.08, z)
            builder.disc(arch, axis, radius_m * 1.17, Slot.DARK, layer=1, sides=sides)
            builder.disc((x + side * 0.012, radius_m, z), axis, radius_m, Slot.TYRE, layer=2, sides=sides)
            builder.disc(
                (x + side * 0.016, radius_m, z), axis, radius_m * 0.68, Slot.RIM, Finish.METAL, layer=3, sides=sides
            )
            if sides >= 12:
                _spokes(builder, (x + side * 0.02, radius_m, z), side, radius_m)


def _spokes(builder: MeshBuilder, middle: tuple[float, float, float], side: int, radius: float) -> None:
    x, y, z = middle
    quads = []
    for turn in np.arange(5) * (2 * np.pi / 5) + z:
        a, b = turn + 0.33, turn + 0.33 + 0.6
        inner, outer = radius * 0.2, radius * 0.58
        quads.append(
            [
                (x, y + r * np.cos(t), z + r * np.sin(t))
                for r, t in ((inner, (a + b) / 2), (outer, a), (outer, b), (inner, (a + b) / 2))
            ]
        )
    builder.quads(quads, (side, 0, 0), Slot.DARK, layer=4)


def _details(builder: MeshBuilder, body: _Body, rings: Float) -> None:
    """Add pillars, door gaps, handles and mirrors."""
    cabin = [i for i in range(len(body.along)) if body.roof[i] > body.belt[i] + 0.1]
    for side, (lower, upper) in ((1, (3, 4)), (-1, (9, 8))):
        normal = (side, 0.15, 0)
        lift = np.array([0.012 * side, 0.0, 0.0], np.float32)
        for i in (*cabin, cabin[0] - 1, cabin[-1] + 1):
            foot = rings[i, lower] if i in cabin else rings[i, upper]
            head = rings[i, upper] if i in cabin else rings[cabin[0] if i < cabin[0] else cabin[-1], upper]
            half = np.array([0, 0, 0.035 if i == cabin[len(cabin) // 2] else 0.05], np.float32)
            slot = Slot.DARK if i in cabin[1:-1] else Slot.PAINT
            builder.quads(
                [[foot - half + lift, foot + half + lift, head + half + lift, head - half + lift]],
                normal,
                slot,
                Finish.PAINT,
                layer=1,
            )
        for i in (cabin[0], cabin[len(cabin) // 2], cabin[-1]):
            sill, hip = rings[i, 0 if side > 0 else 12] + lift, rings[i, lower - side] + lift
            mid = rings[i, 1 if side > 0 else 11] + lift
            gap = np.array([0, 0, 0.012], np.float32)
            builder.quads(
                [[sill - gap, sill + gap, mid + gap, mid - gap], [mid - gap, mid + gap, hip + gap, hip - gap]],
                normal,
                Slot.DARK,
                layer=1,
            )
        x, y, z = rings[cabin[-1] + 1, lower]
        z -= 0.35
        builder.box(
            (x - 0.02 + 0.1 * side - 0.08, y + 0.02, z - 0.06),
            (x + 0.1 * side + 0.08, y + 0.17, z + 0.06),
            Slot.PAINT,
            Finish.PAINT,
            layer=5,
        )


@lru_cache(maxsize=256)
def car_mesh(kind: str, variant: int, fine: bool) -> Mesh:
    """Return one of the car (``sedan``, ``hatch``, ``suv``, ``estate``) or ``van`` shapes."""
    rng = np.random.default_rng([variant, *kind.encode()])
    body = _body(kind, rng)
    blind = kind == "van" and bool(rng.random() < 0.6)
    rings = _rings(body)
    builder = MeshBuilder()
    skins = _skins(body, blind)
    builder.loft(rings, np.where(skins == Slot.GLASS, -1, skins), Finish.PAINT, smooth=0.6)
    builder.loft(rings, np.where(skins == Slot.GLASS, skins, -1), Finish.GLASS, smooth=0.35)
    _cap(builder, rings[0], -1)
    _cap(builder, rings[-1], 1)
    half, fancy = body.width_m / 2 * 0.9, float(rng.random())
    for end, z in ((0, -body.length_m / 2), (-1, body.length_m / 2)):
        plate_and_lamps(builder, half, (body.sill_m + 0.06, body.belt[end] + 0.05), z, fancy)
    axles = tuple((t - 0.5) * body.length_m for t in body.axles)
    add_wheels(builder, body.width_m / 2 * 0.985, axles, body.wheel_m, sides=14 if fine else 8)
    if fine:
        _details(builder, body, rings)
    return builder.build()
