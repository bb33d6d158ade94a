"""Everything that detections say about a model's errors, as one JSON document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.boxes import Found, Truth
from drivetl.evaluate.detected import Detected, detected
from drivetl.evaluate.errors_by_kind import KINDS, confusion, errors_by_kind, kinds_of, missed_boxes
from drivetl.evaluate.operating import calibration, curve, curves, threshold_for

__all__ = ["CONFIDENCE", "anatomy"]

# The detector's default threshold in the car.
CONFIDENCE = 0.25
_WORST = 12
_OF_ONE_PICTURE = 2


def anatomy(
    truth: Truth,
    found: Found,
    names: Sequence[str],
    *,
    pictures: Sequence[str] = (),
    confidence: float = CONFIDENCE,
    recall: float | None = None,
    false_alarms: float | None = None,
) -> dict[str, Any]:
    """Return kinds of errors, confusion, precision-recall, calibration and thresholds.

    They are of the detections that AP sees, in which a box stands for each class that it might be. The car takes the
    likeliest class of a box alone: at the same threshold it gives a few false alarms fewer, and no more hits.

    Args:
        truth: the boxes.
        found: the detections.
        names: of the classes.
        pictures: names of the pictures; with them the worst misses and false alarms are listed.
        confidence: detections below it are not counted; curves and costs take all.
        recall: also the threshold that finds this share of the boxes.
        false_alarms: also the threshold with at most so many false alarms per picture.
    """
    seen = detected(truth, found)
    whole = curve(seen)
    thresholds = []
    if recall is not None:
        thresholds.append({"wanted": f"recall {recall:g}", "gives": threshold_for(whole, recall=recall)})
    if false_alarms is not None:
        wanted = f"{false_alarms:g} false alarms a picture"
        thresholds.append({"wanted": wanted, "gives": threshold_for(whole, false_alarms=false_alarms)})
    return {
        **errors_by_kind(seen, confidence=confidence).document(),
        "confusion": confusion(seen, names, confidence=confidence),
        "curves": curves(seen, names),
        "calibration": calibration(seen),
        "thresholds": thresholds,
        "worst": _worst(seen, names, pictures, confidence) if pictures else None,
    }


def _worst(seen: Detected, names: Sequence[str], pictures: Sequence[str], confidence: float) -> dict[str, Any]:
    """Return the largest boxes that are missed, and the most confident false alarms, at most two a picture.

    Boxes are ``xyxy_px``. Duplicates are left out: they stand on something that is there.
    """
    truth, found = seen.truth, seen.found
    kind, box = kinds_of(seen)
    shown = found.confidence >= np.float32(confidence)
    missed = np.flatnonzero(missed_boxes(seen, kind, box, shown))
    missed = missed[np.argsort(-truth.xywh_px[missed, 2:].prod(axis=1), kind="stable")]
    alarms = np.flatnonzero(shown & (kind >= 0) & (kind != KINDS.index("duplicate")))
    alarms = alarms[np.argsort(-found.confidence[alarms], kind="stable")]
    return {
        "missed": [
            {
                "picture": pictures[truth.picture[i]],
                "class": names[truth.class_id[i]],
                "xyxy_px": _xyxy(truth.xywh_px[i]),
            }
            for i in _spread(missed, truth.picture)
        ],
        "false_alarms": [
            {
                "picture": pictures[found.picture[i]],
                "class": names[found.class_id[i]],
                "xyxy_px": _xyxy(found.xywh_px[i]),
                "confidence": round(float(found.confidence[i]), 4),
                "kind": KINDS[kind[i]],
            }
            for i in _spread(alarms, found.picture)
        ],
    }


def _spread(order: NDArray[np.int64], picture: NDArray[np.int64]) -> list[int]:
    """Return the first of an order, at most so many of each picture."""
    taken: Counter[int] = Counter()
    chosen: list[int] = []
    for index in order.tolist():
        taken[int(picture[index])] += 1
        if taken[int(picture[index])] <= _OF_ONE_PICTURE:
            chosen.append(index)
        if len(chosen) == _WORST:
            break
    return chosen


def _xyxy(xywh_px: NDArray[Any]) -> list[float]:
    left, top, width, height = (float(value) for value in xywh_px)
    return [round(value, 1) for value in (left, top, left + width, top + height)]
