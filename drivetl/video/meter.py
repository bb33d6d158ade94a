"""How long stages take: any number of measurements in constant memory."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

__all__ = ["FigureLine", "Latencies", "Rate", "Stopwatch"]

_RECENT = 30
_RATE_WINDOW_S = 2.0
# The figures on the picture stand still for half a second, long enough to be read.
_REFRESH_S = 0.5
# Bins whose edges grow by 1 % from a microsecond to beyond an hour, so percentiles are right within a percent.
_FIRST_MS = 1e-3
_GROWTH = math.log(1.01)
_BINS = 2300


class Latencies:
    """Durations of one stage in milliseconds: counted in bins, and the last 30 as they are."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=_RECENT)
        self._counts = np.zeros(_BINS, np.int64)

    def __len__(self) -> int:
        return int(self._counts.sum())

    def note(self, taken_ms: float) -> None:
        """Add one duration."""
        self.recent.append(taken_ms)
        place = int(math.log(max(taken_ms, _FIRST_MS) / _FIRST_MS) / _GROWTH)
        self._counts[min(place, _BINS - 1)] += 1

    def percentile(self, share: float) -> float:
        """Return a duration that ``share`` (0 to 1) of all keep to, at most 1 % above the least; 0 without any."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(share * total))))
        return _FIRST_MS * math.exp((place + 1) * _GROWTH)


class FigureLine:
    """The figures that stand on each model's picture, the most important first.

    Attributes:
        shown: for each model; two dashes stand for what is not known yet.
    """

    def __init__(self, models: int) -> None:
        self.shown: list[tuple[str, ...]] = [() for _ in range(models)]
        self._since_s, self._frames = 0.0, 0
        self._rate: float | None = None
        self._measured = -1

    def refresh(self, latencies: Sequence[Latencies], frames: int, dropped: int) -> None:
        """Renew them if they stood long enough, or if something is known that was not.

        Args:
            latencies: of each model.
            frames: handed on so far.
            dropped: so far.
        """
        now_s, measured = time.perf_counter(), sum(len(latency) > 0 for latency in latencies)
        if frames and not self._frames:
            self._since_s, self._frames = now_s, frames  # what comes before is the time to fill the line
        if now_s - self._since_s >= _REFRESH_S and frames > self._frames:
            self._rate = (frames - self._frames) / (now_s - self._since_s)
            self._since_s, self._frames = now_s, frames
        elif measured == self._measured:
            return
        self._measured = measured
        for index, latency in enumerate(latencies):
            middle, late = "--", "--"
            if len(latency):
                middle, late = f"{np.median(latency.recent):.1f}", f"{latency.percentile(0.99):.1f}"
            rate = "--" if self._rate is None else f"{self._rate:.{0 if self._rate >= 9.95 else 1}f}"
            self.shown[index] = (f"end-to-end {middle} ms", f"p99 {late} ms", f"{rate} FPS", f"{dropped} dropped")


class Rate:
    """How often something happens now: over the last two seconds, or the last two times where it is rarer."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque()

    def note(self) -> None:
        """Add one time."""
        now_s = time.perf_counter()
        self._times_s.append(now_s)
        while len(self._times_s) > 2 and self._times_s[0] < now_s - _RATE_WINDOW_S:
            self._times_s.popleft()

    def per_s(self) -> float:
        """Return the rate; it falls as soon as the next time is late, and is 0 before the second one."""
        now_s = time.perf_counter()
        times_s = list(self._times_s)
        within_s = [time_s for time_s in times_s if time_s >= now_s - _RATE_WINDOW_S]
        times_s = times_s[-max(2, len(within_s)) :]
        if len(times_s) < 2:
            return 0.0
        intervals, lasted_s = len(times_s) - 1, max(1e-9, times_s[-1] - times_s[0])
        # The last one is not late before as much time has passed as between the others.
        return intervals / max(lasted_s, now_s - times_s[0] - lasted_s / intervals)


class Stopwatch:
    """Gives the time since it was last asked, in milliseconds."""

    def __init__(self) -> None:
        self._since_s = time.perf_counter()

    def lap_ms(self) -> float:
        """Return the time since the last call, or since the start."""
        now_s = time.perf_counter()
        taken_ms, self._since_s = (now_s - self._since_s) * 1000, now_s
        return taken_ms
