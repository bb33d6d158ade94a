"""The lines that end a run: what they say of the difference that was measured, and how they show commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from drivetl.recipe import Stage
from drivetl.report.evidence import source_of
from drivetl.verbs import _stages
from drivetl.verbs._console import Reporter
from drivetl.verbs._stages import carry_out_all
from drivetl.verbs.run import Carried


def _summary(figure: dict[str, Any], missing: tuple[str, ...] = ()) -> str:
    measured = {"images": 20, "boxes": 9, "map50_95": 0.3, "per_class": {"car": {"boxes": 9, "map50_95": 0.3}}}
    results = {
        "zero_shot": {**measured, "missing_classes": list(missing)},
        "adapted": {**measured, "missing_classes": []},
        "compare": {"headline": {"map50_95": figure}, "notes": ["Only 12 groups."]},
        "verify": {"max_abs_diff_scores": 1e-6, "max_abs_diff_px": 0.0},
        "bench": {"provider": "cpu", "latency_ms": {"end_to_end": {"p50": 9.0, "max": 12.0}}},
        "video": {"frames_out": 3},
    }
    return "\n".join(Carried(Path("run"), "yolo11n.pt", False, results).summary())


def test_the_summary_has_the_verdict_of_the_comparison() -> None:
    figure = {"difference": 0.031, "interval": [-0.012, 0.074], "p_value": 0.16, "verdict": "cannot tell"}
    summary = _summary(figure)
    line = "adapted against before: +0.031 mAP50-95, 95 % interval -0.012 to +0.074, p 0.160: cannot tell"
    assert line in summary and "Only 12 groups." in summary
    assert "no interval: cannot tell" in _summary({**figure, "interval": None, "p_value": None})
    assert "no box to compare them on" in _summary(dict.fromkeys(figure))
    assert "nothing to compare" in _summary(figure, missing=("car",))


def test_shown_commands_can_be_pasted_into_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(_stages, "_call", lambda *_: {})
    monkeypatch.setattr(Reporter, "say", lambda self, text: said.append(text))
    words = ("data", "check", "/work/x/Läufe 1/it's")
    carry_out_all([Stage("check", words)], tmp_path, Reporter("run", False))
    assert shlex.split(said[0].partition(": ")[2]) == ["drivetl", *words]
    command = source_of({"command": ["drivetl", *words], "result": {}}, "check")[0].command
    assert shlex.split(command) == ["drivetl", *words]
