"""The entrance: instant help, one JSON document, exit statuses, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivetl.cli import _VERBS


def drivetl(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drivetl", *words], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_help_lists_every_verb_and_is_quick() -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        result = drivetl("--help")
        seconds.append(time.perf_counter() - began)
    assert result.returncode == 0
    assert [verb for verb in _VERBS if verb not in result.stdout] == []
    # 0.5 s is the promise on an idle machine; the test leaves room for a busy one.
    assert min(seconds) < 2.0


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, drivetl.cli; "
        "print(sorted({'torch', 'ultralytics', 'cv2', 'numpy', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help(verb: str) -> None:
    result = drivetl(verb, "--help")
    assert result.returncode == 0
    assert "drivetl" in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "yolo11n.pt", "--data", "nowhere"),
        ("evaluate", "no-such-weights", "--data", "nowhere"),
        ("data", "import", "kity", "nowhere", "--out", "d"),
        ("data", "check", "nowhere"),
        ("compare", "--data", "nowhere", "--before", "a.json", "--after", "b.json"),
        ("run", "nowhere.yaml"),
        ("video", "nowhere.mp4", "--model", "nowhere", "--out", "v.mp4"),
        ("bench", "nowhere"),
        ("select", "--profile", "x86-cpu"),
        ("verify", "nowhere", "--weights", "w.pt", "--data", "nowhere"),
        ("export", "nowhere.pt", "--out", "b"),
        ("train", "--data", "nowhere", "--weights", "w.pt", "--out", "r"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_bad_input_is_one_sentence_and_status_two(words: tuple[str, ...], tmp_path: Path) -> None:
    result = drivetl(*words, "--json", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    error = json.loads(result.stdout)["error"]
    assert error["exit_status"] == 2
    assert f"drivetl: error: {error['message']}" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_have_status_two() -> None:
    assert drivetl("evaluate").returncode == 2
    assert drivetl("no-such-verb").returncode == 2
