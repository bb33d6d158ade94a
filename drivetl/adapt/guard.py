"""The small-data guard: what a run comes to before it starts, and when it has begun to overfit."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivetl.adapt.config import NOMINAL_BATCH, TrainConfig
from drivetl.adapt.sampling import repeat_factors
from drivetl.data.records import Sample

__all__ = ["OverfitWatch", "Plan", "plan_run"]

_FEW_LABELS = 10
_WARM_UP_SHARE = 0.1
# So many epochs in a row must tell the same before it is called overfitting: one of few pictures alone is noise.
_EPOCHS_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run comes to.

    Attributes:
        pictures, replayed: of an epoch.
        labels: labelled boxes per class.
        batches: of an epoch.
        accumulation: batches of a step.
        steps: optimiser steps of the run, without those of a head phase.
        warmup_epochs: passes in which the learning rate rises.
        average_steps: steps that the moving average reaches back.
    """

    pictures: int
    replayed: int
    labels: Mapping[str, int]
    batches: int
    accumulation: int
    steps: int
    warmup_epochs: float
    average_steps: int

    def lines(self, config: TrainConfig) -> list[str]:
        """Return the plan as sentences: what is there, and what was chosen from it and why."""
        lines = [self._passes(config)]
        if config.labels == "used":
            lines.append("Labels: " + ", ".join(f"{name} {count}" for name, count in self.labels.items()) + ".")
            none = [name for name, count in self.labels.items() if not count]
            if none:
                lines.append(f"No label of {', '.join(none)}: nothing can be learned of these classes.")
            few = [name for name, count in self.labels.items() if 0 < count < _FEW_LABELS]
            if few:
                lines.append(f"Fewer than {_FEW_LABELS} labels of {', '.join(few)}: expect little of these classes.")
        if not config.epochs:
            return lines
        lines.append(self._chosen(config))
        if config.labels == "used" and config.selection_split is None:
            lines.append("No split is measured during training, so overfitting is not watched for.")
        return lines

    def _passes(self, config: TrainConfig) -> str:
        if not config.epochs:
            return (
                f"{self.pictures} pictures, no epoch in which every layer learns{self._before(config)}: pictures are "
                "seen as they are, without weather, mosaic or any other change."
            )
        replayed = f" and {self.replayed} source pictures" if self.replayed else ""
        return (
            f"{self.pictures} pictures{replayed} an epoch, {config.epochs} epochs, {self.batches} batches an epoch: "
            f"{self.steps} optimiser steps{self._before(config)}."
        )

    def _before(self, config: TrainConfig) -> str:
        if not config.head_epochs:
            return ""
        passes = f"{config.head_epochs} passes" if config.head_epochs > 1 else "one pass"
        return f", after {passes} over the target's pictures in which the head learns alone"

    def _why_no_more(self, config: TrainConfig) -> str:
        """Say why a step does not collect two batches; the reasons are those of `TrainConfig.accumulation`."""
        if self.batches == 1:
            return "an epoch has only one"
        if 2 * config.batch > NOMINAL_BATCH:
            return f"two would be more than {NOMINAL_BATCH} pictures"
        return f"more batches a step would leave under {config.min_optimiser_steps}"

    def _chosen(self, config: TrainConfig) -> str:
        if self.accumulation > 1:
            step = (
                f"a step collects {self.accumulation} batches, the most within {NOMINAL_BATCH} pictures that leaves "
                f"{config.min_optimiser_steps} steps"
            )
        else:
            step = f"a step after every batch, because {self._why_no_more(config)}"
        rises = (
            f"rises over {self.warmup_epochs:g} epoch{'s' * (self.warmup_epochs != 1)}"
            if self.warmup_epochs
            else "has no warm-up"
        )
        return (
            f"Chosen: {step}; the moving average reaches back {self.average_steps} steps, {config.average_share:.0%} "
            f"of the run. The learning rate {rises} and falls along a cosine to {config.lrf:.0%} of lr0."
        )


def plan_run(config: TrainConfig, samples: Sequence[Sample], names: Sequence[str]) -> Plan:
    """Return what a run on these pictures comes to.

    Args:
        config: settings; ``warmup_epochs`` None is decided here.
        samples: the pictures to train on.
        names: the classes.
    """
    pictures = _shown(config, samples)
    replayed = math.ceil(config.replay_ratio * pictures - 1e-9) if config.replay is not None else 0
    batches = math.ceil((pictures + replayed) / min(config.batch, pictures + replayed))
    accumulation = config.accumulation(batches)
    steps = config.steps(batches, accumulation)
    found = Counter(box.class_name for sample in samples for box in sample.boxes)
    warmup = config.warmup_epochs
    if warmup is None:
        warmup = round(_WARM_UP_SHARE * config.epochs, 2)
    labels = {name: found[name] for name in names}
    average = max(1, round(steps * config.average_share))
    warmup = min(warmup, max(0, config.epochs - 1))  # Ultralytics lets none reach into the last epoch
    return Plan(pictures, replayed, labels, batches, accumulation, steps, warmup, average)


def _shown(config: TrainConfig, samples: Sequence[Sample]) -> int:
    """Return how many target pictures make an epoch, those that are shown again counted again."""
    if not config.repeat_threshold:
        return len(samples)
    classes_of = [frozenset(box.class_name for box in sample.boxes) for sample in samples]
    return round(sum(repeat_factors(classes_of, config.repeat_threshold)))


class OverfitWatch:
    """Tells overfitting from the log: the training loss falls while loss and accuracy on other pictures get worse.

    Attributes:
        best_epoch: the last epoch before it began, from 1; None while there is no sign of it.
    """

    def __init__(self) -> None:
        self._epochs: list[tuple[float, float, float]] = []
        self.best_epoch: int | None = None

    def add(self, line: Mapping[str, float | None]) -> None:
        """Take an epoch's line of the log; one without figures on other pictures says nothing."""
        accuracy = line.get("metrics/mAP50-95(B)")
        losses = [
            sum(value or 0.0 for name, value in line.items() if name.startswith(f"{side}/") and name.endswith("_loss"))
            for side in ("train", "val")
        ]
        if accuracy is None or not losses[1]:
            return
        self._epochs.append((losses[0], losses[1], accuracy))
        recent = self._epochs[-_EPOCHS_IN_A_ROW - 1 :]
        if len(recent) <= _EPOCHS_IN_A_ROW:
            return
        best = max(accuracy for *_, accuracy in self._epochs[:-_EPOCHS_IN_A_ROW])
        worse = all(b[0] < a[0] and b[1] > a[1] for a, b in itertools.pairwise(recent))
        if worse and all(accuracy < best for *_, accuracy in recent[1:]):
            self.best_epoch = len(self._epochs) - _EPOCHS_IN_A_ROW

    @property
    def overfitted(self) -> bool:
        """Whether the run has begun to overfit."""
        return self.best_epoch is not None
