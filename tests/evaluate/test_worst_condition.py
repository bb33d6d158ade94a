"""One condition of six is the worst by design, and the page of a run names it."""

from __future__ import annotations

import json
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
from drivetl.data.records import Box, Sample
from drivetl.evaluate.boxes import Found
from drivetl.evaluate.labels import read_labels
from drivetl.evaluate.predictions import Predictions, read_predictions
from drivetl.scenes import load_preset, render_scene
from drivetl.weather import apply_weather

# Six in which severity 5 hurts yolo11n on these scenes more than severity 1 of any other. Night and rain are not among
# them, because at 1 they already hurt as much as fog at 5; snow, haze and a dirty lens at 5 hurt too little. With any
# of these nothing would be the worst by design. The six were chosen on scenes of other seeds, and only the classes that
# every scene shows: with a dozen trucks, chance decides the order.
WORST = ("fog", "glare", "wet_lens", "motion_blur", "sensor_noise", "jpeg")
SEEDS = range(1100, 1124)
NAMES = ("person", "car")
SIZE_HW = (432, 768)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], list[Sample]]:
    """The same scenes in six conditions, lightly and heavily."""
    folder = tmp_path_factory.mktemp("scenes")
    found: dict[tuple[str, int], list[Sample]] = {}
    preset = load_preset("target-city")
    for seed in SEEDS:
        frame = render_scene(preset, seed=seed, size_hw=SIZE_HW)
        boxes = tuple(Box(o.class_name, o.xyxy_px) for o in frame.objects if o.class_name in NAMES)
        xyxy = np.array([box.xyxy_px for box in boxes], np.float32).reshape(-1, 4)
        for condition in WORST:
            for severity in (1, 5):
                rng = np.random.default_rng(seed)
                image = apply_weather(
                    frame.image_bgr, condition, severity, rng=rng, depth_m=frame.depth_m, boxes_xyxy_px=xyxy
                )
                path = folder / f"{condition}-{severity}-{seed}.jpg"
                cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
                sample = Sample(path, SIZE_HW, "test", f"scene {seed}", boxes, (), {"weather": condition})
                found.setdefault((condition, severity), []).append(sample)
    return found


def carried_out(*command: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def seen(worlds: dict[tuple[str, int], list[Sample]], material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What yolo11n finds on all of these pictures: the six evaluations share five sixths of theirs."""
    folder = tmp_path_factory.mktemp("seen")
    every = [sample for world in worlds.values() for sample in world]
    write_dataset(folder / "data", every, NAMES, Origin("yolo", "yolo", "native"))
    model, data = str(material / "weights" / "yolo11n.pt"), str(folder / "data")
    carried_out(
        *("evaluate", model, "--data", data, "--split", "test", "--imgsz", "288x512"),
        *("--predictions", str(folder / "seen.json")),
    )
    return folder / "seen.json"


def part_of(seen: Path, data: Path) -> Predictions:
    """What was found on the pictures of a dataset that holds some of them."""
    whole, dataset = read_predictions(seen), open_dataset(data)
    pictures = read_labels(data, "test").pictures
    numbers = {picture.file_name: picture.id for picture in pictures}
    number = np.array([numbers.get(picture.file_name, -1) for picture in whole.pictures])[whole.found.picture]
    order = np.flatnonzero(number >= 0)
    order = order[np.argsort(number[order], kind="stable")]
    kept = [column[order] for column in (whole.found.class_id, whole.found.xywh_px, whole.found.confidence)]
    return replace(whole, dataset_fingerprint=dataset.fingerprint, pictures=pictures, found=Found(number[order], *kept))


def reported(seen: Path, samples: list[Sample], worst: str, folder: Path) -> dict[str, float]:
    """Evaluate and report a run on these pictures, hold its page to its worst condition; return AP by condition."""
    write_dataset(folder / "data", samples, NAMES, Origin("yolo", "yolo", "native"))
    part_of(seen, folder / "data").write(folder / "part.json")
    command = ["evaluate", str(folder / "part.json"), "--data", str(folder / "data"), "--slices"]
    result = carried_out(*command)
    assert result["images"] == len(samples)
    run = folder / "run"
    run.mkdir()
    recipe = {"name": worst, "started_from": "yolo11n.pt", "scenes": {"preset": "target-city"}, "imgsz": 512}
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "adapted.json").write_text(json.dumps({"command": ["drivetl", *command], "result": result}))
    report = carried_out("report", str(run))
    by_weather = {e["value"][0]: e["map50_95"] for e in result["slices"]["single"] if e["by"] == ["weather"]}
    weakest = json.loads((run / "evidence.json").read_text())["weakest"]
    assert (weakest["by"], weakest["value"]) == (["weather"], [worst]), by_weather
    assert any(f"Weakest condition: weather {worst}, " in sentence for _, sentence in report["verdicts"])
    for page in ("page.html", "evidence.md"):
        assert f"Weakest condition: weather {worst}, " in (run / page).read_text(encoding="utf-8")
    return by_weather


@pytest.mark.material
def test_the_report_of_a_run_names_the_worst_condition(
    worlds: dict[tuple[str, int], list[Sample]], seen: Path, tmp_path: Path
) -> None:
    for worst in WORST:  # in one test, because two processes would each look at all of the pictures
        samples = [sample for name in WORST for sample in worlds[name, 5 if name == worst else 1]]
        by_weather = reported(seen, samples, worst, tmp_path / worst)
        print(worst, {name: round(value, 3) for name, value in by_weather.items()})
        assert len(by_weather) == 6
