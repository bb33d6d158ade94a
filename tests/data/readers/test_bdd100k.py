from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetl.data.cards import load_card
from drivetl.data.readers.bdd100k import read
from drivetl.data.readers.common import Request
from drivetl.errors import DatasetError

BOX = {"x1": 10.5, "y1": 20.25, "x2": 60.0, "y2": 90.75}
ATTRIBUTES = {"weather": "rainy", "scene": "city street", "timeofday": "night"}


def _label(category: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "category": category,
        "attributes": {"occluded": True, "truncated": False},
        "box2d": BOX,
        **changes,
    }


LANE = {"id": "9", "category": "lane/single white", "attributes": {"direction": "parallel"}, "poly2d": [[1, 2], [3, 4]]}
AREA = {
    "id": "8",
    "category": "drivable area",
    "poly2d": [{"vertices": [[0, 0]], "types": "L", "closed": True}],
    "box2d": None,
}


def test_det_20(tmp_path: Path, picture: Any, as_json: Any) -> None:
    labels = [
        _label("pedestrian"),
        _label("traffic light", attributes={"trafficLightColor": "G", "occluded": False, "truncated": False}),
        _label("car", attributes={"crowd": True, "occluded": False, "truncated": False, "trafficLightColor": "NA"}),
        _label("other vehicle"),
    ]
    frames = [
        {"name": "a.jpg", "attributes": ATTRIBUTES, "timestamp": 10000, "labels": labels},
        {"name": "b.jpg", "attributes": ATTRIBUTES, "labels": None},
        {"name": "c.jpg"},
    ]
    for name in "abc":
        picture(tmp_path / "images" / "100k" / "train" / f"{name}.jpg")
    as_json(tmp_path / "labels" / "det_20" / "det_train.json", frames)
    first, *others = read(Request(tmp_path, load_card("bdd100k"))).samples
    assert [box.class_name for box in first.boxes] == ["pedestrian", "traffic light", "other vehicle"]
    assert first.boxes[0].xyxy_px == (10.5, 20.25, 60.0, 90.75)
    assert first.boxes[0].attributes == {"occluded": True, "truncated": False}
    assert first.boxes[1].attributes["traffic_light_colour"] == "G"
    assert [(region.class_name, region.xyxy_px) for region in first.ignore] == [("car", (10.5, 20.25, 60.0, 90.75))]
    assert (first.attributes, first.split) == (ATTRIBUTES, "train")
    assert [sample.boxes for sample in others] == [(), ()]


def test_2018_in_one_file(tmp_path: Path, picture: Any, as_json: Any) -> None:
    labels = [_label("person"), _label("bike"), _label("motor"), _label("rider"), LANE, AREA]
    frames = [{"name": "a.jpg", "attributes": ATTRIBUTES, "labels": labels}]
    picture(tmp_path / "images" / "100k" / "val" / "a.jpg")
    as_json(tmp_path / "labels" / "bdd100k_labels_images_val.json", frames)
    (sample,) = read(Request(tmp_path, load_card("bdd100k"))).samples
    assert [box.class_name for box in sample.boxes] == ["pedestrian", "bicycle", "motorcycle", "rider"]
    assert sample.split == "val"


def test_2018_one_file_a_picture(tmp_path: Path, picture: Any, as_json: Any) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "images" / "100k" / "train" / f"{name}.jpg")
        frame = {"timestamp": 10000, "objects": [_label("motor"), LANE, AREA]}
        document = {"name": name, "attributes": ATTRIBUTES, "frames": [frame]}
        as_json(tmp_path / "labels" / "100k" / "train" / f"{name}.json", document)
    samples = list(read(Request(tmp_path, load_card("bdd100k"))).samples)
    assert [(s.image.name, s.split, [b.class_name for b in s.boxes]) for s in samples] == [
        ("a.jpg", "train", ["motorcycle"]),
        ("b.jpg", "train", ["motorcycle"]),
    ]


