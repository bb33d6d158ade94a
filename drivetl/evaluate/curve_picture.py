"""The learning curve as a picture, drawn with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Band", "Mark", "draw_learning_curve"]

_WIDTH, _HEIGHT = 1000, 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 40, 90, 80
_INK, _GRID, _PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
_BLUE, _PALE_BLUE, _ORANGE, _PALE_ORANGE = (178, 114, 0), (240, 224, 200), (0, 94, 213), (200, 222, 250)
# Positions are drawn in sixteenths of a pixel.
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """A measured point: ``pictures`` labelled, accuracy 0 to 1, ``interval`` or None. 0 pictures: zero-shot."""

    pictures: int
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Band:
    """The law at rising numbers of pictures: its value and the ends of its interval, or None without intervals."""

    pictures: Sequence[float]
    value: Sequence[float]
    low: Sequence[float] | None
    high: Sequence[float] | None


def draw_learning_curve(marks: Sequence[Mark], band: Band | None, *, title: str) -> NDArray[np.uint8]:
    """Return the curve as a ``(640, 1000, 3)`` uint8 BGR picture.

    Args:
        marks: what was measured, at least one.
        band: the law; None where it could not be fitted.
        title: one line; characters other than ASCII become ``?``.
    """
    axes = _Axes(marks, band)
    canvas = np.full((_HEIGHT, _WIDTH, 3), _PAPER, np.uint8)
    axes.draw(canvas)
    if band is not None:
        _draw_band(canvas, axes, band, max(mark.pictures for mark in marks))
    label_end, level = -1, 0
    for mark in sorted(marks, key=lambda mark: mark.pictures):
        colour = _BLUE if mark.pictures else _ORANGE
        if mark.interval is not None:
            ends = [axes.point(mark.pictures, value) for value in mark.interval]
            cv2.line(canvas, ends[0], ends[1], colour, 2, cv2.LINE_AA, _SHIFT)
            for x, y in ends:
                cv2.line(canvas, (x - (5 << _SHIFT), y), (x + (5 << _SHIFT), y), colour, 2, cv2.LINE_AA, _SHIFT)
        x, y = axes.point(mark.pictures, mark.value)
        cv2.circle(canvas, (x, y), 5 << _SHIFT, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        # Above its bar; where points stand close together, higher than the one before.
        left = (x >> _SHIFT) - 18
        level = level + 1 if left < label_end else 0
        label_end = left + 46
        top = axes.point(mark.pictures, mark.interval[1] if mark.interval else mark.value)[1] >> _SHIFT
        _write(canvas, f"{mark.value:.3f}", (left, top - 10 - 16 * level), 0.45)
    _write(canvas, title, (_LEFT, 34), 0.6)
    _legend(canvas, band is not None)
    return canvas


class _Axes:
    """From pictures and accuracy to pixels; both axes are linear, and that of pictures starts at 0."""

    def __init__(self, marks: Sequence[Mark], band: Band | None) -> None:
        values = [mark.value for mark in marks] + [end for mark in marks for end in mark.interval or ()]
        counts = [float(mark.pictures) for mark in marks]
        if band is not None:
            values += [*band.value, *(band.low or ()), *(band.high or ())]
            counts += band.pictures
        self._most = max(*counts, 1.0)
        self._step = _nice(self._most / 6)
        self._rise = _nice(max(max(values) - min(values), 0.02) / 6)
        self._low = max(0.0, math.floor(min(values) / self._rise) * self._rise)
        self._high = max(math.ceil(max(values) / self._rise) * self._rise, self._low + self._rise)

    def point(self, pictures: float, value: float) -> tuple[int, int]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * pictures / self._most
        share = (min(max(value, self._low), self._high) - self._low) / (self._high - self._low)
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share
        return round(x * (1 << _SHIFT)), round(y * (1 << _SHIFT))

    def draw(self, canvas: NDArray[np.uint8]) -> None:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        for index in range(round((self._high - self._low) / self._rise) + 1):
            value = self._low + index * self._rise
            y = self.point(0, value)[1] >> _SHIFT
            cv2.line(canvas, (_LEFT, y), (right, y), _GRID, 1)
            _write(canvas, f"{value:.3g}", (_LEFT - 58, y + 5), 0.45)
        for index in range(int(self._most / self._step + 1e-9) + 1):
            x = self.point(index * self._step, self._low)[0] >> _SHIFT
            cv2.line(canvas, (x, bottom), (x, bottom + 6), _INK, 1)
            _write(canvas, f"{index * self._step:g}", (x - 10, bottom + 24), 0.45)
        cv2.rectangle(canvas, (_LEFT, _TOP), (right, bottom), _INK, 1)
        _write(canvas, "labelled training pictures", (_LEFT + 330, _HEIGHT - 22), 0.5)
        _write(canvas, "mAP50-95", (_LEFT - 70, _TOP - 14), 0.5)


def _draw_band(canvas: NDArray[np.uint8], axes: _Axes, band: Band, measured: int) -> None:
    """Draw the law, its interval lightly behind it; beyond what was measured in another colour."""
    for beyond, pale in ((False, _PALE_BLUE), (True, _PALE_ORANGE)):
        # The two parts share the last measured number, so that no gap stays between them.
        chosen = [i for i, p in enumerate(band.pictures) if (p >= measured if beyond else p <= measured)]
        if band.low is not None and band.high is not None:
            ring = [axes.point(band.pictures[i], band.high[i]) for i in chosen]
            ring += [axes.point(band.pictures[i], band.low[i]) for i in reversed(chosen)]
            cv2.fillPoly(canvas, [np.array(ring, np.int32)], pale, cv2.LINE_AA, _SHIFT)
    for beyond, colour in ((False, _BLUE), (True, _ORANGE)):
        chosen = [i for i, p in enumerate(band.pictures) if (p >= measured if beyond else p <= measured)]
        line = np.array([axes.point(band.pictures[i], band.value[i]) for i in chosen], np.int32)
        cv2.polylines(canvas, [line], False, colour, 2, cv2.LINE_AA, _SHIFT)


def _legend(canvas: NDArray[np.uint8], with_law: bool) -> None:
    entries = [("measured", _BLUE), ("zero-shot", _ORANGE)]
    if with_law:
        entries += [("power law", _BLUE), ("extrapolated", _ORANGE)]
    x = _LEFT + 110
    for number, (text, colour) in enumerate(entries):
        if number < 2:
            cv2.circle(canvas, (x, _TOP - 19), 5, colour, cv2.FILLED, cv2.LINE_AA)
        else:
            cv2.line(canvas, (x - 10, _TOP - 19), (x + 10, _TOP - 19), colour, 2, cv2.LINE_AA)
        _write(canvas, text, (x + 16, _TOP - 14), 0.45)
        x += 130
    _write(canvas, "bars and bands: 95 % intervals", (x, _TOP - 14), 0.45)


def _nice(step: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, … times a power of ten that is not below a step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _write(canvas: NDArray[np.uint8], text: str, origin: tuple[int, int], scale: float) -> None:
    # OpenCV's fonts have ASCII only.
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    cv2.putText(canvas, plain, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
