"""What the live page's server answers, and to whom; see `drivetl.video.server`."""

from __future__ import annotations

import contextlib
import http.server
import json
import secrets
import select
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

if TYPE_CHECKING:
    from drivetl.video.server import LivePage

__all__ = ["MOST_STREAMS", "PageServer", "page_server"]

MOST_STREAMS = 8
# Each costs a thread and a file descriptor, and it takes no token to open one.
_MOST_CONNECTIONS = 64
# From here on, whoever has been connected longest without showing the token makes room for the next one.
_CROWDED = 48
_MOST_BODY_BYTES = 1000
_SOCKET_TIMEOUT_S = 10
# A picture that stands still is sent again, so that a browser can tell a still picture from a dead connection.
_REPEAT_S = 1.0
_BOUNDARY = b"--frame\r\n"
_FORBIDDEN = "open the address that drivetl printed when it started, with its token"


def page_server(host: str, port: int) -> PageServer:
    """Take the port, of an address of either version of IP.

    Raises:
        OSError, OverflowError: it cannot be had.
        TypeError, ValueError: the host is no name of a host.
    """
    return (_PageServer6 if ":" in host else PageServer)((host, port), _Handler)


class PageServer(http.server.ThreadingHTTPServer):
    """Answers each browser in a thread of its own; set ``page`` before it serves."""

    daemon_threads = True
    # Two runs on one port would be mixed up; a port that was just given up may be taken again all the same.
    allow_reuse_port = False
    request_queue_size = _CROWDED
    page: LivePage

    def __init__(self, *arguments: Any) -> None:
        self._counting = threading.Lock()
        self._open: dict[socket.socket, bool] = {}  # the oldest first; whether it showed the token, or was hung up on
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Take the port, without looking up the machine's full name, which nobody needs and a slow network delays."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many already."""
        with self._counting:
            stranger = next((one for one, known in self._open.items() if not known), None)
            if len(self._open) >= _CROWDED and stranger is not None:
                self._open[stranger] = True
                with contextlib.suppress(OSError):  # it hung up itself
                    stranger.shutdown(socket.SHUT_RDWR)
            full = len(self._open) >= _MOST_CONNECTIONS
            if not full:
                self._open[request] = False
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Hang up."""
        with self._counting:
            self._open.pop(request, None)
        super().close_request(request)

    def welcome(self, request: socket.socket) -> None:
        """Keep a connection that showed the token, however many others there are."""
        with self._counting:
            self._open[request] = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that vanish or hang are their own affair; everything else is a defect and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _PageServer6(PageServer):
    address_family = socket.AF_INET6


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer
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
            # Lax, so that the printed link may be clicked in another page: the redirect would leave Strict out.
            cookie = f"{page.cookie}={page.token}; HttpOnly; SameSite=Lax; Path=/"
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
        elif not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= _MOST_BODY_BYTES):
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
            known = self.server.page.expects(host)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "that is no host")
            return False
        if known and origin in (None, f"http://{host}") and site in ("none", "same-origin"):
            return True
        # A link from elsewhere may open the page, which then asks for itself; it may do nothing more.
        link = self.command == "GET" and self.path.partition("?")[0] == "/"
        if known and origin is None and link and self.headers.get("Sec-Fetch-Mode") == "navigate":
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "this page answers only under its own address")
        return False

    def _has_token(self) -> bool:
        page = self.server.page
        pairs = [part.strip().partition("=") for part in self.headers.get("Cookie", "").split(";")]
        given = next((value for name, _, value in pairs if name == page.cookie), "")
        has_token = secrets.compare_digest(given.encode(), page.token.encode())
        if has_token:
            self.server.welcome(self.connection)
        return has_token

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
            f"default-src 'none'; img-src data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
            f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        extra = {"Content-Security-Policy": policy}
        self._answer(HTTPStatus.OK, text.encode(), "text/html; charset=utf-8", extra)

    def _send_stream(self) -> None:
        page = self.server.page
        if not page.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_STREAMS} browsers are watching already")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(_BOUNDARY)
            number, shown, sent_s = 0, b"", 0.0
            while page.running and not self._hung_up():
                number, jpeg = page.next_jpeg(number)
                shown = jpeg or shown
                if jpeg or (shown and time.monotonic() - sent_s >= _REPEAT_S):
                    # Browsers show a picture once the next boundary has come, so it is sent at once.
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(shown)}\r\n\r\n".encode()
                    self.wfile.write(head + shown + b"\r\n" + _BOUNDARY)
                    sent_s = time.monotonic()
        finally:
            page.streams.release()

    def _hung_up(self) -> bool:
        """Say whether the browser closed the connection; without anything to write, nothing else would tell."""
        waiting = select.poll()
        waiting.register(self.connection, select.POLLIN)
        return bool(waiting.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
