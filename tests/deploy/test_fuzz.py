"""Broken bundles are answered with a sentence; and the judge notices when they are not."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetl.deploy import fuzz as fuzzing
from drivetl.deploy.fuzz import Limits, fuzz, main
from drivetl.deploy.mutants import KINDS, mutant
from drivetl.errors import BundleError
from drivetl.runtime.bundle import CONTRACT_FILE, MODEL_FILE

Make = Callable[..., Path]


def test_a_few_dozen_broken_bundles_are_refused_in_a_sentence_or_run(tiny_bundle: Make) -> None:
    result = fuzz(tiny_bundle(), count=64, seed=1)
    assert result.passed, result.failures
    assert result.count == 64 and sum(sum(found.values()) for found in result.outcomes.values()) == 64
    assert len(result.outcomes) == 2 * len(KINDS)
    refused = sum(found["refused"] for found in result.outcomes.values())
    assert 32 <= refused < 64, "most are refused, and some changes are harmless"


def test_half_of_the_mutants_get_past_the_hash_and_each_comes_again(tiny_bundle: Make) -> None:
    bundle = tiny_bundle()
    contract, model = ((bundle / name).read_bytes() for name in (CONTRACT_FILE, MODEL_FILE))
    made = [mutant(contract, model, 5, index) for index in range(40)]
    assert made == [mutant(contract, model, 5, index) for index in range(40)]
    assert sum(one.repaired for one in made) == 20
    assert {one.kind for one in made} == set(KINDS)
    assert all((one.contract, one.model) != (contract, model) for one in made if one.kind != "graph values")


def _crash(*arguments: Any, **options: Any) -> None:
    faulthandler.disable()  # pytest's would tell the whole screen
    os.kill(os.getpid(), signal.SIGSEGV)


def _stray(*arguments: Any, **options: Any) -> None:
    raise KeyError("letterbox")


def _spin(*arguments: Any, **options: Any) -> None:
    while True:
        pass


def _devour(*arguments: Any, **options: Any) -> None:
    raise BundleError(f"cannot hold it: {bytearray(1 << 40)!r}")


def _chatter(*arguments: Any, **options: Any) -> None:
    raise BundleError("one line\nand another")


@pytest.mark.parametrize(
    ("fault", "outcome", "text"),
    [
        (_crash, "signal", "SIGSEGV"),
        (_stray, "traceback", "KeyError: 'letterbox'"),
        (_spin, "hang", "SIGXCPU"),
        (_devour, "memory", "MemoryError"),
        (_chatter, "traceback", "not one sentence"),
    ],
)
def test_every_way_to_fail_is_seen_and_the_series_goes_on(
    fault: Any, outcome: str, text: str, tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle()
    monkeypatch.setattr(fuzzing, "Detector", fault)
    result = fuzz(bundle, count=2, limits=Limits(cpu_s=1))
    assert not result.passed and result.count == 2
    assert {(failure.outcome, failure.index) for failure in result.failures} == {(outcome, 0), (outcome, 1)}
    assert text in result.failures[0].text


def test_the_command_exits_0_1_or_2(
    tiny_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle()
    assert main([str(bundle), "--count", "2"]) == 0
    assert "nothing but sentences" in capfd.readouterr().err
    assert main([str(tmp_path / "nowhere"), "--count", "2"]) == 2
    monkeypatch.setattr(fuzzing, "Detector", _stray)
    assert main([str(bundle), "--count", "1"]) == 1
