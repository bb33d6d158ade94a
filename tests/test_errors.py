"""Messages are safe to print, and the tree in the docstring is the tree in the code."""

from __future__ import annotations

import pytest

from drivetl import errors


def test_quoted_disarms_terminal_escapes() -> None:
    assert errors.quoted("a\x1b[31mb") == "'a\\x1b[31mb'"
    assert errors.quoted("\u202egpj.exe") == "'\\u202egpj.exe'"


def test_quoted_shortens_in_the_middle() -> None:
    text = errors.quoted("x" * 100 + "y" * 100, limit=20)
    assert len(text) < 25
    assert text.startswith("'xxx") and text.endswith("yyy'")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (
            "rtspsrc user-id=admin user-pw=geheim location=rtsp://10.0.0.5/x ! decodebin ! appsink",
            "rtspsrc user-id=… user-pw=… location=rtsp://10.0.0.5/x ! decodebin ! appsink",
        ),
        ("rtspsrc user-pw=geheim ! appsink", "rtspsrc user-pw=… ! appsink"),
        ("rtspsrc USER-PW = 'my geheim' ! appsink", "rtspsrc USER-PW = … ! appsink"),
        (r'rtspsrc user-pw=(string)"a \" geheim" ! appsink', "rtspsrc user-pw=… ! appsink"),
        (r"rtspsrc user-pw=my\ geheim latency=0 ! appsink", "rtspsrc user-pw=… latency=0 ! appsink"),
        ("srtsrc uri=srt://cam:9 passphrase=geheim ! appsink", "srtsrc uri=srt://cam:9 passphrase=… ! appsink"),
        ('rtspsrc location="rtsp://me:my ge!heim@cam/x" ! appsink', 'rtspsrc location="rtsp://…@cam/x" ! appsink'),
        ("urisourcebin uri=http://cam/x?k=geheim ! appsink", "urisourcebin uri=http://cam/x?… ! appsink"),
        ("a location=rtsp:/me:geheim@cam/x ! b location=rtsp://cam/y ! c", "…rtsp://cam/y ! c"),
        ("rtspsrc user-pw=geheim location=rtsp://cam/x", "rtspsrc user-pw=… location=rtsp://cam/x"),
        ("rtsp//me:ge!heim@cam/live", "…@cam/live"),
        ("nvarguscamerasrc ! video/x-raw(memory:NVMM), width=1280 ! appsink",) * 2,
        ("films/road!.mp4",) * 2,
    ],
)
def test_a_pipeline_is_printed_without_what_may_be_secret(source: str, shown: str) -> None:
    assert errors.printable_source(source) == shown


def test_what_is_no_utf8_is_written_as_an_escape() -> None:
    assert errors.encodable("caf\udce9 ü ☃") == "caf\\udce9 ü ☃"


def test_every_error_stands_in_the_docstring_tree() -> None:
    tree = errors.__doc__ or ""
    classes = [name for name in errors.__all__ if name[0].isupper()]
    assert [name for name in classes if name not in tree] == []


def test_gates_exit_one_and_bad_input_exits_two() -> None:
    assert errors.GateFailed.exit_status == 1
    assert errors.ProviderUnavailable.exit_status == 1
    assert errors.WeightsError.exit_status == 2
