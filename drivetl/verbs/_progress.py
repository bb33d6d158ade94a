"""How far long work is, shown to a person at a terminal or written to a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["Bars", "Lines", "Shown", "in_words", "shown_on"]

# A log is read afterwards, or by somebody who wonders whether the work still goes on.
_EVERY_S = 30.0


class Shown(Protocol):
    """What shows progress while its block runs."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, label: str, done: int, total: int | None) -> None: ...


def shown_on(console: Console) -> Shown:
    """Return bars for a terminal, and lines for a file or a pipe, where bars would stay unseen until the end."""
    return Bars(console) if console.is_terminal else Lines(lambda text: console.print(escape(text), emoji=False))


def in_words(seconds: float) -> str:
    """Return a time left, such as ``about 3 min left``."""
    return f"about {max(1, round(seconds / 60))} min left" if seconds > 45 else "less than a minute left"


class Bars:
    """A bar for each label, with the time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, label: str, done: int, total: int | None) -> None:
        """Show how far the work named ``label`` is."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(escape(label), total=total)
        self._progress.update(self._tasks[label], completed=done, total=total)


@dataclass(slots=True)
class _Work:
    begun_s: float
    told_s: float
    first: int
    done: int
    total: int | None

    def is_done(self) -> bool:
        return self.total is not None and self.done >= self.total


class Lines:
    """A line whenever a label's work is done, and every half a minute until then."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._works: dict[str, _Work] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Say how far the work came that is not done."""
        for label, work in self._works.items():
            if not work.is_done() and work.done > work.first:
                self._write(_so_far(label, work))

    def update(self, label: str, done: int, total: int | None) -> None:
        """Take how far the work named ``label`` is, and write a line if it is time for one."""
        now = self._clock()
        work = self._works.get(label)
        if work is None or done < work.done:
            work = self._works[label] = _Work(now, now, done, done, total)
            return
        was_done, work.done, work.total = work.is_done(), done, total
        if work.is_done():
            if not was_done:
                self._write(f"{_so_far(label, work)}, in {now - work.begun_s:.0f} s")
        elif now - work.told_s >= _EVERY_S:
            work.told_s = now
            self._write(_so_far(label, work) + _left(work, now))


def _so_far(label: str, work: _Work) -> str:
    return f"{label}: {work.done}" if work.total is None else f"{label}: {work.done} of {work.total}"


def _left(work: _Work, now_s: float) -> str:
    """Return the time left at the speed so far; a resumed job did its first steps in another process."""
    steps = work.done - work.first
    if work.total is None or not steps:
        return ""
    return ", " + in_words((now_s - work.begun_s) / steps * (work.total - work.done))
