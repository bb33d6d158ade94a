"""Weights out of a package index: a loopback server plays the index, and pip is configured to ask it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from drivetl.errors import DownloadError, OutputError, WeightsError
from drivetl.yolo import packaged, weights
from drivetl.yolo.packaged import PACKAGED, PackagedWeights, get_packaged
from drivetl.yolo.weights import get_weights, list_weights, resolve_weights, weights_cache

NAME = "yolov3-tiny-coco"
MEMBER = bytes(range(256)) * 4096
SETUP = b"raise SystemExit('the archive was run')"


def archive(member: bytes = MEMBER, name: str = "tiny-1.0/tiny/w.weights") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for entry, content in (("tiny-1.0/setup.py", SETUP), (name, member), ("tiny-1.0/after", b"x" * 5000)):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def source_of(data: bytes, **changes: Any) -> PackagedWeights:
    source = PackagedWeights(
        project="tiny",
        archive="tiny-1.0.tar.gz",
        archive_sha256=hashlib.sha256(data).hexdigest(),
        archive_bytes=len(data),
        member="tiny-1.0/tiny/w.weights",
        sha256=hashlib.sha256(MEMBER).hexdigest(),
        bytes=len(MEMBER),
        file_name="yolov3-tiny-coco.weights",
        about="",
    )
    return dataclasses.replace(source, **changes)


@dataclass
class Index:
    """A package index with one project; ``page`` is what it answers with for it."""

    url: str = ""
    data: bytes = field(default_factory=archive)
    page: str = '<html><a href="../../files/tiny-1.0.tar.gz">tiny-1.0.tar.gz</a></html>'
    kind: str = "text/html"
    drop_after: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    state: Index

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        state, wanted = self.state, self.headers.get("Range")
        state.asked.append((self.path, wanted))
        state.authorization.append(self.headers.get("Authorization"))
        body = {"/simple/tiny/": state.page.encode(), "/files/tiny-1.0.tar.gz": state.data}.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        body = body[start:]
        if state.drop_after and self.path.startswith("/files"):
            body = body[: state.drop_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    state = Index()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        state.url = f"http://127.0.0.1:{http.server_address[1]}/simple"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("DRIVETL_WEIGHTS", raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", state.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///nowhere/simple")
        monkeypatch.delenv("PIP_CERT", raising=False)
        monkeypatch.setattr(weights, "PACKAGED", {NAME: source_of(state.data)})
        yield state
        http.shutdown()
        thread.join()


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_only_the_member_is_kept_and_it_is_fetched_once(index: Index) -> None:
    labels: list[str] = []
    path, sha256 = get_weights(NAME, progress=lambda label, done, total: labels.append(label))
    assert path.read_bytes() == MEMBER and sha256 == hashlib.sha256(MEMBER).hexdigest()
    assert files(weights_cache()) == ["yolov3-tiny-coco.weights"]
    assert {"fetching tiny-1.0.tar.gz", "unpacking yolov3-tiny-coco.weights"} == set(labels)
    assert get_weights(NAME)[0] == resolve_weights(NAME) == resolve_weights(f"{NAME}.pt") == path
    assert [asked for asked, _ in index.asked] == ["/simple/tiny/", "/files/tiny-1.0.tar.gz"]
    assert {found.name: found.path for found in list_weights()}[NAME] == path


def test_a_json_index_with_an_absolute_link(index: Index) -> None:
    url = index.url.replace("/simple", "/files/tiny-1.0.tar.gz")
    sha256 = hashlib.sha256(index.data).hexdigest()
    index.page = json.dumps({"files": [{"filename": "tiny-1.0.tar.gz", "url": url, "hashes": {"sha256": sha256}}]})
    assert get_weights(NAME)[0].read_bytes() == MEMBER


def test_the_main_index_may_be_broken_when_an_extra_one_is_not(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "file:///nowhere/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://127.0.0.1:9/simple {index.url}/")
    assert get_weights(NAME)[0].read_bytes() == MEMBER


def test_credentials_go_to_the_index_and_into_no_message(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = index.url.replace("://", "://me:s%40fe@")
    monkeypatch.setenv("PIP_INDEX_URL", secret)
    get_weights(NAME)
    assert index.authorization == ["Basic bWU6c0BmZQ=="] * 2
    (weights_cache() / "yolov3-tiny-coco.weights").unlink()
    index.page = "<html></html>"
    with pytest.raises(DownloadError, match="does not offer it") as caught:
        get_weights(NAME)
    assert "s%40fe" not in str(caught.value) and "s@fe" not in str(caught.value)


def test_a_broken_connection_is_taken_up_again(index: Index) -> None:
    index.drop_after = [1000]
    assert get_weights(NAME)[0].read_bytes() == MEMBER
    assert [wanted for path, wanted in index.asked if path.startswith("/files")] == [None, "bytes=1000-"]


def test_an_interrupted_download_goes_on_in_the_next_call(index: Index) -> None:
    index.drop_after = [1000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"broke off after 1000 bytes.*again to continue"):
        get_weights(NAME)
    assert get_weights(NAME)[0].read_bytes() == MEMBER
    assert index.asked[-1] == ("/files/tiny-1.0.tar.gz", "bytes=1000-")


def test_a_corrupt_cache_entry_is_noticed_and_fetched_again(index: Index) -> None:
    path, _ = get_weights(NAME)
    path.write_bytes(MEMBER[:-1] + b"?")
    with pytest.raises(WeightsError, match="is damaged"):
        resolve_weights(NAME)
    assert get_weights(NAME)[0].read_bytes() == MEMBER
    leftover = weights_cache() / "incoming" / "tiny-1.0.tar.gz"
    leftover.write_bytes(b"half an archive")
    path.unlink()
    assert get_weights(NAME)[0].read_bytes() == MEMBER


def test_another_archive_or_member_is_refused_and_nothing_is_kept(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = hashlib.sha256(b"").hexdigest()
    cases = [
        (source_of(index.data, archive_sha256=wrong), "has the sha256 .* expected"),
        (source_of(index.data, archive_bytes=5), "bytes, expected 5"),
        (source_of(index.data, sha256=wrong), "has the sha256 .* expected"),
        (source_of(index.data, bytes=7), "holds no file .* of 7 bytes"),
        (source_of(index.data, member="tiny-1.0/other"), "holds no file 'tiny-1.0/other'"),
    ]
    for source, message in cases:
        monkeypatch.setattr(weights, "PACKAGED", {NAME: source})
        with pytest.raises(DownloadError, match=message):
            get_weights(NAME)
        assert not (weights_cache() / "yolov3-tiny-coco.weights").exists()


def test_an_index_with_another_hash_is_not_asked_for_the_file(index: Index) -> None:
    index.page = f'<a href="/files/tiny-1.0.tar.gz#sha256={"0" * 64}">x</a>'
    with pytest.raises(DownloadError, match="another file, and was not fetched"):
        get_weights(NAME)
    assert [asked for asked, _ in index.asked] == ["/simple/tiny/"]


def test_no_network_and_no_index_are_said(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(
        DownloadError, match=r"nothing came from 'http://127.0.0.1:9/simple/tiny/'.*'file:///nowhere/simple'"
    ):
        get_weights(NAME)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DownloadError, match="no-index"):
        get_weights(NAME)


def test_a_full_disk_and_a_folder_without_write_access(index: Index, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        get_packaged(source_of(index.data), tmp_path / "file" / "weights")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device"):
        packaged._extract(_written(tmp_path, index.data), source_of(index.data), tmp_path / "w.weights", full)
    assert not (tmp_path / "w.weights").exists()


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "tiny-1.0.tar.gz"
    path.write_bytes(data)
    return path


def test_the_name_is_fixed_to_one_file(index: Index) -> None:
    with pytest.raises(WeightsError, match="takes no --accept-hash"):
        get_weights(NAME, accept_sha256="0" * 64)
    source = PACKAGED[NAME]
    assert source.bytes == 35_434_956 and source.archive_bytes == 65_806_804
    assert len(source.sha256) == len(source.archive_sha256) == 64
