"""The loops that are timed: frames back to back, or at the rate of a camera with idle gaps between them."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns, sleep

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress
from drivetl.runtime import Detector

__all__ = ["STAGES", "Sampling", "back_to_back_ms", "paced_ms"]

STAGES = ("preprocess", "inference", "postprocess", "end_to_end")
_NS_PER_MS = 1e6
_NS_PER_S = 1e9
_MIN_HZ, _MAX_HZ = 0.1, 1_000.0
# A day at 100 frames a second; the stamps of more would not fit into a car's memory.
_MOST_FRAMES = 10_000_000

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a latency is sampled.

    Attributes:
        iterations: frames to time, at least 1. A p99 is given from 1,000 on, a p99.9 from 10,000.
        warm_up: frames before, untimed: the first runs allocate memory and choose kernels.
        against_bare: also compare inference with a bare ``session.run`` loop.
        paced_hz: also let as many frames come at this rate, see `paced_ms`; None does not.
    """

    iterations: int = 300
    warm_up: int = 30
    against_bare: bool = False
    paced_hz: float | None = None

    def check(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ConfigError: with the number.
        """
        for name, value, least in (("--iterations", self.iterations, 1), ("--warm-up", self.warm_up, 0)):
            if not least <= value <= _MOST_FRAMES:
                raise ConfigError(f"{name} must be from {least} to {_MOST_FRAMES:,}, not {quoted(value)}")
        if self.paced_hz is not None and not _MIN_HZ <= self.paced_hz <= _MAX_HZ:
            raise ConfigError(f"--paced-hz must be from {_MIN_HZ:g} to {_MAX_HZ:,g}, not {quoted(self.paced_hz)}")


def back_to_back_ms(
    detector: Detector, image_bgr: NDArray[np.uint8], iterations: int, warm_up: int, progress: Progress
) -> _Array:
    """Return latencies in milliseconds, float64 ``(iterations, 4)``, a column for each of `STAGES`."""
    progress("warm-up", 0, warm_up)
    for _ in range(warm_up):
        detector(image_bgr)
    progress("warm-up", warm_up, warm_up)
    progress("measure", 0, iterations)
    stamps_ns = np.zeros((iterations, 4), dtype=np.int64)
    for index in range(iterations):
        _frame(detector, image_bgr, stamps_ns[index])
    progress("measure", iterations, iterations)
    return _latencies_ms(stamps_ns, stamps_ns[:, 0])


def paced_ms(
    detector: Detector, image_bgr: NDArray[np.uint8], iterations: int, rate_hz: float, progress: Progress
) -> tuple[_Array, int]:
    """Return latencies like `back_to_back_ms` of frames that come at a rate, and how many frames were lost.

    It does what the car does: the newest frame that has come is next, and those that it overtook are lost. The time of
    a frame runs from the moment that it came, not from when the one before let go of the processor.

    Args:
        detector: to run.
        image_bgr: the picture of every frame.
        iterations: frames that come; the latencies are of those that were not lost.
        rate_hz: how many come each second.
        progress: told before and after.
    """
    progress("paced", 0, iterations)
    period_ns = round(_NS_PER_S / rate_hz)
    stamps_ns = np.zeros((iterations, 4), dtype=np.int64)
    first_ns = perf_counter_ns() + period_ns
    taken: list[int] = []
    frame = 0
    while frame < iterations:
        left_ns = first_ns + frame * period_ns - perf_counter_ns()
        if left_ns > 0:
            sleep(left_ns / _NS_PER_S)
        _frame(detector, image_bgr, stamps_ns[frame])
        taken.append(frame)
        newest = (perf_counter_ns() - first_ns) // period_ns
        frame = max(frame + 1, min(newest, iterations - 1))
    progress("paced", iterations, iterations)
    came_ns = first_ns + period_ns * np.array(taken)
    return _latencies_ms(stamps_ns[taken], came_ns), iterations - len(taken)


def _frame(detector: Detector, image_bgr: NDArray[np.uint8], stamps_ns: NDArray[np.int64]) -> None:
    start = perf_counter_ns()
    tensor, geometry = detector.preprocess(image_bgr)
    preprocessed = perf_counter_ns()
    raw = detector.infer(tensor)
    inferred = perf_counter_ns()
    detector.postprocess(raw, geometry)
    stamps_ns[:] = start, preprocessed, inferred, perf_counter_ns()


def _latencies_ms(stamps_ns: NDArray[np.int64], begin_ns: NDArray[np.int64]) -> _Array:
    whole_ns = stamps_ns[:, -1:] - begin_ns[:, None]
    latency_ms: _Array = np.hstack((np.diff(stamps_ns, axis=1), whole_ns)) / _NS_PER_MS
    return latency_ms
