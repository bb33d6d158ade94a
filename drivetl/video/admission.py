"""When a frame of a camera or stream may set out: as soon as it would not have to wait on its way.

Between two stages a frame grows old, and nobody drops it there. So it is kept from setting out while a slow stage, be
it the network, the encoder or a window, has no time for it; meanwhile newer frames take its place in front.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Admission"]

_POLL_S = 0.1
# The usual time of a stage is the median of so many frames: one that was held up once tells nothing about the next.
_REMEMBERED = 9
# Frames may come a little early: where every one came just in time, the slowest stage would idle half of the times.
_EARLY_S = 0.005


class Admission:
    """Knows what every stage is doing and how long it usually takes; each works on one frame at a time, in order."""

    def __init__(self, stages: int, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin with no frame on its way.

        Args:
            stages: that a frame goes through, numbered from 0.
            clock: gives the time in seconds.
        """
        self._clock = clock
        self._taken_s: list[deque[float]] = [deque(maxlen=_REMEMBERED) for _ in range(stages)]
        self._since_s: list[float | None] = [None] * stages
        self._waiting = [0] * stages
        self._changed = threading.Condition()

    def begin(self, stage: int) -> None:
        """Note that a stage begins with its next frame."""
        with self._changed:
            self._waiting[stage] -= stage > 0
            self._since_s[stage] = self._clock()

    def end(self, stage: int) -> None:
        """Note that a stage is through with its frame, which from now on waits for the stage behind it."""
        with self._changed:
            since_s = self._since_s[stage]
            assert since_s is not None
            self._taken_s[stage].append(self._clock() - since_s)
            self._since_s[stage] = None
            if stage + 1 < len(self._waiting):
                self._waiting[stage + 1] += 1
            self._changed.notify_all()

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Wait until a frame that sets out would not have to wait on its way, or until ``stopped`` says yes."""
        with self._changed:
            while (delay_s := self.delay_s()) > _EARLY_S and not stopped():
                self._changed.wait(min(delay_s - _EARLY_S, _POLL_S))

    def delay_s(self) -> float:
        """Return how long a frame that set out now would wait on its way, as long as the stages keep their habits.

        Infinite while a frame is on its way and a stage has not had any yet.
        """
        now_s = self._clock()
        on_their_way = any(self._waiting) or any(since_s is not None for since_s in self._since_s)
        if not all(self._taken_s):
            return math.inf if on_their_way else 0.0
        usual_s = [statistics.median(taken_s) for taken_s in self._taken_s]
        free_s = [now_s] * len(usual_s)

        def send(stage: int, ready_s: float) -> float:
            """Let a frame go on from a stage; return how long it waits, and leave in ``free_s`` when it is through."""
            waited_s = 0.0
            for place in range(stage, len(usual_s)):
                begins_s = max(ready_s, free_s[place])
                waited_s += begins_s - ready_s
                ready_s = free_s[place] = begins_s + usual_s[place]
            return waited_s

        # The frame that set out first comes first.
        for stage in reversed(range(len(usual_s))):
            since_s = self._since_s[stage]
            if since_s is not None:
                # What is late already is expected to need as long again as it is late.
                free_s[stage] = now_s + abs(since_s + usual_s[stage] - now_s)
                send(stage + 1, free_s[stage])
            for _ in range(self._waiting[stage]):
                send(stage, now_s)
        return send(0, now_s)
