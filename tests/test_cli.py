"""The entrance: instant help, one JSON document, exit statuses, no traceback."""

from __future__ import annotations

import json
import os
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate", "a.json", "--json"), "--data"),
        (("evaluate", "a.json", "--data", "d", "--nothing", "--json"), "--nothing"),
        (("bench", "b", "--iterations", "0", "--json"), "--iterations"),
        (("nothing", "--json"), "nothing"),
        (("--json",), "--json"),
    ],
)
def test_usage_errors_keep_the_promise_of_json(words: tuple[str, ...], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "drivetl", *words], capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == document["error"]["exit_status"] == 2
    assert message in document["error"]["message"] and "--help'" in document["error"]["message"]
    assert document["verb"] == (words[0] if words[0] != "--json" else "") and "Usage:" in done.stderr


def test_usage_errors_have_status_two() -> None:
    assert drivetl("evaluate").returncode == 2
    assert drivetl("no-such-verb").returncode == 2


def _with(lines: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, after lines that break something in it."""
    code = f"import sys, drivetl.cli, drivetl.data\n{lines}\nsys.argv = {['drivetl', *words]!r}\ndrivetl.cli.main()\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


_RAISING = "def broken(*_): raise {}\ndrivetl.data.dataset_stats = broken"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("OSError(28, 'No space left on device')", "the system refuses: No space left on device; check"),
        ("OSError(36, 'File name too long', 'a\\x1bb')", "the system refuses 'a\\x1bb': File name too long; check"),
        ("TimeoutError", "the system refuses: TimeoutError; check"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(error: str, message: str) -> None:
    result = _with(_RAISING.format(error), "data", "stats", "d", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["message"].startswith(message)
    assert result.stderr.strip().startswith(f"drivetl: error: {message}")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "error",
    ["ValueError('a\\x1bb')", "KeyError('car')", "EOFError", "MemoryError", "ModuleNotFoundError(name='nonsense')"],
)
def test_a_defect_has_a_status_of_its_own_and_keeps_its_traceback(error: str) -> None:
    result = _with(_RAISING.format(error), "data", "stats", "d", "--json")
    assert result.returncode == 70
    document = json.loads(result.stdout)["error"]
    assert document["exit_status"] == 70
    assert document["message"].startswith("this is a defect of drivetl, '")
    assert "Traceback" in result.stderr and error.partition("(")[0] in result.stderr
    assert result.stderr.splitlines()[-1].endswith("; please report it with the lines above")


def test_a_defect_leaves_stdout_empty_without_json() -> None:
    result = _with(_RAISING.format("KeyError"), "data", "stats", "d")
    assert (result.returncode, result.stdout) == (70, "")


def test_a_defect_after_the_document_adds_no_second_one() -> None:
    lines = (
        "from drivetl.verbs._console import Reporter\n"
        "finish = Reporter.finish\n"
        "def broken(*words): finish(*words); raise ValueError\n"
        "Reporter.finish = broken"
    )
    result = _with(lines, "doctor", "--json")
    assert result.returncode == 70
    assert json.loads(result.stdout)["verb"] == "doctor"


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_is_told_once(as_json: bool) -> None:
    result = _with(_RAISING.format("KeyboardInterrupt"), "data", "stats", "d", *(["--json"] if as_json else []))
    assert (result.returncode, result.stderr.strip()) == (130, "drivetl: error: interrupted")
    if as_json:
        document = json.loads(result.stdout)
        assert (document["verb"], document["error"]) == ("data", {"message": "interrupted", "exit_status": 130})
    else:
        assert result.stdout == ""


def test_ctrl_c_during_the_imports_is_no_traceback() -> None:
    """The first library that the command line imports presses it."""
    code = (
        "import os, signal, sys\n"
        # A shell that runs the tests in its background lets them, and their children, ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['drivetl', 'data', 'stats', 'd', '--json']\n"
        "from drivetl.__main__ import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (130, "drivetl: error: interrupted")
    assert json.loads(result.stdout)["error"]["message"] == "interrupted"


@pytest.mark.parametrize("words", [["--help"], ["weights", "list"], ["weights", "list", "--json"]])
def test_a_reader_that_goes_away_is_no_failed_gate(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "drivetl", *words]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr.strip()) == (141, "drivetl: the reader of the output has gone")


def test_a_missing_extra_is_still_bad_input() -> None:
    error = "ModuleNotFoundError(name='torch.nn')"
    result = _with(_RAISING.format(error), "data", "stats", "d", "--json")
    assert result.returncode == 2
    assert "pip install 'drivetl[train]'" in json.loads(result.stdout)["error"]["message"]


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    for words in (("data", "stats", "x" * 300), ("video", "x" * 300 + ".mp4", "--model", "nowhere", "--out", "v.mp4")):
        result = drivetl(*words, cwd=tmp_path)
        assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
