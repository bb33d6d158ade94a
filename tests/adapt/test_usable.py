from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.training import check_run, train
from drivetl.adapt.usable import check_usable
from drivetl.data import open_dataset
from drivetl.errors import DatasetError
from drivetl.verbs._train_figures import figure_notes

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]


def _label(text: str) -> Callable[[Path], object]:
    return lambda place: place.with_suffix(".txt").write_text(text)


def _cut(place: Path) -> None:
    path = Path(str(place).replace("labels", "images")).with_suffix(".jpg")
    path.write_bytes(path.read_bytes()[:-300])


def _small(place: Path) -> None:
    cv2.imwrite(str(Path(str(place).replace("labels", "images")).with_suffix(".jpg")), np.zeros((8, 20, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_label("0 0.5 0.5 0.5 0.5\n0 640 360 120 90\n"), r"1\.txt', line 2: the label '0 640 .* looks like pixels"),
        (_label("0 1.2 0.5 0.5 0.5\n"), r"1\.txt', line 1: the label '0 1.2 .* leaves the picture too far"),
        (_label("0 0.5 -0.2 0.5 0.5\n"), r"1\.txt', line 1: the label .* leaves the picture too far"),
        (_label("0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.5 0.1 0.5 0.5\n"), r"1\.txt' has both boxes and polygons"),
        (_label("7 0.5 0.5 0.5 0.5\n"), r"1\.txt', line 1: the label has the class id '7'"),
        (_cut, r"1\.jpg' is cut off"),
        (_small, r"1\.jpg' has a side under 10 pixels"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_what_the_loader_would_refuse_is_refused_before_anything_is_written(
    configure: Configure, tmp_path: Path, split: str, damage: Callable[[Path], object], message: str
) -> None:
    data = draw_dataset(tmp_path / "data", train=3, val=2)
    damage(data / "labels" / split / "1")
    run = tmp_path / "run"
    with pytest.raises(DatasetError, match=message):
        check_run(configure(data=data), run)
    with pytest.raises(DatasetError, match=message):
        train(configure(data=data), run)
    assert not run.exists()


def test_the_replayed_pictures_are_checked_too(configure: Configure, drawn: Path, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", train=3)
    _label("0 1.2 0.5 0.5 0.5\n")(source / "labels/train/2")
    with pytest.raises(DatasetError, match=r"source/labels/train/2\.txt', line 1"):
        check_run(configure(data=drawn, replay=source), tmp_path / "run")


def test_pictures_that_are_trained_on_choose_no_epoch(configure: Configure, tmp_path: Path) -> None:
    data = draw_dataset(tmp_path / "data", train=3, val=2)
    yaml = "train: [images/train, images/val]\nval: images/val\nnames: [car, pedestrian]\n"
    (data / "data.yaml").write_text(yaml)
    with pytest.raises(DatasetError, match=r"2 of the pictures to train on, such as '.*val/0\.jpg', stand in .* 'val'"):
        check_run(configure(data=data), tmp_path / "run")
    with pytest.raises(DatasetError, match="2 of the pictures to train on"):  # too few to choose by, all the same
        check_run(configure(data=data, wise_ft="select"), tmp_path / "run")
    config = configure(data=data, selection_split=None)
    check_run(config, tmp_path / "run")
    assert "2 of the 2 pictures of 'val' stand in 'train' too" in figure_notes("val", config, open_dataset(data))[0]


def test_bytes_after_the_end_of_a_picture_and_slightly_large_boxes_do_no_harm(
    configure: Configure, tmp_path: Path
) -> None:
    data = draw_dataset(tmp_path / "data", train=3, val=2)
    with (data / "images/train/0.jpg").open("ab") as handle:
        handle.write(b"\0" * 99)
    _label("0 0.5 0.5 1.005 0.5\n")(data / "labels/train/1")
    check_run(configure(data=data), tmp_path / "run")


def test_thousands_of_pictures_take_seconds(configure: Configure, tmp_path: Path) -> None:
    data = draw_dataset(tmp_path / "data", train=1, val=1)
    dataset = open_dataset(data)
    begin = time.process_time()
    check_usable(configure(data=data), dataset, [data / "images/train/0.jpg"] * 3000)
    assert time.process_time() - begin < 10
