"""Choose how much of the fine-tuned weights to keep, on pictures that they were not trained on.

WiSE-FT (Wortsman et al., CVPR 2022) mixes the weights of start and end; how much of each is decided here: the share
whose gain on the target, as it is and where asked for in weather, less a price for what it loses on source pictures, is
highest, among those that lose no more than a limit. Where a smaller share is worth nearly as much, it is taken: the
difference is within what so few pictures can tell, and what is nearer to the start keeps more of what nobody measures
(the reasoning of the one-standard-error rule of Breiman et al., "Classification and regression trees", 1984). The start
itself, share 0, is always among them, so that a fine-tuned model is only taken if it is better: do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

__all__ = ["ClassFigures", "Judge", "SharePoint", "Trial", "choose_share", "class_mean", "difference"]

# A class with fewer labelled boxes says more of chance than of a model.
MIN_BOXES = 10

# Shares that are worth this much less than the best, in mAP50-95, count as equal to it.
NEARLY = 0.005

# Class name → (AP50-95, labelled boxes); only classes that have a box and that the model detects.
ClassFigures = Mapping[str, tuple[float, int]]


class Judge(Protocol):
    """Measures weights; composed outside, because stages do not import each other."""

    def __call__(
        self,
        weights: Path,
        data: Path,
        split: str,
        pictures: frozenset[Path] | None,
        weather: tuple[str, int] | None = None,
    ) -> ClassFigures:
        """Return AP on a split of a dataset, or on some of its pictures, as they are or in weather, by class."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """One fit's figures for one share.

    Attributes:
        share: of the fine-tuned weights.
        target: on pictures of the target that the fit has not seen.
        retention: on source pictures; None without any.
        weather: weather, such as ``fog:3`` → on the same pictures of the target in it.
    """

    share: float
    target: ClassFigures
    retention: ClassFigures | None
    weather: Mapping[str, ClassFigures] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "share": self.share,
            "target": _listed(self.target),
            "retention": None if self.retention is None else _listed(self.retention),
            "weather": {name: _listed(figures) for name, figures in self.weather.items()},
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Trial:
        """Read back what `document` gave."""
        kept = document["retention"]
        weather = {name: _figures(entry) for name, entry in document["weather"].items()}
        retention = None if kept is None else _figures(kept)
        return cls(float(document["share"]), _figures(document["target"]), retention, weather)


def _listed(figures: ClassFigures) -> dict[str, list[float]]:
    return {name: list(entry) for name, entry in figures.items()}


def _figures(document: Mapping[str, Any]) -> ClassFigures:
    return {name: (float(ap), int(boxes)) for name, (ap, boxes) in document.items()}


@dataclass(frozen=True, slots=True)
class SharePoint:
    """A point of the curve over shares.

    Attributes:
        share: of the fine-tuned weights; 0 is the start.
        target: mAP50-95 on the target pictures, mean over fits.
        target_gain: its difference to the start's, of each fit on its own pictures.
        retention: mAP50-95 on the source pictures; None without any.
        retention_gain: its difference to the start's.
        weather: mAP50-95 on the target pictures, mean over fits and the weathers that were asked for; None without.
        weather_gain: its difference to the start's.
        chosen: whether this share is taken.
    """

    share: float
    target: float
    target_gain: float
    retention: float | None
    retention_gain: float | None
    weather: float | None
    weather_gain: float | None
    chosen: bool

    def document(self) -> dict[str, Any]:
        """Return JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def class_mean(figures: Sequence[ClassFigures]) -> float:
    """Return the mean over classes of several figures.

    Figures of one class are weighed by their boxes. Classes with fewer than `MIN_BOXES` boxes in all of them are left
    out, unless no class has more.
    """
    totals: dict[str, list[float]] = {}
    for entry in figures:
        for name, (value, boxes) in entry.items():
            total = totals.setdefault(name, [0.0, 0.0])
            total[0] += value * boxes
            total[1] += boxes
    enough = {name: total for name, total in totals.items() if total[1] >= MIN_BOXES} or totals
    return sum(value / boxes for value, boxes in enough.values()) / len(enough) if enough else 0.0


def choose_share(
    fits: Sequence[Sequence[Trial]],
    max_forgetting: float,
    forgetting_price: float = 1.0,
    *,
    weather_share: float = 0.5,
    most: float = 1.0,
) -> list[SharePoint]:
    """Return the curve over shares with the chosen one marked.

    No share is taken that loses on the target's pictures as they are, or is worth less than the start.

    Args:
        fits: for each fit the trials of the same shares, share 0 first.
        max_forgetting: mAP50-95 on source pictures that may be lost.
        forgetting_price: mAP50-95 on the target that one on source pictures is worth.
        weather_share: how much of the gain is counted in weather, in [0, 1]; the rest on the pictures as they are.
        most: no larger share is taken.
    """
    points = []
    for column in zip(*fits, strict=True):
        start = [trials[0] for trials in fits]
        gain = class_mean([difference(t.target, s.target) for t, s in zip(column, start, strict=True)])
        target = class_mean([t.target for t in column])
        points.append(
            SharePoint(
                column[0].share, target, gain, *_retention(column, start), *_weather(column, start), chosen=False
            )
        )

    def lost(point: SharePoint) -> float:
        return max(0.0, -(point.retention_gain or 0.0))

    def worth(point: SharePoint) -> float:
        gain = point.target_gain
        if point.weather_gain is not None:
            gain = (1 - weather_share) * gain + weather_share * point.weather_gain
        return gain - forgetting_price * lost(point)

    def harmless(point: SharePoint) -> bool:
        # Whatever weather is worth: on the pictures as they are, nothing may be lost.
        return point.target_gain >= 0 and lost(point) <= max_forgetting

    allowed = [p for p in points if p.share == 0 or (p.share <= most and worth(p) > 0 and harmless(p))]
    best = max(worth(point) for point in allowed)
    # The start is nobody's near equal: with a gain in sight, something is taken.
    equals = [point for point in allowed if worth(point) >= best - NEARLY and (point.share > 0 or best == 0)]
    chosen = min(equals, key=lambda point: point.share)
    return [replace(point, chosen=point is chosen) for point in points]


def _retention(column: Sequence[Trial], start: Sequence[Trial]) -> tuple[float | None, float | None]:
    pairs = [
        (trial.retention, first.retention)
        for trial, first in zip(column, start, strict=True)
        if trial.retention is not None and first.retention is not None
    ]
    if not pairs:
        return None, None
    return class_mean([now for now, _ in pairs]), class_mean([difference(now, first) for now, first in pairs])


def _weather(column: Sequence[Trial], start: Sequence[Trial]) -> tuple[float | None, float | None]:
    names = list(column[0].weather)
    if not names:
        return None, None
    found = [class_mean([trial.weather[name] for trial in column]) for name in names]
    gains = [
        class_mean([difference(t.weather[name], s.weather[name]) for t, s in zip(column, start, strict=True)])
        for name in names
    ]
    return sum(found) / len(found), sum(gains) / len(gains)


def difference(now: ClassFigures, before: ClassFigures) -> dict[str, tuple[float, int]]:
    """Return by how much AP differs, by class, with the boxes; a class that was not there had none."""
    return {name: (value - before.get(name, (0.0, 0))[0], boxes) for name, (value, boxes) in now.items()}
