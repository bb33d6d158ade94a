"""Choose how much of the fine-tuned weights to keep, on pictures that they were not trained on.

WiSE-FT (Wortsman et al., CVPR 2022) mixes the weights of start and end; how much of each is decided here: the share
whose gain on the target, less a price for what it loses on source pictures, is highest, among those that lose no more
than a limit. Where a smaller share is worth nearly as much, it is taken: the difference is within what so few pictures
can tell, and what is nearer to the start keeps more of what nobody measures (the reasoning of the one-standard-error
rule of Breiman et al., "Classification and regression trees", 1984). The start itself, share 0, is always among them,
so that a fine-tuned model is only taken if it is better: do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["ClassFigures", "Judge", "SharePoint", "Trial", "choose_share", "class_mean"]

# A class with fewer labelled boxes says more of chance than of a model.
MIN_BOXES = 10

# Shares that are worth this much less than the best, in mAP50-95, count as equal to it.
NEARLY = 0.005

# Class name → (AP50-95, labelled boxes); only classes that have a box and that the model detects.
ClassFigures = Mapping[str, tuple[float, int]]


class Judge(Protocol):
    """Measures weights; composed outside, because stages do not import each other."""

    def __call__(self, weights: Path, data: Path, split: str, pictures: frozenset[Path] | None) -> ClassFigures:
        """Return AP on a split of a dataset, or on some of its pictures, by class."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """One fit's figures for one share.

    Attributes:
        share: of the fine-tuned weights.
        target: on pictures of the target that the fit has not seen.
        retention: on source pictures; None without any.
    """

    share: float
    target: ClassFigures
    retention: ClassFigures | None

    def document(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "share": self.share,
            "target": {name: list(entry) for name, entry in self.target.items()},
            "retention": None if self.retention is None else {n: list(e) for n, e in self.retention.items()},
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Trial:
        """Read back what `document` gave."""
        target, retention = (
            None if figures is None else {name: (float(ap), int(boxes)) for name, (ap, boxes) in figures.items()}
            for figures in (document["target"], document["retention"])
        )
        return cls(float(document["share"]), target or {}, retention)


@dataclass(frozen=True, slots=True)
class SharePoint:
    """A point of the curve over shares.

    Attributes:
        share: of the fine-tuned weights; 0 is the start.
        target: mAP50-95 on the target pictures, mean over fits.
        target_gain: its difference to the start's, of each fit on its own pictures.
        retention: mAP50-95 on the source pictures; None without any.
        retention_gain: its difference to the start's.
        chosen: whether this share is taken.
    """

    share: float
    target: float
    target_gain: float
    retention: float | None
    retention_gain: float | None
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
    fits: Sequence[Sequence[Trial]], max_forgetting: float, forgetting_price: float = 1.0, *, most: float = 1.0
) -> list[SharePoint]:
    """Return the curve over shares with the chosen one marked.

    Args:
        fits: for each fit the trials of the same shares, share 0 first.
        max_forgetting: mAP50-95 on source pictures that may be lost.
        forgetting_price: mAP50-95 on the target that one on source pictures is worth.
        most: no larger share is taken.
    """
    points = []
    for column in zip(*fits, strict=True):
        start = [trials[0] for trials in fits]
        gain = class_mean([_difference(t.target, s.target) for t, s in zip(column, start, strict=True)])
        kept, kept_gain = _retention(column, start)
        points.append(
            SharePoint(column[0].share, class_mean([t.target for t in column]), gain, kept, kept_gain, chosen=False)
        )

    def lost(point: SharePoint) -> float:
        return max(0.0, -(point.retention_gain or 0.0))

    def worth(point: SharePoint) -> float:
        return point.target_gain - forgetting_price * lost(point)

    allowed = [p for p in points if p.share == 0 or (p.share <= most and worth(p) > 0 and lost(p) <= max_forgetting)]
    best = max(worth(point) for point in allowed)
    # The start is nobody's near equal: with a gain in sight, something is taken.
    equals = [point for point in allowed if worth(point) >= best - NEARLY and (point.share > 0 or best == 0)]
    chosen = min(equals, key=lambda point: point.share)
    return [
        SharePoint(p.share, p.target, p.target_gain, p.retention, p.retention_gain, chosen=p is chosen) for p in points
    ]


def _retention(column: Sequence[Trial], start: Sequence[Trial]) -> tuple[float | None, float | None]:
    pairs = [
        (trial.retention, first.retention)
        for trial, first in zip(column, start, strict=True)
        if trial.retention is not None and first.retention is not None
    ]
    if not pairs:
        return None, None
    return class_mean([now for now, _ in pairs]), class_mean([_difference(now, first) for now, first in pairs])


def _difference(now: ClassFigures, before: ClassFigures) -> dict[str, tuple[float, int]]:
    return {name: (value - before.get(name, (0.0, 0))[0], boxes) for name, (value, boxes) in now.items()}
