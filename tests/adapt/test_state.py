"""The log of a run that was interrupted while it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetl.adapt.state import trim_log
from drivetl.errors import DrivetlError


@pytest.mark.parametrize("torn", [b'{"epoch": 3, "sec', b"\0" * 20, b'{"epo\xc3', b"\n", b'{"seconds": 1}\n', b""])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    log = tmp_path / "training_log.jsonl"
    log.write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n' + torn)
    trim_log(log, 2)
    assert log.read_bytes() == b'{"epoch": 1}\n{"epoch": 2}\n'
    trim_log(log, 1)
    assert log.read_bytes() == b'{"epoch": 1}\n'


def test_a_last_line_that_lacks_only_its_end_is_kept_and_ended(tmp_path: Path) -> None:
    log = tmp_path / "training_log.jsonl"
    log.write_bytes(b'{"epoch": 1}\n{"epoch": 2}')
    trim_log(log, 2)
    assert log.read_bytes() == b'{"epoch": 1}\n{"epoch": 2}\n'


@pytest.mark.parametrize("line", [b"mine\n", b'{"epoch": null}\n', b"[]\n", b"\xff\n"])
def test_another_line_that_cannot_be_read_is_an_error(tmp_path: Path, line: bytes) -> None:
    log = tmp_path / "training_log.jsonl"
    log.write_bytes(b'{"epoch": 1}\n' + line + b'{"epoch": 3}\n')
    with pytest.raises(
        DrivetlError, match=r"training_log\.jsonl', line 2 is not a line of a training log; start again"
    ):
        trim_log(log, 3)
    assert b'{"epoch": 3}' in log.read_bytes()


def test_without_a_log_there_is_nothing_to_trim(tmp_path: Path) -> None:
    trim_log(tmp_path / "training_log.jsonl", 3)
    assert list(tmp_path.iterdir()) == []
