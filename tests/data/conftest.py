"""Small pictures and small published datasets, made in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

PictureMaker = Callable[..., Path]
JsonMaker = Callable[[Path, Any], Path]


@pytest.fixture
def picture() -> PictureMaker:
    """Write a picture of coarse random blocks: different seeds give clearly different pictures."""

    def make(path: Path, width: int = 200, height: int = 100, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), np.uint8)
        image_bgr = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(path), image_bgr)
        return path

    return make


@pytest.fixture
def as_json() -> JsonMaker:
    def make(path: Path, document: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        return path

    return make


@pytest.fixture
def yolo_source(tmp_path: Path, picture: PictureMaker) -> Path:
    """A YOLO layout with a data.yaml: three pictures to train, one to validate, classes car and person."""
    root = tmp_path / "source"
    labels = {
        "train/a": "0 0.5 0.5 0.2 0.4\n",
        "train/b": "1 0.25 0.5 0.1 0.2\n",
        "train/c": "",
        "val/d": "0 0.5 0.5 1 1\n",
    }
    for seed, (name, text) in enumerate(labels.items()):
        picture(root / "images" / f"{name}.jpg", seed=seed)
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "labels" / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, person]\n")
    return root
