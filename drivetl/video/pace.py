"""Holds frames back while they are watched: until they are due, and as long as the run is paused."""

from __future__ import annotations

import time
from collections.abc import Callable

from drivetl.video.settings import Controls

__all__ = ["Pace"]

# No wait is longer in one go, because nothing interrupts a sleep: a file may have a gap of minutes between two frames.
_SLICE_S = 0.05


class Pace:
    """The time of a file that somebody watches."""

    def __init__(self, fps: float, controls: Controls, stopped: Callable[[], bool]) -> None:
        """Begin now.

        Args:
            fps: frames a second of the source; a frame is let go so much earlier, because it still has a way to go.
            controls: tell whether the run is paused.
            stopped: asked while waiting; once it says yes, nothing is waited for.
        """
        self._lead_s, self._controls, self._stopped = 1 / fps, controls, stopped
        self._due_s, self._shown_s = time.perf_counter(), 0.0

    def while_paused(self) -> None:
        """Wait until the run goes on."""
        while self._controls.paused and not self._stopped():
            time.sleep(_SLICE_S)

    def until_due(self, shown_s: float) -> None:
        """Wait until a frame is due that is shown so many seconds after the first, and not paused."""
        step_s, self._shown_s = shown_s - self._shown_s, shown_s
        self._due_s = max(self._due_s + step_s, time.perf_counter())
        while (left_s := self._due_s - self._lead_s - time.perf_counter()) > 0 and not self._stopped():
            time.sleep(min(left_s, _SLICE_S))
        self.while_paused()
