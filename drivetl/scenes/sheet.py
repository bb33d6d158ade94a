"""A contact sheet: twelve scenes side by side, with their boxes if wanted."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError
from drivetl.progress import Progress, silent, tracked
from drivetl.scenes.camera import u8
from drivetl.scenes.frame import SCENE_CLASSES, SceneFrame
from drivetl.scenes.presets import Preset
from drivetl.scenes.render import render_scene

__all__ = ["contact_sheet", "draw_boxes"]

_GAP_PX = 4
# One colour a class, BGR, in the order of `SCENE_CLASSES`.
_COLOURS = (
    (60, 90, 250),
    (60, 160, 255),
    (80, 230, 250),
    (60, 200, 140),
    (80, 220, 60),
    (220, 200, 40),
    (250, 140, 40),
    (240, 90, 120),
    (200, 80, 240),
)


def draw_boxes(frame: SceneFrame, width_px: int | None = None) -> NDArray[np.uint8]:
    """Return the picture, scaled to a width if one is given, with a line around every labelled object.

    The line's outer edge is the box.
    """
    scale = 1.0 if width_px is None else width_px / frame.image_bgr.shape[1]
    image = frame.image_bgr.copy() if width_px is None else _scaled(frame.image_bgr, width_px)
    for thing in frame.objects:
        left, top, right, bottom = (round(value * scale) for value in thing.xyxy_px)
        colour = _COLOURS[SCENE_CLASSES.index(thing.class_name)]
        cv2.rectangle(image, (left, top), (max(right - 1, left), max(bottom - 1, top)), colour, 1)
    return image


def _scaled(image_bgr: NDArray[np.uint8], width_px: int) -> NDArray[np.uint8]:
    height_px = round(width_px * image_bgr.shape[0] / image_bgr.shape[1])
    return u8(cv2.resize(image_bgr, (width_px, height_px), interpolation=cv2.INTER_AREA))


def contact_sheet(
    presets: Sequence[Preset],
    *,
    seed: int = 0,
    count: int = 12,
    columns: int = 3,
    cell_width_px: int = 480,
    boxes: bool = True,
    progress: Progress = silent,
) -> NDArray[np.uint8]:
    """Return a picture of ``count`` scenes, uint8 BGR; the presets take turns, and the seeds count up from ``seed``.

    Raises:
        ConfigError: there is no preset or no scene to draw, or a seed is out of range.
    """
    if not presets or count < 1 or columns < 1:
        raise ConfigError(f"a contact sheet needs a preset, a scene and a column, not {count} scenes in {columns}")
    cells = []
    for index in tracked(range(count), "rendering", count, progress):
        frame = render_scene(presets[index % len(presets)], seed=seed + index)
        cells.append(draw_boxes(frame, cell_width_px) if boxes else _scaled(frame.image_bgr, cell_width_px))
    rows = -(-count // columns)
    height_px = cells[0].shape[0]
    size = (rows * (height_px + _GAP_PX) + _GAP_PX, columns * (cell_width_px + _GAP_PX) + _GAP_PX, 3)
    sheet = np.full(size, 24, np.uint8)
    for index, cell in enumerate(cells):
        top = _GAP_PX + (index // columns) * (height_px + _GAP_PX)
        left = _GAP_PX + (index % columns) * (cell_width_px + _GAP_PX)
        sheet[top : top + height_px, left : left + cell_width_px] = cell
    return sheet
