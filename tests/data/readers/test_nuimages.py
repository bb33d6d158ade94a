from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetl.data import import_dataset
from drivetl.data.cards import load_card
from drivetl.data.readers.common import Request
from drivetl.data.readers.nuimages import read
from drivetl.errors import DatasetError

KEY = "samples/CAM_FRONT/n015-2018-07-18-11-07-57+0800__CAM_FRONT__1531883530449377.jpg"
SWEEP = "sweeps/CAM_FRONT/n015-2018-07-18-11-07-57+0800__CAM_FRONT__1531883530949377.jpg"


def _tables() -> dict[str, list[dict[str, Any]]]:
    return {
        "log": [
            {
                "token": "L",
                "logfile": "n015-2018-07-18-11-07-57+0800",
                "location": "singapore-onenorth",
                "vehicle": "n015",
            }
        ],
        "sample": [{"token": "S", "log_token": "L", "timestamp": 1, "key_camera_token": "D"}],
        "sensor": [{"token": "N", "channel": "CAM_FRONT", "modality": "camera"}],
        "calibrated_sensor": [{"token": "C", "sensor_token": "N"}],
        "sample_data": [
            {"token": "D", "sample_token": "S", "calibrated_sensor_token": "C", "filename": KEY, "is_key_frame": True},
            {
                "token": "E",
                "sample_token": "S",
                "calibrated_sensor_token": "C",
                "filename": SWEEP,
                "is_key_frame": False,
            },
        ],
        "category": [{"token": "c1", "name": "vehicle.car"}, {"token": "c2", "name": "human.pedestrian.adult"}],
        "attribute": [{"token": "a1", "name": "vehicle.moving"}, {"token": "a2", "name": "pedestrian.standing"}],
        "object_ann": [
            {
                "token": "o1",
                "sample_data_token": "D",
                "category_token": "c1",
                "bbox": [1, 2, 30, 40],
                "attribute_tokens": ["a1"],
            },
            {
                "token": "o2",
                "sample_data_token": "D",
                "category_token": "c2",
                "bbox": [5, 5, 9, 50],
                "attribute_tokens": [],
            },
        ],
    }


def _request(root: Path, picture: Any, as_json: Any, tables: dict[str, Any], version: str = "v1.0-train") -> Request:
    picture(root / KEY)
    for name, rows in tables.items():
        as_json(root / version / f"{name}.json", rows)
    return Request(root, load_card("nuimages"))


def test_tokens_are_joined(tmp_path: Path, picture: Any, as_json: Any) -> None:
    request = _request(tmp_path, picture, as_json, _tables())
    (tmp_path / "v1.0-test").mkdir()
    reading = read(request)
    (sample,) = reading.samples  # the sweep has no labels and is no key frame
    assert reading.total == 1
    assert [(box.class_name, box.xyxy_px) for box in sample.boxes] == [
        ("vehicle.car", (1, 2, 30, 40)),
        ("human.pedestrian.adult", (5, 5, 9, 50)),
    ]
    assert sample.boxes[0].attributes == {"vehicle": "moving"}
    assert sample.attributes == {"location": "singapore-onenorth", "camera": "CAM_FRONT", "hour": 11}
    assert (sample.split, sample.group) == ("train", "n015-2018-07-18-11-07-57+0800")
    assert reading.notes == ["v1.0-test was left out: its labels are not published."]


def test_mini_has_no_split(tmp_path: Path, picture: Any, as_json: Any) -> None:
    (sample,) = read(_request(tmp_path, picture, as_json, _tables(), "v1.0-mini")).samples
    assert sample.split == ""


