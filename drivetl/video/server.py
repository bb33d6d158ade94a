"""The live page: video, latency curve, counts and tracks in a browser, with a pause and a threshold.

Who may look and steer: whoever has the token that is printed at the start. The ``Host`` header must be an address or
the name that was given, so that a foreign name that resolves to this machine (DNS rebinding) gets nothing, and changes
must come from the page itself (``Origin``). The page loads nothing from anywhere else, which its policy enforces, and
every name goes into it as text, never as markup.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, deque
from errno import EACCES, EADDRINUSE
from types import TracebackType
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivetl.config import StrictModel
from drivetl.errors import VideoError, quoted
from drivetl.video.address import is_address, is_loopback, reachable_host
from drivetl.video.answers import MOST_STREAMS, page_server
from drivetl.video.jpeg import jpeg_bytes
from drivetl.video.meter import Rate
from drivetl.video.settings import Controls, Page

__all__ = ["LivePage"]

_HTTP_PORT = 80
_HISTORY = 300  # frames of the latency curve
_MOST_NEWS = 5
_WAIT_S = 0.5
_FAREWELL_S = 1.0  # so that the pages hear of the end before the server is gone
_JPEG_QUALITY = 80
_MOST_PX = 16_384  # what a canvas holds in every browser


class _Change(StrictModel):
    """What the page may change."""

    paused: bool | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class LivePage(Page):
    """Serves a run to browsers; use it as a context manager around the run.

    Attributes:
        url: what to open, token included; with a host that stands for every address, one of this machine's own.
        reachable: what other machines may call this one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8470) -> None:
        """Take the port.

        Args:
            host: address to listen on; anything but a loopback address opens the page to the network, 0.0.0.0 on
                every address of this machine.
            port: 0 takes any free one.

        Raises:
            VideoError: the port is in use, or the address is not one of this machine.
        """
        if not host:
            # Sockets take it for every address there is.
            raise VideoError(
                "--host '' names no address; give one of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
            )
        self.token = secrets.token_urlsafe(24)
        self.host = host
        try:
            self._server = page_server(host, port)
        except (OSError, OverflowError, TypeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            wrong_port = isinstance(error, OverflowError) or getattr(error, "errno", None) in (EADDRINUSE, EACCES)
            remedy = (
                "choose another port with --port, or --port 0 for any free one"
                if wrong_port
                else "--host takes an address of this machine, such as 127.0.0.1"
            )
            raise VideoError(f"cannot serve on {quoted(f'{host}:{port}')}: {reason}; {remedy}") from error
        self._server.page = self
        self.port = int(self._server.server_address[1])
        self.reachable = reachable_host(host, str(self._server.server_address[0]))
        shown = f"[{self.reachable}]" if ":" in self.reachable else self.reachable
        self.url = f"http://{shown}:{self.port}/?token={self.token}"
        self.cookie = f"drivetl_{self.port}"
        self.streams = threading.BoundedSemaphore(MOST_STREAMS)
        self._changed = threading.Condition()
        self._controls = Controls(0.0)
        self._facts: dict[str, Any] = {"source": "", "live": False, "models": [], "classes": []}
        self._image_bgr: NDArray[np.uint8] | None = None
        self._number = 0
        self._jpeg: tuple[int, bytes] = (0, b"")
        self._encoding = threading.Lock()
        self._figures: dict[str, Any] = {}
        self._history: deque[float] = deque(maxlen=_HISTORY)
        self._rate = Rate()
        self._news: deque[dict[str, str]] = deque(maxlen=_MOST_NEWS)
        self._waiting_since_s = time.perf_counter()
        self._running = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="page", daemon=True)

    def __enter__(self) -> LivePage:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._running = False
            self._changed.notify_all()
        if self._number:
            threading.Event().wait(_FAREWELL_S)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the page."""
        return is_loopback(self.host)

    @property
    def running(self) -> bool:
        """Whether there may be more frames."""
        return self._running

    def begin(self, controls: Controls, facts: dict[str, Any]) -> None:
        """Take the controls, and what stays the same throughout."""
        self._controls, self._facts = controls, facts
        self._waiting_since_s = time.perf_counter()

    def publish(self, image_bgr: NDArray[np.uint8], state: dict[str, Any]) -> None:
        """Take a finished frame and its figures."""
        with self._changed:
            self._image_bgr, self._figures = image_bgr, state
            self._history.append(round(state["latency_ms"], 3))
            self._rate.note()
            self._waiting_since_s = time.perf_counter()
            self._number += 1
            self._changed.notify_all()

    def tell(self, text: str) -> None:
        """Take a sentence about the source."""
        with self._changed:
            self._news.append({"time": time.strftime("%H:%M:%S"), "text": text})

    def next_jpeg(self, after: int) -> tuple[int, bytes]:
        """Wait shortly for a frame newer than a number; return its number and picture, or the number and nothing.

        However many clients there are, and however slow they are, each frame is encoded at most once.
        """
        with self._changed:
            if self._number == after and self._running:
                self._changed.wait(_WAIT_S)
            number, image_bgr = self._number, self._image_bgr
        if number == after or image_bgr is None:
            return after, b""
        with self._encoding:
            if self._jpeg[0] < number:
                self._jpeg = number, jpeg_bytes(image_bgr, _JPEG_QUALITY, most_px=_MOST_PX)
            return self._jpeg

    def state(self) -> dict[str, Any]:
        """Return what the page shows beside the picture.

        ``fps`` is that of the last two seconds, ``silence_s`` how long a camera or stream has given no frame (None for
        a file, and while the run is paused), ``news`` what was said about it last.
        """
        with self._changed:
            figures, history, news = dict(self._figures), list(self._history), list(self._news)
            fps, waited_s = self._rate.per_s(), time.perf_counter() - self._waiting_since_s
        waits = self._facts.get("live", False) and self._running and not self._controls.paused
        views = figures.pop("views", [])
        models = [
            {"name": name, **_seen(view, classes)}
            for name, classes, view in zip(self._facts["models"], self._facts["classes"], views, strict=False)
        ]
        return {
            "running": self._running,
            "source": self._facts["source"],
            "paused": self._controls.paused,
            "confidence": self._controls.confidence,
            "models": models,
            "history_ms": history,
            "fps": round(fps, 2),
            "silence_s": round(waited_s, 1) if waits else None,
            "news": news,
            **figures,
        }

    def change(self, body: bytes) -> None:
        """Carry out what a page asks for.

        Raises:
            ValueError: it is not a change; the message says why (pydantic's errors are of this kind).
        """
        change = _Change.model_validate_json(body, strict=True)
        if change.paused is not None:
            if self._controls.paused and not change.paused:
                self._waiting_since_s = time.perf_counter()  # what was held back was no silence of the source
            self._controls.paused = change.paused
        if change.confidence is not None:
            self._controls.confidence = change.confidence

    def expects(self, host: str) -> bool:
        """Say whether a ``Host`` header names this server by an address, ``localhost`` or the name it was given or has.

        Raises:
            ValueError: it is no host.
        """
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname or "", parts.port
        # Browsers leave out the port of http.
        if (_HTTP_PORT if port is None else port) != self.port or parts.username is not None or parts.path:
            return False
        return name in ("localhost", self.host.lower(), self.reachable.lower()) or is_address(name)


def _seen(view: Any, classes: list[str]) -> dict[str, Any]:
    detections = view.detections
    names = [classes[kind] for kind in detections.class_id.tolist()]
    tracks = [
        {"id": number, "class": name, "confidence": round(confidence, 3)}
        for number, name, confidence in zip(view.track_id.tolist(), names, detections.confidence.tolist(), strict=True)
    ]
    return {"counts": dict(Counter(names).most_common()), "tracks": tracks}
