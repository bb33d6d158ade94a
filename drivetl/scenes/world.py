"""One place and everyone in it, drawn from a preset and a seed; frames are views of it at different times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from drivetl.scenes.camera import Camera
from drivetl.scenes.finish import CameraFinish, sample_finish
from drivetl.scenes.light import Light, sample_light
from drivetl.scenes.presets import Preset
from drivetl.scenes.roads import Patch, Road, flat_patches, sample_road
from drivetl.scenes.street import street_things
from drivetl.scenes.things import Thing
from drivetl.scenes.traffic import traffic_things

__all__ = ["World", "build_world"]

_VIEW_M = 260.0


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A place.

    Attributes:
        camera: where the camera is at time 0.
        speed_mps: how fast it moves along the road.
        light, finish, road: drawn once.
        patches: what lies flat.
        things: what stands and moves.
        tracks: how many labelled pieces there are.
        seed: for clouds and grain.
        attributes: conditions under BDD100K's names.
    """

    camera: Camera
    speed_mps: float
    light: Light
    finish: CameraFinish
    road: Road
    patches: tuple[Patch, ...]
    things: tuple[Thing, ...]
    tracks: int
    seed: int
    attributes: Mapping[str, str | int | float]

    def camera_at(self, seconds: float) -> Camera:
        """Return the camera after some seconds of driving; it sways a little."""
        sway = 0.12 * float(np.sin(seconds * 1.7)) * min(1.0, self.speed_mps / 5)
        return replace(
            self.camera,
            z_m=self.camera.z_m + self.speed_mps * seconds,
            pitch_deg=self.camera.pitch_deg + sway * 0.6,
            yaw_deg=self.camera.yaw_deg + sway,
        )


def build_world(preset: Preset, *, seed: int, size_hw: tuple[int, int], seconds: float = 0.0) -> World:
    """Draw a place long enough for a drive of so many seconds."""
    # Each part has its own generator, so that a change to one leaves the others as they were.
    streams = iter(np.random.SeedSequence(seed).spawn(8))
    camera_rng, light_rng, finish_rng, road_rng, patch_rng, street_rng, traffic_rng, spare = (
        np.random.default_rng(stream) for stream in streams
    )
    speed = float(camera_rng.uniform(5, 13))
    road = sample_road(preset.road, _VIEW_M + speed * seconds, road_rng)
    pitch = float(camera_rng.uniform(*preset.camera.pitch_deg))
    camera = Camera(
        size_hw,
        focal_px=float(camera_rng.uniform(*preset.camera.focal_share)) * max(size_hw),
        height_m=float(camera_rng.uniform(*preset.camera.height_m)),
        pitch_deg=pitch,
        yaw_deg=float(np.clip(camera_rng.normal(0, 1.8), -4, 4)),
        x_m=road.lane_x(0, 1) + float(camera_rng.normal(0, 0.25)),
    )
    light = sample_light(preset.light, light_rng)
    finish = sample_finish(preset.finish, finish_rng)
    things, tracks = [], 0
    for thing in (*street_things(road, preset, street_rng), *traffic_things(road, preset, speed, traffic_rng)):
        labelled = sum(bool(piece.class_name) for piece in thing.pieces)
        things.append(replace(thing, track=tracks) if labelled else thing)
        tracks += labelled
    weather = "clear" if light.sunny and light.cloud_cover < 0.35 else "partly cloudy" if light.sunny else "overcast"
    attributes: dict[str, str | int | float] = {
        "weather": weather,
        "scene": preset.scene,
        "timeofday": preset.light.timeofday,
        "preset": preset.name,
        "seed": seed,
        "jpeg_quality": finish.jpeg_quality,
        "camera_height_m": round(camera.height_m, 3),
        "focal_px": round(camera.focal_px, 2),
        "pitch_deg": round(pitch, 3),
    }
    return World(
        camera,
        speed,
        light,
        finish,
        road,
        tuple(flat_patches(road, preset.road, patch_rng)),
        tuple(things),
        tracks,
        int(spare.integers(1 << 31)),
        attributes,
    )
