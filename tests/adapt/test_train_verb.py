from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from drivetl.adapt import training
from drivetl.adapt.run_folder import RunFolder, load_run_config
from drivetl.adapt.trainer import AdaptTrainer
from drivetl.config import load_yaml
from drivetl.errors import ConfigError, DatasetError, OutputError
from drivetl.resources import resource_file
from drivetl.verbs import _learning_curve, train, weights

from .conftest import draw_dataset

SMALL = ("--imgsz", "64", "--batch", "2", "--threads", "1", "--wise-ft", "1")


@pytest.fixture
def app() -> typer.Typer:
    built = typer.Typer()
    train.register(built)
    weights.register(built)
    return built


def invoke(app: typer.Typer, *words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def document_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_figures_before_and_after_on_one_class_list(
    app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("train", "--data", drawn, "--weights", random_weights, "--epochs", 1, *SMALL, "--out", run, "--json")
    document = document_of(invoke(app, *words))
    assert document["verb"] == "train"
    assert document["weights"] == str(run / "weights" / "adapted.pt")
    assert document["optimiser_steps"] == 2 * 2 + 2, "two passes of the head, one of all"
    assert [row["sources"] for row in document["head_transfer"]] == [["car"], ["person"], []]
    assert document["zero_shot"]["per_class"].keys() == document["adapted"]["per_class"].keys()
    assert document["zero_shot"]["missing_classes"] == ["dragon"] and not document["adapted"]["missing_classes"]
    assert any("also chose the epoch" in note for note in document["notes"])
    refused = invoke(app, *words)
    assert isinstance(refused.exception, OutputError)


def test_ctrl_c_says_how_to_continue_and_resume_needs_no_other_option(
    app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    step = AdaptTrainer.optimizer_step

    def interrupted(self: AdaptTrainer) -> None:
        step(self)
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AdaptTrainer, "optimizer_step", interrupted)
        stopped = invoke(
            app, "train", "--data", drawn, "--weights", random_weights, "--epochs", 2, *SMALL, "--out", run, "--seed", 5
        )
    assert stopped.exit_code == 130
    assert f"drivetl train --resume --out {run}" in stopped.stderr
    assert RunFolder(run).state.is_file()
    (run / "state.pt").rename(tmp_path / "kept")  # as if it had been stopped before the end of its first epoch
    again = invoke(app, "train", "--data", drawn, "--weights", random_weights, "--epochs", 2, *SMALL, "--out", run)
    assert isinstance(again.exception, OutputError) and "--resume continues it" in str(again.exception)
    (tmp_path / "kept").rename(run / "state.pt")
    changed = invoke(app, "train", "--resume", "--out", run, "--lr0", 0.1)
    assert isinstance(changed.exception, ConfigError) and "lr0" in str(changed.exception)
    document = document_of(invoke(app, "train", "--resume", "--out", run, "--json"))
    assert (document["epochs"], document["optimiser_steps"]) == (2, 2 * 2 + 2 * 2)


@pytest.mark.parametrize(
    "asked",
    [
        ("--split", "val", "--json"),
        ("--no-figures",),
        ("--learning-curve", "2,3", "--split", "val"),
        ("--data", "{folder}/day", "--data", "{folder}/late night", "--leave-out", "late night"),
    ],
)
def test_the_command_that_continues_asks_for_the_same(
    asked: tuple[str, ...],
    app: typer.Typer,
    drawn: Path,
    random_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("day", "late night"):
        shutil.copytree(drawn, tmp_path / name)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    monkeypatch.setattr(_learning_curve, "adapt_on_subsets", interrupted)
    monkeypatch.setattr(train, "figures_of", lambda *_: {})
    asked = tuple(word.format(folder=tmp_path) for word in asked)
    data = () if "--data" in asked else ("--data", drawn)
    run = tmp_path / "my run"
    stopped = invoke(app, "train", *data, "--weights", random_weights, "--epochs", 2, *SMALL, "--out", run, *asked)
    assert stopped.exit_code == 130
    (line,) = (line for line in stopped.stderr.splitlines() if "To continue: " in line)
    words = shlex.split(line.partition("To continue: ")[2])
    assert words[:5] == ["drivetl", "train", "--resume", "--out", str(run)]
    assert sorted(words[5:]) == sorted(asked), "and nothing of what the run itself keeps"
    assert invoke(app, *words[1:]).exit_code != 2, "the command line takes it"


def test_a_folder_of_pictures_that_nobody_labelled_trains_with_the_shipped_recipe(
    app: typer.Typer, random_weights: Path, tmp_path: Path
) -> None:
    own, measured = (load_yaml(resource_file("configs", name))["train"] for name in ("unlabelled", "bench_unlabelled"))
    assert own == {key: value for key, value in measured.items() if key != "threads"}
    frames, source = tmp_path / "frames", draw_dataset(tmp_path / "source", train=2)
    shutil.copytree(source / "images" / "train", frames)
    (frames / "data.yaml").write_text("train: .\nnames: [person, car, truck]\n")
    words = (
        "train",
        "--data",
        frames / "data.yaml",
        "--weights",
        random_weights,
        "--recipe",
        "unlabelled",
        *SMALL[:-2],
    )
    result = invoke(app, *words, "--epochs", 1, "--replay", source, "--out", tmp_path / "run", "--json")
    document = document_of(result)
    assert document["share"] == 0.5 and document["zero_shot"] is None
    assert "2 pictures and 2 source pictures an epoch" in " ".join(result.stderr.split())


def test_the_fast_recipe_is_the_arm_that_was_measured() -> None:
    own = load_yaml(resource_file("configs", "fast"))["train"]
    measured = load_yaml(resource_file("configs", "bench_adaptation"))
    arm = {**measured["train"], **measured["arms"]["drivetl_fast"]}
    of_the_comparison = {"threads", "selection_folds", "replay"}
    assert own == {key: value for key, value in arm.items() if key not in of_the_comparison}


def test_without_a_recipe_it_is_the_one_that_measured_best(
    app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("train", "--data", drawn, "--weights", random_weights, "--epochs", 1, *SMALL[:-2], "--out", run, "--json")
    document = document_of(invoke(app, *words))
    best = load_yaml(resource_file("configs", "adapt"))["train"]
    used = load_run_config(run).model_dump(mode="json")
    given = {"epochs", "batch"}
    assert {key: used[key] for key in best.keys() - given - {"weather"}} == {
        key: best[key] for key in best.keys() - given - {"weather"}
    }
    assert used["weather"]["probability"] == best["weather"]["probability"]
    assert (used["epochs"], used["batch"]) == (1, 2)
    # Two validation pictures are too few to choose by, so folds of the training pictures did.
    assert document["weight_curve"] and any("cross-validation" in note for note in document["notes"])


def test_a_recipe_gives_settings_and_options_go_first(
    app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {epochs: 7, imgsz: 64, batch: 2, threads: 1, freeze: 22}\n")
    run = tmp_path / "run"
    words = ("train", "--data", drawn, "--weights", random_weights, "--recipe", recipe, "--out", run)
    assert document_of(invoke(app, *words, "--epochs", 1, "--json"))["epochs"] == 1
    assert "freeze: 22" in RunFolder(run).config.read_text()
    recipe.write_text("train: {epoch: 7}\n")
    wrong = invoke(app, *words, "--overwrite")
    assert isinstance(wrong.exception, ConfigError)
    assert "unknown key 'epoch', did you mean 'epochs'?" in str(wrong.exception)
    recipe.write_text("trian: {epochs: 7}\nlr0: 0.5\n")
    ignored = invoke(app, *words, "--overwrite")
    assert isinstance(ignored.exception, ConfigError)
    assert "has no section 'train', only 'trian', 'lr0'; put the settings" in str(ignored.exception)


def test_one_of_several_datasets_is_left_out_and_reported_on(
    app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path
) -> None:
    for name in ("day", "night"):
        shutil.copytree(drawn, tmp_path / name)
    words = ["train", "--data", tmp_path / "day", "--data", tmp_path / "night", "--weights", random_weights]
    words += ["--epochs", 1, *SMALL, "--out", tmp_path / "run", "--leave-out", "night", "--json"]
    document = document_of(invoke(app, *words))
    assert document["optimiser_steps"] == 2 * 2 + 2, "four pictures of 'day', none of 'night'"
    assert document["left_out"]["adapted"]["split"] == "held_out"
    assert document["left_out"]["adapted"]["images"] == 2
    assert list(document["adapted"]["per_dataset"]) == ["day"]


def test_what_is_missing_is_named(app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path) -> None:
    run = ("--out", tmp_path / "run")
    cases: list[tuple[tuple[object, ...], type[Exception], str]] = [
        (("train", *run), ConfigError, "needs --data"),
        (("train", "--data", drawn, *run), ConfigError, "needs --weights"),
        (("train", "--data", drawn, "--leave-out", "x", *run), ConfigError, "'x' needs --data at least twice"),
        (("train", "--resume", *run), ConfigError, "there is no run"),
        (("train", "--resume", "--overwrite", *run), ConfigError, "give one of them"),
        (("train", "--data", drawn, "--weights", random_weights, "--split", "test", *run), DatasetError, "'test'"),
    ]
    for words, kind, message in cases:
        result = invoke(app, *words)
        assert isinstance(result.exception, kind) and message in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_what_is_refused_is_refused_before_the_start_is_measured(
    app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> dict[str, Any]:
        raise AssertionError("on a real dataset, this takes minutes")

    monkeypatch.setattr(train, "figures_of", measured)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("x")
    words = ("train", "--data", drawn, "--weights", random_weights)
    cases: list[tuple[tuple[object, ...], type[Exception], str]] = [
        (("--out", taken), OutputError, "holds no run of drivetl"),
        (("--out", tmp_path / "run", "--pictures", 99), ConfigError, "has 4"),
        (("--out", tmp_path / "run", "--replay", drawn, "--retention", tmp_path / "none"), DatasetError, "none"),
        (("--out", tmp_path / "run", "--device", "cuda:7"), ConfigError, "cuda:7"),
    ]
    for options, kind, message in cases:
        result = invoke(app, *words, *options)
        assert isinstance(result.exception, kind) and message in str(result.exception), result.exception
    assert not (tmp_path / "run").exists()


def test_options_that_hold_the_model_near_its_start_and_what_it_kept(
    app: typer.Typer, drawn: Path, random_weights: Path, tmp_path: Path
) -> None:
    source = draw_dataset(tmp_path / "source", train=4, val=3)
    (source / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [automobile, person, boat]\n", encoding="utf-8"
    )
    words = ("train", "--data", drawn, "--weights", random_weights, "--epochs", 1, *SMALL)
    words += ("--replay", source, "--retention", source, "--wise-ft", "0.5", "--pictures", 2)
    run = tmp_path / "run"
    document = document_of(invoke(app, *words, "--out", run, "--json"))
    assert document["share"] == 0.5 and document["optimiser_steps"] == 2 * 1 + 2, (
        "the head sees the two target pictures alone"
    )
    config = yaml.safe_load(RunFolder(run).config.read_text())["train"]
    assert (config["replay"], config["retention"], config["pictures"]) == (str(source), str(source), 2)
    kept = document["retention"]
    # 'boat' is the start's alone; the others are found under the source's own names.
    assert kept["per_class"].keys() == {"automobile", "person"} and kept["split"] == "val"
    assert kept["per_class"]["automobile"]["boxes"] == 2
    assert kept["difference"] == pytest.approx(kept["after"] - kept["before"])
    assert kept["frequent"] == {"min_boxes": 20, "classes": 0, "before": None, "after": None, "difference": None}
    assert not any("was not measured" in note or "also replayed" in note for note in document["notes"])
    assert any("no class for dragon: what its pictures show" in note for note in document["notes"])
    again = invoke(app, *words, "--out", tmp_path / "again")
    assert "Retention, mAP50-95 over 2 shared classes of" in again.stdout
    without = document_of(invoke(app, *words, "--out", tmp_path / "without", "--no-figures", "--json"))
    assert without["retention"] is None
    blind = document_of(invoke(app, *words[:11], "--wise-ft", "0.5", "--out", tmp_path / "blind", "--json"))
    assert any("What the model forgot was not measured" in note for note in blind["notes"])
    wrong = invoke(app, *words, "--wise-ft", "half", "--out", tmp_path / "wrong")
    assert isinstance(wrong.exception, ConfigError) and "--wise-ft takes a number" in str(wrong.exception)
    too_much = invoke(app, *words, "--wise-ft", "1.5", "--out", tmp_path / "wrong")
    assert isinstance(too_much.exception, ConfigError) and "wise_ft" in str(too_much.exception)


def test_weights_list_says_where_they_are(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path))
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "yolo11n.pt").write_bytes(b"x")
    found = {w["name"]: w["path"] for w in document_of(invoke(app, "weights", "list", "--json"))["weights"]}
    assert found["yolo11n"] == str(tmp_path / "mine" / "yolo11n.pt")
    assert found["yolo26n"] is None
