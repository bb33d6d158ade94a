from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetl.data.cards import load_card
from drivetl.data.readers import reader_for
from drivetl.data.readers.common import Request
from drivetl.data.readers.yolo import read
from drivetl.errors import DatasetError


def test_a_data_yaml(yolo_source: Path) -> None:
    reading = read(Request(yolo_source, load_card("yolo")))
    samples = {sample.image.stem: sample for sample in reading.samples}
    assert (reading.total, reading.class_names) == (4, ("car", "person"))
    # 200 x 100 picture; centre (100, 50), size 40 x 40.
    assert samples["a"].boxes[0].xyxy_px == pytest.approx((80, 30, 120, 70))
    assert samples["b"].boxes[0].class_name == "person"
    assert {name: sample.split for name, sample in samples.items()} == {
        "a": "train",
        "b": "train",
        "c": "train",
        "d": "val",
    }
    assert {sample.group for sample in samples.values()} == {""}
    assert reading.notes == []


def test_a_data_yaml_over_pictures_without_labels_is_said(yolo_source: Path) -> None:
    for name in ("train/a", "val/d"):
        (yolo_source / "labels" / f"{name}.txt").unlink()
    assert read(Request(yolo_source, load_card("yolo"))).notes == [
        "2 pictures without a label file are taken as background."
    ]


def test_bare_folders_need_names(yolo_source: Path) -> None:
    (yolo_source / "data.yaml").unlink()
    (yolo_source / "labels" / "train" / "c.txt").unlink()
    with pytest.raises(DatasetError, match="pass --names FILE"):
        read(Request(yolo_source, load_card("yolo")))
    reading = read(Request(yolo_source, load_card("yolo"), ("auto", "walker")))
    samples = list(reading.samples)
    assert [(sample.split, [box.class_name for box in sample.boxes]) for sample in samples] == [
        ("train", ["auto"]),
        ("train", ["walker"]),
        ("train", []),
        ("val", ["auto"]),
    ]
    assert reading.notes == ["1 pictures without a label file are taken as background."]


def test_flat_folders_have_no_split(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (sample,) = read(Request(tmp_path, load_card("yolo"), ("car",))).samples
    assert sample.split == ""


def _as_tiff(source: Path, *names: str) -> None:
    for name in names:
        (source / "images" / f"{name}.jpg").rename(source / "images" / f"{name}.tif")


LEFT_OUT = "are left out, because drivetl does not read their format; convert them to PNG"


@pytest.mark.parametrize("names", [None, ("car", "person")])
def test_pictures_that_are_not_read_are_told(yolo_source: Path, names: tuple[str, ...] | None) -> None:
    if names is not None:
        (yolo_source / "data.yaml").unlink()
    _as_tiff(yolo_source, "train/b", "val/d")
    (yolo_source / "images/train/b.jpg.npy").touch()
    (yolo_source / "images/train/notes.TIFF").touch()  # has no label, so nothing is lost
    reading = read(Request(yolo_source, load_card("yolo"), names))
    assert [sample.image.name for sample in reading.samples] == ["a.jpg", "c.jpg"]
    assert reading.notes == [f"2 labelled pictures such as 'b.tif' {LEFT_OUT}."]
    _as_tiff(yolo_source, "train/a", "train/c")
    with pytest.raises(DatasetError, match=f"has no picture that drivetl reads: 4 labelled .*'a.tif' {LEFT_OUT}"):
        read(Request(yolo_source, load_card("yolo"), names))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", r"a\.txt', line 2: the label has 4 columns"),
        ("999 0.5 0.5 0.1 0.1", "line 2: the label has the class id '999'"),
    ],
)
def test_a_bad_line_is_named(yolo_source: Path, line: str, message: str) -> None:
    with (yolo_source / "labels" / "train" / "a.txt").open("a") as handle:
        handle.write(line)
    with pytest.raises(DatasetError, match=message):
        list(read(Request(yolo_source, load_card("yolo"))).samples)


def test_a_wrong_format_name_suggests_the_nearest() -> None:
    with pytest.raises(DatasetError, match=r"no format 'kiti'; did you mean 'kitti'\? Formats: kitti, bdd100k"):
        reader_for("kiti")
