from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivetl.data.cards import DatasetCard, load_card
from drivetl.data.readers.common import Request
from drivetl.data.readers.voc import read
from drivetl.data.readers.voc_xml import parse_annotation
from drivetl.errors import DatasetError


def _object(name: str, corners: tuple[Any, Any, Any, Any], extra: str = "") -> str:
    left, top, right, bottom = corners
    # xmax first: the order of the corners is free.
    return (
        f"<object>\n<name>{name}</name>{extra}<bndbox><xmax>{right}</xmax><xmin>{left}</xmin>"
        f"<ymin>{top}</ymin><ymax>{bottom}</ymax></bndbox></object>"
    )


def _xml(*objects: str, size: str = "<size><width>200</width><height>100</height><depth>3</depth></size>") -> str:
    return f"<annotation>\n<filename>whatever.jpg</filename>{size}\n{''.join(objects)}</annotation>"


def _source(root: Path, picture: Any, annotations: dict[str, str], card: str | DatasetCard = "voc") -> Request:
    (root / "Annotations").mkdir(parents=True)
    for name, text in annotations.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(text)
    return Request(root, load_card(card) if isinstance(card, str) else card)


def test_pascal_coordinates_start_at_one(tmp_path: Path, picture: Any) -> None:
    # The whole 200 x 100 picture is 1, 1, 200, 100 in Pascal VOC.
    reading = read(_source(tmp_path, picture, {"a": _xml(_object("car", (1, 1, 200, 100)))}))
    (sample,) = reading.samples
    assert sample.boxes[0].xyxy_px == (0, 0, 200, 100)
    assert "starting at 1, because no coordinate is 0" in reading.notes[0]


def test_a_zero_anywhere_shows_that_the_set_starts_at_zero(tmp_path: Path, picture: Any) -> None:
    annotations = {"a": _xml(_object("car", (0, 5, 20, 30))), "b": _xml(_object("car", (1, 1, 20, 30)))}
    reading = read(_source(tmp_path, picture, annotations))
    assert [sample.boxes[0].xyxy_px for sample in reading.samples] == [(0, 5, 20, 30), (1, 1, 20, 30)]
    assert "starting at 0, because a coordinate is 0" in reading.notes[0]


def test_the_card_decides_where_it_says_so(tmp_path: Path, picture: Any) -> None:
    reading = read(_source(tmp_path, picture, {"a": _xml(_object("car", (1, 1, 20, 30)))}, "dawn"))
    assert [sample.boxes[0].xyxy_px for sample in reading.samples] == [(1, 1, 20, 30)]
    assert reading.notes == []


def test_difficult_is_ignored_and_parts_are_not_objects(tmp_path: Path, picture: Any) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    extra = f"{part}<truncated>1</truncated><difficult>0</difficult>"
    text = _xml(_object("person", (11, 12, 20, 30), extra), _object("car", (1, 1, 9, 9), "<difficult>1</difficult>"))
    (sample,) = read(_source(tmp_path, picture, {"a": text})).samples
    assert [(box.class_name, box.xyxy_px) for box in sample.boxes] == [("person", (10, 11, 20, 30))]
    assert sample.boxes[0].attributes == {"truncated": True, "occluded": False}
    assert [(region.class_name, region.xyxy_px) for region in sample.ignore] == [("car", (0, 0, 9, 9))]


def test_lists_and_groups(tmp_path: Path, picture: Any) -> None:
    text = _xml(_object("car", (1, 1, 9, 9)))
    request = _source(tmp_path, picture, dict.fromkeys("abcd", text))
    (tmp_path / "train.txt").write_text("a.jpg\nb\n")
    (tmp_path / "val.txt").write_text("c -1\n")
    (tmp_path / "groups.json").write_text(json.dumps([["a.jpg", "b.jpg"], ["c.jpg"]]))
    reading = read(request)
    assert [(s.image.stem, s.split, s.group) for s in reading.samples] == [
        ("a", "train", "a"),
        ("b", "train", "a"),
        ("c", "val", "c"),
    ]
    assert reading.notes[0] == "1 annotated pictures stand in no split list and were left out."


