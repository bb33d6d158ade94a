"""How long evaluating and slicing take, and how much memory: ``python -m drivetl.evaluate.benchmark``.

Synthetic boxes stand for a dataset: 10 boxes and 14 detections a picture in six classes, weather, time of day and
scene of every picture, occlusion of every box, five pictures a group. Timed is what ``drivetl evaluate FILE.json
--slices`` does after reading its files: AP, intervals, and every slice and pair of slices with its interval.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Mapping

import numpy as np

from drivetl.data.records import Attribute
from drivetl.evaluate.boxes import Found, Truth
from drivetl.evaluate.dimensions import Facts
from drivetl.evaluate.intervals import measure
from drivetl.evaluate.matching import match
from drivetl.evaluate.recorded import score_of
from drivetl.evaluate.slices import evaluate_slices

__all__ = ["synthetic", "time_slicing"]

_CLASSES = ("car", "truck", "bus", "person", "bicycle", "motorcycle")
_CONDITIONS = {
    "weather": ("clear", "rain", "snow", "fog"),
    "timeofday": ("day", "dusk", "night"),
    "scene": ("city", "highway", "residential"),
}


def synthetic(pictures: int, rng: np.random.Generator) -> tuple[Truth, Found, list[str], Facts]:
    """Return boxes, detections, groups and facts of a made-up dataset; detections are worse in fog."""
    count = 10 * pictures
    picture = np.repeat(np.arange(pictures), 10)
    class_id = rng.integers(0, len(_CLASSES), count)
    sides = np.exp(rng.uniform(np.log(12), np.log(300), (count, 2)))
    xywh = np.concatenate([rng.uniform(0, 1, (count, 2)) * ((1280, 720) - sides), sides], axis=1)
    truth = Truth(picture, class_id, xywh, rng.random(count) < 0.03, pictures, len(_CLASSES))
    chosen = {name: rng.integers(0, len(values), pictures) for name, values in _CONDITIONS.items()}
    foggy = chosen["weather"][picture] == 3
    seen = rng.random(count) < np.where(foggy, 0.5, 0.85)
    spread = rng.normal(0, 1, xywh.shape) * (sides.min(axis=1) * np.where(foggy, 0.12, 0.07))[:, None]
    alarms = rng.integers(0, count, count // 2)
    boxes = np.concatenate([(xywh + spread)[seen], xywh[alarms] + rng.normal(0, 90, (len(alarms), 4))])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
    confidence = np.concatenate([rng.beta(4, 2, int(seen.sum())), rng.beta(1.5, 5, len(alarms))])
    found = Found(
        np.concatenate([picture[seen], picture[alarms]]),
        np.concatenate([class_id[seen], class_id[alarms]]),
        boxes.astype(np.float32),
        confidence.astype(np.float32),
    )
    words: list[Mapping[str, Attribute]] = [
        {name: values[chosen[name][number]] for name, values in _CONDITIONS.items()} for number in range(pictures)
    ]
    occlusion: list[Mapping[str, Attribute]] = [{"occluded": int(value)} for value in rng.integers(0, 3, count)]
    facts = Facts([(720, 1280)] * pictures, words, occlusion)
    return truth, found, [f"sequence {number // 5}" for number in range(pictures)], facts


def time_slicing(pictures: int, seed: int = 0) -> dict[str, float | int]:
    """Return seconds and peak memory of this process after evaluating and slicing so many pictures."""
    truth, found, groups, facts = synthetic(pictures, np.random.default_rng(seed))
    began = time.perf_counter()
    score = score_of(truth, found, _CLASSES)
    measured = measure(match(truth, found), groups, {"all": range(len(_CLASSES))})["all"]
    evaluated = time.perf_counter()
    cut = evaluate_slices(truth, found, groups, facts)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "pictures": pictures,
        "boxes": score.boxes,
        "detections": len(found),
        "slices": len(cut.single),
        "pairs": len(cut.pairs),
        "map50_95": round(score.map50_95 or 0.0, 4),
        "interval_width": round(measured.interval50_95.high - measured.interval50_95.low, 4)
        if measured.interval50_95
        else -1,
        "evaluate_s": round(evaluated - began, 2),
        "slices_s": round(done - evaluated, 2),
        "peak_mb": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
        "cpus": os.cpu_count() or 1,
    }


def main() -> None:
    """Time it once and print one line of JSON."""
    parser = argparse.ArgumentParser(description="Time evaluation and slicing on synthetic boxes.")
    parser.add_argument("--pictures", type=int, default=10_000)
    print(json.dumps(time_slicing(parser.parse_args().pictures)))


if __name__ == "__main__":
    main()
