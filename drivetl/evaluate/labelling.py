"""The learning curve of one model family: from predictions files to points, law, document and picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError
from drivetl.evaluate.bootstrap import class_scores, mean_over, replicated
from drivetl.evaluate.curve_picture import Band, Mark, draw_learning_curve
from drivetl.evaluate.intervals import LEAST_GROUPS, LEVEL, METHOD, SEED, groups_with_boxes, interval_of
from drivetl.evaluate.learning_curve import MIN_SIZES, Extrapolation, extrapolate
from drivetl.evaluate.pairing import TestSet, load_test_sets
from drivetl.progress import Progress, silent

__all__ = ["CurvePoint", "LabellingCurve", "labelling_curve"]

# What is predicted, as multiples of the largest measured number; the picture ends at the first.
_MULTIPLES = (2, 4)
_STEPS = 60

_Pair = tuple[float, float]
_Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy with a number of labelled pictures; 0 is zero-shot.

    Attributes:
        pictures: labelled pictures that were trained on.
        map50_95, map50: on the test pictures.
        interval, interval50: their nominal 95 % intervals; None where there are too few groups.
        gain: difference of map50_95 to zero-shot on the same pictures; None without zero-shot.
        gain_interval: its interval, paired.
    """

    pictures: int
    map50_95: float
    map50: float
    interval: _Pair | None
    interval50: _Pair | None
    gain: float | None
    gain_interval: _Pair | None

    def document(self) -> dict[str, Any]:
        """Return JSON values."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class LabellingCurve:
    """What `labelling_curve` found.

    Attributes:
        split: the split that was measured on.
        test_pictures, groups: how many it has, and in how many groups.
        points: by rising number of pictures, zero-shot first where there is one.
        extrapolation: of the law through the points with labels: first `_MULTIPLES`, then the line of the picture;
            None where there are fewer than three.
        notes: sentences about what could not be said.
    """

    split: str
    test_pictures: int
    groups: int
    points: tuple[CurvePoint, ...]
    extrapolation: Extrapolation | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        found = self.extrapolation
        law = None
        if found is not None:
            a, b, c = (float(part[0]) for part in (found.law.a, found.law.b, found.law.c))
            law = {"formula": "map50_95 = c - a * pictures ** -b", "a": a, "b": b, "c": c, "scatter": found.scatter}
        return {
            "split": self.split,
            "test_pictures": self.test_pictures,
            "groups": self.groups,
            "points": [point.document() for point in self.points],
            "law": law,
            "extrapolation": [p.document() for p in found.predicted[: len(_MULTIPLES)]] if found else [],
            "level": LEVEL,
            "method": f"{METHOD}; residuals of the law with random signs",
            "seed": SEED,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return the curve as lines for people."""
        spans = " with 95 % intervals" if any(point.interval for point in self.points) else ""
        lines = [f"Learning curve on {self.test_pictures} pictures of {self.split!r}, mAP50-95{spans}:"]
        for point in self.points:
            name = f"{point.pictures} labelled" if point.pictures else "zero-shot"
            gain = "" if point.gain is None else f"  gain {point.gain:+.3f}{_words(point.gain_interval, '+.3f')}"
            lines.append(f"  {name:<14} {point.map50_95:.3f}{_words(point.interval, '.3f')}{gain}")
        if self.extrapolation is not None:
            for entry in self.extrapolation.predicted[: len(_MULTIPLES)]:
                lines.append(
                    f"  {entry.pictures:g} labelled would give about {entry.value:.3f}{_words(entry.interval, '.3f')}: "
                    f"{entry.gain:+.3f}{_words(entry.gain_interval, '+.3f')} over {self.points[-1].pictures}"
                )
        return [*lines, *self.notes]

    def draw(self) -> NDArray[np.uint8]:
        """Return the picture; see `drivetl.evaluate.curve_picture.draw_learning_curve`."""
        band = None
        if self.extrapolation is not None:
            line = self.extrapolation.predicted[len(_MULTIPLES) :]
            ends = [entry.interval for entry in line if entry.interval is not None]
            whole = len(ends) == len(line)
            band = Band(
                [entry.pictures for entry in line],
                [entry.value for entry in line],
                [low for low, _ in ends] if whole else None,
                [high for _, high in ends] if whole else None,
            )
        marks = [Mark(point.pictures, point.map50_95, point.interval) for point in self.points]
        title = f"How much labelling is enough? {self.test_pictures} pictures of '{self.split}', {self.groups} groups"
        return draw_learning_curve(marks, band, title=title)


def _words(pair: _Pair | None, form: str) -> str:
    return "" if pair is None else f" ({pair[0]:{form}} to {pair[1]:{form}})"


