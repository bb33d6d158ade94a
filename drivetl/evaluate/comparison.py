"""Is one model better than another? Paired bootstrap over groups, with several seeds and several test sets.

Both sides are scored on the same resamples of groups, so that what makes a picture hard for both falls out of the
difference. Several models on a side (seeds of one training) count by their mean; the interval speaks of other pictures
from the same source, not of other seeds, whose spread is stated beside it. With several test sets (folds) groups are
drawn within each, and the figure is the mean of the differences, because scores of models of different folds need not
be on one scale; AP over all pictures pooled stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError, quoted
from drivetl.evaluate.bootstrap import REPLICATES, Weights, class_scores, portions, resampled
from drivetl.evaluate.intervals import LEAST_GROUPS, LEVEL, METHOD, SEED
from drivetl.evaluate.matching import Matches
from drivetl.evaluate.pairing import TestSet, load_test_sets
from drivetl.evaluate.side_by_side import P_VALUE, SideBySide, side_by_side
from drivetl.progress import Progress, silent

__all__ = ["MIN_BOXES", "Comparison", "compare", "compare_test_sets"]

MIN_BOXES = 20

_Sides = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found.

    Attributes:
        headline: over the classes with enough boxes, or the chosen ones.
        all_classes: over every class that has a box.
        per_class: each class that has a box.
        pooled: ``headline`` and ``all_classes`` over the pictures of all test sets as one set; None for one test set.
        test_sets: what was compared on.
        min_boxes: boxes that a class of the headline needs; None where the classes were chosen.
        replicates, seed: of the bootstrap.
        notes: sentences about what could not be said.
    """

    headline: SideBySide
    all_classes: SideBySide
    per_class: dict[str, SideBySide]
    pooled: dict[str, SideBySide] | None
    test_sets: tuple[TestSet, ...]
    min_boxes: int | None
    replicates: int
    seed: int
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "headline": self.headline.document(),
            "all_classes": self.all_classes.document(),
            "per_class": {name: entry.document() for name, entry in self.per_class.items()},
            "pooled": {name: entry.document() for name, entry in self.pooled.items()} if self.pooled else None,
            "test_sets": [
                {
                    "data": entry.name,
                    "split": entry.split,
                    "dataset_fingerprint": entry.fingerprint,
                    "pictures": len(entry.groups),
                    "groups": len(set(entry.groups)),
                    "before": list(entry.before_names),
                    "after": list(entry.after_names),
                }
                for entry in self.test_sets
            ],
            "min_boxes": self.min_boxes,
            "level": LEVEL,
            "method": METHOD,
            "p_value": P_VALUE,
            "replicates": self.replicates,
            "seed": self.seed,
            "notes": list(self.notes),
        }


def compare(
    data: Sequence[Path],
    before: Sequence[Path],
    after: Sequence[Path],
    *,
    min_boxes: int = MIN_BOXES,
    classes: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    seed: int = SEED,
    progress: Progress = silent,
) -> Comparison:
    """Compare predictions files (see `drivetl.evaluate.predictions`) on their datasets.

    Args:
        data: the dataset, or one for each fold.
        before: files of the models to compare with; several of one test set are seeds.
        after: files of the models in question, likewise.
        min_boxes: boxes that a class needs, over all test sets, to count in the headline.
        classes: the classes of the headline, instead of those with enough boxes.
        only: leave all other classes out of everything, such as those that one of the models does not have.
        seed: of the resampling.
        progress: told now and then.

    Raises:
        DatasetError, ConfigError: see `drivetl.evaluate.pairing.load_test_sets`, and ConfigError for an unknown class
            or where no class has enough boxes.
    """
    sets = load_test_sets(data, before, after, progress=progress)
    return compare_test_sets(sets, min_boxes=min_boxes, classes=classes, only=only, seed=seed, progress=progress)


def compare_test_sets(
    sets: Sequence[TestSet],
    *,
    min_boxes: int = MIN_BOXES,
    classes: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    seed: int = SEED,
    replicates: int = REPLICATES,
    progress: Progress = silent,
) -> Comparison:
    """Compare models whose detections are matched already; arguments and errors as in `compare`.

    Test sets need the same classes, and their groups are taken for different ones whatever their names.
    """
    names = sets[0].class_names
    boxes = np.sum([entry.before[0].boxes for entry in sets], axis=0)
    if only is not None:
        boxes = np.where([name in _known(only, names, "--only") for name in names], boxes, 0)
    present = [index for index in range(len(names)) if boxes[index]]
    headline = _headline(names, boxes, min_boxes, classes, only is not None)
    pooled, notes = _pooled(sets)
    notes += _lacking(sets, [names[index] for index in present])
    scored = [*sets, *([pooled] if pooled else [])]
    point = [_sides(entry, np.ones((1, len(entry.groups)), np.int32)) for entry in scored]
    drawn = _replicates(sets, pooled, np.random.default_rng(seed), replicates, progress)
    if any(len(set(entry.groups)) < 2 for entry in sets):
        drawn = []
        notes.append("No intervals: a test set has fewer than 2 groups of pictures.")

    def over(selection: Sequence[int], which: slice) -> SideBySide:
        return side_by_side(sets, selection, point[which], drawn[which])

    folds, whole = slice(0, len(sets)), slice(len(sets), None)
    shown = over(headline, folds)
    if drawn and shown.map50_95.interval is None:
        notes.append(
            f"No interval of the headline: its boxes stand in {shown.groups} groups of pictures, and an interval needs "
            f"{LEAST_GROUPS}, and one more for each further test set."
        )
    return Comparison(
        shown,
        over(present, folds),
        {names[index]: over([index], folds) for index in present},
        {"headline": over(headline, whole), "all_classes": over(present, whole)} if pooled else None,
        tuple(sets),
        None if classes is not None else min_boxes,
        replicates,
        seed,
        tuple(notes),
    )


