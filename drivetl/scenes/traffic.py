"""Who is on the road: vehicles in their lanes, parked cars, riders, people on foot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from drivetl.scenes.bodies import PEOPLE
from drivetl.scenes.cars import CAR_SHAPES
from drivetl.scenes.heavies import HEAVY_SHAPES
from drivetl.scenes.mesh import Slot
from drivetl.scenes.presets import Preset, TrafficPreset
from drivetl.scenes.roads import Road
from drivetl.scenes.things import Piece, Thing, mesh_of, palette

__all__ = ["traffic_things"]

_CLOTHES = (
    (32, 34, 40),
    (60, 66, 82),
    (160, 40, 44),
    (196, 190, 176),
    (40, 70, 120),
    (84, 92, 70),
    (214, 180, 60),
    (120, 60, 90),
    (230, 228, 222),
    (96, 76, 60),
    (30, 90, 96),
    (200, 96, 40),
)
_SKINS = ((224, 180, 150), (196, 148, 116), (150, 104, 76), (96, 64, 46))
_HAIRS = ((36, 28, 24), (70, 50, 34), (150, 118, 72), (120, 118, 116), (20, 18, 18))


def traffic_things(road: Road, preset: Preset, speed_mps: float, rng: np.random.Generator) -> Iterator[Thing]:
    """Yield everything that moves or could."""
    yield from _driving(road, preset, speed_mps, rng)
    yield from _parked(road, preset, rng)
    yield from _waiting(road, preset, rng)
    yield from _walking(road, preset, rng)


def _pick(colours: tuple[tuple[int, int, int], ...], rng: np.random.Generator) -> tuple[int, int, int]:
    return colours[int(rng.integers(len(colours)))]


def _vehicle(kind: str, traffic: TrafficPreset, rng: np.random.Generator) -> Thing:
    """Return a vehicle at the origin that looks along the road."""
    paint = np.clip(np.array(_pick(traffic.paint_rgb, rng)) * rng.uniform(0.75, 1.15) + rng.uniform(-8, 8, 3), 3, 252)
    second = np.array(_pick(((225, 225, 222), (200, 198, 190), (60, 80, 130), (150, 50, 44), (70, 96, 78)), rng))
    colours = palette(
        {
            Slot.PAINT: paint,
            Slot.SECOND: second * rng.uniform(0.8, 1.1),
            Slot.RIM: np.array([150, 152, 156]) * rng.uniform(0.25, 1.2),
            Slot.GLASS: np.array([26, 32, 34]) * rng.uniform(0.5, 1.6),
            Slot.PLATE: _pick(((236, 236, 230), (236, 200, 60), (236, 236, 230)), rng),
        }
    )
    if kind in ("motorcycle", "bicycle"):
        return _two_wheeler(kind, colours, rng)
    size = float(rng.normal(1, 0.02))
    scale = (
        size * float(rng.uniform(0.97, 1.04)),
        size * float(rng.uniform(0.95, 1.06)),
        size * float(rng.uniform(0.95, 1.06)),
    )
    if kind in ("car", "van"):
        body = "van" if kind == "van" else str(rng.choice(("sedan", "hatch", "hatch", "suv", "suv", "estate")))
        piece = Piece(("car", body, int(rng.integers(CAR_SHAPES))), colours, "car", scale=scale)
    else:
        piece = Piece((kind, int(rng.integers(HEAVY_SHAPES))), colours, kind, scale=scale)
    high = mesh_of(piece, False, -1).high * scale
    return Thing(0, 0, (float(high[0]) - 0.12, float(high[2])), float(high[1]), (piece,), under=255)


def _person_colours(rng: np.random.Generator) -> dict[Slot, tuple[int, int, int]]:
    return {
        Slot.SKIN: _pick(_SKINS, rng),
        Slot.HAIR: _pick(_HAIRS, rng),
        Slot.TOP: _pick(_CLOTHES, rng),
        Slot.LEGS: _pick(_CLOTHES[:6], rng),
        Slot.SECOND: _pick(_CLOTHES, rng),
        Slot.SHOES: _pick(((34, 32, 32), (200, 198, 192), (90, 70, 54)), rng),
    }


def _two_wheeler(
    kind: str, colours: np.ndarray[tuple[int, ...], np.dtype[np.float32]], rng: np.random.Generator
) -> Thing:
    clothes = _person_colours(rng)
    if kind == "motorcycle" or rng.random() < 0.4:
        clothes[Slot.HAIR] = _pick(((30, 30, 32), (210, 208, 204), (170, 30, 30), (40, 70, 150)), rng)
    machine = Piece((kind, int(rng.integers(HEAVY_SHAPES))), colours, kind)
    rider = Piece(("rider", int(rng.integers(PEOPLE)), int(kind == "motorcycle")), palette(dict(clothes)), "rider")
    return Thing(0, 0, (0.35, 0.95), 1.75, (machine, rider), under=140)


def _kind(traffic: TrafficPreset, rng: np.random.Generator) -> str:
    weights = traffic.mix.model_dump()
    share = np.array(list(weights.values()), np.float64)
    return str(rng.choice(list(weights), p=share / share.sum()))


def _placed(thing: Thing, x: float, z: float, yaw_deg: float, velocity: tuple[float, float] = (0.0, 0.0)) -> Thing:
    turn = math.radians(yaw_deg)
    half_x, half_z = thing.half
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    half = half_x * cos + half_z * sin, half_z * cos + half_x * sin
    return replace(thing, x=x, z=z, half=half, yaw_deg=yaw_deg, velocity=velocity)


def _driving(road: Road, preset: Preset, speed: float, rng: np.random.Generator) -> Iterator[Thing]:
    traffic = preset.traffic
    count = int(rng.integers(traffic.vehicles[0], traffic.vehicles[1] + 1))
    lanes = [(lane, direction) for lane in range(road.lanes) for direction in (1, -1)]
    pace = {key: speed if key == (0, 1) else float(rng.uniform(5, 13)) for key in lanes}
    taken: dict[tuple[int, int], list[tuple[float, float]]] = {key: [] for key in lanes}
    crossing = [(low - 8.0, high + 8.0) for low, high in road.junctions] if rng.random() < 0.4 else []
    for _ in range(count):
        thing = _vehicle(_kind(traffic, rng), traffic, rng)
        slim = thing.half[0] < 0.6
        key = lanes[int(rng.integers(len(lanes)))] if not slim else (road.lanes - 1, int(rng.choice((1, 1, -1))))
        lane, direction = key
        nearest = 7.0 if key == (0, 1) else 2.5
        z = nearest + thing.half[1] + (road.length_m - 175) * float(rng.random()) ** 1.6 + 2 * float(rng.random())
        low, high = z - thing.half[1] - 1.5, z + thing.half[1] + 1.5
        if any(low < b and high > a for a, b in (*taken[key], *crossing)):
            continue
        taken[key].append((low, high))
        x = road.lane_x(lane, direction) + float(rng.normal(0, 0.12))
        if slim:
            x = road.side * direction * (road.lanes * road.lane_m - float(rng.uniform(0.5, 0.9)))
        yaw = float(rng.normal(0, 1.2)) + (0 if direction > 0 else 180)
        yield _placed(thing, x, z, yaw, (0.0, direction * pace[key]))


def _parked(road: Road, preset: Preset, rng: np.random.Generator) -> Iterator[Thing]:
    traffic = preset.traffic
    left = int(rng.integers(traffic.parked[0], traffic.parked[1] + 1))
    for hand in (-1, 1):
        if not road.parking[(hand + 1) // 2]:
            continue
        z = float(rng.uniform(2, 14))
        while left > 0 and z < 90:
            thing = _vehicle("car" if rng.random() < 0.85 else "van", traffic, rng)
            z += thing.half[1]
            if not road.in_junction(z, 9):
                along = road.side * hand
                yaw = float(rng.normal(0, 1.0)) + (0 if along > 0 or rng.random() < 0.15 else 180)
                yield _placed(thing, hand * (road.kerb_m[(hand + 1) // 2] - 1.15), z, yaw)
                left -= 1
            z += thing.half[1] + float(rng.uniform(0.7, 2.0)) + (float(rng.uniform(4, 16)) if rng.random() < 0.3 else 0)


def _waiting(road: Road, preset: Preset, rng: np.random.Generator) -> Iterator[Thing]:
    """Add vehicles in the crossing roads."""
    for low, high in road.junctions[:1]:
        for hand in (-1, 1):
            if rng.random() < 0.45:
                thing = _vehicle(_kind(preset.traffic, rng), preset.traffic, rng)
                towards = bool(rng.random() < 0.7)
                heading = (-hand if towards else hand) * 90.0
                # One drives on the right of a road that runs across, seen in the direction of travel.
                middle, quarter = (low + high) / 2, (high - low) / 4
                z = middle + quarter * road.side * (-1 if heading > 0 else 1)
                x = hand * (road.edge_m(hand) + thing.half[1] + float(rng.uniform(0.5, 9)))
                yield _placed(thing, x, z, heading, (0.0 if towards else hand * 6.0, 0.0))


def _walking(road: Road, preset: Preset, rng: np.random.Generator) -> Iterator[Thing]:
    low, high = preset.traffic.people
    places: list[tuple[float, float]] = []
    crossings = [(junction[0] - 5.0, junction[0] - 2.0) for junction in road.junctions[:1] if junction[0] > 14]
    for _ in range(int(rng.integers(low, high + 1))):
        hand = int(rng.choice((-1, 1)))
        pace = float(rng.uniform(0.9, 1.6)) * int(rng.choice((-1, 1)))
        if crossings and rng.random() < 0.3:
            x = float(rng.uniform(-road.kerb_m[0], road.kerb_m[1]))
            z, heading, velocity = float(rng.uniform(*crossings[0])), 90.0 if pace > 0 else -90.0, (pace, 0.0)
        else:
            kerb = road.kerb_m[(hand + 1) // 2]
            x = hand * (kerb + float(rng.uniform(0.4, max(0.6, road.verge_m + road.pavement_m - 0.4))))
            z, heading, velocity = 4.5 + 50 * float(rng.random()) ** 1.4, 0.0 if pace > 0 else 180.0, (0.0, pace)
        if any(abs(x - a) < 0.75 and abs(z - b) < 0.8 for a, b in places):
            continue
        places.append((x, z))
        stands = bool(rng.random() < 0.25)
        if stands:
            heading, velocity = float(rng.uniform(-180, 180)), (0.0, 0.0)
        tall = float(np.clip(rng.normal(0.98, 0.06), 0.7, 1.12))
        body = Piece(
            ("person", int(rng.integers(PEOPLE))),
            palette(dict(_person_colours(rng))),
            "person",
            scale=(tall, tall, tall),
        )
        yield Thing(
            x,
            z,
            (0.32, 0.32),
            1.78 * tall,
            (body,),
            yaw_deg=heading + float(rng.normal(0, 8)),
            velocity=velocity,
            under=110,
            phase=-1.0 if stands else float(rng.random()),
        )
