"""AP in every condition and every pair of conditions, with bootstrap intervals over groups.

A slice of pictures keeps their detections. A slice of boxes (by size, say) is scored as COCO scores its area ranges:
boxes outside it are there but need not be found, a detection that finds one of them is ignored, and so is a false
alarm that is outside itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.cores import usable_cores
from drivetl.evaluate.bootstrap import class_scores, mean_over, resampled
from drivetl.evaluate.boxes import Found, Truth, most_confident
from drivetl.evaluate.dimensions import ANY, Dimension, Facts, dimensions
from drivetl.evaluate.intervals import (
    LEVEL,
    METHOD,
    SEED,
    groups_with_boxes,
    interval_of,
    p_value,
    p_value_by_error,
)
from drivetl.evaluate.matching import Matches, match_part
from drivetl.evaluate.overlaps import Overlaps, overlaps
from drivetl.progress import Progress, silent

__all__ = ["MIN_BOXES", "MIN_GROUPS", "PAIR_REPLICATES", "REPLICATES", "Slice", "Slices", "evaluate_slices"]

# Below either a slice says too little; intervals hold what they promise down to about so many groups.
MIN_BOXES = 20
MIN_GROUPS = 10
REPLICATES = 400
# There are many pairs, of which only a few are read.
PAIR_REPLICATES = 200

# Places of the curve that resamples of a slice look at; what that leaves out is put back, see `_replicates`. Measured
# (tests/evaluate/test_slice_coverage.py, 500 datasets of 60 groups): nominal 95 % intervals held the truth in 94 %, and
# their ends lay within 1 % of their width of those that look at every hit.
_POINTS = 120
_MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class Slice:
    """Accuracy in one condition, or in two at once.

    Attributes:
        by: names of the dimensions, one or two.
        value: their values.
        pictures: pictures with a box of the slice, or, of a condition of pictures, all pictures in it.
        groups: groups that hold at least one of the boxes.
        boxes: labelled boxes.
        map50_95, map50: mean over the classes with a box here; None without a box.
        interval: 95 % interval of ``map50_95``; None where it would rest on too few groups, or a pair is too small.
        difference: of ``map50_95`` to all pictures, over the classes with a box here.
        difference_interval: its 95 % interval, from the same resamples.
        standard_error: of ``difference``: the standard deviation over the resamples.
        p_value: of "there is no difference"; of the weakest slice, see `Slices`.
        too_small: a sentence about why the slice says too little; None where it says something.
    """

    by: tuple[str, ...]
    value: tuple[str, ...]
    pictures: int
    groups: int
    boxes: int
    map50_95: float | None
    map50: float | None
    interval: tuple[float, float] | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    standard_error: float | None
    p_value: float | None
    too_small: str | None


@dataclass(frozen=True, slots=True)
class Slices:
    """All slices of one model on one split.

    Attributes:
        single: by one dimension, in its order of values.
        pairs: by two.
        dimensions: what was cut by.
        weakest: the slice by one condition of pictures with the lowest ``map50_95`` that is not too small. Of a dozen
            slices that do not differ one is the lowest, too, so its p-value is times their number (Bonferroni).
        weakest_boxes: the same among slices of boxes.
        notes: sentences about what could not be cut by.
    """

    single: tuple[Slice, ...]
    pairs: tuple[Slice, ...]
    dimensions: tuple[Dimension, ...]
    weakest: Slice | None
    weakest_boxes: Slice | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "single": [asdict(entry) for entry in self.single],
            "pairs": [asdict(entry) for entry in self.pairs],
            "dimensions": [
                {"name": d.name, "of": "boxes" if d.picture is None else "pictures", "values": list(d.values)}
                | {"missing": d.missing, "note": d.note}
                for d in self.dimensions
            ],
            "weakest": asdict(self.weakest) if self.weakest else None,
            "weakest_boxes": asdict(self.weakest_boxes) if self.weakest_boxes else None,
            "min_boxes": MIN_BOXES,
            "min_groups": MIN_GROUPS,
            "level": LEVEL,
            "method": METHOD,
            "replicates": REPLICATES,
            "pair_replicates": PAIR_REPLICATES,
            "notes": list(self.notes),
        }


def evaluate_slices(
    truth: Truth, found: Found, groups: Sequence[str], facts: Facts, *, seed: int = SEED, progress: Progress = silent
) -> Slices:
    """Score a model in every slice.

    Args:
        truth: the boxes.
        found: what the model found.
        groups: the group of each picture.
        facts: what the samples say of themselves, in the order of pictures.
        seed: of the resampling; all slices see the same resamples.
        progress: told after every slice.
    """
    found = most_confident(found, truth.classes)
    found_dimensions, notes = dimensions(facts, truth, found)
    cutter = _Cutter(truth, found, groups, np.random.default_rng(seed))
    cutter.prepare(found_dimensions)
    jobs = [*_singles(found_dimensions), *_pairs(found_dimensions)]
    results: list[Slice | None] = []
    with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
        for done, entry in enumerate(pool.map(cutter.cut, jobs), start=1):
            results.append(entry)
            progress("slices", done, len(jobs))
    slices = [entry for entry in results if entry is not None]
    single = tuple(entry for entry in slices if len(entry.by) == 1)
    of_pictures = {d.name for d in found_dimensions if d.picture is not None}
    return Slices(
        single,
        tuple(entry for entry in slices if len(entry.by) == 2),
        tuple(found_dimensions),
        _weakest([entry for entry in single if entry.by[0] in of_pictures]),
        _weakest([entry for entry in single if entry.by[0] not in of_pictures]),
        tuple(notes),
    )


def _weakest(slices: Sequence[Slice]) -> Slice | None:
    """Return the slice with the lowest AP among those that say enough; None for want of two to choose from."""
    sure = [entry for entry in slices if entry.too_small is None and entry.map50_95 is not None]
    # What all pictures have in common is no condition that could be weaker than another.
    apart = [entry for entry in sure if sum(other.by == entry.by for other in slices) > 1]
    lowest = min(apart, key=lambda entry: entry.map50_95 or 0.0, default=None)
    if lowest is None or lowest.p_value is None or lowest.difference is None or lowest.standard_error is None:
        return lowest
    chance = p_value_by_error(lowest.difference, lowest.standard_error, lowest.groups)
    return replace(lowest, p_value=min(1.0, len(apart) * chance))


_Part = tuple[Dimension, int]


def _singles(found: Sequence[Dimension]) -> Iterator[tuple[_Part, ...]]:
    for dimension in found:
        for code in range(len(dimension.values)):
            yield ((dimension, code),)


def _pairs(found: Sequence[Dimension]) -> Iterator[tuple[_Part, ...]]:
    several = [dimension for dimension in found if len(dimension.values) > 1]
    for one, other in combinations(several, 2):
        for code in range(len(one.values)):
            for second in range(len(other.values)):
                yield (one, code), (other, second)


class _Cutter:
    """Holds what all slices share: matches, resamples and their scores over all pictures."""

    def __init__(self, truth: Truth, found: Found, groups: Sequence[str], rng: np.random.Generator) -> None:
        self.truth, self.found, self.groups = truth, found, groups
        self.pairs: Overlaps = overlaps(truth, found)
        everything = np.ones(len(found), dtype=bool)
        self.matches = match_part(truth, found, self.pairs, ~truth.crowd, everything)
        self.weights = resampled(groups, REPLICATES, rng).astype(np.int16)
        self.point = class_scores(self.matches, np.ones((1, truth.pictures), np.int16))[0]
        self.drawn = _replicates(self.matches, self.weights)
        self._by_box: dict[tuple[str, int], Matches] = {}

    def prepare(self, found: Sequence[Dimension]) -> None:
        """Match for every slice by one property of boxes; pairs with a condition of pictures are parts of these."""
        for dimension in found:
            if dimension.box is not None:
                for code in range(len(dimension.values)):
                    self._by_box[dimension.name, code] = self._matched(((dimension, code),))

    def cut(self, parts: tuple[_Part, ...]) -> Slice | None:
        """Score one slice; None for a pair that no box or picture has."""
        of_boxes = tuple(part for part in parts if part[0].box is not None)
        if len(of_boxes) == 2:
            matches = self._matched(of_boxes)
        else:
            matches = self._by_box[of_boxes[0][0].name, of_boxes[0][1]] if of_boxes else self.matches
        chosen = np.ones(self.truth.pictures, dtype=bool)
        for dimension, code in parts:
            if dimension.picture is not None:
                chosen &= dimension.picture == code
        numbers = np.flatnonzero(chosen)
        matches = matches.subset(numbers.tolist())
        return self._scored(parts, matches, numbers) if len(parts) == 1 or matches.boxes.any() else None

    def _matched(self, parts: tuple[_Part, ...]) -> Matches:
        """Match anew, because a box outside the slice may be the better fit for a detection."""
        wanted, counted = ~self.truth.crowd, np.ones(len(self.found), dtype=bool)
        for dimension, code in parts:
            assert dimension.box is not None and dimension.detection is not None, "a property of boxes"
            wanted &= dimension.box == code
            counted &= (dimension.detection == code) | (dimension.detection == ANY)
        return match_part(self.truth, self.found, self.pairs, wanted, counted).counted()

    def _scored(self, parts: tuple[_Part, ...], matches: Matches, numbers: NDArray[np.int64]) -> Slice:
        by = tuple(dimension.name for dimension, _ in parts)
        value = tuple(dimension.values[code] for dimension, code in parts)
        classes = [index for index, entry in enumerate(matches.classes) if entry.boxes.any()]
        boxes = int(sum(entry.boxes.sum() for entry in matches.classes))
        held = np.sum([entry.boxes for entry in matches.classes], axis=0) > 0
        pictures = len(numbers) if all(d.picture is not None for d, _ in parts) else int(held.sum())
        inside = [self.groups[number] for number in numbers.tolist()]
        count = groups_with_boxes(matches, inside, range(len(matches.classes)))
        if not classes:
            return Slice(by, value, pictures, 0, 0, None, None, None, None, None, None, None, "It holds no box.")
        point = mean_over(class_scores(matches, np.ones((1, len(numbers)), np.int16)), classes)[0]
        whole = mean_over(self.point[None], classes)[0]
        small = _too_small(boxes, count)
        if small and len(parts) > 1:  # of the many pairs only those that say something are resampled
            figures = float(point[0]), float(point[1])
            return Slice(by, value, pictures, count, boxes, *figures, None, None, None, None, None, small)
        count_drawn = REPLICATES if len(parts) == 1 else PAIR_REPLICATES
        drawn = _replicates(matches, self.weights[:count_drawn, numbers])
        # A class that a resample of the slice lacks counts on neither side, or its weight would pass for a difference.
        both = np.where(np.isnan(drawn), np.nan, self.drawn[:count_drawn])
        own, difference = mean_over(drawn, classes)[:, 0], mean_over(drawn - both, classes)[:, 0]
        interval, apart = interval_of(own, count), interval_of(difference, count)
        return Slice(
            by,
            value,
            pictures,
            count,
            boxes,
            float(point[0]),
            float(point[1]),
            (interval.low, interval.high) if interval else None,
            float(point[0] - whole[0]),
            (apart.low, apart.high) if apart else None,
            float(np.nanstd(difference)) if apart else None,
            p_value(difference, count),
            small,
        )


def _replicates(matches: Matches, weights: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return class scores of every resample.

    They are moved by what the shortcut costs over the pictures as they are, so that they lie around the exact figure.
    """
    once = np.ones((1, weights.shape[1]), np.int16)
    left_out = class_scores(matches, once) - class_scores(matches, once, _POINTS)
    moved: NDArray[np.float64] = class_scores(matches, weights, _POINTS) + left_out
    return moved


def _too_small(boxes: int, groups: int) -> str | None:
    if boxes < MIN_BOXES:
        return f"{boxes} box{'es' * (boxes != 1)}; at least {MIN_BOXES} are needed to say something."
    if groups < MIN_GROUPS:
        return f"Its boxes stand in {groups} group{'s' * (groups != 1)} of pictures; at least {MIN_GROUPS} are needed."
    return None
