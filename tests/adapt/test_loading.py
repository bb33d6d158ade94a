"""What Ultralytics is told to load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivetl.adapt.loading import told
from drivetl.data import open_dataset
from drivetl.errors import DatasetError


def test_a_list_holds_the_pictures_one_a_line(drawn: Path, tmp_path: Path) -> None:
    pictures = open_dataset(drawn).pictures("train")
    assert told(open_dataset(drawn), "train", tmp_path / "list.txt", pictures[:2]) == str(tmp_path / "list.txt")
    assert (tmp_path / "list.txt").read_text().splitlines() == [str(path) for path in pictures[:2]]


def test_a_name_that_is_not_utf8_is_refused_and_named(drawn: Path, tmp_path: Path) -> None:
    pictures = [*open_dataset(drawn).pictures("train"), Path(os.fsdecode(b"/data/stra\xdfe.jpg"))]
    with pytest.raises(DatasetError, match=r"the path '/data/stra\\udcdfe\.jpg' is not UTF-8.*; rename it"):
        told(open_dataset(drawn), "train", tmp_path / "list.txt", pictures)
    assert not (tmp_path / "list.txt").exists()
