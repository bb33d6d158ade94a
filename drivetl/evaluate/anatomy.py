"""Everything that detections say about a model's errors, as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drivetl.evaluate.boxes import Found, Truth
from drivetl.evaluate.detected import detected
from drivetl.evaluate.errors_by_kind import confusion, errors_by_kind
from drivetl.evaluate.operating import calibration, curve, curves, threshold_for

__all__ = ["CONFIDENCE", "anatomy"]

# The detector's default threshold in the car.
CONFIDENCE = 0.25


def anatomy(
    truth: Truth,
    found: Found,
    names: Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    recall: float | None = None,
    false_alarms: float | None = None,
) -> dict[str, Any]:
    """Return kinds of errors, confusion, precision-recall, calibration and thresholds.

    Args:
        truth: the boxes.
        found: the detections.
        names: of the classes.
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
    }
