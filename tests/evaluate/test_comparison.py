"""Paired comparison: seeds, folds, refusals, and the arithmetic by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.data import open_dataset
from drivetl.errors import ConfigError, DatasetError
from drivetl.evaluate.comparison import compare
from drivetl.evaluate.matching import Found
from drivetl.evaluate.predictions import Predictions, picture_of

NAMES = ["car", "bus", "person"]


def dataset(folder: Path, *, pictures: int = 12, seed: int = 0, split: str = "val") -> Path:
    """A YOLO-layout dataset: every picture has two cars of 20 px, every third a bus; nobody walks."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(pictures):
        name = f"{seed}-{number}"
        assert cv2.imwrite(str(folder / "images" / split / f"{name}.png"), np.zeros((100, 100, 3), np.uint8))
        rows = [(0, 0.2, 0.2), (0, 0.7, 0.3)] + ([(1, 0.4, 0.8)] if number % 3 == 0 else [])
        lines = [f"{c} {x + rng.uniform(-0.05, 0.05):.4f} {y:.4f} 0.2 0.2" for c, x, y in rows]
        (folder / "labels" / split / f"{name}.txt").write_text("\n".join(lines) + "\n")
    splits = {path.name for path in (folder / "images").iterdir()}
    places = "".join(f"{name}: images/{name}\n" for name in sorted(splits))
    (folder / "data.yaml").write_text(f"train: images/{split}\n{places}names: {json.dumps(NAMES)}\n")
    return folder


def found_by(folder: Path, target: Path, *, skill: float, seed: int = 0, split: str = "val") -> Path:
    """Predictions that hit each box exactly with probability ``skill``, with a false alarm in every picture."""
    data = open_dataset(folder)
    rng = np.random.default_rng(seed)
    samples = list(data.samples(split))
    rows: list[tuple[float, ...]] = []
    for number, sample in enumerate(samples):
        for box in sample.boxes:
            left, top, right, bottom = box.xyxy_px
            if rng.random() < skill:
                rows.append((number, NAMES.index(box.class_name), left, top, right - left, bottom - top, rng.random()))
        rows.append((number, 0, 80.0, 80.0, 10.0, 10.0, rng.random() * 0.8))
    table = np.array(rows, dtype=np.float64)
    ids = table[:, :2].astype(np.int64)
    found = Found(ids[:, 0], ids[:, 1], table[:, 2:6].astype(np.float32), table[:, 6].astype(np.float32))
    pictures = tuple(picture_of(number, sample, data.root) for number, sample in enumerate(samples))
    Predictions(target.stem, data.fingerprint, split, data.names, pictures, found).write(target)
    return target


@pytest.fixture
def road(tmp_path: Path) -> Path:
    return dataset(tmp_path / "road")


def test_a_model_against_itself_cannot_be_told_apart(road: Path, tmp_path: Path) -> None:
    same = found_by(road, tmp_path / "a.json", skill=0.6)
    result = compare([road], [same], [same], min_boxes=4)
    assert result.headline.classes == ("car", "bus")
    assert result.headline.map50_95.difference == 0.0
    assert result.headline.map50_95.p_value == 1.0
    assert result.headline.map50_95.verdict == "cannot tell"


def test_much_better_and_much_worse(road: Path, tmp_path: Path) -> None:
    weak, strong = (found_by(road, tmp_path / f"{s}.json", skill=s) for s in (0.2, 0.95))
    better, worse = compare([road], [weak], [strong]), compare([road], [strong], [weak])
    assert better.headline.classes == ("car",)  # the buses are four
    assert better.headline.map50_95.verdict == "better"
    assert worse.headline.map50_95.verdict == "worse"
    assert better.headline.map50_95.difference == pytest.approx(-worse.headline.map50_95.difference)  # type: ignore
    # No replicate lies beyond zero; of 1,000 replicates and 12 groups that is as small as p gets.
    assert better.headline.map50_95.p_value == pytest.approx(0.013, abs=0.001)
    assert list(better.per_class) == ["car", "bus"]
    assert better.per_class["bus"].groups == 4
    assert better.document()["test_sets"][0]["groups"] == 12


def test_same_seed_same_document(road: Path, tmp_path: Path) -> None:
    weak, strong = (found_by(road, tmp_path / f"{s}.json", skill=s) for s in (0.5, 0.7))
    documents = [compare([road], [weak], [strong], seed=s).document() for s in (1, 1, 2)]
    assert json.dumps(documents[0]) == json.dumps(documents[1])
    assert documents[0]["headline"]["map50_95"]["interval"] != documents[2]["headline"]["map50_95"]["interval"]


def test_seeds_count_by_their_mean(road: Path, tmp_path: Path) -> None:
    start = found_by(road, tmp_path / "z.json", skill=0.5)
    seeds = [found_by(road, tmp_path / f"s{k}.json", skill=0.8, seed=k) for k in range(3)]
    alone = [compare([road], [start], [seed]).headline.map50_95 for seed in seeds]
    together = compare([road], [start], seeds).headline
    assert together.map50_95.after == pytest.approx(np.mean([entry.after for entry in alone]))  # type: ignore
    assert together.map50_95.difference == pytest.approx(np.mean([e.difference for e in alone]))  # type: ignore
    assert together.seeds is not None and together.spread is not None
    assert together.seeds["after"] == pytest.approx([entry.after for entry in alone])
    assert together.spread["after"] == pytest.approx(np.std([entry.after for entry in alone], ddof=1))
    assert together.spread["before"] is None


