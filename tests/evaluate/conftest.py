"""Datasets and reference evaluators that several tests of evaluation need."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetl.data import import_dataset


@pytest.fixture(scope="session")
def coco_mini(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The COCO pictures with their 80 classes: 128 in train, 64 in val."""
    out = tmp_path_factory.mktemp("data") / "coco"
    import_dataset("yolo", material / "data" / "coco-mini", out, classes="native", names="coco")
    return out


@pytest.fixture
def reference_ap() -> Callable[..., np.ndarray]:
    """A function that scores COCO annotations and results with one of the two well-known evaluators."""
    return _reference_ap


def _reference_ap(
    module: str, truth: list[dict[str, Any]], found: list[dict[str, Any]], pictures: int, classes: int = 3
) -> np.ndarray:
    """AP by class and threshold, ``(classes, 10)``, NaN without boxes, by one of the two well-known evaluators."""
    if module == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": i, "height": 100, "width": 100} for i in range(pictures)],
            "annotations": [dict(row) for row in truth],
            "categories": [{"id": i, "name": f"class {i}"} for i in range(classes)],
        }
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes([dict(row) for row in found]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    table = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
    table = np.where(table < 0, np.nan, table)
    return table.mean(axis=1).T
