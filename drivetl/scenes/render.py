"""From a preset and a seed to a picture, or to a drive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, quoted
from drivetl.scenes.camera import Camera, Float
from drivetl.scenes.faces import Crown, Instance, seen_faces
from drivetl.scenes.finish import develop
from drivetl.scenes.frame import SceneFrame, SceneObject
from drivetl.scenes.order import far_to_near
from drivetl.scenes.paint import Look, paint
from drivetl.scenes.presets import Preset
from drivetl.scenes.raster import Raster, rasterise
from drivetl.scenes.shadows import ground_polygons, house_shadows, in_shadow, shadow_masks
from drivetl.scenes.things import Thing, mesh_of
from drivetl.scenes.world import World, build_world

__all__ = ["SceneSequence", "render_scene"]

_FINE_PX = 70.0
_BEHIND_M = -14.0
# A label needs this much of an object: pixels at 960 across, and a share that is not covered.
_LEAST_HEIGHT_PX, _LEAST_WIDTH_PX, _LEAST_VISIBLE = 10.0, 5.0, 0.15


def render_scene(preset: Preset, *, seed: int, size_hw: tuple[int, int] = (540, 960)) -> SceneFrame:
    """Render one scene. The same preset, seed and size give the same bytes.

    Args:
        preset: the environment, from `load_preset`.
        seed: which of its scenes, 0 or more.
        size_hw: height and width of the picture, 64 to 4096 each.

    Raises:
        ConfigError: seed or size is out of range.
    """
    return next(iter(SceneSequence(preset, seed=seed, frames=1, size_hw=size_hw)))


class SceneSequence:
    """A drive through one scene: iterate for its frames. Track ids stay the same throughout.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, preset: Preset, *, seed: int, frames: int, fps: float = 10.0, size_hw: tuple[int, int] = (540, 960)
    ) -> None:
        if seed < 0:
            raise ConfigError(f"a scene's seed is 0 or more, not {quoted(seed)}")
        if frames < 1 or not 0.1 <= fps <= 1000:
            raise ConfigError(f"a drive has at least 1 frame and 0.1 to 1000 a second, not {frames} and {fps:g}")
        if not all(64 <= side <= 4096 for side in size_hw):
            raise ConfigError(f"a scene is 64 to 4096 pixels high and wide, not {size_hw[0]}x{size_hw[1]}")
        self.preset, self.seed, self.frames, self.fps, self.size_hw = preset, seed, frames, fps, size_hw

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[SceneFrame]:
        seconds = (self.frames - 1) / self.fps
        world = build_world(self.preset, seed=self.seed, size_hw=self.size_hw, seconds=seconds)
        houses = house_shadows(world.things, world.light)
        for number in range(self.frames):
            yield _view(world, houses, number / self.fps, np.random.default_rng([world.seed, number]))


@dataclass(frozen=True, slots=True)
class _Owner:
    """A labelled piece in one view."""

    class_name: str
    track: int
    depth_m: float
    amodal_px: tuple[float, float, float, float]


def _view(world: World, houses: list[Float], seconds: float, rng: np.random.Generator) -> SceneFrame:
    camera = world.camera_at(seconds)
    present = [
        (thing, place)
        for thing in world.things
        if (place := thing.at(seconds))[1] + thing.half[1] - camera.z_m > _BEHIND_M and _in_reach(thing, place, camera)
    ]
    instances, crowns, owners = _instances(present, houses, camera, seconds)
    faces = seen_faces(instances, camera, world.light)
    boxes = np.array(
        [(x - t.half[0], x + t.half[0], z - t.half[1], z + t.half[1]) for t, (x, z) in present], np.float32
    )
    polygons, colours = ground_polygons(world.patches, camera)
    spread = np.array([thing.spread_m for thing, _ in present], np.float32)
    order = far_to_near(boxes, (camera.x_m, camera.z_m), spread)
    raster = rasterise(camera, polygons, faces, crowns, order, len(owners))
    shadow, under = shadow_masks(present, houses, camera, world.light)
    look = Look(colours, shadow, under, world.seed, 0.5 + world.road.wear)
    light_bgr, depth = paint(raster, camera, world.light, look)
    image = develop(light_bgr, world.light.exposure, world.finish, rng)
    objects, ignore, ids = _labels(raster, owners, camera)
    return SceneFrame(image, depth, objects, ignore, ids, camera, world.attributes)


def _in_reach(thing: Thing, place: tuple[float, float], camera: Camera) -> bool:
    """Return whether a thing can be in the picture at all, its shadow aside."""
    away_x, away_z = place[0] - camera.x_m, place[1] - camera.z_m
    reach = max(thing.half) * 1.5 + thing.height
    wide = camera.size_hw[1] / 2 / camera.focal_px + 0.12
    return abs(away_x) < wide * max(away_z, 0) + reach + 6


