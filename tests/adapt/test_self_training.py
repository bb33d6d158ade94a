"""Learning from unlabelled pictures: thresholds, labels, and that no label of the dataset is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.self_training import class_thresholds, pseudo_labels
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.adapt.training import train
from drivetl.config import parse_model
from drivetl.errors import ConfigError
from drivetl.yolo import load_checkpoint

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]


class Teacher:
    """Finds boxes far apart with the given (class, confidence), in every picture alike."""

    def __init__(self, *found: tuple[int, float]) -> None:
        self.found = found

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        raw = torch.zeros(len(pictures), 4 + 3, max(len(self.found), 2))
        for place, (index, confidence) in enumerate(self.found):
            raw[:, :4, place] = torch.tensor([20.0 + 40 * place, 16.0, 20.0, 16.0])
            raw[:, 4 + index, place] = confidence
        return raw


def test_a_threshold_takes_as_many_detections_as_objects_are_expected() -> None:
    teacher = Teacher((0, 0.9), (0, 0.8), (0, 0.6), (0, 0.4), (0, 0.3), (1, 0.5), (1, 0.45))
    limits = class_thresholds(teacher, [torch.zeros(1, 3, 64, 320)], [0, 1, 2])
    # Class 0: the confidences sum to 3.0, the third is 0.6. Class 1: to 0.95, the first is 0.5.
    assert limits[0] == pytest.approx(0.6) and limits[1] == pytest.approx(0.5)
    # Nothing was found of class 2: only what is quite sure may become a label.
    assert limits[2] == 0.7


def test_pseudo_labels_are_what_the_teacher_is_sure_of() -> None:
    teacher = Teacher((0, 0.9), (0, 0.55), (1, 0.55), (2, 0.99))
    labels = pseudo_labels(teacher, torch.zeros(2, 3, 64, 320), {0: 0.6, 1: 0.5})
    assert labels["batch_idx"].tolist() == [0, 0, 1, 1]
    assert labels["cls"].view(-1).tolist() == [0, 1, 0, 1]
    expected = [[20 / 320, 0.25, 20 / 320, 0.25], [100 / 320, 0.25, 20 / 320, 0.25]]
    assert torch.allclose(labels["bboxes"], torch.tensor(expected * 2), atol=1e-6)


def test_a_picture_without_anything_sure_has_no_label() -> None:
    labels = pseudo_labels(Teacher(), torch.zeros(1, 3, 64, 320), {0: 0.6})
    assert labels["cls"].shape == (0, 1) and labels["bboxes"].shape == (0, 4)


def test_a_batch_of_source_pictures_alone_asks_no_teacher(configure: Configure, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", train=4)
    config = configure(labels="teacher", selection_split=None, epochs=1, batch=1, mosaic=0.0, replay=source)
    result = train(config, tmp_path / "run")
    assert result.optimiser_steps > 0


def test_no_label_of_the_dataset_is_read(configure: Configure, drawn: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(drawn, bare)
    shutil.rmtree(bare / "labels")
    settings: dict[str, Any] = {"labels": "teacher", "selection_split": None, "epochs": 2, "lr0": 1e-3}
    weather = {"probability": 1.0, "conditions": {"fog": 1.0}, "severities": [3]}
    results = [
        train(configure(data=data, weather=weather, **settings), tmp_path / f"run_{data.name}")
        for data in (drawn, bare)
    ]
    one, other = (load_checkpoint(result.weights).model.state_dict() for result in results)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_source_pictures_beside_unlabelled_ones_keep_their_labels(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = draw_dataset(tmp_path / "source", train=4)
    seen: list[tuple[list[bool], list[int], list[int]]] = []

    def labelled(self: AdaptTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        done = original(self, batch)
        of_source = [str(source) in file for file in done["im_file"]]
        seen.append((of_source, done["batch_idx"].int().tolist(), done["cls"].view(-1).int().tolist()))
        return done

    original = AdaptTrainer.preprocess_batch
    monkeypatch.setattr(AdaptTrainer, "preprocess_batch", labelled)
    row = {"batch_idx": torch.zeros(1), "cls": torch.full((1, 1), 2.0), "bboxes": torch.full((1, 4), 0.5)}
    asked: list[int] = []

    def one_each(model: Any, pictures: torch.Tensor, thresholds: dict[int, float]) -> dict[str, torch.Tensor]:
        asked.append(len(pictures))
        rows = {name: value.repeat(len(pictures), *[1] * (value.ndim - 1)) for name, value in row.items()}
        return {**rows, "batch_idx": torch.arange(len(pictures)).float()}

    monkeypatch.setattr("drivetl.adapt.trainer.pseudo_labels", one_each)
    config = configure(labels="teacher", selection_split=None, epochs=1, batch=4, mosaic=0.0, replay=source)
    train(config, tmp_path / "run")
    assert seen and sum(asked) == 4
    for of_source, pictures, classes in seen:
        assert pictures == list(range(len(of_source))), "each has one label, and no more"
        assert all((kind in (0, 1)) == own for kind, own in zip(classes, of_source, strict=True))


def test_the_teacher_places_boxes_in_single_precision_whatever_the_training_computes_in() -> None:
    class Half(Teacher):
        def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
            raw = super().__call__(pictures)
            # An operation that autocast carries out in bfloat16.
            raw[:, 0, 0] = torch.mm(torch.full((1, 1), 301.3), torch.ones(1, 1)).item()
            return raw

    with torch.autocast("cpu", torch.bfloat16):
        labels = pseudo_labels(Half((0, 0.9)), torch.zeros(1, 3, 64, 640), {0: 0.5})
    assert float(labels["bboxes"][0, 0]) == pytest.approx(301.3 / 640, abs=1e-5)


def test_a_teacher_that_knows_no_class_is_refused(configure: Configure, tmp_path: Path) -> None:
    data = draw_dataset(tmp_path / "data", train=2)
    (data / "data.yaml").write_text("path: .\ntrain: images/train\nnames: [dragon, griffin]\n")
    with pytest.raises(ConfigError, match=r"know none of the dataset's classes \(dragon, griffin\), so with labels"):
        train(configure(data=data, labels="teacher", selection_split=None), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "selection_split"),
        ({"selection_split": None, "wise_ft": "select"}, "wise_ft"),
        ({"selection_split": None, "head_epochs": 1}, "head_epochs"),
        ({"selection_split": None, "replay": "r"}, "mosaic"),
    ],
)
def test_what_would_need_labels_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"no label is read, so '{name}' must be"):
        parse_model(TrainConfig, {"data": ".", "weights": "w", "labels": "teacher", **changes}, "test")
