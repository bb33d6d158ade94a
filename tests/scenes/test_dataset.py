"""Datasets of scenes, the contact sheet and the verb."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from drivetl.data import check_dataset, open_dataset
from drivetl.errors import ConfigError, DrivetlError, OutputError
from drivetl.scenes import load_preset, render_scene, write_scenes_dataset
from drivetl.scenes.dataset import scene_seed
from drivetl.scenes.sheet import contact_sheet, draw_boxes
from drivetl.sheet_file import save_sheet
from drivetl.verbs.scenes import register

from .drawn import SMALL_HW, scene

COUNTS = {"train": 3, "val": 2}

app = typer.Typer()
register(app)


@app.callback()
def _root() -> None:
    """Keep ``scenes`` a group."""


def test_a_dataset_is_healthy_and_the_same_every_time(tmp_path: Path) -> None:
    preset = load_preset("target-city")
    seen: list[int] = []
    first, second = (
        write_scenes_dataset(
            preset,
            tmp_path / name,
            counts=COUNTS,
            size_hw=SMALL_HW,
            depth=True,
            progress=lambda _, done, total: seen.append(done),
        )
        for name in ("one", "two")
    )
    assert first.fingerprint == second.fingerprint
    assert first.splits == COUNTS
    assert max(seen) == 5
    # Five pictures do not show every class; nothing else may be wrong.
    assert {problem.kind for problem in check_dataset(first.root).problems} <= {"class_without_examples"}
    sample = next(iter(open_dataset(tmp_path / "one").samples("train")))
    frame = render_scene(preset, seed=scene_seed(0, "train", 0), size_hw=SMALL_HW)
    assert [box.xyxy_px for box in sample.boxes] == [thing.xyxy_px for thing in frame.objects]
    assert {"weather", "scene", "timeofday", "preset"} <= set(sample.attributes)
    assert len(sample.ignore) == len(frame.ignore)
    picture = cv2.imread(str(sample.image))
    assert np.abs(picture.astype(int) - frame.image_bgr).mean() < 6
    stored = cv2.imread(str(first.root / "depth" / "train" / f"{sample.image.stem}.png"), cv2.IMREAD_UNCHANGED)
    finite = frame.depth_m < 600
    assert np.abs(stored[finite] / 100 - frame.depth_m[finite]).max() <= 0.0051
    assert (stored[np.isinf(frame.depth_m)] == 65535).all()


def test_a_dataset_never_stands_without_its_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "depth":
            raise KeyboardInterrupt
        return move(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scenes_dataset(
            load_preset("target-city"), tmp_path / "city", counts={"train": 1}, size_hw=SMALL_HW, depth=True
        )
    assert list(tmp_path.iterdir()) == []


def test_processes_do_not_change_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = load_preset("source-city")
    alone = write_scenes_dataset(preset, tmp_path / "alone", counts=COUNTS, size_hw=(128, 256))
    monkeypatch.setattr("drivetl.scenes.dataset._SCENES_A_PROCESS", 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    many = write_scenes_dataset(preset, tmp_path / "many", counts=COUNTS, size_hw=(128, 256))
    assert alone.fingerprint == many.fingerprint
    for one, other in zip(sorted(alone.root.rglob("*.jpg")), sorted(many.root.rglob("*.jpg")), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_dataset_is_not_written_over_and_needs_a_scene(tmp_path: Path) -> None:
    preset = load_preset("target-city")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="was not made by drivetl"):
        write_scenes_dataset(preset, tmp_path / "mine", counts=COUNTS, overwrite=True)
    for counts in ({}, {"train": 0}, {"train": -1}):
        with pytest.raises(ConfigError, match="at least one scene"):
            write_scenes_dataset(preset, tmp_path / "new", counts=counts)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_line_is_drawn_on_the_edge_of_each_box() -> None:
    frame = scene("target-city", 1)
    changed = (draw_boxes(frame) != frame.image_bgr).any(axis=2)
    assert changed.any()
    for thing in frame.objects:
        left, top, right, bottom = (int(value) for value in thing.xyxy_px)
        assert changed[top, left:right].mean() > 0.9
        assert changed[top:bottom, right - 1].mean() > 0.9


def test_the_sheet_fits_its_limit(tmp_path: Path) -> None:
    sheet = contact_sheet([load_preset("target-city")], count=4, columns=2, cell_width_px=160)
    assert sheet.shape == (4 + 2 * 94, 4 + 2 * 164, 3)
    save_sheet(sheet, tmp_path / "a.jpg", limit_bytes=20_000)
    assert (tmp_path / "a.jpg").stat().st_size <= 20_000
    for out, limit in (("b.jpg", 500), ("c.png", 500), ("d.gif", None)):
        with pytest.raises(OutputError):
            save_sheet(sheet, tmp_path / out, limit_bytes=limit)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_the_verb_renders_shows_and_times(tmp_path: Path) -> None:
    out = tmp_path / "city"
    words = ["scenes", "render", "target-city", "--out", str(out), "--train", "2", "--val", "1", "--test", "0"]
    done = CliRunner().invoke(app, [*words, "--size", "128x256", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["verb"], document["images"], document["splits"]) == ("scenes render", 3, {"train": 2, "val": 1})
    sheet = tmp_path / "sheet.jpg"
    done = CliRunner().invoke(app, ["scenes", "sheet", "--out", str(sheet), "--count", "2", "--cell-width", "100"])
    assert done.exit_code == 0, done.output
    assert sheet.is_file()
    done = CliRunner().invoke(app, ["scenes", "bench", "--scenes", "10", "--size", "128x256", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["scenes_per_s"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [(("render", "nowhere", "--out", "x"), "target-city"), (("bench", "--size", "wide"), "540x960")],
)
def test_the_verb_names_what_is_wrong(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["scenes", *words])
    assert isinstance(result.exception, DrivetlError)
    assert message in str(result.exception)
