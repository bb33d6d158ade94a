"""What quantisation needs from the evaluation stage: the two never import each other, a verb brings them together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivetl.data import open_dataset
from drivetl.data.records import spread
from drivetl.errors import DatasetError, quoted
from drivetl.progress import Progress, tracked
from drivetl.taxonomy import map_detections

if TYPE_CHECKING:
    from drivetl.evaluate import Model
    from drivetl.evaluate.scoring import Collector, Score
    from drivetl.runtime import Contract

__all__ = ["DatasetAccuracy"]

_Raw = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_CONDITIONS = ("weather", "timeofday")


class DatasetAccuracy:
    """Accuracy of raw functions on a dataset, through the letterbox and decoder of the car."""

    def __init__(self, data: Path, progress: Progress) -> None:
        self._data = data
        self._progress = progress

    def require_boxes(self, contract: Contract, split: str) -> None:
        """Raise where a split has no box of a class that the model has: nothing could be lost on it.

        Raises:
            DatasetError: it has none.
        """
        dataset = open_dataset(self._data)
        reached = {dataset.names[index] for index in map_detections(contract.class_names, dataset.names).values()}
        if not any(box.class_name in reached for sample in dataset.samples(split) for box in sample.boxes):
            raise self._no_boxes(split)

    def map50_95(self, contract: Contract, raw: _Raw, split: str, most: int) -> tuple[float, int]:
        """Return mAP50-95 in [0, 1] on at most ``most`` pictures of a split, spread evenly, and how many these were.

        Raises:
            DatasetError: these pictures have no boxes.
        """
        collectors, pictures, _ = self._collected(contract, (raw,), split, most)
        found = collectors[0].score().map50_95
        if found is None:
            raise self._no_boxes(split)
        return found, pictures

    def _no_boxes(self, split: str) -> DatasetError:
        return DatasetError(
            f"the split {split!r} of {quoted(self._data)} has no boxes of the model's classes to measure accuracy on; "
            "label some of its pictures"
        )

    def compare(self, contract: Contract, before: _Raw, after: _Raw, split: str) -> dict[str, Any]:
        """Return what ``after`` loses against ``before``: paired, for all, for each class and for each condition.

        Raises:
            DatasetError: the split has no boxes of the model's classes.
        """
        from drivetl.evaluate.comparison import compare_test_sets
        from drivetl.evaluate.matching import match
        from drivetl.evaluate.pairing import TestSet

        self.require_boxes(contract, split)
        collectors, _, members = self._collected(contract, (before, after), split)
        dataset = open_dataset(self._data)
        groups = tuple(sample.group for sample in dataset.samples(split))
        matches = [(match(collector.truth(), collector.found()),) for collector in collectors]
        names = dataset.names
        test_set = TestSet(str(self._data), dataset.fingerprint, split, names, groups, matches[0], matches[1])
        comparison = compare_test_sets([test_set], min_boxes=1, progress=self._progress)
        scores = [{key: collector.score(pictures) for key, pictures in members.items()} for collector in collectors]
        return {
            "pictures": len(groups),
            **comparison.all_classes.map50_95.document(),
            "per_class": {
                name: {"boxes": side.boxes, **side.map50_95.document()} for name, side in comparison.per_class.items()
            },
            "per_condition": {key: _pair(scores[0][key], scores[1][key]) for key in members},
            "notes": list(comparison.notes),
        }

    def _collected(
        self, contract: Contract, raws: tuple[_Raw, ...], split: str, most: int | None = None
    ) -> tuple[list[Collector], int, dict[str, list[int]]]:
        """Run every raw function over at most so many pictures; also return how many, and which of each condition."""
        from drivetl.data.pictures import decode_picture
        from drivetl.evaluate import Run

        runs = [Run(_model(contract, raw), self._data, split=split) for raw in raws]
        collectors = [run.collector() for run in runs]
        members: dict[str, list[int]] = {}
        total = runs[0].pictures
        count = min(most or total, total)
        samples = spread(runs[0].samples(), total, count)
        for number, sample in enumerate(tracked(samples, f"accuracy on {split}", count, self._progress)):
            letterboxed, geometry = contract.letterbox(decode_picture(sample.image))
            for run, collector in zip(runs, collectors, strict=True):
                collector.add(sample, run.detect(letterboxed, geometry))
            for name in _CONDITIONS:
                if value := sample.attributes.get(name):
                    members.setdefault(f"{name}={value}", []).append(number)
        return collectors, count, members


def _model(contract: Contract, raw: _Raw) -> Model:
    from drivetl.evaluate import Model

    limits = contract.thresholds
    return Model(
        "export", contract.class_names, contract.letterbox, raw, limits.iou, limits.max_detections, "onnxruntime cpu"
    )


def _pair(before: Score, after: Score) -> dict[str, Any]:
    difference = None
    if before.map50_95 is not None and after.map50_95 is not None:
        difference = after.map50_95 - before.map50_95
    return {
        "pictures": before.images,
        "boxes": before.boxes,
        "before": before.map50_95,
        "after": after.map50_95,
        "difference": difference,
    }
