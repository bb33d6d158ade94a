"""From things in the world to shaded quads in the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Camera, Float, f32
from drivetl.scenes.light import Light, shade
from drivetl.scenes.mesh import Mesh

__all__ = ["NEAR_M", "Crown", "Faces", "Instance", "seen_faces"]

# Nothing nearer than this is drawn; what crosses it is cut.
NEAR_M = 0.4
_MARGIN_PX = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One mesh in the world.

    Attributes:
        mesh: its shape.
        position: of its origin (x, y, z) in metres.
        yaw_deg: how far it is turned to the right.
        scale: along its own x, y and z.
        palette: float32 (slots, 3), linear BGR.
        owner: the labelled object that it belongs to, or -1.
        group: what it is drawn together with: one footprint, one place in the order.
        sunlit: 0 where a building's shadow lies, else 1.
    """

    mesh: Mesh
    position: tuple[float, float, float]
    palette: Float
    group: int
    yaw_deg: float = 0.0
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    owner: int = -1
    sunlit: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Crown:
    """Foliage that always faces the camera: where its lower middle is, its size, its picture and colour."""

    position: tuple[float, float, float]
    size_wh_m: tuple[float, float]
    index: int
    mirrored: bool
    bgr: Float
    group: int
    sunlit: float = 1.0


@dataclass(slots=True, eq=False)
class Faces:
    """Quads that face the camera, at least partly in the picture.

    Attributes:
        seen: float32 (n, 4, 3), corners in the camera's axes.
        bgr: float32 (n, 4, 3), light that arrives from each corner.
        group, owner, layer, tile: int (n,).
        part_m: float32 (n,), distance of the convex piece that each belongs to.
        repeat: float32 (n, 2).
        edges: float32 (n, 3, 3): a corner and the two sides from it, for textured quads.
    """

    seen: Float
    bgr: Float
    group: NDArray[np.intp]
    owner: NDArray[np.intp]
    layer: NDArray[np.intp]
    tile: NDArray[np.intp]
    part_m: Float
    repeat: Float
    edges: Float

    def __len__(self) -> int:
        return len(self.seen)

    def taken(self, index: NDArray[np.intp]) -> Faces:
        """Return some of them, in a new order."""
        return Faces(*(getattr(self, entry.name)[index] for entry in fields(self)))

    def pixels(self, camera: Camera) -> Float:
        """Return the corners in the picture, float32 (n, 4, 2)."""
        return self.seen[..., :2] * (np.float32(camera.focal_px) / self.seen[..., 2:]) + np.array(
            camera.centre_px, np.float32
        )


def seen_faces(instances: Sequence[Instance], camera: Camera, light: Light) -> Faces:
    """Return the shaded quads of all instances that the camera can see."""
    meshes = [instance.mesh for instance in instances]
    which = np.repeat(np.arange(len(meshes)), [len(mesh.slot) for mesh in meshes])
    yaw = np.radians([instance.yaw_deg for instance in instances])
    cos, sin = f32(np.cos(yaw)), f32(np.sin(yaw))
    scale = np.array([instance.scale for instance in instances], np.float32)
    place = np.array([instance.position for instance in instances], np.float32)
    eye = np.array([camera.x_m, camera.height_m, camera.z_m], np.float32)

    facing = _turned(f32(np.concatenate([mesh.facing for mesh in meshes]) / scale[which]), cos[which], sin[which])
    local = np.concatenate([mesh.corners for mesh in meshes])
    first = _turned(local[:, 0] * scale[which], cos[which], sin[which]) + place[which]
    index = np.flatnonzero(((first - eye) * facing).sum(axis=1) < 0)
    which = which[index]
    corners = _turned(local[index] * scale[which][:, None], cos[which][:, None], sin[which][:, None])
    corners += place[which][:, None]
    seen = camera.to_camera(corners)
    keep = _in_view(seen, camera)
    index, which, corners, seen = index[keep], which[keep], corners[keep], seen[keep]

    def joined(name: str) -> NDArray[np.intp]:
        values: NDArray[np.intp] = np.concatenate([getattr(mesh, name) for mesh in meshes])[index]
        return values

    normals = f32(np.concatenate([mesh.normals for mesh in meshes])[index] / scale[which][:, None])
    normals = _turned(normals, cos[which][:, None], sin[which][:, None])
    normals /= np.sqrt((normals * normals).sum(axis=-1, keepdims=True))
    palettes = np.stack([instance.palette for instance in instances])
    base = palettes[which, joined("slot")][:, None]
    towards = eye - corners
    towards /= np.sqrt((towards * towards).sum(axis=-1, keepdims=True))
    sunlit = np.array([instance.sunlit for instance in instances], np.float32)[which]
    colour = shade(light, base, normals, towards, joined("finish"), sunlit)
    # Little light reaches surfaces close above the road.
    colour *= np.clip(0.45 + corners[..., 1:2] * 0.9, 0.45, 1.0)
    colour = light.through_air(colour, np.maximum(seen[..., 2], 0))
    faces = Faces(
        seen,
        colour,
        np.array([instance.group for instance in instances], np.intp)[which],
        np.array([instance.owner for instance in instances], np.intp)[which],
        joined("layer"),
        joined("tile"),
        _part_distances(instances, eye)[index],
        np.concatenate([mesh.repeat for mesh in meshes])[index],
        np.stack([seen[:, 0], seen[:, 1] - seen[:, 0], seen[:, 3] - seen[:, 0]], axis=1),
    )
    return _cut_near(faces)


