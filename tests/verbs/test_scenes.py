"""Rendered datasets and drives from the command line, and a dataset under weather with its exact depth."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivetl import cli
from drivetl.data import open_dataset
from drivetl.data.pictures import decode_picture
from drivetl.errors import ConfigError, DatasetError, ImageError, OutputError
from drivetl.weather import apply_weather
from drivetl.weather.dataset import read_depth, weather_dataset


def call(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["drivetl", *words, "--json"])
        with pytest.raises(SystemExit) as left:
            cli.main()
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert left.value.code == document.get("error", {}).get("exit_status", 0)
    return document


@pytest.fixture
def rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "city"
    counts = ("--train", "2", "--val", "0", "--test", "2", "--size", "135x240")
    document = call(capsys, "scenes", "render", "target-city", "--out", str(out), *counts, "--depth")
    assert document["splits"] == {"train": 2, "test": 2} and document["images"] == 4
    assert sum(document["per_class"].values()) == document["boxes"] > 0
    return out


def test_a_split_in_fog_has_the_same_boxes_and_exact_depth(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fog"
    document = call(capsys, "weather", "apply", str(rendered), "--out", str(out), "--condition", "fog")
    assert (document["images"], document["severity"], document["split"]) == (2, 3, "test")
    clear, foggy = (list(open_dataset(path).samples("test")) for path in (rendered, out))
    for index, (one, other) in enumerate(zip(clear, foggy, strict=True)):
        assert (other.boxes, other.ignore) == (one.boxes, one.ignore)
        assert other.attributes["weather"] == "foggy" and other.attributes["severity"] == 3
        depth_m = read_depth(rendered, one)
        assert depth_m is not None and depth_m.shape == one.size_hw and np.isinf(depth_m).any()
        boxes = np.array([box.xyxy_px for box in one.boxes], np.float32).reshape(-1, 4)
        rng = np.random.default_rng(np.random.SeedSequence([0, index]))
        expected = apply_weather(decode_picture(one.image), "fog", 3, rng=rng, depth_m=depth_m, boxes_xyxy_px=boxes)
        found = decode_picture(other.image).astype(int)
        assert np.abs(found - expected).mean() < 2.0, "equal but for the JPEG"


def test_the_same_seed_gives_the_same_fog_and_without_depth_the_prior_is_used(rendered: Path, tmp_path: Path) -> None:
    def written(name: str, seed: int) -> bytes:
        made = weather_dataset(rendered, tmp_path / name, split="train", condition="fog", severity=4, seed=seed)
        return made.pictures("train")[0].read_bytes()

    first = written("one", 1)
    assert first == written("two", 1) != written("three", 2)
    for path in (rendered / "depth").rglob("*.png"):
        path.unlink()
    assert written("four", 1) != first


def test_a_strangers_depth_has_no_known_unit_and_is_not_used(rendered: Path, tmp_path: Path) -> None:
    def written(name: str, condition: str = "fog") -> tuple[bytes, tuple[str, ...]]:
        made = weather_dataset(rendered, tmp_path / name, split="train", condition=condition, severity=4)
        return made.pictures("train")[0].read_bytes(), made.notes

    for record in ("dataset.json", "samples.jsonl"):
        (rendered / record).unlink()
    found, notes = written("with")
    assert written("dirt", "dirty_lens")[1] == ()
    shutil.rmtree(rendered / "depth")
    assert written("without") == (found, ())
    (note,) = notes
    assert note.startswith(f"'{rendered / 'depth'}' is not used") and "the unit of its depth is unknown" in note


def test_bad_input(rendered: Path, tmp_path: Path) -> None:
    def make(**changes: Any) -> None:
        options = {"split": "test", "condition": "fog", "severity": 3, **changes}
        weather_dataset(rendered, tmp_path / "out", **options)

    with pytest.raises(ConfigError, match="'mist'"):
        make(condition="mist")
    with pytest.raises(DatasetError, match="no split 'val'"):
        make(split="val")
    depth = next((rendered / "depth" / "test").glob("*.png"))
    depth.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="is no depth map of 240x135 pixels"):
        make()
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out-*"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(OutputError, match="was not made by drivetl"):
        make(split="train")


def test_a_drive_is_numbered_frames_in_the_weather(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def frames(name: str, *more: str) -> list[np.ndarray]:
        out = tmp_path / name
        words = ("--frames", "3", "--size", "135x240", *more)
        assert call(capsys, "scenes", "drive", "target-city", "--out", str(out), *words)["frames"] == 3
        return [cv2.imread(str(out / f"{index:05d}.jpg")).astype(int) for index in range(3)]

    clear, foggy = frames("clear"), frames("foggy", "--condition", "fog", "--severity", "5")
    assert clear[0].shape == (135, 240, 3)
    assert np.abs(clear[2] - clear[0]).mean() > 1.0, "it moves"
    assert foggy[1].std() < clear[1].std(), "fog takes contrast"
    error = call(capsys, "scenes", "drive", "target-city", "--out", str(tmp_path / "x"), "--size", "9x9")["error"]
    assert "64 to 4096 pixels" in error["message"]


def test_night_is_night_and_only_its_ignore_regions_are_counted(rendered: Path, tmp_path: Path) -> None:
    marker = rendered / "dataset.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "ignored": 1000}))
    made = weather_dataset(rendered, tmp_path / "night", split="test", condition="night", severity=3)
    samples = list(made.samples("test"))
    assert {sample.attributes["timeofday"] for sample in samples} == {"night"}
    written = json.loads((made.root / "dataset.json").read_text())
    assert written["ignored"] == sum(len(sample.ignore) for sample in samples)


@pytest.mark.parametrize("out", [".", "fog", ".."])
def test_the_source_is_never_written_over(out: str, rendered: Path) -> None:
    before = sorted(path for path in rendered.rglob("*"))
    with pytest.raises(OutputError, match="is the dataset itself, lies in it or holds it"):
        weather_dataset(rendered, rendered / out, split="test", condition="fog", severity=3, overwrite=True)
    assert sorted(path for path in rendered.rglob("*")) == before


@pytest.mark.parametrize(("content", "words"), [(b"", "is no depth map"), (None, "holds 0 at 1 pixels")])
def test_damaged_depth_is_named_and_read_only_where_it_is_wanted(
    content: bytes | None, words: str, rendered: Path, tmp_path: Path
) -> None:
    depth = next((rendered / "depth" / "test").glob("*.png"))
    if content is None:
        centimetres = cv2.imread(str(depth), cv2.IMREAD_UNCHANGED)
        centimetres[3, 4] = 0
        cv2.imwrite(str(depth), centimetres)
    else:
        depth.write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        weather_dataset(rendered, tmp_path / "fog", split="test", condition="fog", severity=3)
    assert depth.name in str(caught.value)
    made = weather_dataset(rendered, tmp_path / "blur", split="test", condition="motion_blur", severity=3)
    assert made.splits == {"test": 2}


def test_a_picture_that_cannot_be_put_under_weather_is_named(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImageError("the box has no area")

    monkeypatch.setattr("drivetl.weather.dataset.apply_weather", refuse)
    with pytest.raises(ImageError, match=r"images/test/.+': the box has no area"):
        weather_dataset(rendered, tmp_path / "fog", split="test", condition="fog", severity=3)


def test_a_picture_that_no_jpeg_holds_is_named_before_the_work(tmp_path: Path) -> None:
    root = tmp_path / "strip"
    for folder in ("images", "labels"):
        (root / folder / "test").mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "test" / "long.png"), np.zeros((8, 66000, 3), np.uint8))
    (root / "labels" / "test" / "long.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("test: images/test\nnames: [car]\n")
    with pytest.raises(ImageError, match=r"long\.png' is 66000x8; JPEG, .* allows 65500 pixels a side"):
        weather_dataset(root, tmp_path / "fog", split="test", condition="fog", severity=3)
