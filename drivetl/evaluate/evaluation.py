"""Run a model over a split and score it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.data import open_dataset
from drivetl.data.pictures import decode_picture
from drivetl.data.records import Attribute, Sample
from drivetl.errors import DatasetError, quoted
from drivetl.evaluate.bootstrap import REPLICATES
from drivetl.evaluate.intervals import LEAST_GROUPS, LEVEL, METHOD, Measured, measure
from drivetl.evaluate.matching import Truth, match
from drivetl.evaluate.model import Model, open_model
from drivetl.evaluate.predictions import Picture, Predictions, picture_of
from drivetl.evaluate.scoring import Collector, Score
from drivetl.progress import Progress, silent, tracked
from drivetl.runtime import Detections, Geometry, decode
from drivetl.taxonomy import map_detections

__all__ = ["CONFIDENCE", "EvaluationResult", "Run", "evaluate", "pictures_by_dataset"]

# Average precision integrates over all confidences, so nearly every candidate takes part.
CONFIDENCE = 0.001


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        model: name of the checkpoint or bundle.
        backend: what computed it.
        dataset_fingerprint: of the dataset.
        split: which of its splits.
        input_size_hw: the model's input in pixels; None for predictions from a file.
        score: accuracy over all pictures of the split.
        per_dataset: accuracy for each merged dataset; empty where nothing was merged.
        class_mapping: model class → the dataset class that its detections were scored as; None where a predictions file
            was scored, which does not say.
        dropped: detections of model classes that the dataset does not have, by class; they were not scored. None where
            a file of predictions does not say.
        missing_classes: dataset classes that the model cannot detect; they count with zero where they have boxes. None
            where a file of predictions does not say.
        seconds: wall time.
        predictions: what the model found.
        truth: the labelled boxes that it was scored against.
        notes: sentences about the dataset, see `drivetl.data.Dataset`.
    """

    model: str
    backend: str
    dataset_fingerprint: str
    split: str
    input_size_hw: tuple[int, int] | None
    score: Score
    per_dataset: dict[str, Score]
    class_mapping: dict[str, str] | None
    dropped: dict[str, int] | None
    missing_classes: tuple[str, ...] | None
    seconds: float
    predictions: Predictions
    truth: Truth
    notes: tuple[str, ...]

    @property
    def map50_95(self) -> float:
        """Mean average precision over IoU 0.50 to 0.95; 0 where the split has no boxes."""
        return self.score.map50_95 or 0.0

    def intervals(self, progress: Progress = silent) -> dict[str, Measured]:
        """Return AP with 95 % intervals over groups: of each class by its name, and of all under the empty name."""
        names = self.predictions.class_names
        selections: dict[str, list[int]] = {"": list(range(len(names)))}
        selections.update((name, [index]) for index, name in enumerate(names))
        matches = match(self.truth, self.predictions.found)
        return measure(matches, self.predictions.groups, selections, progress=progress)

    def document(self, progress: Progress = silent) -> dict[str, Any]:
        """Return the result as a JSON document, with bootstrap intervals; ``progress`` is told of the resampling."""
        measured = self.intervals(progress)
        score = self.score.document()
        for name, entry in score["per_class"].items():
            entry["interval"] = measured[name].document()
        return {
            "model": self.model,
            "backend": self.backend,
            "dataset_fingerprint": self.dataset_fingerprint,
            "split": self.split,
            "input_size_hw": list(self.input_size_hw) if self.input_size_hw else None,
            **score,
            "interval": _interval_document(measured[""], len(set(self.predictions.groups))),
            "per_dataset": {name: score.document() for name, score in self.per_dataset.items()},
            "class_mapping": self.class_mapping,
            "dropped": self.dropped,
            "missing_classes": None if self.missing_classes is None else list(self.missing_classes),
            "protocol": {"confidence": CONFIDENCE, "iou_thresholds": "0.50:0.05:0.95", "max_detections_per_class": 100},
            "seconds": round(self.seconds, 2),
            "notes": list(self.notes),
        }


def evaluate(
    model: str | Path | Model,
    data: Path,
    *,
    split: str = "val",
    size_hw: tuple[int, int] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress = silent,
) -> EvaluationResult:
    """Measure average precision of a checkpoint or a bundle on one split of a dataset.

    Every picture goes through the runtime's letterbox at one fixed input size and through its decoder, so that the
    figure is the one the car gets. Classes are matched by meaning, see `drivetl.taxonomy.map_detections`. Memory does
    not grow with the number of pictures beyond the detections themselves.

    Args:
        model: a bundle folder, a checkpoint, the name of published weights, or a model that is already open.
        data: a dataset folder or a ``data.yaml``.
        split: which split of it.
        size_hw: input size of a checkpoint; None takes the square that it was trained at.
        device: ``cpu``, ``cuda``, ``cuda:N``; ``tensorrt`` for bundles.
        threads: CPU threads; None leaves the library's choice.
        progress: told after every picture.

    Raises:
        DatasetError: the dataset or split cannot be used, or shares no class with the model.
        ImageError: a picture cannot be decoded.
        WeightsError, BundleError, ConfigError, ProviderUnavailable: see `open_model`.
    """
    run = Run(model, data, split=split, size_hw=size_hw, device=device, threads=threads)
    return run.evaluate(progress)