def _turned(vectors: Float, cos: Float, sin: Float) -> Float:
    """Turn vectors (..., 3) around the vertical."""
    x, z = vectors[..., 0], vectors[..., 2]
    result: Float = np.stack([cos * x + sin * z, vectors[..., 1], cos * z - sin * x], axis=-1)
    return result


def _in_view(seen: Float, camera: Camera) -> NDArray[np.intp]:
    """Return which quads reach into the picture."""
    height, width = camera.size_hw
    x, y, z = seen[..., 0] * np.float32(camera.focal_px), seen[..., 1] * np.float32(camera.focal_px), seen[..., 2]
    wide, high = width / 2 + _MARGIN_PX, height / 2 + _MARGIN_PX
    ahead = (z > NEAR_M).any(axis=1)
    inside = (x > -wide * z).any(axis=1) & (x < wide * z).any(axis=1)
    inside &= (y > -high * z).any(axis=1) & (y < high * z).any(axis=1)
    return np.flatnonzero(ahead & (inside | (z < NEAR_M).any(axis=1)))


def _part_distances(instances: Sequence[Instance], eye: Float) -> Float:
    """Return the distance of every quad's convex piece from the camera."""
    distances = []
    for instance in instances:
        turn = math.radians(instance.yaw_deg)
        middle = _turned(
            instance.mesh.part_middle * np.array(instance.scale, np.float32),
            np.float32(math.cos(turn)),  # type: ignore[arg-type]
            np.float32(math.sin(turn)),  # type: ignore[arg-type]
        )
        away = middle + (np.array(instance.position, np.float32) - eye)
        distances.append(np.sqrt((away * away).sum(axis=1))[instance.mesh.part])
    return np.concatenate(distances)


def _cut_near(faces: Faces) -> Faces:
    """Cut off what is nearer than `NEAR_M`; a cut quad becomes one or two."""
    near = (faces.seen[..., 2] < NEAR_M).any(axis=1)
    if not near.any():
        return faces
    source, corners, colours = [], [], []
    for index in np.flatnonzero(near):
        polygon = _clipped(np.concatenate([faces.seen[index], faces.bgr[index]], axis=1))
        for i in range(1, len(polygon) - 1, 2):
            quad = polygon[[0, i, i + 1, min(i + 2, len(polygon) - 1)]]
            source.append(index)
            corners.append(quad[:, :3])
            colours.append(quad[:, 3:])
    whole = np.flatnonzero(~near)
    result = faces.taken(np.concatenate([whole, np.array(source, np.intp)]))
    if source:
        result.seen[len(whole) :], result.bgr[len(whole) :] = np.stack(corners), np.stack(colours)
    return result


def _clipped(polygon: Float) -> Float:
    """Return the part of a polygon (k, 6) whose third value is at least `NEAR_M` (Sutherland and Hodgman)."""
    kept = []
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if a[2] >= NEAR_M:
            kept.append(a)
        if (a[2] < NEAR_M) != (b[2] < NEAR_M):
            kept.append(a + (b - a) * ((NEAR_M - a[2]) / (b[2] - a[2])))
    return np.array(kept, np.float32).reshape(-1, polygon.shape[1])
