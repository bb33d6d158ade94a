"""What is said while TensorRT builds; the waiting is real, the engine is not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from drivetl.errors import ConfigError
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
