"""Data that is too little, or does not fit, through the verb that users type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.head_phase import train_head
from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.adapt.training import train as adapt
from drivetl.errors import ConfigError, DatasetError
from drivetl.progress import silent
from drivetl.verbs import train

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]
SMALL = ("--imgsz", 64, "--batch", 2, "--threads", 1, "--epochs", 1)


def invoke(*words: object) -> Result:
    app = typer.Typer()
    train.register(app)
    return CliRunner().invoke(app, [str(word) for word in words])


def document_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def told(result: Result) -> str:
    """What people are told, without the line breaks."""
    return " ".join(result.stderr.split())


def test_without_validation_split_the_training_pictures_choose(random_weights: Path, tmp_path: Path) -> None:
    data = draw_dataset(tmp_path / "data", train=4)
    words = ("--data", data, "--weights", random_weights, *SMALL, "--out", tmp_path / "run", "--json")
    document = document_of(invoke(*words, "--wise-ft", "select"))
    notes = " ".join(document["notes"])
    assert "no split 'val' to choose the epoch by, so the last epoch is taken" in notes
    assert "neither 'test' nor 'val', so there are no figures" in notes
    assert document["zero_shot"] is None and document["adapted"] is None
    # Cross-validated instead: the curve is there, and random weights find nothing, so the start is kept.
    assert [point["share"] for point in document["weight_curve"]] == [0, 0.25, 0.5, 0.75, 1]
    assert document["share"] == 0 and "the start was kept" in notes


def test_one_picture_is_trained_on_and_never_trusted(random_weights: Path, tmp_path: Path) -> None:
    data = draw_dataset(tmp_path / "data", train=1, val=1)
    words = ("--data", data, "--weights", random_weights, *SMALL, "--json")
    result = invoke(*words, "--out", tmp_path / "selected", "--wise-ft", "select")
    document = document_of(result)
    assert document["share"] == 0 and document["weight_curve"] == []
    assert any("One group of training pictures cannot say" in note for note in document["notes"])
    assert "1 pictures an epoch" in told(result)
    plain = document_of(invoke(*words, "--out", tmp_path / "plain", "--wise-ft", 1))
    assert (plain["share"], plain["optimiser_steps"]) == (1.0, 2 + 1)
    assert plain["adapted"]["interval"]["note"].startswith("No interval")


def test_a_class_without_example_is_named(drawn: Path, random_weights: Path, tmp_path: Path) -> None:
    words = ("--data", drawn, "--weights", random_weights, *SMALL, "--no-figures")
    result = invoke(*words, "--out", tmp_path / "run")
    assert result.exit_code == 0
    assert "No label of dragon: nothing can be learned of these classes." in told(result)
    # Of the four pictures, one holds a car or a pedestrian: the labels counted are those that are trained on.
    one = invoke(*words, "--out", tmp_path / "one", "--pictures", 1)
    assert "1 pictures an epoch" in told(one)
    assert "Labels: car 1, pedestrian 0" in told(one) or "Labels: car 0, pedestrian 1" in told(one)


def test_classes_that_the_weights_do_not_know_start_untrained_and_that_is_said(
    random_weights: Path, tmp_path: Path
) -> None:
    data = draw_dataset(tmp_path / "data", train=4, val=2)
    (data / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [dragon, griffin]\n")
    words = ("--data", data, "--weights", random_weights, *SMALL, "--json")
    result = invoke(*words, "--out", tmp_path / "run")
    document = document_of(result)
    sentence = "The weights know none of the dataset's classes (dragon, griffin), so every class row starts untrained"
    assert sentence in told(result) and any(sentence in note for note in document["notes"])
    assert document["zero_shot"] is None and document["adapted"] is not None
    assert all(row["kind"] == "none" for row in document["head_transfer"])
    more = ("--wise-ft", 1, "--learning-curve", "2,4")
    curve = document_of(invoke(*words, "--out", tmp_path / "curve", *more))["learning_curve"]
    assert [(point["pictures"], point["gain"]) for point in curve["points"]] == [(2, None), (4, None)]


@pytest.mark.parametrize("option", ["--replay", "--retention"])
def test_source_pictures_of_other_classes_are_refused_before_anything_is_written(
    drawn: Path, random_weights: Path, tmp_path: Path, option: str
) -> None:
    source = draw_dataset(tmp_path / "source", train=2, val=2)
    (source / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [zebra, boat]\n")
    run = tmp_path / "run"
    result = invoke("--data", drawn, "--weights", random_weights, *SMALL, "--out", run, option, source)
    assert isinstance(result.exception, DatasetError)
    assert f"the {option[2:]} dataset" in str(result.exception)
    assert "shares no class with the target: it has zebra, boat" in str(result.exception)
    assert not run.exists()


def test_pictures_without_any_label_are_refused_before_anything_is_written(
    drawn: Path, random_weights: Path, tmp_path: Path
) -> None:
    bare = draw_dataset(tmp_path / "bare", train=2, val=2)
    for label in (bare / "labels" / "train").iterdir():
        label.unlink()
    run = tmp_path / "run"
    words = ("--weights", random_weights, *SMALL, "--out", run)
    target = invoke("--data", bare, *words)
    assert isinstance(target.exception, DatasetError)
    assert "no object is labelled in the 2 pictures of the split 'train'" in str(target.exception)
    source = invoke("--data", drawn, *words, "--replay", bare)
    assert isinstance(source.exception, DatasetError)
    assert "no object is labelled in the split 'train' of the replay dataset" in str(source.exception)
    assert not run.exists()


def test_weights_that_compute_no_numbers_are_not_kept(
    drawn: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = AdaptTrainer.optimizer_step

    def blown_up(self: AdaptTrainer) -> None:
        step(self)
        # Finite weights whose products are not: so a far too large learning rate ends, too.
        for value in self.ema.ema.model[-1].parameters():
            value.data.fill_(3e38)

    monkeypatch.setattr(AdaptTrainer, "optimizer_step", blown_up)
    words = ("--data", drawn, "--weights", random_weights, *SMALL, "--wise-ft", 1, "--json")
    document = document_of(invoke(*words, "--out", tmp_path / "run"))
    assert document["share"] == 0 and any("the training diverged" in note for note in document["notes"])


class Tiny(torch.nn.Module):
    """A backbone of one layer, and a head that takes a list of features, as Ultralytics' do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 1), torch.nn.ModuleList([torch.nn.Conv2d(4, 1, 1)])])
        self.model[-1].forward = lambda features: self.model[-1][0](features[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model[-1]([self.model[0](x)])


def test_a_head_that_diverges_alone_says_so(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"diverged while the head learned alone.*lr0 1"):
        train_head(
            Tiny(),
            [{"img": torch.zeros(1, 3, 8, 8), **dict.fromkeys(("batch_idx", "cls", "bboxes"), torch.zeros(1))}],
            1,
            lambda _, __: (torch.tensor(float("nan")), None),
            tmp_path,
            configure(head_epochs=1, lr0=1.0),
            silent,
        )


def test_what_is_not_measured_is_not_logged_as_zero(configure: Configure, tmp_path: Path) -> None:
    adapt(configure(epochs=1, selection_split=None), tmp_path / "run")
    line = json.loads((tmp_path / "run" / "training_log.jsonl").read_text().splitlines()[0])
    assert "train/box_loss" in line and not [name for name in line if name.startswith(("val/", "metrics/"))]


def test_a_loss_that_is_not_finite_ends_the_run_with_what_was_good(
    drawn: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = AdaptTrainer.optimizer_step

    def spoiled(self: AdaptTrainer) -> None:
        step(self)
        if self.epoch == 1:
            next(self.model.parameters()).data.fill_(float("nan"))

    run = tmp_path / "run"
    words = ("--data", drawn, "--weights", random_weights, *SMALL[:-1], 3, "--out", run, "--no-figures", "--wise-ft", 1)
    with monkeypatch.context() as patch:
        patch.setattr(AdaptTrainer, "optimizer_step", spoiled)
        result = invoke(*words)
    assert isinstance(result.exception, ConfigError)
    assert "training diverged in epoch 2" in str(result.exception) and "--lr0" in str(result.exception)
    assert not RunFolder(run).adapted.exists() and RunFolder(run).state.is_file()
    # Nothing is lost: what spoiled it gone, the epochs before it are continued.
    document = document_of(invoke("--resume", "--out", run, "--no-figures", "--json"))
    assert document["epochs"] == 3
