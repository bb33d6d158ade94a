"""The predictions file: written whole, read strictly, and worth the same to other tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.errors import ConfigError, DatasetError, DrivetlError, OutputError
from drivetl.evaluate import evaluate
from drivetl.evaluate.bootstrap import class_scores, mean_over
from drivetl.evaluate.matching import Found, match
from drivetl.evaluate.predictions import Picture, Predictions, read_predictions

Change = Callable[[dict[str, Any]], object]


def predictions(seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    pictures = tuple(
        Picture(id=i, file_name=f"images/val/{i}.jpg", group=f"g{i // 2}", height=100, width=200) for i in range(4)
    )
    boxes = rng.uniform(1, 50, (9, 4)).astype(np.float32)
    found = Found(rng.integers(0, 4, 9), rng.integers(0, 2, 9), boxes, rng.random(9).astype(np.float32))
    return Predictions("m.pt", "a" * 64, "val", ("car", "person"), pictures, found)


def test_what_was_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    wrote = predictions()
    wrote.write(tmp_path / "p.json")
    read = read_predictions(tmp_path / "p.json")
    assert (read.model, read.split, read.class_names, read.pictures) == (
        "m.pt",
        "val",
        ("car", "person"),
        wrote.pictures,
    )
    assert read.groups == ["g0", "g0", "g1", "g1"]
    order = np.lexsort((-wrote.found.confidence, wrote.found.class_id, wrote.found.picture))
    assert read.found.xywh_px.tobytes() == wrote.found.xywh_px[order].tobytes()
    assert read.found.confidence.tobytes() == wrote.found.confidence[order].tobytes()
    assert read.found.picture.tolist() == wrote.found.picture[order].tolist()
    assert list(tmp_path.iterdir()) == [tmp_path / "p.json"]


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        predictions().write(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    predictions().write(tmp_path / "p.json")
    with pytest.raises(OutputError, match="--overwrite"):
        predictions(1).write(tmp_path / "p.json")
    predictions(1).write(tmp_path / "p.json", overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        predictions().write(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(schema_version=2), r"schema version '2'.*reads 1"),
        (lambda d: d.update(kind="other"), "not a file of predictions"),
        (lambda d: d.pop("split"), "'split' is missing"),
        (lambda d: d.update(splitt="val"), "unknown key 'splitt'.*'split'"),
        (lambda d: d["images"].reverse(), "ids of 'images' must count"),
        (lambda d: d["predictions"][3].update(image_id=4), r"prediction 3 .*unknown picture '4'.*0 to 3"),
        (lambda d: d["predictions"][3].update(image_id=True), "unknown picture 'True'"),
        (lambda d: d["predictions"][0].update(category_id=-1), "unknown class '-1'"),
        (lambda d: d["predictions"][0].update(score=1.5), "score '1.5'"),
        (lambda d: d["predictions"][0].update(score=float("nan")), "score 'nan'"),
        (lambda d: d["predictions"][0].update(bbox=[1, 2, -3, 4]), "bbox"),
        (lambda d: d["predictions"][0].update(bbox=[1, 2, 3]), "bbox"),
        (lambda d: d["predictions"][0].pop("bbox"), "exactly the keys"),
    ],
)
def test_bad_content_is_one_sentence(tmp_path: Path, change: Change, sentence: str) -> None:
    document = predictions().document()
    change(document)
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises((DatasetError, ConfigError), match=sentence) as caught:
        read_predictions(tmp_path / "p.json")
    assert "p.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
def test_what_is_no_predictions_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(DrivetlError, match=r"p\.json"):
        read_predictions(tmp_path / "p.json")
    with pytest.raises(DatasetError, match="No such file"):
        read_predictions(tmp_path / "none.json")


@pytest.mark.material
def test_ap_of_real_predictions_equals_both_references(
    material: Path, coco_mini: Path, tmp_path: Path, reference_ap: Callable[..., np.ndarray]
) -> None:
    """coco-mini val, 80 classes, through the file: our matcher, pycocotools and faster-coco-eval agree to 1e-6."""
    result = evaluate(material / "weights" / "yolo11n.pt", coco_mini, size_hw=(320, 320))
    result.predictions.write(tmp_path / "p.json")
    read = read_predictions(tmp_path / "p.json")
    ours = class_scores(match(result.truth, read.found), np.ones((1, 64), np.int32))[0]
    truth = result.truth
    columns = zip(truth.picture, truth.class_id, truth.xywh_px, truth.crowd, strict=True)
    annotations = [
        {"id": n + 1, "image_id": int(p), "category_id": int(c), "bbox": b.tolist(), "area": float(b[2] * b[3])}
        | {"iscrowd": int(crowd)}
        for n, (p, c, b, crowd) in enumerate(columns)
    ]
    rows = json.loads((tmp_path / "p.json").read_text())["predictions"]
    for module in ("pycocotools", "faster_coco_eval"):
        table = reference_ap(module, annotations, rows, 64, 80)
        np.testing.assert_allclose(ours[:, 0], table.mean(axis=1), atol=1e-6)
        np.testing.assert_allclose(ours[:, 1], table[:, 0], atol=1e-6)
    assert mean_over(ours, range(80))[0] == pytest.approx(result.map50_95, abs=1e-6)
    interval = result.document()["interval"]
    assert interval["groups"] == 64 and interval["note"] is None
    assert 0 < interval["map50_95"][0] < result.map50_95 < interval["map50_95"][1] < 1
