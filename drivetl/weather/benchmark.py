"""How long every kernel takes, beside the nearest transform of Albumentations, in one run on one thread."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from drivetl.progress import Progress, silent, tracked
from drivetl.weather.checks import BgrImage, DepthMap
from drivetl.weather.conditions import CONDITIONS, Scene, find_condition
from drivetl.weather.depth import depth_prior
from drivetl.weather.pixels import u8

__all__ = ["BenchmarkRow", "road_picture", "time_kernels"]

# Milliseconds for 1280x720 on one thread: what the project holds itself to.
_BUDGET_MS = {"depth_prior": 4.0, "fog": 6.0, "haze": 6.0}
_OTHER_BUDGET_MS = 15.0


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One kernel's times in milliseconds, and those of Albumentations' nearest transform, if there is one."""

    name: str
    median_ms: float
    p95_ms: float
    fastest_ms: float
    budget_ms: float
    nearest: str | None = None
    nearest_median_ms: float | None = None

    @property
    def times_faster(self) -> float | None:
        """How many times faster than the nearest transform, by the medians."""
        return None if self.nearest_median_ms is None else self.nearest_median_ms / self.median_ms


def road_picture(height: int = 720, width: int = 1280) -> BgrImage:
    """Return a made-up street to time on: sky, road, houses, and texture so that no kernel meets a flat picture."""
    image = np.zeros((height, width, 3), np.uint8)
    horizon = int(0.46 * height)
    image[:horizon] = (225, 195, 160)
    image[horizon:] = (95, 95, 98)
    for index in range(8):
        left, reach = index * width // 8, int((0.12 + 0.05 * (index % 3)) * height)
        cv2.rectangle(image, (left, horizon - reach), (left + width // 9, horizon + 20), (60 + 12 * index, 80, 90), -1)
    cv2.line(image, (width // 2, horizon), (width // 4, height), (230, 230, 230), 6)
    # Texture of every size, as in a photograph; all as fine as a pixel would be gone with the lightest blur.
    rng = np.random.default_rng(0)
    texture = np.zeros((height, width), np.float32)
    for cell_px in (2, 4, 8, 16, 32):
        grid = rng.normal(0.0, 7.0, (height // cell_px + 2, width // cell_px + 2)).astype(np.float32)
        texture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return u8(np.clip(image + texture[..., None], 0, 255))


def time_kernels(
    *,
    conditions: Sequence[str] = tuple(CONDITIONS),
    repeats: int = 30,
    severity: int = 5,
    size_hw: tuple[int, int] = (720, 1280),
    progress: Progress = silent,
) -> list[BenchmarkRow]:
    """Time the depth prior and every kernel at one severity, depth given, parameters drawn before the clock starts.

    OpenCV is set to one thread for the measurement and back afterwards. Each pair is timed in turns, so a busy moment
    of the machine hits both.

    Raises:
        ConfigError: an unknown condition or severity.
    """
    names = [find_condition(name).name for name in conditions]
    image = road_picture(*size_hw)
    depth = depth_prior(image)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        prior_ms, _ = _times_ms(lambda: depth_prior(image), None, repeats)
        rows = [_row("depth_prior", prior_ms, None, None)]
        for name in tracked(names, "kernels", len(names), progress):
            label, transform = _nearest(name)
            own, other = _times_ms(_kernel(name, image, depth, severity), partial(transform, image=image), repeats)
            rows.append(_row(name, own, label, other))
    finally:
        cv2.setNumThreads(threads)
    return rows


def _kernel(name: str, image: BgrImage, depth_m: DepthMap, severity: int) -> Callable[[], object]:
    condition = CONDITIONS[name]
    parameters = condition.sample(np.random.default_rng(0), severity)

    def run() -> object:
        scene = Scene(np.random.default_rng(1), np.random.default_rng(2), depth_m=depth_m)
        return condition.render(image, parameters, scene)

    return run


def _nearest(name: str) -> tuple[str, Callable[..., object]]:
    """Return the transform of Albumentations that comes closest to a condition, at a strong setting."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    transforms: dict[str, Any] = {
        "fog": A.RandomFog(fog_coef_range=(0.8, 0.8), p=1),
        "haze": A.RandomFog(fog_coef_range=(0.3, 0.3), p=1),
        "rain": A.RandomRain(rain_type="heavy", p=1),
        "snow": A.RandomSnow(p=1),
        "night": A.RandomBrightnessContrast(brightness_limit=(-0.8, -0.8), p=1),
        "glare": A.RandomSunFlare(p=1),
        "wet_lens": A.Spatter(mode="rain", p=1),
        "dirty_lens": A.Spatter(mode="mud", p=1),
        "motion_blur": A.MotionBlur(blur_limit=(35, 35), p=1),
        "sensor_noise": A.ISONoise(p=1),
        "jpeg": A.ImageCompression(quality_range=(7, 7), p=1),
    }
    transform = transforms[name]
    return type(transform).__name__, transform


def _times_ms(
    own: Callable[[], object], other: Callable[[], object] | None, repeats: int
) -> tuple[list[float], list[float]]:
    """Time two functions in turns. Each time is that of the second of two calls, when the caches hold its own data."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for times, function in zip(taken, (own, other), strict=True):
            if function is None:
                continue
            function()
            begin = time.perf_counter()
            function()
            times.append((time.perf_counter() - begin) * 1000)
    return taken


def _row(name: str, own_ms: list[float], nearest: str | None, other_ms: list[float] | None) -> BenchmarkRow:
    return BenchmarkRow(
        name=name,
        median_ms=statistics.median(own_ms),
        p95_ms=float(np.percentile(own_ms, 95)),
        fastest_ms=min(own_ms),
        budget_ms=_BUDGET_MS.get(name, _OTHER_BUDGET_MS),
        nearest=nearest,
        nearest_median_ms=statistics.median(other_ms) if other_ms else None,
    )
