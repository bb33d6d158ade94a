"""What every verb shares: where words, progress and the one JSON document go."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from drivetl.errors import encodable
from drivetl.verbs._progress import Shown, shown_on

__all__ = [
    "SCHEMA_VERSION",
    "JsonFlag",
    "OverwriteFlag",
    "Reporter",
    "document_written",
    "error_document",
    "expect_document",
    "write_document",
]

SCHEMA_VERSION = 1

_written: list[bool] = []

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Write exactly one JSON document to stdout; everything else goes to stderr.")
]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")]


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the entrance: rich would end the process with 1, which says that a gate failed."""
        raise


class Reporter:
    """One verb's mouth: `say` for sentences, `progress` for long work, `finish` for the result.

    Words and progress go to stderr. The result goes to stdout: as JSON when asked for, else as lines for people.
    With JSON the process's file descriptor 1 is pointed at stderr first, because libraries print to stdout as they
    please and a single stray line would spoil the document.
    """

    def __init__(self, verb: str, as_json: bool) -> None:
        self.verb = verb
        self.as_json = as_json
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._shown: Shown | None = None

    def say(self, text: str) -> None:
        """Print one line for people; markup in it is shown, not obeyed."""
        self.console.print(escape(encodable(text)), emoji=False)

    def progress(self, label: str, done: int, total: int | None) -> None:
        """Show how far the work named ``label`` is; see `drivetl.progress.Progress`."""
        if self._shown is not None:
            self._shown.update(label, done, total)

    @contextmanager
    def working(self) -> Iterator[Reporter]:
        """Show progress with the time left while the block runs."""
        with _stdout_kept_for_json(self.as_json), shown_on(self.console) as shown:
            self._shown = shown
            try:
                yield self
            finally:
                self._shown = None

    @contextmanager
    def measuring(self) -> Iterator[Reporter]:
        """Keep stdout clean as `working` does, but without bars: the thread that draws them would disturb the clock."""
        with _stdout_kept_for_json(self.as_json):
            yield self

    def finish(self, document: dict[str, Any], lines: list[str]) -> None:
        """Write the result: one JSON document, or lines for people."""
        if self.as_json:
            write_document({"schema_version": SCHEMA_VERSION, "verb": self.verb, **document})
            return
        out = _Output(highlight=False, soft_wrap=True)
        for line in lines:
            out.print(escape(encodable(line)), emoji=False)

    def gate(self, document: dict[str, Any], lines: list[str], passed: bool, verdict: str) -> None:
        """Write the result of a gate like `finish`; if it did not pass, say why on stderr and exit with status 1.

        Raises:
            typer.Exit: status 1, when ``passed`` is false.
        """
        self.finish(document, lines)
        if not passed:
            print(f"drivetl: failed: {verdict}", file=sys.stderr)
            raise typer.Exit(1)


def write_document(document: dict[str, Any]) -> None:
    """Write one JSON document to stdout."""
    text = encodable(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"
    # Before writing: what fails half way has spoilt stdout for a second document too.
    _written.append(True)
    sys.stdout.write(text)
    sys.stdout.flush()


def document_written() -> bool:
    """Say whether this command has written its one JSON document."""
    return bool(_written)


def expect_document() -> None:
    """Begin a command; a process may carry out several, one after the other."""
    _written.clear()


def error_document(verb: str, message: str, exit_status: int) -> dict[str, Any]:
    """Return what ``--json`` prints when a verb fails."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verb": verb,
        "error": {"message": message, "exit_status": exit_status},
    }


@contextmanager
def _stdout_kept_for_json(active: bool) -> Iterator[None]:
    if not active:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
