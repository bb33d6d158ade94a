"""A renderer of driving scenes with exact boxes and depth: numpy and OpenCV, seeded, no material needed."""

from __future__ import annotations

from drivetl.scenes.camera import Camera
from drivetl.scenes.dataset import write_scenes_dataset
from drivetl.scenes.frame import SCENE_CLASSES, SceneFrame, SceneObject
from drivetl.scenes.presets import Preset, known_presets, load_preset
from drivetl.scenes.render import SceneSequence, render_scene

__all__ = [
    "SCENE_CLASSES",
    "Camera",
    "Preset",
    "SceneFrame",
    "SceneObject",
    "SceneSequence",
    "known_presets",
    "load_preset",
    "render_scene",
    "write_scenes_dataset",
]
