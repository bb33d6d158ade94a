"""Pictures that stand on two sides of a split: the very same files, whatever links lead to them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

from drivetl.data.records import Sample
from drivetl.errors import quoted

__all__ = ["in_both", "shared_notes"]


def in_both(one: Iterable[Path], other: Iterable[Path]) -> list[Path]:
    """Return the pictures of ``one`` that are in ``other`` too, in their order."""
    known = {os.path.realpath(path) for path in other}
    return [path for path in one if os.path.realpath(path) in known]


def shared_notes(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield a sentence on every two splits that have pictures in common."""
    pictures: dict[str, list[Path]] = {}
    for sample in samples:
        pictures.setdefault(sample.split, []).append(Path(os.path.realpath(sample.image)))
    for one, other in combinations(pictures, 2):
        # Resolved already, so that no picture is looked up once more for every other split.
        if common := set(pictures[one]).intersection(pictures[other]):
            yield (
                f"{len(common)} of the {len(pictures[other])} pictures of {quoted(other)} stand in {quoted(one)} too, "
                f"such as {quoted(min(common))}: what is learned in one is met again in the other."
            )
