from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.data import check_dataset, fold_dataset, import_dataset, move_listed, stratified_folds
from drivetl.errors import ConfigError, DatasetError, OutputError


def test_groups_stay_whole_and_a_rare_class_reaches_every_fold() -> None:
    rng = np.random.default_rng(3)
    groups = [f"g{index // 2}" for index in range(120)]
    counts = [Counter(car=int(rng.integers(1, 9)), bus=int(rng.random() < 0.2)) for _ in groups]
    for index in (0, 40, 80):
        counts[index]["bicycle"] = 1
    fold_of = stratified_folds(groups, counts, 3, np.random.default_rng(0))
    assert all(fold_of[i] == fold_of[i + 1] for i in range(0, 120, 2))
    assert {fold_of[i] for i in (0, 40, 80)} == {0, 1, 2}
    pictures = Counter(fold_of)
    assert max(pictures.values()) - min(pictures.values()) <= 4
    cars: Counter[int] = Counter()
    for fold, count in zip(fold_of, counts, strict=True):
        cars[fold] += count["car"]
    assert max(cars.values()) < 1.15 * min(cars.values())
    assert fold_of == stratified_folds(groups, counts, 3, np.random.default_rng(0))


@pytest.fixture
def dataset(tmp_path: Path, picture: Any) -> Path:
    root = tmp_path / "source"
    for index in range(12):
        picture(root / f"images/train/{index:02d}.jpg", seed=index)
        label = root / f"labels/train/{index:02d}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"{int(index in (1, 7))} 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [car, bus]\n")
    import_dataset("yolo", root, tmp_path / "whole", link="copy")
    return tmp_path / "whole"


def test_every_picture_is_tested_once(dataset: Path, tmp_path: Path) -> None:
    folds = fold_dataset(dataset, tmp_path / "folds", folds=2)
    tested = [sample.image.name for fold in folds for sample in fold.samples("test")]
    assert sorted(tested) == [f"{index:02d}.jpg" for index in range(12)]
    for fold in folds:
        assert check_dataset(fold.root).ok
        assert {box.class_name for s in fold.samples("train") for box in s.boxes} == {"car", "bus"}


def test_a_fold_counts_the_ignore_regions_that_it_has(dataset: Path, tmp_path: Path) -> None:
    document = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps({**document, "ignored": 5}))  # of splits that are left out
    for fold in fold_dataset(dataset, tmp_path / "folds", folds=2):
        assert json.loads((fold.root / "dataset.json").read_text())["ignored"] == 0


def test_what_cannot_be_folded_is_said(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="13 folds cannot be made of 12 groups"):
        fold_dataset(dataset, tmp_path / "folds", folds=13)
    (dataset / "only").write_text("01.jpg\n")
    move_listed(dataset, tmp_path / "cut", dataset / "only", into="val")
    with pytest.raises(DatasetError, match=r"class 'bus'.*one group"):
        fold_dataset(tmp_path / "cut", tmp_path / "folds", folds=2)
    assert not (tmp_path / "folds").exists()


def test_a_list_moves_exactly_its_pictures(dataset: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("# kept apart\n03.jpg\n05.jpg\n")
    moved = move_listed(dataset, tmp_path / "out", names, into="held")
    assert {s.image.name for s in moved.samples("held")} == {"03.jpg", "05.jpg"}
    assert moved.splits == {"train": 10, "held": 2}
    names.write_text("03.jpg\nnowhere.jpg\n")
    with pytest.raises(DatasetError, match=r"'nowhere\.jpg', which is not in the split 'train'"):
        move_listed(dataset, tmp_path / "other", names)
    with pytest.raises(DatasetError, match="cannot be read"):
        move_listed(dataset, tmp_path / "other", tmp_path / "absent.txt")


def test_a_fold_does_not_replace_the_dataset(dataset: Path, tmp_path: Path) -> None:
    own = dataset.rename(tmp_path / "fold1")
    with pytest.raises(OutputError, match=r"fold1' is the dataset itself, lies in it or holds it"):
        fold_dataset(own, tmp_path, folds=2, overwrite=True)
    assert not (tmp_path / "fold0").exists() and check_dataset(own).ok


def test_fewer_folds_leave_none_of_the_other_partition(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "folds"
    fold_dataset(dataset, out, folds=4)
    (out / "fold4").mkdir()  # of the user: it has no marker
    (out / "fold4" / "notes.txt").write_text("")
    (out / "fold3").rename(tmp_path / "kept")
    (out / "fold5").symlink_to(tmp_path / "kept")
    (out / "fold2").rename(out / "fold12")
    fold_dataset(dataset, out, folds=2, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["fold0", "fold1", "fold4"]
    assert check_dataset(tmp_path / "kept").ok


def test_further_folds_are_not_removed_unasked(dataset: Path, tmp_path: Path) -> None:
    fold_dataset(dataset, tmp_path / "folds", folds=2)
    (tmp_path / "folds/fold0").rename(tmp_path / "folds/fold2")
    (tmp_path / "folds/fold1").rename(tmp_path / "folds/fold3")
    with pytest.raises(OutputError, match="fold2' exists; pass --overwrite"):
        fold_dataset(dataset, tmp_path / "folds", folds=2)
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == ["fold2", "fold3"]


def test_a_dataset_named_like_a_further_fold_is_not_removed(dataset: Path, tmp_path: Path) -> None:
    own = dataset.rename(tmp_path / "fold7")
    with pytest.raises(OutputError, match=r"fold7' is the dataset itself, lies in it or holds it"):
        fold_dataset(own, tmp_path, folds=2, overwrite=True)
    assert not (tmp_path / "fold0").exists() and check_dataset(own).ok
