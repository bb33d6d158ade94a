from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from drivetl.data import (
    Dataset,
    Xyxy,
    check_dataset,
    dataset_stats,
    fold_dataset,
    import_dataset,
    leave_out,
    merge_datasets,
    move_listed,
    open_dataset,
    split_dataset,
)
from drivetl.data.dataset import label_path
from drivetl.data.records import Sample
from drivetl.errors import ConfigError, DatasetError
from drivetl.weather.dataset import weather_dataset


def test_a_strangers_dataset(yolo_source: Path) -> None:
    dataset = open_dataset(yolo_source)
    assert (dataset.names, dataset.splits, dataset.made_by_drivetl) == (
        ("car", "person"),
        {"train": 3, "val": 1},
        False,
    )
    (sample,) = dataset.samples("val")
    assert (sample.image, sample.size_hw, sample.group) == (yolo_source / "images/val/d.jpg", (100, 200), "d")
    assert sample.boxes[0].xyxy_px == (0, 0, 200, 100)
    assert dataset.pictures("val") == [sample.image]
    assert open_dataset(yolo_source / "data.yaml").fingerprint == dataset.fingerprint


def test_stored_samples_come_back_as_they_were(yolo_source: Path, tmp_path: Path) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.made_by_drivetl
    assert dataset.names == ("person", "car")
    strangers = {s.image.name: s for s in open_dataset(yolo_source).samples("train")}
    for sample in dataset.samples("train"):
        assert sample.image.is_absolute()
        assert [(b.class_name, b.xyxy_px) for b in sample.boxes] == [
            (b.class_name, pytest.approx(b.xyxy_px, abs=1e-3)) for b in strangers[sample.image.name].boxes
        ]


