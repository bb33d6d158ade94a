"""Plain Ultralytics as a baseline: its own trainer on our dataset, and what it may not be told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from drivetl.adapt import plain
from drivetl.adapt.plain import on_gpu, train_plain
from drivetl.errors import ConfigError, DatasetError, OutputError
from drivetl.verbs import baseline
from drivetl.yolo import load_checkpoint
from drivetl.yolo.ultra import torch_utils_module, trainer_module

SMALL: dict[str, Any] = {"epochs": 1, "imgsz": 64, "batch": 2, "workers": 0, "seed": 3}


def test_it_trains_by_its_own_defaults_and_writes_one_file(drawn: Path, random_weights: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in drawn.rglob("*"))
    result = train_plain([drawn], random_weights, tmp_path / "run", settings=SMALL)
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [result.weights]
    assert sorted(path.name for path in drawn.rglob("*")) == before
    start, trained = (load_checkpoint(path).model for path in (random_weights, result.weights))
    assert list(trained.names.values()) == ["car", "pedestrian", "dragon"]
    name = "model.0.conv.weight"
    assert not torch.equal(trained.state_dict()[name].float(), start.state_dict()[name].float())
    document = result.document()
    assert document["seconds"] > 0 and document["threads"] >= 1 and document["peak_memory_mib"] > 100
    with pytest.raises(OutputError, match="pass --overwrite"):
        train_plain([drawn], random_weights, tmp_path / "run", settings=SMALL)


def test_several_datasets_are_merged_and_all_of_them_are_trained_on(
    drawn: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `drivetl train` does with several ``--data``; the last one alone would be another comparison."""
    for name, classes in (("day", "[car, pedestrian, dragon]"), ("night", "[car, bus, dragon]")):
        shutil.copytree(drawn, tmp_path / name)
        yaml = (tmp_path / name / "data.yaml").read_text()
        (tmp_path / name / "data.yaml").write_text(yaml.partition("names:")[0] + f"names: {classes}\n")
    seen: list[list[str]] = []

    def note(trainer: Any) -> None:
        seen.append(sorted(path.name for path in Path(trainer.data["train"]).iterdir()))
        trainer.last.parent.mkdir(parents=True, exist_ok=True)
        trainer.last.write_bytes(b"trained")

    monkeypatch.setattr(plain, "_train", note)
    app = typer.Typer()
    baseline.register(app)
    (tmp_path / "recipe.yaml").write_text(f"train: {json.dumps(SMALL)}\n")
    words = ["--data", tmp_path / "day", "--data", tmp_path / "night", "--weights", random_weights]
    words += ["--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--json"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert len(seen[0]) == 8, "four pictures of each"
    notes = json.loads(done.stdout)["notes"]
    assert "The class 'bus' is not labelled in 'day': its objects there train as background." in notes
    refused = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(refused.exception, OutputError)
    again = CliRunner().invoke(app, [str(word) for word in (*words, "--overwrite")])
    assert again.exit_code == 0 and seen[1] == seen[0]


@pytest.mark.parametrize("split", [None, "val"])
def test_threads_are_those_asked_for_from_the_first_step_to_the_last_validation(
    split: str | None, drawn: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics takes its own number when its trainer is built, and again for the validation after the training."""
    own, during = torch_utils_module.NUM_THREADS, list[int]()
    asked = own + 1
    monkeypatch.setattr(
        plain._PlainTrainer, "save_metrics", lambda self, metrics: during.append(torch.get_num_threads())
    )
    torch.set_num_threads(own + 2)
    try:
        result = train_plain(
            [drawn], random_weights, tmp_path / "run", settings=SMALL, selection_split=split, threads=asked
        )
    finally:
        torch.set_num_threads(1)
    assert set(during) == {asked} and result.threads == asked
    assert own == torch_utils_module.NUM_THREADS


def test_mixed_precision_is_not_checked_with_a_download(
    drawn: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(model: object) -> bool:
        raise AssertionError("this check fetches a model")

    monkeypatch.setattr(trainer_module, "check_amp", fetch)
    train_plain([drawn], random_weights, tmp_path / "run", settings={**SMALL, "amp": True})
    assert not on_gpu(torch.nn.Linear(1, 1))
    assert trainer_module.check_amp is fetch


@pytest.mark.parametrize(
    ("settings", "split", "error", "message"),
    [
        ({"project": "elsewhere"}, None, ConfigError, "'project' of Ultralytics cannot be changed"),
        ({"cache": "disk"}, None, ConfigError, "'cache' of Ultralytics cannot be changed"),
        ({"pretrained": "yolo11x.pt"}, None, ConfigError, "'pretrained' of Ultralytics cannot be changed"),
        ({"lr00": 1}, None, ConfigError, "lr00"),
        ({"epochs": "many"}, None, ConfigError, "epochs"),
        ({"lr0": -1}, None, ConfigError, "lr0"),
        ({"optimizer": "Foo"}, None, ConfigError, "Foo"),
        ({"freeze": 99}, None, ConfigError, "training ended in an error"),
        ({}, "test", DatasetError, "no split 'test'"),
    ],
)
def test_what_it_may_not_be_told_is_refused_before_anything_is_written(
    settings: dict[str, Any],
    split: str | None,
    error: type[Exception],
    message: str,
    drawn: Path,
    random_weights: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        train_plain([drawn], random_weights, tmp_path / "run", settings={**SMALL, **settings}, selection_split=split)
    assert not (tmp_path / "run").exists()
