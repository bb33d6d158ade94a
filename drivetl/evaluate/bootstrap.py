"""Average precision under picture weights, and what it says of a model: bootstrap intervals over groups.

Pictures of one sequence resemble each other, so that a sequence, not a picture, is one observation. The bootstrap
therefore draws groups with replacement (cluster bootstrap; Davison and Hinkley 1997, section 3.8), and a drawn group
brings all of its pictures, as often as it was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.matching import IOU_THRESHOLDS, ClassMatches, Matches
from drivetl.progress import Progress, silent

__all__ = ["REPLICATES", "average_precision", "class_scores", "mean_over", "replicated", "resampled"]

REPLICATES = 1000

_RECALLS = np.linspace(0.0, 1.0, 101)
# Numbers that one array of a portion of replicates may hold: 2 MB as float64, which stays near the cache.
_PORTION = 250_000

Weights = NDArray[np.int32]


def average_precision(matches: ClassMatches, weights: Weights) -> NDArray[np.float64]:
    """Return the AP of one class, float64 ``(replicates, 10)``: COCO's mean of 101 points at each IoU threshold.

    A picture of weight 2 counts as if it stood in the dataset twice; weights of 1 give COCO's figure exactly.

    Args:
        matches: from `match`.
        weights: int32 ``(replicates, pictures)``: how often each picture counts.

    Returns:
        NaN in the rows whose pictures hold no box of the class.
    """
    positives = (weights @ matches.boxes)[:, None].astype(np.float64)
    result = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    reached = np.flatnonzero(matches.hit.any(axis=0))
    if len(reached):
        counted = np.cumsum(weights[:, matches.picture[: reached[-1] + 1]], axis=1, dtype=np.int32)
        for level, (hit, ignored) in enumerate(zip(matches.hit, matches.ignored, strict=True)):
            places = np.flatnonzero(hit)
            absorbed = np.flatnonzero(ignored)
            seen = counted[:, places]
            if len(absorbed):
                sums = np.cumsum(weights[:, matches.picture[absorbed]], axis=1, dtype=np.int32)
                sums = np.concatenate([np.zeros((len(weights), 1), np.int32), sums], axis=1)
                seen = seen - sums[:, np.searchsorted(absorbed, places)]
            hits = np.cumsum(weights[:, matches.picture[places]], axis=1, dtype=np.int32)
            result[:, level] = _area(hits, seen, positives)
    result[positives[:, 0] == 0] = np.nan
    return result


def _area(hits: NDArray[np.int32], seen: NDArray[np.int32], positives: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the interpolated area under precision and recall, which are given at the hits only, ``(rows, hits)``.

    Between two hits precision only falls, so the hits carry the whole envelope.
    """
    precision = hits / np.maximum(seen, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(positives, 1)
    # How many of the 101 recall levels are reached. The comparison is COCO's, in floating point: 0.57 is not reached
    # by 57 of 100, because the level is stored as 0.5700000000000001.
    level = (recall * 100 + 1e-9).astype(np.int32)
    levels = level + (recall >= _RECALLS[level])
    gained = np.diff(levels, axis=1, prepend=0)
    area: NDArray[np.float64] = np.einsum("ij,ij->i", envelope, gained) / len(_RECALLS)
    return area


def class_scores(matches: Matches, weights: Weights) -> NDArray[np.float64]:
    """Return AP50-95 and AP50 of every class, float64 ``(replicates, classes, 2)``; NaN where a class has no box."""
    result = np.full((len(weights), len(matches.classes), 2), np.nan)
    for index, entry in enumerate(matches.classes):
        if entry.boxes.any():
            table = average_precision(entry, weights)
            result[:, index, 0] = table.mean(axis=1)
            result[:, index, 1] = table[:, 0]
    return result


def resampled(groups: Sequence[str], count: int, rng: np.random.Generator) -> Weights:
    """Draw groups with replacement, as many as there are, and return how often each picture counts.

    Args:
        groups: the group of each picture.
        count: number of replicates.
        rng: source of randomness.

    Returns:
        int32 ``(count, pictures)``.
    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    weights: Weights = drawn.astype(np.int32)[:, member]
    return weights


def replicated(
    models: Sequence[Matches],
    groups: Sequence[str],
    rng: np.random.Generator,
    *,
    replicates: int = REPLICATES,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Score models on the same resamples of groups.

    Memory is bounded whatever the number of pictures: replicates are made in portions.

    Args:
        models: matches of each model on the same pictures.
        groups: the group of each picture.
        rng: source of randomness; the result does not depend on the size of the portions.
        replicates: number of resamples.
        progress: told after each portion.

    Returns:
        float64 ``(models, replicates, classes, 2)``: AP50-95 and AP50; NaN where a replicate has no box of a class.
    """
    parts = []
    done = 0
    for size in portions(models, replicates):
        weights = resampled(groups, size, rng)
        parts.append(np.stack([class_scores(matches, weights) for matches in models]))
        done += size
        progress("bootstrap", done, replicates)
    return np.concatenate(parts, axis=1)


def portions(models: Sequence[Matches], replicates: int) -> Iterator[int]:
    """Yield how many replicates to make at a time."""
    widest = max([1, *(max(len(entry.picture), len(entry.boxes)) for m in models for entry in m.classes)])
    size = max(1, min(replicates, _PORTION // widest))
    for start in range(0, replicates, size):
        yield min(size, replicates - start)


def mean_over(scores: NDArray[np.float64], classes: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean over the chosen classes that have a box, ``(…, classes, 2)`` → ``(…, 2)``; NaN if none has."""
    chosen = scores[..., list(classes), :]
    present = ~np.isnan(chosen)
    count = present.sum(axis=-2)
    total = np.where(present, chosen, 0.0).sum(axis=-2)
    result: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result
