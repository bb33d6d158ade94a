"""A contact sheet: every condition in every severity, small, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from drivetl.data.pictures import MAX_PIXELS
from drivetl.errors import ConfigError, ImageError
from drivetl.progress import Progress, silent, tracked
from drivetl.weather.checks import MAX_SEVERITY, BgrImage, require_image, require_number, require_severity
from drivetl.weather.conditions import CONDITIONS, apply_weather, find_condition
from drivetl.weather.pixels import u8

__all__ = ["contact_sheet"]

_GAP_PX = 4
_CAPTION_PX = 22
# What is as fine as a pixel disappears when a picture is scaled down; these cells get a piece at full size.
_FINE = frozenset(("sensor_noise", "jpeg"))


def contact_sheet(
    image_bgr: BgrImage,
    *,
    conditions: Sequence[str] = tuple(CONDITIONS),
    severities: Sequence[int] = tuple(range(1, MAX_SEVERITY + 1)),
    seed: int = 0,
    cell_width_px: int = 384,
    progress: Progress = silent,
) -> BgrImage:
    """Return a picture with one row for each condition and one column for each severity, captioned, uint8 BGR.

    Weather is made at the full size of the picture and then scaled down. Noise and compression would disappear with
    that, so their cells carry a piece of the middle of the picture at full size.

    Raises:
        ImageError: the picture cannot be used, or is so long that the sheet would exceed `MAX_PIXELS`.
        ConfigError: an unknown condition or severity, or none.
    """
    image = require_image(image_bgr)
    if not conditions or not severities:
        raise ConfigError("a sheet without conditions or severities would be empty; name at least one of each")
    require_number("cell_width_px", cell_width_px, 16, 8192)
    names = [find_condition(name).name for name in conditions]
    levels = [require_severity(severity) for severity in severities]
    height_px = max(1, round(cell_width_px * image.shape[0] / image.shape[1]))
    if (pixels := len(names) * len(levels) * cell_width_px * height_px) > MAX_PIXELS:
        raise ImageError(
            f"the sheet of a {image.shape[1]}x{image.shape[0]} picture would have {pixels} pixels, over {MAX_PIXELS}; "
            "choose narrower cells or fewer conditions, or crop the picture"
        )
    rows = []
    for name in tracked(names, "weather", len(names), progress):
        cells = []
        for level in levels:
            weathered = apply_weather(image, name, level, rng=np.random.default_rng(seed))
            cells.append(_cell(weathered, f"{name} {level}", (cell_width_px, height_px), name in _FINE))
        rows.append(np.hstack(cells))
    return np.vstack(rows)


def _cell(image: BgrImage, caption: str, size_wh: tuple[int, int], with_detail: bool) -> BgrImage:
    small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
    if with_detail:
        height, width = (
            max(1, min(side, cell // 2)) for side, cell in zip(image.shape[:2], size_wh[::-1], strict=True)
        )
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        small[size_wh[1] - height :, size_wh[0] - width :] = image[top : top + height, left : left + width]
        cv2.rectangle(small, (size_wh[0] - width, size_wh[1] - height), (size_wh[0] - 1, size_wh[1] - 1), (235,) * 3, 1)
    cell = cv2.copyMakeBorder(small, _CAPTION_PX, _GAP_PX, _GAP_PX, _GAP_PX, cv2.BORDER_CONSTANT, value=(24, 24, 24))
    place = (_GAP_PX + 2, _CAPTION_PX - 7)
    cv2.putText(cell, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 235, 235), 1, cv2.LINE_AA)
    return u8(cell)
