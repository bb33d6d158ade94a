from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetl.data import check_dataset, import_dataset
from drivetl.errors import DatasetError


@pytest.fixture
def dataset(yolo_source: Path, tmp_path: Path) -> Path:
    (yolo_source / "labels/val/d.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.25 0.25\n")
    import_dataset("yolo", yolo_source, tmp_path / "out", link="copy")
    return tmp_path / "out"


def _found(path: Path) -> list[tuple[str, str, int | None]]:
    return [(problem.kind, problem.file, problem.line) for problem in check_dataset(path).problems]


def test_a_healthy_dataset(dataset: Path) -> None:
    report = check_dataset(dataset)
    assert (report.ok, report.images, report.problems) == (True, 4, ())


def _append(text: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        with (root / "labels/train/a.txt").open("a") as handle:
            handle.write(text)

    return act


def _cut(root: Path) -> None:
    path = root / "images/train/a.jpg"
    path.write_bytes(path.read_bytes()[:-300])


LABEL = "labels/train/a.txt"
PICTURE = "images/train/a.jpg"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_append("0 0.5 0.5 0.2\n"), {("label_malformed", LABEL, 2), ("label_changed", LABEL, 2)}),
        (_append("999 0.5 0.5 0.2 0.2\n"), {("unknown_class", LABEL, 2), ("label_changed", LABEL, 2)}),
        (_append("0 nan 0.5 0.2 0.2\n"), {("box_nan", LABEL, 2), ("label_changed", LABEL, 2)}),
        (_append("0 0.5 0.5 0.2 0\n"), {("box_area", LABEL, 2), ("label_changed", LABEL, 2)}),
        (_append("\n0 0.95 0.5 0.2 0.2\n"), {("box_outside", LABEL, 3), ("label_changed", LABEL, 2)}),
        (_append("1 0.5 0.5 0.2 0.4\n"), {("duplicate_box", LABEL, 2), ("label_changed", LABEL, 2)}),
        (
            lambda root: (root / LABEL).unlink(),
            {("label_missing", LABEL, None), ("class_without_examples", "data.yaml", None)},
        ),
        (
            lambda root: (root / LABEL).write_bytes(b"\xff\xfe"),
            {("label_malformed", LABEL, None), ("class_without_examples", "data.yaml", None)},
        ),
        (lambda root: (root / "labels/train/zz.txt").write_text(""), {("label_orphan", "labels/train/zz.txt", None)}),
        (
            lambda root: (root / PICTURE).rename(root / "images/train/zz.jpg"),
            {("picture_missing", PICTURE, None), ("picture_orphan", "images/train/zz.jpg", None)},
        ),
        (lambda root: (root / PICTURE).write_text("<html>"), {("picture_unreadable", PICTURE, None)}),
        (_cut, {("picture_truncated", PICTURE, None)}),
    ],
)
def test_each_defect_is_found_in_its_place(dataset: Path, damage: Callable[[Path], Any], expected: set[Any]) -> None:
    damage(dataset)
    assert set(_found(dataset)) == expected


def test_another_picture_under_the_old_name(dataset: Path, picture: Any) -> None:
    picture(dataset / PICTURE, width=300, seed=77)
    assert _found(dataset) == [("picture_changed", PICTURE, None)]


def test_near_identical_pictures_across_splits(yolo_source: Path, tmp_path: Path, picture: Any) -> None:
    picture(yolo_source / "images/val/e.jpg", width=400, height=200, seed=0)  # picture a at twice its size
    (yolo_source / "labels/val/e.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.2 0.2\n")
    import_dataset("yolo", yolo_source, tmp_path / "out")
    (problem,) = check_dataset(tmp_path / "out").problems
    assert (problem.kind, problem.file) == ("near_identical", PICTURE)
    assert "'images/val/e.jpg'" in problem.message


