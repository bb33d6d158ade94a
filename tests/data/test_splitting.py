from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from drivetl.data import (
    check_dataset,
    fold_dataset,
    import_dataset,
    merge_datasets,
    move_listed,
    open_dataset,
    split_dataset,
)
from drivetl.errors import ConfigError, DatasetError, OutputError


@pytest.fixture
def dataset(tmp_path: Path, picture: Any) -> Path:
    """Thirty pictures in train; every third is the copy of the one before. One test picture."""
    root = tmp_path / "source"
    for index in range(30):
        picture(root / f"images/train/{index:02d}.jpg", seed=index - (index % 3 == 2))
    picture(root / "images/test/t.jpg", seed=99)
    for path in (root / "images").rglob("*.jpg"):
        label = root / "labels" / path.parent.name / f"{path.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\ntest: images/test\nnames: [car]\n")
    import_dataset("yolo", root, tmp_path / "whole", link="copy")
    return tmp_path / "whole"


def test_groups_are_never_divided_and_nothing_is_lost(dataset: Path, tmp_path: Path) -> None:
    result = split_dataset(dataset, tmp_path / "out", fraction=0.2)
    assert result.splits == {"train": 24, "val": 6, "test": 1}
    assert check_dataset(tmp_path / "out").ok
    before = {s.image.name for split in ("train", "test") for s in open_dataset(dataset).samples(split)}
    assert {s.image.name for split in result.splits for s in result.samples(split)} == before


def test_the_same_seed_gives_the_same_split(dataset: Path, tmp_path: Path) -> None:
    prints = [split_dataset(dataset, tmp_path / f"out{n}", seed=seed).fingerprint for n, seed in enumerate((0, 0, 1))]
    assert prints[0] == prints[1] != prints[2]


def test_in_its_own_place_copied_pictures_survive(dataset: Path) -> None:
    with pytest.raises(OutputError, match="--overwrite"):
        split_dataset(dataset, dataset)
    split_dataset(dataset, dataset, into="select", overwrite=True)
    assert open_dataset(dataset).splits == {"train": 24, "test": 1, "select": 6}
    assert check_dataset(dataset).ok
    assert not any(path.is_symlink() for path in dataset.rglob("*"))


def test_a_strangers_splits_may_share_names(tmp_path: Path, picture: Any) -> None:
    root = tmp_path / "source"
    for seed, name in enumerate(("train/0", "train/1", "train/2", "train/3", "train/4", "test/0")):
        label = picture(root / f"images/{name}.jpg", seed=seed).parents[2] / f"labels/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\ntest: images/test\nnames: [car]\n")
    split_dataset(root, tmp_path / "out", fraction=0.2)
    assert check_dataset(tmp_path / "out").ok


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fraction": 0.0}, ConfigError, "between 0 and 1"),
        ({"from_": "dev"}, DatasetError, "no split 'dev'; it has train, test"),
        ({"into": "test"}, DatasetError, "already has a split 'test'"),
        ({"from_": "test"}, DatasetError, "choose a larger --fraction"),
    ],
)
def test_what_cannot_be_cut(dataset: Path, tmp_path: Path, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        split_dataset(dataset, tmp_path / "out", **options)


@pytest.mark.material
def test_dawn_as_the_recipe_uses_it(material: Path, tmp_path: Path) -> None:
    source = material / "data/dawn-fog"
    import_dataset("voc", source, tmp_path / "whole", split_names={"val": "test"})
    result = split_dataset(tmp_path / "whole", tmp_path / "out", fraction=0.2)
    assert result.splits == {"train": 89, "val": 22, "test": 60}
    assert check_dataset(tmp_path / "out").ok
    train = {box.class_name for sample in result.samples("train") for box in sample.boxes}
    assert train == set(result.names) == {"person", "bicycle", "car", "motorcycle", "bus", "truck"}
    held_out = (source / "val.txt").read_text().split()
    assert sorted(sample.image.name for sample in result.samples("test")) == sorted(held_out)


@pytest.mark.parametrize("how", ["split", "in place", "listed", "merge", "folds"])
def test_depth_goes_where_its_picture_goes(how: str, dataset: Path, tmp_path: Path) -> None:
    for sample in open_dataset(dataset).samples("train"):  # and none for the test picture
        depth = dataset / "depth" / "train" / f"{sample.image.stem}.png"
        depth.parent.mkdir(parents=True, exist_ok=True)
        depth.write_text(sample.image.stem)
    (tmp_path / "list").write_text("03.jpg\n")
    out, twin = tmp_path / "out", tmp_path / "twin"
    made = {
        "split": lambda: [split_dataset(dataset, out)],
        "in place": lambda: [split_dataset(dataset, dataset, overwrite=True)],
        "listed": lambda: [move_listed(dataset, out, tmp_path / "list")],
        "merge": lambda: [merge_datasets([dataset, shutil.copytree(dataset, twin)], out).dataset],
        "folds": lambda: fold_dataset(dataset, out, folds=2),
    }[how]()
    for result in made:
        stems = {split: {s.image.stem for s in result.samples(split)} for split in result.splits}
        expected = {f"{split}/{stem}" for split, found in stems.items() for stem in found if not stem.startswith("t")}
        found = {path.relative_to(result.root / "depth").with_suffix("") for path in result.root.glob("depth/*/*")}
        assert {path.as_posix() for path in found} == expected
        for path in result.root.glob("depth/*/*"):
            assert path.read_text() == path.stem.removesuffix("-2")


def test_a_list_that_divides_a_group_is_obeyed_and_told_of(dataset: Path, tmp_path: Path) -> None:
    cut = split_dataset(dataset, tmp_path / "cut")  # its groups are of near-identical pictures
    names = tmp_path / "list"
    last = next(s for s in cut.samples("train") if s.group != s.image.stem)
    names.write_text(f"{last.image.name}\n")
    made = move_listed(cut.root, tmp_path / "out", names, into="held")
    assert made.splits == {"train": 23, "val": 6, "test": 1, "held": 1}
    (note,) = made.notes
    assert note.startswith(f"The list divides 1 groups of pictures that belong together, such as '{last.group}'")
    assert {p.kind for p in check_dataset(made.root).problems} == {"group_divided", "near_identical"}
    names.write_text(f"{last.group}.jpg\n", encoding="utf-8-sig")  # the rest of it follows, from an editor on Windows
    assert move_listed(made.root, tmp_path / "healed", names, into="held").notes == ()
    assert check_dataset(tmp_path / "healed").ok


def test_a_merge_does_not_replace_what_it_merges(dataset: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(dataset, tmp_path / "twin")
    with pytest.raises(OutputError, match=r"twin' is the dataset itself, lies in it or holds it"):
        merge_datasets([dataset, twin], twin, overwrite=True)
    assert check_dataset(twin).ok


def test_a_split_does_not_replace_a_folder_that_holds_its_source(dataset: Path) -> None:
    inner = dataset / "inner"
    shutil.copytree(dataset, inner, symlinks=True, ignore=shutil.ignore_patterns("inner"))
    names = dataset / "names.txt"
    names.write_text("00.jpg\n")
    for write in (
        lambda: split_dataset(inner, dataset, overwrite=True),
        lambda: move_listed(inner, dataset, names, overwrite=True),
    ):
        with pytest.raises(OutputError, match="lies in it or holds it"):
            write()
    assert len(list(open_dataset(inner).samples("train"))) == 30
