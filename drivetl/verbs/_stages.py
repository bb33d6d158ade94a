"""Carry out stages, each in a child process, and skip what is done and unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.errors import DrivetlError, GateFailed, quoted
from drivetl.files import atomic_file, write_json, writing
from drivetl.verbs._console import Reporter

if TYPE_CHECKING:
    from drivetl.recipe import Stage

__all__ = ["carry_out_all", "check_train_settings"]


def carry_out_all(stages: Sequence[Stage], folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Carry out stages in order and return the JSON of each one's verb by its name.

    Raises:
        GateFailed: the verdict of a stage is no.
        DrivetlError: a stage failed.
        OutputError: the folder cannot be written.
    """
    keys: dict[str, str] = {}
    results: dict[str, Any] = {}
    clock = _Clock(stages)
    for number, stage in enumerate(stages, start=1):
        title = f"[{number}/{len(stages)}] {stage.name}"
        results[stage.name] = _carry_out(stage, folder, keys, reporter, (title, clock.left(number - 1)))
        clock.done(stage, _read(folder / f"{stage.name}.json"))
    return results


def check_train_settings(settings: dict[str, Any], where: str) -> None:
    """Find every problem of the training settings of a recipe before its first stage starts.

    Raises:
        ConfigError: with all of them; ``where`` names the file and the section.
    """
    from drivetl.adapt.config import TrainConfig
    from drivetl.config import parse_model

    parse_model(TrainConfig, {"data": ".", "weights": "the recipe's", **settings}, where)


class _Clock:
    """Guess the time left from how long the stages so far took compared with their shares."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._seconds = 0.0
        self._shares = 0.0

    def done(self, stage: Stage, record: dict[str, Any] | None) -> None:
        self._seconds += float((record or {}).get("seconds", 0.0))
        self._shares += stage.share

    def left(self, first: int) -> str:
        """Return the time that the stages from ``first`` on will take, in words; empty before there is a measure."""
        if not self._shares:
            return ""
        seconds = sum(stage.share for stage in self._stages[first:]) * self._seconds / self._shares
        return f", about {max(1, round(seconds / 60))} min left" if seconds > 45 else ", less than a minute left"


def _carry_out(stage: Stage, folder: Path, keys: dict[str, str], reporter: Reporter, title: tuple[str, str]) -> Any:
    """Run one stage unless its result is there and unchanged; return its JSON. ``title``: stage, time left."""
    keys[stage.name] = key = stage.key(keys)
    result_file = folder / f"{stage.name}.json"
    started_file = folder / f"{stage.name}.started"
    recorded = _read(result_file)
    if recorded is not None and recorded.get("key") == key:
        reporter.say(f"{title[0]}: done before, unchanged")
        return recorded["result"]
    command = list(stage.command)
    if stage.resumes and started_file.is_file() and started_file.read_text(encoding="utf-8") == key:
        command.append("--resume")
    elif stage.replaces:
        command.append("--overwrite")
    if stage.settings:
        command += ["--recipe", str(_write_settings(folder / f"{stage.name}.yaml", stage))]
    with writing(started_file):
        started_file.write_text(key, encoding="utf-8")
    reporter.say(f"{title[0]}{title[1]}: drivetl {' '.join(command)}")
    began = time.monotonic()
    result = _call(stage, command, reporter)
    write_json(
        result_file,
        {"key": key, "command": ["drivetl", *command], "seconds": round(time.monotonic() - began, 1), "result": result},
        overwrite=True,
    )
    started_file.unlink()
    return result


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


def _call(stage: Stage, command: list[str], reporter: Reporter) -> Any:
    """Run one verb in a child process; its progress goes to our stderr, its JSON comes back."""
    with subprocess.Popen([sys.executable, "-m", "drivetl", *command, "--json"], stdout=subprocess.PIPE) as child:
        try:
            output = child.communicate()[0]
        except KeyboardInterrupt:
            # The terminal sends Ctrl-C to the child too; it leaves a resumable state and ends by itself.
            child.wait()
            raise
    if child.returncode == 0:
        return json.loads(output)
    if child.returncode == 130:
        raise KeyboardInterrupt
    # A gate that says no still prints its document; a crash ends with the same status and prints none.
    if child.returncode == GateFailed.exit_status and output.strip():
        for problem in json.loads(output).get("problems", []):
            reporter.say(f"  {problem}" if isinstance(problem, str) else f"  {problem['file']}: {problem['message']}")
        raise GateFailed(
            f"the stage {quoted(stage.name)} did not pass, and the recipe stops there: see the lines above"
        )
    raise DrivetlError(f"the stage {quoted(stage.name)} ended with status {child.returncode}: see the lines above")
