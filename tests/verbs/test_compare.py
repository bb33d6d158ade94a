"""``drivetl evaluate --predictions`` and ``drivetl compare`` as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.data import open_dataset
from drivetl.data.layout import Origin, write_dataset
from drivetl.errors import ConfigError, DatasetError, OutputError


def run(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def lamps(tmp_path: Path) -> Path:
    """Six dark pictures, each with a bright square where `tiny_bundle` finds one; every square is labelled."""
    folder = tmp_path / "lamps"
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for number in range(6):
        image = np.zeros((64, 64, 3), np.uint8)
        image[16:24, 8 * number : 8 * number + 8] = 255
        assert cv2.imwrite(str(folder / "images" / "val" / f"{number}.png"), image)
        (folder / "labels" / "val" / f"{number}.txt").write_text(f"0 {(8 * number + 4) / 64} {20 / 64} 0.25 0.25\n")
    (folder / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [bright, dark]\n")
    return folder


def test_predictions_are_written_and_compared(
    lamps: Path, tmp_path: Path, tiny_bundle: Callable[..., Path], recwarn: Any
) -> None:
    bundle, file = str(tiny_bundle()), tmp_path / "p.json"
    words = ("evaluate", bundle, "--data", str(lamps), "--predictions", str(file))
    document = json.loads(run(*words, "--json"))
    assert document["interval"]["groups"] == 6
    with pytest.raises(OutputError, match="--overwrite"):
        run(*words)
    assert "95 % interval over 6 groups" in run(*words, "--overwrite")
    weak = json.loads(file.read_text())
    weak["predictions"] = [row for row in weak["predictions"] if row["image_id"] == 0]
    (tmp_path / "weak.json").write_text(json.dumps(weak))
    sides = ("--before", str(tmp_path / "weak.json"), "--after", str(file), "--min-boxes", "5")
    compared = json.loads(run("compare", "--data", str(lamps), *sides, "--json"))
    assert compared["verb"] == "compare"
    assert compared["headline"]["map50_95"]["after"] == pytest.approx(document["map50_95"], abs=1e-6)
    assert compared["headline"]["map50"]["verdict"] == "better"
    text = run("compare", "--data", str(lamps), *sides)
    assert "better" in text and "bright" in text


def test_what_is_for_a_model_is_refused_for_recorded_predictions(
    lamps: Path, tmp_path: Path, tiny_bundle: Callable[..., Path]
) -> None:
    file = str(tmp_path / "p.json")
    run("evaluate", str(tiny_bundle()), "--data", str(lamps), "--predictions", file)
    assert json.loads(run("evaluate", file, "--data", str(lamps), "--json"))["class_mapping"] is None
    for words in (("--imgsz", "777"), ("--device", "nonsense"), ("--threads", "3")):
        with pytest.raises(ConfigError, match=f"{words[0]} is for a model"):
            run("evaluate", file, "--data", str(lamps), *words)


def test_one_predictions_file_is_for_one_dataset(lamps: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one --data, not 2"):
        run("evaluate", "m", "--data", str(lamps), "--data", str(lamps), "--predictions", str(tmp_path / "p.json"))


def test_predictions_on_merged_datasets_are_scored_for_each(
    lamps: Path, tmp_path: Path, tiny_bundle: Callable[..., Path]
) -> None:
    samples = []
    for number, sample in enumerate(open_dataset(lamps).samples("val")):
        # In the west every second lamp has no label, so that what is found there is worth less.
        boxes = () if number in (1, 5) else sample.boxes
        samples.append(replace(sample, boxes=boxes, attributes={"dataset": ("east", "west")[number % 2]}))
    data = tmp_path / "merged"
    write_dataset(data, samples, ("bright", "dark"), Origin("yolo", "yolo", "native"))
    file = str(tmp_path / "p.json")
    measured = json.loads(run("evaluate", str(tiny_bundle()), "--data", str(data), "--predictions", file, "--json"))
    recorded = json.loads(run("evaluate", file, "--data", str(data), "--json"))
    assert set(recorded["per_dataset"]) == {"east", "west"}
    assert measured["per_dataset"]["west"]["map50_95"] < measured["per_dataset"]["east"]["map50_95"]
    for name, score in measured["per_dataset"].items():
        told = recorded["per_dataset"][name]
        assert told["map50_95"] == pytest.approx(score["map50_95"], abs=1e-6)
        assert (told["images"], told["boxes"]) == (score["images"], score["boxes"])
        assert told["per_class"]["bright"]["boxes"] == score["per_class"]["bright"]["boxes"]


def test_a_predictions_file_takes_the_place_of_the_model(
    lamps: Path, tmp_path: Path, tiny_bundle: Callable[..., Path]
) -> None:
    bundle, file = str(tiny_bundle()), tmp_path / "p.json"
    data = ("--data", str(lamps))
    measured = json.loads(run("evaluate", bundle, *data, "--predictions", str(file), "--slices", "--errors", "--json"))
    recorded = json.loads(run("evaluate", str(file), *data, "--slices", "--errors", "--recall", "0.5", "--json"))
    assert recorded["map50_95"] == pytest.approx(measured["map50_95"], abs=1e-6)
    assert recorded["by_size"]["small"] == pytest.approx(measured["by_size"]["small"], abs=1e-6)
    assert recorded["slices"] == measured["slices"] and recorded["errors"]["kinds"] == measured["errors"]["kinds"]
    assert recorded["errors"]["thresholds"][0]["gives"]["recall"] >= 0.5
    assert all(entry["too_small"] for entry in recorded["slices"]["single"])
    text = run("evaluate", str(file), *data, "--slices", "--errors")
    assert "to all: mAP50-95 against that of all pictures" in text
    assert "too small: under 20 boxes, or boxes in under 10 groups" in text and "missed" in text and "D-ECE" in text
    for words, sentence in (
        (("--weather",), "--weather needs the model"),
        (("--predictions", "other.json"), "predictions already"),
        (("--split", "train"), "was made on the split 'val'"),
        (("--recall", "0.5"), "comes with --errors"),
    ):
        with pytest.raises((ConfigError, DatasetError), match=sentence):
            run("evaluate", str(file), *data, *words)