def test_mini_beside_the_others_is_left_out(tmp_path: Path, picture: Any, as_json: Any) -> None:
    for version in ("v1.0-mini", "v1.0-train", "v1.0-test"):
        request = _request(tmp_path, picture, as_json, _tables(), version)
    reading = read(request)
    assert [sample.split for sample in reading.samples] == ["train"]
    assert reading.total == 1
    mini, test = reading.notes
    assert mini.startswith("v1.0-mini was left out") and test.startswith("v1.0-test was left out")
    result = import_dataset("nuimages", tmp_path, tmp_path / "out")
    assert (result.images, result.splits) == (1, {"train": 1})


def test_a_version_folder_is_a_source(
    tmp_path: Path, picture: Any, as_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("v1.0-mini", "v1.0-val"):
        _request(tmp_path, picture, as_json, _tables(), version)
    for version, split in (("v1.0-mini", ""), ("v1.0-val", "val")):
        monkeypatch.chdir(tmp_path / version)
        for source in (tmp_path / version, Path()):
            reading = read(Request(source, load_card("nuimages")))
            assert [(s.image, s.split) for s in reading.samples] == [(tmp_path / KEY, split)]
            assert reading.notes == []


def test_what_is_no_labelled_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v1.0-test").mkdir()
    for source in (tmp_path, tmp_path / "v1.0-test", tmp_path / "v1.0-gone"):
        with pytest.raises(DatasetError, match="neither has nor is a labelled folder"):
            read(Request(source, load_card("nuimages")))


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        (
            "object_ann",
            {"category_token": "gone"},
            r"object_ann\.json', token 'o1': category_token 'gone' is not in category",
        ),
        ("object_ann", {"attribute_tokens": 7}, r"token 'o1': attribute_tokens is '7', not a list of tokens"),
        ("object_ann", {"attribute_tokens": [["a1"]]}, "not a list of tokens"),
        ("object_ann", {"bbox": [1, 2, 3]}, "not a box of four numbers"),
        ("sample", {"log_token": "gone"}, "log_token 'gone' is not in log"),
        ("sample_data", {"filename": "../../etc/passwd"}, "lies outside the dataset"),
        ("sample_data", {"filename": "x" * 5000}, "cannot look for the picture .*: File name too long"),
        ("sample_data", {"filename": "samples/gone.jpg"}, "is not below"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, picture: Any, as_json: Any, table: str, row: dict[str, Any], message: str
) -> None:
    tables = _tables()
    tables[table][0].update(row)
    with pytest.raises(DatasetError, match=message):
        list(read(_request(tmp_path, picture, as_json, tables)).samples)


def test_a_picture_outside_the_dataset_is_not_read(tmp_path: Path, picture: Any, as_json: Any) -> None:
    tables = _tables()
    tables["sample_data"][0]["filename"] = str(picture(tmp_path / "elsewhere/private.jpg"))
    with pytest.raises(DatasetError, match="lies outside the dataset; give its path from the dataset's top folder"):
        list(read(_request(tmp_path / "source", picture, as_json, tables)).samples)


def test_an_attribute_without_a_name_is_named(tmp_path: Path, picture: Any, as_json: Any) -> None:
    tables = _tables()
    del tables["attribute"][0]["name"]
    with pytest.raises(DatasetError, match=r"attribute\.json', token 'a1': the field 'name' is missing"):
        list(read(_request(tmp_path, picture, as_json, tables)).samples)


def test_an_hour_that_is_no_number_is_left_out(tmp_path: Path, picture: Any, as_json: Any) -> None:
    tables = _tables()
    tables["log"][0]["logfile"] = "n015-2018-07-18-²-07-57+0800"
    (sample,) = read(_request(tmp_path, picture, as_json, tables)).samples
    assert "hour" not in sample.attributes


def test_a_missing_table_is_named(tmp_path: Path, picture: Any, as_json: Any) -> None:
    tables = _tables()
    del tables["category"]
    with pytest.raises(DatasetError, match=r"cannot read '.*category\.json'"):
        read(_request(tmp_path, picture, as_json, tables))
    with pytest.raises(DatasetError, match="neither has nor is a labelled folder"):
        read(Request(tmp_path / "samples", load_card("nuimages")))
