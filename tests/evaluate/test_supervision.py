"""A dataset and a predictions file that drivetl wrote, opened and scored by another tool: roboflow's supervision."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.data import import_dataset, open_dataset
from drivetl.evaluate.boxes import Found
from drivetl.evaluate.labels import read_labels
from drivetl.evaluate.predictions import Predictions
from drivetl.evaluate.recorded import evaluate_recorded

NAMES = ("person", "car")


def written(folder: Path) -> Path:
    """Twelve pictures with up to six boxes, imported from a plain YOLO layout."""
    rng = np.random.default_rng(4)
    for kind in ("images", "labels"):
        (folder / "source" / kind / "val").mkdir(parents=True)
    for number in range(12):
        image = rng.integers(0, 256, (120, 200, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / "source" / "images" / "val" / f"{number:02d}.png"), image)
        lines = []
        for _ in range(int(rng.integers(0, 7))):
            wide, high = rng.uniform(0.08, 0.4, 2)
            centre = rng.uniform(wide / 2, 1 - wide / 2), rng.uniform(high / 2, 1 - high / 2)
            lines.append(f"{rng.integers(0, 2)} {centre[0]:.6f} {centre[1]:.6f} {wide:.6f} {high:.6f}")
        (folder / "source" / "labels" / "val" / f"{number:02d}.txt").write_text("\n".join(lines))
    (folder / "source" / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [person, car]\n")
    import_dataset("yolo", folder / "source", folder / "dataset", classes="native", link="copy")
    return folder / "dataset"


def predicted(data: Path, split: str) -> Predictions:
    """Near misses of every box, some of them of the wrong class, and clutter."""
    rng = np.random.default_rng(5)
    labels = read_labels(data, split)
    truth = labels.truth
    copies = rng.integers(0, len(truth.picture), 2 * len(truth.picture))
    xywh = truth.xywh_px[copies] * rng.uniform(0.85, 1.15, (len(copies), 4))
    class_id = np.where(rng.random(len(copies)) < 0.85, truth.class_id[copies], 1 - truth.class_id[copies])
    confidence = rng.permutation(len(copies)) / len(copies)
    found = Found(truth.picture[copies], class_id, xywh.astype(np.float32), confidence.astype(np.float32))
    return Predictions("made up", open_dataset(data).fingerprint, split, NAMES, labels.pictures, found)


# supervision announces its own next version, and OpenCV and Pillow theirs.
@pytest.mark.filterwarnings("ignore")
def test_supervision_opens_the_dataset_and_scores_the_same(tmp_path: Path) -> None:
    import supervision
    from supervision.metrics import MeanAveragePrecision

    data = written(tmp_path)
    dataset = open_dataset(data)
    assert dataset.names == NAMES
    split = next(iter(dataset.splits))
    predictions = predicted(data, split)
    predictions.write(tmp_path / "p.json")
    score = evaluate_recorded(tmp_path / "p.json", data).score

    opened = supervision.DetectionDataset.from_yolo(
        str(data / "images" / split), str(data / "labels" / split), str(data / "data.yaml")
    )
    assert tuple(opened.classes) == NAMES and len(opened) == dataset.splits[split]
    document = json.loads((tmp_path / "p.json").read_text())
    by_name = {Path(image["file_name"]).name: image["id"] for image in document["images"]}
    targets, found = [], []
    for path, _, labelled in opened:
        rows = [row for row in document["predictions"] if row["image_id"] == by_name[Path(path).name]]
        table = np.array([(*row["bbox"], row["score"], row["category_id"]) for row in rows]).reshape(-1, 6)
        xyxy = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
        found.append(supervision.Detections(xyxy=xyxy, confidence=table[:, 4], class_id=table[:, 5].astype(int)))
        targets.append(labelled)
    boxes = sum(len(target) for target in targets)
    assert boxes == score.boxes > 20
    theirs = MeanAveragePrecision().update(found, targets).compute()
    assert score.map50_95 is not None and 0.1 < score.map50_95 < 0.9
    # The label files hold six decimals, which moves a box by less than 0.001 px.
    assert float(theirs.map50) == pytest.approx(score.map50, abs=2e-3)
    assert float(theirs.map50_95) == pytest.approx(score.map50_95, abs=2e-3)
