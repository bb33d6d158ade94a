"""TensorRT builds an engine for minutes and says nothing; this says it instead."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from drivetl.errors import ConfigError
from drivetl.verbs._console import Reporter

__all__ = ["EngineCacheOption", "EngineWatch", "refuse_idle_cache"]

EngineCacheOption = Annotated[
    Path | None,
    typer.Option("--engine-cache", help="Folder where TensorRT keeps its engines; without it each start builds anew."),
]
_EVERY_S = 15.0


def refuse_idle_cache(provider: str | None, cache: Path | None, option: str = "--provider") -> None:
    """Refuse an ``--engine-cache`` where nothing builds an engine.

    Args:
        provider: what is asked for; None is ``cpu``.
        cache: the folder, if one was given.
        option: of the verb, the one that asks for a provider.

    Raises:
        ConfigError: the provider is not ``tensorrt``.
    """
    if cache is not None and provider != "tensorrt":
        raise ConfigError(
            f"--engine-cache keeps engines of TensorRT, and {provider or 'cpu'} has none; give {option} tensorrt, or "
            "leave it out"
        )


def _can_build() -> bool:
    """Say whether TensorRT can run here; where it cannot, the reason is told at once, and no engine is built."""
    from drivetl.runtime.requirements import missing_for

    return missing_for("tensorrt") is None


class EngineWatch:
    """Says every quarter of a minute that an engine is being built, until the work behind it moves.

    Its thread is over before anything is timed: the first report of progress ends it. On other providers it is silent.
    """

    def __init__(
        self, reporter: Reporter, provider: str | None, cache: Path | None = None, *, every_s: float = _EVERY_S
    ) -> None:
        """Begin nothing yet.

        Args:
            reporter: says it, and is passed the progress on.
            provider: what is asked for; only ``tensorrt`` builds.
            cache: where engines are kept.
            every_s: seconds between two sentences.
        """
        self._reporter = reporter
        self._every_s = every_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if provider == "tensorrt" and _can_build():
            self._thread = threading.Thread(target=self._tick, name="engine watch", daemon=True)
            self._kept = "unless it lies in the cache" if cache else "at every start without --engine-cache FOLDER"

    def __enter__(self) -> EngineWatch:
        """Say that the engine is built now."""
        if self._thread is not None:
            self._reporter.say(f"TensorRT builds its engine now, {self._kept}; that takes minutes")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Say no more."""
        self.end()

    def end(self) -> None:
        """Stop, and wait for the thread."""
        self._over.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()

    def progress(self, label: str, done: int, total: int | None) -> None:
        """Stop, because the engine is there, and pass the progress on."""
        self.end()
        self._reporter.progress(label, done, total)

    def _tick(self) -> None:
        began = time.monotonic()
        while not self._over.wait(self._every_s):
            self._reporter.say(f"TensorRT is still building its engine, {time.monotonic() - began:.0f} s")
