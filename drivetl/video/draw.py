"""Boxes, labels and the line of figures on a frame: readable on a thumbnail and on 4K, and to colour-blind eyes.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any common colour vision
deficiency tell apart. A class has the same colour in every model and every run, because the colour follows from its
name, and the name is written beside the box, so that nothing hangs on colour alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.runtime import Detections
from drivetl.taxonomy import canonical_name

__all__ = ["annotate", "class_colour_bgr", "fit_into", "line_width_px", "text_colour_bgr"]

Colour = tuple[int, int, int]
_Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels

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
_DARKENED = (np.arange(256) * 0.35).astype(np.uint8)  # by level
_GAP, _NARROW_GAP = "    ", "  "
# The strip of figures has at most so many rows, and so large a share of the frame.
_MOST_ROWS, _STRIP_SHARE = 3, 0.25


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
        return _text_size(self, text)


@lru_cache(maxsize=1024)  # a video says the same few things in every frame
def _text_size(style: _Style, text: str) -> tuple[int, int, int]:
    (width, height), depth = cv2.getTextSize(text, _FONT, style.font_scale, 1)
    # Descenders of the TrueType font hang below the depth that is reported.
    return width, height, max(depth, round(0.25 * style.text_height_px))


@lru_cache(maxsize=1024)
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


def line_width_px(image_bgr: NDArray[np.uint8]) -> int:
    """Return how thick lines are that suit the size of a frame."""
    return _Style.for_size((image_bgr.shape[0], image_bgr.shape[1])).line_px


def fit_into(
    image_bgr: NDArray[np.uint8], size_wh: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[float, int, int]]:
    """Return a frame scaled into another size, aspect ratio kept, with black bars; and scale, left and top in pixels.

    A point (x, y) of the frame lies at (scale * x + left, scale * y + top).
    """
    width, height = size_wh
    scale = min(height / image_bgr.shape[0], width / image_bgr.shape[1])
    inner_wh = max(1, round(image_bgr.shape[1] * scale)), max(1, round(image_bgr.shape[0] * scale))
    scaled = cv2.resize(image_bgr, inner_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner_wh[1], left : left + inner_wh[0]] = scaled
    return canvas, (scale, left, top)


def annotate(
    image_bgr: NDArray[np.uint8],
    detections: Detections,
    class_names: Sequence[str],
    *,
    track_id: NDArray[np.int64] | None = None,
    figures: Sequence[str] = (),
    badge: str = "",
) -> None:
    """Draw boxes, their labels (``car 87%``, ``car #12 87%``) and a line of figures onto a frame, in place.

    Args:
        image_bgr: uint8 ``(height, width, 3)``; any size. What does not fit into one row of figures goes into a second
            and third, as long as they hide no more than a quarter of the frame; then the badge is shortened, and
            figures are left out from the end. So are labels that are larger than the frame.
        detections: boxes in pixels of this frame.
        class_names: by class id.
        track_id: int64 ``(n,)``, the number of each object, -1 for none; None leaves numbers out.
        figures: stand on a darkened strip at the top, from the left.
        badge: stands at its right end: a name, two spaces, and what is not to be shortened.
    """
    height, width = image_bgr.shape[:2]
    style = _Style.for_size((height, width))
    boxes: list[_Rectangle] = [tuple(box) for box in np.rint(detections.xyxy_px).astype(int).tolist()]
    names = [class_names[int(index)] for index in detections.class_id]
    # Least confident first, so that the surest lies on top.
    for index in reversed(range(len(boxes))):
        left, top, right, bottom = boxes[index]
        for colour, extra_px in ((_BLACK, 2), (class_colour_bgr(names[index]), 0)):
            cv2.rectangle(image_bgr, (left, top), (right, bottom), colour, style.line_px + extra_px, cv2.LINE_AA)
    strip_px = _draw_strip(image_bgr, figures, badge, style) if figures else 0
    plates: list[_Rectangle] = []
    for index, box in enumerate(boxes):
        number = -1 if track_id is None else int(track_id[index])
        small = box[3] - box[1] < 2 * style.text_height_px
        labels = _labels(names[index], number, float(detections.confidence[index]), small)
        others = boxes[:index] + boxes[index + 1 :]
        text, plate = _placed(box, style, labels, (strip_px, height, width), plates, others)
        if plate[2] > width or plate[3] > height:
            continue
        plates.append(plate)
        _draw_plate(image_bgr, plate, text, class_colour_bgr(names[index]), style)


def _labels(name: str, number: int, confidence: float, small: bool) -> tuple[str, ...]:
    """Return what may stand beside a box, the longest first; far objects get less, or labels would hide the distance.

    The last word alone will do where there is no room, because the colour says the class.
    """
    if number < 0:
        return (f"{name} {confidence:.0%}", f"{confidence:.0%}") if small else (f"{name} {confidence:.0%}",)
    return (f"{name} #{number}", f"#{number}") if small else (f"{name} #{number} {confidence:.0%}",)


def _placed(
    box: _Rectangle,
    style: _Style,
    labels: Sequence[str],
    area: tuple[int, int, int],
    plates: Sequence[_Rectangle],
    others: Sequence[_Rectangle],
) -> tuple[str, _Rectangle]:
    """Return a label and where it goes: beside its box, where it hides least of other labels and of other boxes.

    Args:
        box: what is labelled.
        style: sizes.
        labels: what it may say; a later one is taken only where it hides less.
        area: first row, height and width of where labels may lie.
        plates: labels that lie already; hiding one of them is worst.
        others: the other boxes.
    """
    candidates = [(text, plate) for text in labels for plate in _beside(box, style, text, area)]
    taken = np.array([*plates, *others], np.int64).reshape(-1, 4)
    weight = np.where(np.arange(len(taken)) < len(plates), 8, 1)
    places = np.array([plate for _, plate in candidates], np.int64)
    left_top = np.maximum(places[:, None, :2], taken[:, :2])
    right_bottom = np.minimum(places[:, None, 2:], taken[:, 2:])
    hidden = np.clip(right_bottom - left_top, 0, None).prod(axis=2) @ weight
    return candidates[int(np.argmin(hidden))]  # the first of equals


def _beside(box: _Rectangle, style: _Style, text: str, area: tuple[int, int, int]) -> list[_Rectangle]:
    """Return the places beside a box where a label can go, the best first."""
    left, top, right, bottom = box
    text_width, ascent, depth = style.text_size(text)
    width, height = text_width + 2 * style.margin_px, ascent + depth + style.margin_px
    half = style.line_px // 2
    corners = [
        (left - half, top - height),
        (right + half - width, top - height),
        (left - half, bottom + half),
        (right + half - width, bottom + half),
        (right + half, top - half),
        (left - half - width, top - half),
        (left - half, top - 2 * height),
        (left - half, bottom + half + height),
        (left - half, top - half),
    ]
    return [_inside(x, y, width, height, area) for x, y in corners]


def _inside(left: int, top: int, width: int, height: int, area: tuple[int, int, int]) -> _Rectangle:
    first_row, area_height, area_width = area
    left = max(0, min(left, area_width - width))
    top = max(first_row, min(top, area_height - height))
    return left, top, left + width, top + height


def _draw_plate(image_bgr: NDArray[np.uint8], plate: _Rectangle, text: str, colour: Colour, style: _Style) -> None:
    left, top, right, bottom = plate
    cv2.rectangle(image_bgr, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)
    _, _, depth = style.text_size(text)
    at = (left + style.margin_px, bottom - depth - style.margin_px // 2)
    cv2.putText(image_bgr, text, at, _FONT, style.font_scale, text_colour_bgr(colour), 1, cv2.LINE_AA)


def _draw_strip(image_bgr: NDArray[np.uint8], figures: Sequence[str], badge: str, style: _Style) -> int:
    """Write figures and badge; return the height of their strip, 0 if the frame is too small for any."""
    height, width = image_bgr.shape[:2]
    margin = 2 * style.margin_px
    _, ascent, depth = style.text_size("Ag")
    row_px = ascent + depth + style.margin_px
    most_rows = min(_MOST_ROWS, int(_STRIP_SHARE * height / row_px))
    # A single row may hide more, because without it nothing at all could be said.
    if not most_rows and row_px + style.margin_px <= height / 2:
        most_rows = 1
    rows = _rows(tuple(figures), badge, width - 2 * margin, most_rows, style)
    if not rows:
        return 0
    strip_px: int = len(rows) * row_px + style.margin_px
    strip = image_bgr[:strip_px]
    strip[:] = cv2.LUT(strip, _DARKENED)
    for index, (left, right) in enumerate(rows):
        baseline = (index + 1) * row_px - depth
        for text, x in ((left, margin), (right, width - margin - style.text_size(right)[0])):
            cv2.putText(image_bgr, text, (x, baseline), _FONT, style.font_scale, _WHITE, 1, cv2.LINE_AA)
    return strip_px


def _rows(figures: Sequence[str], badge: str, room_px: int, most_rows: int, style: _Style) -> list[tuple[str, str]]:
    """Return what stands at the left and at the right of each row of the strip, in as few rows as hold everything."""
    for gap in (_GAP, _NARROW_GAP):
        if most_rows and badge and style.text_size(gap.join((*figures, badge)))[0] <= room_px:
            return [(gap.join(figures), badge)]
    rows = _figure_rows(figures, room_px, most_rows, style)
    if not rows or not badge:
        return [(row, "") for row in rows]
    *above, last = rows
    beside_px = room_px - style.text_size(last + _GAP)[0]
    if most_rows == 1 or style.text_size(badge)[0] <= beside_px:
        return [*((row, "") for row in above), (last, _shortened(badge, beside_px, style))]
    # In a row of its own, if need be in place of the figures that matter least.
    return [*((row, "") for row in rows[: most_rows - 1]), ("", _shortened(badge, room_px, style))]


def _figure_rows(figures: Sequence[str], room_px: int, most_rows: int, style: _Style) -> list[str]:
    rows: list[str] = []
    for figure in figures:
        # Without its name where there is no room for it: the first of them is the latency.
        text = figure if style.text_size(figure)[0] <= room_px else " ".join(figure.split(" ")[-2:])
        if rows and style.text_size(rows[-1] + _GAP + text)[0] <= room_px:
            rows[-1] += _GAP + text
        elif len(rows) < most_rows and style.text_size(text)[0] <= room_px:
            rows.append(text)
        else:
            break
    return rows


@lru_cache(maxsize=64)  # the same in every frame
def _shortened(badge: str, room_px: int, style: _Style) -> str:
    """Return a badge with as much of its name as there is room for; nothing if that is no more than a few letters."""
    name, gap, rest = badge.partition("  ")
    candidates = [badge, *(f"{name[:count]}...{gap}{rest}" for count in range(len(name) - 1, 2, -1))]
    candidates += [f"{badge[:count]}..." for count in range(len(badge) - 1, 2, -1)]
    return next((text for text in candidates if style.text_size(text)[0] <= room_px), "")
