"""What rendering gives: the picture and everything that is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivetl.scenes.camera import Camera, Float
from drivetl.taxonomy import DRIVING_CLASSES

__all__ = ["SCENE_CLASSES", "SceneFrame", "SceneObject"]

# The driving taxonomy without trains: no scene has rails, and a class without examples has no figure.
SCENE_CLASSES = tuple(name for name in DRIVING_CLASSES if name != "train")


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object that can be seen.

    Attributes:
        class_name: one of `SCENE_CLASSES`.
        xyxy_px: the box around its visible pixels, in continuous pixels.
        occluded: share of its pixels in the picture that something nearer covers, 0 to 1.
        truncated: share of its whole box that lies outside the picture, 0 to 1.
        track_id: stays the same through a sequence.
        depth_m: depth of its middle.
    """

    class_name: str
    xyxy_px: tuple[float, float, float, float]
    occluded: float
    truncated: float
    track_id: int
    depth_m: float


@dataclass(frozen=True, slots=True, eq=False)
class SceneFrame:
    """One rendered picture.

    Attributes:
        image_bgr: uint8 (height, width, 3).
        depth_m: float32 (height, width): depth along the optical axis; infinite in the sky.
        objects: what is large enough to be labelled.
        ignore: boxes and classes of objects that are visible and too small or too hidden to be labelled.
        track_ids: int32 (height, width): whose pixel it is; -1 for no object.
        camera: the camera that took it.
        attributes: conditions under BDD100K's names.
    """

    image_bgr: NDArray[np.uint8]
    depth_m: Float
    objects: tuple[SceneObject, ...]
    ignore: tuple[SceneObject, ...]
    track_ids: NDArray[np.int32]
    camera: Camera
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
