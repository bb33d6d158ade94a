"""Matches and AP against pycocotools and faster-coco-eval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from drivetl.evaluate.bootstrap import average_precision, class_scores, mean_over
from drivetl.evaluate.matching import IOU_THRESHOLDS, Found, Matches, Truth, match

CLASSES = 3
Reference = Callable[..., np.ndarray]


def random_world(seed: int, pictures: int = 14) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """COCO annotations with crowds, and results with near misses, duplicates, equal scores and empty pictures."""
    rng = np.random.default_rng(seed)
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for picture in range(pictures):
        for _ in range(int(rng.integers(0, 9))):
            # Whole pixels and few sizes give many equal overlaps, which is where matchers differ.
            box = [*rng.integers(0, 60, 2), *rng.integers(10, 40, 2)]
            class_id = int(rng.integers(0, CLASSES))
            truth.append(annotation(len(truth) + 1, picture, class_id, box, crowd=bool(rng.random() < 0.2)))
            for _ in range(int(rng.integers(0, 4))):
                moved = np.array(box) + rng.integers(-3, 4, 4)
                other = class_id if rng.random() < 0.9 else int(rng.integers(0, CLASSES))
                found.append(result(picture, other, moved.tolist(), round(float(rng.random()), 1)))
        for _ in range(int(rng.integers(0, 12)) if picture % 4 else 0):
            box = [*rng.integers(0, 60, 2), *rng.integers(5, 40, 2)]
            found.append(result(picture, int(rng.integers(0, CLASSES)), box, round(float(rng.random()), 1)))
    return truth, found


def annotation(number: int, picture: int, class_id: int, box: Any, *, crowd: bool) -> dict[str, Any]:
    bbox = [float(value) for value in box]
    area = bbox[2] * bbox[3]
    row = {"id": number, "image_id": picture, "category_id": class_id, "bbox": bbox, "area": area}
    return {**row, "iscrowd": int(crowd)}


def result(picture: int, class_id: int, box: Any, score: float) -> dict[str, Any]:
    exact = float(np.float32(score))
    return {"image_id": picture, "category_id": class_id, "bbox": [float(value) for value in box], "score": exact}


def found_of(results: list[dict[str, Any]]) -> Found:
    return Found(
        np.array([row["image_id"] for row in results], np.int64),
        np.array([row["category_id"] for row in results], np.int64),
        np.array([row["bbox"] for row in results], np.float32).reshape(-1, 4),
        np.array([row["score"] for row in results], np.float32),
    )


def matched(truth: list[dict[str, Any]], found: list[dict[str, Any]], pictures: int, classes: int = CLASSES) -> Matches:
    return match(Truth.of(truth, pictures, classes), found_of(found))


def own_ap(matches: Matches) -> np.ndarray:
    once = np.ones((1, matches.pictures), np.int32)
    return np.stack([average_precision(entry, once)[0] for entry in matches.classes])


@pytest.mark.parametrize("module", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("seed", range(20))
def test_ap_equals_the_reference(seed: int, module: str, reference_ap: Reference) -> None:
    truth, found = random_world(seed)
    ours = own_ap(matched(truth, found, 14))
    np.testing.assert_allclose(ours, reference_ap(module, truth, found, 14), atol=1e-6)
    assert 0.05 < np.nanmean(ours) < 0.95


def test_a_hundred_detections_count(reference_ap: Reference) -> None:
    truth = [annotation(1, 0, 0, [0, 0, 20, 20], crowd=False)]
    misses = [result(0, 0, [50, 50, 10, 10], 0.9) for _ in range(100)]
    found = [*misses, result(0, 0, [0, 0, 20, 20], 0.1)]
    assert own_ap(matched(truth, found, 1))[0].max() == 0.0
    assert own_ap(matched(truth, found[1:], 1))[0].min() == pytest.approx(0.01)
    np.testing.assert_allclose(own_ap(matched(truth, found, 1))[0], reference_ap("pycocotools", truth, found, 1)[0])


def test_no_box_is_nan_and_nothing_found_is_zero() -> None:
    truth = [annotation(1, 0, 0, [0, 0, 20, 20], crowd=False), annotation(2, 0, 1, [0, 0, 20, 20], crowd=True)]
    scores = class_scores(matched(truth, [], 2), np.ones((1, 2), np.int32))[0]
    assert scores[0].tolist() == [0.0, 0.0]
    assert np.isnan(scores[1:]).all()
    assert mean_over(scores, range(CLASSES)).tolist() == [0.0, 0.0]
    assert np.isnan(mean_over(scores, [1, 2])).all()


def test_thresholds_are_cocos() -> None:
    assert IOU_THRESHOLDS.tolist() == np.linspace(0.5, 0.95, 10).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_a_number_of_copies(seed: int, reference_ap: Reference) -> None:
    """The reference scores a dataset in which each picture really stands as often as its weight says."""
    truth, found = random_world(100 + seed)
    rng = np.random.default_rng(seed)
    # Equal scores inside one picture are told apart, because copies would interleave them.
    found = [
        {**row, "score": float(np.float32(score))} for row, score in zip(found, rng.random(len(found)), strict=True)
    ]
    weights = rng.integers(0, 4, 14).astype(np.int32)
    copies = np.repeat(np.arange(14), weights)
    many_truth = [{**row, "image_id": i} for i, p in enumerate(copies) for row in truth if row["image_id"] == p]
    many_truth = [{**row, "id": number} for number, row in enumerate(many_truth, start=1)]
    many_found = [{**row, "image_id": i} for i, p in enumerate(copies) for row in found if row["image_id"] == p]
    matches = matched(truth, found, 14)
    ours = np.stack([average_precision(entry, weights[None])[0] for entry in matches.classes])
    np.testing.assert_allclose(ours, reference_ap("pycocotools", many_truth, many_found, len(copies)), atol=1e-6)


def test_joined_sets_score_like_one() -> None:
    truth, found = random_world(7)
    parts = []
    for chosen in (range(6), range(6, 14)):
        of_part = [
            [{**row, "image_id": row["image_id"] - chosen.start} for row in rows if row["image_id"] in chosen]
            for rows in (truth, found)
        ]
        parts.append(matched(of_part[0], of_part[1], len(chosen)))
    whole = own_ap(matched(truth, found, 14))
    np.testing.assert_allclose(own_ap(Matches.joined(parts)), whole, atol=1e-12)
