"""Ours beside Ultralytics: the clock is right, and both paths find the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetl.deploy import versus_ultralytics
from drivetl.deploy.versus import MEASURES, Stages, Versus, compare_paths
from drivetl.errors import BundleError, ConfigError


def _path(outside_s: float, infer_s: float, wait: Callable[[float], None]) -> Stages:
    def finish(raw: object, made: object) -> int:
        wait(outside_s)
        return 0

    return (lambda: wait(outside_s), lambda made: wait(infer_s), finish)


def _burn(seconds: float) -> None:
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass


def test_inference_is_left_out_and_sleeping_is_no_cpu_time() -> None:
    found = compare_paths(_path(0.001, 0.004, time.sleep), _path(0.003, 0.004, time.sleep), block=3)
    assert set(found) == set(MEASURES)
    assert 2 <= found["outside_wall"].ours_ms < found["outside_wall"].theirs_ms
    assert found["end_to_end"].ours_ms >= found["outside_wall"].ours_ms + 4
    assert found["outside_wall"].ratio < 0.9
    assert found["outside_cpu"].theirs_ms < found["outside_wall"].theirs_ms / 2


def test_work_is_cpu_time() -> None:
    found = compare_paths(_path(0.001, 0, _burn), _path(0.002, 0, _burn), block=3)["outside_cpu"]
    assert found.ours_ms >= 2 and found.theirs_ms >= 4
    assert found.lowest <= found.ratio <= found.highest < 1


def test_ratios_are_taken_between_neighbours() -> None:
    import numpy as np

    # Everything slows down by a factor of ten half-way; the ratio of neighbours stays.
    found = Versus.of(np.array([1.0, 10.0, 10.0]), np.array([2.0, 20.0, 40.0]))
    assert found == Versus(10.0, 20.0, 0.5, 0.25, 0.5)


@pytest.mark.material
def test_both_paths_find_the_same_number(material: Path, yolo_bundle: Path) -> None:
    picture = sorted((material / "data" / "kitti-day" / "image_2").iterdir())[0]
    seen: list[int] = []
    result = versus_ultralytics(
        yolo_bundle,
        image=picture,
        threads=2,
        iterations=11,
        progress=lambda label, done, total: seen.append(done),
    )
    assert result.detections[0] == result.detections[1] > 0
    # Ultralytics sets torch to one thread less than there are cores; what was asked for holds.
    assert result.threads["torch"] == result.threads["intra_op"] == 2
    assert (result.frames, result.picture_size_hw) == (20, (370, 1224))
    assert seen == list(range(11))
    document: dict[str, Any] = json.loads(json.dumps(result.document()))
    assert set(document["measures"]) == set(MEASURES)


@pytest.mark.material
def test_ultralytics_may_run_the_graph_that_it_exported_itself(
    material: Path, yolo_bundle: Path, tmp_path: Path
) -> None:
    from drivetl.yolo.onnx_export import export_onnx

    weights = material / "weights" / "yolo11n.pt"
    own = tmp_path / "yolo11n.onnx"
    export_onnx(weights, own, size_hw=(256, 320))
    picture = sorted((material / "data" / "kitti-day" / "image_2").iterdir())[0]
    result = versus_ultralytics(yolo_bundle, exported=own, image=picture, threads=1, iterations=10)
    assert result.theirs == "yolo11n.onnx"
    assert result.detections[0] == result.detections[1] > 0
    export_onnx(weights, own, size_hw=(320, 256), overwrite=True)
    with pytest.raises(ConfigError, match=r"has the shapes \[\(1, 3, 320, 256\).*at the same imgsz"):
        versus_ultralytics(yolo_bundle, exported=own, iterations=10)
    with pytest.raises(BundleError, match="cannot read"):
        versus_ultralytics(yolo_bundle, exported=tmp_path / "none.onnx", iterations=10)
