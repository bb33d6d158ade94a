"""What kind of errors a model makes, after TIDE, and which classes it takes for which.

Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors" (ECCV 2020). Every
false alarm has one kind, every unfound box that no such alarm explains is missed, and each kind costs as much AP50 as
mending it alone would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.bootstrap import curve_area
from drivetl.evaluate.detected import FOREGROUND, NEAR, Detected
from drivetl.evaluate.overlaps import assign

__all__ = ["KINDS", "Errors", "confusion", "errors_by_kind", "kinds_of", "missed_boxes"]

KINDS = ("localisation", "classification", "duplicate", "background", "both", "missed")
_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND, _BOTH, _MISSED = range(6)
_NONE = -1


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors by kind.

    Attributes:
        confidence: detections below it are left out of the counts.
        hits: detections that found their box.
        counts: errors by kind.
        costs: AP50 that mending each kind alone would give, over all confidences.
        ap50: mean over classes with a box; None without a box.
    """

    confidence: float
    hits: int
    counts: dict[str, int]
    costs: dict[str, float]
    ap50: float | None

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        total = sum(self.counts.values())
        return {
            "confidence": self.confidence,
            "iou": FOREGROUND,
            "hits": self.hits,
            "ap50": self.ap50,
            "kinds": {
                kind: {"count": count, "share": count / total if total else None, "ap50_cost": self.costs[kind]}
                for kind, count in self.counts.items()
            },
        }


def kinds_of(seen: Detected) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for every detection its place in `KINDS` (-1: hit or ignored), and the box that it should have found.

    In this order: it overlaps a box of its class by 0.1 to 0.5 (localisation); a box of another class by 0.5 or more
    (classification); a box of its class that a more confident detection has (duplicate); nothing by 0.1 (background);
    a box of another class by less than 0.5 (both).
    """
    same = seen.truth.class_id[seen.pairs.box] == seen.found.class_id[seen.pairs.detection]
    own_iou, own_box = seen.best(same)
    other_iou, other_box = seen.best(~same)
    kind = np.full(len(seen.found), _BOTH, dtype=np.int64)
    kind[np.maximum(own_iou, other_iou) < NEAR] = _BACKGROUND
    kind[own_iou >= FOREGROUND] = _DUPLICATE
    kind[other_iou >= FOREGROUND] = _CLASSIFICATION
    kind[(own_iou >= NEAR) & (own_iou < FOREGROUND)] = _LOCALISATION
    kind[seen.hit | seen.ignored] = _NONE
    box = np.where(kind == _LOCALISATION, own_box, np.where(kind == _CLASSIFICATION, other_box, -1))
    return kind, box


def errors_by_kind(seen: Detected, *, confidence: float) -> Errors:
    """Count errors among detections of at least ``confidence``, and weigh each kind over all of them."""
    kind, box = kinds_of(seen)
    shown = seen.found.confidence >= np.float32(confidence)
    counts = {name: int(((kind == code) & shown).sum()) for code, name in enumerate(KINDS)}
    counts["missed"] = int(missed_boxes(seen, kind, box, shown).sum())
    whole = _ap50(seen, seen.hit, seen.ignored, seen.found.class_id, None)
    costs = {}
    for code, name in enumerate(KINDS):
        costs[name] = 0.0 if whole is None else (_mended(seen, kind, box, code) or 0.0) - whole
    return Errors(confidence, int((seen.hit & shown).sum()), counts, costs, whole)


def missed_boxes(
    seen: Detected, kind: NDArray[np.int64], box: NDArray[np.int64], shown: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the boxes that nothing found and no error of place or class explains."""
    missed = ~seen.truth.crowd
    missed[seen.box[seen.hit & shown]] = False
    explained = shown & ((kind == _LOCALISATION) | (kind == _CLASSIFICATION))
    missed[box[explained]] = False
    return missed


def _mended(seen: Detected, kind: NDArray[np.int64], box: NDArray[np.int64], code: int) -> float | None:
    """Return AP50 with one kind of error mended."""
    hit, ignored, class_id = seen.hit.copy(), seen.ignored.copy(), seen.found.class_id
    left_out = None
    wrong = np.flatnonzero(kind == code)
    if code == _MISSED:
        left_out = missed_boxes(seen, kind, box, np.ones(len(seen.found), dtype=bool))
    else:
        ignored[wrong] = True
    if code in (_LOCALISATION, _CLASSIFICATION):
        # The most confident of those that aim at a free box gets it; the others fall away.
        free = np.ones(len(seen.truth.picture), dtype=bool)
        free[seen.box[seen.hit]] = False
        order = wrong[np.argsort(-seen.found.confidence[wrong], kind="stable")]
        order = order[free[box[order]]]
        _, first = np.unique(box[order], return_index=True)
        mended = order[first]
        hit[mended], ignored[mended] = True, False
        class_id = class_id.copy()
        class_id[mended] = seen.truth.class_id[box[mended]]
    return _ap50(seen, hit, ignored, class_id, left_out)


def _ap50(
    seen: Detected,
    hit: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    class_id: NDArray[np.int64],
    left_out: NDArray[np.bool_] | None,
) -> float | None:
    wanted = ~seen.truth.crowd if left_out is None else ~seen.truth.crowd & ~left_out
    figures = []
    for number in range(seen.truth.classes):
        positives = int((wanted & (seen.truth.class_id == number)).sum())
        if not (~seen.truth.crowd & (seen.truth.class_id == number)).any():
            continue
        of_class = np.flatnonzero((class_id == number) & ~ignored)
        order = of_class[np.argsort(-seen.found.confidence[of_class], kind="stable")]
        places = np.flatnonzero(hit[order])
        hits = np.arange(1, len(places) + 1, dtype=np.int32)[None]
        area = curve_area(hits, (places + 1).astype(np.int32)[None], np.array([[float(positives)]]))
        # With every box that is wanted left out there is nothing to miss.
        figures.append(float(area[0]) if positives else 1.0)
    return float(np.mean(figures)) if figures else None


def confusion(seen: Detected, names: Sequence[str], *, confidence: float) -> dict[str, Any]:
    """Return which class is taken for which, as a JSON document.

    Detections of at least ``confidence`` choose among all boxes that they overlap by 0.5, whatever the class. Rows are
    the classes of the boxes, then what is no box; columns are the classes of the detections, then what is not found.
    """
    shown = seen.found.confidence >= np.float32(confidence)
    near = seen.pairs.only(shown[seen.pairs.detection])
    size = len(seen.found), len(seen.truth.picture)
    chosen = assign(near, size, np.array([FOREGROUND]))[0]
    count = len(names)
    table = np.zeros((count + 1, count + 1), dtype=np.int64)
    matched = np.flatnonzero(chosen >= 0)
    np.add.at(table, (seen.truth.class_id[chosen[matched]], seen.found.class_id[matched]), 1)
    alarms = shown & (chosen < 0) & ~seen.ignored
    table[count, :count] = np.bincount(seen.found.class_id[alarms], minlength=count)
    unfound = ~seen.truth.crowd
    unfound[chosen[matched]] = False
    table[:count, count] = np.bincount(seen.truth.class_id[unfound], minlength=count)
    return {"classes": list(names), "table": table.tolist(), "confidence": confidence, "iou": FOREGROUND}
