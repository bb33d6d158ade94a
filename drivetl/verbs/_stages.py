"""Carry out stages, each in a child process, one or several at a time, and skip what is done, unchanged and there."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.errors import ConfigError, DrivetlError, GateFailed, quoted
from drivetl.files import atomic_file, locked_dir, write_json, writing
from drivetl.verbs._children import Children
from drivetl.verbs._console import Reporter
from drivetl.verbs._progress import in_words

if TYPE_CHECKING:
    from drivetl.recipe import Stage

__all__ = ["begun", "carry_out_all", "check_train_settings", "refuse_set_above"]

# What a recipe says once for all of its stages, and under which name.
_SET_ABOVE = {
    "imgsz": "imgsz",
    "seed": "seed, or seeds of a comparison",
    "device": "device",
    "weights": "weights",
    "data": "data, or train_on of a comparison",
}

# How many lines of a failed stage's log are worth repeating.
_LAST_LINES = 5

# Of a comparison the first stages are seconds of importing, and the next ones hours of training: what those took says
# nothing of these, so before this part of the work is done there is no guess.
_GUESS_FROM = 0.1

_children = Children()


class _RefusedError(GateFailed):
    """A stage was carried out and its verdict is no; ``document`` is what it printed."""

    def __init__(self, message: str, document: dict[str, Any]) -> None:
        super().__init__(message)
        self.document = document


@contextmanager
def begun(folder: Path, recipe: dict[str, Any]) -> Iterator[None]:
    """Make a run's folder, write ``recipe.json``, and keep other processes out while the block runs.

    Raises:
        OutputError: another process carries out a recipe there, or the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked_dir(folder):
        write_json(folder / "recipe.json", recipe, overwrite=True)
        yield


def carry_out_all(stages: Sequence[Stage], folder: Path, reporter: Reporter, jobs: int = 1) -> dict[str, Any]:
    """Carry out stages and return the JSON of each one's verb by its name.

    Args:
        stages: in an order in which each comes after those that it needs.
        folder: of the run.
        reporter: told what happens.
        jobs: how many may run at a time. Of one, the progress is shown; of several, each writes ``<stage>.log`` in the
            folder. When one fails, those that run are waited for and no other is started.

    Raises:
        GateFailed: the verdict of a stage is no.
        DrivetlError: a stage failed.
        OutputError: the folder cannot be written.
        Stopped: SIGTERM or SIGHUP came; the stages that ran got it too, and have ended.
    """
    keys: dict[str, str] = {}
    results: dict[str, Any] = {}
    waiting = dict(enumerate(stages, start=1))
    running: dict[Future[Any], Stage] = {}
    clock = _Clock(stages, jobs)
    with _children.end_with_us(), ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            _children.check()
            ready = [number for number, stage in waiting.items() if all(name in results for name in stage.needs)]
            # One at a time they keep their order: a recipe's stage may count on more than it names.
            for number in ready[: jobs - len(running)] if jobs > 1 else list(waiting)[:1]:
                stage = waiting.pop(number)
                # Not before: what a stage reads may be what another one has just written.
                keys[stage.name] = key = stage.key(keys)
                title = f"[{number}/{len(stages)}] {stage.name}", clock.left()
                log = folder / f"{stage.name}.log" if jobs > 1 else None
                running[pool.submit(_carry_out, stage, folder, key, reporter, title, log)] = stage
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(future)
                results[stage.name] = future.result()
                clock.done(stage, _read(folder / f"{stage.name}.json"))
    return {stage.name: results[stage.name] for stage in stages}


def check_train_settings(settings: dict[str, Any], where: str) -> None:
    """Find every problem of the training settings of a recipe before its first stage starts.

    Raises:
        ConfigError: with all of them; ``where`` names the file and the section.
    """
    from drivetl.adapt.config import TrainConfig
    from drivetl.config import parse_model

    refuse_set_above(settings, where)
    config = parse_model(TrainConfig, {"data": ".", "weights": "the recipe's", **settings}, where)
    if config.idle_patience:
        raise ConfigError(f"{where}: {config.idle_patience}")


def refuse_set_above(settings: dict[str, Any], where: str) -> None:
    """Refuse among training settings what the recipe says for all of its stages, and would override.

    Raises:
        ConfigError: with the first of them.
    """
    for key in _SET_ABOVE:
        if key in settings:
            raise ConfigError(
                f"{where}: {quoted(key)} holds for all stages of a recipe and is ignored here; "
                f"set it at the top of the recipe ({_SET_ABOVE[key]})"
            )


