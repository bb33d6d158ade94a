"""What lines the road: buildings, trees, lamps, signs and traffic lights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from drivetl.scenes.camera import Float
from drivetl.scenes.light import linear_bgr
from drivetl.scenes.mesh import Mesh, Slot
from drivetl.scenes.presets import Preset
from drivetl.scenes.props import SIGN_SHAPES
from drivetl.scenes.roads import FAR_M, Road
from drivetl.scenes.textures import CROWNS, tiles_of
from drivetl.scenes.things import Foliage, Piece, Thing, palette

__all__ = ["street_things"]

T = TypeVar("T")

_FLOOR_M, _TILE_M, _GROUND_FLOOR_M, _DEEP_M = 3.1, 9.0, 3.8, 12.0
_BEHIND_M = -9.0


def street_things(road: Road, preset: Preset, rng: np.random.Generator) -> Iterator[Thing]:
    """Yield everything beside the road that does not move."""
    for hand in (-1, 1):
        yield from _frontage(road, preset, hand, rng)
        yield from _greenery(road, preset, hand, rng)
        yield from _posts(road, preset, hand, rng)
    yield from _skyline(road, preset, rng)
    for junction in road.junctions:
        yield from _signals(road, preset, junction, rng)


def _one_of(values: Sequence[T], rng: np.random.Generator) -> T:
    return values[int(rng.integers(len(values)))]


def _frontage(road: Road, preset: Preset, hand: int, rng: np.random.Generator) -> Iterator[Thing]:
    style = preset.buildings
    z = _BEHIND_M + float(rng.uniform(0, 6))
    while z < road.length_m - 20:
        width = float(rng.uniform(*style.width_m))
        crossing = next((j for j in road.junctions if z < j[1] + 3 and z + width > j[0] - 3), None)
        if crossing:
            if crossing[0] - 3 - z < 6:
                z = crossing[1] + 3
                continue
            width = crossing[0] - 3 - z
        setback = float(rng.uniform(*style.setback_m))
        if rng.random() < style.frontage:
            yield _building(hand * (road.edge_m(hand) + setback), z, width, preset, rng)
        z += width + (float(rng.uniform(0, 5)) if rng.random() < 0.2 or setback > 2 else 0.02)


def _building(front_x: float, z: float, width: float, preset: Preset, rng: np.random.Generator) -> Thing:
    style = preset.buildings.styles[int(rng.integers(len(preset.buildings.styles)))]
    wall = preset.buildings.wall_rgb[int(rng.integers(len(preset.buildings.wall_rgb)))]
    tint = np.clip(np.array(wall) * rng.uniform(0.85, 1.12) * rng.uniform(0.96, 1.04, 3), 5, 250)
    floors = max(1, round((float(rng.uniform(*preset.buildings.height_m)) - _GROUND_FLOOR_M) / _FLOOR_M))
    height = _GROUND_FLOOR_M + floors * _FLOOR_M
    hand = 1 if front_x > 0 else -1
    upper = _one_of(tiles_of(style), rng)
    street = "shop" if preset.scene == "city street" and rng.random() < 0.6 else "base"
    lower = upper if style in ("hall", "house", "glass") else _one_of(tiles_of(street), rng)
    mesh = _box_of_walls(width, height, hand, (lower, upper), gabled=style == "house")
    colours = palette(
        {Slot.PAINT: tint, Slot.SECOND: tint * 0.85, Slot.DARK: rng.uniform(0.5, 1.0) * np.array([92, 62, 52])}
    )
    x = front_x + hand * _DEEP_M / 2
    return Thing(x, z + width / 2, (_DEEP_M / 2, width / 2), height, (Piece(mesh, colours),), shadow="house")


def _box_of_walls(width: float, height: float, hand: int, tiles: tuple[int, int], *, gabled: bool) -> Mesh:
    """Return a building whose front looks to -hand; it stands on the ground, its middle at 0."""
    lower, upper = tiles
    front, back, half = -hand * _DEEP_M / 2, hand * _DEEP_M / 2, width / 2
    across = max(1.0, round(width / _TILE_M * 3) / 3)
    flank = max(1.0, round(_DEEP_M / _TILE_M * 3) / 3)
    a, b = (half, -half) if hand < 0 else (-half, half)
    quads: list[list[tuple[float, float, float]]] = []
    normals: list[tuple[float, float, float]] = []
    slots: list[Slot] = []
    stretched: list[tuple[int, float, float]] = []
    for low, high, tile, slot in (
        (0.0, _GROUND_FLOOR_M, lower, Slot.SECOND),
        (_GROUND_FLOOR_M, height, upper, Slot.PAINT),
    ):
        turns = (high - low) / (3 * _FLOOR_M)
        quads.append([(front, low, a), (front, low, b), (front, high, b), (front, high, a)])
        normals.append((-hand, 0, 0))
        stretched.append((tile, across, turns if tile == upper else 1.0))
        for z, normal in ((-half, -1), (half, 1)):
            quads.append([(back, low, z), (front, low, z), (front, high, z), (back, high, z)])
            normals.append((0, 0, normal))
            stretched.append((upper, flank, turns))
        slots += [slot] * 3
    if gabled:
        ridge, over = height + 3.2, -hand * 0.4
        eaves = height - 0.2
        quads.append([(front + over, eaves, -half), (front + over, eaves, half), (0, ridge, half), (0, ridge, -half)])
        for z in (-half, half):
            quads.append([(back, height, z), (front, height, z), (0, ridge, z), (0, ridge, z)])
        normals += [(-hand, 1, 0), (0, 0, -1), (0, 0, 1)]
        slots += [Slot.DARK, Slot.PAINT, Slot.PAINT]
        stretched += [(-1, 1, 1)] * 3
    else:
        out, foot, head = front - hand * 0.12, height - 0.35, height + 0.25
        quads.append([(out, foot, -half), (out, foot, half), (out, head, half), (out, head, -half)])
        normals.append((-hand, 0.1, 0))
        slots.append(Slot.SECOND)
        stretched.append((-1, 1, 1))
    return _walls_as_mesh(quads, normals, slots, stretched)


def _walls_as_mesh(
    quads: list[list[tuple[float, float, float]]],
    normals: list[tuple[float, float, float]],
    slots: list[Slot],
    stretched: list[tuple[int, float, float]],
) -> Mesh:
    """Return flat matte quads as a mesh. A scene has some forty buildings, so this skips what `MeshBuilder` checks."""
    corners, facing = np.array(quads, np.float32), np.array(normals, np.float32)
    facing /= np.sqrt((facing * facing).sum(axis=1, keepdims=True))
    tiles = np.array(stretched, np.float32)
    count = len(quads)
    layer = np.zeros(count, np.intp)
    layer[6:] = 1
    zero = np.zeros(count, np.intp)
    points = corners.reshape(-1, 3)
    return Mesh(
        corners,
        np.repeat(facing[:, None], 4, axis=1),
        facing,
        np.array(slots, np.intp),
        zero,
        zero,
        layer,
        tiles[:, 0].astype(np.intp),
        tiles[:, 1:],
        points.mean(axis=0, keepdims=True),
        points.min(axis=0),
        points.max(axis=0),
    )


def _foliage(height: float, preset: Preset, rng: np.random.Generator) -> Foliage:
    green = preset.green
    conifer = bool(rng.random() < green.conifer_share)
    index = int(rng.integers(CROWNS * 3 // 4, CROWNS)) if conifer else int(rng.integers(0, CROWNS * 3 // 4))
    rgb = np.array(green.crown_rgb[int(rng.integers(len(green.crown_rgb)))]) * rng.uniform(0.7, 1.3, 3) ** 0.8
    bare = height * (0.1 if conifer else float(rng.uniform(0.22, 0.34)))
    wide = height * (0.45 if conifer else float(rng.uniform(0.6, 0.85)))
    tall = (height - bare) * 1.15
    bgr = linear_bgr(np.clip(rgb, 0, 255))
    return Foliage((0.0, bare - 0.1 * tall, 0.0), (wide, tall), index, bool(rng.random() < 0.5), bgr)


def _tree(x: float, z: float, preset: Preset, rng: np.random.Generator) -> Thing:
    height = float(rng.uniform(*preset.green.tree_height_m))
    crown = _foliage(height, preset, rng)
    thick = 0.02 * height
    bark = palette({Slot.POLE: rng.uniform(0.7, 1.2) * np.array([84, 72, 60])})
    trunk = Piece(("trunk", int(rng.integers(16))), bark, scale=(thick, height * 0.55, thick))
    return Thing(x, z, (0.3, 0.3), height, (trunk,), (crown,), under=60, shadow="round")


def _greenery(road: Road, preset: Preset, hand: int, rng: np.random.Generator) -> Iterator[Thing]:
    kerb = hand * road.kerb_m[(hand + 1) // 2]
    gap = 100 / max(0.2, float(rng.uniform(*preset.green.trees_per_100m)))
    z = float(rng.uniform(0, gap)) - 4
    regular = bool(rng.random() < 0.5)
    while z < road.length_m - 80:
        aside = max(0.8, road.verge_m / 2) if regular else float(rng.uniform(0.8, max(1.0, road.verge_m + 0.4)))
        if rng.random() < 0.2 and preset.buildings.setback_m[1] > 3:
            aside = road.verge_m + road.pavement_m + float(rng.uniform(1, 2.5))
        if not road.in_junction(z, 5):
            yield _tree(kerb + hand * aside, z, preset, rng)
        z += gap * (1.0 if regular else float(rng.uniform(0.3, 1.7)))


def _posts(road: Road, preset: Preset, hand: int, rng: np.random.Generator) -> Iterator[Thing]:
    kerb = hand * (road.kerb_m[(hand + 1) // 2] + 0.45)
    metal = palette({Slot.POLE: rng.uniform(0.5, 1.2) * np.array([112, 116, 118])})
    if rng.random() < 0.7:
        height, gap = round(float(rng.uniform(6, 9))), float(rng.uniform(22, 38))
        for z in np.arange(float(rng.uniform(3, gap)), min(road.length_m, 200), gap):
            if not road.in_junction(z, 2):
                post = Piece(("lamp", height), metal, scale=(float(hand), 1.0, 1.0))
                yield Thing(kerb, float(z), (0.15, 0.15), height, (post,), shadow="pole")
    count = rng.poisson(float(rng.uniform(*preset.traffic.signs_per_100m)) * min(road.length_m, 120) / 100)
    for z in rng.uniform(6, min(road.length_m, 120), count):
        if not road.in_junction(z, 2):
            towards_us = hand == road.side or bool(rng.random() < 0.3)
            yield _sign(kerb + hand * float(rng.uniform(0, 0.4)), float(z), towards_us, metal, rng)


def _sign(x: float, z: float, towards_us: bool, metal: Float, rng: np.random.Generator) -> Thing:
    shape = _one_of(SIGN_SHAPES, rng)
    red, blue, white, dark = (196, 24, 28), (22, 74, 160), (236, 236, 232), (24, 24, 26)
    rim, fill, mark = {
        "stop": (white, red, white),
        "limit": (red, white, dark),
        "warning": (red, white, dark),
        "yield": (red, white, white),
        "square": (white, blue, white),
        "no-entry": (white, red, white),
        "guide": (white, (20, 100, 60) if rng.random() < 0.5 else blue, white),
        "arrow": (white, blue, white),
    }[shape]
    fade = rng.uniform(0.75, 1.05)
    colours = palette(
        {
            Slot.PAINT: np.clip(np.array(rim) * fade, 0, 255),
            Slot.SECOND: np.clip(np.array(fill) * fade, 0, 255),
            Slot.DARK: mark,
        }
    )
    low, size = float(rng.uniform(1.9, 2.5)), float(rng.uniform(0.85, 1.15))
    board = Piece(("sign", shape), colours, "traffic sign", (0.0, low, -0.06), (size, size, 1.0))
    pole = Piece(("pole", low + 0.7, 0.035), metal)
    pieces = (
        (pole, board) if towards_us else (pole, Piece(board.shape, colours, "", (0.0, low, -0.06), (size, size, 1.0)))
    )
    turn = float(rng.normal(0, 6)) + (0 if towards_us else 180)
    return Thing(x, z, (0.35 * size, 0.06), low + 0.7, pieces, yaw_deg=turn, shadow="pole")


def _signals(road: Road, preset: Preset, junction: tuple[float, float], rng: np.random.Generator) -> Iterator[Thing]:
    if rng.random() > preset.traffic.lights_share:
        return
    lit = _one_of((0, 0, 1, 2, 2), rng)
    low, high = junction
    metal = palette({Slot.POLE: rng.uniform(0.5, 1.0) * np.array([110, 112, 112])})
    housing = palette(
        {Slot.SECOND: (20, 220, 120), Slot.TAIL: (255, 40, 30), Slot.DARK: (30, 30, 30), Slot.TYRE: (16, 16, 17)}
    )
    far_side = bool(rng.random() < 0.6)
    arm = float(rng.uniform(2.5, 4.5)) if rng.random() < 0.5 else 0.0
    for hand in (-1, 1):
        for z in (low - 1.5, high + 1.5) if far_side else (low - 1.5,):
            x = hand * (road.kerb_m[(hand + 1) // 2] + 0.5)
            size = float(rng.uniform(0.85, 1.1))
            lights = [Piece(("light", lit), housing, "traffic light", (0.0, 2.2, -0.15), (size, size, size))]
            pole = Piece(("pole", 3.3, 0.06), metal)
            if arm and hand == road.side and z > low:
                pole = Piece(("pole", 5.4, 0.08, arm), metal, scale=(float(hand), 1.0, 1.0))
                lights.append(
                    Piece(("light", lit), housing, "traffic light", (-hand * arm, 4.6, -0.15), (size, size, size))
                )
            yield Thing(x, z, (0.2, 0.2), 3.3, (pole, *lights), shadow="pole")


def _skyline(road: Road, preset: Preset, rng: np.random.Generator) -> Iterator[Thing]:
    """Close the view along the road with far trees and houses."""
    for x in rng.uniform(-130, 130, 26):
        leaf = _foliage(float(rng.uniform(*preset.green.tree_height_m)), preset, rng)
        size = leaf.size_wh_m[0] * 3.0, leaf.size_wh_m[1] * 1.6
        wood = Foliage((0.0, -2.0, 0.0), size, leaf.index, leaf.mirrored, leaf.bgr)
        yield Thing(float(x), float(rng.uniform(300, FAR_M - 5)), (0.3, 0.3), 0.0, (), (wood,), shadow="")
    for x in rng.uniform(-110, 110, int(10 * preset.buildings.frontage)):
        yield _building(float(x), float(rng.uniform(245, 330)), float(rng.uniform(12, 26)), preset, rng)