def test_an_unknown_split_names_the_existing(yolo_source: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'dev'; it has train, val"):
        open_dataset(yolo_source).samples("dev")
    with pytest.raises(DatasetError, match="no split 'dev'"):
        open_dataset(yolo_source).pictures("dev")


def test_the_fingerprint_follows_content_and_not_the_place(yolo_source: Path, tmp_path: Path) -> None:
    first = import_dataset("yolo", yolo_source, tmp_path / "one").fingerprint
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere")
    assert open_dataset(tmp_path / "elsewhere").fingerprint == first
    stranger = open_dataset(yolo_source).fingerprint
    (yolo_source / "labels/train/a.txt").write_text("0 0.5 0.5 0.2 0.3\n")
    assert open_dataset(yolo_source).fingerprint != stranger
    assert import_dataset("yolo", yolo_source, tmp_path / "two").fingerprint != first


def test_a_download_key_is_ignored_and_named(yolo_source: Path) -> None:
    trap = yolo_source / "trap"
    with (yolo_source / "data.yaml").open("a") as handle:
        handle.write(f"download: |\n  open({str(trap)!r}, 'w').write('gotcha')\n")
    dataset = open_dataset(yolo_source)
    assert sum(len(list(dataset.samples(split))) for split in dataset.splits) == 4
    assert "The key 'download'" in dataset.notes[0]
    assert "download" not in dataset.training_document()
    assert not trap.exists()


def test_paths_may_leave_the_folder(yolo_source: Path, tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    path = tmp_path / "cards" / "mine.yaml"
    path.write_text(
        "path: ../source\ntrain: [images/train]\nvalidation: images/val\nnames: {0: car, 1: person}\nauthor: me\n"
    )
    dataset = open_dataset(path)
    assert dataset.splits == {"train": 3, "val": 1}
    document = dataset.training_document()
    assert Path(str(document["train"])).resolve() == yolo_source / "images/train"


def test_a_split_may_be_a_list_of_pictures(yolo_source: Path) -> None:
    (yolo_source / "train.txt").write_text("./images/train/a.jpg\nimages/train/b.jpg\n")
    (yolo_source / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [car, person]\n")
    assert open_dataset(yolo_source).splits == {"train": 2, "val": 1}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("train: images/train\n", DatasetError, "'names' must list the classes"),
        ("train: images/train\nnames: {0: car, 2: person}\n", DatasetError, "without a gap"),
        ("train: images/train\nnames: [car, car]\n", DatasetError, "the class 'car' stands twice"),
        ("train: images/gone\nnames: [car]\n", DatasetError, "'train' names '.*gone', which does not exist"),
        ("train: images/train\nnames: {0: car, bus: truck}\n", DatasetError, "without a gap"),
        ("names: [car]\n", DatasetError, "has no pictures"),
        ("train: /dev/zero\nnames: [car]\n", DatasetError, "'/dev/zero' is neither a folder nor a text file"),
        (f"train: {'x' * 300}\nnames: [car]\n", DatasetError, "cannot look for .*xx': File name too long"),
        ("names: &a [car]\ntrain: *a\n", ConfigError, "aliases are not accepted"),
        ("- train\n", ConfigError, "must hold a mapping"),
    ],
)
def test_a_yaml_that_cannot_be_used(yolo_source: Path, text: str, error: type[Exception], message: str) -> None:
    (yolo_source / "data.yaml").write_text(text)
    with pytest.raises(error, match=message):
        assert open_dataset(yolo_source).splits


@pytest.mark.parametrize("line", ["x" * 300 + ".jpg", "folder/" * 700 + "a.jpg", "a\0b.jpg"])
def test_a_list_with_an_impossible_path(yolo_source: Path, line: str) -> None:
    (yolo_source / "train.txt").write_text(f"images/train/a.jpg\n\n{line}\n")
    (yolo_source / "data.yaml").write_text("train: train.txt\nnames: [car, person]\n")
    with pytest.raises(DatasetError, match=r"train\.txt', line 3: '.*' cannot be the path of a picture"):
        open_dataset(yolo_source).pictures("train")


def test_a_list_that_is_too_long_is_not_read(yolo_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetl.data.places._LIST_LIMIT_BYTES", 10)
    (yolo_source / "train.txt").write_text("images/train/a.jpg\n")
    (yolo_source / "data.yaml").write_text("train: train.txt\nnames: [car, person]\n")
    with pytest.raises(DatasetError, match="it is larger than 10 bytes"):
        assert open_dataset(yolo_source).splits


def test_no_dataset_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is no dataset '.*gone'; make one with: drivetl data import"):
        open_dataset(tmp_path / "gone")
    with pytest.raises(DatasetError, match=r"has no data\.yaml"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="File name too long; correct the path"):
        open_dataset(tmp_path / ("x" * 300))


def test_pictures_behind_linked_folders_belong_to_the_dataset(yolo_source: Path, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (yolo_source / kind / "train").rename(tmp_path / f"{kind}-elsewhere")
        (yolo_source / kind / "all").mkdir()
        (yolo_source / kind / "all" / "train").symlink_to(tmp_path / f"{kind}-elsewhere")
    (yolo_source / "data.yaml").write_text("train: images/all\nval: images/val\nnames: [car, person]\n")
    assert open_dataset(yolo_source).splits == {"train": 3, "val": 1}


def test_a_split_that_roboflow_places_above_lies_beside_the_yaml(yolo_source: Path) -> None:
    (yolo_source / "data.yaml").write_text("train: ../images/train\nval: ../images/val\nnames: [car, person]\n")
    dataset = open_dataset(yolo_source)
    assert [len(list(dataset.samples(split))) for split in ("train", "val")] == [3, 1]
    (yolo_source / "data.yaml").write_text("train: ../images/train\ntest: ../images/test\nnames: [car, person]\n")
    with pytest.raises(DatasetError, match=r"'test' names '.*images/test', which does not exist"):
        list(open_dataset(yolo_source).samples("test"))


def test_a_class_renamed_in_the_yaml_alone(yolo_source: Path, tmp_path: Path) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "out")
    yaml = tmp_path / "out/data.yaml"
    yaml.write_text(yaml.read_text().replace("car", "auto"))
    message = r"samples\.jsonl', line \d: the class 'car' is not in 'names' of '.*data\.yaml'; put the names back"
    with pytest.raises(DatasetError, match=message):
        dataset_stats(tmp_path / "out")
    with pytest.raises(DatasetError, match=message):
        split_dataset(tmp_path / "out", tmp_path / "cut", into="test", fraction=0.4)
    assert {problem.kind for problem in check_dataset(tmp_path / "out").problems} >= {"unknown_class"}


_BOX = {"class": "car", "attributes": {}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_hw": [float("inf"), 100]}, "Infinity is not JSON|is not JSON lines"),
        ({"boxes": [{**_BOX, "xyxy_px": [float("nan")] * 4}]}, "is not JSON lines"),
        ({"size_hw": [0, 100]}, r"line 1: .*'\[0, 100\]' is no size of a picture"),
        ({"size_hw": [10**400, 100]}, "is no size of a picture"),
        ({"boxes": [{**_BOX, "xyxy_px": [0, 0, 1e308, 1e308]}]}, "is no box in pixels"),
        ({"boxes": [{**_BOX, "xyxy_px": [9, 0, 1, 8]}]}, "is no box in pixels"),
        ({"boxes": [{**_BOX, "xyxy_px": [0, 0, 9, 9], "attributes": {"occluded": [1]}}]}, "the attribute 'occluded'"),
        ({"attributes": {"weather": ["fog"]}}, "the attribute 'weather' is .*, not a text or a number"),
        ({"attributes": "fog"}, "misuses a field"),
        ({"image": None}, "line 1: 'image' is 'None', not a path inside"),
        ({"image": "a\0b.jpg"}, "not a path inside"),
    ],
)
def test_values_that_no_sample_can_have(
    yolo_source: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "out")
    path = tmp_path / "out/samples.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **changes}), *others]) + "\n")
    with pytest.raises(DatasetError, match=message):
        dataset_stats(tmp_path / "out")
    with pytest.raises(DatasetError, match=message):
        check_dataset(tmp_path / "out")


def test_a_number_too_large_for_a_float_in_the_stored_lines(yolo_source: Path, tmp_path: Path) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "out")
    path = tmp_path / "out/samples.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"size_hw":[100,', '"size_hw":[1e999,'))  # JSON, and read as infinity
    with pytest.raises(DatasetError, match="no size of a picture"):
        dataset_stats(tmp_path / "out")


