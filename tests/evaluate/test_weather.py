"""Evaluation under weather: what is measured, that it is the same for every model, and the summary figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.evaluate import Model, Run, WeatherResult, evaluate_weather, score_in
from drivetl.evaluate.pairing import load_test_sets
from drivetl.evaluate.predictions import read_predictions
from drivetl.evaluate.scoring import Score
from drivetl.report.evidence import weather_section
from drivetl.runtime import Letterbox
from drivetl.weather import CONDITIONS, SUITE

LEVELS = range(1, 6)


def street(folder: Path, pictures: int = 2) -> Path:
    """Write a dataset of dark cars on a bright street."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for number in range(pictures):
        image = rng.integers(150, 180, (120, 200, 3)).astype(np.uint8)
        image[:50] = (220, 200, 190)
        image[70:100, 80:130] = 25
        cv2.imwrite(str(folder / "images" / "val" / f"{number}.png"), image)
        (folder / "labels" / "val" / f"{number}.txt").write_text(f"0 {105 / 200} {85 / 120} {50 / 200} {30 / 120}\n")
    (folder / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [car]\n")
    return folder


def finder(seen: list[np.ndarray] | None = None) -> Model:
    """A model that finds the dark car where it is darker than its surroundings: contrast is its confidence."""

    def raw(tensor_nchw: np.ndarray) -> np.ndarray:
        if seen is not None:
            seen.append(tensor_nchw.copy())
        output = np.zeros((1, 5, 1), np.float32)
        # 200x120 pixels lie as 64x38 in the input, from row 13 on: each axis has its own scale.
        across, down, top = 64 / 200, 38 / 120, 13
        rows = slice(top + 24, top + 30)
        contrast = tensor_nchw[0, :, rows, 2:20].mean() - tensor_nchw[0, :, rows, 28:40].mean()
        output[0, :, 0] = (105 * across, top + 85 * down, 50 * across, 30 * down, float(contrast > 0.35))
        return output

    return Model("finder", ("car",), Letterbox((64, 64)), raw, 0.7, 300, "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return street(tmp_path_factory.mktemp("street"))


def test_every_condition_is_measured_at_every_severity(data: Path) -> None:
    run = Run(finder(), data)
    clean = run.evaluate().map50_95
    result = evaluate_weather(run, clean)
    assert result.suite == SUITE and clean == pytest.approx(1.0)
    assert set(result.conditions) == set(CONDITIONS)
    assert all(list(levels) == list(LEVELS) for levels in result.conditions.values())
    fog = [result.conditions["fog"][level].map50_95 for level in LEVELS]
    assert fog[0] == pytest.approx(1.0)
    # At night the road is as dark as the car: the model that lives from contrast must fail somewhere.
    assert 0 < result.mpc < 1 and result.rpc == pytest.approx(result.mpc)


def test_a_picture_whose_name_is_not_utf8_has_its_weather_and_predictions(tmp_path: Path) -> None:
    folder = street(tmp_path, pictures=1)
    for path in (folder / "images/val/0.png", folder / "labels/val/0.txt"):
        path.rename(os.fsdecode(os.fsencode(path.parent / "stra") + b"\xdfe" + os.fsencode(path.suffix)))
    run = Run(finder(), folder)
    assert score_in(run, "fog", 1).images == 1
    run.evaluate().predictions.write(tmp_path / "found.json")
    predictions = read_predictions(tmp_path / "found.json")
    assert [picture.file_name for picture in predictions.pictures] == ["images/val/stra\\udcdfe.png"]
    (found,) = load_test_sets([folder], [tmp_path / "found.json"], [tmp_path / "found.json"])
    assert found.groups == ("val/stra\\udcdfe",)


def test_one_weather_alone_gives_the_figure_that_it_has_in_the_table(data: Path) -> None:
    seen: list[np.ndarray] = []
    run = Run(finder(seen), data)
    table = evaluate_weather(run, 1.0)
    whole = len(seen)
    for condition, severity in (("fog", 5), ("night", 2), ("jpeg", 1)):
        del seen[whole:]
        assert score_in(run, condition, severity) == table.conditions[condition][severity]
        # The very pictures, too: each of these was among those of the table.
        assert len(seen) - whole == run.pictures
        for tensor in seen[whole:]:
            assert any(np.array_equal(tensor, other) for other in seen[:whole])


def test_every_model_meets_the_same_pictures(data: Path) -> None:
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for seen in (first, second):
        run = Run(finder(seen), data)
        evaluate_weather(run, 1.0)
    assert len(first) == len(second) == 2 * len(CONDITIONS) * 5
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_mpc_and_rpc_are_those_of_michaelis() -> None:
    def score(value: float | None) -> Score:
        return Score(value, value, {}, {}, 1, 1)

    conditions = {"fog": {1: score(0.4), 2: score(0.2)}, "rain": {1: score(0.0), 2: score(None)}}
    result = WeatherResult(SUITE, 0.5, conditions)
    assert result.mpc == pytest.approx((0.4 + 0.2 + 0.0) / 3)
    assert result.rpc == pytest.approx(result.mpc / 0.5)
    assert WeatherResult(SUITE, 0.0, conditions).rpc is None
    assert result.document()["conditions"]["fog"]["map50_95"] == pytest.approx(0.3)


def test_a_split_without_boxes_has_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = street(tmp_path, pictures=1)
    (folder / "labels" / "val" / "0.txt").write_text("")
    monkeypatch.setattr("drivetl.evaluate.open_model", lambda *_, **__: finder())
    words = ["evaluate", "finder.pt", "--data", str(folder), "--weather"]
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert {document[name] for name in ("map50_95", "clean", "mpc", "rpc")} == {None}
    for entry in document["conditions"].values():
        assert entry["map50_95"] is None and all(s["map50_95"] is None for s in entry["severities"].values())
    lines = CliRunner().invoke(app, words).stdout.splitlines()
    assert next(line for line in lines if line.startswith("fog")).split() == ["fog", *"–" * 6]
    assert "clean –, mPC –: nothing to compare with" in lines
    section = weather_section(document, ())
    assert "clean –, mPC –." in section.drawings[0].caption


def test_the_verb_prints_the_table_and_one_json_document(data: Path, material: Path) -> None:
    command = [sys.executable, "-m", "drivetl", "evaluate", str(material / "weights" / "yolo11n.pt")]
    command += ["--data", str(data), "--imgsz", "160", "--weather", "--threads", "2"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["suite"] == SUITE and set(document["conditions"]) == set(CONDITIONS)
    assert {"clean", "mpc", "rpc", "map50_95", "per_class"} <= document.keys()
