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
