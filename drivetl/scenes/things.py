"""What stands and moves in a scene, before anyone looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.bodies import PHASES, bicycle_mesh, motorcycle_mesh, person_mesh, rider_mesh
from drivetl.scenes.camera import Float
from drivetl.scenes.cars import car_mesh
from drivetl.scenes.heavies import bus_mesh, truck_mesh
from drivetl.scenes.light import linear_bgr
from drivetl.scenes.mesh import Mesh, Slot
from drivetl.scenes.props import lamp_post_mesh, pole_mesh, sign_mesh, traffic_light_mesh, trunk_mesh

__all__ = ["Foliage", "Piece", "Thing", "mesh_of", "palette"]

_COMMON = {
    Slot.PAINT: (120, 120, 125),
    Slot.GLASS: (26, 32, 34),
    Slot.DARK: (22, 22, 24),
    Slot.TYRE: (28, 28, 29),
    Slot.RIM: (150, 152, 156),
    Slot.LAMP: (225, 228, 232),
    Slot.TAIL: (190, 18, 16),
    Slot.PLATE: (232, 232, 226),
    Slot.SECOND: (190, 190, 186),
    Slot.SKIN: (196, 148, 120),
    Slot.HAIR: (48, 36, 28),
    Slot.TOP: (70, 80, 110),
    Slot.LEGS: (50, 54, 70),
    Slot.SHOES: (36, 34, 34),
    Slot.AMBER: (255, 150, 20),
    Slot.POLE: (110, 112, 114),
}
_LONGEST_ARM_M = 4.8
_PLAIN = linear_bgr([_COMMON[slot] for slot in Slot])


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One mesh of a thing.

    Attributes:
        shape: the name of the shape and what its builder takes; or a mesh of its own.
        palette: float32 (slots, 3), linear BGR.
        class_name: under which it is labelled; empty for what is not.
        offset: of its origin from the thing's, in the thing's own axes.
        scale: along its axes.
    """

    shape: tuple[str | int | float, ...] | Mesh
    palette: Float
    class_name: str = ""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Foliage:
    """One crown of a thing: offset of its lower middle, size, picture, colour (linear BGR)."""

    offset: tuple[float, float, float]
    size_wh_m: tuple[float, float]
    index: int
    mirrored: bool
    bgr: Float


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """Something with one footprint.

    Attributes:
        x, z: where it is at time 0, in metres.
        half: half its extent along x and z, after turning.
        height: its height, for its shadow.
        pieces, foliage: what it is made of.
        yaw_deg: how far it is turned to the right; 0 looks along the road.
        velocity: along x and z in metres a second.
        under: how dark the ground below it is, 0 to 255.
        shadow: whether it throws one; ``round`` for foliage.
        phase: where its walk begins, 0 to 1; below zero: it stands.
        track: the first of the track ids of its labelled pieces.
    """

    x: float
    z: float
    half: tuple[float, float]
    height: float
    pieces: tuple[Piece, ...] = ()
    foliage: tuple[Foliage, ...] = ()
    yaw_deg: float = 0.0
    velocity: tuple[float, float] = (0.0, 0.0)
    under: int = 0
    shadow: str = "box"
    phase: float = -1.0
    track: int = field(default=-1)

    @property
    def spread_m(self) -> float:
        """How far it reaches beyond its footprint: the arms of poles and the crowns of trees."""
        crowns = max((leaf.size_wh_m[0] / 2 for leaf in self.foliage), default=0.0)
        return max(crowns, _LONGEST_ARM_M if self.shadow == "pole" else 0.0)

    def at(self, seconds: float) -> tuple[float, float]:
        """Return where it is (x, z)."""
        return self.x + self.velocity[0] * seconds, self.z + self.velocity[1] * seconds

    def step(self, seconds: float) -> int:
        """Return the phase of its walk."""
        if self.phase < 0:
            return -1
        return int((self.phase + 0.95 * seconds) * PHASES) % PHASES


def palette(colours: dict[Slot, Sequence[float] | NDArray[np.floating[Any]]]) -> Float:
    """Return a palette; what is not given (as sRGB, 0 to 255) keeps its usual colour."""
    result = _PLAIN.copy()
    if colours:
        result[list(colours)] = linear_bgr(list(colours.values()))
    return result


def mesh_of(piece: Piece, fine: bool, step: int) -> Mesh:
    """Return the mesh of a piece: ``fine`` where it is large in the picture."""
    if isinstance(piece.shape, Mesh):
        return piece.shape
    name, *given = piece.shape
    if name == "car":
        return car_mesh(str(given[0]), int(given[1]), fine)
    if name == "person":
        return person_mesh(int(given[0]), step, fine)
    if name == "rider":
        return rider_mesh(int(given[0]), bool(given[1]), fine)
    if name in _BY_VARIANT:
        return _BY_VARIANT[str(name)](int(given[0]), fine)
    return _prop(str(name), given)


def _prop(name: str, given: Sequence[str | int | float]) -> Mesh:
    if name == "light":
        return traffic_light_mesh(int(given[0]))
    if name == "sign":
        return sign_mesh(str(given[0]))
    if name == "lamp":
        return lamp_post_mesh(float(given[0]))
    if name == "trunk":
        return trunk_mesh(int(given[0]))
    return pole_mesh(*(float(value) for value in given))


_BY_VARIANT = {"truck": truck_mesh, "bus": bus_mesh, "bicycle": bicycle_mesh, "motorcycle": motorcycle_mesh}
