"""Groups by the names of pictures and of their folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetl.data.recordings import named_groups, original_of


def _groups(*names: str, splits: tuple[str, ...] | None = None) -> list[str]:
    return named_groups([Path("/data", name) for name in names], splits or ("train",) * len(names)).groups


def _frames(folder: str, numbers: range, ending: str = "jpg") -> list[str]:
    return [f"{folder}/{number:06d}.{ending}" for number in numbers]


@pytest.mark.parametrize("step", [1, 10])
def test_a_folder_of_numbered_frames_is_a_group(step: int) -> None:
    groups = _groups(*_frames("a", range(0, 50 * step, step)), *_frames("b", range(0, 30 * step, step)))
    assert groups == ["a"] * 50 + ["b"] * 30


def test_frames_may_be_missing_and_may_bear_a_time() -> None:
    missing = [name for index, name in enumerate(_frames("a", range(100))) if index % 3]
    times = [f"b/{1403636579763555584 + 50_000_000 * index + (index % 7) * 999_999}.png" for index in range(40)]
    assert set(_groups(*missing, *times)) == {"a", "b"}


@pytest.mark.parametrize(
    "names",
    [
        _frames("images", range(300)),  # all in the folder of the split
        ["aachen/aachen_000000_000019_leftImg8bit.png", "bonn/bonn_000000_000019_leftImg8bit.png"],
        [f"{folder}/{folder}{i * i * 7919 % 100003}.jpg" for folder in ("cat", "dog") for i in range(1, 60)],
        [f"{city}/{i * 2654435761 % 2**32:08x}-{i * 40503 % 2**16:x}.jpg" for city in "ab" for i in range(1, 60)],
    ],
    ids=["flat", "cities", "classes", "hashes"],
)
def test_what_is_no_recording_is_no_group(names: list[str]) -> None:
    assert len(set(_groups(*names))) == len(names)


def test_a_name_that_stands_in_two_places_is_two_groups() -> None:
    assert _groups("a/left.jpg", "a/car.jpg", "b/left.jpg") == ["a/left", "car", "b/left"]
    assert _groups("train/1.jpg", "val/1.jpg", "val/2.jpg", splits=("train", "val", "val")) == ["train/1", "val/1", "2"]


def test_a_recording_in_two_splits_is_one_group() -> None:
    names = [*_frames("a", range(20)), *_frames("b", range(20))]
    assert set(_groups(*names, splits=("train",) * 30 + ("val",) * 10)) == {"a", "b"}


def test_copies_of_roboflow_bear_the_name_of_their_original() -> None:
    assert original_of("night_jpg.rf.0a1b2c") == original_of("night_jpg.rf.9f8e7d_jpg.rf.77") == "night_jpg"
    assert original_of("night.rf") == "night.rf"
    names = ("train/x_jpg.rf.01.jpg", "train/x_jpg.rf.02.jpg", "val/x_jpg.rf.03.jpg", "val/y_jpg.rf.04.jpg")
    named = named_groups([Path(name) for name in names], ("train", "train", "val", "val"))
    assert named.groups == ["x_jpg", "x_jpg", "x_jpg", "y_jpg"]
    (note,) = named.notes
    assert note == ("4 pictures are by their names copies that Roboflow made of 2; those of one original form a group.")


def test_what_was_taken_for_a_recording_is_told() -> None:
    names = [*_frames("a", range(9)), "city/one.jpg", "city/two.jpg"]
    recording, other = named_groups([Path(name) for name in names], ("",) * len(names)).notes
    assert "such as 'a' (1 in all) are numbered one after another: it is taken for one recording" in recording
    assert "such as 'city' (1 in all) are not numbered" in other
    assert named_groups([], ()).notes == []
