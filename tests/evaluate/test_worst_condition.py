"""One condition of six is the worst by design, and the page of a run names it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.data.layout import Origin, write_dataset
from drivetl.data.records import Box, Sample
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


def carried_out(*command: str) -> dict[str, object]:
    done = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document


@pytest.mark.material
@pytest.mark.parametrize("worst", WORST)
def test_the_report_of_a_run_names_the_worst_condition(
    worlds: dict[tuple[str, int], list[Sample]], material: Path, tmp_path: Path, worst: str
) -> None:
    samples = [sample for name in WORST for sample in worlds[name, 5 if name == worst else 1]]
    write_dataset(tmp_path / "data", samples, NAMES, Origin("yolo", "yolo", "native"))
    model = str(material / "weights" / "yolo11n.pt")
    command = ["evaluate", model, "--data", str(tmp_path / "data"), "--split", "test", "--imgsz", "288x512", "--slices"]
    result = carried_out(*command)
    run = tmp_path / "run"
    run.mkdir()
    recipe = {"name": worst, "started_from": "yolo11n.pt", "scenes": {"preset": "target-city"}, "imgsz": 512}
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "adapted.json").write_text(json.dumps({"command": ["drivetl", *command], "result": result}))
    report = carried_out("report", str(run))
    weakest = json.loads((run / "evidence.json").read_text())["weakest"]
    by_weather = {e["value"][0]: e["map50_95"] for e in result["slices"]["single"] if e["by"] == ["weather"]}
    print(worst, {name: round(value, 3) for name, value in by_weather.items()})
    assert len(by_weather) == 6
    assert (weakest["by"], weakest["value"]) == (["weather"], [worst]), by_weather
    assert any(f"Weakest condition: weather {worst}, " in sentence for _, sentence in report["verdicts"])
    for page in ("page.html", "evidence.md"):
        assert f"Weakest condition: weather {worst}, " in (run / page).read_text(encoding="utf-8")