def test_folds_give_the_mean_of_differences_and_a_pool(tmp_path: Path) -> None:
    folds = [dataset(tmp_path / f"f{k}", pictures=9 + 3 * k, seed=k) for k in range(3)]
    before = [found_by(fold, tmp_path / f"b{k}.json", skill=0.4, seed=k) for k, fold in enumerate(folds)]
    after = [found_by(fold, tmp_path / f"a{k}.json", skill=0.8, seed=k) for k, fold in enumerate(folds)]
    # The order of files on the command line does not matter: fingerprints say where they belong.
    result = compare(folds, before[::-1], after, min_boxes=1)
    alone = [
        compare([f], [b], [a], min_boxes=1).headline.map50_95 for f, b, a in zip(folds, before, after, strict=True)
    ]
    assert result.headline.map50_95.difference == pytest.approx(np.mean([e.difference for e in alone]))  # type: ignore
    by_set = sorted(entry["difference"] for entry in result.headline.per_test_set)  # type: ignore
    assert by_set == pytest.approx(sorted(entry.difference for entry in alone))  # type: ignore
    assert result.headline.groups == 9 + 12 + 15
    assert result.pooled is not None
    assert result.pooled["headline"].boxes == result.headline.boxes == 2 * 36 + 12
    assert result.headline.map50_95.verdict == result.pooled["headline"].map50_95.verdict == "better"
    three = result.headline.map50_95.interval
    assert three is not None and alone[0].interval is not None
    assert three.high - three.low < alone[0].interval.high - alone[0].interval.low


def test_different_numbers_of_seeds_are_not_pooled(tmp_path: Path) -> None:
    folds = [dataset(tmp_path / f"f{k}", seed=k) for k in range(2)]
    before = [found_by(fold, tmp_path / f"b{k}.json", skill=0.4) for k, fold in enumerate(folds)]
    after = [found_by(fold, tmp_path / f"a{k}.json", skill=0.8) for k, fold in enumerate(folds)]
    after.append(found_by(folds[0], tmp_path / "more.json", skill=0.9, seed=4))
    result = compare(folds, before, after)
    assert result.pooled is None and "pooled" in result.notes[0]
    assert result.headline.seeds is not None and result.headline.seeds["after"] is None


def test_a_side_that_lacks_classes_is_said(tmp_path: Path) -> None:
    single = dataset(tmp_path / "one")
    paths = [found_by(single, tmp_path / f"{s}.json", skill=s) for s in (0.2, 0.8)]
    assert compare([single], [paths[0]], [paths[1]]).notes == ()

    def lacking(*names: str) -> str:
        document = json.loads(paths[0].read_text())
        paths[0].write_text(json.dumps({**document, "missing_classes": names}))
        return " ".join(compare([single], [paths[0]], [paths[1]]).notes)

    first, *others = open_dataset(single).names
    assert f"The models before have no class for {first}: their 0" in lacking(first)
    assert "The models before have none of these classes" in lacking(first, *others)


@pytest.mark.parametrize(("pictures", "note"), [(1, "fewer than 2 groups"), (5, "5 groups of pictures, and an .* 6,")])
def test_few_groups_give_no_interval(tmp_path: Path, pictures: int, note: str) -> None:
    single = dataset(tmp_path / "one", pictures=pictures)
    weak, strong = (found_by(single, tmp_path / f"{s}.json", skill=s) for s in (0.0, 1.0))
    result = compare([single], [weak], [strong], min_boxes=1)
    assert result.headline.map50_95.interval is None
    assert result.headline.map50_95.p_value is None
    assert result.headline.map50_95.verdict == "cannot tell"
    assert re.search(note, result.notes[0])


Call = Callable[[Path, dict[str, Path]], Any]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda d, p: compare([d], [p["road"]], [p["other"]]),
            r"other\.json' was made on .* [0-9a-f]{64}.*road",
        ),
        (lambda d, p: compare([d], [p["road"]], [p["test"]]), r"'val' of the dataset.*'test' of the dataset"),
        (lambda d, p: compare([d, d], [p["road"]], [p["test"]]), "no --after for the split 'val'"),
        (lambda d, p: compare([d], [p["road"]], [p["road"]], classes=["cat"]), "'cat', which is none of 'car, bus"),
        (lambda d, p: compare([d], [p["road"]], [p["road"]], classes=["person"]), "no box of 'person'"),
        (lambda d, p: compare([d], [p["road"]], [p["road"]], min_boxes=99), "'car' with 24; lower --min-boxes"),
        (
            lambda d, p: compare([d], [p["road"]], [p["road"]], only=["person"]),
            "no labelled box of the classes that are",
        ),
        (lambda d, p: compare([d], [p["road"]], [p["renamed"]]), r"picture 'images/val/stranger\.png'"),
        (lambda d, p: compare([d], [p["road"]], [p["shuffled"]]), "order, size or group"),
        (lambda d, p: compare([d], [p["road"]], []), "at least one"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, call: Call, sentence: str) -> None:
    folder = dataset(dataset(tmp_path / "road"), pictures=4, seed=1, split="test")
    other = dataset(tmp_path / "other", seed=5)
    files = {
        "road": found_by(folder, tmp_path / "road.json", skill=0.5),
        "test": found_by(folder, tmp_path / "test.json", skill=0.5, split="test"),
        "other": found_by(other, tmp_path / "other.json", skill=0.5),
    }
    document = json.loads(files["road"].read_text())
    document["images"][0]["file_name"] = "images/val/stranger.png"
    files["renamed"] = tmp_path / "renamed.json"
    files["renamed"].write_text(json.dumps(document))
    document["images"][0]["file_name"], document["images"][0]["group"] = "images/val/0-0.png", "elsewhere"
    files["shuffled"] = tmp_path / "shuffled.json"
    files["shuffled"].write_text(json.dumps(document))
    with pytest.raises((DatasetError, ConfigError), match=sentence):
        call(folder, files)
