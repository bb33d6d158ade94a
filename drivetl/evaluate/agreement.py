"""Agreement of a model with itself, a proxy for accuracy where nothing is labelled, and how far it can be trusted.

A model that finds the same objects on a picture, on its mirror image and in light weather has understood something
that a confused one has not. How well that follows accuracy is no law: it is measured here, on labelled pictures, as
Spearman's rank correlation of agreement and AP50, with a bootstrap interval over groups.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.data.pictures import decode_picture
from drivetl.data.records import Sample
from drivetl.evaluate.bootstrap import class_scores, mean_over
from drivetl.evaluate.boxes import Found, Truth
from drivetl.evaluate.evaluation import Run
from drivetl.evaluate.intervals import LEAST_GROUPS, interval_of
from drivetl.evaluate.matching import match
from drivetl.progress import Progress, silent, tracked
from drivetl.runtime import Detections
from drivetl.weather import CONDITIONS, apply_weather, depth_prior

__all__ = ["VIEWS", "Correlation", "agreement", "agreement_on", "correlation", "mirrored", "spearman"]

CONFIDENCE = 0.25
IOU = 0.5
# The mirror image, and weather that leaves a good model most of what it finds.
VIEWS: dict[str, int] = {"mirrored": 0, "fog": 2, "rain": 1, "night": 2}
REPLICATES = 1000
# Fewer pictures say nothing of a correlation.
MIN_PICTURES = 10

_Array = NDArray[np.float64]


def agreement(first: Detections, second: Detections) -> float | None:
    """Return how far two lists of detections on one picture agree, in [0, 1]; None where both are empty.

    Pairs are made within each class, the largest overlap first, from an IoU of 0.5 up. The figure is twice their
    summed overlap by the number of detections in both lists: 1 for equal lists, 0 for lists without a pair.
    """
    if not len(first) + len(second):
        return None
    iou = _iou(first.xyxy_px, second.xyxy_px)
    iou[first.class_id[:, None] != second.class_id] = 0.0
    total = 0.0
    while iou.size and (best := float(iou.max())) >= IOU:
        row, column = np.unravel_index(int(iou.argmax()), iou.shape)
        total += best
        iou[row, :] = 0.0
        iou[:, column] = 0.0
    return 2 * total / (len(first) + len(second))


def mirrored(detections: Detections, width_px: int) -> Detections:
    """Return detections on the mirror image of a picture of this width where they lie on the picture, or back."""
    boxes = detections.xyxy_px.copy()
    boxes[:, [0, 2]] = width_px - boxes[:, [2, 0]]
    return Detections(boxes, detections.confidence, detections.class_id)


def spearman(first: _Array, second: _Array) -> float | None:
    """Return Spearman's rank correlation, ties by mean ranks; None where one of the two does not vary."""
    ranks = [_ranks(values) for values in (first, second)]
    spread = [float(np.std(values)) for values in ranks]
    if len(first) < 2 or not all(spread):
        return None
    centred = [values - values.mean() for values in ranks]
    return float(np.mean(centred[0] * centred[1]) / (spread[0] * spread[1]))


@dataclass(frozen=True, slots=True)
class Correlation:
    """How agreement goes with accuracy.

    Attributes:
        spearman: rank correlation over pictures; None where it cannot be told.
        interval: nominal 95 %, over groups; None for want of groups.
        pictures: how many have both an agreement and a labelled box.
        groups: how many groups they stand in.
        verdict: ``strong`` (surely above 0.5), ``weak`` (surely above 0, not surely above 0.5), ``none``, ``unknown``.
    """

    spearman: float | None
    interval: tuple[float, float] | None
    pictures: int
    groups: int
    verdict: str

    def sentence(self) -> str:
        """Return in words what the agreement may be used for."""
        if self.spearman is None:
            return (
                f"Nothing is known of how agreement follows accuracy here: {self.pictures} pictures with labelled "
                f"boxes, and at least {MIN_PICTURES} in several groups are needed."
            )
        span = "" if self.interval is None else f" ({self.interval[0]:.2f} to {self.interval[1]:.2f})"
        use = {
            "strong": "agreement ranks pictures nearly as accuracy does.",
            "weak": "a weak link; agreement finds some of the bad pictures and is no measure of accuracy.",
            "none": "no link is shown; do not use agreement in place of accuracy here.",
            "unknown": f"without an interval, which needs {LEAST_GROUPS} groups of pictures, this says little.",
        }[self.verdict]
        return f"Rank correlation of agreement and AP50 over {self.pictures} pictures: {self.spearman:.2f}{span}: {use}"

    def document(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "spearman": self.spearman,
            "interval": None if self.interval is None else list(self.interval),
            "pictures": self.pictures,
            "groups": self.groups,
            "verdict": self.verdict,
            "sentence": self.sentence(),
        }


