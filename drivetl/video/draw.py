"""Boxes, labels and the line of figures on a frame: readable on a thumbnail and on 4K, and to colour-blind eyes.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any common colour vision
deficiency tell apart. A class has the same colour in every model and every run, because the colour follows from its
name, and the name is written beside the box, so that nothing hangs on colour alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.runtime import Detections
from drivetl.taxonomy import canonical_name

__all__ = ["annotate", "class_colour_bgr", "draw_status", "text_colour_bgr"]

Colour = tuple[int, int, int]

_ORANGE = (0, 159, 230)
_SKY_BLUE = (233, 180, 86)
_GREEN = (115, 158, 0)
_YELLOW = (66, 228, 240)
_BLUE = (178, 114, 0)
_VERMILION = (0, 94, 213)
_PURPLE = (167, 121, 204)
_WHITE = (255, 255, 255)
_BLACK = (0, 0, 0)

_PALETTE: tuple[Colour, ...] = (_ORANGE, _SKY_BLUE, _GREEN, _YELLOW, _BLUE, _VERMILION, _PURPLE)
# Kinds that look alike on the road get colours that do not; two wheels and their riders share a family.
_CLASS_COLOURS = MappingProxyType(
    {
        "person": _VERMILION,
        "rider": _PURPLE,
        "bicycle": _PURPLE,
        "motorcycle": _PURPLE,
        "car": _SKY_BLUE,
        "truck": _ORANGE,
        "bus": _YELLOW,
        "train": _BLUE,
        "traffic light": _GREEN,
        "traffic sign": _WHITE,
        "stop sign": _WHITE,
    }
)

# OpenCV 5 draws its built-in TrueType font for this number, OpenCV 4 the strokes of Hershey.
_FONT = cv2.FONT_HERSHEY_DUPLEX
_REFERENCE_HEIGHT_PX = 14.0  # of getTextSize at scale 0.5 in OpenCV 5; only the proportion matters
_STATUS_DARKENING = 0.35


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes in pixels that suit one frame size."""

    line_px: int
    font_scale: float
    text_height_px: int
    margin_px: int

    @classmethod
    def for_size(cls, size_hw: tuple[int, int]) -> _Style:
        # The short side decides, so that a panorama does not get huge letters; 11 px is the least that can be read.
        text_px = float(np.clip(0.024 * min(size_hw), 11, 80))
        scale = 0.5 * text_px / _REFERENCE_HEIGHT_PX
        return cls(
            line_px=max(1, round(text_px / 8)),
            font_scale=scale,
            text_height_px=round(text_px),
            margin_px=max(2, round(text_px / 4)),
        )

    def text_size(self, text: str) -> tuple[int, int, int]:
        """Return width, height above the baseline and depth below it of a line of text."""
        (width, height), depth = cv2.getTextSize(text, _FONT, self.font_scale, 1)
        # Descenders of the TrueType font hang below the depth that is reported.
        return width, height, max(depth, round(0.25 * self.text_height_px))


def class_colour_bgr(name: str) -> Colour:
    """Return the colour of a class, as BGR bytes; it depends on the name alone."""
    known = _CLASS_COLOURS.get(canonical_name(name))
    return known if known is not None else _PALETTE[zlib.crc32(name.encode()) % len(_PALETTE)]


def text_colour_bgr(background_bgr: Colour) -> Colour:
    """Return black or white, whichever stands out more on a background (WCAG 2.2, relative luminance)."""
    linear = [(c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in background_bgr]
    luminance = 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]
    # The contrast with white, 1.05 / (L + 0.05), equals that with black, (L + 0.05) / 0.05, at L = 0.179.
    return _BLACK if luminance > 0.179 else _WHITE


