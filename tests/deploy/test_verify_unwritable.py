"""A bundle that cannot be written is found out before the work, and a disk that fills during it costs no verdict."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.errors import OutputError

Export = Callable[..., Any]


@pytest.fixture
def words(quick_export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    quick_export(tmp_path / "out")
    (tmp_path / "w.pt").write_bytes(b"")
    monkeypatch.setattr("drivetl.yolo.resolve_weights", lambda name: tmp_path / "w.pt")
    return ["verify", str(tmp_path / "out"), "--weights", "w.pt", "--data", "d"]


def test_a_read_only_bundle_is_refused_before_the_work(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("drivetl.deploy.record.tempfile.NamedTemporaryFile", refuse)
    monkeypatch.setattr("drivetl.deploy.verify_bundle", lambda *_, **__: pytest.fail("it has begun the work"))
    with pytest.raises(OutputError, match="Read-only file system; copy it to a place that can"):
        CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_verdict_is_printed_although_it_cannot_be_kept(
    as_json: bool, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"passed": False}
    result = SimpleNamespace(passed=False, problems=("scores differ",), document=lambda: document)

    def refuse(*_: Any) -> None:
        raise OutputError("cannot write 'report.json': No space left on device; free space")

    monkeypatch.setattr("drivetl.deploy.verify_bundle", lambda *_, **__: result)
    monkeypatch.setattr("drivetl.deploy.record_verification", refuse)
    monkeypatch.setattr("drivetl.verbs.verify._lines", lambda result: ["3 pictures"])
    done = CliRunner().invoke(app, [*words, "--json"] if as_json else words)
    assert isinstance(done.exception, OutputError)
    if as_json:
        assert json.loads(done.stdout)["passed"] is False
    else:
        assert "not passed: scores differ; it stands here only" in done.stdout
