"""Distillation: the distance from the start, and the clean twin of every picture."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.distillation import DistillationLoss, distillation, teacher_of
from drivetl.adapt.training import train
from drivetl.errors import ConfigError
from drivetl.yolo import load_checkpoint
from drivetl.yolo.ultra import DetectionModel

from .conftest import draw_dataset
from .test_pictures import loader

Configure = Callable[..., TrainConfig]


def output(seed: int, classes: int = 3, bins: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "scores": torch.randn(2, classes, 7, generator=generator),
        "boxes": torch.randn(2, 4 * bins, 7, generator=generator),
    }


def test_the_distance_is_least_where_student_and_teacher_agree() -> None:
    teacher = output(0)
    student = {name: value.clone().requires_grad_(True) for name, value in teacher.items()}
    distillation(student, teacher, [0, 1, 2]).backward()
    for value in student.values():
        torch.testing.assert_close(value.grad, torch.zeros_like(value), atol=1e-6, rtol=0)
    assert distillation(output(1), teacher, [0, 1, 2]) > distillation(teacher, teacher, [0, 1, 2])


def test_the_class_term_is_the_cross_entropy_written_out() -> None:
    student, teacher = output(1), output(0)
    student["boxes"] = teacher["boxes"]
    p, q = teacher["scores"][:, [0, 2]].sigmoid(), student["scores"][:, [0, 2]].sigmoid()
    expected = 0.5 * -(p * q.log() + (1 - p) * (1 - q).log()).sum() / p.sum()
    torch.testing.assert_close(distillation(student, teacher, [0, 2]), expected)


def test_classes_that_the_teacher_does_not_know_do_not_matter() -> None:
    student, teacher = output(1), output(0)
    before = distillation(student, teacher, [0, 2])
    student["scores"][:, 1] += 9
    teacher["scores"][:, 1] -= 3
    assert distillation(student, teacher, [0, 2]) == before


def test_a_box_counts_as_much_as_the_teacher_is_sure_of_it() -> None:
    student, teacher = output(0), output(0)
    teacher["scores"].fill_(-20.0)
    teacher["scores"][0, 0, 3] = 20.0
    base = distillation(student, teacher, [0])
    student["boxes"][0, :, 2] += torch.randn(64, generator=torch.Generator().manual_seed(3))
    assert distillation(student, teacher, [0]) == pytest.approx(float(base), rel=1e-5)
    student["boxes"][0, :, 3] += torch.randn(64, generator=torch.Generator().manual_seed(3))
    assert distillation(student, teacher, [0]) > base + 0.1


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yolov8n.yaml", "yolo26n.yaml"])
def test_every_family_can_be_its_own_teacher(name: str) -> None:
    torch.manual_seed(0)
    model: Any = DetectionModel(name, nc=3, verbose=False)
    teacher = teacher_of(model)
    pictures = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        raw, again = teacher(pictures), teacher(torch.cat([pictures, torch.rand(1, 3, 64, 64)]))
    many = raw.get("one2many", raw)
    # By its own statistics: what else is in the batch does not matter.
    torch.testing.assert_close(many["scores"][0], again.get("one2many", again)["scores"][0], atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    student = model.train()(pictures)
    distillation(student, raw, [0, 1, 2]).backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_loss_shows_the_teacher_the_clean_picture() -> None:
    seen: list[torch.Tensor] = []

    def teacher(pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(pictures)
        return output(0)

    def criterion(predictions: Any, batch: Any) -> Any:
        return torch.ones(3), {"box": torch.tensor(1.0)}

    loss = DistillationLoss(criterion, teacher, 2.0, [0])
    batch = {"img": torch.zeros(2, 3, 8, 8), "clean": torch.ones(2, 3, 8, 8)}
    total, items = loss(output(1), batch)
    assert torch.equal(seen[0], batch["clean"]) and list(items) == ["box"]
    assert total[:3].tolist() == [1, 1, 1]
    torch.testing.assert_close(total[3], 2.0 * 2 * distillation(output(1), output(0), [0]))
    loss(output(1), {"img": batch["img"]})
    assert torch.equal(seen[1], batch["img"])


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_the_clean_twin_differs_by_the_change_alone(drawn: Path, mosaic: float) -> None:
    dataset = loader(drawn, mosaic=mosaic)
    dataset.change = lambda image, boxes, rng: np.clip(image.astype(np.int16) + rng.integers(5, 9), 0, 255).astype("u1")
    dataset.pair()
    random.seed(3)
    np.random.seed(3)
    items = [dataset[index] for index in range(4)]
    batch = dataset.collate_fn([dict(item) for item in items])
    assert batch["clean"].shape == batch["img"].shape
    difference = batch["img"].int() - batch["clean"].int()
    assert 2 < difference.float().mean() < 9
    dataset.change = lambda image, boxes, rng: image
    same = [dataset[index] for index in range(4)]
    assert all(torch.equal(item["img"], item["clean"]) for item in same)


def test_a_strong_teacher_holds_the_student_back(configure: Configure, tmp_path: Path, random_weights: Path) -> None:
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    away = []
    for weight in (0.0, 100.0):
        config = configure(distill=weight, epochs=2, amp=False, optimizer="SGD", lr0=1e-4, wise_ft=1.0)
        trained = train(config, tmp_path / str(weight)).weights
        begun = train(config.model_copy(update={"wise_ft": 0.0}), tmp_path / f"{weight}-start").weights
        with torch.no_grad():
            student, teacher = (teacher_of(load_checkpoint(path).model)(pictures) for path in (trained, begun))
        # Class 2 has no counterpart in the checkpoint, so the teacher has nothing to say of it.
        away.append(float(distillation(student, teacher, [0, 1]) - distillation(teacher, teacher, [0, 1])))
    assert away[1] < 0.9 * away[0]


def test_a_teacher_that_knows_no_class_for_sure_is_refused(configure: Configure, tmp_path: Path) -> None:
    data = draw_dataset(tmp_path / "data", train=2)
    (data / "data.yaml").write_text("train: images/train\nnames: [van, dragon]\n")
    with pytest.raises(ConfigError, match=r"know none of the dataset's classes \(van, dragon\), so with distill"):
        train(configure(data=data, distill=1.0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_distillation_is_resumed_exactly(configure: Configure, tmp_path: Path) -> None:
    def stop(label: str, done: int, total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    config = configure(epochs=2, distill=1.0, weather={"probability": 0.5})
    whole = train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "part", progress=stop)
    part = train(config, tmp_path / "part", resume=True)
    first, second = (load_checkpoint(result.weights).model.state_dict() for result in (whole, part))
    assert all(torch.equal(first[name], second[name]) for name in first)
