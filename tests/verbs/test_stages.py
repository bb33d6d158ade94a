"""Stages one after another or beside each other: order, logs, failures, and what is not done again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from drivetl.errors import DrivetlError, Stopped
from drivetl.recipe import Stage
from drivetl.verbs import _stages
from drivetl.verbs._console import Reporter
from drivetl.verbs._stages import carry_out_all

WAIT_S = 20


class Heard(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__("run", False)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def _diamond() -> list[Stage]:
    """One first, two that need it, one that needs both."""
    return [
        Stage("first", ("a",)),
        Stage("left", ("b",), needs=("first",)),
        Stage("right", ("c",), needs=("first",)),
        Stage("last", ("d",), needs=("left", "right")),
    ]


def test_stages_that_do_not_need_each_other_run_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=WAIT_S)
    order: list[str] = []

    def call(stage: Stage, command: list[str], reporter: Reporter, log: Path | None) -> Any:
        if stage.name in ("left", "right"):
            together.wait()  # breaks, and fails the test, unless both are here
        order.append(stage.name)
        assert log == tmp_path / f"{stage.name}.log"
        return {"said": stage.name}

    monkeypatch.setattr(_stages, "_call", call)
    heard = Heard()
    results = carry_out_all(_diamond(), tmp_path, heard, jobs=2)
    assert list(results) == ["first", "left", "right", "last"] and results["last"] == {"said": "last"}
    assert order[0] == "first" and order[-1] == "last"
    assert sum("done after" in line for line in heard.lines) == 4
    again = Heard()
    assert carry_out_all(_diamond(), tmp_path, again, jobs=1) == results
    assert len(order) == 4 and all("done before, unchanged" in line for line in again.lines)


def test_seconds_of_importing_do_not_foretell_hours_of_training() -> None:
    imported, trained, tested = (Stage(name, (name,), share=share) for name, share in (("a", 1), ("b", 20), ("c", 19)))
    clock = _stages._Clock([imported, trained, tested], jobs=1)
    assert not clock.left()
    clock.done(imported, {"seconds": 2.0})
    assert not clock.left()
    clock.done(trained, {"seconds": 1258.0})
    assert clock.left() == ", about 19 min left"


@pytest.mark.parametrize("jobs", [1, 2])
def test_never_more_at_a_time_than_asked_for(jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def call(*_: Any) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        return {}

    monkeypatch.setattr(_stages, "_call", call)
    carry_out_all([Stage(f"s{number}", (str(number),)) for number in range(6)], tmp_path, Heard(), jobs=jobs)
    assert most == jobs


def test_a_failure_repeats_the_end_of_its_log_and_lets_the_others_finish(tmp_path: Path) -> None:
    """With real verbs: one has nothing to check, the other is done before the run ends, the third never starts."""
    (tmp_path / "run").mkdir()
    stages = [
        Stage("broken", ("data", "check", str(tmp_path / "nowhere"))),
        Stage("fine", ("doctor",)),
        Stage("after", ("doctor",), needs=("broken",)),
    ]
    heard = Heard()
    with pytest.raises(DrivetlError, match="'broken' ended with status 2"):
        carry_out_all(stages, tmp_path / "run", heard, jobs=2)
    assert any("nowhere" in line for line in heard.lines if line.startswith("  "))
    assert (tmp_path / "run" / "fine.json").is_file() and not (tmp_path / "run" / "after.json").exists()
    assert "nowhere" in (tmp_path / "run" / "broken.log").read_text(encoding="utf-8")


def test_what_an_earlier_stage_wrote_counts_for_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made.txt"
    (tmp_path / "run").mkdir()

    def call(stage: Stage, *_: Any) -> Any:
        if stage.name == "maker":
            made.write_text("weights", encoding="utf-8")
        return {}

    monkeypatch.setattr(_stages, "_call", call)
    stages = [Stage("maker", ("a",)), Stage("user", ("b",), needs=("maker",), sources=(made,))]
    carry_out_all(stages, tmp_path / "run", Heard(), jobs=2)
    again = Heard()
    carry_out_all(stages, tmp_path / "run", again, jobs=1)
    assert all("done before, unchanged" in line for line in again.lines)


def test_what_a_stage_made_and_somebody_deleted_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, predictions = tmp_path / "out" / "weights" / "adapted.pt", tmp_path / "a.json"
    stages = [
        Stage("train", ("train", "--out", str(tmp_path / "out")), replaces=True, resumes=tmp_path / "out/config.yaml"),
        Stage("measure", ("evaluate", "--predictions", str(predictions)), needs=("train",), replaces=True),
    ]
    carried: list[list[str]] = []

    def call(stage: Stage, command: list[str], *_: Any) -> Any:
        carried.append([stage.name, command[-1]])
        for path in stage.outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return {}

    monkeypatch.setattr(_stages, "_call", call)
    (tmp_path / "run").mkdir()

    def again() -> list[list[str]]:
        carried.clear()
        carry_out_all(stages, tmp_path / "run", Heard())
        return list(carried)

    assert [name for name, _ in again()] == ["train", "measure"] and again() == []
    predictions.unlink()
    assert again() == [["measure", "--overwrite"]] and again() == []
    weights.unlink()
    assert again() == [["train", "--overwrite"]] and again() == []


def test_what_was_interrupted_before_it_began_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "out" / "config.yaml"
    stage = Stage("train", ("a",), replaces=True, resumes=config)
    commands: list[list[str]] = []
    begins = False

    def call(stage: Stage, command: list[str], *_: Any) -> Any:
        commands.append(command)
        if begins:
            config.parent.mkdir(exist_ok=True)
            config.write_text("of this start", encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(_stages, "_call", call)

    def interrupted() -> list[str]:
        with pytest.raises(KeyboardInterrupt):
            carry_out_all([stage], tmp_path, Heard())
        return commands[-1][1:]

    config.parent.mkdir()
    config.write_text("of a run with other settings", encoding="utf-8")
    os.utime(config, (1.0, 1.0))
    assert interrupted() == interrupted() == ["--overwrite"]
    begins = True
    assert interrupted() == ["--overwrite"]
    begins = False
    assert interrupted() == interrupted() == ["--resume"], "also where the resumed one was interrupted at once"


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 1)])
def test_a_signal_that_ends_the_run_ends_its_stages(
    number: signal.Signals, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan would go on writing into the folder that the same command is started in again."""
    verb = tmp_path / "verb"
    verb.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/$3.tmp && mv {tmp_path}/$3.tmp {tmp_path}/$3.pid\nexec sleep 30\n"
    )
    verb.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(verb))
    pids = [tmp_path / f"{name}.pid" for name in "ab"[:jobs]]

    def send() -> None:
        began = time.monotonic()
        while not all(path.is_file() for path in pids) and time.monotonic() - began < WAIT_S:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    outside: list[int] = []
    before = signal.signal(number, lambda received, _: outside.append(received))
    ours = signal.getsignal(number)
    stages = [Stage(name, (name,)) for name in "abc"]
    (tmp_path / "run").mkdir()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Stopped, match=f"stopped by {number.name}") as stopped:
            carry_out_all(stages, tmp_path / "run", Heard(), jobs=jobs)
        assert signal.getsignal(number) is ours and outside == []
    finally:
        sender.join()
        signal.signal(number, before)
    assert stopped.value.exit_status == 128 + number
    for path in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
    assert not (tmp_path / "c.pid").exists() and not list((tmp_path / "run").glob("*.json"))


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: Any) -> Any:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        return {}

    monkeypatch.setattr(_stages, "_call", call)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        carry_out_all([Stage("under_nohup", ("a",))], tmp_path, Heard())
    finally:
        signal.signal(signal.SIGHUP, before)
