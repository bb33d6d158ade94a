"""Bundles to deploy: a real one made once, and an export whose slow step is replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetl.deploy import export


@pytest.fixture(scope="session")
def yolo_bundle(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLO11n at 256x320, exported once; copy it before changing it."""
    out = tmp_path_factory.mktemp("yolo") / "bundle"
    return export(material / "weights" / "yolo11n.pt", out, size_hw=(256, 320)).bundle


@pytest.fixture
def quick_export(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Callable[..., Path], tmp_path: Path
) -> Callable[..., Any]:
    """`export` with Ultralytics' part replaced by the tiny network; everything after it is real."""
    graph = tiny_bundle("graph-to-export") / "model.onnx"

    def without_contract(weights: Path, target: Path, *, size_hw: tuple[int, int], **graph_of: Any) -> dict[str, Any]:
        import onnx

        model = onnx.load(str(graph))
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {"stride": "8", "author": "somebody"})
        onnx.save(model, str(target))
        return {
            "tools": {"torch": "0"},
            "names": ["bright", "dark"],
            "sha256": "ab" * 32,
            "licence": "AGPL-3.0 License (https://ultralytics.com/license)",
            "opset": 17,
            "input": {"name": "images", "shape": [1, 3, *size_hw]},
            "output": {"name": "output0", "shape": [1, 6, 64]},
        }

    monkeypatch.setattr("drivetl.yolo.onnx_export.export_onnx", without_contract)

    def run(out: Path, **options: Any) -> Any:
        return export(tmp_path / "weights.pt", out, size_hw=(64, 64), **options)

    return run


@pytest.fixture
def road_pictures(material: Path, tmp_path: Path) -> Path:
    """A dataset of eight real val2017 pictures without labels, in the YOLO layout."""
    folder = tmp_path / "pictures" / "images" / "val"
    folder.mkdir(parents=True)
    for path in sorted((material / "data" / "coco-mini" / "images" / "val2017").iterdir())[:8]:
        shutil.copy(path, folder)
    (tmp_path / "pictures" / "data.yaml").write_text("val: images/val\nnames: [person, car]\n", encoding="utf-8")
    return tmp_path / "pictures"
