"""Which class names mean the same, and which only look alike."""

from __future__ import annotations

import pytest

from drivetl.taxonomy import DRIVING_CLASSES, canonical_name, map_detections, sources_for

COCO = ["person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "traffic light", "stop sign"]


@pytest.mark.parametrize(
    ("name", "meaning"),
    [("Pedestrian", "person"), ("motor", "motorcycle"), ("Tram", "train"), ("traffic_light", "traffic light")],
)
def test_synonyms_meet(name: str, meaning: str) -> None:
    assert canonical_name(name) == meaning


@pytest.mark.parametrize(
    ("target", "sources"),
    [
        ("Pedestrian", ("person",)),
        ("Van", ("car",)),
        ("Cyclist", ("person", "bicycle")),
        ("rider", ("person",)),
        ("traffic sign", ("stop sign",)),
        ("Misc", ()),
    ],
)
def test_sources_of_a_classifier_row(target: str, sources: tuple[str, ...]) -> None:
    assert sources_for(target, COCO) == sources


def test_every_driving_class_starts_from_coco() -> None:
    assert [name for name in DRIVING_CLASSES if not sources_for(name, COCO)] == []


def test_map_detections_never_renames_into_a_class_that_has_its_own() -> None:
    mapping = map_detections(COCO, ["rider", "person", "traffic sign", "van", "car"])
    named = {COCO[i]: j for i, j in mapping.items()}
    # rider and van stay without detections: person and car are classes of the dataset themselves.
    assert named == {"person": 1, "car": 4, "stop sign": 2}


def test_map_detections_matches_by_meaning() -> None:
    assert map_detections(["car", "person"], ["Pedestrian", "Car"]) == {0: 1, 1: 0}
    assert map_detections(["cat"], ["car"]) == {}


def test_an_exact_name_wins_over_a_synonym() -> None:
    assert map_detections(["person"], ["pedestrian", "person"]) == {0: 1}


def test_the_very_name_wins_over_another_case_and_over_a_synonym() -> None:
    assert map_detections(["car", "Car"], ["Car", "car"]) == {0: 1, 1: 0}
    assert map_detections(["car", "CAR"], ["car", "Car"]) == {0: 0, 1: 0}
    assert map_detections(["pedestrian", "person", "people"], ["pedestrian", "person"]) == {0: 0, 1: 1, 2: 1}
