from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetl.data.cards import load_card
from drivetl.data.readers.cityscapes import read
from drivetl.data.readers.common import Request
from drivetl.errors import DatasetError


def _request(root: Path, picture: Any, as_json: Any, objects: Any, split: str = "train", **changes: Any) -> Request:
    picture(root / "leftImg8bit" / split / "aachen" / "aachen_000003_000019_leftImg8bit.png")
    document = {"imgHeight": 100, "imgWidth": 200, "objects": objects, **changes}
    as_json(root / "gtFine" / split / "aachen" / "aachen_000003_000019_gtFine_polygons.json", document)
    return Request(root, load_card("cityscapes"))


def test_boxes_are_the_extent_of_polygons(tmp_path: Path, picture: Any, as_json: Any) -> None:
    objects = [
        {"label": "road", "polygon": [[0, 50], [200, 50], [200, 100]]},
        {"label": "car", "polygon": [[30, 40], [-12, 60], [25, 130]]},
        {"label": "cargroup", "polygon": [[100, 20], [150, 20], [150, 45], [90, 44]]},
        {"label": "person", "polygon": [[1, 1], [2, 2], [3, 1]], "deleted": 1},
        {"label": "license plate", "polygon": [[1, 1], [2, 2], [3, 1]]},
    ]
    (sample,) = read(_request(tmp_path, picture, as_json, objects)).samples
    # The reader gives what is there; the import clips it to the picture.
    assert [(box.class_name, box.xyxy_px) for box in sample.boxes] == [("car", (-12, 40, 30, 130))]
    assert [(region.class_name, region.xyxy_px) for region in sample.ignore] == [("car", (90, 20, 150, 45))]
    assert (sample.split, sample.group, sample.attributes) == ("train", "aachen_000003", {"city": "aachen"})


def test_the_placeholder_labels_of_test_are_left_out(tmp_path: Path, picture: Any, as_json: Any) -> None:
    request = _request(tmp_path, picture, as_json, [])
    _request(tmp_path, picture, as_json, [], split="test")
    reading = read(request)
    assert (reading.total, reading.notes) == (
        1,
        ["The test split was left out: its published labels are placeholders."],
    )


@pytest.mark.parametrize(
    ("objects", "changes", "message"),
    [
        ([{"label": "car", "polygon": [[1, 2], [3, 4]]}], {}, "object 0: the polygon needs at least three points"),
        ([{"label": "car", "polygon": [[1, 2], [3, 4], [5, "x"]]}], {}, "'x' is not a finite number"),
        ([{"polygon": []}], {}, "the field 'label' is missing"),
        ([], {"imgWidth": 2048}, "picture of 2048 x 100 pixels, but it has 200 x 100"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, picture: Any, as_json: Any, objects: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        list(read(_request(tmp_path, picture, as_json, objects, **changes)).samples)


def test_missing_files_are_named(tmp_path: Path, picture: Any, as_json: Any) -> None:
    with pytest.raises(DatasetError, match="no gtFine"):
        read(Request(tmp_path, load_card("cityscapes")))
    request = _request(tmp_path, picture, as_json, [])
    next(tmp_path.rglob("*.png")).unlink()
    with pytest.raises(DatasetError, match="has no picture"):
        list(read(request).samples)
