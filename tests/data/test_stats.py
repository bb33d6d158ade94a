from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.data import dataset_stats, draw_stats, import_dataset


def test_counts_by_hand(yolo_source: Path) -> None:
    stats = dataset_stats(yolo_source)
    assert (stats.images, stats.boxes, stats.splits) == (4, 3, {"train": 3, "val": 1})
    assert stats.per_class == {"car": {"train": 1, "val": 1}, "person": {"train": 1, "val": 0}}
    # Boxes of 40 x 40, 20 x 20 and 200 x 100 pixels: sides of 40, 20 and 141.4.
    assert {label: count for label, count in stats.sizes_px.items() if count} == {"16-32": 1, "32-64": 1, "128-256": 1}
    assert {label: count for label, count in stats.boxes_per_picture.items() if count} == {"0": 1, "1": 3}
    position = np.array(stats.position)
    # Centres (0.5, 0.5) twice and (0.25, 0.5): cells 8 and 4 of 16 across, 8 down.
    assert (position.sum(), position[8, 8], position[8, 4]) == (3, 2, 1)


def test_conditions(tmp_path: Path, picture: Any, as_json: Any) -> None:
    frames = []
    for index, weather in enumerate(("clear", "rainy", "clear")):
        picture(tmp_path / f"bdd/images/train/{index}.jpg", seed=index)
        label = {"category": "car", "box2d": {"x1": 1, "y1": 1, "x2": 50, "y2": 50}}
        frames.append(
            {"name": f"{index}.jpg", "attributes": {"weather": weather, "timeofday": "night"}, "labels": [label]}
        )
    as_json(tmp_path / "bdd/labels/det_train.json", frames)
    import_dataset("bdd100k", tmp_path / "bdd", tmp_path / "out")
    stats = dataset_stats(tmp_path / "out")
    assert stats.conditions == {"timeofday": {"night": 3}, "weather": {"clear": 2, "rainy": 1}}


def test_the_drawing_shows_the_longest_bar_longest(yolo_source: Path) -> None:
    drawn = draw_stats(dataset_stats(yolo_source))
    assert drawn.dtype == np.uint8
    assert drawn.shape[1:] == (1280, 3)
    bar = (drawn == (178, 114, 0)).all(axis=2)
    # The first panel has car (2 boxes) over person (1): rows 48 to 72 and 72 to 96.
    car, person = bar[60].sum(), bar[84].sum()
    assert car == pytest.approx(2 * person, abs=3)
    assert person > 50
