"""How many scenes a second, on one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from drivetl.errors import ConfigError
from drivetl.scenes.presets import Preset
from drivetl.scenes.render import SceneSequence, render_scene

__all__ = ["SceneTimes", "time_scenes"]


@dataclass(frozen=True, slots=True)
class SceneTimes:
    """What was measured.

    Attributes:
        scenes: how many scenes were timed, each with another seed.
        median_ms, p95_ms, fastest_ms: wall time of one scene, its world built anew.
        scenes_per_s: scenes over the sum of their times.
        scenes_per_cpu_s: scenes over the processor time that they took; on a busy machine the steadier figure.
        cold_scenes_per_s: like ``scenes_per_s``, for the scenes before, in a process that had drawn none.
        frames_per_s: frames of one drive, whose world is built once.
    """

    scenes: int
    median_ms: float
    p95_ms: float
    fastest_ms: float
    scenes_per_s: float
    scenes_per_cpu_s: float
    cold_scenes_per_s: float
    frames_per_s: float


@contextmanager
def _one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _timed(preset: Preset, seeds: range, size_hw: tuple[int, int]) -> list[float]:
    times = []
    for seed in seeds:
        start = time.perf_counter()
        render_scene(preset, seed=seed, size_hw=size_hw)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def time_scenes(preset: Preset, *, scenes: int = 100, size_hw: tuple[int, int] = (540, 960)) -> SceneTimes:
    """Time the renderer. The scenes that warm it up, which build every shape for the first time, are timed apart.

    Raises:
        ConfigError: fewer than 10 scenes, or a size that cannot be rendered.
    """
    if scenes < 10:
        raise ConfigError(f"a timing needs at least 10 scenes, not {scenes}")
    with _one_thread():
        cold = _timed(preset, range(scenes), size_hw)
        busy = time.process_time()
        warm = _timed(preset, range(scenes, 2 * scenes), size_hw)
        busy = time.process_time() - busy
        start = time.perf_counter()
        frames = sum(1 for _ in SceneSequence(preset, seed=0, frames=scenes, size_hw=size_hw))
        drive = time.perf_counter() - start
    return SceneTimes(
        scenes,
        float(np.median(warm)),
        float(np.percentile(warm, 95)),
        min(warm),
        1e3 * scenes / sum(warm),
        scenes / busy,
        1e3 * scenes / sum(cold),
        frames / drive,
    )
