"""Boxes that stand still on standing objects and do not trail behind moving ones.

A g-h filter (also called alpha-beta filter; critically damped, see E. Brookner, "Tracking and Kalman Filtering Made
Easy", 1998, chapter 1) follows position and velocity, so that its error for an object in steady motion goes to zero,
where a moving average would always lag. Its gain rises with how far a measurement lies from where the box was expected:
small deviations are the detector's jitter and are damped, large ones are motion and are followed at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Smoother"]

_STEADY = 0.8  # the filter's memory for small deviations: 0 follows everything, 1 follows nothing
_JITTER_SHARE = 0.05  # deviations of this share of the box's size are on the border between jitter and motion
_LONGEST_GAP = 3  # frames; beyond it the box begins anew


@dataclass(slots=True)
class _State:
    edges: NDArray[np.float64]
    velocity: NDArray[np.float64]
    frame: int


class Smoother:
    """Smooths the boxes of each track."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def __call__(self, track_id: NDArray[np.int64], xyxy_px: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
        """Return the smoothed boxes, float32 ``(n, 4)``; boxes without a track (-1) come back as they are."""
        smooth = xyxy_px.copy()
        for place, number in enumerate(track_id.tolist()):
            if number >= 0:
                smooth[place] = self._follow(number, xyxy_px[place].astype(np.float64), frame)
        return smooth

    def forget(self, before: int) -> None:
        """Drop tracks that were last seen before a frame."""
        self._states = {number: state for number, state in self._states.items() if state.frame >= before}

    def _follow(self, number: int, measured: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
        state = self._states.get(number)
        if state is None or frame - state.frame > _LONGEST_GAP:
            self._states[number] = _State(measured, np.zeros(4), frame)
            return measured
        step = frame - state.frame
        expected = state.edges + step * state.velocity
        deviation = measured - expected
        size_px = max(1.0, math.hypot(measured[2] - measured[0], measured[3] - measured[1]))
        memory = _STEADY * math.exp(-((float(np.abs(deviation).max()) / (_JITTER_SHARE * size_px)) ** 2))
        state.edges = expected + (1 - memory**2) * deviation
        state.velocity = state.velocity + (1 - memory) ** 2 / step * deviation
        state.frame = frame
        return state.edges