def _instances(
    present: list[tuple[Thing, tuple[float, float]]], houses: list[Float], camera: Camera, seconds: float
) -> tuple[list[Instance], list[Crown], list[_Owner]]:
    instances: list[Instance] = []
    crowns: list[Crown] = []
    owners: list[_Owner] = []
    for group, (thing, (x, z)) in enumerate(present):
        turn = np.radians(thing.yaw_deg)
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        depth = max(1.0, z - camera.z_m)
        fine = camera.focal_px * max(thing.height, 1.0) / depth > _FINE_PX * camera.size_hw[1] / 960
        sunlit = 1.0
        if houses and thing.shadow in ("box", "round", "pole") and in_shadow(houses, (x, z)):
            sunlit = 0.05 if thing.shadow == "box" else 0.4
        track = thing.track
        for piece in thing.pieces:
            dx, dy, dz = piece.offset
            position = (x + cos * dx + sin * dz, dy, z + cos * dz - sin * dx)
            owner = -1
            mesh = mesh_of(piece, fine, thing.step(seconds))
            instance = Instance(mesh, position, piece.palette, group, thing.yaw_deg, piece.scale, -1, sunlit)
            if piece.class_name:
                owner = len(owners)
                owners.append(
                    _Owner(
                        piece.class_name,
                        track,
                        float(camera.to_camera(np.array(position))[2]),
                        _amodal(instance, camera),
                    )
                )
                track += 1
                instance = Instance(mesh, position, piece.palette, group, thing.yaw_deg, piece.scale, owner, sunlit)
            instances.append(instance)
        for leaf in thing.foliage:
            dx, dy, dz = leaf.offset
            crowns.append(
                Crown((x + dx, dy, z + dz), leaf.size_wh_m, leaf.index, leaf.mirrored, leaf.bgr, group, sunlit)
            )
    return instances, crowns, owners


def _amodal(instance: Instance, camera: Camera) -> tuple[float, float, float, float]:
    """Return the box of the whole object in the picture's plane, from the corners of the box around its mesh."""
    low, high = instance.mesh.low, instance.mesh.high
    corners = np.array([(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    corners = corners * instance.scale
    turn = np.radians(instance.yaw_deg)
    cos, sin = np.cos(turn), np.sin(turn)
    x, z = cos * corners[:, 0] + sin * corners[:, 2], cos * corners[:, 2] - sin * corners[:, 0]
    seen = camera.to_camera(np.column_stack([x, corners[:, 1], z]) + instance.position)
    seen[:, 2] = np.maximum(seen[:, 2], 0.5)
    pixels = seen[:, :2] * (camera.focal_px / seen[:, 2:]) + camera.centre_px
    (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _labels(
    raster: Raster, owners: list[_Owner], camera: Camera
) -> tuple[tuple[SceneObject, ...], tuple[SceneObject, ...], NDArray[np.int32]]:
    """Read boxes, occlusion and truncation out of the face numbers."""
    height, width = camera.size_hw
    tracks = np.array([owner.track for owner in owners] + [-1], np.int32)
    seen = np.take(raster.owner_of, raster.face, mode="clip")
    scale = width / 960
    objects: list[SceneObject] = []
    ignore: list[SceneObject] = []
    for index, owner in enumerate(owners):
        if not raster.whole[index]:
            continue
        left, top, right, bottom = owner.amodal_px
        x0, y0 = max(0, int(left) - 3), max(0, int(top) - 3)
        region = seen[y0 : max(0, int(bottom) + 4), x0 : max(0, int(right) + 4)] == index
        visible = int(np.count_nonzero(region))
        if not visible:
            continue
        x, y, wide, high = cv2.boundingRect(region.view(np.uint8))
        box = float(x0 + x), float(y0 + y), float(x0 + x + wide), float(y0 + y + high)
        occluded = 1 - visible / max(int(raster.whole[index]), visible)
        inside = max(0.0, min(right, width) - max(left, 0.0)) * max(0.0, min(bottom, height) - max(top, 0.0))
        truncated = 1 - inside / max((right - left) * (bottom - top), 1e-6)
        thing = SceneObject(owner.class_name, box, occluded, min(max(truncated, 0.0), 1.0), owner.track, owner.depth_m)
        large = box[3] - box[1] >= _LEAST_HEIGHT_PX * scale and box[2] - box[0] >= _LEAST_WIDTH_PX * scale
        (objects if large and 1 - occluded >= _LEAST_VISIBLE else ignore).append(thing)
    return tuple(objects), tuple(ignore), np.take(tracks, seen, mode="wrap")
