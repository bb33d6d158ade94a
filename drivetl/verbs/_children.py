"""Child processes of a verb. What ends the verb ends them too, so that none goes on writing behind a second start."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from drivetl.errors import DrivetlError, Stopped

__all__ = ["Children"]


class Children:
    """The child processes that run. They may be started from several threads."""

    def __init__(self) -> None:
        # The handler may interrupt itself: a terminal that is closed sends its signals twice.
        self._lock = threading.RLock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._signal = 0

    def call(self, words: Sequence[str], errors: IO[bytes] | None) -> tuple[int, bytes]:
        """Run a command to its end; return its status and what it wrote to stdout. ``errors``: where its stderr goes.

        Raises:
            Stopped: a signal came before.
        """
        with self._lock:
            self.check()
            child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors)
            self._running.add(child)
        try:
            output = child.communicate()[0]
        finally:
            with self._lock:
                self._running.discard(child)
        return child.returncode, output

    def check(self) -> None:
        """Begin nothing more after a signal.

        Raises:
            Stopped: one came.
        """
        if self._signal:
            raise Stopped(self._signal, "the same command goes on from here")

    @contextmanager
    def end_with_us(self) -> Iterator[None]:
        """Pass SIGTERM and SIGHUP on to the children while the block runs; it ends once they have.

        Ctrl-C needs no such thing: the terminal sends it to all of them.

        Raises:
            Stopped: one came.
        """
        before = {}
        # Python lets no other thread set handlers.
        if threading.current_thread() is threading.main_thread():
            kinds = [kind for name in ("SIGTERM", "SIGHUP") if (kind := getattr(signal, name, None)) is not None]
            # nohup lets SIGHUP be ignored, and so it stays.
            before = {kind: handler for kind in kinds if (handler := signal.getsignal(kind)) is not signal.SIG_IGN}
        for kind in before:
            signal.signal(kind, self._pass_on)
        try:
            yield
            self.check()
        except (DrivetlError, OSError, KeyboardInterrupt):
            # What was ended looks like something that failed, and a terminal that was closed takes no more words.
            self.check()
            raise
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)
            self._signal = 0

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        with self._lock:
            for child in tuple(self._running):
                child.send_signal(number)
