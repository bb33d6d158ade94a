"""Open broken bundles, each in a process of its own, and fail on anything but one clear sentence.

    python -m drivetl.deploy.fuzz BUNDLE --count 10000 --seed 0

A traceback, a signal, a hang or memory without bound is a failure. One process imports the runtime once and forks for
every bundle, so that whatever one breaks ends with it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drivetl.deploy.mutants import Mutant, mutant
from drivetl.errors import BundleError, ConfigError, DrivetlError, quoted
from drivetl.progress import Progress, silent
from drivetl.runtime import Detector, open_bundle
from drivetl.runtime.bundle import CONTRACT_FILE, MODEL_FILE

__all__ = ["Failure", "FuzzResult", "Limits", "fuzz", "main"]

_MOST_TEXT = 2000
_MIB = 1 << 20
# What a library says when the limit stopped it: the sentence is fine, the appetite is not.
_STARVED = ("MemoryError", "bad_alloc", "failed to allocate", "not enough memory", "out of memory")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one bundle may take, beyond what the runtime itself occupies.

    Attributes:
        memory_mb: MiB of address space.
        cpu_s: seconds of processor time.
        wall_s: seconds on the clock; generous, because a busy machine is no hang.
    """

    memory_mb: int = 1024
    cpu_s: int = 10
    wall_s: int = 120


@dataclass(frozen=True, slots=True)
class Failure:
    """A bundle that was not answered with a sentence.

    Attributes:
        index: its number in the series; with the same bundle and seed it comes again.
        kind: what was broken, see `drivetl.deploy.mutants.KINDS`.
        repaired: whether hash and contract were made to agree again.
        outcome: ``traceback``, ``signal``, ``hang`` or ``memory``.
        text: the traceback or the signal's name.
    """

    index: int
    kind: str
    repaired: bool
    outcome: str
    text: str


@dataclass(slots=True)
class FuzzResult:
    """How the series went.

    Attributes:
        seed: of the series.
        count: bundles opened.
        outcomes: for each kind, how many were ``refused`` or ``opened`` (harmless changes), or failed and how.
        failures: those that failed.
        peak_mb: most memory that one process occupied, in MiB.
        seconds: on the clock.
    """

    seed: int
    count: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    peak_mb: float = 0.0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every bundle was refused in a sentence, or ran."""
        return not self.failures

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        outcomes = {kind: dict(sorted(found.items())) for kind, found in self.outcomes.items()}
        return {"passed": self.passed, **asdict(self), "outcomes": outcomes}


def fuzz(
    bundle: Path,
    *,
    count: int,
    seed: int = 0,
    first: int = 0,
    limits: Limits | None = None,
    seconds: float | None = None,
    progress: Progress = silent,
) -> FuzzResult:
    """Break a bundle ``count`` times, and let a process open each and run it on one picture.

    Args:
        bundle: a sound one; it is only read.
        count: how many.
        seed: the same series again.
        first: number of the first, to repeat a single one.
        limits: what each may take.
        seconds: stop after so long, with fewer; None goes through all.
        progress: told after every one.

    Raises:
        BundleError: the bundle itself cannot be used.
        ConfigError: this system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise ConfigError("this system has no fork(); run the fuzzing on Linux or macOS")
    open_bundle(bundle)
    contract, model = ((bundle / name).read_bytes() for name in (CONTRACT_FILE, MODEL_FILE))
    result, begun = FuzzResult(seed), time.monotonic()
    # What stands is kept out of the children's collector: touching it would copy every page of it.
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(first, first + count):
            made = mutant(contract, model, seed, index)
            made.write(Path(folder))
            outcome, text, peak_mb = _open_in_child(Path(folder), limits or Limits())
            _note(result, made, index, outcome, text)
            result.peak_mb = max(result.peak_mb, peak_mb)
            progress("fuzz", result.count, count)
            if seconds is not None and time.monotonic() - begun > seconds:
                break
    gc.unfreeze()
    result.seconds = round(time.monotonic() - begun, 1)
    return result


