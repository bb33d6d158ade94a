"""AP by an independent, slow, plain implementation of the COCO protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivetl.data.records import Box, IgnoreRegion, Sample
from drivetl.evaluate.scoring import Collector
from drivetl.runtime import Detections

NAMES = ("car", "person")
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def sample(boxes: list[tuple[str, tuple[float, ...]]], ignore: tuple[IgnoreRegion, ...] = ()) -> Sample:
    labelled = tuple(Box(name, (xyxy[0], xyxy[1], xyxy[2], xyxy[3])) for name, xyxy in boxes)
    return Sample(Path("x.jpg"), (400, 400), "val", "g", labelled, ignore)


def detections(rows: list[tuple[float, float, float, float, float, int]]) -> Detections:
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    order = np.argsort(-table[:, 4], kind="stable")
    table = table[order]
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def overlap(a: np.ndarray, b: np.ndarray, crowd: bool) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return float(shared / (area_a if crowd else area_a + area_b - shared))


def plain_ap(pictures: list[tuple[Sample, Detections]], class_id: int, threshold: float) -> float:
    """Average precision of one class at one IoU, written from the protocol's description."""
    outcomes: list[tuple[float, bool]] = []
    positives = 0
    for picture, found in pictures:
        truth = [np.array(b.xyxy_px) for b in picture.boxes if b.class_name == NAMES[class_id]]
        crowds = [np.array(r.xyxy_px) for r in picture.ignore if r.class_name in (None, NAMES[class_id])]
        positives += len(truth)
        free = set(range(len(truth)))
        for i in np.flatnonzero(found.class_id == class_id):
            box = found.xyxy_px[i].astype(float)
            best = max(free, key=lambda j: overlap(box, truth[j], False), default=None)
            if best is not None and overlap(box, truth[best], False) >= threshold:
                free.discard(best)
                outcomes.append((float(found.confidence[i]), True))
            elif not any(overlap(box, crowd, True) >= threshold for crowd in crowds):
                outcomes.append((float(found.confidence[i]), False))
    outcomes.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in outcomes])
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / positives
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.mean([precision[recall >= r].max(initial=0.0) for r in RECALLS]))


def random_picture(rng: np.random.Generator) -> tuple[Sample, Detections]:
    corners = rng.uniform(0, 300, (8, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 90, (8, 2))], axis=1)
    classes = rng.integers(0, 2, 8)
    found = boxes + rng.normal(0, 4, boxes.shape)
    clutter_at = rng.uniform(0, 300, (6, 2))
    clutter = np.concatenate([clutter_at, clutter_at + rng.uniform(20, 90, (6, 2))], axis=1)
    region = (0.0, 0.0, 150.0, 150.0)
    labelled = [(NAMES[c], tuple(float(v) for v in box)) for c, box in zip(classes[:6], boxes[:6], strict=True)]
    rows = [
        (*(float(v) for v in box), float(rng.uniform()), int(c))
        for box, c in zip(np.concatenate([found, clutter]), [*classes, *rng.integers(0, 2, 6)], strict=True)
    ]
    return sample(labelled, (IgnoreRegion(region), IgnoreRegion((200.0, 200.0, 390.0, 390.0), "car"))), detections(rows)


@pytest.mark.parametrize("seed", range(5))
def test_ap_equals_the_plain_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = [random_picture(rng) for _ in range(12)]
    collector = Collector(NAMES)
    for picture, found in pictures:
        collector.add(picture, found)
    score = collector.score()
    for class_id, name in enumerate(NAMES):
        expected = np.mean([plain_ap(pictures, class_id, t) for t in THRESHOLDS])
        assert score.per_class[name].map50_95 == pytest.approx(expected, abs=1e-6)
        assert score.per_class[name].map50 == pytest.approx(plain_ap(pictures, class_id, 0.5), abs=1e-6)


def test_a_region_to_ignore_is_neither_hit_nor_miss() -> None:
    region = IgnoreRegion((200.0, 200.0, 300.0, 300.0))
    car = ("car", (10.0, 10.0, 60.0, 60.0))
    inside = (210.0, 210.0, 240.0, 240.0, 0.99, 0)
    hit = (10.0, 10.0, 60.0, 60.0, 0.5, 0)
    figures = []
    for ignore in ((), (region,)):
        collector = Collector(NAMES)
        collector.add(sample([car], ignore), detections([inside, hit]))
        figures.append(collector.score().map50)
    assert figures == [pytest.approx(0.5, abs=1e-6), pytest.approx(1.0)]


def test_classes_without_a_box_are_not_in_the_mean() -> None:
    collector = Collector(NAMES)
    collector.add(sample([("car", (10.0, 10.0, 60.0, 60.0))]), detections([(10, 10, 60, 60, 0.9, 0)]))
    score = collector.score()
    assert score.map50_95 == pytest.approx(1.0)
    assert score.per_class["person"].map50_95 is None
    assert score.boxes == 1


def test_nothing_found_is_zero_and_no_boxes_is_none() -> None:
    collector = Collector(NAMES)
    collector.add(sample([("car", (10.0, 10.0, 60.0, 60.0))]), detections([]))
    collector.add(sample([]), detections([(10, 10, 60, 60, 0.9, 0)]))
    assert collector.score().map50_95 == 0.0
    assert collector.score([1]).map50_95 is None


def test_a_subset_counts_only_its_pictures() -> None:
    collector = Collector(NAMES)
    collector.add(sample([("car", (10.0, 10.0, 60.0, 60.0))]), detections([(10, 10, 60, 60, 0.9, 0)]))
    collector.add(sample([("car", (10.0, 10.0, 60.0, 60.0))]), detections([]))
    assert collector.score([0]).map50 == pytest.approx(1.0)
    assert collector.score([1]).map50 == 0.0
    assert collector.score().map50 == pytest.approx(0.5, abs=0.01)
