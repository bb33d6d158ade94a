"""Weights between the start and the end of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from drivetl.adapt.averaging import interpolate
from drivetl.adapt.config import TrainConfig
from drivetl.adapt.training import train
from drivetl.yolo import load_checkpoint

Configure = Callable[..., TrainConfig]


def test_interpolation_is_linear_and_keeps_counters() -> None:
    start = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    end = {"w": torch.tensor([4.0, 0.0]), "n": torch.tensor(9)}
    assert interpolate(start, end, 0.25)["w"].tolist() == [1.0, 1.5]
    assert interpolate(start, end, 0.25)["n"] == 9
    assert torch.equal(interpolate(start, end, 0.0)["w"], start["w"])
    assert torch.equal(interpolate(start, end, 1.0)["w"], end["w"])


def test_rows_of_classes_that_the_start_does_not_know_are_not_diluted() -> None:
    start, end = {"w": torch.zeros(3, 2), "b": torch.zeros(3)}, {"w": torch.ones(3, 2), "b": torch.ones(3)}
    mixed = interpolate(start, end, 0.25, new_entries={"b"}, new_rows=[2])
    assert mixed["b"].tolist() == [0.25, 0.25, 1.0] and mixed["w"].unique().tolist() == [0.25]
    assert interpolate(start, end, 0.0, new_entries={"b"}, new_rows=[2])["b"].tolist() == [0, 0, 0]


def test_of_a_mixture_the_unknown_class_is_the_trained_one(configure: Configure, tmp_path: Path) -> None:
    result = train(configure(epochs=1, wise_ft=0.25), tmp_path / "run")
    mixed, alone = (load_checkpoint(path).model.state_dict() for path in (result.weights, result.alone_weights))
    row = "model.23.cv3.0.2.weight"
    # Of car, pedestrian and dragon, the checkpoint has never heard of the last.
    assert torch.equal(mixed[row][2], alone[row][2]) and not torch.equal(mixed[row][:2], alone[row][:2])


def test_a_run_mixes_its_weights_with_the_start_and_keeps_both(configure: Configure, tmp_path: Path) -> None:
    results = {share: train(configure(epochs=1, wise_ft=share), tmp_path / str(share)) for share in (1.0, 0.5, 0.0)}
    assert results[1.0].alone_weights == results[1.0].weights
    start, half, end, alone = (
        load_checkpoint(path).model.state_dict()
        for path in (results[0.0].weights, results[0.5].weights, results[1.0].weights, results[0.5].alone_weights)
    )
    name = "model.0.conv.weight"
    assert torch.equal(alone[name], end[name]) and not torch.equal(start[name], end[name])
    torch.testing.assert_close(half[name], (start[name] + end[name]) / 2)


def test_of_the_start_alone_the_classifier_is_the_transferred_one(
    configure: Configure, tmp_path: Path, random_weights: Path
) -> None:
    result = train(configure(epochs=1, wise_ft=0.0), tmp_path / "run")
    before = load_checkpoint(random_weights).model.state_dict()
    after = load_checkpoint(result.weights).model.state_dict()
    row = "model.23.cv3.0.2.weight"
    # The dataset's classes are car, pedestrian, dragon; the checkpoint's person, bicycle, car, boat.
    assert torch.equal(after[row][:2], before[row][[2, 0]])


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_the_share_is_between_zero_and_one(configure: Configure, share: float) -> None:
    with pytest.raises(ValueError, match="wise_ft"):
        configure(wise_ft=share)
