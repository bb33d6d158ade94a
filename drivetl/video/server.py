"""The live page: video, latency curve, counts and tracks in a browser, with a pause and a threshold.

Who may look and steer: whoever has the token that is printed at the start. The ``Host`` header must be an address or
the name that was given, so that a foreign name that resolves to this machine (DNS rebinding) gets nothing, and changes
must come from the page itself (``Origin``). The page loads nothing from anywhere else, which its policy enforces, and
every name goes into it as text, never as markup.
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import secrets
import socket
import sys
import threading
from collections import Counter, deque
from errno import EACCES, EADDRINUSE
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from drivetl.config import StrictModel
from drivetl.errors import VideoError, quoted
from drivetl.video.settings import Controls, Page

__all__ = ["LivePage"]

_HTTP_PORT = 80
_HISTORY = 300  # frames of the latency curve
_MOST_STREAMS = 8
_MOST_BODY_BYTES = 1000
_SOCKET_TIMEOUT_S = 10
_WAIT_S = 0.5
_FAREWELL_S = 1.0  # so that the pages hear of the end before the server is gone
_JPEG_QUALITY = 80
_BOUNDARY = b"--frame\r\n"
_FORBIDDEN = "open the address that drivetl printed when it started, with its token"


class _Change(StrictModel):
    """What the page may change."""

    paused: bool | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class LivePage(Page):
    """Serves a run to browsers; use it as a context manager around the run.

    Attributes:
        url: what to open, token included.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8470) -> None:
        """Take the port.

        Args:
            host: address to listen on; anything but a loopback address opens the page to the network.
            port: 0 takes any free one.

        Raises:
            VideoError: the port is in use, or the address is not one of this machine.
        """
        self.token = secrets.token_urlsafe(24)
        self.host = host
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except (OSError, OverflowError) as error:
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
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/?token={self.token}"
        self.cookie = f"drivetl_{self.port}"
        self.streams = threading.BoundedSemaphore(_MOST_STREAMS)
        self._changed = threading.Condition()
        self._controls = Controls(0.0)
        self._facts: dict[str, Any] = {"source": "", "models": [], "classes": []}
        self._image_bgr: NDArray[np.uint8] | None = None
        self._number = 0
        self._jpeg: tuple[int, bytes] = (0, b"")
        self._encoding = threading.Lock()
        self._figures: dict[str, Any] = {}
        self._history: deque[float] = deque(maxlen=_HISTORY)
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
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def running(self) -> bool:
        """Whether there may be more frames."""
        return self._running

    def begin(self, controls: Controls, facts: dict[str, Any]) -> None:
        """Take the controls, and what stays the same throughout."""
        self._controls, self._facts = controls, facts

    def publish(self, image_bgr: NDArray[np.uint8], state: dict[str, Any]) -> None:
        """Take a finished frame and its figures."""
        with self._changed:
            self._image_bgr, self._figures = image_bgr, state
            self._history.append(round(state["latency_ms"], 3))
            self._number += 1
            self._changed.notify_all()

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
                data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
                self._jpeg = number, data.tobytes()
            return self._jpeg

    def state(self) -> dict[str, Any]:
        """Return what the page shows beside the picture."""
        with self._changed:
            figures, history = dict(self._figures), list(self._history)
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
            **figures,
        }

    def change(self, body: bytes) -> None:
        """Carry out what a page asks for.

        Raises:
            ValueError: it is not a change; the message says why (pydantic's errors are of this kind).
        """
        change = _Change.model_validate_json(body, strict=True)
        if change.paused is not None:
            self._controls.paused = change.paused
        if change.confidence is not None:
            self._controls.confidence = change.confidence

    def expects(self, host: str) -> bool:
        """Say whether a ``Host`` header names this server by an address, ``localhost`` or the name it was given."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        # Browsers leave out the port of http.
        if (_HTTP_PORT if port is None else port) != self.port or parts.username is not None or parts.path:
            return False
        return name in ("localhost", self.host) or _is_address(name)


def _seen(view: Any, classes: list[str]) -> dict[str, Any]:
    detections = view.detections
    names = [classes[kind] for kind in detections.class_id.tolist()]
    tracks = [
        {"id": number, "class": name, "confidence": round(confidence, 3)}
        for number, name, confidence in zip(view.track_id.tolist(), names, detections.confidence.tolist(), strict=True)
    ]
    return {"counts": dict(Counter(names).most_common()), "tracks": tracks}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Two runs on one port would be mixed up; a port that was just given up may be taken again all the same.
    allow_reuse_port = False
    page: LivePage

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that vanish or hang are their own affair; everything else is a defect and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = _SOCKET_TIMEOUT_S
    server_version = "drivetl"
    sys_version = ""

    def do_GET(self) -> None:
        if not self._may_ask():
            return
        page = self.server.page
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "that is no address")
            return
        if parts.path == "/" and parts.query:
            given = parse_qs(parts.query).get("token", [""])[0]
            if not secrets.compare_digest(given.encode(), page.token.encode()):
                self._refuse(HTTPStatus.FORBIDDEN, _FORBIDDEN)
                return
            cookie = f"{page.cookie}={page.token}; HttpOnly; SameSite=Strict; Path=/"
            # Without the token in its address the page can be bookmarked or shared without giving it away.
            self._answer(HTTPStatus.SEE_OTHER, b"", "text/plain", {"Set-Cookie": cookie, "Location": "/"})
        elif not self._has_token():
            self._refuse(HTTPStatus.FORBIDDEN, _FORBIDDEN)
        elif parts.path == "/":
            self._send_page()
        elif parts.path == "/state":
            self._answer(HTTPStatus.OK, json.dumps(page.state(), allow_nan=False).encode(), "application/json")
        elif parts.path == "/stream":
            self._send_stream()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        if not self._may_ask():
            return
        if self.headers.get("Origin") is None or not self._has_token():
            self._refuse(HTTPStatus.FORBIDDEN, _FORBIDDEN)
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/control":
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        elif not (length.isascii() and length.isdigit() and int(length) <= _MOST_BODY_BYTES):
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a change has at most {_MOST_BODY_BYTES} bytes")
        else:
            try:
                self.server.page.change(self.rfile.read(int(length)))
            except ValidationError:
                self._refuse(HTTPStatus.BAD_REQUEST, "a change is JSON with paused (true, false), confidence (0 to 1)")
            else:
                self._answer(HTTPStatus.NO_CONTENT, b"", "text/plain")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests are no news, and their addresses hold the token."""

    def _may_ask(self) -> bool:
        """Refuse what was sent to another name, or by another site's page."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        site = self.headers.get("Sec-Fetch-Site", "none")
        try:
            _ = urlsplit(f"//{host}").port
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "that is no host")
            return False
        known = self.server.page.expects(host)
        if known and origin in (None, f"http://{host}") and site in ("none", "same-origin"):
            return True
        # A link from elsewhere may open the page, which then asks for itself; it may do nothing more.
        if known and origin is None and self.headers.get("Sec-Fetch-Mode") == "navigate" and self.command == "GET":
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "this page answers only under its own address")
        return False

    def _has_token(self) -> bool:
        page = self.server.page
        pairs = [part.strip().partition("=") for part in self.headers.get("Cookie", "").split(";")]
        given = next((value for name, _, value in pairs if name == page.cookie), "")
        return secrets.compare_digest(given.encode(), page.token.encode())

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._answer(status, why.encode(), "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            **(extra or {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        text = Path(__file__).with_name("live.html").read_text(encoding="utf-8").replace("NONCE", nonce)
        policy = (
            f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
            f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        extra = {"Content-Security-Policy": policy}
        self._answer(HTTPStatus.OK, text.encode(), "text/html; charset=utf-8", extra)

    def _send_stream(self) -> None:
        page = self.server.page
        if not page.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_STREAMS} browsers are watching already")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(_BOUNDARY)
            number = 0
            while page.running:
                number, jpeg = page.next_jpeg(number)
                if jpeg:
                    # Browsers show a picture once the next boundary has come, so it is sent at once.
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                    self.wfile.write(head + jpeg + b"\r\n" + _BOUNDARY)
        finally:
            page.streams.release()