def test_pictures_stay_inside_the_dataset(yolo_source: Path, tmp_path: Path) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "out")
    path = tmp_path / "out/samples.jsonl"
    path.write_text(path.read_text().replace('"image":"images/', '"image":"../images/'))
    with pytest.raises(DatasetError, match=r"line 1: the picture '.*' lies outside the dataset"):
        open_dataset(tmp_path / "out").pictures("train")


def test_a_damaged_marker(yolo_source: Path, tmp_path: Path) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "out")
    path = tmp_path / "out/dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dropped": [1]}))
    with pytest.raises(DatasetError, match=r"dataset\.json': 'dropped' is '\[1\]', not counts by class"):
        split_dataset(tmp_path / "out", tmp_path / "cut", into="test", fraction=0.4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "line 1: not a sample of schema 1"),
        ('{"schema": 1, "split": "train", "image": "../x.jpg"}', "line 1: the picture '../x.jpg' lies outside"),
        ('{"schema": 1, "split": "train", "image": "images/x.jpg"}', "line 1: the sample lacks or misuses a field"),
        ("oops", "is not JSON lines"),
    ],
)
def test_damaged_samples(yolo_source: Path, tmp_path: Path, line: str, message: str) -> None:
    import_dataset("yolo", yolo_source, tmp_path / "out")
    (tmp_path / "out/samples.jsonl").write_text(line + "\n")
    with pytest.raises(DatasetError, match=message):
        list(open_dataset(tmp_path / "out").samples("train"))


def test_label_paths() -> None:
    assert label_path(Path("/data/images/set/images/train/a.b.jpg")) == Path("/data/images/set/labels/train/a.b.txt")
    assert label_path(Path("/data/a.jpg")) == Path("/data/a.txt")


def test_leave_out() -> None:
    samples = [Sample(Path(name), (1, 1), "val", "", attributes={"dataset": name}) for name in "aba"]
    assert [sample.image.name for sample in leave_out(samples, ["a"])] == ["b"]
    assert len(list(leave_out(samples, []))) == 3


def test_a_dataset_of_poses_gives_its_boxes(yolo_source: Path) -> None:
    yaml = yolo_source / "data.yaml"
    text = yaml.read_text()
    for label in yolo_source.glob("labels/*/*.txt"):
        label.write_text("".join(f"{line} 0.9 0.9 2 0.1 0.1 1\n" for line in label.read_text().splitlines()))
    yaml.write_text(f"{text}kpt_shape: [2, 3]\n")
    first = next(open_dataset(yolo_source).samples("train"))
    assert first.boxes[0].xyxy_px == pytest.approx((80, 30, 120, 70))
    assert not [p for p in check_dataset(yolo_source).problems if p.kind.startswith(("label", "box"))]
    with pytest.raises(DatasetError, match=r"labels of poses.*drivetl data import yolo"):
        open_dataset(yolo_source).training_document()
    for shape in ("17", "[17]", "[17, 4]", "[0, 3]", "[true, 3]", "[2.5, 2]"):
        yaml.write_text(f"{text}kpt_shape: {shape}\n")
        with pytest.raises(DatasetError, match=r"'kpt_shape' is .*, not \[number of keypoints, 2 or 3\]"):
            open_dataset(yolo_source)


def test_a_number_of_classes_that_contradicts_the_names_is_refused(yolo_source: Path) -> None:
    yaml = yolo_source / "data.yaml"
    text = yaml.read_text()
    yaml.write_text(f"{text}nc: 2\n")
    assert open_dataset(yolo_source).names == ("car", "person")
    yaml.write_text(f"{text}nc: 6\n")
    with pytest.raises(DatasetError, match=r"'nc' is '?6'?, but 'names' has 2 classes"):
        open_dataset(yolo_source)


def test_ids_of_classes_may_be_in_quotes(yolo_source: Path) -> None:
    for names in ('{"1": person, "0": car}', '{0: car, "1": person}'):
        (yolo_source / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
        assert open_dataset(yolo_source).names == ("car", "person")
    (yolo_source / "data.yaml").write_text('train: images/train\nnames: {0: car, "0": person}\n')
    with pytest.raises(DatasetError, match="without a gap"):
        open_dataset(yolo_source)


def test_a_split_without_pictures_is_refused(yolo_source: Path) -> None:
    text = "train: labels/train\nval: images/val\nnames: [car, person]\n"
    (yolo_source / "data.yaml").write_text(text)
    with pytest.raises(DatasetError, match=r"'train' names '.*labels/train' without any picture; correct the path"):
        open_dataset(yolo_source).splits  # noqa: B018 - it is read from the disk here


def test_classes_that_differ_in_case_alone_are_noted(yolo_source: Path) -> None:
    (yolo_source / "data.yaml").write_text("train: images/train\nnames: [person, Person]\n")
    (note,) = open_dataset(yolo_source).notes
    assert note.startswith("The classes 'person' and 'Person' of ") and "differ in case alone" in note


def test_a_picture_whose_name_is_not_utf8(yolo_source: Path, tmp_path: Path) -> None:
    for path in (yolo_source / "images/train/a.jpg", yolo_source / "labels/train/a.txt"):
        path.rename(os.fsdecode(os.fsencode(path.parent / "stra") + b"\xdfe" + os.fsencode(path.suffix)))
    dataset = open_dataset(yolo_source)
    assert len(dataset.fingerprint) == 64 and len(list(dataset.samples("train"))) == 3
    assert check_dataset(yolo_source).ok
    import_dataset("yolo", yolo_source, tmp_path / "out")
    assert check_dataset(tmp_path / "out").ok
    assert split_dataset(yolo_source, tmp_path / "cut", into="test", fraction=0.4).splits == {
        "train": 2,
        "val": 1,
        "test": 1,
    }


@pytest.fixture
def leaving(yolo_source: Path) -> Path:
    """``yolo_source`` with a car in train that leaves its picture, one beside it, and one of which a hair is inside."""
    # 200 x 100 pixels: (150, 30)-(220, 70), (210, 30)-(230, 70) and (199.999, 30)-(209.999, 70).
    lines = ("0 0.925 0.5 0.35 0.4", "0 1.1 0.5 0.1 0.4", "0 1.024995 0.5 0.05 0.4")
    (yolo_source / "labels/train/a.txt").write_text("".join(f"{line}\n" for line in lines))
    return yolo_source


def _assert_told(notes: Sequence[str], whose: str = "of '.*source' ") -> None:
    for words in ("3 boxes {}left the picture and were clipped", "2 boxes {}without area .*, the first in .*a.jpg"):
        assert sum(re.match(words.format(whose), note) is not None for note in notes) == 1


def _boxes(dataset: Dataset, name: str = "a.jpg") -> list[Xyxy]:
    samples = [sample for split in dataset.splits for sample in dataset.samples(split)]
    return [box.xyxy_px for sample in samples if sample.image.name == name for box in sample.boxes]


def test_a_strangers_boxes_are_cut_to_their_pictures(leaving: Path) -> None:
    dataset = open_dataset(leaving)
    for _ in range(2):  # what is read again is not counted twice
        assert _boxes(dataset) == [pytest.approx((150, 30, 200, 70))]
        assert _boxes(dataset, "d.jpg") == [(0, 0, 200, 100)]
    _assert_told(dataset.notes)
    assert len(_boxes(_imported(leaving))) == 1


def _imported(source: Path) -> Dataset:
    result = import_dataset("yolo", source, source.parent / "imported")
    _assert_told(result.notes, whose="")
    return open_dataset(result.path)


@pytest.mark.parametrize("how", ["split", "listed", "folds", "merge", "weather"])
def test_what_is_made_of_a_strangers_dataset_keeps_boxes_inside_and_tells_of_it(
    how: str, leaving: Path, tmp_path: Path
) -> None:
    out, names = tmp_path / "out", tmp_path / "list"
    names.write_text("b.jpg\n")
    (leaving / "labels/train/c.txt").write_text("0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1\n")
    if how == "merge":
        merged = merge_datasets([leaving, _imported(leaving).root], out, names=["a", "b"])
        found, notes = _boxes(merged.dataset), merged.notes
        assert len(found) == 1
    else:
        made = {
            "split": lambda: split_dataset(leaving, out, into="held", fraction=0.4),
            "listed": lambda: move_listed(leaving, out, names, into="held"),
            "folds": lambda: fold_dataset(leaving, out, folds=2)[0],
            "weather": lambda: weather_dataset(leaving, out, split="train", condition="fog", severity=1),
        }[how]()
        found, notes = _boxes(made, "000000-a.jpg" if how == "weather" else "a.jpg"), made.notes
    assert found == [pytest.approx((150, 30, 200, 70))]
    _assert_told(notes)
