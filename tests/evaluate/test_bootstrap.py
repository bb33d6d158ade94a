"""The shortcut of the bootstrap for large datasets, against the curve with every hit."""

from __future__ import annotations

import numpy as np
import pytest

from drivetl.evaluate.bootstrap import CURVE_POINTS, average_precision, class_scores, resampled
from drivetl.evaluate.matching import Found, Matches, Truth, match


def many_boxes(seed: int, pictures: int = 1500) -> Matches:
    """About 6,000 boxes of one class, most found, with false alarms, ignore regions and a wide range of overlaps."""
    rng = np.random.default_rng(seed)
    picture = np.repeat(np.arange(pictures), 5)
    xywh = np.concatenate([rng.uniform(0, 1000, (len(picture), 2)), rng.uniform(20, 120, (len(picture), 2))], axis=1)
    truth = Truth(picture, np.zeros(len(picture), np.int64), xywh, rng.random(len(picture)) < 0.1, pictures, 1)
    moved = np.concatenate([xywh + rng.normal(0, spread, xywh.shape) for spread in (3.0, 12.0)]).astype(np.float32)
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    confidence = np.concatenate([rng.beta(3, 2, len(picture)), rng.beta(2, 4, len(picture))]).astype(np.float32)
    return match(truth, Found(np.tile(picture, 2), np.zeros(len(moved), np.int64), moved, confidence))


@pytest.mark.parametrize("seed", range(3))
def test_looking_at_a_part_of_the_curve_changes_ap_by_less_than_a_thousandth(seed: int) -> None:
    matches = many_boxes(seed).classes[0]
    assert matches.hit.any(axis=0).sum() > 4 * CURVE_POINTS
    weights = resampled([f"g{number // 3}" for number in range(1500)], 40, np.random.default_rng(seed))
    exact = average_precision(matches, weights)
    assert 0.1 < exact.mean() < 0.9
    assert np.abs(average_precision(matches, weights, CURVE_POINTS) - exact).max() < 1e-3
    coarse = average_precision(matches, weights, 20)
    assert np.abs(coarse - exact).max() > 1e-3, "the bound above can fail"


def test_few_hits_are_all_looked_at() -> None:
    matches = many_boxes(5, pictures=100)
    weights = resampled([str(number) for number in range(100)], 30, np.random.default_rng(0))
    assert (class_scores(matches, weights, CURVE_POINTS) == class_scores(matches, weights)).all()


def test_small_integers_weigh_as_large_ones() -> None:
    matches = many_boxes(5, pictures=100)
    weights = resampled([str(number) for number in range(100)], 30, np.random.default_rng(0))
    assert (class_scores(matches, weights.astype(np.int16)) == class_scores(matches, weights)).all()
