"""One line of a comparison: both sides over a selection of classes, and what the difference is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.bootstrap import mean_over
from drivetl.evaluate.intervals import LEVEL, Interval, groups_with_boxes, interval_of, p_value
from drivetl.evaluate.pairing import TestSet

__all__ = ["P_VALUE", "Difference", "SideBySide", "side_by_side"]

P_VALUE = "two-sided: the level at which the interval of the difference would just reach zero"

Verdict = Literal["better", "worse", "cannot tell"]
_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both sides and what their difference is worth; None where there is no box.

    Attributes:
        before, after: mean over seeds, then over test sets.
        difference: after minus before.
        interval: of the difference; None where it would rest on too few groups.
        p_value: of "there is no difference", see `P_VALUE`.
        verdict: better or worse only where the interval excludes zero and p is below 0.05.
    """

    before: float | None
    after: float | None
    difference: float | None
    interval: Interval | None
    p_value: float | None
    verdict: Verdict

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {**asdict(self), "interval": self.interval.document() if self.interval else None}


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Both sides over a selection of classes.

    Attributes:
        classes: the classes of the mean.
        boxes: their labelled boxes, over all test sets.
        groups: groups that hold at least one of them.
        map50_95, map50: the comparison.
        per_test_set: mean over seeds in each test set, as ``{"before", "after", "difference"}`` of mAP50-95.
        seeds: mAP50-95 of each seed, by side; of several test sets the mean, where each has as many seeds, else None.
        spread: standard deviation of ``seeds``, by side; None for fewer than two.
    """

    classes: tuple[str, ...]
    boxes: int
    groups: int
    map50_95: Difference
    map50: Difference
    per_test_set: tuple[dict[str, float | None], ...] = ()
    seeds: dict[str, list[float | None] | None] | None = None
    spread: dict[str, float | None] | None = None

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        document = {
            "classes": list(self.classes),
            "boxes": self.boxes,
            "groups": self.groups,
            "map50_95": self.map50_95.document(),
            "map50": self.map50.document(),
        }
        if self.seeds is not None:
            document |= {"per_test_set": list(self.per_test_set), "seeds": self.seeds, "spread": self.spread}
        return document


def side_by_side(
    sets: Sequence[TestSet],
    selection: Sequence[int],
    point: Sequence[tuple[_Array, _Array]],
    drawn: Sequence[tuple[_Array, _Array]],
) -> SideBySide:
    """Compare over a selection of classes: mean over classes, over seeds, over test sets, in this order.

    Args:
        sets: the test sets, or all pooled as one.
        selection: class ids.
        point: class scores of both sides for each test set, each ``(seeds, 1, classes, 2)``.
        drawn: replicates of both sides, mean over seeds, each ``(replicates, classes, 2)``; empty for no intervals.
    """
    # (test sets, seeds, 2) a side; seeds differ in number between test sets.
    values = [tuple(mean_over(side[:, 0], selection) for side in sides) for sides in point]
    by_set = np.array([[side.mean(axis=0) for side in sides] for sides in values])
    groups = [groups_with_boxes(entry.before[0], entry.groups, selection) for entry in sets]
    strata = sum(count > 0 for count in groups)
    means = _present_mean(by_set)
    replicates = None
    if drawn:
        sides = np.array([[mean_over(side, selection) for side in pair] for pair in drawn])
        replicates = _present_mean(sides[:, 1] - sides[:, 0])
    differences = []
    for metric in range(2):
        column = replicates[:, metric] if replicates is not None else np.empty(0)
        interval = interval_of(column, sum(groups), strata)
        chance = p_value(column, sum(groups), strata)
        differences.append(_difference(means[0, metric], means[1, metric], interval, chance))
    seeds = {"before": _seed_values(values, 0), "after": _seed_values(values, 1)}
    names = sets[0].class_names
    return SideBySide(
        tuple(names[index] for index in selection),
        int(sum(entry.before[0].boxes[list(selection)].sum() for entry in sets)),
        sum(groups),
        differences[0],
        differences[1],
        tuple({"before": _or_none(b), "after": _or_none(a), "difference": _or_none(a - b)} for b, a in by_set[:, :, 0]),
        seeds,
        {side: _spread(entries) for side, entries in seeds.items()},
    )


def _difference(before: float, after: float, interval: Interval | None, chance: float | None) -> Difference:
    verdict: Verdict = "cannot tell"
    if interval is not None and chance is not None and chance < 1 - LEVEL:
        verdict = "better" if interval.low > 0 else "worse" if interval.high < 0 else "cannot tell"
    return Difference(_or_none(before), _or_none(after), _or_none(after - before), interval, chance, verdict)


def _present_mean(values: _Array) -> _Array:
    """Return the mean over test sets (the first axis) without those that have no box of the classes."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    result: _Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def _seed_values(values: Sequence[tuple[_Array, ...]], side: int) -> list[float | None] | None:
    of_side = [entry[side][:, 0] for entry in values]
    if len({len(entry) for entry in of_side}) > 1:
        return None
    return [_or_none(value) for value in _present_mean(np.stack(of_side))]


def _spread(values: list[float | None] | None) -> float | None:
    numbers = [value for value in values or [] if value is not None]
    return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
