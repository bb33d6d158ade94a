"""A gate that said no: the run keeps its verdict, and the page says it first, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.errors import GateFailed
from drivetl.recipe import Stage
from drivetl.report.verdicts import refusal
from drivetl.verbs import _stages
from drivetl.verbs._console import Reporter
from drivetl.verbs._stages import carry_out_all

RECIPE = {"name": "fog", "started_from": "yolo11n.pt", "data": {"format": "voc", "card": "dawn"}, "imgsz": 640}
NO = {"passed": False, "problems": ["98.25% of the detections match, required 99.9%"]}
CHECK = Stage("check", ("data", "check", "my data"))


def _page(run: Path) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(app, ["report", str(run), "--overwrite", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), (run / "page.html").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE), encoding="utf-8")
    imported = {"result": {"splits": {"train": 3}, "per_class": {"car": 4}}, "command": ["drivetl", "data"]}
    (tmp_path / "split.json").write_text(json.dumps(imported), encoding="utf-8")
    return tmp_path


def test_a_refusal_is_kept_is_not_done_and_goes_when_the_gate_passes(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([(1, json.dumps(NO).encode()), (2, b""), (0, b'{"ok": true}')])
    monkeypatch.setattr(_stages._children, "call", lambda *_: next(answers))
    with pytest.raises(GateFailed, match="'check' did not pass"):
        carry_out_all([CHECK], run, Reporter("run", False))
    kept = json.loads((run / "check.json").read_text(encoding="utf-8"))
    assert kept["refused"] == NO and "result" not in kept and kept["command"][0] == "drivetl"
    with pytest.raises(Exception, match="ended with status 2"):
        carry_out_all([CHECK], run, Reporter("run", False))
    assert not (run / "check.json").exists(), "the old verdict says nothing of a try that broke off"
    assert carry_out_all([CHECK], run, Reporter("run", False)) == {"check": {"ok": True}}


@pytest.mark.parametrize("gate", ["verify", "bench", "check", "export"])
def test_the_page_of_a_run_that_a_gate_stopped_gives_the_reason_first(gate: str, run: Path) -> None:
    # Of a gate that could not even measure there is only the error.
    refused = {"error": {"message": "98.25% of the detections match"}} if gate in ("bench", "export") else NO
    (run / f"{gate}.json").write_text(json.dumps({"command": ["drivetl", gate], "refused": refused}), encoding="utf-8")
    document, html = _page(run)
    mark, sentence = document["verdicts"][0]
    assert mark == "bad" and sentence.startswith(f"The gate {gate} did not pass") and "98.25%" in sentence
    assert sum(entry[0] == "bad" for entry in document["verdicts"]) == 1
    assert gate in document["refused"] and gate not in document["missing"] and "video" in document["missing"]
    assert f"The run stopped at {gate}, whose verdict is no: 98.25%" in html
    evidence = json.loads((run / "evidence.json").read_text(encoding="utf-8"))
    assert evidence["verdicts"][0]["mark"] == "bad" and gate in evidence["refused"]


def test_a_verdict_that_stands_in_the_bundle_alone_is_said_too(run: Path) -> None:
    (run / "bundle").mkdir()
    report = run / "bundle" / "report.json"
    report.write_text(json.dumps({"export": {}, "verification": NO}), encoding="utf-8")
    document, _ = _page(run)
    assert document["verdicts"][0][0] == "bad" and "98.25%" in document["verdicts"][0][1]
    report.write_text(json.dumps({"export": {}, "verification": {"passed": True}}), encoding="utf-8")
    assert _page(run)[0]["refused"] == {}


def test_many_problems_are_counted() -> None:
    problems = [{"file": f"{n}.txt", "message": "no class"} for n in range(5)]
    assert refusal({"problems": problems}) == "0.txt: no class; 1.txt: no class; 2.txt: no class; and 2 more"
    assert refusal({}) == "it gives no reason"
