"""The seam between quantisation and evaluation: what one gets is what the other measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.cli import app
from drivetl.data.records import spread
from drivetl.errors import ConfigError, DatasetError
from drivetl.progress import silent
from drivetl.runtime import Contract, Letterbox
from drivetl.verbs._accuracy import DatasetAccuracy

CONTRACT = Contract("images", (64, 64), "output0", (1, 6, 64), ("car", "bus"), Letterbox((64, 64)))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four black pictures, in val six, with a car at the left and a bus at the right."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for index in range(4 if split == "train" else 6):
            cv2.imwrite(str(tmp_path / "images" / split / f"{index}.png"), np.zeros((64, 64, 3), np.uint8))
            boxes = "0 0.25 0.5 0.25 0.5\n1 0.75 0.5 0.25 0.5\n"
            (tmp_path / "labels" / split / f"{index}.txt").write_text(boxes, encoding="utf-8")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, bus]\n", encoding="utf-8")
    return tmp_path


def _finds(*names: str) -> Callable[[Any], Any]:
    raw = np.zeros((1, 6, 64), np.float32)
    for anchor, (name, centre_x) in enumerate((("car", 16), ("bus", 48))):
        raw[0, :4, anchor] = centre_x, 32, 16, 32
        raw[0, 4 + anchor, anchor] = 0.9 if name in names else 0.0
    return lambda tensor: raw


def test_accuracy_is_that_of_the_evaluation(dataset: Path) -> None:
    accuracy = DatasetAccuracy(dataset, silent)
    assert accuracy.map50_95(CONTRACT, _finds("car", "bus"), "train", 10) == (pytest.approx(1.0), 4)
    asked: list[int] = []

    def finds_cars(tensor: Any) -> Any:
        asked.append(1)
        return _finds("car")(tensor)

    # Three of four: every second picture would be two.
    assert accuracy.map50_95(CONTRACT, finds_cars, "train", 3) == (pytest.approx(0.5), 3) and len(asked) == 3


def test_as_many_are_taken_as_were_asked_for_and_evenly() -> None:
    samples: list[Any] = list(range(201))
    for count in (1, 2, 7, 100, 200, 201, 500):
        taken = np.array(list(spread(samples, 201, count)))
        assert len(taken) == min(count, 201) and taken[0] == 0
        assert np.ptp(np.diff(taken)) <= 1 if len(taken) > 1 else True


def test_a_loss_is_told_for_all_for_each_class_and_with_its_interval(dataset: Path) -> None:
    found = DatasetAccuracy(dataset, silent).compare(CONTRACT, _finds("car", "bus"), _finds("car"), "val")
    assert (found["pictures"], found["before"], found["after"]) == (6, pytest.approx(1.0), pytest.approx(0.5))
    assert found["difference"] == pytest.approx(-0.5) and found["interval"] == pytest.approx([-0.5, -0.5])
    assert found["per_class"]["car"]["difference"] == 0 and found["per_class"]["bus"]["difference"] == -1
    assert found["per_class"]["bus"]["boxes"] == 6


def test_a_split_without_boxes_is_no_accuracy_of_zero(dataset: Path) -> None:
    accuracy = DatasetAccuracy(dataset, silent)
    accuracy.require_boxes(CONTRACT, "train")
    for path in (dataset / "labels" / "train").iterdir():
        path.write_text("", encoding="utf-8")
    for measure in (
        lambda: accuracy.map50_95(CONTRACT, _finds("car"), "train", 10),
        lambda: accuracy.compare(CONTRACT, _finds("car"), _finds("car"), "train"),
        lambda: accuracy.require_boxes(CONTRACT, "train"),
        # Boxes of a class that the model lacks: it has nothing to lose on them.
        lambda: accuracy.require_boxes(replace(CONTRACT, class_names=("person", "dog")), "val"),
    ):
        with pytest.raises(DatasetError, match=r"of .* has no boxes .*label some of its pictures"):
            measure()


@pytest.mark.material
def test_int8_that_could_not_be_judged_is_refused_before_the_work(
    material: Path, dataset: Path, tmp_path: Path
) -> None:
    (dataset / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [sloth, okapi]\n", "utf-8")
    words = ("--precision", "int8", "--calibrate", str(dataset), "--out", str(tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"--max-drop cannot be checked: .* share no class.* 'sloth, okapi'"):
        app(["export", str(material / "weights" / "yolo11n.pt"), *words], standalone_mode=False)
    assert not (tmp_path / "out").exists()
