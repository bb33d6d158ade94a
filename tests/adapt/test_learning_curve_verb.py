"""``drivetl train --learning-curve`` on drawn pictures and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import typer
from typer.testing import CliRunner, Result

from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.errors import ConfigError, DatasetError, OutputError
from drivetl.files import write_json
from drivetl.verbs import train
from drivetl.verbs._learning_curve import recorded_sizes

from .conftest import draw_dataset

# How the share is chosen has tests of its own; here it would train each subset three times.
SMALL = ("--imgsz", "64", "--batch", "2", "--threads", "1", "--epochs", "1", "--wise-ft", "0.5")


@pytest.fixture(scope="module")
def drawn_six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("six"), train=6, val=2, test=6)


def invoke(*words: object) -> Result:
    app = typer.Typer()
    train.register(app)
    return CliRunner().invoke(app, [str(word) for word in words])


def document_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def pictures_of(out: Path, size: int) -> set[str]:
    return set((out / "subsets" / str(size) / "train.txt").read_text().split())


def test_nested_subsets_are_trained_measured_and_drawn_and_resumed(
    drawn_six: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "curve"
    words = ("--data", drawn_six, "--weights", random_weights, *SMALL, "--out", out, "--learning-curve", "4,2,3")
    step = AdaptTrainer.optimizer_step

    def interrupted(self: AdaptTrainer) -> None:
        if self.job.config.pictures == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptTrainer, "optimizer_step", interrupted)
        stopped = invoke(*words)
    assert stopped.exit_code == 130 and "--resume --out" in stopped.stderr
    first = (out / "subsets" / "2" / "weights" / "adapted.pt").stat().st_mtime_ns
    refused = invoke(*words)
    assert isinstance(refused.exception, OutputError)
    changed = invoke("--resume", "--out", out, "--learning-curve", "2,3,5")
    assert isinstance(changed.exception, ConfigError) and "learning_curve.pictures" in str(changed.exception)

    document = document_of(invoke("--resume", "--out", out, "--json"))
    assert (out / "subsets" / "2" / "weights" / "adapted.pt").stat().st_mtime_ns == first, "a finished subset is kept"
    curve = document["learning_curve"]
    assert [point["pictures"] for point in curve["points"]] == [0, 2, 3, 4]
    assert [entry["pictures"] for entry in curve["extrapolation"]] == [8, 16]
    assert (curve["split"], curve["test_pictures"], curve["groups"]) == ("test", 6, 6)
    assert all(point["gain_interval"] for point in curve["points"][1:])
    assert document["weights"] == str(out / "subsets" / "4" / "weights" / "adapted.pt")
    assert pictures_of(out, 2) < pictures_of(out, 3) < pictures_of(out, 4)
    assert document["adapted"]["map50_95"] == pytest.approx(curve["points"][-1]["map50_95"])
    assert json.loads((out / "learning_curve.json").read_text())["points"] == curve["points"]
    assert cv2.imread(str(out / "learning_curve.png")).shape == (640, 1000, 3)
    assert any("three points" in note for note in curve["notes"])

    again = document_of(invoke("--resume", "--out", out, "--json"))
    assert again["learning_curve"] == curve, "everything was kept"
    for path in sorted(out.rglob("*.png")):
        path.unlink()
    lines = invoke("--resume", "--out", out).stdout
    assert "4 labelled" in lines and "8 labelled would give about" in lines


def test_a_training_that_is_done_but_for_its_result_is_not_done_again(
    drawn_six: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "curve"
    words = ("--data", drawn_six, "--weights", random_weights, *SMALL, "--out", out, "--learning-curve", "2")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("drivetl.adapt.training.write_json", stop)
        assert invoke(*words).exit_code == 130
    subset = RunFolder(out).subset(2)
    assert subset.adapted.is_file() and subset.state.is_file() and not subset.result.is_file()
    own: list[str] = []

    def note(target: Path, document: Any, *, overwrite: bool) -> None:
        own.append(target.name)
        write_json(target, document, overwrite=overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptTrainer, "optimizer_step", stop)
        patch.setattr("drivetl.verbs._learning_curve.write_json", note)
        document = document_of(invoke("--resume", "--out", out, "--json"))
    assert document["optimiser_steps"] > 0 and json.loads(subset.result.read_text())["weights"] == document["weights"]
    assert own == ["evaluation.json", "learning_curve.json"], "the training wrote its result itself"
    # Where its result was deleted, nothing is left that could give it again.
    (subset.root / "evaluation.json").unlink()
    subset.result.unlink()
    assert document_of(invoke("--resume", "--out", out, "--json"))["optimiser_steps"] == document["optimiser_steps"]


def test_overwrite_starts_again_with_other_numbers(drawn_six: Path, random_weights: Path, tmp_path: Path) -> None:
    words = ("--data", drawn_six, "--weights", random_weights, *SMALL, "--out", tmp_path / "run", "--json")
    document_of(invoke(*words, "--learning-curve", "2"))
    document = document_of(invoke(*words, "--learning-curve", "1", "--overwrite"))["learning_curve"]
    assert [point["pictures"] for point in document["points"]] == [0, 1] and document["law"] is None
    assert any("Nothing is extrapolated" in note for note in document["notes"])
    assert sorted(path.name for path in (tmp_path / "run" / "subsets").iterdir()) == ["0", "1"]
    plain = document_of(invoke(*words, "--overwrite"))
    assert "learning_curve" not in plain and not (tmp_path / "run" / "subsets").exists()


def test_what_cannot_be_drawn_is_refused_before_anything_is_written(
    drawn_six: Path, random_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("--data", drawn_six, "--weights", random_weights, "--out", out, *SMALL)
    bare = draw_dataset(tmp_path / "bare", train=2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {pictures: 2}\n")
    cases: list[tuple[tuple[object, ...], type[Exception], str]] = [
        ((*words, "--learning-curve", "2,x"), ConfigError, "not '2,x'"),
        ((*words, "--learning-curve", "2,2"), ConfigError, "different numbers"),
        ((*words, "--learning-curve", "2,02"), ConfigError, "different numbers"),
        ((*words, "--learning-curve", "0,2"), ConfigError, "not '0,2'"),
        ((*words, "--learning-curve", "2,7"), ConfigError, "asks for 7 pictures, but the split 'train' has 6"),
        ((*words, "--learning-curve", "2", "--no-figures"), ConfigError, "--no-figures"),
        ((*words, "--learning-curve", "2", "--recipe", recipe), ConfigError, "sets 'pictures' itself"),
        ((*words, "--learning-curve", "2", "--split", "train"), ConfigError, "another split than 'train'"),
        (("--data", bare, *words[2:], "--learning-curve", "2"), DatasetError, "neither 'test' nor 'val'"),
    ]
    for case, kind, message in cases:
        result = invoke(*case)
        assert isinstance(result.exception, kind) and message in str(result.exception), case
    assert not out.exists()


@pytest.mark.parametrize("sizes", ["[a, 2]", "5"])
def test_damaged_numbers_of_a_begun_curve_are_named(tmp_path: Path, sizes: str) -> None:
    (tmp_path / "config.yaml").write_text(f"learning_curve: {{pictures: {sizes}}}\n")
    with pytest.raises(ConfigError, match=r"config.yaml' is damaged: learning_curve.pictures is"):
        recorded_sizes(tmp_path)
