"""Predictions from a file scored on the labels of their split, without the model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivetl.data import open_dataset
from drivetl.errors import DatasetError, quoted
from drivetl.evaluate.bootstrap import class_scores, mean_over
from drivetl.evaluate.boxes import Found, Truth, most_confident
from drivetl.evaluate.evaluation import EvaluationResult, pictures_by_dataset
from drivetl.evaluate.labels import labels_of
from drivetl.evaluate.matching import Matches, match_part
from drivetl.evaluate.overlaps import overlaps
from drivetl.evaluate.predictions import check_dataset, read_predictions
from drivetl.evaluate.scoring import ClassScore, Score
from drivetl.progress import Progress, silent

__all__ = ["evaluate_recorded", "score_of"]

# Both borders belong to both sizes, as COCO has it.
_SIZES_PX2 = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


def evaluate_recorded(
    file: Path, data: Path, *, split: str | None = None, progress: Progress = silent
) -> EvaluationResult:
    """Score a predictions file on its dataset, as `drivetl.evaluate.evaluate` scored the model.

    Args:
        file: written by ``drivetl evaluate --predictions``.
        data: the dataset that it was made on.
        split: the split that it was made on, to be checked; None takes the file's.
        progress: told after every picture.

    Raises:
        DatasetError: a file cannot be used, or the two do not belong together (other fingerprint, split, picture).
        ConfigError: the file lacks keys.
    """
    started = time.perf_counter()
    predictions = read_predictions(file)
    if split not in (None, predictions.split):
        raise DatasetError(
            f"{quoted(file)} was made on the split {quoted(predictions.split)}, not {quoted(split)}; leave --split out"
        )
    dataset = open_dataset(data)
    if predictions.dataset_fingerprint != dataset.fingerprint:
        check_dataset(predictions, file, dataset, ())
    labels = labels_of(dataset, predictions.split, progress)
    check_dataset(predictions, file, dataset, labels.pictures)
    members = pictures_by_dataset(labels.facts.of_pictures)
    everything = range(labels.truth.pictures)
    score, *parts = _scores(labels.truth, predictions.found, predictions.class_names, [everything, *members.values()])
    return EvaluationResult(
        model=predictions.model,
        backend="recorded predictions",
        dataset_fingerprint=predictions.dataset_fingerprint,
        split=predictions.split,
        input_size_hw=None,
        score=score,
        per_dataset=dict(zip(members, parts, strict=True)),
        class_mapping=None,
        dropped=predictions.dropped,
        missing_classes=predictions.missing_classes,
        seconds=time.perf_counter() - started,
        predictions=predictions,
        truth=labels.truth,
        notes=dataset.notes,
    )


def score_of(truth: Truth, found: Found, names: Sequence[str]) -> Score:
    """Score detections by the COCO protocol; the same figures as `drivetl.evaluate.scoring.Collector` to 1e-6."""
    return _scores(truth, found, names, [range(truth.pictures)])[0]


def _scores(truth: Truth, found: Found, names: Sequence[str], parts: Sequence[Sequence[int]]) -> list[Score]:
    """Score detections as `score_of` does, in each of some parts of the pictures, which are given by their numbers."""
    found = most_confident(found, truth.classes)
    pairs = overlaps(truth, found)
    areas = [xywh[:, 2:].astype(np.float64).prod(axis=1) for xywh in (truth.xywh_px, found.xywh_px)]
    weights = np.zeros((len(parts), truth.pictures), np.int16)
    for weight, numbers in zip(weights, parts, strict=True):
        weight[list(numbers)] = 1

    def figures(low: float, high: float) -> tuple[Matches, NDArray[np.float64]]:
        wanted, counted = ((low <= area) & (area <= high) for area in areas)
        matches = match_part(truth, found, pairs, wanted, counted)
        return matches, class_scores(matches, weights)

    matches, every = figures(0.0, np.inf)
    boxes = np.stack([weights @ entry.boxes for entry in matches.classes], axis=1)
    sizes = {name: figures(*borders)[1] for name, borders in _SIZES_PX2.items()}
    classes = range(truth.classes)
    result = []
    for row, numbers in enumerate(parts):
        means = mean_over(every[row], classes)
        per_class = {
            name: ClassScore(_or_none(every[row, k, 0]), _or_none(every[row, k, 1]), int(boxes[row, k]))
            for k, name in enumerate(names)
        }
        by_size = {name: _or_none(mean_over(scores[row], classes)[0]) for name, scores in sizes.items()}
        means_or_none = _or_none(means[0]), _or_none(means[1])
        result.append(Score(*means_or_none, by_size, per_class, len(numbers), int(boxes[row].sum())))
    return result


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
