"""What is said while TensorRT builds; the waiting is real, the engine is not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.errors import ConfigError
from drivetl.runtime import Bundle
from drivetl.verbs._console import Reporter
from drivetl.verbs._engine import EngineWatch, refuse_idle_cache

WAIT_S = 20


class Heard(Reporter):
    """Keeps what is said and shown."""

    def __init__(self) -> None:
        super().__init__("bench", False)
        self.lines: list[str] = []
        self.shown: list[tuple[str, int, int | None]] = []
        self.twice = threading.Event()

    def say(self, text: str) -> None:
        self.lines.append(text)
        if len(self.lines) >= 3:
            self.twice.set()

    def progress(self, label: str, done: int, total: int | None) -> None:
        self.shown.append((label, done, total))


def _watching() -> bool:
    return any(thread.name == "engine watch" for thread in threading.enumerate())


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that TensorRT seems to run on."""
    monkeypatch.setattr("drivetl.runtime.requirements.missing_for", lambda provider: None)


def test_where_tensorrt_cannot_run_no_engine_is_said_to_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetl.runtime.requirements.missing_for", lambda provider: "no NVIDIA driver is installed")
    heard = Heard()
    with EngineWatch(heard, "tensorrt", every_s=0.001):
        assert not _watching()
    assert heard.lines == []


@pytest.mark.usefixtures("tensorrt")
def test_it_goes_on_saying_so_until_the_work_moves_and_then_never_again() -> None:
    heard = Heard()
    with EngineWatch(heard, "tensorrt", every_s=0.01) as watch:
        assert heard.twice.wait(WAIT_S)
        watch.progress("warm-up", 0, 30)
        # Nothing of it may run beside the clock.
        assert not _watching()
        said = len(heard.lines)
        time.sleep(0.1)
        watch.progress("measure", 0, 300)
        assert len(heard.lines) == said
    assert heard.shown == [("warm-up", 0, 30), ("measure", 0, 300)]
    assert heard.lines[0].startswith("TensorRT builds its engine now, at every start without --engine-cache")
    assert heard.lines[1].startswith("TensorRT is still building its engine, 0 s")


@pytest.mark.usefixtures("tensorrt")
def test_an_error_while_it_builds_ends_it(tmp_path: Path) -> None:
    heard = Heard()
    with pytest.raises(OSError, match="no"), EngineWatch(heard, "tensorrt", tmp_path):
        raise OSError("no")
    assert not _watching() and heard.lines == [
        "TensorRT builds its engine now, unless it lies in the cache; that takes minutes"
    ]


@pytest.mark.parametrize("provider", ["cpu", "cuda", None])
def test_a_cache_that_nothing_fills_is_refused(provider: str | None, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"and {provider or 'cpu'} has none; give --provider tensorrt, or leave it out"
    ):
        refuse_idle_cache(provider, tmp_path)
    refuse_idle_cache(provider, None)
    refuse_idle_cache("tensorrt", tmp_path)


@pytest.mark.parametrize("provider", ["cpu", "cuda", None])
def test_others_build_nothing(provider: str | None) -> None:
    heard = Heard()
    with EngineWatch(heard, provider, every_s=0.001) as watch:
        time.sleep(0.02)
        watch.progress("warm-up", 0, 1)
    assert not heard.lines and heard.shown == [("warm-up", 0, 1)]


@pytest.mark.usefixtures("tensorrt")
def test_evaluate_says_that_it_builds_an_engine_and_keeps_it(
    tiny_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, Path | None]] = []
    session = Bundle.session

    def noted(bundle: Bundle, provider: str, *, engine_cache: Path | None, **_: Any) -> Any:
        opened.append((provider, engine_cache))
        assert _watching() == (provider == "tensorrt")
        return replace(session(bundle), provider=provider)  # the CPU stands in for TensorRT

    def no_accuracy(*_: Any, **__: Any) -> Any:
        assert not _watching()
        raise ConfigError("far enough")

    monkeypatch.setattr(Bundle, "session", noted)
    for kind in ("images", "labels"):
        (tmp_path / "road" / kind / "val").mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / "road" / "images" / "val" / "a.png"), np.full((64, 64, 3), 90, np.uint8))
    (tmp_path / "road" / "labels" / "val" / "a.txt").write_text("0 0.5 0.5 0.4 0.5\n")
    (tmp_path / "road" / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [bright, dark]\n")
    words = ["evaluate", str(tiny_bundle()), "--data", str(tmp_path / "road"), "--json"]
    cache = tmp_path / "engines"
    kept = [*words, "--device", "tensorrt:0", "--engine-cache", str(cache)]
    done = CliRunner().invoke(app, kept, catch_exceptions=False)
    assert done.stderr.count("TensorRT builds its engine now, unless it lies in the cache") == 1
    assert json.loads(done.stdout)["images"] == 1
    said = "TensorRT builds its engine now, at every start without --engine-cache"
    for more, times in ((["--device", "tensorrt"], 1), ([], 0)):
        done = CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
        assert done.exit_code == 0 and done.stderr.count(said) == times
    assert opened == [("tensorrt", cache), ("tensorrt", None), ("cpu", None)]
    # It ends before anything is computed, and a checkpoint has none.
    monkeypatch.setattr("drivetl.verbs.evaluate._measured", no_accuracy)
    with pytest.raises(ConfigError, match="far enough"):
        CliRunner().invoke(app, [*words, "--device", "tensorrt"], catch_exceptions=False)
    monkeypatch.setattr("drivetl.evaluate.open_model", no_accuracy)
    with pytest.raises(ConfigError, match="far enough"):
        CliRunner().invoke(app, ["evaluate", "yolo11n", *words[2:], "--device", "tensorrt"], catch_exceptions=False)


@pytest.mark.parametrize(("device", "provider"), [("cpu", "cpu"), ("cuda:0", "cuda")])
def test_evaluate_refuses_a_cache_that_nothing_fills(
    device: str, provider: str, tiny_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    words = ["evaluate", str(tiny_bundle()), "--data", str(tmp_path), "--engine-cache", str(tmp_path / "engines")]
    with pytest.raises(ConfigError, match=f"and {provider} has none; give --device tensorrt, or leave it out"):
        CliRunner().invoke(app, [*words, "--device", device], catch_exceptions=False)
