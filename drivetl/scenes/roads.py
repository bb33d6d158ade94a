"""The plan of a road, and everything that lies flat on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from drivetl.scenes.camera import Float
from drivetl.scenes.light import linear_bgr
from drivetl.scenes.presets import RoadPreset

__all__ = ["FAR_M", "Patch", "Road", "flat_patches", "sample_road"]

FAR_M = 420.0
_BEHIND_M = -12.0
_PARKING_M = 2.3


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A polygon on the ground, float32 (k, 2) of x and z in metres, and the share of light it gives back."""

    points: Float
    bgr: Float


@dataclass(frozen=True, slots=True, eq=False)
class Road:
    """A straight road along z.

    Attributes:
        side: 1 where one drives on the right, -1 on the left.
        lanes: lanes in each direction.
        lane_m: width of a lane.
        parking: whether there is a parking lane at each side, left and right.
        kerb_m: distance of the kerbs from the middle, left and right.
        verge_m, pavement_m: widths of what is between the kerb and the houses.
        junctions: first and last z of every crossing road.
        length_m: up to where things are placed.
        wear: 0 to 1.
    """

    side: int
    lanes: int
    lane_m: float
    parking: tuple[bool, bool]
    kerb_m: tuple[float, float]
    verge_m: float
    pavement_m: float
    junctions: tuple[tuple[float, float], ...]
    length_m: float
    wear: float

    def lane_x(self, lane: int, direction: int) -> float:
        """Return the middle of a lane, counted from the middle of the road; direction is 1 (ours) or -1."""
        return self.side * direction * (lane + 0.5) * self.lane_m

    def edge_m(self, hand: int) -> float:
        """Return the distance from the middle to the outer edge of the pavement; hand is -1 (left) or 1."""
        return self.kerb_m[(hand + 1) // 2] + self.verge_m + self.pavement_m

    def in_junction(self, z: float, margin_m: float = 0.0) -> bool:
        """Return whether a place along the road lies in a crossing road."""
        return any(low - margin_m < z < high + margin_m for low, high in self.junctions)


def sample_road(preset: RoadPreset, length_m: float, rng: np.random.Generator) -> Road:
    """Draw a road."""
    low, high = preset.lanes_each_way
    lanes = int(rng.integers(low, high + 1))
    lane = float(rng.uniform(*preset.lane_width_m))
    parking = bool(rng.random() < preset.parking_share), bool(rng.random() < preset.parking_share)
    left, right = (lanes * lane + 0.3 + _PARKING_M * has for has in parking)
    junctions = []
    z = float(rng.uniform(16, 70)) if rng.random() < preset.junction_share else float(rng.uniform(110, 160))
    while z < length_m:
        width = float(rng.uniform(6.5, 12))
        junctions.append((z, z + width))
        z += width + float(rng.uniform(70, 140))
    return Road(
        1 if preset.drive_side == "right" else -1,
        lanes,
        lane,
        parking,
        (left, right),
        float(rng.uniform(*preset.verge_m)),
        float(rng.uniform(*preset.pavement_m)),
        tuple(junctions),
        length_m,
        float(rng.uniform(*preset.wear)),
    )


class _Painter:
    """Collects patches."""

    def __init__(self) -> None:
        self.patches: list[Patch] = []

    def quad(self, x: tuple[float, float], z: tuple[float, float], bgr: Float) -> None:
        (x0, x1), (z0, z1) = x, z
        self.patches.append(Patch(np.array([(x0, z0), (x1, z0), (x1, z1), (x0, z1)], np.float32), bgr))

    def polygon(self, points: Any, bgr: Float) -> None:
        self.patches.append(Patch(np.asarray(points, np.float32), bgr))


def flat_patches(road: Road, preset: RoadPreset, rng: np.random.Generator) -> list[Patch]:
    """Return everything flat, in the order in which it lies on each other."""
    painter = _Painter()
    asphalt, pavement, verge = (
        _tinted(palette[int(rng.integers(len(palette)))], rng)
        for palette in (preset.asphalt_rgb, preset.pavement_rgb, preset.verge_rgb)
    )
    span = (_BEHIND_M, FAR_M)
    for hand in (-1, 1):
        kerb = road.kerb_m[(hand + 1) // 2]
        edge = road.edge_m(hand)
        painter.quad((hand * edge, hand * (edge + 60)), span, verge * 0.9)
        painter.quad((hand * kerb, hand * (kerb + road.verge_m)), span, verge)
        painter.quad((hand * (kerb + road.verge_m), hand * edge), span, pavement)
        for z in np.arange(0, 60, 2.4):
            painter.quad((hand * (kerb + road.verge_m), hand * edge), (z, z + 0.03), pavement * 0.75)
        painter.quad((hand * kerb, hand * (kerb + 0.16)), span, pavement * 1.2)
        painter.quad((hand * (kerb - 0.05), hand * kerb), span, pavement * 0.4)
    painter.quad((-road.kerb_m[0] + 0.05, road.kerb_m[1] - 0.05), span, asphalt)
    for low, high in road.junctions:
        painter.quad((-90, 90), (low - 2.5, low), pavement)
        painter.quad((-90, 90), (high, high + 2.5), pavement)
        painter.quad((-90, 90), (low, high), asphalt * 0.95)
        painter.quad((-road.kerb_m[0] + 0.05, road.kerb_m[1] - 0.05), (low - 2.6, high + 2.6), asphalt)
    _repairs(painter, road, asphalt, rng)
    _markings(painter, road, preset, asphalt, rng)
    return painter.patches


def _tinted(rgb: tuple[int, int, int], rng: np.random.Generator) -> Float:
    result: Float = linear_bgr(rgb) * np.float32(rng.uniform(0.8, 1.2)) * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    return result


def _repairs(painter: _Painter, road: Road, asphalt: Float, rng: np.random.Generator) -> None:
    """Add darker tracks of oil, patches, cracks and covers."""
    for direction in (-1, 1):
        for lane in range(road.lanes):
            middle = road.lane_x(lane, direction)
            painter.quad((middle - 0.35, middle + 0.35), (_BEHIND_M, 200), asphalt * (1 - 0.13 * road.wear))
    for _ in range(int(rng.integers(0, 3 + round(8 * road.wear)))):
        x, z = float(rng.uniform(-road.kerb_m[0] + 1, road.kerb_m[1] - 1)), float(rng.uniform(2, 60))
        size = rng.uniform(0.5, 2.2), rng.uniform(0.8, 6)
        painter.quad((x, x + float(size[0])), (z, z + float(size[1])), asphalt * float(rng.uniform(0.62, 1.25)))
    for _ in range(int(rng.integers(0, 4))):
        x, z = float(rng.uniform(-road.kerb_m[0] + 1, road.kerb_m[1] - 1)), float(rng.uniform(4, 50))
        turn = np.arange(12) * (2 * np.pi / 12)
        painter.polygon(np.column_stack([x + 0.33 * np.cos(turn), z + 0.33 * np.sin(turn)]), asphalt * 0.5)
    for _ in range(int(rng.integers(0, 1 + round(7 * road.wear)))):
        x, z = float(rng.uniform(-road.kerb_m[0], road.kerb_m[1])), float(rng.uniform(3, 40))
        for _ in range(int(rng.integers(2, 7))):
            dx, dz = float(rng.normal(0, 0.4)), float(rng.uniform(0.5, 2.5))
            painter.polygon([(x, z), (x + 0.035, z), (x + dx + 0.035, z + dz), (x + dx, z + dz)], asphalt * 0.45)
            x, z = x + dx, z + dz


class _Marker:
    """Paints lines on the road, more or less worn."""

    def __init__(self, painter: _Painter, road: Road, asphalt: Float, rng: np.random.Generator) -> None:
        self.painter, self.road, self.asphalt, self.rng = painter, road, asphalt, rng

    def worn(self, colour: Float) -> Float:
        """Return a marking's colour after some years of traffic."""
        return self.asphalt + (colour - self.asphalt) * np.float32(1 - self.road.wear * self.rng.uniform(0.6, 1.0))

    def line(self, x: float, width: float, dash: tuple[float, float] | None, colour: Float) -> None:
        """Paint a line along the road: solid, or dashes of a length with gaps of another."""
        across = (x - width / 2, x + width / 2)
        for low, high in _open_stretches(self.road):
            if dash is None:
                self.painter.quad(across, (low, high), self.worn(colour))
                continue
            start = low + float(self.rng.uniform(0, dash[1]))
            for z in np.arange(start, min(high, self.road.length_m - 120), dash[0] + dash[1]):
                self.painter.quad(across, (z, min(z + dash[0], high)), self.worn(colour))


def _markings(painter: _Painter, road: Road, preset: RoadPreset, asphalt: Float, rng: np.random.Generator) -> None:
    marker = _Marker(painter, road, asphalt, rng)
    white = linear_bgr((218, 218, 212))
    _centre_line(marker, linear_bgr(preset.centre_line_rgb), int(rng.integers(3)))
    for hand in (-1, 1):
        for lane in range(1, road.lanes):
            marker.line(hand * lane * road.lane_m, 0.12, (3.0, 6.0), white)
        if road.parking[(hand + 1) // 2]:
            edge = hand * (road.lanes * road.lane_m + 0.1)
            marker.line(edge, 0.1, (1.0, 1.0) if rng.random() < 0.5 else None, white)
        elif rng.random() < 0.5:
            marker.line(hand * (road.kerb_m[(hand + 1) // 2] - 0.3), 0.12, None, white)
    for low, high in road.junctions:
        _crossing(painter, road, (low, high), marker.worn(white), bool(rng.random() < 0.75))


def _centre_line(marker: _Marker, colour: Float, kind: int) -> None:
    if kind == 0:
        marker.line(0.0, 0.13, (3.0, float(marker.rng.uniform(3, 6))), colour)
    elif kind == 1:
        marker.line(0.0, 0.14, None, colour)
    else:
        marker.line(-0.13, 0.11, None, colour)
        marker.line(0.13, 0.11, None, colour)


def _open_stretches(road: Road) -> list[tuple[float, float]]:
    """Return where the road is not a junction and its crossings."""
    edges = [_BEHIND_M]
    for low, high in road.junctions:
        edges += [low - 6.5, high + 6.5]
    edges.append(FAR_M)
    return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if high > low]


def _crossing(painter: _Painter, road: Road, junction: tuple[float, float], colour: Float, zebra: bool) -> None:
    """Add stop lines and, at both sides of the junction, a crossing for people."""
    low, high = junction
    for near, hand in ((low - 5.0, road.side), (high + 2.0, -road.side)):
        if zebra:
            for x in np.arange(-road.kerb_m[0] + 0.3, road.kerb_m[1] - 0.6, 1.0):
                painter.quad((float(x), float(x) + 0.5), (near, near + 3.0), colour)
        stop = near - 1.2 if near < low else near + 3.9
        painter.quad((0.1 * hand, hand * road.lanes * road.lane_m), (stop, stop + 0.35), colour)
