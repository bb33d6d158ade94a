from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from drivetl.data import HELD_OUT, check_dataset, import_dataset, merge_datasets, open_dataset
from drivetl.errors import ConfigError, DatasetError


@pytest.fixture
def two(yolo_source: Path, tmp_path: Path) -> tuple[Path, Path]:
    """``day`` knows person and car; ``fog`` knows car alone and has other pictures under the same names."""
    import_dataset("yolo", yolo_source, tmp_path / "day")
    other = tmp_path / "other"
    shutil.copytree(yolo_source, other)
    for path in other.rglob("*.jpg"):
        path.write_bytes(path.read_bytes() + b"\0")
    for path in (other / "labels").rglob("*.txt"):
        path.write_text("0 0.5 0.5 0.5 0.5\n")
    import_dataset("yolo", other, tmp_path / "fog")
    return tmp_path / "day", tmp_path / "fog"


def test_the_union_remembers_where_from(two: tuple[Path, Path], tmp_path: Path) -> None:
    result = merge_datasets(two, tmp_path / "both")
    dataset = result.dataset
    assert (dataset.names, dataset.splits) == (("person", "car"), {"train": 6, "val": 2})
    assert sorted(str(sample.attributes["dataset"]) for sample in dataset.samples("val")) == ["day", "fog"]
    assert {sample.group.split("/")[0] for sample in dataset.samples("train")} == {"day", "fog"}
    assert result.notes == ("The class 'person' is not labelled in 'fog': its objects there train as background.",)
    assert {path.name for path in dataset.pictures("val")} == {"d.jpg", "d-2.jpg"}
    assert check_dataset(tmp_path / "both").ok


def test_a_merge_adds_up_what_the_imports_dropped(two: tuple[Path, Path], tmp_path: Path) -> None:
    for path, dropped in zip(two, ({"tram": 7, "dog": 1}, {"tram": 2}), strict=True):
        marker = path / "dataset.json"
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "dropped": dropped}))
    merge_datasets(two, tmp_path / "both")
    assert json.loads((tmp_path / "both/dataset.json").read_text())["dropped"] == {"dog": 1, "tram": 9}
    document = json.loads((two[1] / "dataset.json").read_text())
    (two[1] / "dataset.json").write_text(json.dumps({**document, "dropped": {"tram": "many"}}))
    with pytest.raises(DatasetError, match=r"'dropped' is .* not counts by class; import again"):
        merge_datasets(two, tmp_path / "again")


def test_left_out_is_held_out(two: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = merge_datasets(two, tmp_path / "both", names=["clear", "fog"], leave_out=["fog"]).dataset
    assert dataset.splits == {"train": 3, "val": 1, HELD_OUT: 1}
    (held_out,) = dataset.samples(HELD_OUT)
    assert held_out.attributes["dataset"] == "fog"
    trained = [sample for split in ("train", "val") for sample in dataset.samples(split)]
    assert {sample.attributes["dataset"] for sample in trained} == {"clear"}


def test_a_merged_dataset_can_be_split_and_opened_again(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge_datasets(two, tmp_path / "both")
    again = open_dataset(tmp_path / "both")
    assert [sample.attributes["dataset"] for sample in again.samples("train")].count("day") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a"]}, "one name each"),
        ({"names": ["a", "a"]}, "all different"),
        ({"leave_out": ["snow"]}, "--leave-out names 'snow'; the datasets are 'day', 'fog'"),
        ({"leave_out": ["day", "fog"]}, "no dataset to train on"),
    ],
)
def test_what_does_not_fit(two: tuple[Path, Path], tmp_path: Path, options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merge_datasets(two, tmp_path / "both", **options)
    with pytest.raises(ConfigError, match="two or more"):
        merge_datasets(two[:1], tmp_path / "both")