def _note(result: FuzzResult, made: Mutant, index: int, outcome: str, text: str) -> None:
    result.count += 1
    name = f"{made.kind}, {'repaired' if made.repaired else 'as broken'}"
    result.outcomes.setdefault(name, Counter())[outcome] += 1
    if outcome not in ("refused", "opened"):
        result.failures.append(Failure(index, made.kind, made.repaired, outcome, text))


def _open_in_child(folder: Path, limits: Limits) -> tuple[str, str, float]:
    """Return the outcome, its text, and the most memory in MiB."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn where other threads run; the child calls nothing that could wait for one of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reading)
        # Nothing of the parent may run here: no clean-up, no test framework, no second result.
        try:
            answer = _answer(folder, limits)
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answered = pipe.read()
    _, status, usage = os.wait4(child, 0)
    peak_mb = usage.ru_maxrss / 1024 if sys.platform != "darwin" else usage.ru_maxrss / _MIB
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hung = number in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
        return "hang" if hung else "signal", signal.Signals(number).name, peak_mb
    if not answered:
        return "signal", f"ended with status {os.WEXITSTATUS(status)} and no word", peak_mb
    outcome, text = json.loads(answered)
    return outcome, text, peak_mb


def _answer(folder: Path, limits: Limits) -> tuple[str, str]:
    """Open the bundle as a car would; runs in the child."""
    _limit(limits)
    try:
        detector = Detector(folder, threads=1)
        names = detector.contract.class_names
        found = detector(np.full((90, 160, 3), 128, np.uint8))
        str([names[class_id] for class_id in found.class_id])
    except DrivetlError as error:
        chain = f"{error!r} {error.__cause__!r}".lower()
        text = str(error)[:_MOST_TEXT]
        if any(sign.lower() in chain for sign in _STARVED):
            return "memory", text
        return ("refused", text) if text and "\n" not in text else ("traceback", f"not one sentence: {text}")
    except MemoryError:
        return "memory", traceback.format_exc()[-_MOST_TEXT:]
    except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
        return "traceback", traceback.format_exc()[-_MOST_TEXT:]
    return "opened", ""


def _limit(limits: Limits) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limits.wall_s)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    occupied = Path("/proc/self/statm")
    pages = int(occupied.read_text().split()[0]) if occupied.exists() else 0
    most = pages * resource.getpagesize() + limits.memory_mb * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # A library's last words would only litter the parent's screen.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)


def main(words: Sequence[str] | None = None) -> int:
    """Run the series from the command line; exit status 1 where anything failed, 2 where it could not begin."""
    parser = argparse.ArgumentParser(prog="python -m drivetl.deploy.fuzz", description="Open broken bundles.")
    parser.add_argument("bundle", type=Path, help="a sound bundle; it is only read")
    parser.add_argument("--count", type=int, default=10_000, help="how many to break (default: 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first, to repeat a single one")
    parser.add_argument("--seconds", type=float, help="stop after so long, with fewer")
    chosen = parser.parse_args(words)
    try:
        result = fuzz(
            chosen.bundle,
            count=chosen.count,
            seed=chosen.seed,
            first=chosen.first,
            seconds=chosen.seconds,
            progress=_progress,
        )
    except (BundleError, ConfigError) as error:
        print(f"fuzz: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result.document(), indent=2, ensure_ascii=True))
    verdict = "nothing but sentences" if result.passed else f"{len(result.failures)} failed, see failures"
    print(f"fuzz: {result.count} of {quoted(chosen.bundle)} in {result.seconds} s: {verdict}", file=sys.stderr)
    return 0 if result.passed else 1


def _progress(label: str, done: int, total: int | None) -> None:
    if done % 500 == 0:
        print(f"{label} {done} of {total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
