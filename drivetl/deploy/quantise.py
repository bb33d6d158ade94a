"""Int8 within an accuracy budget: calibrate, measure, and leave in float what hurts most until the budget holds.

Everything here is decided on training pictures. How good the decision was is told by held-out ones, once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from drivetl.data import Dataset, open_dataset
from drivetl.data.records import Sample
from drivetl.deploy.calibration import METHODS, Method, chosen_samples, tensor_ranges, tensors_of
from drivetl.deploy.machine import describe_machine, int8_saturates
from drivetl.deploy.qdq import OPERATORS, in_float, layer_groups, quantised
from drivetl.deploy.sensitivity import Raw, Sensitivity, raw_of, sensitivities
from drivetl.errors import ConfigError, DatasetError, GateFailed, quoted
from drivetl.progress import Progress, silent
from drivetl.runtime import Contract
from drivetl.taxonomy import map_detections

__all__ = ["Accuracy", "Int8Options", "Raw", "Trial", "quantise"]

# Fewer pictures than this give ranges that the next hundred break; NVIDIA's and ONNX Runtime's guides speak of
# hundreds. It is a warning, not a wall.
_ENOUGH_PICTURES = 50
_SENSITIVITY_PICTURES = 8
# The best of several variants looks better on the pictures that chose it than on others, so it has to keep to less.
_SEARCH_SHARE = 0.5
_POINTS = 100.0
_TRAIN = "train"
_HELD_OUT = ("test", "val")


class Accuracy(Protocol):
    """Accuracy as the evaluation stage measures it; the command line hands it in."""

    def require_boxes(self, contract: Contract, split: str) -> None:
        """Raise DatasetError where a split has no box that the model could find: accuracy would say nothing."""

    def map50_95(self, contract: Contract, raw: Raw, split: str, most: int) -> tuple[float, int]:
        """Return mAP50-95 in [0, 1] on at most ``most`` pictures of a split, and how many these were."""

    def compare(self, contract: Contract, before: Raw, after: Raw, split: str) -> dict[str, Any]:
        """Return a JSON document with ``before``, ``after``, ``difference`` and its paired ``interval`` on a split."""


@dataclass(frozen=True, slots=True)
class Int8Options:
    """How to quantise.

    Attributes:
        data: the target dataset: its split ``train`` is calibrated and searched on, ``test`` or ``val`` reported on.
        accuracy: measures; None leaves accuracy unmeasured, and the contract says so.
        max_drop: mAP50-95 points (hundredths) that may be lost on held-out pictures; half of it in the search.
        calibration_pictures: at most so many pictures give the ranges.
        search_pictures: at most so many pictures judge a variant.
        methods: which rules for ranges are tried.
    """

    data: Path
    accuracy: Accuracy | None
    max_drop: float = 1.0
    calibration_pictures: int = 128
    search_pictures: int = 200
    methods: tuple[Method, ...] = METHODS


@dataclass(frozen=True, slots=True)
class Trial:
    """One variant on the training pictures.

    Attributes:
        method: the rule for ranges.
        float_groups: what was left in float, see `drivetl.deploy.qdq.layer_groups`.
        map50_95: accuracy in [0, 1]; None where it was not measured.
        drop_points: what it lost against fp32, in points.
    """

    method: Method
    float_groups: tuple[str, ...]
    map50_95: float | None
    drop_points: float | None


@dataclass(slots=True)
class _Search:
    """What the search knows; the models stay here, the trials go into the contract."""

    model: Any
    contract: Contract
    options: Int8Options
    progress: Progress
    pictures: int = 0
    fp32_map50_95: float | None = None
    trials: list[Trial] = field(default_factory=list)
    sensitivity: list[Sensitivity] = field(default_factory=list)

    def try_out(self, model: Any, method: Method, float_groups: Sequence[str] = ()) -> Trial:
        """Measure a variant and note it."""
        accuracy, drop = self.measure(model), None
        if accuracy is not None and self.fp32_map50_95 is not None:
            drop = round((self.fp32_map50_95 - accuracy) * _POINTS, 3)
        self.trials.append(Trial(method, tuple(float_groups), accuracy, drop))
        self.progress("search", len(self.trials), None)
        return self.trials[-1]

    def measure(self, model: Any) -> float | None:
        if self.options.accuracy is None:
            return None
        most = self.options.search_pictures
        found, self.pictures = self.options.accuracy.map50_95(self.contract, raw_of(model), _TRAIN, most)
        return found

    def holds(self, trial: Trial) -> bool:
        return trial.drop_points is None or trial.drop_points <= _SEARCH_SHARE * self.options.max_drop


def quantise(
    model: Any, path: Path, contract: Contract, options: Int8Options, progress: Progress = silent
) -> tuple[Any, dict[str, Any]]:
    """Return an int8 graph that keeps to the budget, and the account of how it came about for the contract.

    Args:
        model: the float graph.
        path: where it lies as a file.
        contract: of the float graph.
        options: see `Int8Options`.
        progress: told after every calibration picture and every variant.

    Raises:
        GateFailed: no variant keeps to the budget, on the training pictures or on the held-out ones. The message has
            the figures.
        ConfigError: ``max_drop`` is negative.
        DatasetError: the dataset has no training split or no held-out one, one of them has no boxes to measure
            accuracy on, or it cannot be used.
        ImageError: a picture cannot be decoded.
    """
    if not 0 <= options.max_drop <= _POINTS:
        raise ConfigError(f"--max-drop must be 0 to 100 mAP points, not {quoted(options.max_drop)}")
    dataset = open_dataset(options.data)
    held_out = _held_out_split(dataset)
    if options.accuracy is not None:
        # Before the search, which takes minutes.
        for split in (_TRAIN, held_out):
            options.accuracy.require_boxes(contract, split)
    samples = chosen_samples(dataset, _TRAIN, options.calibration_pictures)
    search = _Search(model, contract, options, progress)
    search.fp32_map50_95 = search.measure(model)
    variants = {method: _calibrated(search, path, samples, method) for method in options.methods}
    best = min((search.try_out(variants[method], method) for method in options.methods), key=_drop)
    chosen = variants[best.method]
    if not search.holds(best):
        best, chosen = _leave_in_float(search, chosen, best, samples)
    return chosen, _account(search, best, chosen, dataset, samples, held_out)


def _drop(trial: Trial) -> float:
    return 0.0 if trial.drop_points is None else trial.drop_points


def _held_out_split(dataset: Dataset) -> str:
    for wanted in ((_TRAIN,), _HELD_OUT):
        if not any(name in dataset.splits for name in wanted):
            raise DatasetError(
                f"the dataset {quoted(dataset.root)} has no split {' or '.join(wanted)}: int8 is calibrated on 'train' "
                f"and judged on pictures apart from it; make one with: drivetl data split"
            )
    return next(name for name in _HELD_OUT if name in dataset.splits)


def _calibrated(search: _Search, path: Path, samples: Sequence[Sample], method: Method) -> Any:
    tensors = tensors_of(samples, search.contract.letterbox)
    ranges = tensor_ranges(path, tensors, len(samples), method=method, operators=OPERATORS, progress=search.progress)
    return quantised(search.model, ranges)


def _leave_in_float(search: _Search, model: Any, start: Trial, samples: Sequence[Sample]) -> tuple[Trial, Any]:
    """Leave 1, 2, 4, … of the most sensitive groups in float until the budget holds, then as few as still hold."""
    groups = layer_groups(search.model)
    few = samples[:: max(len(samples) // _SENSITIVITY_PICTURES, 1)][:_SENSITIVITY_PICTURES]
    tensors = list(tensors_of(few, search.contract.letterbox))
    order: list[str] = []

    def rank(first: int) -> None:
        # Anew behind those that are in float for sure: the worst group hides what the others do.
        sure = order[:first]
        ranked = sensitivities(search.model, model, groups, tensors, search.progress, kept=sure)
        search.sensitivity[first:] = ranked
        order[:] = [*sure, *(entry.group for entry in ranked)]

    def trial(count: int) -> tuple[Trial, Any]:
        names = {name for group in order[:count] for name in groups[group]}
        variant = in_float(model, search.model, names)
        return search.try_out(variant, start.method, order[:count]), variant

    rank(0)
    failed, count = 0, 1
    found = trial(count)
    while not search.holds(found[0]) and count < len(order):
        rank(count)
        failed, count = count, min(2 * count, len(order))
        found = trial(count)
    if not search.holds(found[0]):
        raise GateFailed(
            f"int8 loses {found[0].drop_points:.2f} mAP points on the training pictures even with all "
            f"{len(order)} groups of layers in float, over half of the {search.options.max_drop:g} that "
            "--max-drop allows; calibrate on more pictures of the target, or ship fp16"
        )
    while count - failed > 1:
        middle = (count + failed) // 2
        tried = trial(middle)
        if search.holds(tried[0]):
            count, found = middle, tried
        else:
            failed = middle
    return found


def _account(
    search: _Search, best: Trial, chosen: Any, dataset: Dataset, samples: Sequence[Sample], held_out: str
) -> dict[str, Any]:
    options = search.options
    reported: Mapping[str, Any] | None = None
    if options.accuracy is not None:
        compared = options.accuracy.compare(search.contract, raw_of(search.model), raw_of(chosen), held_out)
        reported = {"split": held_out, **compared}
        lost = -_POINTS * float(compared["difference"])
        if lost > options.max_drop:
            raise GateFailed(
                f"int8 kept to the budget on the training pictures and loses {lost:.2f} mAP points on the held-out "
                f"split {held_out!r}, over the {options.max_drop:g} that --max-drop allows; calibrate on more "
                "pictures of the target, or ship fp16"
            )
    return {
        "format": "QDQ, weights int8 per output channel, activations uint8 per tensor",
        "calibration": {
            "dataset_fingerprint": dataset.fingerprint,
            "split": _TRAIN,
            "pictures": len(samples),
            "method": best.method,
        },
        "processor": {"cpu": describe_machine()["cpu"], "int8_saturates": int8_saturates()},
        "warnings": _warnings(search.contract, dataset, len(samples), options),
        "max_drop_points": options.max_drop,
        "search": {
            "split": _TRAIN,
            "pictures": search.pictures,
            "fp32_map50_95": search.fp32_map50_95,
            "trials": [{**asdict(trial), "float_groups": list(trial.float_groups)} for trial in search.trials],
            "sensitivity": [asdict(entry) for entry in search.sensitivity],
        },
        "float_groups": list(best.float_groups),
        "held_out": reported,
    }


def _warnings(contract: Contract, dataset: Dataset, pictures: int, options: Int8Options) -> list[str]:
    found = []
    if pictures < _ENOUGH_PICTURES:
        found.append(
            f"calibrated on {pictures} pictures, fewer than {_ENOUGH_PICTURES}: other pictures may exceed the ranges"
        )
    reached = map_detections(contract.class_names, dataset.names)
    without = [name for index, name in enumerate(contract.class_names) if index not in reached]
    if without:
        found.append(
            f"the calibration dataset has no class for {len(without)} of the model's {len(contract.class_names)} "
            f"({', '.join(without[:5])}{', …' if len(without) > 5 else ''}): nothing is known of their loss"
        )
    if options.accuracy is None:
        found.append("accuracy was not measured: nothing is known of what int8 loses")
    return found
