"""Messages are safe to print, and the tree in the docstring is the tree in the code."""

from __future__ import annotations

from drivetl import errors


def test_quoted_disarms_terminal_escapes() -> None:
    assert errors.quoted("a\x1b[31mb") == "'a\\x1b[31mb'"
    assert errors.quoted("\u202egpj.exe") == "'\\u202egpj.exe'"


def test_quoted_shortens_in_the_middle() -> None:
    text = errors.quoted("x" * 100 + "y" * 100, limit=20)
    assert len(text) < 25
    assert text.startswith("'xxx") and text.endswith("yyy'")


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
