from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from drivetl.data.download import fetch
from drivetl.errors import DownloadError, OutputError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """A loopback server that can break off, forget ranges, change its file, and redirect."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"one"'
    drop_after: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    status: int | None = None
    location: str | None = None
    ranges: list[str | None] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event | None = None


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        state, wanted = self.state, self.headers.get("Range")
        state.ranges.append(wanted)
        if self.path == "/moved" and state.location:
            self.send_response(302)
            self.send_header("Location", state.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if state.status is not None:
            self.send_error(state.status)
            return
        start = 0
        if wanted and state.knows_ranges and self.headers.get("If-Range") == state.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
        else:
            self.send_response(200)
        if state.etag:
            self.send_header("ETag", state.etag)
        body = state.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        state.asked.set()
        if state.may_answer is not None:
            self.wfile.write(body[:1000])
            body = body[1000:]
            state.may_answer.wait(20)
        if state.drop_after:
            body = body[: state.drop_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        state.url = f"http://127.0.0.1:{http.server_address[1]}/file.zip"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "file.zip"
    found = fetch(server.url, target, sha256=SHA256, progress=lambda label, done, total: seen.append((done, total)))
    assert found == SHA256
    assert target.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["file.zip"]


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.drop_after = [300_000, 400_000]
    assert fetch(server.url, tmp_path / "f", sha256=SHA256) == SHA256
    assert server.ranges == [None, "bytes=300000-", "bytes=700000-"]


def test_a_later_call_continues(server: Server, tmp_path: Path) -> None:
    server.drop_after = [500_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"broke off after 500000 bytes .* run the command again to continue"):
        fetch(server.url, tmp_path / "f", sha256=SHA256)
    assert not (tmp_path / "f").exists()
    server.ranges.clear()
    assert fetch(server.url, tmp_path / "f", sha256=SHA256) == SHA256
    assert server.ranges == ["bytes=500000-"]


@pytest.mark.parametrize("change", [{"knows_ranges": False}, {"etag": '"two"', "content": CONTENT[::-1]}])
def test_it_starts_again_where_it_cannot_continue(server: Server, tmp_path: Path, change: dict[str, Any]) -> None:
    server.drop_after = [500_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "f", sha256=None)
    for key, value in change.items():
        setattr(server, key, value)
    assert fetch(server.url, tmp_path / "f", sha256=None) == hashlib.sha256(server.content).hexdigest()


def test_without_a_validator_nothing_is_continued(server: Server, tmp_path: Path) -> None:
    server.etag = None
    server.drop_after = [500_000]
    assert fetch(server.url, tmp_path / "f", sha256=SHA256) == SHA256
    assert server.ranges == [None, None]


def test_another_hash_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"has the sha256 {SHA256}, expected {'0' * 64}"):
        fetch(server.url, tmp_path / "f", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "there is no such file"), (403, "access is refused"), (500, "HTTP 500")]
)
def test_a_refusal_is_one_sentence(server: Server, tmp_path: Path, status: int, reason: str) -> None:
    server.status = status
    with pytest.raises(DownloadError, match=reason):
        fetch(server.url, tmp_path / "f", sha256=None)
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"nothing came from .*check the network"):
        fetch("http://127.0.0.1:9/file", tmp_path / "f", sha256=None, timeout_s=2)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "/etc/passwd", "data:,x"])
def test_only_http(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="not an http or https address"):
        fetch(url, tmp_path / "f", sha256=None)


def test_redirects_stay_on_http(server: Server, tmp_path: Path) -> None:
    moved = server.url.replace("/file.zip", "/moved")
    server.location = server.url
    assert fetch(moved, tmp_path / "f", sha256=SHA256) == SHA256
    for location in ("ftp://host/x", "file:///etc/passwd"):
        server.location = location
        with pytest.raises(
            DownloadError, match=r"(redirects to|Redirection to url) '.*', which is refused|is not allowed"
        ):
            fetch(moved, tmp_path / "g", sha256=None)


def test_what_stands_there_is_kept(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_bytes(CONTENT)
    assert fetch(server.url, target, sha256=SHA256) == SHA256
    assert server.ranges == []
    for sha256 in ("0" * 64, None):
        with pytest.raises(OutputError, match="exists and"):
            fetch(server.url, target, sha256=sha256)
    assert target.read_bytes() == CONTENT


def test_an_unwritable_target(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        fetch(server.url, tmp_path / "file" / "f", sha256=None)


def test_two_at_a_time_do_not_write_to_one_file(server: Server, tmp_path: Path) -> None:
    server.may_answer = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch, server.url, tmp_path / "f", sha256=None)
        server.asked.wait(20)
        try:
            with pytest.raises(OutputError, match=r"another process is fetching '.*f'; wait for it, or end it"):
                fetch(server.url, tmp_path / "f", sha256=None)
        finally:
            server.may_answer.set()
        assert first.result() == SHA256
    assert [path.name for path in tmp_path.iterdir()] == ["f"] and len(server.ranges) == 1


def test_what_another_process_has_just_fetched_is_taken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:  # the other one ends between our look at the target and the lock
        part = tmp_path / ".f.part"
        if not (tmp_path / "f").exists():
            part.write_bytes(CONTENT)
            part.replace(tmp_path / "f")
        flock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", late)
    assert fetch(server.url, tmp_path / "f", sha256=SHA256) == SHA256
    assert server.ranges == [] and [path.name for path in tmp_path.iterdir()] == ["f"]


def test_where_there_are_no_locks_a_file_that_another_wrote_to_is_not_taken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    left = 1

    def disturb(label: str, done: int, total: int | None) -> None:
        nonlocal left
        if left and done:
            left -= 1
            with (tmp_path / ".f.part").open("ab") as handle:
                handle.write(b"of the other")

    assert fetch(server.url, tmp_path / "f", sha256=None, progress=disturb) == SHA256
    with pytest.raises(DownloadError, match="something else wrote to the file"):
        fetch(server.url, tmp_path / "g", sha256=None, progress=lambda *a: (tmp_path / ".g.part").write_bytes(b"x"))
    assert not (tmp_path / "g").exists()


BROKEN = [OSError(errno.EHOSTUNREACH, "No route to host"), ssl.SSLError(1, "decryption failed or bad record mac")]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_connection_that_breaks_in_any_way_is_taken_up(
    broken: OSError, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = http.client.HTTPResponse.read, []

    def sometimes(response: http.client.HTTPResponse, size: int | None = None) -> bytes:
        calls.append(size)
        if len(calls) == 2:
            raise broken
        return read(response, size)

    monkeypatch.setattr(http.client.HTTPResponse, "read", sometimes)
    assert fetch(server.url, tmp_path / "f", sha256=SHA256) == SHA256
    assert server.ranges == [None, "bytes=262144-"]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("place", ["open", "read"])
def test_a_connection_that_keeps_breaking_is_one_sentence(
    place: str, broken: OSError, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise broken

    monkeypatch.setattr(urllib.request.OpenerDirector if place == "open" else http.client.HTTPResponse, place, refuse)
    with pytest.raises(DownloadError, match=rf"nothing came from .* \(.*{broken.strerror}.*\); check the network"):
        fetch(server.url, tmp_path / "f", sha256=None)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_broken_connection(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".f.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"cannot write '.*f': No space left on device"):
        fetch(server.url, tmp_path / "f", sha256=None)
    assert len(server.ranges) == 1
