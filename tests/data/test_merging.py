from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

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


def test_pictures_that_come_from_two_datasets_into_two_splits_are_told_of(yolo_source: Path, tmp_path: Path) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "day")
    import_dataset("yolo", yolo_source, tmp_path / "swapped", split_names={"train": "val", "val": "train"})
    notes = merge_datasets([tmp_path / "day", tmp_path / "swapped"], tmp_path / "both").notes
    assert [note.split(" too, ")[0] for note in notes] == ["4 of the 4 pictures of 'val' stand in 'train'"]


def _named(source: Path, out: Path, names: str) -> Path:
    """The source, whose ids 0 and 1 get other names; a dataset that drivetl wrote."""
    (source / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: [{names}]\n")
    import_dataset("yolo", source, out, classes="native")
    return out


def test_names_that_differ_in_case_or_spacing_are_one_class(yolo_source: Path, two: Any, tmp_path: Path) -> None:
    one = _named(yolo_source, tmp_path / "one", "Traffic_Light, car")
    other = _named(two[0].parent / "other", tmp_path / "two", "traffic light, Car")
    result = merge_datasets([one, other], tmp_path / "both")
    assert result.dataset.names == ("car", "traffic light")
    boxes = {(s.attributes["dataset"], box.class_name) for s in result.dataset.samples("train") for box in s.boxes}
    assert boxes == {("one", "traffic light"), ("one", "car"), ("two", "traffic light")}
    assert result.notes == (
        "The class 'Traffic_Light' of 'one' is 'traffic light' here: they differ in case or spacing alone.",
        "The class 'Car' of 'two' is 'car' here: they differ in case or spacing alone.",
    )
    assert check_dataset(tmp_path / "both").ok


def test_names_that_one_dataset_keeps_apart_stay_apart(yolo_source: Path, two: Any, tmp_path: Path) -> None:
    one = _named(yolo_source, tmp_path / "one", "Car, car")
    other = _named(two[0].parent / "other", tmp_path / "two", "CAR, person")
    assert merge_datasets([one, other], tmp_path / "both").dataset.names == ("Car", "car", "CAR", "person")


def test_a_synonym_is_not_said_to_be_unlabelled(yolo_source: Path, two: Any, tmp_path: Path) -> None:
    one = _named(yolo_source, tmp_path / "one", "car, person")
    other = _named(two[0].parent / "other", tmp_path / "two", "Car, Pedestrian")
    case, first, second = merge_datasets([one, other], tmp_path / "both").notes
    assert case.startswith("The class 'Car' of 'two' is 'car' here")
    assert first.startswith("The class 'Pedestrian' is 'person' in 'one': the two stay apart here")
    assert second.startswith("The class 'person' is 'Pedestrian' in 'two': the two stay apart here")


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


def test_what_is_left_out_is_accounted_for(two: tuple[Path, Path], tmp_path: Path) -> None:
    held = "Of {!r} the 1 pictures of 'val' are held out; its others (3 of 'train') are not in the new dataset."
    # Objects of a class that fog does not label train as background only where fog trains.
    assert merge_datasets(two, tmp_path / "one", leave_out=["fog"]).notes == (held.format("fog"),)
    background = "The class 'person' is not labelled in 'fog': its objects there train as background."
    assert merge_datasets(two, tmp_path / "two", leave_out=["day"]).notes == (background, held.format("day"))


def test_a_class_of_what_is_left_out_is_no_defect(yolo_source: Path, two: tuple[Path, Path], tmp_path: Path) -> None:
    (yolo_source / "labels/val/d.txt").write_text("0 0.5 0.5 1 1\n1 0.5 0.5 0.2 0.4\n")
    import_dataset("yolo", yolo_source, tmp_path / "walkers")
    merge_datasets([two[1], tmp_path / "walkers"], tmp_path / "both", leave_out=["walkers"])
    report = check_dataset(tmp_path / "both")
    assert "class_without_examples" not in {problem.kind for problem in report.problems}
    assert report.notes == ("The class 'person' has examples in held_out alone, so that it cannot be learned.",)


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
