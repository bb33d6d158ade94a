"""Cameras and streams: only the newest frame, every dropped one counted, and never a frame that did not arrive.

A reader that processes every frame of a camera falls behind as soon as it is slower than the camera, by more with every
frame. Here a thread takes frames as they come into a place for one; whoever asks gets what lies there, if it is fresh.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import VideoError, quoted
from drivetl.video.line import HandedOver
from drivetl.video.refetched import Refetched
from drivetl.video.source_info import SourceInfo

__all__ = ["Feed", "LiveSource", "Patience"]

_POLL_S = 0.1
_MS_PER_S = 1000.0


class Feed(Protocol):
    """An open connection to a camera or a stream."""

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next frame, uint8 ``(height, width, 3)`` BGR; None once the connection is broken."""

    def close(self) -> None:
        """Let go of the device or the connection."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a live source is waited for, in seconds.

    Attributes:
        silence_s: after this long without a frame it is said.
        first_wait_s: before the first new connection; each further wait is twice as long.
        longest_wait_s: no wait is longer.
        give_up_s: after this long without a frame the source counts as over; 0 never connects again.
    """

    silence_s: float = 2.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    give_up_s: float = 60.0


class LiveSource:
    """The newest frame of a feed, which is connected again when it breaks.

    Attributes:
        info: what is known of the source.
        captured_s: when the frame that was yielded last had come in and was decoded, on the clock of
            ``time.perf_counter``. What it spent in the camera and on the network before that, nobody here knows.
        dropped: frames that came in and were never yielded: overtaken by newer ones, or too old.
        reconnects: how often the connection was made anew.
        longest_silence_s: the longest time between two frames.
    """

    def __init__(
        self,
        info: SourceInfo,
        feed: Feed,
        connect: Callable[[], Feed | None],
        *,
        max_age_ms: float = 100.0,
        patience: Patience | None = None,
        refetched: Refetched | None = None,
        say: Callable[[str], None] = lambda text: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take over an open feed.

        Args:
            info: what is known of the source; its name must be safe to print.
            feed: the open connection.
            connect: makes a new one; None where that fails.
            max_age_ms: a frame that lay longer is dropped instead of yielded, at least 1.
            patience: None takes the defaults.
            refetched: tells when the source turns out to be a recording that is over; None: it never is one.
            say: told one sentence whenever the connection breaks, comes back or is given up.
            stopped: asked while waiting; once it says yes, there are no more frames.
        """
        self.info = info
        self.captured_s = 0.0
        self.shown_s: float | None = None
        self.dropped = self.reconnects = 0
        self.longest_silence_s = 0.0
        self._feed, self._connect = feed, connect
        self._max_age_ms = max_age_ms
        self._patience, self._refetched = patience or Patience(), refetched
        self._say, self._stopped = say, stopped
        self._changed = threading.Condition()
        self._newest: tuple[NDArray[np.uint8], float] | None = None
        self._closing = threading.Event()
        self._over = False
        self._arrived = 0
        self._arrived_s = time.perf_counter()
        self._silent = False
        self._wait_s = self._patience.first_wait_s
        self._outcome = HandedOver()
        # A daemon: a read from a device that hangs cannot be interrupted, and the program must end all the same.
        self._thread = threading.Thread(target=self._collect, name="live source", daemon=True)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the newest frame each time; waits for one that was not yielded yet.

        Raises:
            VideoError: no frame ever came.
        """
        self._arrived_s = time.perf_counter()
        self._thread.start()
        while (image_bgr := self._next()) is not None:
            yield image_bgr
        self._outcome.check()
        if not self._arrived and not self._stopped():
            raise VideoError(f"{quoted(self.info.name)} opens but delivers no frame; check that nothing else uses it")

    def close(self) -> None:
        """Stop collecting and let go of the connection, at the latest when the read that is under way returns.

        From now on the counts stay as they are.
        """
        with self._changed:
            self._closing.set()
            self.dropped += self._newest is not None
            self._newest = None
        if self._thread.is_alive():
            self._thread.join(timeout=_POLL_S)
        elif not self._over:
            self._feed.close()

    def _next(self) -> NDArray[np.uint8] | None:
        with self._changed:
            while True:
                if self._newest is not None:
                    (image_bgr, captured_s), self._newest = self._newest, None
                    if (time.perf_counter() - captured_s) * _MS_PER_S <= self._max_age_ms and not self._stopped():
                        self.captured_s = captured_s
                        return image_bgr
                    self.dropped += 1
                if self._over or self._stopped() or self._closing.is_set():
                    return None
                self._changed.wait(_POLL_S)
                self._notice_silence()

    def _notice_silence(self) -> None:
        silence_s = time.perf_counter() - self._arrived_s
        if silence_s > self._patience.silence_s and not self._silent:
            self._silent = True
            self._say(f"{self.info.name}: no frame for {silence_s:.1f} s; waiting")

    def _collect(self) -> None:
        """Take frames until the source is over or closed."""
        feed: Feed | None = self._feed
        with self._outcome:
            while feed is not None and not self._closing.is_set():
                image_bgr = feed.read()
                if image_bgr is not None:
                    if self._refetched is None or not self._refetched.known(image_bgr):
                        self._put(image_bgr)
                    continue
                feed.close()
                feed = None if self._is_over() else self._again()
            if feed is not None:
                feed.close()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _put(self, image_bgr: NDArray[np.uint8]) -> None:
        now_s = time.perf_counter()
        silence_s = now_s - self._arrived_s
        with self._changed:
            if self._closing.is_set():
                return
            if self._newest is not None:
                self.dropped += 1
            self._newest = image_bgr, now_s
            if self._arrived:
                self.longest_silence_s = max(self.longest_silence_s, silence_s)
            self._arrived += 1
            self._arrived_s = now_s
            self._changed.notify_all()
        if self._silent or self._wait_s > self._patience.first_wait_s:
            self._say(f"{self.info.name}: frames again after {silence_s:.1f} s")
        self._silent = False
        self._wait_s = self._patience.first_wait_s

    def _is_over(self) -> bool:
        """Say whether this was a recording that now came twice; live sources never are."""
        if self._refetched is None or not self._refetched.over:
            return False
        self._say(f"{self.info.name}: the same {self._arrived} frames came again; it is a recording and over")
        note = (
            f"{self.info.name} is a recording that states no length: it was read as a stream, the newest frame first; "
            f"download it to use every frame"
        )
        self.info = replace(self.info, notes=(*self.info.notes, note))
        return True

    def _again(self) -> Feed | None:
        """Connect anew, with waits that double until a frame comes; None once it is given up or closed."""
        patience = self._patience
        if patience.give_up_s:
            self._say(f"{self.info.name}: the connection broke after {self._arrived} frames; connecting again")
        while not self._closing.is_set():
            left_s = patience.give_up_s - (time.perf_counter() - self._arrived_s)
            if left_s <= 0:
                if patience.give_up_s:
                    self._say(f"{self.info.name}: no frame for {patience.give_up_s:g} s; given up")
                return None
            self._closing.wait(min(self._wait_s, left_s))
            self._wait_s = min(2 * self._wait_s, patience.longest_wait_s)
            if self._closing.is_set():
                return None
            feed = self._connect()
            if feed is not None:
                self.reconnects += 1
                if self._refetched is not None:
                    self._refetched.connected()
                return feed
        return None
