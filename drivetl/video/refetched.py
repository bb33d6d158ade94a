"""Tells a recording that is fetched again from its beginning from a camera that came back."""

from __future__ import annotations

import zlib
from array import array

import numpy as np
from numpy.typing import NDArray

__all__ = ["Refetched"]

# Of one pixel in 16 by 16: enough to tell pictures apart, and no work beside decoding them.
_STEP_PX = 16
# A camera that looks at a dark garage repeats itself too; so there must be some different pictures at the beginning.
_HEAD, _LEAST_DIFFERENT = 50, 4
# Eleven hours at 25 frames a second, in 4 MiB.
_MOST_MARKS = 1 << 20


class Refetched:
    """Compares the frames of each connection with those that came before, place by place.

    A recording over HTTP that states no length ends as if the connection broke, and is there again for whoever
    connects again. Where frames are the very ones of before they are known; what comes after them is new.
    """

    def __init__(self) -> None:
        self._marks = array("I")
        self._place = 0
        self._repeats = self._anything_new = False

    def connected(self) -> None:
        """Begin a new connection."""
        self._repeats = len(set(self._marks[:_HEAD])) >= _LEAST_DIFFERENT and len(self._marks) < _MOST_MARKS
        if not self._repeats:
            self._marks = array("I")
        self._place = 0
        self._anything_new = False

    def known(self, image_bgr: NDArray[np.uint8]) -> bool:
        """Say whether the next frame of this connection, uint8 ``(height, width, 3)`` BGR, came before at its place."""
        mark = zlib.crc32(image_bgr[::_STEP_PX, ::_STEP_PX].tobytes())
        place, self._place = self._place, self._place + 1
        if self._repeats and place < len(self._marks):
            if self._marks[place] == mark:
                return True
            self._repeats = False
            del self._marks[place:]
        self._anything_new = True
        if len(self._marks) < _MOST_MARKS:
            self._marks.append(mark)
        return False

    @property
    def over(self) -> bool:
        """Whether the connection that just ended gave all frames of before once more and none that is new."""
        return self._repeats and not self._anything_new and self._place == len(self._marks)
