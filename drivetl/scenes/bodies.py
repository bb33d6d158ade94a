"""People, bicycles and motorcycles, from rods and ellipsoids."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from drivetl.scenes.mesh import Finish, Mesh, MeshBuilder, Slot

__all__ = ["PEOPLE", "PHASES", "bicycle_mesh", "motorcycle_mesh", "person_mesh", "rider_mesh"]

# A walk is so many still meshes; a step takes half of them.
PHASES = 8
PEOPLE = 8
_Point = tuple[float, float, float]


def _ellipsoid(builder: MeshBuilder, middle: _Point, radii: _Point, slot: Slot, sides: int) -> None:
    builder.next_part()
    rings = []
    for level in np.linspace(-0.97, 0.97, 5 if sides < 8 else 7):
        turn = np.arange(sides) * (2 * math.pi / sides)
        across = math.sqrt(1 - level * level)
        rings.append(
            np.column_stack(
                [
                    middle[0] + radii[0] * across * np.cos(turn),
                    np.full(sides, middle[1] + radii[1] * level),
                    middle[2] + radii[2] * across * np.sin(turn),
                ]
            )
        )
    builder.loft(rings, slot, smooth=1.0, closed=True)
    builder.disc(
        (middle[0], middle[1] + radii[1] * 0.97, middle[2]),
        (0, 1, 0),
        min(radii[0], radii[2]) * 0.25,
        slot,
        layer=0,
        sides=6,
    )


def _limb(
    builder: MeshBuilder, points: tuple[_Point, ...], radii: tuple[float, ...], slots: tuple[Slot, ...], sides: int
) -> None:
    for i, slot in enumerate(slots):
        builder.next_part()
        # Far away, nobody sees the ends of a limb.
        builder.tube(points[i], points[i + 1], (radii[i], radii[i + 1]), slot, sides=sides, closed=sides >= 8)


def _torso(builder: MeshBuilder, hip: _Point, neck: _Point, width: float, sides: int) -> None:
    builder.next_part()
    rings = []
    for t, across, deep in (
        (0.0, 0.9, 0.62),
        (0.25, 0.86, 0.6),
        (0.6, 1.0, 0.66),
        (0.88, 1.04, 0.58),
        (1.0, 0.42, 0.36),
    ):
        x, y, z = (a + (b - a) * t for a, b in zip(hip, neck, strict=True))
        turn = np.arange(sides) * (2 * math.pi / sides)
        rings.append(
            np.column_stack([x + width * across * np.cos(turn), np.full(sides, y), z + width * deep * np.sin(turn)])
        )
    builder.loft(rings, Slot.TOP, smooth=1.0, closed=True)


def _head(builder: MeshBuilder, neck: _Point, sides: int, covered: bool) -> None:
    x, y, z = neck
    _limb(builder, ((x, y - 0.02, z), (x, y + 0.1, z)), (0.055, 0.05), (Slot.SKIN,), sides)
    _ellipsoid(builder, (x, y + 0.18, z + 0.01), (0.078, 0.115, 0.095), Slot.SKIN, sides)
    cap = Slot.HAIR
    if covered:
        _ellipsoid(builder, (x, y + 0.22, z), (0.12, 0.12, 0.14), cap, sides)
    else:
        _ellipsoid(builder, (x, y + 0.215, z - 0.015), (0.085, 0.095, 0.096), cap, sides)


@lru_cache(maxsize=512)
def person_mesh(variant: int, phase: int, fine: bool) -> Mesh:
    """Return someone 1.75 m tall who walks (phases 0 to PHASES - 1) or stands (phase -1); scale for other heights."""
    rng = np.random.default_rng([variant, 3])
    sides = 8 if fine else 5
    width = float(rng.uniform(0.17, 0.23))
    skirt, bag = bool(rng.random() < 0.18), bool(rng.random() < 0.35)
    swing = 0.0 if phase < 0 else math.sin(2 * math.pi * phase / PHASES)
    lift = 0.0 if phase < 0 else math.cos(2 * math.pi * phase / PHASES)
    hip_y, neck_y = 0.9, 1.48
    builder = MeshBuilder()
    for side in (-1, 1):
        s = swing * side
        knee_bend = max(0.0, lift * side) * 0.22
        x = side * 0.09
        hip = (x, hip_y, 0.0)
        knee = (x, 0.5 + 0.03 * abs(s), 0.2 * s + 0.5 * knee_bend)
        ankle = (x, 0.09 + knee_bend * 0.5, 0.38 * s - 0.6 * knee_bend)
        _limb(builder, (hip, knee, ankle), (0.095, 0.068, 0.05), (Slot.LEGS, Slot.SKIN if skirt else Slot.LEGS), sides)
        toe = (x, ankle[1] - 0.05, ankle[2] + 0.17)
        _limb(builder, ((x, ankle[1] - 0.03, ankle[2] - 0.06), toe), (0.052, 0.04), (Slot.SHOES,), sides)
        shoulder = (side * (width + 0.015), neck_y - 0.1, 0.0)
        elbow = (side * (width + 0.06), neck_y - 0.37, -0.12 * s)
        hand = (side * (width + 0.05), neck_y - 0.62 + 0.05 * abs(s), -0.27 * s + 0.06)
        _limb(builder, (shoulder, elbow, hand), (0.058, 0.047, 0.038), (Slot.TOP, Slot.TOP), sides)
        _ellipsoid(builder, (hand[0], hand[1] - 0.04, hand[2] + 0.01), (0.04, 0.065, 0.045), Slot.SKIN, 5)
    if skirt:
        builder.next_part()
        turn = np.arange(sides) * (2 * math.pi / sides)
        rings = [
            np.column_stack([r * np.cos(turn), np.full(sides, y), r * 0.8 * np.sin(turn)])
            for r, y in ((0.26, 0.48), (0.16, 0.95))
        ]
        builder.loft(rings, Slot.LEGS, smooth=1.0, closed=True)
    _torso(builder, (0, hip_y - 0.08, 0), (0, neck_y, 0.01), width, sides)
    if bag:
        builder.next_part()
        builder.box((-0.15, 1.0, -0.3), (0.15, 1.42, -0.13), Slot.SECOND, taper=0.9)
    _head(builder, (0, neck_y, 0.015), sides, False)
    return builder.build()


@lru_cache(maxsize=256)
def rider_mesh(variant: int, motor: bool, fine: bool) -> Mesh:
    """Return someone who sits on a bicycle or a motorcycle."""
    rng = np.random.default_rng([variant, 5])
    sides = 8 if fine else 5
    width, lean = float(rng.uniform(0.18, 0.22)), float(rng.uniform(0.08, 0.28))
    hip_y = 0.86 if motor else 0.98
    hip_z = -0.3 if motor else -0.2
    neck = (0.0, hip_y + 0.55, hip_z + lean + 0.05)
    turn = float(rng.uniform(0, 2 * math.pi))
    builder = MeshBuilder()
    for side in (-1, 1):
        x = side * (0.17 if motor else 0.1)
        reach = 0.0 if motor else 0.15 * math.sin(turn + (math.pi if side > 0 else 0))
        foot = (x, 0.33 + reach, (0.02 if motor else 0.08) + 0.1 * math.cos(turn) * side * (not motor))
        knee = (x + side * 0.04, hip_y - 0.22 + 0.5 * reach, hip_z + 0.38)
        _limb(builder, ((side * 0.09, hip_y, hip_z), knee, foot), (0.1, 0.07, 0.052), (Slot.LEGS, Slot.LEGS), sides)
        _limb(
            builder,
            ((foot[0], foot[1] - 0.05, foot[2] - 0.07), (foot[0], foot[1] - 0.06, foot[2] + 0.16)),
            (0.05, 0.04),
            (Slot.SHOES,),
            sides,
        )
        shoulder = (side * (width + 0.01), neck[1] - 0.1, neck[2])
        bar = (side * 0.3, 1.02 if motor else 1.05, 0.32 if motor else 0.36)
        elbow = tuple((a + b) / 2 + d for a, b, d in zip(shoulder, bar, (0.06 * side, -0.1, -0.04), strict=True))
        _limb(
            builder, (shoulder, (elbow[0], elbow[1], elbow[2]), bar), (0.06, 0.048, 0.04), (Slot.TOP, Slot.TOP), sides
        )
    _torso(builder, (0, hip_y - 0.06, hip_z), neck, width, sides)
    _head(builder, neck, sides, motor or bool(rng.random() < 0.4))
    return builder.build()


def _tyre(builder: MeshBuilder, z: float, radius: float, thick: float, sides: int) -> None:
    """Add a bicycle wheel that can be seen through: a ring, visible from both sides."""
    turn = np.arange(sides + 1) * (2 * math.pi / sides)
    cos, sin = np.cos(turn), np.sin(turn)
    outer = np.column_stack([np.zeros(sides + 1), radius + radius * sin, z + radius * cos])
    inner = np.column_stack([np.zeros(sides + 1), radius + (radius - thick) * sin, z + (radius - thick) * cos])
    for side in (-1, 1):
        shift = np.array([side * thick * 0.4, 0, 0])
        quads = [[outer[i] + shift, outer[i + 1] + shift, inner[i + 1] + shift, inner[i] + shift] for i in range(sides)]
        builder.quads(quads, (side, 0, 0), Slot.TYRE)
    left, right = outer - np.array([thick * 0.4, 0, 0]), outer + np.array([thick * 0.4, 0, 0])
    tread = np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=1)
    outward = np.column_stack([np.zeros(sides), sin[:-1], cos[:-1]])[:, None, :]
    builder.quads(tread, outward, Slot.TYRE)
    builder.quads(tread * [0.9, 1, 1] * 1.0, -outward, Slot.TYRE, layer=-1)


@lru_cache(maxsize=32)
def bicycle_mesh(variant: int, fine: bool) -> Mesh:
    """Return a bicycle without its rider."""
    rng = np.random.default_rng([variant, 6])
    radius, base = 0.34, float(rng.uniform(0.5, 0.56))
    sides = 18 if fine else 12
    builder = MeshBuilder()
    for z in (-base, base):
        builder.next_part()
        _tyre(builder, z, radius, 0.045, sides)
    crank, seat, head, hub = (0.0, 0.3, -0.05), (0.0, 0.88, -0.22), (0.0, 0.85, 0.38), (0.0, radius, -base)
    front = (0.0, radius, base)
    rods = ((crank, seat), (crank, head), (seat, head), (hub, crank), (hub, seat), (front, head))
    thick = 0.022 if fine else 0.026
    for a, b in rods:
        builder.next_part()
        builder.tube(a, b, (thick, thick), Slot.PAINT, Finish.PAINT, sides=4)
    builder.next_part()
    builder.tube((0, 0.94, -0.32), (0, 0.96, -0.08), (0.07, 0.03), Slot.DARK, sides=6)
    builder.next_part()
    builder.tube((-0.3, 1.03, 0.34), (0.3, 1.03, 0.34), (0.018, 0.018), Slot.DARK, sides=4)
    builder.tube(head, (0, 1.03, 0.36), (0.02, 0.02), Slot.RIM, Finish.METAL, sides=4)
    return builder.build()


@lru_cache(maxsize=32)
def motorcycle_mesh(variant: int, fine: bool) -> Mesh:
    """Return a motorcycle or a scooter without its rider."""
    rng = np.random.default_rng([variant, 8])
    scooter = variant % 2 == 1
    radius = 0.25 if scooter else 0.32
    base = float(rng.uniform(0.62, 0.7))
    sides = 12 if fine else 8
    builder = MeshBuilder()
    for z in (-base, base):
        builder.next_part()
        builder.tube((-0.065, radius, z), (0.065, radius, z), (radius, radius), Slot.TYRE, sides=sides)
        for side in (-1, 1):
            builder.disc(
                (side * 0.07, radius, z), (side, 0, 0), radius * 0.62, Slot.RIM, Finish.METAL, layer=1, sides=sides
            )
    builder.next_part()
    builder.box((-0.15, 0.3, -0.45), (0.15, 0.62, 0.35), Slot.PAINT if scooter else Slot.DARK, Finish.PAINT, taper=0.9)
    builder.next_part()
    _ellipsoid(builder, (0, 0.78, 0.12), (0.17, 0.17, 0.32), Slot.PAINT, sides)
    builder.next_part()
    builder.box((-0.15, 0.66, -0.85), (0.15, 0.82, -0.05), Slot.DARK, taper=0.85)
    builder.next_part()
    builder.tube((0, radius, base), (0, 1.0, 0.38), (0.05, 0.05), Slot.RIM, Finish.METAL, sides=6)
    builder.next_part()
    builder.box((-0.16, 0.72, 0.42), (0.16, 1.05, 0.6), Slot.PAINT, Finish.PAINT, taper=0.75)
    builder.disc((0, 0.86, 0.605), (0, 0.1, 1), 0.1, Slot.LAMP, Finish.LAMP, sides=10)
    builder.next_part()
    builder.tube((-0.36, 1.03, 0.32), (0.36, 1.03, 0.32), (0.02, 0.02), Slot.DARK, sides=4)
    builder.next_part()
    builder.box((-0.1, 0.62, -0.95), (0.1, 0.74, -0.84), Slot.TAIL, Finish.LAMP)
    builder.box((-0.09, 0.42, -0.97), (0.09, 0.58, -0.95), Slot.PLATE)
    return builder.build()
