from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from drivetl.errors import DownloadError, WeightsError
from drivetl.verbs._console import Reporter
from drivetl.verbs.weights import _one_of
from drivetl.yolo import weights
from drivetl.yolo.weights import get_weights, list_weights, resolve_weights, weights_cache

CONTENT = b"not really weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DRIVETL_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)


class _Quiet(SimpleHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    for release, name in (("v8.3.0", "yolo11n"), ("v8.4.0", "yolo26n")):
        (tmp_path / "served" / release).mkdir(parents=True)
        (tmp_path / "served" / release / f"{name}.pt").write_bytes(CONTENT)
    _Quiet.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "served"))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def place(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"x")
    return path


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = place(weights_cache(), "yolo11n.pt")
    assert resolve_weights("yolo11n") == resolve_weights("yolo11n.pt") == cached
    own = place(tmp_path / "mine", "yolo11n.pt")
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(own.parent))
    assert resolve_weights("yolo11n") == own
    here = place(tmp_path, "yolo11n.pt")
    assert resolve_weights("yolo11n.pt") == Path("yolo11n.pt")
    assert resolve_weights(here) == here


def test_what_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"'yolo11n' .* 'drivetl weights get yolo11n'"):
        resolve_weights("yolo11n")
    with pytest.raises(WeightsError, match=r"'mymodel\.pt' .* give the path"):
        resolve_weights("mymodel.pt")
    with pytest.raises(WeightsError, match="does not exist"):
        resolve_weights(tmp_path / "no" / "model.pt")
    with pytest.raises(WeightsError, match="is a folder"):
        resolve_weights(tmp_path)


def test_get_keeps_a_file_whose_hash_is_known_and_does_not_fetch_it_twice(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PUBLISHED_SHA256", {"yolo11n": ("0" * 64, SHA256)})
    path, sha256 = get_weights("yolo11n", base_url=server)
    assert (path, sha256) == (weights_cache() / "yolo11n.pt", SHA256)
    assert path.read_bytes() == CONTENT
    assert get_weights("yolo11n.pt", base_url=server) == (path, SHA256)
    assert _Quiet.requests == ["/v8.3.0/yolo11n.pt"]
    assert {found.name: found.path for found in list_weights()} == {"yolo11n": path, "yolov3-tiny-coco": None}


def test_get_refuses_an_unknown_hash_and_keeps_nothing(server: str) -> None:
    with pytest.raises(DownloadError, match=f"{SHA256}, expected 0ebbc80d.*--accept-hash {SHA256}"):
        get_weights("yolo11n", base_url=server)
    assert not [path for path in weights_cache().rglob("*") if path.is_file()]


def test_get_takes_what_the_user_vouches_for(server: str) -> None:
    with pytest.raises(DownloadError, match=SHA256):
        get_weights("yolo26n", accept_sha256="1" * 64, base_url=server)
    path, sha256 = get_weights("yolo26n", accept_sha256=SHA256.upper(), base_url=server)
    assert path.is_file() and sha256 == SHA256
    assert _Quiet.requests[-1] == "/v8.4.0/yolo26n.pt"


@pytest.mark.parametrize("name", ["../yolo11n", "yolo11n.pt.exe", "resnet50", "", "yolo11q"])
def test_get_knows_the_names_it_may_ask_for(name: str, server: str) -> None:
    with pytest.raises(WeightsError, match="is not the name of published weights"):
        get_weights(name, base_url=server)
    assert _Quiet.requests == []


def test_a_hash_is_64_hexadecimal_digits(server: str) -> None:
    with pytest.raises(WeightsError, match="'abc'"):
        get_weights("yolo11n", accept_sha256="abc", base_url=server)


def test_every_shipped_hash_is_one_and_stands_once() -> None:
    hashes = [value for values in weights.PUBLISHED_SHA256.values() for value in values]
    assert all(len(value) == 64 and int(value, 16) for value in hashes)
    assert len(set(hashes)) == len(hashes)


def test_the_verb_takes_what_is_here_else_fetches_else_takes_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import sys

    from drivetl import cli

    asked = []

    def get(name: str, **_: object) -> tuple[Path, str]:
        asked.append(name)
        if name == "yolo11n":
            raise DownloadError("no network")
        return place(weights_cache(), "yolov3-tiny-coco.weights"), "0" * 64

    def path() -> str:
        monkeypatch.setattr(
            sys, "argv", ["drivetl", *["weights", "get", "yolo11n", "--or", "yolov3-tiny-coco", "--json"]]
        )
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        assert left.value.code == 0, captured.err
        assert "error" not in captured.err and "Traceback" not in captured.err
        return str(json.loads(captured.out)["path"])

    monkeypatch.setattr(weights, "get_weights", get)
    assert path() == str(weights_cache() / "yolov3-tiny-coco.weights")
    assert asked == ["yolo11n", "yolov3-tiny-coco"]
    own = place(tmp_path / "own", "yolo11n.pt")
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(own.parent))
    assert path() == str(own)
    assert len(asked) == 2


def test_a_hash_beside_another_name_is_the_one_that_the_first_must_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, object]] = []

    def get(name: str, *, accept_sha256: str | None = None, **_: object) -> tuple[Path, str]:
        asked.append((name, accept_sha256))
        if name == "yolo11n":
            raise DownloadError("another hash")
        return Path(f"{name}.weights"), "0" * 64

    monkeypatch.setattr(weights, "get_weights", get)
    reporter = Reporter("weights get", True)
    other = (Path("yolov3-tiny-coco.weights"), "0" * 64)
    assert _one_of("yolo11n", "yolov3-tiny-coco", SHA256, reporter) == other
    assert asked == [("yolo11n", SHA256), ("yolov3-tiny-coco", None)]
    own = place(tmp_path / "own", "yolo11n.pt")
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(own.parent))
    assert _one_of("yolo11n", "yolov3-tiny-coco", SHA256, reporter) == other, "what is here is another file"
    own.write_bytes(CONTENT)
    asked.clear()
    assert _one_of("yolo11n", "yolov3-tiny-coco", SHA256.upper(), reporter) == (own, SHA256) and asked == []
