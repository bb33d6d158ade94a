"""Where to set the threshold: precision and recall, what a confidence is worth, false alarms per picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.evaluate.detected import FOREGROUND, Detected

__all__ = ["CALIBRATED_FROM", "Curve", "calibration", "curve", "curves", "threshold_for"]

# Nearly all candidates below say "nothing there" and mean it; they would drown the others.
CALIBRATED_FROM = 0.05
_BINS = 10
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class Curve:
    """What each possible threshold gives, from the highest confidence down; equal confidences are one threshold.

    Attributes:
        confidence: float64 ``(n,)``: the confidences, each a float32; a threshold just below keeps them.
        hits, alarms: int64 ``(n,)``: detections of at least that confidence that found a box, and that did not.
        boxes: boxes to be found.
        pictures: pictures they stand in, empty ones included.
    """

    confidence: NDArray[np.float64]
    hits: NDArray[np.int64]
    alarms: NDArray[np.int64]
    boxes: int
    pictures: int

    def at(self, index: int) -> dict[str, float]:
        """Return one threshold and what it gives.

        The detector keeps what scores more than its threshold, in float32: to keep a confidence, the threshold is the
        next float32 below it, and no digit of it may be rounded away.
        """
        hits, alarms = int(self.hits[index]), int(self.alarms[index])
        return {
            "threshold": float(np.nextafter(np.float32(self.confidence[index]), np.float32(0))),
            "recall": hits / self.boxes if self.boxes else 0.0,
            "precision": hits / (hits + alarms),
            "false_alarms_per_picture": alarms / self.pictures,
        }


def curve(seen: Detected, class_id: int | None = None) -> Curve:
    """Return the curve of one class, or of all classes together."""
    chosen = ~seen.ignored if class_id is None else ~seen.ignored & (seen.found.class_id == class_id)
    boxes = ~seen.truth.crowd if class_id is None else ~seen.truth.crowd & (seen.truth.class_id == class_id)
    order = np.flatnonzero(chosen)
    order = order[np.argsort(-seen.found.confidence[order], kind="stable")]
    confidence = seen.found.confidence[order].astype(np.float64)
    last = np.flatnonzero(np.diff(confidence, append=-1.0))
    hits = np.cumsum(seen.hit[order].astype(np.int64))[last]
    return Curve(confidence[last], hits, last + 1 - hits, int(boxes.sum()), seen.truth.pictures)


def curves(seen: Detected, names: Sequence[str]) -> dict[str, Any]:
    """Return precision (interpolated, as in AP) and confidence at 101 recalls, of each class with a box and of all."""
    entries: dict[str, Any] = {"recall": [round(float(r), 2) for r in _RECALLS], "iou": FOREGROUND, "classes": {}}
    for name, class_id in [("", None), *((name, number) for number, name in enumerate(names))]:
        found = curve(seen, class_id)
        if not found.boxes:
            continue
        recall = found.hits / found.boxes
        precision = found.hits / np.maximum(found.hits + found.alarms, 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        place = np.searchsorted(recall, _RECALLS - 1e-9)
        reached = place < len(recall)
        at = np.minimum(place, max(len(recall) - 1, 0))
        entry = {
            "precision": [round(float(envelope[i]), 4) if ok else 0.0 for i, ok in zip(at, reached, strict=True)],
            "confidence": [
                round(float(found.confidence[i]), 4) if ok else None for i, ok in zip(at, reached, strict=True)
            ],
        }
        if class_id is None:
            entries["all"] = entry
        else:
            entries["classes"][name] = entry
    return entries


def calibration(seen: Detected) -> dict[str, Any]:
    """Return the detection expected calibration error and the bins it comes from.

    Küppers, Kronenberger, Shantia and Haselhoff, "Multivariate Confidence Calibration for Object Detection" (CVPR
    Workshops 2020), in confidence alone: the mean distance between confidence and precision over ten bins, weighted
    by their detections, at IoU 0.5 and from `CALIBRATED_FROM` on.
    """
    kept = ~seen.ignored & (seen.found.confidence >= np.float32(CALIBRATED_FROM))
    confidence, hit = seen.found.confidence[kept].astype(np.float64), seen.hit[kept]
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    rows = []
    error = 0.0
    for number, count in enumerate(counts.tolist()):
        inside = bins == number
        mean = float(confidence[inside].mean()) if count else None
        precision = float(hit[inside].mean()) if count else None
        if mean is not None and precision is not None:
            error += count / len(confidence) * abs(mean - precision)
        low, high = number / _BINS, (number + 1) / _BINS
        rows.append({"from": low, "to": high, "detections": count, "confidence": mean, "precision": precision})
    return {
        "d_ece": error if len(confidence) else None,
        "iou": FOREGROUND,
        "from_confidence": CALIBRATED_FROM,
        "detections": len(confidence),
        "bins": rows,
    }


def threshold_for(
    found: Curve, *, recall: float | None = None, false_alarms: float | None = None
) -> dict[str, float] | None:
    """Return the highest threshold that finds enough, or the lowest that stays within the false alarms per picture.

    Args:
        found: from `curve`.
        recall: the wanted share of boxes, in (0, 1].
        false_alarms: the most false alarms per picture, instead.

    Returns:
        The threshold for a detector, see `Curve.at`, and what it gives; None where no threshold does.
    """
    if not len(found.confidence):
        return None
    if recall is not None:
        enough = np.flatnonzero(found.hits >= recall * found.boxes - 1e-9)
        return found.at(int(enough[0])) if len(enough) and found.boxes else None
    few = np.flatnonzero(found.alarms <= (false_alarms or 0.0) * found.pictures + 1e-9)
    return found.at(int(few[-1])) if len(few) else None
