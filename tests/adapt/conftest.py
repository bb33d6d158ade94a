"""A dataset of a few drawn pictures, and weights with random values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.adapt.config import TrainConfig

Configure = Callable[..., TrainConfig]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Run torch on one thread: the models are tiny, and threads that wait for each other cost more than they give."""
    from drivetl.yolo.ultra import set_threads

    set_threads(1)


def draw_dataset(root: Path, **splits: int) -> Path:
    """Write a YOLO dataset: bright rectangles on noise, one box a picture."""
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(0, 80, (64, 96, 3), dtype=np.uint8)
            image[16:48, 24:72] = 220
            cv2.imwrite(str(root / "images" / split / f"{index}.jpg"), image)
            (root / "labels" / split / f"{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.5 0.5\n")
    paths = "".join(f"{split}: images/{split}\n" for split in splits)
    (root / "data.yaml").write_text(f"path: .\n{paths}names: [car, pedestrian, dragon]\n")
    return root


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("drawn"), train=4, val=2)


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from drivetl.yolo.ultra import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel("yolo11n.yaml", nc=4, verbose=False)
    model.names = {0: "person", 1: "bicycle", 2: "car", 3: "boat"}
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"model": model, "train_args": {"imgsz": 64}}, path)
    return path


@pytest.fixture
def configure(drawn: Path, random_weights: Path) -> Configure:
    """Return settings for the smallest run there is, with changes."""

    def make(**changes: Any) -> TrainConfig:
        base = {
            "data": drawn,
            "weights": str(random_weights),
            "epochs": 3,
            "imgsz": 64,
            "batch": 2,
            "threads": 1,
            "min_optimiser_steps": 6,
        }
        return TrainConfig(**{**base, **changes})

    return make
