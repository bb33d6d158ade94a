"""Where a stranger's YAML says that its pictures lie."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drivetl.adapt.loading import told
from drivetl.data import check_dataset, import_dataset, open_dataset
from drivetl.errors import DatasetError


def test_a_picture_that_a_list_names_again_is_taken_once(yolo_source: Path, tmp_path: Path) -> None:
    (yolo_source / "data.yaml").write_text("train: images/train\nval: [val.txt, images/val]\nnames: [car, person]\n")
    (yolo_source / "val.txt").write_text("images/val/d.jpg\n")
    plain = open_dataset(yolo_source)
    expected = plain.fingerprint, plain.pictures("val")
    (yolo_source / "val.txt").write_text("./images/val/d.jpg\nimages/train/../val/d.jpg\n")
    dataset = open_dataset(yolo_source)
    assert dataset.splits == {"train": 3, "val": 1}
    assert (dataset.fingerprint, dataset.pictures("val")) == expected
    assert len(list(dataset.samples("val"))) == 1
    (note,) = dataset.notes
    assert note.startswith("2 of the 3 pictures that 'val' of '") and "the first is 'd.jpg'; each is taken once" in note
    report = check_dataset(yolo_source)
    assert report.ok and report.images == 4 and note in report.notes
    assert note in import_dataset("yolo", yolo_source, tmp_path / "out").notes


def test_training_takes_a_picture_of_overlapping_folders_once(yolo_source: Path, tmp_path: Path) -> None:
    (yolo_source / "data.yaml").write_text("train: [images, images/train]\nval: images/val\nnames: [car, person]\n")
    for kind in ("images", "labels"):
        (yolo_source / kind / "again").symlink_to(yolo_source / kind / "val")
    dataset = open_dataset(yolo_source)
    assert told(dataset, "train", tmp_path / "train.txt") == str(tmp_path / "train.txt")
    pictures = (tmp_path / "train.txt").read_text().splitlines()
    assert pictures == [str(path) for path in dataset.pictures("train")]
    assert [Path(path).name for path in pictures] == ["d.jpg", "a.jpg", "b.jpg", "c.jpg"]
    assert told(dataset, "val", tmp_path / "val.txt") == str(yolo_source / "images/val")
    assert not (tmp_path / "val.txt").exists()


def test_a_picture_with_another_label_is_another(yolo_source: Path) -> None:
    (yolo_source / "data.yaml").write_text("train: images\nnames: [car, person]\n")
    (yolo_source / "images" / "again").symlink_to(yolo_source / "images" / "val")
    assert [len(sample.boxes) for sample in open_dataset(yolo_source).samples("train")] == [0, 1, 1, 0, 1]


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_split_val(yolo_source: Path, name: str) -> None:
    (yolo_source / "data.yaml").write_text(f"train: images/train\n{name}: images/val\nnames: [car, person]\n")
    dataset = open_dataset(yolo_source)
    assert (dataset.splits, dataset.notes) == ({"train": 3, "val": 1}, ())
    assert dataset.training_document()["val"] == str(yolo_source / "images/val")
    with (yolo_source / "data.yaml").open("a") as handle:
        handle.write("val: images/train\n")
    (note,) = open_dataset(yolo_source).notes
    assert f"The key '{name}' of" in note and "list its value under 'val' if it belongs there" in note


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("trian", r"list its value under 'train' if it belongs there\.$"),
        ("tset", r"rename it to 'test' if it is that\.$"),
        ("extra", r"rename it if it is one of train, val, test, minival\.$"),
    ],
)
@pytest.mark.parametrize("value", ["images/val", "[images/gone, list.txt]"])
def test_an_unknown_key_that_names_pictures_is_told(yolo_source: Path, key: str, remedy: str, value: str) -> None:
    (yolo_source / "list.txt").write_text("images/val/d.jpg\n")
    (yolo_source / "data.yaml").write_text(f"train: images/train\n{key}: {value}\nnames: [car, person]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivetl.data.dataset.files_below", None)  # nothing but the YAML is read
        open_dataset(yolo_source)
    (note,) = check_dataset(yolo_source).notes[:1]
    assert note.startswith(f"The key '{key}' of '") and re.search(remedy, note)


def test_a_key_that_names_no_pictures_is_nobodys_concern(yolo_source: Path) -> None:
    (yolo_source / "notes").mkdir()
    texts = ["''", ".", "..", "/", "notes", "labels", "me", "data.yaml", "x" * 300, "3", "{a: images/val}", "null"]
    lines = "".join(f"key{number}: {text}\n" for number, text in enumerate(texts))
    (yolo_source / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: [car, person]\n{lines}")
    assert open_dataset(yolo_source).notes == ()


def test_an_unknown_key_alone_is_named_in_the_error(yolo_source: Path) -> None:
    (yolo_source / "data.yaml").write_text("vla: images/val\nnames: [car, person]\n")
    with pytest.raises(DatasetError, match=r"has no pictures; the key 'vla' of .* rename it to 'val' if it is that$"):
        assert open_dataset(yolo_source).splits


def test_a_split_that_is_not_there_may_stand_under_another_key(yolo_source: Path) -> None:
    (yolo_source / "data.yaml").write_text("train: images/train\nvla: images/val\nnames: [car, person]\n")
    with pytest.raises(DatasetError, match=r"no split 'val'; it has train; the key 'vla' of .* if it is that$"):
        open_dataset(yolo_source).samples("val")


def test_a_path_from_the_current_folder_is_named_whole(
    yolo_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cards").mkdir()
    yaml = tmp_path / "cards" / "mine.yaml"
    yaml.write_text("path: source\ntrain: images/train\nnames: [car, person]\n")
    with pytest.raises(DatasetError, match=r"'train' names '.*cards/source/images/train', .*; correct the path$"):
        assert open_dataset(yaml).splits
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=f"not from the current one, so write '{yolo_source}'$"):
        assert open_dataset(yaml).splits
