"""``drivetl doctor``: what this machine can do."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import typer

from drivetl.verbs._console import JsonFlag, Reporter

if TYPE_CHECKING:
    from drivetl.doctor import Report

__all__ = ["register"]

_LABEL_WIDTH = 11
_LINE_WIDTH = 110


def register(app: typer.Typer) -> None:
    """Add the verb ``doctor``."""
    app.command("doctor")(_doctor)


def _doctor(json: JsonFlag = False) -> None:
    """Tell what this machine can do: hardware, versions, providers that really run, weights, problems and remedies.

    Every provider is tried with a tiny model, not only asked for. The exit status is 0 even where there are
    problems: this is a report.

    Example: drivetl doctor --json
    """
    from dataclasses import asdict

    from drivetl import __version__
    from drivetl.doctor import examine

    reporter = Reporter("doctor", json)
    with reporter.working():
        report = examine()
    reporter.finish({"drivetl": __version__, **asdict(report)}, _lines(report, __version__))


def _lines(report: Report, version: str) -> list[str]:
    machine = report.machine
    memory = "unknown" if machine.memory_gib is None else f"{machine.memory_gib:.1f} GiB"
    lines = [
        *_row("drivetl", f"{version}, Python {machine.python}, {machine.system}"),
        *_row("processor", f"{machine.cpu}, {machine.cores} logical cores"),
        *_row("memory", memory),
        *_row("GPU", "; ".join(machine.gpus) or "none that nvidia-smi lists"),
        *_row("packages", ", ".join(f"{name} {v}" for name, v in report.packages.items() if v is not None)),
    ]
    absent = [name for name, v in report.packages.items() if v is None]
    if absent:
        lines += _row("absent", ", ".join(absent))
    lines.append("")
    for name, state in report.providers.items():
        lines += _row(name, "runs" if state.usable else f"does not run: {state.reason}")
    lines.append("")
    found = ", ".join(report.weights.found) or "none; 'drivetl weights get yolo11n' downloads some"
    lines += _row("weights", found)
    lines += _row("cache", f"{report.weights.cache} ({'writable' if report.weights.cache_writable else 'read-only'})")
    lines.append("")
    if not report.problems:
        return [*lines, *_row("problems", "none")]
    for number, problem in enumerate(report.problems, start=1):
        lines += _row(f"problem {number}", problem)
    return lines


def _row(label: str, text: str) -> list[str]:
    """Return a label and its text, wrapped so that the text stays in its column."""
    indent = " " * _LABEL_WIDTH
    return textwrap.wrap(
        text,
        width=_LINE_WIDTH,
        initial_indent=label.ljust(_LABEL_WIDTH),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
