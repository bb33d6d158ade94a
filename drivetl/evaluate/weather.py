"""Accuracy under weather: every condition at every severity, with the kernels that training uses.

Michaelis et al., "Benchmarking robustness in object detection" (2019): mPC is the mean AP over conditions and
severities, rPC is mPC as a share of the AP on clean pictures.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from drivetl.cores import usable_cores
from drivetl.data.pictures import decode_picture
from drivetl.data.records import Sample
from drivetl.evaluate.evaluation import Run
from drivetl.evaluate.scoring import Score
from drivetl.progress import Progress, silent
from drivetl.runtime import Geometry, Letterbox
from drivetl.weather import CONDITIONS, SUITE, apply_weather, depth_prior
from drivetl.weather.checks import MAX_SEVERITY, BgrImage

__all__ = ["WeatherResult", "evaluate_weather", "score_in"]

_SEVERITIES = range(1, MAX_SEVERITY + 1)
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class WeatherResult:
    """What an evaluation under weather found.

    Attributes:
        suite: name and version of conditions and severities; figures of different suites cannot be compared.
        clean: mAP50-95 on the pictures as they are; None where the split has no boxes.
        conditions: condition → severity → accuracy.
    """

    suite: str
    clean: float | None
    conditions: dict[str, dict[int, Score]]

    @property
    def mpc(self) -> float | None:
        """Mean mAP50-95 over all conditions and severities; None where the split has no boxes."""
        return _mean(score for levels in self.conditions.values() for score in levels.values())

    @property
    def rpc(self) -> float | None:
        """The share of the clean mAP50-95 that is left in the mean; None where the clean one is zero or None."""
        return self.mpc / self.clean if self.clean and self.mpc is not None else None

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            "suite": self.suite,
            "clean": self.clean,
            "mpc": self.mpc,
            "rpc": self.rpc,
            "conditions": {
                name: {
                    "map50_95": _mean(levels.values()),
                    "severities": {str(level): score.document() for level, score in levels.items()},
                }
                for name, levels in self.conditions.items()
            },
        }


def _mean(scores: Iterable[Score]) -> float | None:
    """Return the mean of the figures that there are; None where there is none."""
    figures = [score.map50_95 for score in scores if score.map50_95 is not None]
    return float(np.mean(figures)) if figures else None


def evaluate_weather(run: Run, clean: float | None, *, progress: Progress = silent) -> WeatherResult:
    """Measure a model on a split in every condition at every severity of the suite.

    Pictures are made on the fly, by all cores at once, while the model works. The weather of a picture depends on
    its file name and the condition alone, so that every model meets the same. Labelled boxes stand upright in the
    depth prior. One condition is measured at a time, so that memory does not grow with their number.

    Args:
        run: the model and the split.
        clean: its mAP50-95 on the pictures as they are; None where the split has no boxes.
        progress: told after every picture.

    Raises:
        ImageError: a picture cannot be decoded.
    """
    workers = usable_cores()
    conditions = {}
    with ThreadPoolExecutor(workers) as pool:
        for condition in CONDITIONS:
            collectors = {level: run.collector() for level in _SEVERITIES}
            make = partial(_pictures, condition=condition, letterbox=run.model.letterbox)
            for done, (sample, pictures) in enumerate(_ahead(pool, make, run.samples(), 2 * workers), start=1):
                for level, (letterboxed, geometry) in pictures.items():
                    collectors[level].add(sample, run.detect(letterboxed, geometry))
                progress(f"weather: {condition}", done, run.pictures)
            conditions[condition] = {level: collector.score() for level, collector in collectors.items()}
    return WeatherResult(SUITE, clean, conditions)


def score_in(run: Run, condition: str, severity: int) -> Score:
    """Measure a model on a split in one weather, the same that `evaluate_weather` shows it.

    Args:
        run: the model and the split.
        condition: a key of `drivetl.weather.CONDITIONS`.
        severity: 1 to 5.

    Raises:
        ImageError: a picture cannot be decoded.
    """
    workers = usable_cores()
    collector = run.collector()
    make = partial(_pictures, condition=condition, letterbox=run.model.letterbox, levels=(severity,))
    with ThreadPoolExecutor(workers) as pool:
        for sample, pictures in _ahead(pool, make, run.samples(), 2 * workers):
            collector.add(sample, run.detect(*pictures[severity]))
    return collector.score()


def _pictures(
    sample: Sample, *, condition: str, letterbox: Letterbox, levels: Iterable[int] = _SEVERITIES
) -> tuple[Sample, dict[int, tuple[BgrImage, Geometry]]]:
    """Return a picture in one condition at some severities, letterboxed."""
    image = decode_picture(sample.image)
    boxes = np.array([box.xyxy_px for box in sample.boxes], dtype=np.float32).reshape(-1, 4)
    depth_m = depth_prior(image, boxes_xyxy_px=boxes) if "depth_m" in CONDITIONS[condition].wants else None
    digest = hashlib.sha256(f"{SUITE}/{sample.image.name}/{condition}".encode(errors="surrogateescape")).digest()
    pictures = {}
    for level in levels:
        # The same seed for every severity: drops and flakes lie alike, and only the severity differs.
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        weathered = apply_weather(image, condition, level, rng=rng, depth_m=depth_m, boxes_xyxy_px=boxes)
        pictures[level] = letterbox(weathered)
    return sample, pictures


def _ahead(pool: ThreadPoolExecutor, make: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """Yield ``make(item)`` in order, with at most ``depth`` of them under way or waiting."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(make, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