class Run:
    """A model and one split of a dataset, their classes matched.

    Attributes:
        model: the open model.
        split: the split's name.
        pictures: how many it has.
    """

    def __init__(
        self,
        model: str | Path | Model,
        data: Path,
        *,
        split: str = "val",
        size_hw: tuple[int, int] | None = None,
        device: str = "cpu",
        threads: int | None = None,
        only: Collection[Path] | None = None,
        may_share_no_class: bool = False,
    ) -> None:
        """Open both; arguments and errors as in `evaluate`.

        ``only``: of the split, just these pictures. ``may_share_no_class``: a model without a class of the dataset is
        no error; it finds nothing.
        """
        self._dataset = dataset = open_dataset(data)
        dataset.samples(split)  # refuses a split that is not there, and reads nothing yet
        self.split = split
        self._only = None if only is None else frozenset(only)
        self.pictures = dataset.splits[split] if self._only is None else len(self._only)
        if not isinstance(model, Model):
            model = open_model(model, size_hw=size_hw, device=device, threads=threads)
        self.model = model
        self._mapping = map_detections(self.model.class_names, dataset.names)
        if not self._mapping and not may_share_no_class:
            raise DatasetError(
                f"{quoted(self.model.name)} and {quoted(data)} share no class; the model has "
                f"{quoted(', '.join(self.model.class_names))}, the dataset {quoted(', '.join(dataset.names))}"
            )

    @property
    def missing_classes(self) -> tuple[str, ...]:
        """Classes of the dataset that the model does not have."""
        reached = set(self._mapping.values())
        return tuple(name for index, name in enumerate(self._dataset.names) if index not in reached)

    def samples(self) -> Iterator[Sample]:
        """Yield the split's pictures in a fixed order."""
        samples = self._dataset.samples(self.split)
        return samples if self._only is None else (sample for sample in samples if sample.image in self._only)

    def collector(self) -> Collector:
        """Return a collector that counts in the dataset's classes."""
        return Collector(self._dataset.names)

    def detect(
        self, letterboxed_bgr: NDArray[np.uint8], geometry: Geometry, dropped: Counter[str] | None = None
    ) -> Detections:
        """Return what the model finds in a letterboxed picture, under the dataset's class ids.

        Detections of classes that the dataset lacks are left out, and counted in ``dropped``.
        """
        model = self.model
        detections = decode(
            model.raw(model.to_input(letterboxed_bgr)),
            geometry,
            confidence=CONFIDENCE,
            iou=model.iou,
            max_detections=model.max_detections,
            multi_label=model.multi_label,
            decoding=model.decoding,
        )
        return _renamed(detections, self._mapping, model.class_names, Counter() if dropped is None else dropped)

    def evaluate(self, progress: Progress = silent) -> EvaluationResult:
        """Measure on the pictures as they are.

        Raises:
            ImageError: a picture cannot be decoded.
        """
        started = time.perf_counter()
        dataset, model, names = self._dataset, self.model, self._dataset.names
        collector = self.collector()
        dropped: Counter[str] = Counter()
        said: list[Mapping[str, Attribute]] = []
        pictures: list[Picture] = []
        for number, sample in enumerate(tracked(self.samples(), f"evaluate {model.name}", self.pictures, progress)):
            collector.add(sample, self.detect(*model.letterbox(decode_picture(sample.image)), dropped))
            pictures.append(picture_of(number, sample, dataset.root))
            said.append(sample.attributes)
        return EvaluationResult(
            model=model.name,
            backend=model.backend,
            dataset_fingerprint=dataset.fingerprint,
            split=self.split,
            input_size_hw=model.letterbox.size_hw,
            score=collector.score(),
            per_dataset={name: collector.score(numbers) for name, numbers in pictures_by_dataset(said).items()},
            class_mapping={model.class_names[i]: names[j] for i, j in self._mapping.items()},
            dropped=dict(dropped.most_common()),
            missing_classes=self.missing_classes,
            seconds=time.perf_counter() - started,
            predictions=Predictions(
                model.name,
                dataset.fingerprint,
                self.split,
                names,
                tuple(pictures),
                collector.found(),
                self.missing_classes,
                dict(dropped.most_common()),
            ),
            truth=collector.truth(),
            notes=dataset.notes,
        )


def pictures_by_dataset(said: Iterable[Mapping[str, Attribute]]) -> dict[str, list[int]]:
    """Return the numbers of the pictures of each merged dataset, from the pictures' attributes; {} without a merge."""
    members: dict[str, list[int]] = {}
    for number, attributes in enumerate(said):
        if "dataset" in attributes:
            members.setdefault(str(attributes["dataset"]), []).append(number)
    return members


def _interval_document(measured: Measured, groups: int) -> dict[str, Any]:
    """Return the interval of the mean over classes, with a sentence where there is none."""
    note = None
    if measured.interval50_95 is None:
        note = (
            f"No interval: the boxes stand in {measured.groups} of the split's {groups} groups of pictures, and an "
            f"interval needs at least {LEAST_GROUPS} groups with boxes."
        )
    replicates = measured.interval50_95.replicates if measured.interval50_95 else REPLICATES
    return {**measured.document(), "level": LEVEL, "replicates": replicates, "method": METHOD, "note": note}


def _renamed(
    detections: Detections, mapping: dict[int, int], names: tuple[str, ...], dropped: Counter[str]
) -> Detections:
    """Return the detections under the dataset's class ids, without those that it has no class for."""
    lookup = np.full(len(names), -1, dtype=np.int64)
    lookup[list(mapping)] = list(mapping.values())
    class_id = lookup[detections.class_id]
    keep = class_id >= 0
    for index, count in zip(*np.unique(detections.class_id[~keep], return_counts=True), strict=True):
        dropped[names[index]] += int(count)
    return Detections(detections.xyxy_px[keep], detections.confidence[keep], class_id[keep])
