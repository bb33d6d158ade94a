"""Ground polygons in the picture: what lies on the road, and the shadows on it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Camera, Float, f32
from drivetl.scenes.faces import NEAR_M
from drivetl.scenes.light import Light
from drivetl.scenes.raster import fixed_point
from drivetl.scenes.roads import Patch
from drivetl.scenes.things import Thing

__all__ = ["ground_polygons", "house_shadows", "in_shadow", "shadow_masks"]

_SHIFT = 4


def ground_polygons(patches: Sequence[Patch], camera: Camera) -> tuple[list[NDArray[np.int32]], Float]:
    """Return the patches that can be seen as polygons in sixteenths of a pixel, with their colours (n, 3).

    The first is everything below the horizon.
    """
    height, width = camera.size_hw
    first, _, _ = camera.ground_rows()
    base = np.array([(0, first), (width, first), (width, height), (0, height)], np.float32)
    polygons, colours = [fixed_point(base)], [patches[0].bgr]
    flat = np.zeros((len(patches), 4, 3), np.float32)
    flat[..., ::2] = [patch.points if len(patch.points) == 4 else patch.points[:4] for patch in patches]
    pixels, depth = camera.project(flat)
    whole = np.all(depth > NEAR_M, axis=1)
    hidden = np.all(depth < NEAR_M, axis=1)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    hidden |= whole & ((high <= 0) | (low >= (width, height))).any(axis=1)
    fixed = fixed_point(np.where(whole[:, None, None], pixels, 0))
    for index, patch in enumerate(patches):
        polygon = fixed[index]
        if len(patch.points) != 4 or not (whole[index] or hidden[index]):
            cut = _on_picture(patch.points, camera)
            if len(cut) < 3 or not _touches(cut, width, height):
                continue
            polygon = fixed_point(cut)
        elif hidden[index]:
            continue
        polygons.append(polygon)
        colours.append(patch.bgr)
    return polygons, np.stack(colours).astype(np.float32)


def _touches(polygon: Float, width: int, height: int) -> bool:
    (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0)
    return bool(right > 0 and left < width and bottom > 0 and top < height)


def _on_picture(points_xz: Float, camera: Camera) -> Float:
    """Project a polygon on the ground (k, 2), cut where it comes too near."""
    flat = np.zeros((len(points_xz), 3), np.float32)
    flat[:, 0], flat[:, 2] = points_xz[:, 0], points_xz[:, 1]
    seen = camera.to_camera(flat)
    if seen[:, 2].min() >= NEAR_M:
        return seen[:, :2] * (camera.focal_px / seen[:, 2:]) + np.array(camera.centre_px, np.float32)
    kept = []
    for a, b in zip(seen, np.roll(seen, -1, axis=0), strict=True):
        if a[2] >= NEAR_M:
            kept.append(a)
        if (a[2] < NEAR_M) != (b[2] < NEAR_M):
            kept.append(a + (b - a) * ((NEAR_M - a[2]) / (b[2] - a[2])))
    if not kept:
        return np.empty((0, 2), np.float32)
    points = np.array(kept, np.float32)
    return points[:, :2] * (camera.focal_px / points[:, 2:]) + np.array(camera.centre_px, np.float32)


def _cast(thing: Thing, place: tuple[float, float], light: Light) -> Float:
    """Return the outline on the ground (k, 2) of a thing's shadow."""
    reach = -light.sun[[0, 2]] / light.sun[1] * thing.height
    half_x, half_z = thing.half
    if thing.shadow == "round":
        turn = np.arange(14) * (2 * np.pi / 14)
        radius = thing.height * 0.32
        middle = np.array(place) + reach * 0.68
        long = np.linalg.norm(reach) / max(thing.height, 0.1)
        direction = reach / max(float(np.linalg.norm(reach)), 1e-6)
        across = np.array([-direction[1], direction[0]])
        stretched = radius * (1 + 0.6 * long)
        round_about = stretched * np.cos(turn)[:, None] * direction + radius * np.sin(turn)[:, None] * across
        return f32(middle + round_about)
    corners = np.array([(-half_x, -half_z), (half_x, -half_z), (half_x, half_z), (-half_x, half_z)]) + np.array(place)
    scale = 0.9 if thing.shadow == "box" else 1.0
    both = np.concatenate([corners, (corners - place) * scale + place + reach]).astype(np.float32)
    hull: Float = cv2.convexHull(both)[:, 0].astype(np.float32)
    return hull


def house_shadows(things: Sequence[Thing], light: Light) -> list[Float]:
    """Return the outlines of the shadows of all buildings; they do not move."""
    if not light.sunny:
        return []
    return [_cast(thing, (thing.x, thing.z), light) for thing in things if thing.shadow == "house" and thing.z < 150]


def in_shadow(houses: Sequence[Float], place: tuple[float, float]) -> bool:
    """Return whether a place lies in the shadow of a building."""
    return any(cv2.pointPolygonTest(outline, place, False) >= 0 for outline in houses)


def shadow_masks(
    things: Sequence[tuple[Thing, tuple[float, float]]], houses: Sequence[Float], camera: Camera, light: Light
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return where the sun is hidden and where the sky is, uint8 (height, width) each, soft at the edges."""
    height, width = camera.size_hw
    shadow, under = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for outline in houses:
        _fill(shadow, outline, 255, camera)
    for thing, place in things:
        if light.sunny and thing.shadow in ("box", "round", "pole") and thing.height > 0:
            _fill(shadow, _cast(thing, place, light), 200 if thing.shadow == "round" else 245, camera)
        if thing.under:
            x, z = place
            half_x, half_z = thing.half[0] * 1.02, thing.half[1] * 1.0
            quad = np.array(
                [
                    (x - half_x, z - half_z),
                    (x + half_x, z - half_z),
                    (x + half_x, z + half_z),
                    (x - half_x, z + half_z),
                ],
                np.float32,
            )
            _fill(under, quad, thing.under, camera)
    first = max(0, camera.ground_rows()[0] - 4)
    size = 2 * (width // 260) + 1
    for mask in (shadow, under):
        mask[first:] = cv2.blur(cv2.blur(mask[first:], (size, size)), (2 * size + 1, size))
    return shadow, under


def _fill(mask: NDArray[np.uint8], outline: Float, value: int, camera: Camera) -> None:
    polygon = _on_picture(outline, camera)
    if len(polygon) >= 3 and _touches(polygon, camera.size_hw[1], camera.size_hw[0]):
        cv2.fillConvexPoly(mask, fixed_point(polygon), value, cv2.LINE_8, _SHIFT)
