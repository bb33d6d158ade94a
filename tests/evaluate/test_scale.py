"""Time and memory grow with the number of pictures, and no faster."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np

from drivetl.evaluate.intervals import measure
from drivetl.evaluate.matching import Found, Truth, match

PICTURES, BOXES, CLASSES = 1000, 10, 6


def test_a_thousand_pictures_take_a_tenth_of_the_minute_that_ten_thousand_may_take() -> None:
    """1,000 pictures of 10 boxes and 20 detections, matched and resampled 1,000 times, in CPU seconds of one core."""
    rng = np.random.default_rng(0)
    picture = np.repeat(np.arange(PICTURES), BOXES)
    class_id = rng.integers(0, CLASSES, len(picture))
    xywh = np.concatenate([rng.uniform(0, 1000, (len(picture), 2)), rng.uniform(20, 120, (len(picture), 2))], axis=1)
    truth = Truth(picture, class_id, xywh, np.zeros(len(picture), bool), PICTURES, CLASSES)
    boxes = np.concatenate([xywh + rng.normal(0, spread, xywh.shape) for spread in (2.0, 5.0)]).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    found = Found(np.tile(picture, 2), np.tile(class_id, 2), boxes, rng.random(len(boxes)).astype(np.float32))
    groups = [f"g{number // 5}" for number in range(PICTURES)]
    began = time.process_time()
    matches = match(truth, found)
    measured = measure(matches, groups, {"all": range(CLASSES)})["all"]
    assert time.process_time() - began < 6.0
    assert measured.groups == 200 and measured.interval50_95 is not None
    tracemalloc.start()
    measure(match(truth, found), groups, {"all": range(CLASSES)}, replicates=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
