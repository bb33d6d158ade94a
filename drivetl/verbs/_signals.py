"""Ctrl-C, SIGTERM and SIGHUP: a run that has begun is finished whole, one that has not ends at once."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

import typer

from drivetl.errors import Stopped

__all__ = ["Signalled", "first_signal_noted"]

_Result = TypeVar("_Result")

# Nobody presses Ctrl-C twice in so short a time, but ``timeout`` hands one on twice: to the program, and to its group.
_TWICE_S = 0.5


class Signalled:
    """Tells whether the run is to end.

    Attributes:
        signal: the number of the signal that said so; 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._since_s = 0.0
        self._waiting = False

    def __call__(self) -> bool:
        return self.signal != 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; while nothing has begun, the first one ends it."""
        now = time.monotonic()
        if not self.signal:
            self.signal, self._since_s = number, now
            if self._waiting:
                raise KeyboardInterrupt
        elif number == signal.SIGINT and now - self._since_s > _TWICE_S:
            raise KeyboardInterrupt

    def wait_for(self, work: Callable[[], _Result]) -> _Result:
        """Return what ``work`` returns, or raise what it raises; the first signal ends the wait at once.

        It runs in another thread, because a signal is heeded only between two steps of Python in the main one, and
        TensorRT builds an engine in a single step, for minutes. Work that was left behind ends with the program.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        results: list[_Result] = []
        errors: list[BaseException] = []
        over = threading.Event()

        def carry_out() -> None:
            try:
                results.append(work())
            except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
                errors.append(error)
            finally:
                over.set()

        self._waiting = True
        try:
            if self.signal:
                raise KeyboardInterrupt
            threading.Thread(target=carry_out, name="opening", daemon=True).start()
            over.wait()
        except KeyboardInterrupt:
            atexit.register(_leave, over, 128 + (self.signal or signal.SIGINT))
            raise
        finally:
            self._waiting = False
        if errors:
            raise errors[0]
        return results[0]


def _leave(over: threading.Event, exit_status: int) -> None:
    """End the program at its end without tidying up, which would crash under a library that is still at work."""
    if not over.is_set():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_status)


@contextmanager
def first_signal_noted() -> Iterator[Signalled]:
    """Yield what tells whether Ctrl-C was pressed, or the system or the terminal ended the program.

    So the recording of a service that is stopped is finished like any other. A second Ctrl-C ends it at once, as usual,
    unless it comes faster than anybody presses; a second SIGTERM or SIGHUP does not: ``timeout`` and closing terminals
    send theirs twice.

    Raises:
        Stopped: SIGTERM or SIGHUP came before the first frame, so there is nothing to keep.
        typer.Exit: the terminal that was closed takes no more words.
    """
    stopped = Signalled()
    kinds = [kind for name in ("SIGINT", "SIGTERM", "SIGHUP") if (kind := getattr(signal, name, None)) is not None]
    before = {kind: signal.getsignal(kind) for kind in kinds}
    for kind in kinds:
        # nohup lets SIGHUP be ignored, and so it stays.
        if kind == signal.SIGINT or before[kind] is not signal.SIG_IGN:
            signal.signal(kind, stopped.note)
    try:
        yield stopped
    except KeyboardInterrupt:
        if stopped.signal in (0, signal.SIGINT):
            raise
        raise Stopped(stopped.signal, "no frame was done yet, so there is nothing to keep") from None
    except OSError as error:
        # All results are written by then, and have errors of their own.
        if stopped.signal != getattr(signal, "SIGHUP", None) or error.errno != errno.EIO:
            raise
        raise typer.Exit(128 + stopped.signal) from None
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
