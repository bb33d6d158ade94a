"""Where tracked objects came from: a line behind each that fades."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.video.draw import class_colour_bgr, line_width_px
from drivetl.video.tracking import Tracked

__all__ = ["Tails"]

_LENGTH_S = 1.5
_MOST_POINTS = 60
# Unseen for longer, an object's tail is not drawn: on the empty road it would speak of a car that is not there.
_UNSEEN_S = 0.25


class Tails:
    """The last 1.5 seconds of every object that is in sight."""

    def __init__(self, fps: float) -> None:
        # At high rates not every frame becomes a point.
        self._now_s = 0.0
        self._every_s = max(_LENGTH_S / _MOST_POINTS, 1 / fps) * 0.9
        self._points: dict[int, deque[tuple[float, float, float]]] = {}
        self._class_of: dict[int, int] = {}

    def add(self, tracked: Tracked, now_s: float) -> None:
        """Take the feet of all boxes (middle of the lower edge) at a time in seconds; forget what is out of sight."""
        self._now_s = now_s
        for number, box, kind in zip(
            tracked.track_id.tolist(), tracked.smooth_xyxy_px, tracked.detections.class_id.tolist(), strict=True
        ):
            if number < 0:
                continue
            points = self._points.setdefault(number, deque(maxlen=_MOST_POINTS + 2))
            point = ((float(box[0]) + float(box[2])) / 2, float(box[3]), now_s)
            if len(points) > 1 and now_s - points[-2][2] < self._every_s:
                points[-1] = point
            else:
                points.append(point)
            self._class_of[number] = kind
        for number in [n for n, points in self._points.items() if now_s - points[-1][2] > _LENGTH_S]:
            del self._points[number], self._class_of[number]
        for points in self._points.values():
            while now_s - points[0][2] > _LENGTH_S:
                points.popleft()

    def draw(self, image_bgr: NDArray[np.uint8], class_names: Sequence[str]) -> None:
        """Draw the tails, in place: thin and dark where old, thick and bright where new."""
        width_px = line_width_px(image_bgr)
        for number, points in self._points.items():
            if self._now_s - points[-1][2] > _UNSEEN_S:
                continue
            colour = class_colour_bgr(class_names[self._class_of[number]])
            count = len(points)
            # Boxes far outside would leave the range of OpenCV's fixed-point coordinates.
            sixteenths = np.rint(np.array([(x, y) for x, y, _ in points]) * 16)
            route = np.clip(sixteenths, -(2**20), 2**20).astype(int).tolist()
            for index, (begin, end) in enumerate(itertools.pairwise(route), start=1):
                share = index / count
                shade = [round(0.35 * part + 0.65 * share * part) for part in colour]
                thick = max(1, round(width_px * (0.5 + share)))
                cv2.line(image_bgr, begin, end, shade, thick, cv2.LINE_AA, 4)
