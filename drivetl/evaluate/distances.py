"""Are two sets of pictures from the same source? Fréchet distance, MMD and permutation tests over groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["PERMUTATIONS", "frechet", "kernel_of", "mmd_test", "nearest", "reduced", "relabelled", "two_means"]

PERMUTATIONS = 999
_NEIGHBOURS = 5

_Array = NDArray[np.float64]


def reduced(features: _Array, most: int = 16) -> _Array:
    """Return features as their leading principal components, ``(n, d)`` with d at most ``most`` and n // 4.

    Every feature is standardised first. Fewer components than pictures keep the covariances of either side regular.
    """
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    left, scale, _ = np.linalg.svd(standard, full_matrices=False)
    kept = max(1, min(most, len(features) // 4, len(scale)))
    components: _Array = left[:, :kept] * scale[:kept]
    return components


def frechet(one: _Array, other: _Array) -> float:
    """Return the Fréchet distance between two normal distributions with the moments of two samples ``(n, d)``.

    Dowson and Landau, "The Fréchet distance between multivariate normal distributions" (1982); squared, as in the FID.
    """
    means = [sample.mean(axis=0) for sample in (one, other)]
    first, second = (np.atleast_2d(np.cov(sample, rowvar=False)) for sample in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    gap = means[0] - means[1]
    return float(max(gap @ gap + np.trace(first) + np.trace(second) - 2 * cross, 0.0))


def kernel_of(features: _Array) -> _Array:
    """Return the Gaussian kernel matrix of ``(n, d)``, its width the median distance."""
    squares = (features**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0)
    median = float(np.median(distances[np.triu_indices(len(features), 1)]))
    kernel: _Array = np.exp(-distances / max(median, 1e-12))
    return kernel


def relabelled(groups: Sequence[str], first: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which pictures are of the first side in each relabelling, bool ``(PERMUTATIONS, n)``.

    Whole groups change sides, because pictures of one sequence resemble each other whatever the source.

    Args:
        groups: the group of each picture; a group stands on one side.
        first: bool ``(n,)``: which side each picture is on.
        rng: source of randomness.
    """
    _, first_of, member = np.unique(np.asarray(groups, dtype=str), return_index=True, return_inverse=True)
    sides = first[first_of]
    return np.stack([rng.permutation(sides)[member] for _ in range(PERMUTATIONS)])


def mmd_test(kernel: _Array, first: NDArray[np.bool_], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the squared maximum mean discrepancy (unbiased) and the p-value of "both are from one source".

    Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012).

    Args:
        kernel: from `kernel_of`.
        first: bool ``(n,)``: which side each picture is on.
        labels: from `relabelled`.
    """
    every = np.concatenate([first[None], labels]).astype(np.float64)
    off_diagonal = kernel - np.diag(np.diag(kernel))
    one = every @ off_diagonal
    total = off_diagonal.sum()
    inside_one = (one * every).sum(axis=1)
    across = one.sum(axis=1) - inside_one
    inside_other = total - inside_one - 2 * across
    n, m = every.sum(axis=1), (1 - every).sum(axis=1)
    value = inside_one / np.maximum(n * (n - 1), 1) + inside_other / np.maximum(m * (m - 1), 1)
    value -= 2 * across / np.maximum(n * m, 1)
    return float(value[0]), float((1 + (value[1:] >= value[0] - 1e-12).sum()) / len(value))


def two_means(values: _Array, first: NDArray[np.bool_], labels: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Return the means of both sides, their difference in standard deviations, and its two-sided p-value.

    Values that are NaN are left out, and with them relabellings that leave a side without any.

    Args:
        values: ``(n,)``, one of each picture.
        first: bool ``(n,)``: which side each picture is on.
        labels: from `relabelled`.

    Raises:
        ValueError: a side has no value at all, and so no mean.
    """
    known = ~np.isnan(values)
    if not (known & first).any() or not (known & ~first).any():
        raise ValueError("a side without any value has no mean to compare")
    clean = np.where(known, values, 0.0)
    every = np.concatenate([first[None], labels])
    every = every[(every & known).any(axis=1) & (~every & known).any(axis=1)]
    means = [(side @ clean) / (side & known).sum(axis=1) for side in (every, ~every)]
    gap = np.abs(means[1] - means[0])
    sides = [values[known & first], values[known & ~first]]
    pooled = np.sqrt(np.mean([side.var() for side in sides]))
    effect = (means[1][0] - means[0][0]) / pooled if pooled > 0 else 0.0
    p_value = (1 + (gap[1:] >= gap[0] - 1e-12).sum()) / len(gap)
    return float(means[0][0]), float(means[1][0]), float(effect), float(p_value)


def nearest(of: _Array, among: _Array) -> _Array:
    """Return the mean distance of each row to its five nearest rows among others, ``(n,)``."""
    squares = (of**2).sum(axis=1)[:, None] + (among**2).sum(axis=1) - 2 * of @ among.T
    count = min(_NEIGHBOURS, len(among))
    result: _Array = np.sqrt(np.maximum(np.sort(squares, axis=1)[:, :count], 0)).mean(axis=1)
    return result
