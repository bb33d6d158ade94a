from __future__ import annotations

from pathlib import Path

import pytest

from drivetl.adapt.config import TrainConfig
from drivetl.config import parse_model
from drivetl.errors import ConfigError


def config(**changes: object) -> TrainConfig:
    return parse_model(TrainConfig, {"data": Path("d"), "weights": "yolo11n", **changes}, "here")


@pytest.mark.parametrize(
    ("epochs", "batch", "batches", "accumulation", "steps"),
    [
        (10, 8, 12, 1, 120),  # 89 pictures: two batches a step would leave 60 steps
        (20, 8, 12, 2, 120),
        (100, 8, 12, 8, 200),  # never more than the nominal 64 pictures a step
        (1, 8, 12, 1, 12),  # too few even so; training says it in a note
        (10, 128, 1000, 1, 10_000),
        (200, 1, 2, 2, 200),  # never more batches than an epoch has
    ],
)
def test_accumulation_leaves_a_hundred_steps(
    epochs: int, batch: int, batches: int, accumulation: int, steps: int
) -> None:
    settings = config(epochs=epochs, batch=batch)
    assert settings.accumulation(batches) == accumulation
    assert settings.steps(batches, accumulation) == steps


def test_the_default_run_on_89_pictures_has_its_hundred_steps() -> None:
    settings = config()
    batches = -(-89 // settings.batch)
    assert settings.steps(batches, settings.accumulation(batches)) >= 100


@pytest.mark.parametrize(
    ("epochs", "share", "without"), [(10, 0.1, 1), (25, 0.1, 3), (30, 0.1, 3), (1, 0.1, 1), (10, 0.0, 0)]
)
def test_the_last_tenth_runs_without_mosaic(epochs: int, share: float, without: int) -> None:
    assert config(epochs=epochs, close_mosaic_share=share).close_mosaic_epochs == without


@pytest.mark.parametrize("alone", [{"head_epochs": 1}, {"batch_norm": "adapted"}])
def test_each_part_may_stand_without_an_epoch(alone: dict[str, object]) -> None:
    assert config(epochs=0, **alone).steps(10, 1) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "nothing would change; give head_epochs"),
        ({"batch_norm": "frozen"}, "nothing would change"),
        ({"head_epochs": 1, "replay": "source", "distill": 1.0}, "replay, distill would do nothing"),
        ({"head_epochs": 1, "batch_norm": "reestimated"}, "take 'adapted', which comes before"),
        ({"head_epochs": 1, "l2_sp": 0.1, "patience": 2}, "l2_sp, patience would do nothing"),
        ({"head_epochs": 1, "layer_decay": 0.5, "freeze": 3}, "layer_decay, freeze would do nothing"),
        ({"head_epochs": 1, "optimizer": "SGD", "trackers": ("mlflow",)}, "trackers, optimizer SGD would do nothing"),
        ({"head_epochs": 1, "albumentations": "a.json"}, "albumentations would do nothing"),
    ],
)
def test_without_an_epoch_what_would_do_nothing_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        config(epochs=0, **changes)


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({"epochs": 3}, ("val", "the epoch")),
        ({"epochs": 0, "head_epochs": 1, "wise_ft": "select"}, ("val", "the share")),
        ({"epochs": 0, "head_epochs": 1}, ("val", "whether the start is kept")),
        ({"epochs": 0, "head_epochs": 1, "do_no_harm": False}, None),
        ({"epochs": 3, "selection_split": None}, None),
    ],
)
def test_what_a_split_chooses_is_said_as_it_is(changes: dict[str, object], chosen: tuple[str, str] | None) -> None:
    assert config(**changes).choice({"train": 100, "val": 60}) == chosen


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", -1),
        ("epochs", 0),
        ("imgsz", 100),
        ("imgsz", 0),
        ("batch", 0),
        ("lr0", 0.0),
        ("lr0", float("nan")),
        ("optimizer", "auto"),
        ("mosaic", 1.5),
        ("seed", -1),
        ("weights", " "),
        ("freeze", 24),
        ("lerning_rate", 1),
    ],
)
def test_what_is_out_of_range_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        config(**{key: value})