def labelling_curve(
    data: Path, zero_shot: Path | None, trained: Mapping[int, Path], *, progress: Progress = silent
) -> LabellingCurve:
    """Put predictions of models that were trained on different numbers of pictures together to a curve.

    All models are scored on the same resamples of groups of test pictures.

    Args:
        data: the dataset.
        zero_shot: predictions of the start; None where it has no class of the dataset.
        trained: predictions file by number of labelled pictures, at least one.
        progress: told of the files and of the resampling.

    Raises:
        DatasetError, ConfigError: a file cannot be used, or the files are not of one split of the dataset.
    """
    if not trained:
        raise ConfigError("a learning curve needs at least one number of labelled pictures")
    sizes = sorted(trained)
    files = [*([zero_shot] if zero_shot else []), *(trained[size] for size in sizes)]
    # Side by side means nothing here: it is the reader of files that are to be scored on the same pictures.
    (found,) = load_test_sets([data], files[:1], files[1:] or files[:1], progress=progress)
    models = [*found.before, *found.after][: len(files)]
    classes = list(range(len(found.class_names)))
    once = np.ones((1, len(found.groups)), np.int32)
    point = np.stack([mean_over(class_scores(matches, once), classes)[0] for matches in models])
    if np.isnan(point).any():
        raise ConfigError(f"the split {found.split!r} has no box, so that there is nothing to measure a curve on")
    drawn = np.zeros((len(models), 0, 2))
    if len(set(found.groups)) >= LEAST_GROUPS:
        drawn = mean_over(replicated(models, found.groups, np.random.default_rng(SEED), progress=progress), classes)
    with_boxes = groups_with_boxes(models[0], found.groups, classes)
    numbers = [*([0] if zero_shot else []), *sizes]
    points = tuple(
        _point(number, index, point, drawn, (with_boxes, numbers[0] == 0)) for index, number in enumerate(numbers)
    )
    law, notes = _law(sizes, point[-len(sizes) :, 0], drawn[-len(sizes) :, :, 0].T, with_boxes)
    if with_boxes < LEAST_GROUPS:
        notes.append(f"No intervals: fewer than {LEAST_GROUPS} groups of test pictures hold boxes.")
    return _curve(found, points, law, notes)


def _curve(
    found: TestSet, points: tuple[CurvePoint, ...], law: Extrapolation | None, notes: list[str]
) -> LabellingCurve:
    return LabellingCurve(found.split, len(found.groups), len(set(found.groups)), points, law, tuple(notes))


def _point(number: int, index: int, point: _Scores, drawn: _Scores, known: tuple[int, bool]) -> CurvePoint:
    """Return one point; ``known``: groups with boxes, and whether the first of the models is zero-shot."""
    groups, has_start = known
    against = has_start and index > 0
    return CurvePoint(
        pictures=number,
        map50_95=float(point[index, 0]),
        map50=float(point[index, 1]),
        interval=_ends(drawn[index, :, 0], groups),
        interval50=_ends(drawn[index, :, 1], groups),
        gain=float(point[index, 0] - point[0, 0]) if against else None,
        gain_interval=_ends(drawn[index, :, 0] - drawn[0, :, 0], groups) if against else None,
    )


def _law(
    sizes: list[int], measured: _Scores, replicates: _Scores, groups: int
) -> tuple[Extrapolation | None, list[str]]:
    if len(sizes) < MIN_SIZES:
        return None, [f"Nothing is extrapolated: a power law needs {MIN_SIZES} numbers of pictures, not {len(sizes)}."]
    most = sizes[-1]
    line = [*np.geomspace(sizes[0], most, _STEPS), *np.linspace(most, _MULTIPLES[0] * most, _STEPS)]
    at = [*(float(multiple * most) for multiple in _MULTIPLES), *(float(pictures) for pictures in line)]
    rng = np.random.default_rng(SEED)
    result = extrapolate(sizes, measured, replicates, at, groups=groups, rng=rng)
    notes = ["Each point is one training with one seed."]
    if len(sizes) == MIN_SIZES:
        notes.append(
            "The law goes through its three points exactly, so that the intervals of what it predicts hold the chance "
            "of the test pictures only; a fourth number of pictures would tell how far training scatters."
        )
    if math.isclose(float(result.law.a[0]), 0.0):
        notes.append("More labelled pictures brought no gain here, so the law is a flat line.")
    return result, notes


def _ends(values: _Scores, groups: int) -> _Pair | None:
    interval = interval_of(values, groups)
    return None if interval is None else (interval.low, interval.high)