def annotate(image_bgr: NDArray[np.uint8], detections: Detections, class_names: Sequence[str]) -> None:
    """Draw boxes and their labels, such as ``car 87%``, onto a frame, in place.

    Args:
        image_bgr: uint8 ``(height, width, 3)``; any size.
        detections: boxes in pixels of this frame.
        class_names: by class id.
    """
    height, width = image_bgr.shape[:2]
    style = _Style.for_size((height, width))
    # Least confident first, so that the surest lies on top.
    order = range(len(detections) - 1, -1, -1)
    corners = np.rint(detections.xyxy_px).astype(int).tolist()
    colours = [class_colour_bgr(class_names[int(index)]) for index in detections.class_id]
    for index in order:
        left, top, right, bottom = corners[index]
        cv2.rectangle(image_bgr, (left, top), (right, bottom), _BLACK, style.line_px + 2, cv2.LINE_AA)
    for index in order:
        left, top, right, bottom = corners[index]
        cv2.rectangle(image_bgr, (left, top), (right, bottom), colours[index], style.line_px, cv2.LINE_AA)
    taken: list[tuple[int, int, int, int]] = []
    for index in reversed(order):
        text = f"{class_names[int(detections.class_id[index])]} {detections.confidence[index]:.0%}"
        plate = _place(corners[index], style, text, (height, width), taken)
        if plate[2] > width or plate[3] > height:
            continue  # a frame smaller than its label: the box alone
        taken.append(plate)
        _draw_plate(image_bgr, plate, text, colours[index], style)


def _place(
    corner: Sequence[int], style: _Style, text: str, size_hw: tuple[int, int], taken: list[tuple[int, int, int, int]]
) -> tuple[int, int, int, int]:
    """Return where a label goes, ``(left, top, right, bottom)``: the first place that is free and in the frame."""
    left, top, right, bottom = corner
    text_width, ascent, depth = style.text_size(text)
    plate_width, plate_height = text_width + 2 * style.margin_px, ascent + depth + style.margin_px
    half = style.line_px // 2
    places = [
        (left - half, top - plate_height),
        (right + half - plate_width, top - plate_height),
        (left - half, bottom),
        (right + half - plate_width, bottom),
        (left - half, top),
    ]
    plates = [_inside(x, y, plate_width, plate_height, size_hw) for x, y in places]
    return next((plate for plate in plates if not any(_overlap(plate, other) for other in taken)), plates[0])


def _inside(left: int, top: int, width: int, height: int, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    left = max(0, min(left, size_hw[1] - width))
    top = max(0, min(top, size_hw[0] - height))
    return left, top, left + width, top + height


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_plate(
    image_bgr: NDArray[np.uint8], plate: tuple[int, int, int, int], text: str, colour: Colour, style: _Style
) -> None:
    left, top, right, bottom = plate
    cv2.rectangle(image_bgr, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)
    _, _, depth = style.text_size(text)
    at = (left + style.margin_px, bottom - depth - style.margin_px // 2)
    cv2.putText(image_bgr, text, at, _FONT, style.font_scale, text_colour_bgr(colour), 1, cv2.LINE_AA)


def draw_status(image_bgr: NDArray[np.uint8], parts: Sequence[str]) -> None:
    """Write a line of figures on a darkened strip at the top of a frame, in place.

    Parts that do not fit side by side are left out from the end, so that a small frame shows the first whole.
    """
    height, width = image_bgr.shape[:2]
    style = _Style.for_size((height, width))
    text = ""
    for part in parts:
        longer = f"{text}   {part}" if text else part
        if style.text_size(longer)[0] + 3 * style.margin_px > width:
            break
        text = longer
    if not text:
        return
    _, ascent, depth = style.text_size(text)
    strip_height = min(height, ascent + depth + 2 * style.margin_px)
    strip = image_bgr[:strip_height]
    strip[:] = (strip * _STATUS_DARKENING).astype(np.uint8)
    at = (2 * style.margin_px, strip_height - depth - style.margin_px)
    cv2.putText(image_bgr, text, at, _FONT, style.font_scale, _WHITE, 1, cv2.LINE_AA)
