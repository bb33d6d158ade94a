from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.data.pictures import PICTURE_ENDINGS, UNREAD_ENDINGS
from drivetl.errors import DatasetError
from drivetl.yolo.dataset import ReadOnlyDataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in "abc":
        cv2.imwrite(str(tmp_path / "images" / f"{name}.jpg"), np.full((40, 60, 3), 90, np.uint8))
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return tmp_path


def load(folder: Path) -> ReadOnlyDataset:
    from ultralytics.cfg import get_cfg

    data: dict[str, Any] = {"names": {0: "car"}, "nc": 1, "channels": 3}
    return ReadOnlyDataset(img_path=str(folder / "images"), imgsz=64, hyp=get_cfg(), data=data, task="detect")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_ending_that_ultralytics_trains_on_is_known() -> None:
    from ultralytics.data.utils import IMG_FORMATS

    assert {f".{ending}" for ending in IMG_FORMATS} == PICTURE_ENDINGS | UNREAD_ENDINGS


def test_reading_writes_nothing(folder: Path) -> None:
    before = content(folder)
    assert len(load(folder)) == 3
    assert content(folder) == before


def test_an_array_beside_a_picture_is_neither_read_nor_touched(folder: Path) -> None:
    pictures = sorted((folder / "images").glob("*.jpg"))
    np.save(pictures[0].with_suffix(".npy"), np.full((40, 60), 7.5, np.float32))  # a depth map
    np.save(pictures[1].with_suffix(".npy"), np.zeros((40, 60, 3), np.uint8))  # another picture
    pictures[2].with_suffix(".npy").write_bytes(b"notes")
    before = content(folder)
    dataset, other = load(folder), load(folder)
    dataset.absorb(other, {0: 0})
    for index in range(6):
        image, _, _ = dataset.load_image(index)
        assert abs(int(image.mean()) - 90) <= 1
    assert content(folder) == before


def test_a_pickle_lying_beside_the_labels_is_not_loaded(folder: Path) -> None:
    witness = folder / "was-here"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    np.save(folder / "labels.npy", np.array([Hostile()], dtype=object))
    (folder / "labels.npy").rename(folder / "labels.cache")
    assert len(load(folder)) == 3
    assert not witness.exists()


def test_a_picture_cut_off_is_an_error_and_stays_as_it_is(folder: Path) -> None:
    path = folder / "images" / "b.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    before = content(folder)
    with pytest.raises(DatasetError, match=r"b\.jpg.*cut off.*data check") as caught:
        load(folder)
    assert "x1b" not in str(caught.value)  # the codes of Ultralytics' coloured lines
    assert content(folder) == before


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(folder: Path) -> None:
    path = folder / "images" / "b.jpg"
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    before = content(folder)
    assert len(load(folder)) == 3
    assert content(folder) == before


def test_a_label_with_four_columns_is_an_error(folder: Path) -> None:
    (folder / "labels" / "c.txt").write_text("0 0.5 0.5 0.2\n")
    with pytest.raises(DatasetError, match=r"c\.jpg"):
        load(folder)
