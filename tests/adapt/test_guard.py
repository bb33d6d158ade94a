"""What the small-data guard says and when it stops a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.guard import OverfitWatch, plan_run
from drivetl.adapt.training import train
from drivetl.data.records import Box, Sample

Configure = Callable[..., TrainConfig]


def samples(count: int) -> list[Sample]:
    box = Box("car", (0.0, 0.0, 5.0, 5.0))
    bus = Box("bus", (0.0, 0.0, 5.0, 5.0))
    return [
        Sample(Path(f"{i}.jpg"), (10, 10), "train", str(i), (box, box, *([bus] if i < 3 else []))) for i in range(count)
    ]


def test_the_plan_counts_steps_labels_and_replay() -> None:
    config = TrainConfig(
        data=Path(), weights="w", epochs=10, batch=8, replay=Path("r"), replay_ratio=0.5, min_optimiser_steps=100
    )
    plan = plan_run(config, samples(80), ["car", "bus", "train"])
    assert (plan.pictures, plan.replayed, plan.batches, plan.accumulation, plan.steps) == (80, 40, 15, 1, 150)
    assert plan.labels == {"car": 160, "bus": 3, "train": 0}
    assert plan.warmup_epochs == 1.0 and plan.average_steps == 15
    text = "\n".join(plan.lines(config))
    assert "80 pictures and 40 source pictures an epoch, 10 epochs, 15 batches an epoch: 150 optimiser steps." in text
    assert "No label of train: nothing can be learned" in text
    assert "Fewer than 10 labels of bus: expect little" in text
    assert "a step after every batch, because more batches a step would leave under 100" in text


def test_pictures_that_are_shown_again_count_again() -> None:
    config = TrainConfig(data=Path(), weights="w", epochs=10, batch=8, repeat_threshold=0.6)
    # 3 of 80 pictures hold a bus: each is shown sqrt(0.6 / (3 / 80)) = 4 times.
    plan = plan_run(config, samples(80), ["car", "bus"])
    assert (plan.pictures, plan.batches, plan.steps) == (89, 12, 120)


def test_a_large_set_collects_batches_and_says_so() -> None:
    config = TrainConfig(data=Path(), weights="w", epochs=10, batch=8, warmup_epochs=0)
    plan = plan_run(config, samples(800), ["car", "bus"])
    assert plan.accumulation == 8 and plan.steps == 130
    text = "\n".join(plan.lines(config))
    assert "a step collects 8 batches, the most within 64 pictures that leaves 100 steps; the moving average" in text
    assert "The learning rate has no warm-up and falls" in text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"batch": 64, "epochs": 100}, "two would be more than 64 pictures"),
        ({"batch": 16, "epochs": 10, "pictures": 12}, "an epoch has only one"),
        ({"batch": 16, "epochs": 10}, "more batches a step would leave under 100"),
    ],
)
def test_why_a_step_collects_no_more_is_the_true_reason(changes: dict[str, Any], why: str) -> None:
    count = changes.pop("pictures", 160)
    config = TrainConfig(data=Path(), weights="w", min_optimiser_steps=100, **changes)
    assert f"a step after every batch, because {why};" in plan_run(config, samples(count), ["car"]).lines(config)[-1]


def test_the_plan_says_what_the_trainer_does_with_the_average_and_the_warm_up() -> None:
    config = TrainConfig(data=Path(), weights="w", epochs=1, batch=8, labels="teacher", selection_split=None)
    plan = plan_run(config, samples(80), ["car"])
    assert (plan.steps, plan.average_steps, plan.warmup_epochs) == (10, 5, 0)
    assert "reaches back 5 steps, 50% of the run" in plan.lines(config)[-1] and "no warm-up" in plan.lines(config)[-1]


def test_the_plan_counts_the_heads_passes_and_says_where_overfitting_is_not_watched() -> None:
    config = TrainConfig(data=Path(), weights="w", epochs=2, batch=8, head_epochs=3, selection_split=None)
    lines = plan_run(config, samples(80), ["car"]).lines(config)
    assert "20 optimiser steps, after 3 passes over the target's pictures in which the head learns alone." in lines[0]
    assert "overfitting is not watched" in lines[-1]
    watched = config.model_copy(update={"selection_split": "val", "head_epochs": 0})
    assert "overfitting" not in " ".join(plan_run(watched, samples(80), ["car"]).lines(watched))


def test_the_plan_of_the_head_alone_promises_no_epoch() -> None:
    config = TrainConfig(data=Path(), weights="w", epochs=0, batch=8, head_epochs=3, selection_split=None)
    lines = plan_run(config, samples(80), ["car"]).lines(config)
    assert lines[0].startswith("80 pictures, no epoch in which every layer learns, after 3 passes")
    assert len(lines) == 2 and lines[1].startswith("Labels:")


def line(train_loss: float, val_loss: float | None, accuracy: float | None) -> dict[str, float | None]:
    return {"train/box_loss": train_loss, "train/lr": 9.0, "val/box_loss": val_loss, "metrics/mAP50-95(B)": accuracy}


def watched(*lines: dict[str, float | None]) -> OverfitWatch:
    watch = OverfitWatch()
    for entry in lines:
        watch.add(entry)
    return watch


def test_three_epochs_of_falling_training_and_rising_validation_loss_are_overfitting() -> None:
    start = [line(1.0, 1.0, 0.30), line(0.9, 0.9, 0.35)]
    worse = [line(0.8, 0.95, 0.34), line(0.7, 1.0, 0.33), line(0.6, 1.1, 0.32)]
    assert not watched(*start, *worse[:2]).overfitted
    assert watched(*start, *worse).best_epoch == 2


@pytest.mark.parametrize(
    "lines",
    [
        # Accuracy still rises: the loss alone decides nothing.
        [line(1.0, 1.0, 0.30), line(0.8, 1.1, 0.31), line(0.7, 1.2, 0.32), line(0.6, 1.3, 0.33)],
        # The training loss rises too: that is a rate too high, not overfitting.
        [line(1.0, 1.0, 0.30), line(1.1, 1.1, 0.29), line(1.2, 1.2, 0.28), line(1.3, 1.3, 0.27)],
        # One better epoch in between.
        [line(1.0, 1.0, 0.30), line(0.9, 1.1, 0.29), line(0.8, 1.05, 0.28), line(0.7, 1.2, 0.27)],
        # Nothing is measured on other pictures.
        [line(1.0 - k / 10, None, None) for k in range(6)],
    ],
)
def test_what_is_not_overfitting(lines: list[dict[str, float | None]]) -> None:
    assert not watched(*lines).overfitted


def test_a_run_that_overfits_is_stopped_and_says_so(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overfit(self: OverfitWatch, entry: dict[str, Any]) -> None:
        self.best_epoch = 1 if entry["train/box_loss"] and len(self._epochs) else None
        self._epochs.append((0.0, 0.0, 0.0))

    monkeypatch.setattr(OverfitWatch, "add", overfit)
    result = train(configure(epochs=4), tmp_path / "run")
    assert result.epochs == 2
    assert any("Stopped after epoch 2, because it overfits: since epoch 1" in note for note in result.notes)


def test_the_plan_is_told_before_training(configure: Configure, tmp_path: Path) -> None:
    told: list[str] = []

    def progress(label: str, done: int, total: int | None) -> None:
        if label == "training":
            told.append("training")

    train(configure(epochs=1), tmp_path / "run", say=told.append, progress=progress)
    assert told[0].startswith("4 pictures an epoch, 1 epochs, 2 batches an epoch: 2 optimiser steps")
    assert "training" in told[3:] and "training" not in told[:3]
