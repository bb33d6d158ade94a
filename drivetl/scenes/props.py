"""What stands beside the road and does not move: lights, signs, poles, trunks."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from drivetl.scenes.mesh import Finish, Mesh, MeshBuilder, Slot

__all__ = ["SIGN_SHAPES", "lamp_post_mesh", "pole_mesh", "sign_mesh", "traffic_light_mesh", "trunk_mesh"]

# Which sign it is: the outline, and what is painted on it.
SIGN_SHAPES = ("stop", "limit", "warning", "yield", "square", "no-entry", "guide", "arrow")


@lru_cache(maxsize=8)
def traffic_light_mesh(lit: int) -> Mesh:
    """Return a light 1 m tall that faces -z, its foot at 0; ``lit`` is 0 (red), 1 (amber) or 2 (green)."""
    builder = MeshBuilder()
    builder.box((-0.17, 0.0, -0.1), (0.17, 0.98, 0.12), Slot.DARK)
    for index, y in enumerate((0.8, 0.49, 0.18)):
        bright = index == lit
        slot = (Slot.TAIL, Slot.AMBER, Slot.SECOND)[index] if bright else Slot.TYRE
        builder.disc((0, y, -0.112), (0, 0, -1), 0.115, slot, Finish.LAMP if bright else Finish.GLASS, sides=12)
        turn = np.linspace(0, math.pi, 6)
        hood = np.stack(
            [np.column_stack([0.135 * np.cos(turn), y + 0.135 * np.sin(turn), np.full(6, z)]) for z in (-0.11, -0.26)]
        )
        builder.loft(hood, Slot.DARK, smooth=0.8, layer=2)
    return builder.build()


def _outline(shape: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    if shape in ("square", "guide", "arrow"):
        half, high = {"square": (0.33, 0.33), "guide": (0.75, 0.4), "arrow": (0.3, 0.45)}[shape]
        return np.array([(-half, -high), (half, -high), (half, high), (-half, high)])
    count = {"stop": 8, "warning": 3, "yield": 3}.get(shape, 16)
    start = {"stop": math.pi / 8, "warning": math.pi / 2, "yield": -math.pi / 2}.get(shape, 0.0)
    turn = start + np.arange(count) * (2 * math.pi / count)
    return 0.37 * (1.15 if count == 3 else 1.0) * np.column_stack([np.cos(turn), np.sin(turn)])


def _plate(
    builder: MeshBuilder, outline: np.ndarray[tuple[int, int], np.dtype[np.float64]], slot: Slot, layer: int
) -> None:
    z = -0.01 - 0.004 * layer
    points = [(float(x), float(y) + 0.4, z) for x, y in outline]
    points.append(points[0])
    quads = [
        [points[0], points[i], points[i + 1], points[min(i + 2, len(points) - 1)]] for i in range(1, len(points) - 2, 2)
    ]
    if len(outline) == 3:
        quads = [[points[0], points[1], points[2], points[2]]]
    builder.quads(quads, (0, 0, -1), slot, Finish.MATTE, layer=layer)


@lru_cache(maxsize=16)
def sign_mesh(shape: str) -> Mesh:
    """Return a sign that faces -z, its middle 0.4 m above 0. PAINT rims it, SECOND fills it, DARK is its mark."""
    builder = MeshBuilder()
    outline = _outline(shape)
    _plate(builder, outline, Slot.PAINT, 0)
    builder.quads(
        [[(x, y + 0.4, 0.01) for x, y in np.array([(-0.3, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.3, 0.3)]) * 0.9]],
        (0, 0, 1),
        Slot.RIM,
        Finish.METAL,
    )
    _plate(builder, outline * (0.94 if shape in ("stop", "guide", "no-entry") else 0.78), Slot.SECOND, 1)
    marks = {
        "stop": [(x, -0.1, x + 0.08, 0.1) for x in (-0.22, -0.1, 0.02, 0.14)],
        "limit": [(-0.16, -0.15, -0.03, 0.15), (0.04, -0.15, 0.17, 0.15)],
        "warning": [(-0.03, -0.12, 0.03, 0.15)],
        "no-entry": [(-0.25, -0.05, 0.25, 0.05)],
        "square": [(-0.18, -0.2, -0.1, 0.2), (-0.1, 0.0, 0.12, 0.2)],
        "guide": [(-0.6, 0.08, 0.3, 0.22), (-0.6, -0.2, 0.5, -0.06)],
        "arrow": [(-0.05, -0.3, 0.05, 0.15), (-0.14, 0.12, 0.14, 0.2)],
    }.get(shape, [])
    quads = [
        [(a, b + 0.4, -0.02), (c, b + 0.4, -0.02), (c, d + 0.4, -0.02), (a, d + 0.4, -0.02)] for a, b, c, d in marks
    ]
    if quads:
        builder.quads(quads, (0, 0, -1), Slot.DARK, layer=3)
    return builder.build()


@lru_cache(maxsize=64)
def pole_mesh(height_m: float, radius_m: float = 0.045, arm_m: float = 0.0) -> Mesh:
    """Return a pole, perhaps with an arm to -x at its top."""
    builder = MeshBuilder()
    builder.tube((0, 0, 0), (0, height_m, 0), (radius_m * 1.15, radius_m), Slot.POLE, Finish.METAL)
    if arm_m:
        builder.next_part()
        builder.tube(
            (0, height_m - 0.1, 0), (-arm_m, height_m + 0.15, 0), (radius_m, radius_m * 0.7), Slot.POLE, Finish.METAL
        )
    return builder.build()


@lru_cache(maxsize=16)
def lamp_post_mesh(height_m: float) -> Mesh:
    """Return a street lamp whose arm reaches to -x."""
    builder = MeshBuilder()
    builder.tube((0, 0, 0), (0, height_m, 0), (0.1, 0.055), Slot.POLE, Finish.METAL)
    builder.next_part()
    builder.tube((0, height_m, 0), (-1.5, height_m + 0.35, 0), (0.05, 0.04), Slot.POLE, Finish.METAL, sides=5)
    builder.next_part()
    builder.box((-2.1, height_m + 0.3, -0.12), (-1.4, height_m + 0.42, 0.12), Slot.POLE)
    return builder.build()


@lru_cache(maxsize=16)
def trunk_mesh(variant: int) -> Mesh:
    """Return a trunk 1 m tall; scale it."""
    lean = 0.05 * math.sin(variant * 2.4)
    builder = MeshBuilder()
    builder.tube((0, 0, 0), (lean, 1.0, lean), (1.0, 0.7), Slot.POLE, sides=7)
    return builder.build()
