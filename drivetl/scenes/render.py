"""From a preset and a seed to a picture (a placeholder: boxes on a plane)."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from drivetl.scenes.camera import Camera
from drivetl.scenes.frame import SceneFrame, SceneObject
from drivetl.scenes.presets import Preset

__all__ = ["SceneSequence", "render_scene"]


def render_scene(preset: Preset, *, seed: int, size_hw: tuple[int, int] = (540, 960)) -> SceneFrame:
    """Render one scene."""
    return next(iter(SceneSequence(preset, seed=seed, frames=1, fps=10, size_hw=size_hw)))


class SceneSequence:
    """A drive: frames with stable track ids."""

    def __init__(
        self, preset: Preset, *, seed: int, frames: int, fps: float = 10, size_hw: tuple[int, int] = (540, 960)
    ) -> None:
        self.preset, self.seed, self.frames, self.fps, self.size_hw = preset, seed, frames, fps, size_hw

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[SceneFrame]:
        height, width = self.size_hw
        camera = Camera(self.size_hw, 0.7 * width, 1.5)
        rng = np.random.default_rng(self.seed)
        cars = [(i, float(rng.uniform(-6, 6)), float(rng.uniform(8, 50))) for i in range(5)]
        for _ in range(self.frames):
            image = np.full((height, width, 3), 120, np.uint8)
            depth = np.full((height, width), np.inf, np.float32)
            first, ground, _ = camera.ground_rows()
            depth[first:] = ground[:, None]
            ids = np.full((height, width), -1, np.int32)
            objects = []
            for track, x, z in sorted(cars, key=lambda car: -car[2]):
                corners = np.array([[x - 0.9, 0, z], [x + 0.9, 1.5, z]])
                (a, b), d = camera.project(corners)
                left, right, top, bottom = int(a[0]), int(b[0]), int(b[1]), int(a[1])
                box = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
                if box[2] - box[0] < 4 or box[3] - box[1] < 4:
                    continue
                cv2.rectangle(image, (box[0], box[1]), (box[2] - 1, box[3] - 1), (30, 30, 160), -1)
                ids[box[1] : box[3], box[0] : box[2]] = track
                depth[box[1] : box[3], box[0] : box[2]] = d[0]
                objects.append(SceneObject("car", tuple(float(v) for v in box), 0.0, 0.0, track, float(d[0])))  # type: ignore[arg-type]
            attributes = {"timeofday": self.preset.light.timeofday, "scene": self.preset.scene, "weather": "clear"}
            yield SceneFrame(image, depth, tuple(objects), (), ids, camera, {**attributes, "jpeg_quality": 92})