class _Clock:
    """Guess the time left from how long the stages so far took compared with their shares."""

    def __init__(self, stages: Sequence[Stage], jobs: int) -> None:
        self._jobs = jobs
        self._seconds = 0.0
        self._shares = 0.0
        self._left = self._all = sum(stage.share for stage in stages)

    def done(self, stage: Stage, record: dict[str, Any] | None) -> None:
        self._seconds += float((record or {}).get("seconds", 0.0))
        self._shares += stage.share
        self._left -= stage.share

    def left(self) -> str:
        """Return the time that what is not done will take, in words; empty before there is a measure."""
        if self._shares <= _GUESS_FROM * self._all:
            return ""
        seconds = self._left * self._seconds / self._shares / self._jobs
        return f", {in_words(seconds)}"


def _carry_out(
    stage: Stage, folder: Path, key: str, reporter: Reporter, title: tuple[str, str], log: Path | None
) -> Any:
    """Run one stage unless its result is there and unchanged; return its JSON. ``title``: stage, time left."""
    result_file = folder / f"{stage.name}.json"
    started_file = folder / f"{stage.name}.started"
    recorded = _read(result_file)
    if recorded is not None and recorded.get("key") == key and all(path.exists() for path in stage.outputs):
        reporter.say(f"{title[0]}: done before, unchanged")
        return recorded["result"]
    command = list(stage.command)
    begun = started_file.is_file() and started_file.read_text(encoding="utf-8") == key
    if begun and _got_going(stage, started_file):
        command.append("--resume")
    elif stage.replaces:
        command.append("--overwrite")
    if stage.settings:
        command += ["--recipe", str(_write_settings(folder / f"{stage.name}.yaml", stage))]
    if not begun:
        with writing(started_file):
            started_file.write_text(key, encoding="utf-8")
    reporter.say(f"{title[0]}{title[1]}: drivetl {shlex.join(command)}")
    _forget_refusal(result_file)
    began = time.monotonic()

    def record(outcome: dict[str, Any]) -> None:
        seconds = round(time.monotonic() - began, 1)
        document = {"key": key, "command": ["drivetl", *command], "seconds": seconds, **outcome}
        write_json(result_file, document, overwrite=True)

    try:
        result = _call(stage, command, reporter, log)
    except _RefusedError as error:
        # Without a result the stage counts as not done; the page of the run says why.
        record({"refused": error.document})
        raise
    record({"result": result})
    started_file.unlink()
    if log is not None:
        reporter.say(f"{title[0]}: done after {time.monotonic() - began:.0f} s")
    return result


def _forget_refusal(result_file: Path) -> None:
    """Remove the verdict of an earlier try: if this one is interrupted, it says nothing of what stands there now."""
    try:
        document = json.loads(result_file.read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(document, dict) and "refused" in document:
        with writing(result_file):
            result_file.unlink()


def _got_going(stage: Stage, started_file: Path) -> bool:
    """Say whether an interrupted stage came so far that there is something to resume: of this start, not of one before.

    The verb takes seconds to begin, and what is interrupted in them has left nothing, or what stood there before.
    """
    resumed = stage.resumes
    return resumed is not None and resumed.is_file() and resumed.stat().st_mtime_ns >= started_file.stat().st_mtime_ns


def _write_settings(path: Path, stage: Stage) -> Path:
    import yaml

    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump({"train": dict(stage.settings)}, sort_keys=False), encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any] | None:
    """Return a stage's recorded result; None if there is none, or if it is damaged and must be made again."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and "result" in document else None


def _call(stage: Stage, command: list[str], reporter: Reporter, log: Path | None) -> Any:
    """Run one verb in a child process; its progress goes to our stderr or to the log, its JSON comes back."""
    words = [sys.executable, "-m", "drivetl", *command, "--json"]
    with nullcontext() if log is None else writing(log), nullcontext() if log is None else log.open("wb") as errors:
        status, output = _children.call(words, errors)
    if status != 0:
        _children.check()
    if log is not None and status not in (0, 130):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]:
            reporter.say(f"  {line}")
    if status == 0:
        return json.loads(output)
    if status == 130:
        raise KeyboardInterrupt
    # A gate that says no still prints its document; a crash ends with the same status and prints none.
    if status == GateFailed.exit_status and output.strip():
        document = json.loads(output)
        for problem in document.get("problems", []):
            reporter.say(f"  {problem}" if isinstance(problem, str) else f"  {problem['file']}: {problem['message']}")
        raise _RefusedError(
            f"the stage {quoted(stage.name)} did not pass, and the recipe stops there: see the lines above", document
        )
    raise DrivetlError(f"the stage {quoted(stage.name)} ended with status {status}: see the lines above")
