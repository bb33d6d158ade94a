"""Which pictures to label next: unlike what is labelled and unlike each other, and those the model is unsure of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivetl.errors import ConfigError
from drivetl.evaluate.description import Described
from drivetl.evaluate.distances import reduced

__all__ = ["Pick", "select"]


@dataclass(frozen=True, slots=True)
class Pick:
    """One picture to label.

    Attributes:
        picture: its path.
        distance: to the nearest picture that is labelled or was picked before, as a share of the largest; 1 at first.
        doubt: how unsure the model is, 0 to 1; None where it detects nothing.
    """

    picture: str
    distance: float
    doubt: float | None


def select(pool: Described, budget: int, *, labelled: Described | None = None, weight: float = 0.5) -> list[Pick]:
    """Pick pictures one by one: the farthest from all picked and labelled ones, doubt weighed in.

    Farthest first is the greedy k-center of Sener and Savarese, "Active Learning for Convolutional Neural Networks: A
    Core-Set Approach" (ICLR 2018); it leaves near-identical pictures out by itself.

    Args:
        pool: pictures without labels.
        budget: how many to pick.
        labelled: pictures that have labels already.
        weight: of doubt, 0 (diversity alone) to 1 (doubt alone).

    Raises:
        ConfigError: the pool has fewer pictures than the budget.
    """
    count = len(pool.paths)
    if budget > count:
        raise ConfigError(f"the pool has {count} pictures, fewer than --budget {budget}; lower --budget")
    known = np.zeros((0, pool.features.shape[1])) if labelled is None else labelled.features
    components = reduced(np.concatenate([pool.features, known]))
    # A picture without a detection is neither sure nor unsure: it counts as the middle of the others.
    seen = pool.doubt[~np.isnan(pool.doubt)]
    doubt = np.where(np.isnan(pool.doubt), float(np.median(seen)) if len(seen) else 0.5, pool.doubt)
    ranks = np.argsort(np.argsort(doubt, kind="stable"), kind="stable") / max(count - 1, 1)
    away = np.full(count, np.inf)
    for row in components[count:]:
        away = np.minimum(away, np.linalg.norm(components[:count] - row, axis=1))
    picks = []
    free = np.ones(count, dtype=bool)
    widest = float(np.max(away)) if len(known) else 0.0
    for _ in range(budget):
        share = away / widest if widest > 0 and np.isfinite(away).all() else np.ones(count)
        score = np.where(free, (1 - weight) * share + weight * ranks, -np.inf)
        index = int(np.argmax(score))
        free[index] = False
        own = pool.doubt[index]
        picks.append(Pick(str(pool.paths[index]), float(share[index]), None if np.isnan(own) else float(own)))
        away = np.minimum(away, np.linalg.norm(components[:count] - components[index], axis=1))
        widest = widest or float(np.max(away))
    return picks
