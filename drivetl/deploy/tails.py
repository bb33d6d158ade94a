"""What is said of a series of latencies: percentiles that it is long enough for, their intervals, jitter."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["INTERVAL", "NEEDED", "Percentiles", "histogram", "intervals", "jitter_ms", "series"]

# Frames that a percentile needs: ten beyond it, or it rests on a handful of hiccups.
NEEDED = {"p99": 1_000, "p99_9": 10_000}
INTERVAL = "95 % circular block bootstrap, blocks of the square root of the number of frames"
# In thousandths, because 99.9 / 100 * 10,000 is a little more than 9,990 in floating point and names the next frame.
_QUANTILES = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999}
_REPLICATES = 1_000
_PORTION = 50  # replicates at a time: 10,000 frames times 1,000 replicates would not fit into a car's memory
_LEVEL = 0.95
_BINS = 24

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latency in milliseconds. Each is a time that was really observed (nearest rank), never interpolated.

    Nothing is left out: ``max`` is the slowest frame. p99 and p99.9 are None where there are fewer frames than
    `NEEDED` says.
    """

    p50: float
    p90: float
    p95: float
    p99: float | None
    p99_9: float | None
    max: float

    @classmethod
    def of(cls, latency_ms: _Array, lost: int = 0) -> Percentiles:
        """Return the percentiles of at least one latency.

        ``lost`` frames came and were never looked at. They have no latency and count towards `NEEDED` only: one lost
        frame of 1,000 does not make the slowest of the others stand for the p99.
        """
        count, ordered = len(latency_ms), np.sort(latency_ms)
        found: dict[str, float | None] = {
            name: round(float(ordered[_index(count, share)]), 4) if count + lost >= NEEDED.get(name, 1) else None
            for name, share in _QUANTILES.items()
        }
        return cls(**found, max=round(float(latency_ms.max()), 4))  # type: ignore[arg-type]


def _index(count: int, thousandths: int) -> int:
    """Return the index of the nearest rank in an ordered series: the first that so many do not exceed."""
    return max(-(-count * thousandths // 1000) - 1, 0)


def intervals(latency_ms: _Array, seed: int = 0, *, lost: int = 0) -> dict[str, list[float]]:
    """Return 95 % intervals ``[low, high]`` of the percentiles that there are enough frames for.

    Latencies of neighbouring frames are alike (clocks, other programs), so frames are not drawn one by one, which would
    give intervals that are too narrow, but in runs: the circular block bootstrap of Politis and Romano (1992).

    Args:
        latency_ms: float64 ``(n,)`` in the order of the frames.
        seed: of the resampling.
        lost: frames besides that were never looked at, see `Percentiles.of`.
    """
    count = len(latency_ms)
    names = [name for name in _QUANTILES if count + lost >= NEEDED.get(name, 2)]
    if not names or count < 2:
        return {}
    length = ceil(sqrt(count))
    rng = np.random.default_rng(seed)
    drawn: list[_Array] = []
    for _ in range(0, _REPLICATES, _PORTION):
        starts = rng.integers(0, count, (_PORTION, ceil(count / length), 1))
        index = ((starts + np.arange(length)) % count).reshape(_PORTION, -1)[:, :count]
        ordered = np.sort(latency_ms[index], axis=1)
        drawn.append(ordered[:, [_index(count, _QUANTILES[name]) for name in names]])
    ends = np.percentile(np.concatenate(drawn), [50 - 50 * _LEVEL, 50 + 50 * _LEVEL], axis=0)
    return {name: [round(float(value), 4) for value in ends[:, column]] for column, name in enumerate(names)}


def histogram(latency_ms: _Array) -> dict[str, list[float]]:
    """Return ``edges_ms`` and ``counts`` of at least one latency, one edge more than counts; every frame is in one.

    The bins are equal from the fastest frame to the 99th percentile; the slower ones share a last, wider bin, so that
    one hiccup does not squeeze all others into a single bin.
    """
    ordered = np.sort(latency_ms)
    first, last = float(ordered[0]), float(ordered[_index(len(ordered), 990)])
    edges = np.linspace(first, last if last > first else first + 1e-3, _BINS + 1).round(6)
    if ordered[-1] > edges[-1]:
        edges = np.append(edges, np.ceil(ordered[-1] * 1e6) / 1e6)
    places = np.searchsorted(edges, ordered, side="right") - 1  # rounding may leave the fastest just below its edge
    counts = np.bincount(places.clip(0, len(edges) - 2), minlength=len(edges) - 1)
    return {"edges_ms": edges.tolist(), "counts": counts.tolist()}


def jitter_ms(latency_ms: _Array) -> float | None:
    """Return the mean absolute difference of neighbouring latencies; None for fewer than two frames."""
    if len(latency_ms) < 2:
        return None
    return round(float(np.abs(np.diff(latency_ms)).mean()), 4)


def series(latency_ms: _Array, budget_ms: float | None, lost: int = 0) -> dict[str, Any]:
    """Return what one series of end-to-end latencies is described by, as a JSON document.

    Args:
        latency_ms: float64 ``(n,)`` in the order of the frames.
        budget_ms: what a frame must keep to, or None.
        lost: frames besides that were never looked at; they missed it.
    """
    missed = None
    if budget_ms is not None:
        missed = (int((latency_ms > budget_ms).sum()) + lost) / (len(latency_ms) + lost)
    return {
        "intervals_ms": intervals(latency_ms, lost=lost),
        "interval_method": INTERVAL,
        "jitter_ms": jitter_ms(latency_ms),
        "deadline_miss_rate": missed,
    }