def test_a_group_on_two_sides(dataset: Path) -> None:
    lines = [json.loads(line) for line in (dataset / "samples.jsonl").read_text().splitlines()]
    for line in lines:
        line["group"] = "drive" if line["image"].endswith(("a.jpg", "d.jpg")) else line["group"]
    (dataset / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert _found(dataset) == [("group_divided", "images/val/d.jpg", None)]


def test_copies_of_one_picture_on_two_sides(yolo_source: Path, tmp_path: Path) -> None:
    for name in ("train/a", "val/d"):
        for folder, ending in (("images", "jpg"), ("labels", "txt")):
            path = yolo_source / folder / f"{name}.{ending}"
            path.rename(path.with_name(f"x_jpg.rf.{path.stem}01.{ending}"))
    (yolo_source / "labels/val/x_jpg.rf.d01.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.25 0.25\n")
    import_dataset("yolo", yolo_source, tmp_path / "out")
    (problem,) = check_dataset(tmp_path / "out").problems
    assert problem.message == "the group 'x_jpg' stands in train too, with 'x_jpg.rf.a01.jpg'"
    lines = (tmp_path / "out/samples.jsonl").read_text()  # as an earlier import wrote them
    for letter in "ad":
        lines = lines.replace('"group":"x_jpg"', f'"group":"x_jpg.rf.{letter}01"', 1)
    (tmp_path / "out/samples.jsonl").write_text(lines)
    for path in (tmp_path / "out", yolo_source):
        (problem,) = check_dataset(path).problems
        assert (problem.kind, problem.file) == ("group_divided", "images/val/x_jpg.rf.d01.jpg")
        assert problem.message == "a copy that Roboflow made of 'x_jpg' stands in train too, with 'x_jpg.rf.a01.jpg'"


def test_classes_without_examples(yolo_source: Path) -> None:
    (yolo_source / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, person, tram]\n")
    report = check_dataset(yolo_source)
    assert [(p.kind, p.message) for p in report.problems] == [
        ("class_without_examples", "the class 'tram' has no example")
    ]
    assert report.notes == ("The class 'person' has no example in val, so it gets no figure there.",)
    (yolo_source / "labels/train/a.txt").write_text("")
    assert "the class 'car' has no example in train" in [p.message for p in check_dataset(yolo_source).problems]


def test_a_strangers_picture_without_a_label_file_is_background(yolo_source: Path, picture: Any) -> None:
    picture(yolo_source / "images/train/e.jpg", seed=5)
    (yolo_source / "labels/train/c.txt").unlink()
    (yolo_source / "labels/val/d.txt").write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.25 0.25\n")
    report = check_dataset(yolo_source)
    assert (report.ok, report.images, report.problems) == (True, 5, ())
    assert report.notes == ("2 pictures without a label file are taken as background.",)


def test_terminal_markup_in_a_strangers_file_names(yolo_source: Path) -> None:
    (yolo_source / "labels/train/\x1b[31mred.txt").write_text("")
    (problem,) = check_dataset(yolo_source).problems
    assert problem.kind == "label_orphan"


def test_what_a_list_leaves_out_is_no_orphan(yolo_source: Path) -> None:
    (yolo_source / "train.txt").write_text("images/train/a.jpg\n")
    (yolo_source / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [car, person]\n")
    (yolo_source / "labels/train/classes.txt").write_text("car\nperson\n")
    orphans = [problem for problem in check_dataset(yolo_source).problems if "orphan" in problem.kind]
    assert orphans == []
    (yolo_source / "labels/train/zz.txt").write_text("")
    assert [p.file for p in check_dataset(yolo_source).problems if "orphan" in p.kind] == ["labels/train/zz.txt"]


def test_a_folder_that_is_gone_is_a_missing_picture(yolo_source: Path) -> None:
    (yolo_source / "train.txt").write_text("images/train/a.jpg\nimages/gone/b.jpg\n")
    (yolo_source / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [car, person]\n")
    found = [(p.kind, p.file) for p in check_dataset(yolo_source).problems]
    assert ("picture_missing", "images/gone/b.jpg") in found


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no dataset"):
        check_dataset(tmp_path / "gone")
    (tmp_path / "images").mkdir()
    (tmp_path / "data.yaml").write_text("train: images\nnames: [car]\n")
    with pytest.raises(DatasetError, match="has no pictures"):
        check_dataset(tmp_path)


def test_labels_in_pixels_are_named(yolo_source: Path) -> None:
    (yolo_source / LABEL).write_text("0 0.5 0.5 0.2 0.4\n0 100 50 40 40\n")
    (problem,) = check_dataset(yolo_source).problems
    assert (problem.kind, problem.file, problem.line) == ("label_in_pixels", LABEL, 2)
    assert "looks like pixels" in problem.message and "divide what is horizontal" in problem.message


def test_one_folder_for_two_splits_is_one_problem(yolo_source: Path, tmp_path: Path) -> None:
    names = "names: [car, person]\n"
    (yolo_source / "data.yaml").write_text(f"train: images/train\nval: images/train\n{names}")
    (problem,) = check_dataset(yolo_source).problems
    assert (problem.kind, problem.file) == ("picture_shared", "data.yaml")
    assert problem.message.startswith("3 of the 3 pictures of 'val' stand in 'train' too, the first is 'images/train/a")
    import_dataset("yolo", yolo_source, tmp_path / "out")  # which links to the same file twice
    assert [p.kind for p in check_dataset(tmp_path / "out").problems] == ["picture_shared"]
    (yolo_source / "data.yaml").write_text(f"train: [images/train, images/val]\nval: images/val\n{names}")
    assert [p.message[:20] for p in check_dataset(yolo_source).problems] == ["1 of the 1 pictures "]
