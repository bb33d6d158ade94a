"""What accuracy is cut by: conditions of pictures, and size, distance and occlusion of boxes.

A dimension gives every picture, or every box and detection, one of a few values, or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.data.records import Attribute, Sample
from drivetl.evaluate.boxes import Found, Truth
from drivetl.weather.depth import contact_distance_m

__all__ = ["ANY", "Dimension", "Facts", "dimensions"]

# COCO's borders between small, medium and large, as areas in square pixels.
_SIZES_PX2 = (32.0**2, 96.0**2)
_SIZE_LABELS = ("small (to 32² px)", "medium", "large (from 96² px)")
_DISTANCES_M = (15.0, 30.0, 60.0)
_DISTANCE_LABELS = ("to 15 m", "15 to 30 m", "30 to 60 m", "beyond 60 m")
_FIRST = ("weather", "timeofday", "scene")
_MOST_VALUES = 16
_BINS = 4
# What names an object, restates the distance, or describes the camera or its files, and is no condition of the road.
_NOT_CONDITIONS = frozenset(
    ("track_id", "depth_m", "seed", "index", "camera_height_m", "focal_px", "pitch_deg", "horizon_px", "jpeg_quality")
)
# The code of a detection that has no value of its own, so that it counts as a false alarm in every slice.
ANY = -2


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing to cut by. Codes index ``values``; -1 stands for none.

    Attributes:
        name: such as ``weather``.
        values: in the order of their codes.
        picture: int64 ``(pictures,)``: the value of each picture; None where it is a property of boxes.
        box: int64 ``(boxes,)``, of a property of boxes.
        detection: int64 ``(detections,)``, likewise; `ANY` where a detection cannot have it.
        missing: pictures (or boxes) without a value.
        note: a sentence about the dimension; may be empty.
    """

    name: str
    values: tuple[str, ...]
    picture: NDArray[np.int64] | None = None
    box: NDArray[np.int64] | None = None
    detection: NDArray[np.int64] | None = None
    missing: int = 0
    note: str = ""


@dataclass
class Facts:
    """Collects what samples say of themselves, one by one; labels only, no pixels."""

    sizes_hw: list[tuple[int, int]] = field(default_factory=list)
    of_pictures: list[Mapping[str, Attribute]] = field(default_factory=list)
    of_boxes: list[Mapping[str, Attribute]] = field(default_factory=list)

    def add(self, sample: Sample, annotations: int) -> None:
        """Take a sample that gave so many annotations: its boxes first, then ignore regions, which say nothing."""
        self.sizes_hw.append(sample.size_hw)
        self.of_pictures.append(sample.attributes)
        self.of_boxes.extend(box.attributes for box in sample.boxes)
        self.of_boxes.extend({} for _ in range(annotations - len(sample.boxes)))


def dimensions(facts: Facts, truth: Truth, found: Found) -> tuple[list[Dimension], list[str]]:
    """Return what can be cut by, and a sentence for every attribute that cannot.

    Args:
        facts: of the samples, in the truth's order.
        truth: the boxes.
        found: the detections that are scored.
    """
    notes: list[str] = []
    of_pictures = _attributes(facts.of_pictures, "pictures", notes)
    labelled = ~truth.crowd
    boxes = [said for said, kept in zip(facts.of_boxes, labelled.tolist(), strict=True) if kept]
    of_boxes = []
    for name, values, code, missing, note in _attributes(boxes, "boxes", notes):
        spread = np.full(len(labelled), -1, dtype=np.int64)
        spread[labelled] = code
        every = np.full(len(found), ANY, dtype=np.int64)
        alarms = "A false alarm has no such property, so that all false alarms count in every slice."
        name = {"occluded": "occlusion", "truncated": "truncation"}.get(name, name)
        of_boxes.append(Dimension(name, values, None, spread, every, missing, f"{note} {alarms}".strip()))
    pictures = [
        Dimension(name, values, code, None, None, missing, note) for name, values, code, missing, note in of_pictures
    ]
    geometry = [_size(truth, found), _distance(truth, found, np.array(facts.sizes_hw, np.int64).reshape(-1, 2))]
    return [*pictures, *geometry, *of_boxes], notes


