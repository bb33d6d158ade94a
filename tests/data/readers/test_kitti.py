from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetl.data.cards import load_card
from drivetl.data.readers.common import Request
from drivetl.data.readers.kitti import read
from drivetl.errors import DatasetError

CAR = "Car 0.50 2 -1.57 10.00 20.50 60.25 90.00 1.5 1.6 3.9 1.0 1.5 20.0 -1.6"
DONT_CARE = "DontCare -1 -1 -10 100.0 10.0 120.0 30.0 -1 -1 -1 -1000 -1000 -1000 -10"


def _source(root: Path, picture: Any, labels: dict[str, str], prefix: str = "") -> Request:
    (root / prefix / "label_2").mkdir(parents=True)
    for name, text in labels.items():
        picture(root / prefix / "image_2" / f"{name}.png")
        (root / prefix / "label_2" / f"{name}.txt").write_text(text)
    return Request(root, load_card("kitti"))


@pytest.mark.parametrize("prefix", ["", "training"])
def test_a_line_by_hand(tmp_path: Path, picture: Any, prefix: str) -> None:
    request = _source(tmp_path, picture, {"000000": f"{CAR} 0.93\n{DONT_CARE}\n", "000001": ""}, prefix)
    reading = read(request)
    first, second = reading.samples
    assert reading.total == 2
    assert first.size_hw == (100, 200)
    assert (first.boxes[0].class_name, first.boxes[0].xyxy_px) == ("Car", (10.0, 20.5, 60.25, 90.0))
    assert first.boxes[0].attributes == {"truncated": 0.5, "occluded": 2}
    assert (first.boxes[1].class_name, first.boxes[1].attributes) == ("DontCare", {})
    assert second.boxes == ()
    assert (first.split, first.group) == ("", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Car 0 0 0 1 2 3 4\n", r"000000\.txt', line 1: 8 columns where KITTI has 15"),
        (f"{CAR}\n{CAR} 1 2\n", r"line 2: 17 columns"),
        (CAR.replace("60.25", "nan"), r"line 1: 'nan' is not a finite number"),
        (CAR.replace("60.25", "wide"), r"line 1: 'wide' is not a finite number"),
    ],
)
def test_anything_else_is_an_error_with_file_and_line(tmp_path: Path, picture: Any, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        list(read(_source(tmp_path, picture, {"000000": text})).samples)


def test_a_label_without_picture_is_an_error_and_a_picture_without_label_a_note(tmp_path: Path, picture: Any) -> None:
    request = _source(tmp_path, picture, {"000000": CAR})
    picture(tmp_path / "image_2" / "000009.png")
    assert read(request).notes[:-1] == ["1 pictures without a label file were left out."]
    (tmp_path / "label_2" / "000001.txt").write_text(CAR)
    with pytest.raises(DatasetError, match=r"000001\.txt' has no picture"):
        read(request)


def _mapping(folder: Path, order: str = "2,1\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["2011_09_26 2011_09_26_drive_0005_sync 0000000109", "2011_09_28 2011_09_28_drive_0001_sync 0000000000"]
    (folder / "train_mapping.txt").write_text("\n".join(lines))
    (folder / "train_rand.txt").write_text(order)


@pytest.mark.parametrize(
    ("prefix", "place"),
    [
        ("", "mapping"),
        ("", "devkit_object/mapping"),
        ("training", "training/mapping"),
        ("training", "mapping"),
        ("training", "devkit_object/mapping"),
    ],
)
def test_the_kits_mapping_gives_the_drives(
    tmp_path: Path, picture: Any, prefix: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _source(tmp_path, picture, {"000000": CAR, "000001": CAR}, prefix)
    _mapping(tmp_path / place)
    monkeypatch.chdir(tmp_path / prefix)
    for source in (tmp_path, tmp_path / prefix, Path()):
        reading = read(Request(source, request.card))
        assert [sample.group for sample in reading.samples] == [
            "2011_09_28_drive_0001_sync",
            "2011_09_26_drive_0005_sync",
        ]
        assert reading.notes == [
            f"Pictures of one drive form a group, by the development kit's mapping in '{tmp_path / place}'."
        ]
    _mapping(tmp_path / place, order="2,7\n")
    with pytest.raises(DatasetError, match="does not fit"):
        read(request)


def test_without_the_mapping_it_is_said_where_it_is_looked_for(tmp_path: Path, picture: Any) -> None:
    (note,) = read(_source(tmp_path, picture, {"000000": CAR}, "training")).notes
    assert note.startswith("Near-identical pictures alone form groups")
    for place in ("training/mapping", "training/devkit_object/mapping", "mapping", "devkit_object/mapping"):
        assert f"'{tmp_path / place}'" in note


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder 'label_2/' or 'training/label_2/'"):
        read(Request(tmp_path, load_card("kitti")))


def test_a_byte_order_mark_is_no_part_of_a_class(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "image_2" / "000000.png")
    (tmp_path / "label_2").mkdir()
    line = "Pedestrian 0.00 0 -0.20 10 10 50 60 1.89 0.48 1.20 1.84 1.47 8.41 0.01\n"
    (tmp_path / "label_2" / "000000.txt").write_bytes(b"\xef\xbb\xbf" + line.encode())
    (sample,) = read(Request(tmp_path, load_card("kitti"))).samples
    assert [box.class_name for box in sample.boxes] == ["Pedestrian"]
