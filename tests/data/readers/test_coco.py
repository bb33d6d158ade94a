from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetl.data.cards import load_card
from drivetl.data.readers.coco import read
from drivetl.data.readers.common import Request
from drivetl.errors import DatasetError

# As in COCO, the ids have gaps (12 and 26 do not exist) and do not come in order.
CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]


def _document(**changes: Any) -> dict[str, Any]:
    return {
        "categories": CATEGORIES,
        "images": [
            {"id": 139, "file_name": "000139.jpg", "width": 200, "height": 100},
            {"id": 7, "file_name": "000007.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 139, "category_id": 13, "bbox": [10.5, 20, 30, 40.25], "iscrowd": 0},
            {"id": 2, "image_id": 139, "category_id": 1, "bbox": [0, 0, 200, 50], "iscrowd": 1},
        ],
        **changes,
    }


def _request(root: Path, picture: Any, as_json: Any, document: Any, folder: str = "val2017") -> Request:
    for name in ("000139.jpg", "000007.jpg"):
        picture(root / folder / name)
    as_json(root / "annotations" / "instances_val2017.json", document)
    return Request(root, load_card("coco"))


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images"])
def test_boxes_crowds_and_ids_by_hand(tmp_path: Path, picture: Any, as_json: Any, folder: str) -> None:
    reading = read(_request(tmp_path, picture, as_json, _document(), folder))
    first, second = reading.samples
    assert reading.class_names == ("person", "stop sign", "toothbrush")
    assert [(box.class_name, box.xyxy_px) for box in first.boxes] == [("stop sign", (10.5, 20, 40.5, 60.25))]
    assert [(region.class_name, region.xyxy_px) for region in first.ignore] == [("person", (0, 0, 200, 50))]
    assert (first.split, second.boxes, second.size_hw) == ("val2017", (), (100, 200))


def test_one_json_file_is_enough(tmp_path: Path, picture: Any, as_json: Any) -> None:
    picture(tmp_path / "images" / "a.jpg")
    document = _document(images=[{"id": 139, "file_name": "a.jpg"}])
    (sample,) = read(Request(as_json(tmp_path / "labels.json", document), load_card("coco"))).samples
    assert sample.split == ""


@pytest.mark.parametrize("folder", ["val2017", "images", "annotations", "annotations/val2017"])
def test_a_file_in_annotations_has_its_pictures_beside_that_folder(
    tmp_path: Path, picture: Any, as_json: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _request(tmp_path, picture, as_json, _document(), folder)
    monkeypatch.chdir(tmp_path / "annotations")  # so that the path alone does not say where the file lies
    samples = list(read(Request(Path("instances_val2017.json"), request.card)).samples)
    assert [sample.split for sample in samples] == ["val2017", "val2017"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annotations": [{"id": 1, "image_id": 139, "category_id": 12, "bbox": [0, 0, 1, 1]}]},
            "category_id '12' is not in",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "image_id '5', which is not in",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 139, "category_id": 1, "bbox": [0, 0, 1]}]},
            "annotation '1': .* not a box of four",
        ),
        (
            {"annotations": [{"id": 1, "image_id": 139, "category_id": 1, "bbox": [0, 0, 1, None]}]},
            "'None' is not a finite",
        ),
        ({"annotations": [{"id": 1, "image_id": 139, "category_id": 1}]}, "the field 'bbox' is missing"),
        ({"annotations": [{"id": 1, "image_id": [139], "category_id": 1}]}, "not a number or text"),
        ({"categories": [*CATEGORIES, {"id": 13, "name": "car"}]}, "the id '13' stands twice in 'categories'"),
        (
            {"images": [{"id": 139, "file_name": "000139.jpg"}, {"id": 139, "file_name": "000007.jpg"}]},
            "the id '139' stands twice in 'images'",
        ),
        ({"annotations": 5}, "a list of records is expected"),
        ({"images": [{"id": 139, "file_name": "gone.jpg"}]}, "the picture 'gone.jpg' is not in"),
        ({"images": [{"id": 139, "file_name": "../val2017/000139.jpg"}]}, "outside the dataset"),
        ({"images": [{"id": 139, "file_name": "x" * 5000}]}, "cannot look for the picture .*: File name too long"),
        ({"images": [{"id": 139, "file_name": "000139.jpg", "width": 100, "height": 200}]}, "says 100 x 200 pixels"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, picture: Any, as_json: Any, changes: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        list(read(_request(tmp_path, picture, as_json, _document(**changes))).samples)


def test_a_picture_outside_the_dataset_is_not_read(tmp_path: Path, picture: Any, as_json: Any) -> None:
    outside = str(picture(tmp_path / "elsewhere/private.jpg"))
    request = _request(tmp_path / "source", picture, as_json, _document(images=[{"id": 139, "file_name": outside}]))
    with pytest.raises(DatasetError, match="lies outside the dataset; give its path from the dataset's top folder"):
        list(read(request).samples)


def test_what_is_not_json_gives_the_line(tmp_path: Path) -> None:
    path = tmp_path / "instances_train.json"
    path.write_text('{"images": [],\n oops}')
    with pytest.raises(DatasetError, match=r"instances_train\.json', line 2: not JSON"):
        read(Request(tmp_path, load_card("coco")))


@pytest.mark.parametrize(
    ("zeros", "message"), [(400, "is not a finite number; correct the label"), (5000, "is not JSON that drivetl reads")]
)
def test_a_number_of_hundreds_of_digits(tmp_path: Path, picture: Any, zeros: int, message: str) -> None:
    picture(tmp_path / "a.jpg")
    path = tmp_path / "labels.json"
    path.write_text(
        '{"images":[{"id":1,"file_name":"a.jpg"}],"categories":[{"id":1,"name":"car"}],"annotations":'
        f'[{{"id":1,"image_id":1,"category_id":1,"bbox":[1,2,3,1{"0" * zeros}]}}]}}'
    )
    with pytest.raises(DatasetError, match=message):
        list(read(Request(path, load_card("coco"))).samples)
