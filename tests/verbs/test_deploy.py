"""The verbs export, verify and bench, as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl.runtime.requirements import missing_for

PROJECT = Path(__file__).resolve().parents[2]


def _drivetl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "drivetl", *words], capture_output=True, text=True, cwd=PROJECT)


def test_bench_gives_one_json_document_and_status_0(tiny_bundle: Callable[..., Path]) -> None:
    done = _drivetl("bench", str(tiny_bundle()), "--profile", "x86-cpu", "--iterations", "20", "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["verb"] == "bench" and document["provider"] == "cpu"
    assert document["budget_ms"] == 100.0
    assert done.returncode == (0 if document["passed"] else 1)


def test_bench_over_budget_prints_its_figures_and_exits_1(tiny_bundle: Callable[..., Path]) -> None:
    done = _drivetl("bench", str(tiny_bundle()), "--budget-ms", "0.001", "--iterations", "5", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["passed"] is False and document["deadline_miss_rate"] == 1.0
    assert "over the budget of 0.001 ms" in done.stderr


@pytest.mark.skipif(missing_for("cuda") is None, reason="this machine can run CUDA")
def test_bench_on_a_gpu_that_is_not_there_exits_1_without_a_number(tiny_bundle: Callable[..., Path]) -> None:
    done = _drivetl("bench", str(tiny_bundle()), "--provider", "cuda")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "cuda was asked for and cannot run here" in done.stderr
    assert "Traceback" not in done.stderr


def test_bench_of_what_is_no_bundle_exits_2_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    done = _drivetl("bench", str(tmp_path / "model.onnx"))
    assert done.returncode == 2
    assert done.stderr.startswith("drivetl: error: ") and done.stderr.count("\n") == 1


def test_versus_beside_a_budget_is_refused(tiny_bundle: Callable[..., Path]) -> None:
    done = _drivetl("bench", str(tiny_bundle()), "--versus", "ultralytics", "--budget-ms", "30")
    assert done.returncode == 2 and "no use for --budget-ms" in done.stderr and done.stderr.count("\n") == 1


IDLE = {
    "bench b --predict jetson-orin-nx --iterations 9": "--predict has no use for --iterations",
    "bench b --engine-cache e": "--engine-cache keeps engines of TensorRT, and cpu has none",
    "bench b --engine-cache e --profile x86-cpu": "--engine-cache keeps engines of TensorRT, and cpu has none",
    "bench b --engine-cache e --versus other --provider cuda": "--engine-cache keeps engines of TensorRT, and cuda has",
    "verify b --weights w.pt --data d --engine-cache e": "--engine-cache keeps engines of TensorRT, and cpu has none",
    "export w.pt --out o --max-drop 2": "--max-drop without --calibrate has no effect; give --calibrate too, or leave",
}


@pytest.mark.parametrize(("words", "sentence"), IDLE.items())
def test_options_without_effect_are_refused(words: str, sentence: str) -> None:
    done = _drivetl(*words.split())
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--precision", "fp16", "--dynamic", "--for", "jetson-orin-nano"), "give --size-range SMALLEST,LARGEST"),
        (("--dynamic", "--for", "rtx-workstation"), "leave --dynamic out and give --imgsz"),
        (("--for", "jetson-orin-nano"), "give --precision fp16"),
        (("--dynamic", "--size-range", "640,320"), "--size-range takes the smallest and the largest size"),
        (("--dynamic", "--size-range", "small,large"), "--size-range takes 640, or 384x640"),
        (("--for", "toaster"), "toaster"),
    ],
)
def test_an_export_that_the_hardware_could_not_use_is_refused_before_the_work(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    done = _drivetl("export", "nothing.pt", "--out", str(tmp_path / "out"), *words)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.material
def test_export_verify_and_bench_of_real_weights(material: Path, tmp_path: Path) -> None:
    weights, dataset, bundle = str(material / "weights" / "yolo11n.pt"), tmp_path / "data", tmp_path / "bundle"
    for kind in ("images", "labels"):
        (dataset / kind / "val").mkdir(parents=True)
        source = material / "data" / "coco-mini" / kind / "val2017"
        suffix = ".jpg" if kind == "images" else ".txt"
        for path in sorted((material / "data" / "coco-mini" / "labels" / "val2017").iterdir())[:6]:
            (dataset / kind / "val" / f"{path.stem}{suffix}").symlink_to(source / f"{path.stem}{suffix}")
    names = [f"class {i}" for i in range(80)]
    names[:3] = "person", "bicycle", "car"
    (dataset / "data.yaml").write_text(f"val: images/val\nnames: {json.dumps(names)}\n", encoding="utf-8")

    done = _drivetl("export", weights, "--imgsz", "320", "--golden", str(dataset), "--out", str(bundle), "--json")
    assert done.returncode == 0, done.stderr
    exported = json.loads(done.stdout)
    assert (exported["precision"], exported["input_size_hw"]) == ("fp32", [320, 320])
    assert exported["bytes"] == (bundle / "model.onnx").stat().st_size

    done = _drivetl("verify", str(bundle), "--weights", weights, "--data", str(dataset), "--json")
    assert done.returncode == 0, done.stderr
    verified = json.loads(done.stdout)
    assert verified["passed"] and verified["matched"] == 1.0
    assert verified["max_abs_diff_scores"] <= 1e-3 and verified["max_abs_diff_px"] <= 0.1
    assert abs(verified["delta_map50_95"]) <= 1e-3 and verified["map50_95"]["weights"] > 0
    contract = json.loads((bundle / "contract.json").read_text(encoding="utf-8"))
    assert contract["verification"]["passed"] is True

    again = _drivetl("export", weights, "--out", str(bundle))
    assert again.returncode == 2 and "--overwrite" in again.stderr
    other = _drivetl(
        "verify", str(bundle), "--weights", str(material / "weights" / "yolov8n.pt"), "--data", str(dataset)
    )
    assert other.returncode == 2 and "sha256" in other.stderr

    cv2.imwrite(str(tmp_path / "frame.png"), np.full((72, 128, 3), 90, np.uint8))
    done = _drivetl("bench", str(bundle), "--image", str(tmp_path / "frame.png"), "--iterations", "5")
    assert done.returncode == 0, done.stderr
    assert "end_to_end" in done.stdout and "frame.png" in done.stdout

    done = _drivetl("bench", str(bundle), "--versus", "ultralytics", "--iterations", "10", "--json")
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["measures"]["outside_wall"]["ratio"] < 5
