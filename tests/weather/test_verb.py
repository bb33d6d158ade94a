"""``drivetl weather preview`` and ``bench``, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from drivetl.errors import ConfigError, DrivetlError, ImageError, OutputError
from drivetl.verbs.weather import register
from drivetl.weather import CONDITIONS, contact_sheet
from drivetl.weather.benchmark import time_kernels

from .scene import plane_scene

app = typer.Typer()
register(app)


@app.callback()
def _root() -> None:
    """Keep ``weather`` a group."""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    assert cv2.imwrite(str(path), plane_scene(90, 160).image_bgr)
    return path


def test_preview_writes_a_sheet(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    done = CliRunner().invoke(
        app, ["weather", "preview", str(picture), "--out", str(out), "--cell-width", "100", "--json"]
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["file"] == str(out)
    assert document["conditions"] == list(CONDITIONS)
    sheet = cv2.imread(str(out))
    assert list(sheet.shape[:2]) == document["size_hw"]
    assert sheet.shape[1] == 5 * 108


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (["--condition", "hail"], ConfigError, "hail"),
        (["--severity", "6"], ConfigError, "severity is 6"),
        (["--out", "sheet.tiff"], OutputError, "sheet.tiff"),
    ],
)
def test_bad_usage_is_one_sentence(
    picture: Path, tmp_path: Path, options: list[str], error: type[DrivetlError], words: str
) -> None:
    base = ["weather", "preview", str(picture), "--out", str(tmp_path / "sheet.png")]
    done = CliRunner().invoke(app, base + options)
    assert isinstance(done.exception, error)
    assert words in str(done.exception)
    assert list(tmp_path.iterdir()) == [picture]


@pytest.mark.parametrize("size_hw", [(2, 1600), (4, 1600), (1, 1), (700, 3)])
def test_a_sheet_of_any_shape(size_hw: tuple[int, int], tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    sheet = contact_sheet(picture, severities=(5,), cell_width_px=64)
    assert sheet.shape[1] == 64 + 8 and sheet.shape[0] >= len(CONDITIONS) * 27


def test_a_sheet_beyond_measure_is_one_sentence() -> None:
    strip = np.zeros((4000, 4, 3), np.uint8)
    with pytest.raises(ImageError, match=r"the sheet of a 4x4000 picture would have \d+ pixels"):
        contact_sheet(strip, conditions=("fog",))
    for nothing in ({"conditions": ()}, {"severities": ()}):
        with pytest.raises(ConfigError, match="would be empty"):
            contact_sheet(strip, **nothing)
    with pytest.raises(ConfigError, match="cell_width_px is 0"):
        contact_sheet(strip, cell_width_px=0)


@pytest.mark.parametrize(("out", "words"), [("street.png", "exists"), ("sheet.gif", "cannot tell the format")])
def test_a_target_that_cannot_be_is_refused_before_the_work(
    picture: Path, out: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("for a large picture, this takes minutes")

    monkeypatch.setattr("drivetl.weather.contact_sheet", worked)
    done = CliRunner().invoke(app, ["weather", "preview", str(picture), "--out", str(picture.with_name(out))])
    assert isinstance(done.exception, OutputError) and words in str(done.exception)


def test_nothing_is_overwritten_unasked(picture: Path) -> None:
    before = picture.read_bytes()
    done = CliRunner().invoke(app, ["weather", "preview", str(picture), "--out", str(picture), "--condition", "fog"])
    assert isinstance(done.exception, OutputError)
    assert picture.read_bytes() == before


def test_a_missing_picture_is_an_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["weather", "preview", str(tmp_path / "no.jpg"), "--out", str(tmp_path / "s.png")])
    assert isinstance(done.exception, DrivetlError)
    assert "no.jpg" in str(done.exception)


def test_bench_gives_each_kernel_beside_its_nearest() -> None:
    pytest.importorskip("albumentations")
    threads = cv2.getNumThreads()
    done = CliRunner().invoke(app, ["weather", "bench", "--repeats", "3", "--condition", "jpeg", "--condition", "rain"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.strip().splitlines()
    kernels = json.loads(lines[-1])["kernels"]
    assert set(kernels) == {"depth_prior", "jpeg", "rain"}
    assert all(entry["median_ms"] > 0 for entry in kernels.values())
    assert kernels["rain"]["nearest"] == "RandomRain"
    assert cv2.getNumThreads() == threads


def test_fog_is_timed_beside_random_fog() -> None:
    """How many times faster it is, is the benchmark's to say; here it is enough that it wins on a machine at work."""
    pytest.importorskip("albumentations")
    rows = {row.name: row for row in time_kernels(conditions=("fog",), repeats=5)}
    fog = rows["fog"]
    assert fog.nearest == "RandomFog" and fog.nearest_median_ms is not None and fog.times_faster is not None
    assert fog.times_faster == pytest.approx(fog.nearest_median_ms / fog.median_ms)
    assert fog.times_faster > 1


def test_every_condition_has_a_nearest_transform() -> None:
    pytest.importorskip("albumentations")
    rows = time_kernels(repeats=3, size_hw=(72, 128))
    assert [row.name for row in rows] == ["depth_prior", *CONDITIONS]
    assert all(row.nearest for row in rows[1:])


def test_bench_refuses_an_unknown_condition() -> None:
    done = CliRunner().invoke(app, ["weather", "bench", "--condition", "hail"])
    assert isinstance(done.exception, ConfigError)
