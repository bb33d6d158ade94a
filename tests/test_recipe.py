"""Recipes: every shipped one loads, and a stage runs again exactly when something it depends on changed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivetl.adapt.plain import check_plain_settings
from drivetl.comparison_recipe import ComparisonRecipe
from drivetl.config import load_yaml, parse_model, set_values
from drivetl.errors import ConfigError, DatasetError, OutputError
from drivetl.files import locked_dir
from drivetl.recipe import Recipe, Stage, source_state
from drivetl.recipe_stages import stages
from drivetl.resources import resource_file
from drivetl.verbs import run
from drivetl.verbs._console import Reporter
from drivetl.verbs._stages import carry_out_all, check_train_settings, refuse_set_above
from drivetl.verbs.run import _recipe_path

PROJECT = Path(__file__).resolve().parent.parent


def plan(folder: Path, *settings: str) -> Recipe:
    document = load_yaml(PROJECT / "configs" / "clear_to_fog.yaml")
    return parse_model(Recipe, set_values(document, [f"data.source={folder}", *settings]), "test")


def keys_of(recipe: Recipe, folder: Path) -> dict[str, str]:
    weights = folder / "w.pt"
    if not weights.exists():
        weights.touch()
    keys: dict[str, str] = {}
    for stage in stages(recipe, folder / "run", weights):
        keys[stage.name] = stage.key(keys)
    return keys


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_carries_no_machine_path(path: Path) -> None:
    document = load_yaml(path)
    if document.get("kind") == "comparison":
        comparison = parse_model(ComparisonRecipe, document, str(path))
        sections = [comparison.settings(arm) for arm in comparison.arms if comparison.trainer(arm) == "drivetl"]
        for arm in comparison.arms:
            if comparison.trainer(arm) == "ultralytics":
                refuse_set_above(comparison.settings(arm), arm)
                check_plain_settings(comparison.settings(arm), arm)
    elif document.keys() == {"train"}:  # settings of `drivetl train` alone
        sections = [document["train"]]
    else:
        recipe = parse_model(Recipe, document, str(path))
        sections = [recipe.train]
        if recipe.fallback is not None:
            sections += [recipe.fallback.train, recipe.fallback.source_train]
    for section in sections:
        check_train_settings(section, str(path))
    assert not re.search(r"(?m)^[^#]*(/home/|/work/|/Users/|\.\./)", path.read_text())


def test_unknown_key_is_named_with_file_and_suggestion() -> None:
    document = set_values(load_yaml(PROJECT / "configs" / "clear_to_fog.yaml"), ["data.sauce=3"])
    with pytest.raises(ConfigError, match=r"recipe\.yaml.*'data\.sauce', did you mean 'source'"):
        parse_model(Recipe, document, "recipe.yaml")
    with pytest.raises(ConfigError, match=r"yaml, section train.*'lr0' is '-1'.*'epoch', did you mean 'epochs'"):
        check_train_settings({"epoch": 3, "lr0": -1}, "recipe.yaml, section train")


@pytest.mark.parametrize("key", ["imgsz", "seed", "device", "weights", "data"])
def test_what_holds_for_every_stage_is_not_set_for_training_alone(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}' holds for all stages of a recipe and is ignored here; set it at"):
        check_train_settings({key: 1}, "recipe.yaml, section train")


def test_only_a_bare_name_means_a_shipped_recipe(tmp_path: Path) -> None:
    shipped = resource_file("configs", "demo")
    assert _recipe_path(Path("demo")) == _recipe_path(Path("demo.yaml")) == shipped
    assert _recipe_path(tmp_path / "demo.yaml") == tmp_path / "demo.yaml"


def test_more_epochs_repeat_training_and_what_follows_but_not_the_import(tmp_path: Path) -> None:
    before = keys_of(plan(tmp_path), tmp_path)
    after = keys_of(plan(tmp_path, "train.epochs=3"), tmp_path)
    assert {name for name in before if before[name] != after[name]} == {
        "train",
        "adapted",
        "compare",
        "export",
        "verify",
        "bench",
        "video",
        "page",
    }


def test_only_the_start_may_know_no_class_of_the_dataset(tmp_path: Path) -> None:
    found = stages(demo(), tmp_path / "run", tmp_path / "w.pt")
    assert {stage.name for stage in found if "--allow-no-figure" in stage.command} == {"zero_shot", "zero_shot_weather"}
    assert {"adapted", "adapted_weather"} <= {stage.name for stage in found}


def test_a_changed_source_repeats_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    before = keys_of(plan(source), tmp_path)
    (source / "new.jpg").write_bytes(b"x")
    after = keys_of(plan(source), tmp_path)
    assert [name for name in before if before[name] == after[name]] == []


def changed_by(file: Path, recipe: Recipe, folder: Path) -> list[str]:
    """Return the stages whose own sources an edit of a file changes, not those of the stages before them."""
    found = {stage.name: stage for stage in stages(recipe, folder / "run", folder / "w.pt", fell_back=True)}
    before = {name: [source_state(path) for path in stage.sources] for name, stage in found.items()}
    file.write_text("edited")
    return [name for name, stage in found.items() if [source_state(path) for path in stage.sources] != before[name]]


@pytest.mark.parametrize(
    ("setting", "file", "names"),
    [
        ("data.card", "dawn.yaml", ["import"]),
        ("data.names", "names.txt", ["import"]),
        ("train.albumentations", "pipeline.json", ["train"]),
        ("train.replay", "coco/labels/a.txt", ["train"]),
        ("train.retention", "coco/labels/a.txt", ["train"]),
        ("bench.profile", "board.yml", ["bench"]),
        ("scenes.preset", "city.yaml", ["render", "drive"]),
        ("fallback.train.replay", "coco/labels/a.txt", ["train"]),
        ("fallback.source_train.replay", "coco/labels/a.txt", ["source_train"]),
    ],
)
def test_an_edited_file_that_a_recipe_names_repeats_its_stage(
    setting: str, file: str, names: list[str], tmp_path: Path
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("as it was")
    (tmp_path / "source").mkdir()
    assignment = f"{setting}={tmp_path / Path(file).parts[0]}"
    rendered = setting.startswith(("scenes", "fallback"))
    recipe = demo(assignment) if rendered else plan(tmp_path / "source", assignment)
    assert changed_by(path, recipe, tmp_path) == names


@pytest.mark.parametrize("place", ["", "elsewhere"])
@pytest.mark.parametrize(
    ("setting", "name"),
    [("train.replay", "train"), ("train.retention", "train"), ("fallback.source_train.replay", "source_train")],
)
def test_an_edited_label_counts_where_a_dataset_is_named_by_its_yaml(
    setting: str, name: str, place: str, tmp_path: Path
) -> None:
    label = tmp_path / place / "labels" / "train" / "a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "source").mkdir()
    # Beside it, or where its 'path' leads.
    yaml = tmp_path / ("coco" if place else "") / "data.yaml"
    yaml.parent.mkdir(exist_ok=True)
    yaml.write_text(f"path: {'../elsewhere' if place else '.'}\ntrain: images/train\nnames: [car]\n")
    for named in (yaml, yaml.parent):
        assignment = f"{setting}={named}"
        recipe = demo(assignment) if setting.startswith("fallback") else plan(tmp_path / "source", assignment)
        label.write_text("0 0.5 0.5 0.1 0.1\n")
        assert name in changed_by(label, recipe, tmp_path)


def test_an_edited_label_counts_where_the_source_is_named_by_its_yaml(tmp_path: Path) -> None:
    (tmp_path / "label.txt").write_text("as it was")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [car]\n")
    recipe = plan(tmp_path / "data.yaml", "data.format=yolo", "data.card=null")
    assert changed_by(tmp_path / "label.txt", recipe, tmp_path) == ["import"]


def carried(monkeypatch: pytest.MonkeyPatch, recipe: str, folder: Path, *settings: str, fell_back: bool) -> list[Stage]:
    """Return the stages that would be carried out."""
    found: list[Stage] = []

    class Enough(Exception):
        pass

    def note(stages: list[Stage], *_: object) -> None:
        found.extend(stages)
        raise Enough

    monkeypatch.setattr(run, "carry_out_all", note)
    monkeypatch.setattr(run, "_weights", lambda *_: (folder / "w.pt", fell_back))
    shipped = PROJECT / "configs" / f"{recipe}.yaml"
    with pytest.raises(Enough):
        run.carry_out_recipe(shipped, list(settings), lambda plan: folder / "run", Reporter("run", True))
    return found


def test_two_processes_do_not_carry_out_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_weights", lambda *_: (tmp_path / "w.pt", False))
    folder = tmp_path / "run"
    folder.mkdir()
    shipped = PROJECT / "configs" / "demo.yaml"
    with locked_dir(folder), pytest.raises(OutputError, match=r"another process is at work in '.*/run'; wait for it"):
        run.carry_out_recipe(shipped, [], lambda plan: folder, Reporter("run", True))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "setting", "fell_back", "message"),
    [
        (
            "demo",
            "train.replay=nowhere",
            False,
            r"train\.replay is '.*/nowhere', which does not exist; say where it lies",
        ),
        ("demo", "train.retention=~/nowhere", False, r"is '.*/home/nowhere', which .* --set train\.retention=PATH"),
        (
            "clear_to_fog",
            "train.albumentations=x.json",
            False,
            r"albumentations is '.*/x\.json', and there is no such file",
        ),
        ("demo", "fallback.train.replay=x", True, r"fallback\.train\.replay is '.*/x', which does not exist"),
        ("demo", "fallback.source_train.replay=x", True, r"fallback\.source_train\.replay is"),
        (
            "clear_to_fog",
            "video.source=~/drive.mp4",
            False,
            r"video\.source is '~/drive\.mp4', and there is no such file",
        ),
        ("clear_to_fog", "video.source=rtsp://me:secret@cam/live", False, r"is 'rtsp:/…', .* no camera or stream"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_before_the_first_stage(
    recipe: str, setting: str, fell_back: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    source = () if recipe == "demo" else (f"data.source={tmp_path}",)
    with pytest.raises(ConfigError, match=message) as refused:
        carried(monkeypatch, recipe, tmp_path, *source, setting, fell_back=fell_back)
    assert "secret" not in str(refused.value) and not (tmp_path / "run").exists()


def test_a_home_folder_is_expanded_and_only_what_is_used_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    (tmp_path / "drive.mp4").touch()
    settings = (f"data.source={tmp_path}", "train.replay=~/coco", "train.retention=coco", "video.source=~/drive.mp4")
    found = {stage.name: stage for stage in carried(monkeypatch, "clear_to_fog", tmp_path, *settings, fell_back=False)}
    assert [found["train"].settings[key] for key in ("replay", "retention")] == [str(tmp_path / "coco")] * 2
    assert found["video"].command[1] == str(tmp_path / "drive.mp4")
    for settings, fell_back in ((("train.replay=x",), True), (("fallback.train.replay=x",), False)):
        assert carried(monkeypatch, "demo", tmp_path, *settings, fell_back=fell_back)


def test_names_of_what_is_shipped_are_no_files(tmp_path: Path) -> None:
    named = stages(plan(tmp_path, "bench.profile=x86-cpu", "data.names=coco"), tmp_path, tmp_path / "w.pt")
    assert {stage.name: stage.sources for stage in named if stage.name in ("import", "bench")} == {
        "import": (tmp_path,),
        "bench": (),
    }


def test_the_reported_split_is_never_trained_on(tmp_path: Path) -> None:
    commands = {stage.name: stage.command for stage in stages(plan(tmp_path), tmp_path, tmp_path / "w.pt")}
    assert "train=train,val=test" in commands["import"]
    assert commands["split"][-8:] == ("--from", "train", "--into", "val", "--fraction", "0.2", "--seed", "0")
    for name in ("zero_shot", "adapted", "verify"):
        assert commands[name][commands[name].index("--split") + 1] == "test"


def commands_of(folder: Path, *settings: str) -> dict[str, tuple[str, ...]]:
    return {stage.name: stage.command for stage in stages(plan(folder, *settings), folder, folder / "w.pt")}


def test_what_a_source_lacks_is_drawn_and_a_val_of_its_own_is_kept(tmp_path: Path) -> None:
    assert "--val" not in commands_of(tmp_path)["import"], "what has splits to rename has nothing to draw"
    drawn = commands_of(tmp_path, "data.split_names=null", "data.test=0.3")["import"]
    assert drawn[-4:] == ("--val", "0", "--test", "0.3")
    own = commands_of(tmp_path, "data.split_names=null", "data.selection=0")
    assert "split" not in own
    imported = own["import"][own["import"].index("--out") + 1]
    for name in ("zero_shot", "train", "adapted", "compare", "verify"):
        assert own[name][own[name].index("--data") + 1] == imported
    assert own["check"][-1] == own["export"][own["export"].index("--golden") + 1] == imported


def voc_source(folder: Path, splits: tuple[str, ...]) -> Path:
    """A dozen pictures of blocks, dealt out to the lists of splits; without any for the split ''."""
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    box = "".join(f"<{side}>{px}</{side}>" for side, px in (("xmin", 9), ("ymin", 9), ("xmax", 40), ("ymax", 40)))
    for seed in range(12):
        blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
        picture = cv2.resize(blocks, (96, 64), interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(folder / "images" / f"p{seed}.png"), picture)
        (folder / "annotations" / f"p{seed}.xml").write_text(
            f"<annotation><object><name>car</name><bndbox>{box}</bndbox></object></annotation>"
        )
    for number, split in enumerate(filter(None, splits)):
        (folder / f"{split}.txt").write_text("".join(f"p{seed}\n" for seed in range(number, 12, len(splits))))
    return folder


@pytest.mark.parametrize("splits", [("",), ("train", "val", "test")])
def test_import_split_and_check_follow_one_another(splits: tuple[str, ...], tmp_path: Path) -> None:
    """With the real verbs, on the VOC layout without lists of splits and with all three."""
    source = voc_source(tmp_path / "source", splits)
    selection = "0.2" if splits == ("",) else "0"
    settings = ("data.card=voc", "data.split_names=null", f"data.selection={selection}")
    found = stages(plan(source, *settings), tmp_path, tmp_path / "w.pt")
    prepared = [stage for stage in found if stage.name in ("import", "split", "check")]
    results = carry_out_all(prepared, tmp_path, Reporter("run", True))
    assert results["check"]["ok"]
    assert set(results[prepared[-2].name]["splits"]) == {"train", "val", "test"}


def demo(*settings: str) -> Recipe:
    document = load_yaml(PROJECT / "configs" / "demo.yaml")
    return parse_model(Recipe, set_values(document, list(settings)), "demo.yaml")


def test_the_demo_renders_measures_in_fog_and_ends_with_the_page(tmp_path: Path) -> None:
    found = {stage.name: stage for stage in stages(demo(), tmp_path, tmp_path / "w.pt")}
    assert list(found) == [
        *("render", "weather", "zero_shot", "zero_shot_weather", "train", "adapted", "adapted_weather"),
        *("compare", "export", "verify", "bench", "drive", "video", "page"),
    ]
    assert "--depth" in found["render"].command
    assert set(found["page"].needs) >= {"zero_shot_weather", "adapted_weather", "verify", "bench", "video"}
    seen = set()
    for stage in found.values():
        assert set(stage.needs) <= seen
        seen.add(stage.name)


def test_the_fallback_trains_in_another_city_first_and_compares_with_that(tmp_path: Path) -> None:
    plan = demo()
    assert plan.fallback is not None
    found = {stage.name: stage for stage in stages(plan, tmp_path, tmp_path / "w.weights", fell_back=True)}
    source, train = found["source_train"], found["train"]
    assert found["source"].command[2] == "source-city" and found["render"].command[2] == "target-city"
    assert source.command[source.command.index("--weights") + 1] == str(tmp_path / "w.weights")
    before = str(tmp_path / "source_train" / "weights" / "adapted.pt")
    assert train.command[train.command.index("--weights") + 1] == before
    assert found["zero_shot"].command[1] == found["zero_shot_weather"].command[1] == before
    assert source.settings == plan.fallback.source_train
    assert train.settings == plan.fallback.train


def test_the_fallback_may_have_another_size() -> None:
    plan = demo("imgsz=640", "fallback.imgsz=320", "fallback.input_size=192x320")
    assert (plan.fallen_back().imgsz, plan.fallen_back().input_size) == (320, "192x320")
    kept = demo("fallback.imgsz=null", "fallback.input_size=null")
    assert kept.fallen_back() == kept


def test_a_recipe_imports_or_renders_and_not_both() -> None:
    with pytest.raises(ConfigError, match="either the section 'data' or the section 'scenes'"):
        demo("data={format: voc, source: x}")
    with pytest.raises(ConfigError, match="go with 'scenes'"):
        demo("scenes=null", "data={format: voc, source: x}")
    with pytest.raises(ConfigError, match=r"'scenes\.presett', did you mean 'preset'"):
        demo("scenes.presett=x")


def test_source_state_sees_names_and_contents_and_no_dates(tmp_path: Path) -> None:
    states = [source_state(tmp_path)]
    for content in ("1", "12", "13"):
        (tmp_path / "a").write_text(content)
        states.append(source_state(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    states.append(source_state(tmp_path))
    assert len(set(states)) == 5
    os.utime(tmp_path / "b", (0, 0))
    assert source_state(tmp_path) == states[-1], "a dataset that was copied again is the same dataset"


def test_source_state_of_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    latin1 = Path(os.fsdecode(os.fsencode(tmp_path / "stra") + b"\xdfe.txt"))
    latin1.write_text("a")
    first = source_state(tmp_path)
    latin1.rename(tmp_path / "straße.txt")
    assert len({first, source_state(tmp_path)}) == 2


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("drivetl.recipe.sha256_file", refuse)
    (tmp_path / "label.xml").write_text("<a/>")
    with pytest.raises(DatasetError, match=r"cannot read .*label\.xml.*: Permission denied; make it readable"):
        source_state(tmp_path)


def test_source_state_of_what_is_too_much_to_read_sees_dates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetl.recipe._READ_WHOLE_BYTES", 3)
    (tmp_path / "a").write_text("1234")
    before = source_state(tmp_path)
    os.utime(tmp_path / "a", (0, 0))
    assert source_state(tmp_path) != before
