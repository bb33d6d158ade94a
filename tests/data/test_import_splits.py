"""Splits at the import: kept or drawn, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetl.data import import_dataset, open_dataset, split_dataset

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]


def _two_drives(root: Path, picture: Any) -> Path:
    """Two recordings in folders of their own, both numbered from zero; drive b has but four frames."""
    for seed, (drive, count) in enumerate((("a", 16), ("b", 4))):
        for index in range(count):
            place = f"train/{drive}/{index:06d}"
            picture(root / "images" / f"{place}.jpg", seed=100 * seed + index)
            (root / "labels" / place).parent.mkdir(parents=True, exist_ok=True)
            (root / "labels" / f"{place}.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [car]\n")
    return root


@pytest.mark.parametrize("imported", [True, False])
def test_a_folder_of_frames_is_never_divided(tmp_path: Path, picture: Any, imported: bool) -> None:
    source = _two_drives(tmp_path / "source", picture)
    if imported:
        notes = import_dataset("yolo", source, tmp_path / "in").notes
        assert any("such as 'a' (2 in all)" in note and "one recording" in note for note in notes)
        source = tmp_path / "in"
    cut = split_dataset(source, tmp_path / "out")
    assert {sample.group: sample.split for split in cut.splits for sample in cut.samples(split)} == {
        "a": "train",
        "b": "val",
    }
    assert cut.splits == {"train": 16, "val": 4}


def test_folders_in_a_coco_file_are_not_divided(tmp_path: Path, picture: Any, as_json: Any) -> None:
    _two_drives(tmp_path, picture)
    files = [f"{'a' if i < 16 else 'b'}/{i if i < 16 else i - 16:06d}.jpg" for i in range(20)]
    document = {
        "categories": CATEGORIES,
        "images": [{"id": i, "file_name": name} for i, name in enumerate(files)],
        "annotations": [{"id": i, "image_id": i, "category_id": 3, "bbox": [1, 2, 30, 40]} for i in range(20)],
    }
    source = as_json(tmp_path / "images/train/labels.json", document)
    assert import_dataset("coco", source, tmp_path / "out").splits == {"train": 16, "val": 4}
    assert {sample.group for sample in open_dataset(tmp_path / "out").samples("val")} == {"b"}
    notes = import_dataset("coco", source, tmp_path / "none", val=0.1).notes
    assert any(
        note.startswith("Nothing could be drawn for 'val': each of the 2 groups is more than 10%") for note in notes
    )


@pytest.mark.parametrize(
    ("options", "told"), [({"val": 0.5}, "--val 0.5"), ({"val": 0.2, "test": 0.1}, "--val 0.2 and --test 0.1")]
)
def test_a_share_to_draw_beside_splits_of_its_own_draws_nothing_and_that_is_said(
    yolo_source: Path, tmp_path: Path, options: dict[str, float], told: str
) -> None:
    result = import_dataset("yolo", yolo_source, tmp_path / "out", **options)
    assert result.splits == {"train": 3, "val": 1}
    assert any(note.startswith(f"{told} drew nothing, because the source has splits") for note in result.notes)
    silent = import_dataset("yolo", yolo_source, tmp_path / "none", val=0)
    assert not any("drew nothing" in note for note in silent.notes)


def _cvat(root: Path, picture: Any, as_json: Any, *names: str) -> Path:
    """What CVAT exports: one file for each subset, whose pictures lie in ``images/<subset>``."""
    for number, name in enumerate(names):
        for index in range(10):
            picture(root / f"images/{name}/{name}{index}.jpg", seed=10 * number + index)
        document = {
            "categories": CATEGORIES,
            "images": [{"id": i, "file_name": f"{name}{i}.jpg"} for i in range(10)],
            "annotations": [{"id": i, "image_id": i, "category_id": 3, "bbox": [1, 2, 30, 40]} for i in range(10)],
        }
        as_json(root / f"annotations/instances_{name}.json", document)
    return root


def test_a_lone_coco_file_whose_name_is_no_split_has_none(tmp_path: Path, picture: Any, as_json: Any) -> None:
    source = _cvat(tmp_path / "cvat", picture, as_json, "default")
    assert import_dataset("coco", source, tmp_path / "one").splits == {"train": 8, "val": 2}
    file = source / "annotations/instances_default.json"
    assert import_dataset("coco", file, tmp_path / "two", val=0, test=0.3).splits == {"train": 7, "test": 3}
    named = import_dataset("coco", source, tmp_path / "three", split_names={"default": "test"})
    assert named.splits == {"test": 10}


@pytest.mark.parametrize("names", [("val2017",), ("minival",), ("day", "night")])
def test_names_of_splits_are_kept(tmp_path: Path, picture: Any, as_json: Any, names: tuple[str, ...]) -> None:
    source = _cvat(tmp_path / "coco", picture, as_json, *names)
    splits = import_dataset("coco", source, tmp_path / "out").splits
    assert splits == dict.fromkeys(("val",) if names == ("val2017",) else names, 10)


def test_pictures_that_the_source_has_in_two_splits_are_told_of(yolo_source: Path, tmp_path: Path) -> None:
    (yolo_source / "data.yaml").write_text(
        "train: images/train\nval: [images/val, images/train]\nnames: [car, person]\n"
    )
    notes = import_dataset("yolo", yolo_source, tmp_path / "out").notes
    first = yolo_source / "images/train/a.jpg"
    assert f"3 of the 4 pictures of 'val' stand in 'train' too, such as '{first}': what is learned" in " ".join(notes)
