"""Where a stranger's YAML says that its pictures lie."""

from __future__ import annotations

from pathlib import Path

from drivetl.adapt.loading import told
from drivetl.data import check_dataset, import_dataset, open_dataset


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