def test_listed_names_may_hold_spaces(tmp_path: Path, picture: Any) -> None:
    request = _source(tmp_path, picture, {"my pic 1": _xml(), "my pic": _xml(), "b 0": _xml()})
    (tmp_path / "train.txt").write_text("my pic 1\nb 0.jpg  -1\n")
    (tmp_path / "val.txt").write_text("my pic  0\n")
    found = {sample.image.stem: sample.split for sample in read(request).samples}
    assert found == {"my pic 1": "train", "b 0": "train", "my pic": "val"}
    (tmp_path / "val.txt").write_text("no such pic.jpg 1\n")
    with pytest.raises(DatasetError, match="the val list names 'no such pic', but"):
        read(request)


def test_image_sets_of_the_devkit(tmp_path: Path, picture: Any) -> None:
    request = _source(tmp_path, picture, {"2008_000001": _xml()})
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("2008_000001\n")
    (tmp_path / "ImageSets" / "Main" / "car_val.txt").write_text("2008_000001 -1\n")
    assert [sample.split for sample in read(request).samples] == ["val"]


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE annotation SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE annotation [<!ENTITY a "boom">]>',
        '<?xml version="1.0" encoding="UTF-8"?><!doctype x>',
    ],
)
def test_a_doctype_is_refused(tmp_path: Path, picture: Any, head: str) -> None:
    with pytest.raises(DatasetError, match=r"a\.xml', line 1: (a DOCTYPE or entity|not XML)"):
        read(_source(tmp_path, picture, {"a": head + _xml()}))


def test_a_billion_laughs_is_refused_before_it_expands(tmp_path: Path, picture: Any) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    text = f"<!DOCTYPE annotation [{entities}]>{_xml().replace('whatever.jpg', '&a11;')}"
    with pytest.raises(DatasetError, match="DOCTYPE"):
        read(_source(tmp_path, picture, {"a": text}))


def test_a_doctype_in_another_encoding_is_refused_too(tmp_path: Path, picture: Any) -> None:
    request = _source(tmp_path, picture, {"a": ""})
    text = f'<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE annotation [<!ENTITY a "x">]>{_xml()}'
    (tmp_path / "Annotations" / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(DatasetError, match="DOCTYPE"):
        read(request)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", r"a\.xml', line 1: not XML"),
        (
            '<?xml version="1.0" encoding="x-foo"?><annotation/>',
            r"a\.xml': .*unknown encoding: x-foo; save it as UTF-8",
        ),
        ("<html></html>", "root element is 'html'"),
        (_xml("<object><name>car</name></object>"), r"line 3: the object has no bndbox"),
        (_xml(_object("", (1, 1, 2, 2))), r"line 3: the object has no name"),
        (_xml(_object("car", (1, "x", 2, 2))), r"line 4: 'x' is not a finite number"),
        (
            _xml(size="<size><width>640</width><height>480</height></size>"),
            "picture of 640 x 480 pixels, but the picture has 200 x 100",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(tmp_path: Path, picture: Any, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(_source(tmp_path, picture, {"a": text}))


def test_a_list_that_names_nothing_is_an_error(tmp_path: Path, picture: Any) -> None:
    request = _source(tmp_path, picture, {"a": _xml()})
    (tmp_path / "train.txt").write_text("gone.jpg\n")
    with pytest.raises(DatasetError, match=r"train list names 'gone'"):
        read(request)
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "val.txt").write_text("a\n")
    with pytest.raises(DatasetError, match=r"val\.txt', line 1: 'a' is listed in train\.txt too"):
        read(request)


@pytest.mark.parametrize("between", ["", "<b/>", "<b>other</b>"])
def test_text_in_many_pieces_is_whole(tmp_path: Path, between: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<annotation>" + f"a\n{between}" * 20_000 + "</annotation>")
    root = parse_annotation(path)
    assert root.text == "a\n" * 20_000
    assert {child.text for child in root.children} <= {"", "other"}
