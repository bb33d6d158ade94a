"""Average precision by the COCO protocol, computed by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.data.records import Sample
from drivetl.evaluate.matching import Found, Truth
from drivetl.runtime import Detections

__all__ = ["ClassScore", "Collector", "Score", "annotations_of"]

_AREAS = ("all", "small", "medium", "large")
_NO_GROUND_TRUTH = -1.0


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Average precision of one class; None where the pictures hold no box of it.

    Attributes:
        map50_95: mean over IoU thresholds 0.50 to 0.95.
        map50: at IoU 0.50.
        boxes: labelled boxes.
    """

    map50_95: float | None
    map50: float | None
    boxes: int


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy on a set of pictures. Means are over the classes that have at least one box; None if none has.

    Attributes:
        map50_95, map50: mean average precision in [0, 1].
        by_size: ``small`` (area under 32² px), ``medium`` (under 96²), ``large`` → mAP50-95.
        per_class: by class name.
        images: pictures scored.
        boxes: labelled boxes in them.
    """

    map50_95: float | None
    map50: float | None
    by_size: dict[str, float | None]
    per_class: dict[str, ClassScore]
    images: int
    boxes: int

    def document(self) -> dict[str, Any]:
        """Return the score as a JSON document."""
        return {
            "map50_95": self.map50_95,
            "map50": self.map50,
            "by_size": self.by_size,
            "per_class": {
                name: {"map50_95": score.map50_95, "map50": score.map50, "boxes": score.boxes}
                for name, score in self.per_class.items()
            },
            "images": self.images,
            "boxes": self.boxes,
        }


class Collector:
    """Takes samples and detections one picture at a time and scores any subset of them.

    Pictures are not kept: what stays is a few dozen bytes for each detection. While they are scored,
    faster-coco-eval takes about a kilobyte for each.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = tuple(class_names)
        self._ids = {name: index for index, name in enumerate(self._names)}
        self._sizes_hw: list[tuple[int, int]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[NDArray[np.float32]] = []

    def add(self, sample: Sample, detections: Detections) -> None:
        """Take one picture. ``detections.class_id`` counts in the collector's class names."""
        image = len(self._sizes_hw)
        self._sizes_hw.append(sample.size_hw)
        self._truth.extend(annotations_of(sample, image, self._ids))
        rows = np.empty((len(detections), 7), dtype=np.float32)
        rows[:, 0] = image
        rows[:, 1:3] = detections.xyxy_px[:, :2]
        rows[:, 3:5] = detections.xyxy_px[:, 2:] - detections.xyxy_px[:, :2]
        rows[:, 5] = detections.confidence
        rows[:, 6] = detections.class_id
        self._found.append(rows)

    def __len__(self) -> int:
        return len(self._sizes_hw)

    def truth(self) -> Truth:
        """Return the labelled boxes of all pictures."""
        return Truth.of(self._truth, len(self), len(self._names))

    def found(self) -> Found:
        """Return the detections of all pictures."""
        rows = np.concatenate([np.zeros((0, 7), np.float32), *self._found])
        # Not from the rows: float32 does not count past 16 million.
        picture = np.repeat(np.arange(len(self)), [len(part) for part in self._found])
        return Found(picture, rows[:, 6].astype(np.int64), rows[:, 1:5], rows[:, 5])

    def score(self, images: Collection[int] | None = None) -> Score:
        """Score the pictures with the given numbers (in the order of `add`), or all."""
        from faster_coco_eval import COCO, COCOeval_faster

        chosen = set(range(len(self))) if images is None else set(images)
        truth = [dict(entry) for entry in self._truth if entry["image_id"] in chosen]
        for number, entry in enumerate(truth, start=1):
            entry["id"] = number
        reference = COCO(
            {
                "images": [
                    {"id": i, "height": self._sizes_hw[i][0], "width": self._sizes_hw[i][1]} for i in sorted(chosen)
                ],
                "annotations": truth,
                "categories": [{"id": index, "name": name} for index, name in enumerate(self._names)],
            }
        )
        rows = np.concatenate([self._found[i] for i in sorted(chosen)]) if chosen else np.zeros((0, 7), np.float32)
        found = [
            {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5].tolist(), "score": float(row[5])}
            for row in rows
        ]
        evaluation = COCOeval_faster(reference, reference.loadRes(found), "bbox", print_function=_ignore)
        evaluation.evaluate()
        evaluation.accumulate()
        boxes = np.zeros(len(self._names), dtype=np.int64)
        for entry in truth:
            boxes[entry["category_id"]] += not entry["iscrowd"]
        return _summary(evaluation.eval["precision"], self._names, boxes, len(chosen))


def annotations_of(sample: Sample, image: int, class_ids: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield a picture's boxes and ignore regions as COCO annotations with the given picture number."""
    for box in sample.boxes:
        yield _annotation(image, class_ids[box.class_name], box.xyxy_px, crowd=False)
    for region in sample.ignore:
        # A crowd region absorbs detections of its class; one without a class absorbs those of every class.
        classes = class_ids.values() if region.class_name is None else [class_ids[region.class_name]]
        for class_id in classes:
            yield _annotation(image, class_id, region.xyxy_px, crowd=True)


def _ignore(*_: object) -> None:
    """Swallow the evaluator's own chatter."""


def _annotation(image: int, class_id: int, xyxy_px: Sequence[float], *, crowd: bool) -> dict[str, Any]:
    left, top, right, bottom = xyxy_px
    width, height = right - left, bottom - top
    return {
        "image_id": image,
        "category_id": class_id,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": int(crowd),
    }


def _summary(precision: NDArray[np.float64], names: Sequence[str], boxes: NDArray[np.int64], images: int) -> Score:
    """Reduce the evaluator's precision table ``(IoU, recall, class, area, detections)`` to figures."""
    table = np.asarray(precision)[..., -1]
    per_class = {
        name: ClassScore(_mean(table[:, :, k, 0]), _mean(table[:1, :, k, 0]), int(boxes[k]))
        for k, name in enumerate(names)
    }
    by_size = {area: _mean(table[:, :, :, a]) for a, area in enumerate(_AREAS) if area != "all"}
    return Score(_mean(table[:, :, :, 0]), _mean(table[:1, :, :, 0]), by_size, per_class, images, int(boxes.sum()))


def _mean(values: NDArray[np.float64]) -> float | None:
    valid = values[values > _NO_GROUND_TRUTH]
    return float(valid.mean()) if valid.size else None