def _headline(
    names: Sequence[str], boxes: NDArray[np.int64], min_boxes: int, classes: Sequence[str] | None, only: bool
) -> list[int]:
    if classes is not None:
        wanted = _known(classes, names, "--classes")
        chosen = [index for index, name in enumerate(names) if name in wanted and boxes[index]]
        if not chosen:
            raise ConfigError(f"the test set has no box of {quoted(', '.join(classes))}; choose other --classes")
        return chosen
    chosen = [index for index in range(len(names)) if boxes[index] >= max(min_boxes, 1)]
    if not chosen:
        most = int(np.argmax(boxes))
        if not boxes[most]:
            remedy = "give --data one that has" + (", or leave --only out" if only else "")
            raise ConfigError(f"the test set has no labelled box of the classes that are compared; {remedy}")
        raise ConfigError(
            f"no class has {min_boxes} boxes or more, the most has {quoted(names[most])} with {boxes[most]}; lower "
            "--min-boxes or name --classes"
        )
    return chosen


def _known(classes: Sequence[str], names: Sequence[str], option: str) -> Sequence[str]:
    for name in classes:
        if name not in names:
            raise ConfigError(f"{option} names {quoted(name)}, which is none of {quoted(', '.join(names))}")
    return classes


def _pooled(sets: Sequence[TestSet]) -> tuple[TestSet | None, list[str]]:
    """Return all test sets as one, the k-th seed of each beside the k-th of the others."""
    if len(sets) == 1:
        return None, []
    if len({(len(entry.before), len(entry.after)) for entry in sets}) > 1:
        return None, ["Nothing is pooled, because the test sets have different numbers of seeds."]
    before = tuple(Matches.joined(parts) for parts in zip(*(entry.before for entry in sets), strict=True))
    after = tuple(Matches.joined(parts) for parts in zip(*(entry.after for entry in sets), strict=True))
    groups = tuple(f"{number}/{group}" for number, entry in enumerate(sets) for group in entry.groups)
    return TestSet("pooled", "", "", sets[0].class_names, groups, before, after), []


def _lacking(sets: Sequence[TestSet], present: Sequence[str]) -> list[str]:
    """Say which boxes a side could not find, because its models have no such class."""
    notes = []
    for side, sets_lack in (("before", [s.before_lacks for s in sets]), ("after", [s.after_lacks for s in sets])):
        lacking = frozenset.intersection(*sets_lack)
        if lacked := [name for name in present if name in lacking]:
            what = "none of these classes" if len(lacked) == len(present) else f"no class for {', '.join(lacked)}"
            notes.append(f"The models {side} have {what}: their 0 does not mean that they looked and missed.")
    return notes


def _sides(entry: TestSet, weights: Weights) -> _Sides:
    """Return class scores of both sides, each ``(seeds, replicates, classes, 2)``."""
    sides = [np.stack([class_scores(matches, weights) for matches in side]) for side in (entry.before, entry.after)]
    return sides[0], sides[1]


def _replicates(
    sets: Sequence[TestSet], pooled: TestSet | None, rng: np.random.Generator, replicates: int, progress: Progress
) -> list[_Sides]:
    """Return the mean over seeds of both sides, each ``(replicates, classes, 2)``, for every test set and the pool."""
    widest = pooled or sets[0]
    parts: list[list[_Sides]] = []
    done = 0
    for size in portions([*widest.before, *widest.after], replicates):
        weights = [resampled(entry.groups, size, rng) for entry in sets]
        if pooled:
            weights.append(np.concatenate(weights, axis=1))
        scored = [_sides(entry, drawn) for entry, drawn in zip([*sets, pooled or sets[0]], weights, strict=False)]
        parts.append([(before.mean(axis=0), after.mean(axis=0)) for before, after in scored])
        done += size
        progress("paired bootstrap", done, replicates)
    columns = zip(*parts, strict=True)
    return [(np.concatenate([b for b, _ in column]), np.concatenate([a for _, a in column])) for column in columns]
