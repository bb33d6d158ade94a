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
from drivetl.adapt.training import train
from drivetl.config import parse_model
from drivetl.errors import ConfigError
from drivetl.yolo import load_checkpoint

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


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "selection_split"),
        ({"selection_split": None, "wise_ft": "select"}, "wise_ft"),
        ({"selection_split": None, "head_epochs": 1}, "head_epochs"),
    ],
)
def test_what_would_need_labels_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"no label is read, so '{name}' must be"):
        parse_model(TrainConfig, {"data": ".", "weights": "w", "labels": "teacher", **changes}, "test")