def correlation(
    agreements: Sequence[float | None], ap50: Sequence[float | None], groups: Sequence[str], rng: np.random.Generator
) -> Correlation:
    """Correlate agreement and accuracy of pictures; those without one of the two are left out.

    Args:
        agreements: of each picture.
        ap50: of each picture; None where it has no labelled box.
        groups: of each picture; whole groups are resampled.
        rng: source of randomness.
    """
    pairs = [(a, b, group) for a, b, group in zip(agreements, ap50, groups, strict=True) if None not in (a, b)]
    first, second = (np.array([pair[column] for pair in pairs], dtype=np.float64) for column in (0, 1))
    members: dict[str, list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        members[pair[2]].append(number)
    count = len(members)
    found = spearman(first, second) if len(pairs) >= MIN_PICTURES and count > 1 else None
    if found is None:
        return Correlation(None, None, len(pairs), count, "unknown")
    places = list(members.values())
    drawn = []
    for chosen in rng.integers(0, count, (REPLICATES, count)):
        numbers = np.concatenate([places[number] for number in chosen])
        value = spearman(first[numbers], second[numbers])
        drawn.append(np.nan if value is None else value)
    interval = interval_of(np.array(drawn), count)
    if interval is None:
        return Correlation(found, None, len(pairs), count, "unknown")
    verdict = "strong" if interval.low > 0.5 else "weak" if interval.low > 0 else "none"
    return Correlation(found, (interval.low, interval.high), len(pairs), count, verdict)


def agreement_on(
    run: Run, truth: Truth, found: Found, groups: Sequence[str], *, seed: int = 0, progress: Progress = silent
) -> dict[str, Any]:
    """Return the agreement on every picture of a split, and its correlation with AP50, as a JSON document.

    Labels are read for the correlation only; the views of a picture are made without them.

    Args:
        run: the model and the split.
        truth: its boxes.
        found: what the model found on the pictures as they are.
        groups: the group of each picture.
        seed: of the resampling.
        progress: told after every picture.

    Raises:
        ImageError: a picture cannot be decoded.
    """
    names, per_view = [], []
    for number, sample in enumerate(tracked(run.samples(), "agreement", run.pictures, progress)):
        plain = _of_picture(found, number)
        views = {name: agreement(plain, seen) for name, seen in _views(run, sample)}
        names.append(sample.image.name)
        per_view.append(views)
    means = [_mean(list(views.values())) for views in per_view]
    matches = match(truth, found)
    once, classes = np.ones((1, 1), np.int32), range(truth.classes)
    scores = [mean_over(class_scores(matches.subset([n]), once), classes)[0, 1] for n in range(truth.pictures)]
    ap50 = [None if np.isnan(score) else float(score) for score in scores]
    linked = correlation(means, ap50, groups, np.random.default_rng(seed))
    return {
        "mean": _mean(means),
        "views": {name: _mean([views[name] for views in per_view]) for name in VIEWS},
        "correlation": linked.document(),
        "pictures": [
            {"picture": name, "agreement": mean, "ap50": score}
            for name, mean, score in zip(names, means, ap50, strict=True)
        ],
        "confidence": CONFIDENCE,
        "iou": IOU,
        "replicates": REPLICATES,
    }


def _views(run: Run, sample: Sample) -> Iterator[tuple[str, Detections]]:
    image = decode_picture(sample.image)
    for name, severity in VIEWS.items():
        if name == "mirrored":
            flipped = np.ascontiguousarray(image[:, ::-1])
            found = run.detect(*run.model.letterbox(flipped)).above(CONFIDENCE)
            yield name, mirrored(found, image.shape[1])
            continue
        depth_m = depth_prior(image) if "depth_m" in CONDITIONS[name].wants else None
        digest = hashlib.sha256(f"agreement/{sample.image.name}/{name}".encode(errors="surrogateescape")).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        seen = apply_weather(image, name, severity, rng=rng, depth_m=depth_m)
        yield name, run.detect(*run.model.letterbox(seen)).above(CONFIDENCE)


def _of_picture(found: Found, number: int) -> Detections:
    rows = np.flatnonzero((found.picture == number) & (found.confidence > CONFIDENCE))
    boxes = found.xywh_px[rows].astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(boxes, found.confidence[rows], found.class_id[rows])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ranks(values: _Array) -> _Array:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: _Array = (ends - (counts - 1) / 2)[place]
    return ranks


def _iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> _Array:
    one, other = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = [(boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) for boxes in (one, other)]
    union = areas[0] + areas[1] - shared
    iou: _Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou
