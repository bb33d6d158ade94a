from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from drivetl.data import check_dataset, import_dataset, merge_datasets, open_dataset
from drivetl.data.importing import standard_split
from drivetl.errors import ConfigError, DatasetError, OutputError
from drivetl.taxonomy import DRIVING_CLASSES
from drivetl.weather.dataset import weather_dataset

KITTI_LINE = "{} 0.00 0 -1.57 {} {} {} {} 1.5 1.6 3.9 1.0 1.5 20.0 -1.6\n"


@pytest.fixture
def kitti_source(tmp_path: Path, picture: Any) -> Path:
    """Twenty pictures of 200 x 100, each with a car; some with what a card merges, drops and ignores."""
    root = tmp_path / "kitti"
    (root / "label_2").mkdir(parents=True)
    for index in range(20):
        picture(root / "image_2" / f"{index:06d}.png", seed=index)
        text = KITTI_LINE.format("Car", 10, 20, 60, 90)
        if index == 0:
            text += KITTI_LINE.format("Van", 100, 20, 210, 90)  # leaves the picture by ten pixels
            text += KITTI_LINE.format("Misc", 1, 1, 5, 5)
            text += KITTI_LINE.format("DontCare", 150, 0, 170, 10)
            text += KITTI_LINE.format("Car", 10, 20, 60, 90)  # the first again
            text += KITTI_LINE.format("Pedestrian", 199.99999, 5, 230, 10)  # nothing of it is in the picture
        (root / "label_2" / f"{index:06d}.txt").write_text(text)
    return root


def test_what_comes_out_by_hand(kitti_source: Path, tmp_path: Path) -> None:
    result = import_dataset("kitti", kitti_source, tmp_path / "out")
    assert (result.images, result.boxes, result.ignored, result.dropped) == (20, 21, 1, {"Misc": 1})
    assert result.per_class == {"person": 0, "rider": 0, "car": 21, "truck": 0, "train": 0}
    assert result.splits == {"train": 16, "val": 4}
    split = "train" if (tmp_path / "out/images/train/000000.png").exists() else "val"
    assert (tmp_path / f"out/labels/{split}/000000.txt").read_text() == (
        # (10, 20)-(60, 90): centre (35, 55), size 50 x 70. (100, 20)-(200, 90): centre (150, 55), size 100 x 70.
        "2 0.17500000 0.55000000 0.25000000 0.70000000\n2 0.75000000 0.55000000 0.50000000 0.70000000\n"
    )
    sample = next(s for s in open_dataset(tmp_path / "out").samples(split) if s.image.stem == "000000")
    assert [box.xyxy_px for box in sample.boxes] == [(10, 20, 60, 90), (100, 20, 200, 90)]
    assert [(region.xyxy_px, region.class_name) for region in sample.ignore] == [((150, 0, 170, 10), None)]
    text = " ".join(result.notes)
    for sentence in ("2 boxes left the picture", "1 boxes without area", "1 boxes that repeated", "Misc 1", "seed 0"):
        assert sentence in text


def test_a_box_too_thin_for_float32_is_left_out_and_told(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "kitti/image_2/0.png", width=3000, height=60)
    (tmp_path / "kitti/label_2").mkdir()
    thin, thick = ("2999.9999", 15, 3000, 45), ("2999.9", 15, 3000, 45)
    text = "".join(KITTI_LINE.format("Car", *box) for box in (thin, thick))
    (tmp_path / "kitti/label_2/0.txt").write_text(text)
    result = import_dataset("kitti", tmp_path / "kitti", tmp_path / "out", val=0)
    assert result.boxes == 1
    assert any(note.startswith("1 boxes without area in the picture were left out") for note in result.notes)
    (sample,) = open_dataset(tmp_path / "out").samples("train")
    assert [box.xyxy_px for box in sample.boxes] == [(2999.9, 15, 3000, 45)]
    assert weather_dataset(tmp_path / "out", tmp_path / "fog", split="train", condition="fog", severity=1).splits


CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]


def _coco(root: Path, picture: Any, as_json: Any, categories: Any = CATEGORIES, **splits: list[Any]) -> Path:
    """COCO with the given annotations of each split; every split numbers its pictures from zero."""
    for seed, (split, found) in enumerate(splits.items()):
        images = [{"id": i, "file_name": f"{i:06d}.jpg", "width": 200, "height": 100} for i in range(2)]
        for number, image in enumerate(images):
            picture(root / split / str(image["file_name"]), seed=10 * seed + number)
        document = {"categories": categories, "images": images, "annotations": found}
        as_json(root / "annotations" / f"instances_{split}.json", document)
    return root


def _annotation(number: int, category: int, crowd: int = 0) -> dict[str, Any]:
    box = [10 + number, 10, 50, 40]
    return {"id": number, "image_id": 0, "category_id": category, "bbox": box, "iscrowd": crowd}


def test_a_class_that_is_only_ever_a_crowd_is_a_class(tmp_path: Path, picture: Any, as_json: Any) -> None:
    from drivetl.evaluate.scoring import Collector
    from drivetl.runtime import Detections

    source = _coco(tmp_path / "coco", picture, as_json, train2017=[_annotation(1, 3), _annotation(2, 1, crowd=1)])
    import_dataset("coco", source, tmp_path / "out", val=0)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.names == ("person", "car")
    collector = Collector(dataset.names)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    for sample in dataset.samples("train"):
        collector.add(sample, nothing)
    assert collector.score().per_class["person"].boxes == 0
    yaml_file = tmp_path / "out/data.yaml"
    yaml_file.write_text(yaml_file.read_text().replace("person", "someone"))
    with pytest.raises(DatasetError, match="the class 'person' is not in 'names'"):
        list(open_dataset(tmp_path / "out").samples("train"))


def test_pictures_of_the_same_number_in_two_splits_are_no_group(tmp_path: Path, picture: Any, as_json: Any) -> None:
    source = _coco(tmp_path / "coco", picture, as_json, train2017=[_annotation(1, 3)], val2017=[_annotation(1, 3)])
    import_dataset("coco", source, tmp_path / "out")
    assert check_dataset(tmp_path / "out").problems == ()


def test_two_classes_of_one_name_are_refused_before_anything_is_written(
    tmp_path: Path, picture: Any, as_json: Any
) -> None:
    twice = [*CATEGORIES, {"id": 6, "name": "car"}]
    source = _coco(tmp_path / "coco", picture, as_json, twice, train2017=[_annotation(1, 3), _annotation(2, 6)])
    with pytest.raises(DatasetError, match="two classes named 'car'"):
        import_dataset("coco", source, tmp_path / "out", classes="native")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_gone_is_named(kitti_source: Path, tmp_path: Path) -> None:
    import_dataset("kitti", kitti_source, tmp_path / "linked", val=0)
    (kitti_source / "image_2" / "000003.png").rename(tmp_path / "elsewhere.png")
    with pytest.raises(DatasetError, match=r"the picture '.*000003\.png' is gone; put it back"):
        merge_datasets([tmp_path / "linked", tmp_path / "linked"], tmp_path / "out", names=["a", "b"])
    assert not (tmp_path / "out").exists()


def test_the_yaml_is_what_ultralytics_documents(kitti_source: Path, tmp_path: Path) -> None:
    import_dataset("kitti", kitti_source, tmp_path / "out")
    document = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert document == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "person", 1: "rider", 2: "car", 3: "truck", 4: "train"},
    }
    about = json.loads((tmp_path / "out/dataset.json").read_text())
    assert about["fingerprint"] == open_dataset(tmp_path / "out").fingerprint
    assert (about["format"], about["card"], about["classes"]) == ("kitti", "kitti", "driving")


def test_link_and_copy_give_one_fingerprint_and_another_seed_another(kitti_source: Path, tmp_path: Path) -> None:
    linked = import_dataset("kitti", kitti_source, tmp_path / "linked")
    again = import_dataset("kitti", kitti_source, tmp_path / "again")
    copied = import_dataset("kitti", kitti_source, tmp_path / "copied", link="copy")
    other = import_dataset("kitti", kitti_source, tmp_path / "other", seed=1)
    assert linked.fingerprint == again.fingerprint == copied.fingerprint != other.fingerprint
    assert (tmp_path / "linked/samples.jsonl").read_bytes() == (tmp_path / "copied/samples.jsonl").read_bytes()
    assert all(path.is_symlink() for path in (tmp_path / "linked/images").rglob("*.png"))
    assert not any(path.is_symlink() for path in (tmp_path / "copied/images").rglob("*"))


def test_native_classes(kitti_source: Path, tmp_path: Path) -> None:
    result = import_dataset("kitti", kitti_source, tmp_path / "out", classes="native")
    assert result.per_class["Van"] == 1
    assert result.per_class["Misc"] == 1
    assert "DontCare" not in result.names


def test_drawn_test_split(kitti_source: Path, tmp_path: Path) -> None:
    result = import_dataset("kitti", kitti_source, tmp_path / "out", val=0.2, test=0.3)
    assert result.splits == {"train": 10, "val": 4, "test": 6}
    assert not any("There is no split" in note for note in result.notes)


def test_a_missing_split_is_told_with_what_training_does_then(kitti_source: Path, tmp_path: Path) -> None:
    notes = import_dataset("kitti", kitti_source, tmp_path / "out", val=0.0, test=0.3).notes
    (note,) = [note for note in notes if "There is no split" in note]
    assert "'val', so training takes its last epoch" in note and "drivetl data split" in note


def test_near_identical_pictures_stay_together(kitti_source: Path, tmp_path: Path) -> None:
    for index in range(1, 20, 2):
        (kitti_source / f"image_2/{index:06d}.png").write_bytes(
            (kitti_source / f"image_2/{index - 1:06d}.png").read_bytes()
        )
    import_dataset("kitti", kitti_source, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    val = sorted(int(sample.image.stem) for sample in dataset.samples("val"))
    assert len(val) == 4
    assert val[1] == val[0] + 1
    assert val[3] == val[2] + 1
    assert check_dataset(tmp_path / "out").problems[0].kind == "class_without_examples"


def test_pictures_of_one_name_are_kept_apart(tmp_path: Path, picture: Any) -> None:
    root = tmp_path / "source"
    names = ("cam0/frame 1.jpg", "cam1/frame 1.jpg", "cam1/frame 1.png", "cam1/FRAME_1.jpg", "cam1/\x1b[31mred.jpg")
    for seed, name in enumerate(names):
        picture(root / "images" / "train" / name, seed=seed)
        label = root / "labels" / "train" / name
        label.parent.mkdir(parents=True, exist_ok=True)
        label.with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")
    names_file = tmp_path / "names.txt"
    names_file.write_text("car\n")
    import_dataset("yolo", root, tmp_path / "out", names=names_file)
    found = sorted(path.name for path in (tmp_path / "out/images/train").iterdir())
    assert len({Path(name).stem.casefold() for name in found}) == 5
    assert all(name.isascii() and name.isprintable() for name in found)
    assert len(list((tmp_path / "out/labels/train").iterdir())) == 5


def test_split_names(yolo_source: Path, tmp_path: Path) -> None:
    result = import_dataset("yolo", yolo_source, tmp_path / "out", split_names={"val": "test"})
    assert result.splits == {"train": 3, "test": 1}
    assert any("drivetl data split" in note for note in result.notes)
    with pytest.raises(ConfigError, match="names 'dev', but the source has train, val"):
        import_dataset("yolo", yolo_source, tmp_path / "other", split_names={"dev": "val"})
    with pytest.raises(DatasetError, match="cannot be the name of a split"):
        import_dataset("yolo", yolo_source, tmp_path / "other", split_names={"val": "../val"})


def test_standard_splits() -> None:
    found = [standard_split(name) for name in ("train2017", "val2017", "valid", "validation", "Testing", "night")]
    assert found == ["train", "val", "val", "val", "test", "night"]


def test_terminal_markup_comes_out_harmless(tmp_path: Path, picture: Any, as_json: Any) -> None:
    picture(tmp_path / "source/train/a.jpg")
    document = {
        "categories": [{"id": 1, "name": "\x1b[31mcar\u202e"}],
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}],
    }
    as_json(tmp_path / "source/annotations/instances_train.json", document)
    result = import_dataset("coco", tmp_path / "source", tmp_path / "out", classes="native")
    assert result.names == ("\\x1b[31mcar\\u202e",)
    for path in (tmp_path / "out").glob("*.*"):
        assert "\x1b" not in path.read_text()
    with pytest.raises(DatasetError, match="no box of a class") as caught:
        import_dataset("coco", tmp_path / "source", tmp_path / "other")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"format": "kiti"}, DatasetError, "did you mean 'kitti'"),
        ({"source": "gone"}, DatasetError, "there is no '.*gone'"),
        ({"classes": "mine"}, ConfigError, "driving or native, not 'mine'"),
        ({"card": "coco"}, ConfigError, "the card 'coco' is for the format coco"),
        ({"val": 0.8, "test": 0.3}, ConfigError, "leave a tenth"),
        ({"split_names": {"a": "b"}}, ConfigError, "nothing to rename"),
        ({"link": "hard"}, ConfigError, "not 'hard'"),
    ],
)
def test_bad_options(kitti_source: Path, tmp_path: Path, changes: Any, error: type[Exception], message: str) -> None:
    options = {"format": "kitti", **changes}
    source = tmp_path / options.pop("source") if "source" in options else kitti_source
    with pytest.raises(error, match=message):
        import_dataset(options.pop("format"), source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_empty_source_is_an_error(tmp_path: Path) -> None:
    for folder in ("image_2", "label_2"):
        (tmp_path / "kitti" / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match="no labelled pictures in the format kitti"):
        import_dataset("kitti", tmp_path / "kitti", tmp_path / "out")


def test_nothing_is_overwritten_or_left_half_written(kitti_source: Path, tmp_path: Path) -> None:
    import_dataset("kitti", kitti_source, tmp_path / "out")
    before = (tmp_path / "out/samples.jsonl").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        import_dataset("kitti", kitti_source, tmp_path / "out", seed=1)
    (kitti_source / "label_2/000019.txt").write_text("Car 1 2 3\n")
    with pytest.raises(DatasetError, match=r"000019\.txt', line 1"):
        import_dataset("kitti", kitti_source, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/samples.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kitti", "out"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="was not made by drivetl"):
        import_dataset("kitti", kitti_source, mine, overwrite=True)


def test_an_output_that_cannot_be_written(kitti_source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        import_dataset("kitti", kitti_source, tmp_path / "file" / "out")


@pytest.mark.material
@pytest.mark.parametrize(
    ("format", "folder", "options", "expected"),
    [
        ("kitti", "kitti-day", {}, (75, {"person": 41, "rider": 14, "car": 234, "truck": 10, "train": 9}, 188)),
        (
            "voc",
            "dawn-fog",
            {},
            (171, {"person": 58, "bicycle": 6, "motorcycle": 16, "car": 892, "truck": 66, "bus": 36}, 0),
        ),
        ("yolo", "coco-mini", {"names": "coco"}, (192, None, 0)),
    ],
)
def test_real_datasets_come_in_healthy(
    material: Path, tmp_path: Path, format: str, folder: str, options: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """The counts are those of the label files, taken with grep."""
    result = import_dataset(format, material / "data" / folder, tmp_path / "out", **options)
    images, per_class, ignored = expected
    assert (result.images, result.ignored) == (images, ignored)
    assert per_class is None or result.per_class == per_class
    report = check_dataset(tmp_path / "out")
    assert report.ok, report.problems


@pytest.mark.material
def test_a_thousand_pictures_are_cheap_to_import(material: Path, tmp_path: Path) -> None:
    source = tmp_path / "kitti"
    (source / "image_2").mkdir(parents=True)
    (source / "label_2").mkdir()
    for index in range(1000):
        original = f"{index % 75:06d}"
        (source / f"image_2/{index:06d}.jpeg").symlink_to(material / f"data/kitti-day/image_2/{original}.jpeg")
        (source / f"label_2/{index:06d}.txt").symlink_to(material / f"data/kitti-day/label_2/{original}.txt")
    seconds = []
    for attempt in range(2):  # the first one warms the cache
        start = time.process_time()
        import_dataset("kitti", source, tmp_path / f"out{attempt}")
        seconds.append(time.process_time() - start)
    # The promise is 5 s on the clock of an idle machine (2.1 s measured). Processor time does not depend on who else
    # is busy; twice the promise leaves room for slower processors and still catches pictures being decoded in full.
    assert min(seconds) < 10


@pytest.mark.parametrize("inside", ["", "raw"])
def test_the_source_is_not_overwritten(yolo_source: Path, inside: str) -> None:
    out = yolo_source.parent / "out"
    import_dataset("yolo", yolo_source, out)
    source = yolo_source.rename(out / inside) if inside else out
    before = sorted(out.rglob("*"))
    with pytest.raises(OutputError, match=r"is the dataset itself, lies in it or holds it.*choose another --out"):
        import_dataset("yolo", source, out, overwrite=True)
    assert sorted(out.rglob("*")) == before


def test_labels_in_pixels_are_refused(yolo_source: Path, tmp_path: Path) -> None:
    (yolo_source / "labels/train/a.txt").write_text("0 0.5 0.5 0.2 0.4\n0 100 50 40 40\n")
    with pytest.raises(DatasetError, match=r"a\.txt', line 2: the label '0 100 50 40 40' looks like pixels"):
        import_dataset("yolo", yolo_source, tmp_path / "out")


def test_pictures_that_nobody_has_labelled(tmp_path: Path, picture: Any) -> None:
    street = tmp_path / "street"
    for index in range(3):
        picture(street / "drive" / f"{index}.jpg", seed=index)
    result = import_dataset("yolo", street, tmp_path / "out", names="coco")
    assert (result.splits, result.boxes) == ({"train": 3}, 0)
    assert {"person", "car", "truck"} <= set(result.names) <= set(DRIVING_CLASSES)
    (note,) = result.notes
    assert "has no labels, so its 3 pictures are all unlabelled" in note and "--recipe unlabelled" in note
    report = check_dataset(tmp_path / "out")
    assert report.ok and "No picture is labelled" in report.notes[0]
    with pytest.raises(DatasetError, match=r"drivetl data import yolo .*street/drive --names coco --out DATASET"):
        open_dataset(street / "drive")


@pytest.mark.parametrize("ending", ["txt", "xml", "json"])
def test_labels_in_an_unexpected_place_are_not_taken_for_none(tmp_path: Path, picture: Any, ending: str) -> None:
    picture(tmp_path / "street" / "a.jpg")
    (tmp_path / "street" / "annotations").mkdir()
    (tmp_path / "street" / "annotations" / f"a.{ending}").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DatasetError, match="no folder 'labels/'"):
        import_dataset("yolo", tmp_path / "street", tmp_path / "out", names="coco")