def _size(truth: Truth, found: Found) -> Dimension:
    """Return COCO's sizes; an area on a border counts as the larger size."""
    box = np.searchsorted(_SIZES_PX2, truth.xywh_px[:, 2:].prod(axis=1), side="right")
    detection = np.searchsorted(_SIZES_PX2, found.xywh_px[:, 2:].astype(np.float64).prod(axis=1), side="right")
    return Dimension("size", _SIZE_LABELS, None, box.astype(np.int64), detection.astype(np.int64))


def _distance(truth: Truth, found: Found, sizes_hw: NDArray[np.int64]) -> Dimension:
    codes = []
    for picture, xywh in ((truth.picture, truth.xywh_px), (found.picture, found.xywh_px.astype(np.float64))):
        metres = contact_distance_m(xywh[:, 1] + xywh[:, 3], sizes_hw[picture])
        codes.append(np.searchsorted(_DISTANCES_M, metres, side="right").astype(np.int64))
    note = "Estimated from where a box ends below an assumed horizon (46 % of the height) over a flat road."
    return Dimension("distance", _DISTANCE_LABELS, None, codes[0], codes[1], 0, note)


_Coded = tuple[str, tuple[str, ...], NDArray[np.int64], int, str]


def _attributes(said: Sequence[Mapping[str, Attribute]], things: str, notes: list[str]) -> list[_Coded]:
    """Return name, values, codes, number missing and a note of every attribute that can be cut by."""
    names = set(chain.from_iterable(said)) - _NOT_CONDITIONS
    order = [*(name for name in _FIRST if name in names), *sorted(names - set(_FIRST))]
    result = []
    for name in order:
        column = [entry.get(name) for entry in said]
        missing = sum(value is None for value in column)
        coded = _coded(column)
        if coded is None:
            different = len({value for value in column if value is not None})
            notes.append(
                f"Not cut by {name!r}: its {different} values on {len(column)} {things} "
                f"are names rather than conditions (more than {_MOST_VALUES})."
            )
            continue
        note = f"Missing on {missing} of {len(column)} {things}, which are in no slice." if missing else ""
        result.append((name, *coded, missing, note))
    return result


def _coded(column: Sequence[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]] | None:
    """Return values and codes; numbers with many values are cut at their quartiles. None: too many values.

    Whole numbers may be kinds, as KITTI's four of occlusion are; fractions are measures, of which few values are many.
    """
    counts = Counter(value for value in column if value is not None)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in counts)
    measures = numbers and not all(float(value).is_integer() for value in counts)
    if numbers and len(counts) > (_BINS if measures else _MOST_VALUES // 2):
        return _binned(np.array([np.nan if value is None else float(value) for value in column]))
    if len(counts) > _MOST_VALUES:
        return None
    ordered = sorted(counts, key=(lambda v: v) if numbers else lambda v: (-counts[v], str(v)))
    index = {value: code for code, value in enumerate(ordered)}
    words = tuple({True: "yes", False: "no"}[v] if isinstance(v, bool) else _word(v) for v in ordered)
    return words, np.array([-1 if value is None else index[value] for value in column], dtype=np.int64)


def _binned(values: NDArray[np.float64]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    known = values[~np.isnan(values)]
    # Many objects share the lowest value (not occluded at all), so that quartiles can coincide.
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)))
    inner = edges[1:-1]
    if np.mean(known == edges[0]) > 1 / _BINS:
        inner = np.unique([np.nextafter(edges[0], np.inf), *inner])
    code = np.searchsorted(inner, values, side="right").astype(np.int64)
    code[np.isnan(values)] = -1
    present, code_of = np.unique(code[code >= 0], return_inverse=True)
    code[code >= 0] = code_of
    spans = [(float(values[code == k].min()), float(values[code == k].max())) for k in range(len(present))]
    return tuple(_word(low) if low == high else f"{_word(low)} to {_word(high)}" for low, high in spans), code


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
