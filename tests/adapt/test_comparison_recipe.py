"""Recipes that compare ways to train: their plan, their errors, and one carried out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from typer.testing import CliRunner

from drivetl.adapt.config import TrainConfig
from drivetl.cli import app
from drivetl.comparison_recipe import ComparisonRecipe
from drivetl.comparison_stages import comparison_stages
from drivetl.config import load_model, parse_model
from drivetl.errors import ConfigError, DrivetlError
from drivetl.recipe import Recipe, Stage
from drivetl.resources import resource_dir
from drivetl.verbs import _comparison
from drivetl.verbs._console import Reporter

from .conftest import draw_dataset


def plan(**changes: Any) -> ComparisonRecipe:
    document = {
        "kind": "comparison",
        "name": "test",
        "weights": "yolo11n",
        "imgsz": 64,
        "seeds": [0, 1],
        "sources": {"a": {"format": "yolo", "source": "A"}, "b": {"format": "voc", "source": "B", "card": "dawn"}},
        "train_on": ["a"],
        "report_on": {"fog": {"data": "b", "split": "test"}},
        "train": {"epochs": 1, "wise_ft": 0.5},
        "arms": {"plain": {}, "file": {"albumentations": "x.json", "wise_ft": 1.0}},
        "compare": [{"before": "zero_shot", "after": "plain"}],
    }
    return parse_model(ComparisonRecipe, {**document, **changes}, "test.yaml")


def test_every_arm_is_trained_with_every_seed_and_measured_like_the_start() -> None:
    stages = comparison_stages(plan(), Path("/run"), Path("/w.pt"), Path("/recipes"))
    assert [stage.name for stage in stages] == [
        *("import_a", "import_b", "zero_shot_fog"),
        *("train_plain_0", "plain_0_fog", "plain_0_alone_fog", "train_plain_1", "plain_1_fog", "plain_1_alone_fog"),
        *("train_file_0", "file_0_fog", "train_file_1", "file_1_fog"),
        "compare_zero_shot_plain_fog",
    ]
    by_name = {stage.name: stage for stage in stages}
    assert by_name["train_plain_1"].settings["seed"] == 1
    assert by_name["train_plain_1"].settings["wise_ft"] == 0.5
    assert by_name["train_file_0"].settings["albumentations"] == "/recipes/x.json"
    assert Path("/recipes/x.json") in by_name["train_file_0"].sources
    command = by_name["compare_zero_shot_plain_fog"].command
    assert command.count("--before") == 1 and command.count("--after") == 2
    # The start may know no class of the pictures; what was trained on them does.
    assert "--allow-no-figure" in by_name["zero_shot_fog"].command
    assert "--allow-no-figure" not in by_name["plain_0_fog"].command
    known = set()
    for stage in stages:
        assert set(stage.needs) <= known
        known.add(stage.name)


def test_the_files_that_a_comparison_names_are_sources_of_their_stages(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("car\n")
    source = {"format": "yolo", "source": "A", "card": "mine.yaml", "names": str(tmp_path / "names.txt")}
    sources = {"a": source, "b": {"format": "voc", "source": "B", "card": "dawn"}}
    recipe = plan(sources=sources, arms={"plain": {"replay": "data/coco", "retention": "b"}})
    stages = {stage.name: stage for stage in comparison_stages(recipe, Path("/run"), Path("/w.pt"), Path("/recipes"))}
    assert stages["import_a"].sources == (Path("A"), Path("mine.yaml"), tmp_path / "names.txt")
    assert stages["import_b"].sources == (Path("B"),)
    assert stages["train_plain_0"].sources == (Path("/w.pt"), Path("data/coco"))


def carried(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> dict[str, Stage]:
    """Return the stages that would be carried out of a recipe in ``folder``."""
    found: dict[str, Stage] = {}

    class Enough(Exception):
        pass

    def note(stages: list[Stage], *_: object) -> None:
        found.update({stage.name: stage for stage in stages})
        raise Enough

    monkeypatch.setattr(_comparison, "carry_out_all", note)
    (folder / "w.pt").touch()
    sources = {name: {"format": "voc", "source": str(folder), "card": "dawn"} for name in ("a", "b")}
    document = plan(sources=sources, weights=str(folder / "w.pt"), **changes).model_dump(mode="json")
    with pytest.raises(Enough):
        _comparison.carry_out_comparison(folder / "recipe.yaml", document, folder / "runs", Reporter("run", True))
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": {"plain": {"replay": "bb"}}},
            r"arms\.plain\.replay is 'bb', which is neither a source .* \(a, b\) nor",
        ),
        ({"train": {"retention": "data/b"}}, r"train\.retention is 'data/b', .*name one of them, or say where it lies"),
        ({"train": {"albumentations": "y.json"}}, r"train\.albumentations is '.*y\.json', and there is no such file"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_before_the_first_stage(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.json").touch()
    with pytest.raises(ConfigError, match=message):
        carried(monkeypatch, tmp_path, **{"arms": {"plain": {}}, **changes})
    assert not (tmp_path / "runs").exists()


def test_paths_are_those_of_the_user_and_names_those_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "coco").mkdir()
    (tmp_path / "x.json").touch()
    arms = {"plain": {"replay": "~/coco", "retention": "b"}, "file": {"albumentations": "x.json"}}
    found = carried(monkeypatch, tmp_path, arms=arms)
    plain, file = found["train_plain_0"], found["train_file_0"]
    assert plain.settings["replay"] == str(tmp_path / "coco")
    assert plain.settings["retention"] == str(tmp_path / "runs" / "test" / "data" / "b")
    assert file.settings["albumentations"] == str(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_on": ["c"]}, "'c' is not among the sources: a, b"),
        ({"compare": [{"before": "plain", "after": "fancy"}]}, "no arm 'fancy' to compare"),
        ({"seeds": []}, "'seeds' is '.*': value error, name at least one"),
        ({"train_on": []}, "'train_on' is '.*': value error, name at least one"),
        ({"seeds": [0, 1, 0]}, "'seeds' is '.*': value error, '0' stands there twice; name it once"),
        ({"train_on": ["a", "a"]}, "'a' stands there twice"),
        ({"seeds": [0, -1]}, r"'seeds\.1' is '-1': input should be greater than or equal to 0$"),
        ({"seeds": [2**40]}, r"'seeds\.0' is '1099511627776': input should be less than or equal to 2147483647$"),
        ({"arms": {"zero_shot": {}}}, "'arms' is .*'zero_shot' stands for the start, .*; choose another name"),
        ({"arms": {"a/b": {}}}, "'arms' is .*files are called after 'a/b', so it must be .*; choose another name"),
        ({"report_on": {"..": {"data": "b", "split": "test"}}}, "'report_on' is .*files are called after '..', so"),
        ({"sources": {"../../a": {"format": "yolo", "source": "A"}}}, "files are called after '../../a', so"),
        ({"arms": {"x" * 61: {}}}, "so it must be 1 to 60 letters"),
        ({"armz": {}}, "did you mean 'arms'"),
        ({"arms": {"plain": {"trainer": "ultralytics"}}, "train": {"epochs": 9}, "compare": []}, "into each arm"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**changes)


def test_seeds_are_those_that_training_takes() -> None:
    most = TrainConfig(data=Path(), weights="w", seed=2**31 - 1).seed
    assert plan(seeds=[0, most]).seeds == (0, most)
    scenes = {"preset": "x", "train": 1, "val": 1, "test": 1}
    parse_model(Recipe, {"name": "n", "weights": "w", "scenes": scenes, "seed": most}, "recipe.yaml")
    for seed in (-1, most + 1, 2**40):
        with pytest.raises(ValueError, match="seed"):
            TrainConfig(data=Path(), weights="w", seed=seed)
        with pytest.raises(ConfigError, match=r"'seed' is '-?\d+': input should be"):
            parse_model(Recipe, {"name": "n", "weights": "w", "scenes": scenes, "seed": seed}, "recipe.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": {"x": {}, "x_0": {}}, "report_on": {f: {"data": "b", "split": "test"} for f in ("fog", "0_fog")}},
            r"two stages .* would be called, or write to, 'x_0_0_fog'; give another name to a source, an arm",
        ),
        (
            {"compare": [{"before": "zero_shot", "after": "plain"}] * 2},
            "'compare_zero_shot_plain_fog'; .* name no pair of 'compare' twice$",
        ),
        (
            {"folds": {"count": 2}, "sources": {n: {"format": "yolo", "source": "A"} for n in ("a", "b", "a_folds")}},
            r"write to, '/run/data/a_folds'; ",
        ),
    ],
)
def test_stages_that_would_write_over_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    recipe = plan(**{"compare": [], **changes})
    with pytest.raises(ConfigError, match=message):
        comparison_stages(recipe, Path("/run"), Path("/w.pt"), Path("/recipes"))


def test_the_shipped_comparisons_load_and_their_files_exist() -> None:
    found = list(resource_dir("configs").glob("bench_*.yaml"))
    assert found
    for path in found:
        recipe = load_model(ComparisonRecipe, path)
        for stage in comparison_stages(recipe, Path("/run"), Path("/w.pt"), path.parent):
            assert all(file.is_file() for file in stage.sources if file.suffix == ".json")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "drivetl", *words], capture_output=True, text=True, check=False)


def test_a_comparison_is_carried_out_and_not_twice(tmp_path: Path, random_weights: Path) -> None:
    source = draw_dataset(tmp_path / "drawn", train=4, val=3)
    document = {
        **plan().model_dump(mode="json"),
        "weights": str(random_weights),
        "seeds": [3],
        "min_boxes": 1,
        "threads": 1,
        "sources": {"a": {"format": "yolo", "source": str(source)}},
        "report_on": {"held_out": {"data": "a", "split": "val"}},
        "train": {"epochs": 1, "batch": 2, "min_optimiser_steps": 1, "selection_split": None},
        "arms": {"fog": {"weather": {"conditions": {"fog": 1.0}}}},
        "compare": [{"before": "zero_shot", "after": "fog"}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    command = ("run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "runs"), "--json")
    done = run(*command)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert {"zero_shot_held_out", "train_fog_3", "fog_3_held_out", "compare_zero_shot_fog_held_out"} <= stages.keys()
    picture = cv2.imread(str(next((tmp_path / "runs").glob("*/comparison.png"))))
    assert picture is not None and picture.shape[1] > 600
    again = run(*command)
    assert again.returncode == 0 and again.stderr.count("done before, unchanged") == len(stages)
    assert json.loads(again.stdout)["stages"] == stages
    wrong = CliRunner().invoke(app, [*command, "--set", "arms.fog.weather.conditions.hail=1"])
    assert isinstance(wrong.exception, ConfigError)
    assert "arm fog" in str(wrong.exception) and "'hail'" in str(wrong.exception)
    missing = CliRunner().invoke(app, [*command, "--set", "sources.a.source=/nowhere"])
    assert isinstance(missing.exception, DrivetlError) and "sources.a.source" in str(missing.exception)


def folded(**changes: Any) -> ComparisonRecipe:
    return plan(
        **{
            "folds": {"count": 2},
            "sources": {
                "a": {"format": "yolo", "source": "A"},
                "b": {"format": "yolo", "source": "B", "moves": [{"list": "kept.txt", "into": "kept"}]},
            },
            "report_on": {"kept": {"data": "b", "split": "kept", "classes": ["car", "bus"]}},
            "arms": {"ours": {"replay": "b", "wise_ft": "select"}, "theirs": {"trainer": "ultralytics", "epochs": 20}},
            "compare": [{"before": "zero_shot", "after": "ours"}, {"before": "theirs", "after": "ours"}],
            **changes,
        }
    )


def test_every_fold_is_trained_and_tested_apart() -> None:
    stages = {stage.name: stage for stage in comparison_stages(folded(), Path("/run"), Path("/w.pt"), Path("/r"))}
    assert stages["move_b_1"].command[2:5] == ("/run/data/b_0", "--out", "/run/data/b")
    assert stages["move_b_1"].sources == (Path("/r/kept.txt"),)
    assert {"zero_shot_kept", "zero_shot_fold0_target", "ours_1_fold1_target", "ours_0_fold0_kept"} <= stages.keys()
    ours, theirs = stages["train_ours_1_fold1"], stages["train_theirs_0_fold0"]
    assert ours.command[:3] == ("train", "--data", "/run/data/a_folds/fold1")
    assert ours.settings["replay"] == "/run/data/b" and set(ours.needs) == {"folds", "move_b_1"}
    assert theirs.command[0] == "baseline" and not theirs.resumes
    # The shared settings are drivetl's, not Ultralytics'.
    assert theirs.settings == {"epochs": 20, "imgsz": 64, "seed": 0}
    target = stages["compare_zero_shot_ours_target"].command
    assert [target.count(word) for word in ("--data", "--before", "--after")] == [2, 2, 4]
    kept = stages["compare_theirs_ours_kept"].command
    assert [kept.count(word) for word in ("--data", "--before", "--after")] == [1, 4, 4]
    assert kept[kept.index("--only") + 1] == "car,bus"


def test_threads_hold_for_every_arm_whoever_trains_it() -> None:
    stages = {s.name: s for s in comparison_stages(folded(threads=3), Path("/run"), Path("/w.pt"), Path("/r"))}
    assert stages["train_ours_0_fold0"].settings["threads"] == 3
    for name in ("train_theirs_0_fold0", "theirs_0_fold0_kept", "zero_shot_kept"):
        command = stages[name].command
        assert command[command.index("--threads") + 1] == "3"
    without = {s.name: s for s in comparison_stages(folded(), Path("/run"), Path("/w.pt"), Path("/r"))}
    assert "--threads" not in without["train_theirs_0_fold0"].command


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_on": ["a", "b"]}, "folds are made of one source, but train_on names 2"),
        ({"report_on": {"target": {"data": "b", "split": "kept"}}}, "choose another name"),
        ({"folds": None, "report_on": {}}, "give 'report_on' or 'folds'"),
    ],
)
def test_folds_that_cannot_be_compared_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        folded(**changes)


def summary(recipe: ComparisonRecipe, measured: dict[str, float | None]) -> list[str]:
    results: dict[str, Any] = {name: {"map50_95": value, "images": 10} for name, value in measured.items()}
    for arm, seconds in (("ours", (100, 110, 100, 110)), ("theirs", (50, 50, 50, 50))):
        names = [f"train_{arm}_{seed}_fold{fold}" for seed in (0, 1) for fold in (0, 1)]
        results |= {name: {"seconds": value} for name, value in zip(names, seconds, strict=True)}
    return _comparison._summary(recipe, results)


def test_the_spread_is_that_of_seeds_and_not_of_folds() -> None:
    recipe = folded(compare=[], arms={"ours": {"wise_ft": 0.5}, "theirs": {"trainer": "ultralytics"}})
    figures = {
        # Two folds, one easy and one hard; the seeds differ by 0.02.
        **{"zero_shot_fold0_target": 0.2, "zero_shot_fold1_target": 0.6, "zero_shot_kept": 0.5},
        **{"ours_0_fold0_target": 0.3, "ours_0_fold1_target": 0.7, "ours_1_fold0_target": 0.34},
        **{"ours_1_fold1_target": 0.7, "ours_0_fold0_alone_target": None, "ours_0_fold1_alone_target": 0.7},
        **{"ours_1_fold0_alone_target": None, "ours_1_fold1_alone_target": 0.7},
        **{f"theirs_{seed}_fold{fold}_target": None for seed in (0, 1) for fold in (0, 1)},
        **{f"{arm}_{seed}_fold{fold}_kept": 0.4 for arm in ("ours", "theirs") for seed in (0, 1) for fold in (0, 1)},
    }
    lines = summary(recipe, figures)
    found = {words.strip(): figure for words, figure in (line.rsplit("  ", 1) for line in lines[2:6])}
    assert lines[1] == (
        "target: 20 pictures in 2 folds, mAP50-95 over all classes, mean of 2 folds, "
        "2 seeds (±: standard deviation over them)"
    )
    assert found == {
        "zero-shot": "0.400",
        "ours": "0.510 ± 0.014",
        "ours, not mixed with the start": "0.700 ± 0.000",
        "theirs": "no figure: the model has no class of the dataset",
    }
    assert lines[7].startswith("kept: 10 pictures, mAP50-95 over all classes, mean of 2 folds, 2 seeds")
    assert lines[8:10] == [f"  {'zero-shot':<28}  0.500", f"  {'ours':<28}  0.400 ± 0.000"]
    assert lines[-2:] == [f"  {'ours':<28}  105 ± 6", f"  {'theirs':<28}  50 ± 0"]


def test_one_seed_has_no_spread() -> None:
    recipe = plan(compare=[], seeds=[0], arms={"ours": {"wise_ft": 1.0}}, train={})
    results = {"zero_shot_fog": {"map50_95": 0.2, "images": 9}, "ours_0_fog": {"map50_95": 0.3}}
    lines = _comparison._summary(recipe, {**results, "train_ours_0": {"seconds": 9.7}})
    assert lines[1:4] == [
        "fog: 9 pictures, mAP50-95 over all classes, 1 seed",
        f"  {'zero-shot':<28}  0.200",
        f"  {'ours':<28}  0.300",
    ]
