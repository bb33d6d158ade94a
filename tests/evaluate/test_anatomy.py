"""Kinds of errors, confusion, calibration and thresholds, on pictures small enough to count by hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from drivetl.evaluate.anatomy import anatomy
from drivetl.evaluate.benchmark import synthetic
from drivetl.evaluate.boxes import Found, Truth
from drivetl.evaluate.detected import detected
from drivetl.evaluate.errors_by_kind import KINDS, kinds_of
from drivetl.evaluate.operating import curve, threshold_for
from drivetl.evaluate.recorded import score_of
from drivetl.runtime import Letterbox, decode
from drivetl.verbs._slices import error_lines

NAMES = ("car", "person")
# picture, class, left, top, width, height, crowd
BOXES = [
    (0, 0, 0, 0, 100, 100, 0),
    (0, 0, 200, 0, 100, 100, 0),
    (0, 1, 400, 0, 100, 100, 0),
    (1, 0, 0, 0, 100, 100, 0),
    (1, 0, 500, 500, 100, 100, 1),
]
# picture, class, left, top, width, height, confidence; in the comment what it is
FOUND = [
    (0, 0, 0, 0, 100, 100, 0.9),  # hit
    (0, 0, 5, 0, 100, 100, 0.8),  # duplicate of it
    (0, 0, 260, 0, 100, 100, 0.7),  # localisation: IoU 0.25 with the second car
    (0, 0, 400, 0, 100, 90, 0.6),  # classification: the person
    (0, 0, 460, 0, 100, 100, 0.5),  # both: IoU 0.25 with the person
    (1, 1, 700, 700, 50, 50, 0.4),  # background
    (1, 0, 510, 510, 50, 50, 0.95),  # in the region to ignore
    (1, 1, 720, 700, 50, 50, 0.1),  # background, below the threshold
]


def truth_of(rows: list[tuple[float, ...]], pictures: int = 2) -> Truth:
    table = np.array(rows, float).reshape(-1, 7)
    ids = table[:, :2].astype(int)
    return Truth(ids[:, 0], ids[:, 1], table[:, 2:6], table[:, 6] > 0, pictures, 2)


def found_of(rows: list[tuple[float, ...]]) -> Found:
    table = np.array(rows, float).reshape(-1, 7)
    ids = table[:, :2].astype(int)
    return Found(ids[:, 0], ids[:, 1], table[:, 2:6].astype(np.float32), table[:, 6].astype(np.float32))


def document(**options: Any) -> dict[str, Any]:
    return anatomy(truth_of(BOXES), found_of(FOUND), NAMES, **options)


def test_every_error_has_its_kind() -> None:
    seen = detected(truth_of(BOXES), found_of(FOUND))
    kind, box = kinds_of(seen)
    words = {round(float(c), 2): "-" if k < 0 else KINDS[k] for c, k in zip(seen.found.confidence, kind, strict=True)}
    assert words == {
        0.9: "-",
        0.95: "-",
        0.8: "duplicate",
        0.7: "localisation",
        0.6: "classification",
        0.5: "both",
        0.4: "background",
        0.1: "background",
    }
    assert sorted(box[box >= 0].tolist()) == [1, 2]
    kinds = document()["kinds"]
    counts = {name: entry["count"] for name, entry in kinds.items()}
    # Of four boxes one is found, one is explained by each of two errors, one is missed.
    assert counts == dict.fromkeys(KINDS, 1)
    assert sum(entry["share"] for entry in kinds.values()) == pytest.approx(1.0)
    assert document()["hits"] == 1


def test_mending_an_error_gives_what_it_costs() -> None:
    kinds = document()["kinds"]
    # car: 3 boxes, in order hit, duplicate, localisation, classification, both: one recall level of three at 1.0.
    before = 34 / 101 / 2
    assert document()["ap50"] == pytest.approx(before, abs=1e-9)
    # The localisation mended is the second hit of three detections: precision 2/3 for recall levels 34 to 66.
    assert kinds["localisation"]["ap50_cost"] == pytest.approx((33 * 2 / 3) / 101 / 2, abs=1e-9)
    # The person is then found, by the most confident detection of its class.
    assert kinds["classification"]["ap50_cost"] == pytest.approx(0.5, abs=1e-9)
    for harmless in ("duplicate", "background", "both"):
        assert kinds[harmless]["ap50_cost"] == pytest.approx(0.0, abs=1e-9)
    # Without the car that nothing comes near, one of two cars is found at precision 1: 51 levels instead of 34.
    assert kinds["missed"]["ap50_cost"] == pytest.approx((51 - 34) / 101 / 2, abs=1e-9)


def test_the_confusion_matrix_counts_boxes_and_false_alarms() -> None:
    table = np.array(document()["confusion"]["table"])
    assert table.tolist() == [[1, 0, 2], [1, 0, 0], [3, 1, 0]]
    assert table[:2].sum() == 4


def test_calibration_is_the_distance_of_confidence_from_precision() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.05, 1, 4000)
    right = rng.random(4000) < confidence
    boxes = [(n, 0, 0, 0, 50, 50, 0) for n in range(4000)]
    rows = [(n, 0, 0 if ok else 200, 0, 50, 50, c) for n, (c, ok) in enumerate(zip(confidence, right, strict=True))]
    honest = anatomy(truth_of(boxes, 4000), found_of(rows), NAMES)["calibration"]
    assert honest["d_ece"] < 0.03 and honest["detections"] == 4000
    assert sum(entry["detections"] for entry in honest["bins"]) == 4000
    boastful = [(*row[:6], 0.95) for row in rows]
    error = anatomy(truth_of(boxes, 4000), found_of(boastful), NAMES)["calibration"]["d_ece"]
    assert error == pytest.approx(0.95 - right.mean(), abs=1e-6)


def test_thresholds_give_what_was_asked_for() -> None:
    truth, found, _, _ = synthetic(60, np.random.default_rng(0))
    seen = detected(truth, found)
    whole = curve(seen)
    for recall in (0.2, 0.6):
        gives = threshold_for(whole, recall=recall)
        assert gives is not None and gives["recall"] >= recall
        kept = seen.found.confidence > np.float32(gives["threshold"])  # the detector's rule
        assert (seen.hit & kept).sum() / whole.boxes == pytest.approx(gives["recall"])
        stricter = seen.found.confidence > np.nextafter(np.float32(gives["threshold"]), np.float32(1))
        assert (seen.hit & stricter).sum() / whole.boxes < recall
    gives = threshold_for(whole, false_alarms=0.5)
    assert gives is not None and gives["false_alarms_per_picture"] <= 0.5
    alarms = ~seen.hit & ~seen.ignored & (seen.found.confidence > np.float32(gives["threshold"]))
    assert alarms.sum() / 60 == pytest.approx(gives["false_alarms_per_picture"])
    assert threshold_for(whole, recall=1.0) is None
    asked = document(recall=0.9, false_alarms=1.0)["thresholds"]
    assert asked[0]["gives"] is None and asked[1]["gives"]["false_alarms_per_picture"] <= 1.0


def test_a_threshold_keeps_in_the_car_what_it_promises() -> None:
    confidence = np.random.default_rng(0).uniform(0.05, 0.95, 40).astype(np.float32)
    boxes = [(0, 0, 50 * n, 0, 40, 40, 0) for n in range(40)]
    found = [(*boxes[n][:6], float(confidence[n])) for n in range(40)]
    scores = np.zeros((1, 5, 40), np.float32)
    scores[0, 0], scores[0, 1:4], scores[0, 4] = 50 * np.arange(40) + 20, [[20], [40], [40]], confidence
    geometry = Letterbox((2048, 2048))(np.zeros((2048, 2048, 3), np.uint8))[1]
    for count in range(1, 41):
        result = anatomy(truth_of(boxes), found_of(found), NAMES, recall=count / 40)
        gives = result["thresholds"][0]["gives"]
        said = re.search(r"threshold (\S+) \(", "\n".join(error_lines(result)))
        assert said is not None and gives["recall"] == count / 40
        for threshold in (gives["threshold"], float(said[1])):
            assert len(decode(scores, geometry, confidence=threshold)) == count


def test_ap50_and_curves_are_those_of_the_evaluation() -> None:
    truth, found, _, _ = synthetic(60, np.random.default_rng(3))
    names = tuple("abcdef")
    result = anatomy(truth, found, names)
    score = score_of(truth, found, names)
    assert result["ap50"] == pytest.approx(score.map50, abs=1e-9)
    for name, entry in result["curves"]["classes"].items():
        assert np.mean(entry["precision"]) == pytest.approx(score.per_class[name].map50, abs=1e-4)
    table = np.array(result["confusion"]["table"])
    assert table[:-1].sum() == score.boxes


def test_nothing_found_and_no_boxes() -> None:
    nothing = anatomy(truth_of(BOXES), found_of([]), NAMES, recall=0.5, false_alarms=1)
    assert nothing["kinds"]["missed"]["count"] == 4 and nothing["ap50"] == 0.0
    assert nothing["calibration"]["d_ece"] is None
    assert [entry["gives"] for entry in nothing["thresholds"]] == [None, None]
    empty = anatomy(truth_of([]), found_of(FOUND), NAMES)
    assert empty["ap50"] is None and empty["kinds"]["background"]["count"] == 7
    assert empty["curves"]["classes"] == {}
