from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from drivetl.errors import ConfigError, DatasetError, OutputError
from drivetl.verbs import data

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    data.register(app)

    def call(*words: str | Path) -> Result:
        return CliRunner().invoke(app, ["data", *map(str, words)])

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A YOLO layout of twelve pictures in train and one in val, each with a car."""
    root = tmp_path / "source"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 1)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            blocks = cv2.resize(
                rng.integers(0, 256, (10, 10, 3), np.uint8), (200, 100), interpolation=cv2.INTER_NEAREST
            )
            cv2.imwrite(str(root / f"images/{split}/{split}{index}.png"), blocks)
            (root / f"labels/{split}/{split}{index}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car]\n")
    return root


def _document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_import_check_split_stats(run: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    imported = _document(run("import", "yolo", source, "--out", out, "--split-names", "val=test", "--json"))
    assert (imported["verb"], imported["schema_version"]) == ("data import", 1)
    assert (imported["images"], imported["boxes"], imported["per_class"]) == (13, 13, {"car": 13})
    assert imported["splits"] == {"train": 12, "test": 1}

    checked = _document(run("check", out, "--json"))
    assert (checked["ok"], checked["problems"], checked["images"]) == (True, [], 13)

    cut = _document(run("split", out, "--out", out, "--overwrite", "--fraction", "0.25", "--json"))
    assert cut["splits"] == {"train": 9, "val": 3, "test": 1}

    png = tmp_path / "stats.png"
    counted = _document(run("stats", out, "--out", png, "--json"))
    assert counted["per_class"] == {"car": {"train": 9, "val": 3, "test": 1}}
    assert cv2.imread(str(png)).shape[1] == 1280

    for words in (("check", out), ("stats", out), ("import", "yolo", source, "--out", tmp_path / "again")):
        assert run(*words).exit_code == 0


def test_stats_draw_what_the_ending_says(run: Run, source: Path, tmp_path: Path) -> None:
    assert run("stats", source, "--out", tmp_path / "s.jpg").exit_code == 0
    assert (tmp_path / "s.jpg").read_bytes()[:2] == b"\xff\xd8"
    for out, message in (("s.txt", "cannot tell the format of .*s.txt'; end --out with .jpg"), ("s.jpg", "exists")):
        result = run("stats", tmp_path / "gone", "--out", tmp_path / out)  # refused before the dataset is looked at
        assert isinstance(result.exception, OutputError)
        assert re.search(message, str(result.exception))
    assert not (tmp_path / "s.txt").exists()


def test_a_failed_check_exits_with_one_and_prints_one_document(run: Run, source: Path, tmp_path: Path) -> None:
    (source / "labels/train/train3.txt").write_text("0 0.5 0.5 0.5\n")
    result = run("check", source, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["ok"] is False
    (problem,) = document["problems"]
    assert (problem["kind"], problem["file"], problem["line"]) == ("label_malformed", "labels/train/train3.txt", 1)
    assert "the dataset check found 1 problem\n" in result.stderr
    words = run("check", source)
    assert words.exit_code == 1
    assert "labels/train/train3.txt:1: label_malformed: has 4 columns" in words.stdout


def test_names_with_terminal_markup_do_not_reach_the_terminal(run: Run, source: Path, tmp_path: Path) -> None:
    (source / "labels/train/\x1b[31m[red]x.txt").write_text("")
    result = run("check", source)
    assert result.exit_code == 1
    assert "\\x1b[31m[red]x.txt" in result.stdout
    assert "\x1b" not in result.output


def test_merge_and_leave_out(run: Run, source: Path, tmp_path: Path) -> None:
    for name in ("day", "fog"):
        _document(run("import", "yolo", source, "--out", tmp_path / name, "--json"))
    words = ("merge", tmp_path / "day", tmp_path / "fog", "--leave-out", "fog", "--out", tmp_path / "both", "--json")
    assert _document(run(*words))["splits"] == {"train": 12, "val": 1, "held_out": 1}


def test_get_prints_the_page_where_registration_is_needed(run: Run, tmp_path: Path) -> None:
    document = _document(run("get", "bdd100k", "--out", tmp_path, "--json"))
    assert (document["path"], document["page"]) == (None, "http://bdd-data.berkeley.edu/")
    assert "http://bdd-data.berkeley.edu/" in run("get", "bdd100k", "--out", tmp_path).stdout


def test_a_download_key_is_named_by_import_and_check(run: Run, source: Path, tmp_path: Path) -> None:
    with (source / "data.yaml").open("a") as handle:
        handle.write("download: https://example.org/evil.zip\n")
    for words in (("import", "yolo", source, "--out", tmp_path / "out", "--json"), ("check", source, "--json")):
        assert any("'download'" in note for note in _document(run(*words))["notes"])


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("import", "kitty", "{source}", "--out", "{out}"), DatasetError, "did you mean 'kitti'"),
        (("import", "yolo", "{source}/gone", "--out", "{out}"), DatasetError, "there is no"),
        (("import", "yolo", "{source}", "--out", "{out}", "--split-names", "val"), ConfigError, "OLD=NEW"),
        (("check", "{out}"), DatasetError, "there is no dataset"),
        (("get", "nothing"), ConfigError, "known: bdd100k"),
    ],
)
def test_bad_input_is_one_error(
    run: Run, source: Path, tmp_path: Path, words: tuple[str, ...], error: type[Exception], message: str
) -> None:
    result = run(*(word.format(source=source, out=tmp_path / "out") for word in words))
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_help_has_an_example_and_loads_nothing_heavy(run: Run) -> None:
    for verb in ("import", "check", "split", "merge", "stats", "get"):
        assert f"Example: drivetl data {verb}" in run(verb, "--help").stdout
    code = (
        "import sys, drivetl.verbs.data; print([m for m in ('cv2', 'numpy', 'pydantic', 'yaml') if m in sys.modules])"
    )
    project = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project)
    assert done.stdout == "[]\n"


def test_split_and_folds_tell_of_boxes_that_left_their_pictures(run: Run, source: Path, tmp_path: Path) -> None:
    (source / "labels/train/train3.txt").write_text("0 0.9 0.5 0.4 0.5\n")
    told = "1 boxes of .*source' left the picture and were clipped to it"
    for number, verb in enumerate(("split", "folds")):
        words = (verb, source, *(("--into", "held") if verb == "split" else ()), "--out")
        assert re.search(told, run(*words, tmp_path / f"words{number}").stdout)
        (note,) = _document(run(*words, tmp_path / f"json{number}", "--json"))["notes"]
        assert re.match(told, note)
