"""Average precision under picture weights, and what it says of a model: bootstrap intervals over groups.

Pictures of one sequence resemble each other, so that a sequence, not a picture, is one observation. The bootstrap
therefore draws groups with replacement (cluster bootstrap; Davison and Hinkley 1997, section 3.8), and a drawn group
brings all of its pictures, as often as it was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.matching import IOU_THRESHOLDS, ClassMatches, Matches
from drivetl.progress import Progress, silent

__all__ = [
    "CURVE_POINTS",
    "REPLICATES",
    "average_precision",
    "class_scores",
    "curve_area",
    "mean_over",
    "replicated",
    "resampled",
]

REPLICATES = 1000

_RECALLS = np.linspace(0.0, 1.0, 101)
# Numbers that one array of a portion of replicates may hold: 2 MB as float64, which stays near the cache.
_PORTION = 250_000
# Replicates at a time where a part of the curve is looked at: products of matrices of this width stay near the cache.
_BLOCK = 64
# Multiplications of one product of matrices. OpenBLAS spreads larger ones over threads, which wait for each other
# longer than such small products take, and which the slices already use.
_SMALL = 200_000
# Weights in memory at a time, 40 MB with their copy in single precision.
_MOST_WEIGHTS = 5_000_000
# Hits above which replicates look at the curve of precision and recall at this many of them instead of at all.
CURVE_POINTS = 1000

Weights = NDArray[np.integer[Any]]


def average_precision(matches: ClassMatches, weights: Weights, points: int | None = None) -> NDArray[np.float64]:
    """Return the AP of one class, float64 ``(replicates, 10)``: COCO's mean of 101 points at each IoU threshold.

    A picture of weight 2 counts as if it stood in the dataset twice; weights of 1 give COCO's figure exactly.

    Args:
        matches: from `match`.
        weights: integers ``(replicates, pictures)``: how often each picture counts.
        points: look at the curve at this many hits at most: a quarter at its start, the others evenly by rank. None
            looks at all. `CURVE_POINTS` moves an AP by less than 0.001 (``tests/evaluate/test_bootstrap.py``).

    Returns:
        NaN in the rows whose pictures hold no box of the class.
    """
    blocks = [_of_block(matches, *block, points) for block in _blocks(weights)]
    return np.concatenate([np.empty((0, len(IOU_THRESHOLDS))), *blocks])


def _blocks(weights: Weights) -> Iterator[tuple[Weights, NDArray[np.float32]]]:
    """Yield some replicates at a time, and the same as float32 ``(pictures, replicates)``."""
    for start in range(0, len(weights), _BLOCK):
        block = weights[start : start + _BLOCK]
        yield block, np.ascontiguousarray(block.T, dtype=np.float32)


def _of_block(
    matches: ClassMatches, weights: Weights, columns: NDArray[np.float32], points: int | None
) -> NDArray[np.float64]:
    """Return what `average_precision` does; ``columns`` is ``weights`` turned around."""
    positives = (weights @ matches.boxes)[:, None].astype(np.float64)
    result = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    reached = np.flatnonzero(matches.hit.any(axis=0))
    if len(reached):
        step = _step(len(reached), points)
        if step == 1:
            size = max(1, _PORTION // int(reached[-1] + 1))
            for start in range(0, len(weights), size):
                rows = slice(start, start + size)
                _exact(matches, weights[rows], positives[rows], reached[-1] + 1, result[rows])
        else:
            # The start of the curve is seen whole: there a single hit still moves the precision.
            looked = np.unique([*reached[: (points or 0) // 4], *reached[::-1][::step]])
            result[:] = _looked(matches, columns, positives[:, 0], looked)
    result[positives[:, 0] == 0] = np.nan
    return result


def _exact(
    matches: ClassMatches, weights: Weights, positives: NDArray[np.float64], end: int, result: NDArray[np.float64]
) -> None:
    """Fill in the areas with every hit looked at; detections from ``end`` on are no hits."""
    counted = np.cumsum(np.take(weights, matches.picture[:end], axis=1), axis=1, dtype=np.int32)
    for level, (hit, ignored) in enumerate(zip(matches.hit, matches.ignored, strict=True)):
        places, absorbed = np.flatnonzero(hit), np.flatnonzero(ignored)
        seen = np.take(counted, places, axis=1)
        if len(absorbed):
            seen = seen - _sums(weights, matches.picture[absorbed], np.searchsorted(absorbed, places))
        hits = np.cumsum(np.take(weights, matches.picture[places], axis=1), axis=1, dtype=np.int32)
        result[:, level] = curve_area(hits, seen, positives)


def _looked(
    matches: ClassMatches, columns: NDArray[np.float32], positives: NDArray[np.float64], looked: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the areas, float32 ``(replicates, 10)``, with some places looked at.

    What happens between two places is one product of matrices: what became of each detection at each level, times how
    often its picture counts. Whole numbers up to 2^24 are exact in float32, which is far above any sum here.
    """
    levels, end = len(IOU_THRESHOLDS), int(looked[-1]) + 1
    absorbed = matches.ignored[:, :end].any()
    counted = ~matches.ignored[:, :end] if absorbed else np.ones((1, end), dtype=bool)
    flags = np.concatenate([matches.hit[:, :end], counted]).astype(np.float32)
    sums = np.empty((len(looked), len(flags), columns.shape[1]), np.float32)
    most = max(1, _SMALL // (len(flags) * columns.shape[1]))
    start = 0
    for number, stop in enumerate((looked + 1).tolist()):
        sums[number] = sums[number - 1] if number else 0
        for begin in range(start, stop, most):
            part = slice(begin, min(stop, begin + most))
            sums[number] += flags[:, part] @ columns[matches.picture[part]]
        start = stop
    return _rough_area(sums[:, :levels], sums[:, levels:], positives)


def _step(hits: int, points: int | None) -> int:
    """Return how far apart the hits are that are looked at, past the first quarter of ``points``."""
    return 1 if points is None or hits <= points else -(-4 * hits // (3 * points))


def _sums(weights: Weights, picture: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return for each end the summed weights of the pictures before it, int32 ``(replicates, ends)``."""
    running = np.zeros((len(weights), len(picture) + 1), np.int32)
    np.cumsum(np.take(weights, picture, axis=1), axis=1, dtype=np.int32, out=running[:, 1:])
    return np.take(running, ends, axis=1)


def curve_area(hits: NDArray[np.int32], seen: NDArray[np.int32], positives: NDArray[np.float64]) -> NDArray[np.float64]:
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


def _rough_area(
    hits: NDArray[np.float32], seen: NDArray[np.float32], positives: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return what `curve_area` does of curves ``(places, levels, replicates)``, in single precision."""
    envelope = hits / np.maximum(seen, 1)
    for number in range(len(envelope) - 2, -1, -1):
        np.maximum(envelope[number], envelope[number + 1], out=envelope[number])
    # The level of no recall at all is reached by the first hit.
    reached = np.floor(hits * (100 / np.maximum(positives, 1)).astype(np.float32) + np.float32(1 + 1e-4))
    reached[hits == 0] = 0
    reached[1:] -= reached[:-1].copy()
    area: NDArray[np.float32] = np.einsum("plr,plr->rl", envelope, reached) / np.float32(len(_RECALLS))
    return area


def class_scores(matches: Matches, weights: Weights, points: int | None = None) -> NDArray[np.float64]:
    """Return AP50-95 and AP50 of every class, float64 ``(replicates, classes, 2)``; NaN where a class has no box.

    Arguments as in `average_precision`.
    """
    result = np.full((len(weights), len(matches.classes), 2), np.nan)
    done = 0
    for block, columns in _blocks(weights):
        rows = slice(done, done + len(block))
        for index, entry in enumerate(matches.classes):
            if entry.boxes.any():
                table = _of_block(entry, block, columns, points)
                result[rows, index, 0] = table.mean(axis=1)
                result[rows, index, 1] = table[:, 0]
        done += len(block)
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
        parts.append(np.stack([class_scores(matches, weights, CURVE_POINTS) for matches in models]))
        done += size
        progress("bootstrap", done, replicates)
    return np.concatenate(parts, axis=1)


def portions(models: Sequence[Matches], replicates: int) -> Iterator[int]:
    """Yield how many replicates to make at a time."""
    size = max(1, min(replicates, _BLOCK, _MOST_WEIGHTS // max([1, *(matches.pictures for matches in models)])))
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
