"""When the frames of a file are shown, where they keep no even rate."""

from __future__ import annotations

import math

__all__ = ["FrameClock"]

_LEAST_STEP_S = 0.001  # between two frames, so that each has a time of its own


class FrameClock:
    """Finds out from the container's times whether frames keep the stated rate, and if not, when each is shown.

    Attributes:
        uneven: whether a frame came off the even rate by more than half a frame; from then on its own times count.
    """

    def __init__(self, fps: float) -> None:
        self.uneven = False
        self._fps, self._count = fps, 0
        self._first_s = self._found_s = self._shown_s = 0.0

    def __call__(self, place_s: float) -> float | None:
        """Return when the next frame is shown, in seconds after the first; None as long as the even rate says so.

        Containers round times to milliseconds, so half a frame beside the even time is even. Where a reader gives no
        time, or one that goes back (OpenCV for the last frames of an AVI), the frame follows the one before evenly.

        Args:
            place_s: where the container places the frame.
        """
        even_s = self._count / self._fps
        self._count += 1
        if self._count == 1:
            self._first_s = place_s if math.isfinite(place_s) else 0.0
            return None
        found_s = place_s - self._first_s
        if math.isfinite(found_s) and found_s > self._found_s:
            self.uneven |= abs(found_s - even_s) > 0.5 / self._fps
        else:
            found_s = self._found_s + 1 / self._fps
        self._found_s = found_s
        self._shown_s = max(found_s, self._shown_s + _LEAST_STEP_S) if self.uneven else even_s
        return self._shown_s if self.uneven else None