def test_the_label_file_alone_finds_its_pictures(tmp_path: Path, picture: Any, as_json: Any) -> None:
    picture(tmp_path / "images" / "100k" / "val" / "a.jpg")
    path = as_json(tmp_path / "labels" / "det_20" / "det_val.json", {"frames": [{"name": "a.jpg", "videoName": "v1"}]})
    (sample,) = read(Request(path, load_card("bdd100k"))).samples
    assert (sample.split, sample.group) == ("val", "v1")


@pytest.mark.parametrize("labels", ["det_20/det_train.json", "bdd100k_labels_images_train.json", "100k/train/b.json"])
def test_labels_mean_the_100k_and_their_own_split(tmp_path: Path, picture: Any, as_json: Any, labels: str) -> None:
    for place in ("100k/train/b.jpg", "100k/val/b.jpg", "10k/train/b.jpg", "10k/val/b.jpg"):
        picture(tmp_path / "images" / place)
    as_json(tmp_path / "labels" / labels, {"frames": [{"name": "b.jpg"}]})
    (sample,) = read(Request(tmp_path, load_card("bdd100k"))).samples
    assert (sample.image, sample.split) == (tmp_path / "images/100k/train/b.jpg", "train")


def test_labels_that_tell_no_split_mean_the_100k(tmp_path: Path, picture: Any, as_json: Any) -> None:
    for place in ("10k/train/b.jpg", "100k/val/b.jpg"):
        picture(tmp_path / "images" / place)
    as_json(tmp_path / "labels" / "all.json", [{"name": "b.jpg"}])
    (sample,) = read(Request(tmp_path, load_card("bdd100k"))).samples
    assert (sample.image, sample.split) == (tmp_path / "images/100k/val/b.jpg", "val")


def test_a_name_that_stays_ambiguous_matters_where_a_label_asks_for_it(
    tmp_path: Path, picture: Any, as_json: Any
) -> None:
    for place in ("100k/train/a.jpg", "100k/train/b.jpg", "100k/val/b.jpg"):
        picture(tmp_path / "images" / place)
    labels = tmp_path / "labels" / "all.json"
    as_json(labels, [{"name": "a.jpg"}])
    (sample,) = read(Request(tmp_path, load_card("bdd100k"))).samples
    assert sample.image == tmp_path / "images/100k/train/a.jpg"
    as_json(labels, [{"name": "a.jpg"}, {"name": "b.jpg"}])
    message = r"all\.json', frame 1: '.*100k/train/b\.jpg' and '.*100k/val/b\.jpg' have the same name"
    with pytest.raises(DatasetError, match=message):
        list(read(Request(tmp_path, load_card("bdd100k"))).samples)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([{"name": "gone.jpg"}], "the picture 'gone.jpg' is not below"),
        ([{"labels": []}], r"det_train\.json', frame 0: the field 'name' is missing"),
        ([{"name": "a.jpg", "labels": [{"id": 3, "box2d": BOX}]}], "label '3': the field 'category' is missing"),
        ([{"name": "a.jpg", "labels": [_label("car", box2d={"x1": 1})]}], "the field 'y1' is missing"),
        ([{"name": "a.jpg", "labels": [_label("car", box2d={**BOX, "x2": "wide"})]}], "'wide' is not a finite number"),
        ([{"name": "a.jpg", "labels": [_label("car", attributes=[1])]}], "'attributes' is .* not a record"),
        ([{"name": "a.jpg", "labels": "none"}], "a list of records is expected"),
        ([{"name": "a.jpg"}, {"name": "a.jpg"}], "'a.jpg' is labelled in"),
        ("text", "a list of records is expected"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, picture: Any, as_json: Any, frames: Any, message: str) -> None:
    picture(tmp_path / "images" / "a.jpg")
    as_json(tmp_path / "labels" / "det_train.json", frames)
    with pytest.raises(DatasetError, match=message):
        list(read(Request(tmp_path, load_card("bdd100k"))).samples)
