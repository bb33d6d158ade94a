"""The folder of one training run: what lies where, and when it may be reused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.places import Place
from drivetl.adapt.trackers import MLFLOW_NOTE, TENSORBOARD_FOLDER
from drivetl.config import load_yaml, parse_model
from drivetl.errors import ConfigError, OutputError, quoted
from drivetl.files import atomic_file, locked_dir, writing

__all__ = ["RunFolder", "load_run_config"]

# These change how fast a run goes, or where the user stands, not what it computes.
_FREE_ON_RESUME = frozenset({"threads", "workers", "device", "git_commit", "trackers", "mlflow_uri"})

# What `drivetl.files` and `drivetl.adapt.fitting` leave behind when their process is killed.
_LEFTOVER = re.compile(
    r"\.(config|data|train|selection|replay|training_log|state|adapted|alone|last|candidate|weight_curve|result|learning_curve|mlflow_run)-[^.]{8}\.\w+"
    r"|scratch-.{8}|\.dataset-(old-)?.{8}"
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside ``--out``. The job is long, so files appear one by one; each is written whole.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The resolved settings, with versions, fingerprint and hash of the start weights."""
        return self.root / "config.yaml"

    @property
    def data(self) -> Path:
        """The YAML that Ultralytics is given: absolute paths, and nothing that downloads or runs."""
        return self.root / "data.yaml"

    @property
    def log(self) -> Path:
        """One line of JSON per epoch."""
        return self.root / "training_log.jsonl"

    @property
    def state(self) -> Path:
        """What ``--resume`` continues from; deleted when the run is done."""
        return self.root / "state.pt"

    @property
    def adapted(self) -> Path:
        """The result: the chosen epoch's weights, mixed with the start's where the settings say so."""
        return self.root / "weights" / "adapted.pt"

    @property
    def alone(self) -> Path:
        """The chosen epoch's weights before they were mixed; there only when they were."""
        return self.root / "weights" / "alone.pt"

    @property
    def last(self) -> Path:
        """The last epoch's weights."""
        return self.root / "weights" / "last.pt"

    @property
    def pictures(self) -> Path:
        """The list of pictures to train on, where it is not the whole split."""
        return self.root / "train.txt"

    @property
    def place(self) -> Place:
        """The files of the fit."""
        return Place(
            self.data, self.pictures, self.root / "selection.txt", self.root / "replay.txt", self.log, self.state
        )

    @property
    def curve(self) -> Path:
        """What the mixing weight was chosen by."""
        return self.root / "weight_curve.json"

    @property
    def result(self) -> Path:
        """What the run gave; there once it is done, so that whoever missed it can ask again."""
        return self.root / "result.json"

    def read_result(self) -> dict[str, Any]:
        """Return what the run gave.

        Raises:
            OutputError: the file is damaged.
        """
        try:
            document: dict[str, Any] = json.loads(self.result.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{quoted(self.result)} is damaged; train again with --overwrite (the weights beside it may be whole)"
            ) from error
        return document

    @property
    def trials(self) -> Path:
        """Of a fold: its figures for every mixing weight."""
        return self.root / "trials.json"

    @property
    def candidate(self) -> Path:
        """Weights that are being measured."""
        return self.root / "candidate.pt"

    def fold(self, number: int) -> RunFolder:
        """Return the folder of one fold's fit, which is gone when the run is done."""
        return RunFolder(self.root / "folds" / str(number))

    def subset(self, pictures: int) -> RunFolder:
        """Return the folder of the run on so many pictures, of a learning curve; 0: what concerns the start."""
        return RunFolder(self.root / "subsets" / str(pictures))

    @property
    def learning_curve(self) -> Path:
        """Accuracy by the number of labelled pictures."""
        return self.root / "learning_curve.json"

    @property
    def learning_curve_picture(self) -> Path:
        """The same, drawn."""
        return self.root / "learning_curve.png"

    def forget_work(self) -> None:
        """Delete what only a resumed run would need."""
        with writing(self.root):
            self.state.unlink(missing_ok=True)
            shutil.rmtree(self.root / "folds", ignore_errors=True)
            self._forget_leftovers()

    def _leftovers(self) -> Iterator[Path]:
        for folder in (self.root, self.adapted.parent):
            if folder.is_dir():
                yield from (path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name))

    def _forget_leftovers(self) -> None:
        for path in list(self._leftovers()):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @property
    def merged(self) -> Path:
        """The dataset that several were merged into; links to their pictures."""
        return self.root / "dataset"

    def require_unused(self) -> None:
        """Check that no other process trains here.

        Raises:
            OutputError: one does.
        """
        if self.root.is_dir():
            with locked_dir(self.root):
                pass

    def require_free(self, *, overwrite: bool) -> None:
        """Check that a new run may be written here.

        Raises:
            OutputError: the folder holds something else, a run that may not be replaced, or one that goes on.
        """
        self.require_unused()
        if self.root.exists() and not self.root.is_dir():
            raise OutputError(f"{quoted(self.root)} is a file; choose another --out")
        if self.config.is_file():
            if not overwrite:
                remedy = "--resume continues it, --overwrite starts again" if self._unfinished else "pass --overwrite"
                raise OutputError(f"{quoted(self.root)} holds a run; {remedy}, or choose another --out")
        elif self.root.is_dir() and set(self.root.iterdir()) - {self.merged, *self._leftovers()}:
            raise OutputError(f"{quoted(self.root)} is not empty and holds no run of drivetl; choose another --out")

    @contextmanager
    def open(self, identity: dict[str, Any], *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Make the folder ready, write ``config.yaml``, and keep other processes out while the block runs.

        Args:
            identity: what a run is made from; ``train`` holds the settings. A resumed run must have the same.
            resume: continue an interrupted run.
            overwrite: replace an earlier run. Only files that drivetl writes are removed.

        Raises:
            OutputError: the folder holds something else, a run that may not be replaced, one that another process
                trains, or a finished run that left no result.
            ConfigError: the run to continue was made from something else.
        """
        if resume:
            self.require_unused()
            self._check_resumable(identity)
        else:
            self.require_free(overwrite=overwrite)
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        with locked_dir(self.root):
            if not resume:
                self._clear()
            with writing(self.root):
                self._forget_leftovers()
            # Before anything else: a run that is killed now can be resumed.
            write_yaml(self.config, identity)
            yield

    @property
    def _unfinished(self) -> bool:
        """Whether there is something to resume: before its first epoch a run has no state yet."""
        if self.result.is_file() or self.learning_curve.is_file():
            return False
        return self.state.is_file() or not self.adapted.is_file()

    def _check_resumable(self, identity: dict[str, Any]) -> None:
        if not self.config.is_file():
            raise ConfigError(f"there is no run to resume in {quoted(self.root)}; leave out --resume to start one")
        # Killed between its last weights and its result, a run still has the state that gives both once more.
        if self.adapted.is_file() and not self.result.is_file() and not self.state.is_file():
            raise OutputError(f"the run in {quoted(self.root)} is finished; there is nothing to resume")
        before, now = _flat(load_yaml(self.config)), _flat(identity)
        # Of both: what is gone, such as one of several kinds of weather, has changed too.
        for key in dict.fromkeys((*now, *before)):
            if key.rpartition(".")[2] not in _FREE_ON_RESUME and before.get(key) != now.get(key):
                raise ConfigError(
                    f"the run in {quoted(self.root)} was started with {key} = {_shown(before.get(key))}, "
                    f"now it is {_shown(now.get(key))}; a resumed run keeps what it began with"
                )

    def _clear(self) -> None:
        with writing(self.root):
            weights = (self.adapted, self.alone, self.last, self.candidate)
            curves = (self.curve, self.result, self.learning_curve, self.learning_curve_picture)
            lists = (self.place.pictures, self.place.selection, self.place.replay)
            tracked = self.root / MLFLOW_NOTE
            for path in (*weights, *curves, *lists, tracked, self.state, self.log, self.data, self.config):
                path.unlink(missing_ok=True)
            for folder in ("folds", "subsets", TENSORBOARD_FOLDER):
                shutil.rmtree(self.root / folder, ignore_errors=True)


def _shown(value: Any) -> str:
    return "not set" if value is None else quoted(value)


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def write_yaml(target: Path, document: dict[str, Any]) -> None:
    """Write YAML whole, replacing what stands there."""
    with atomic_file(target, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")


def load_run_config(root: Path) -> TrainConfig:
    """Return the settings a run was started with.

    Raises:
        ConfigError: there is no run, or its settings cannot be read.
    """
    path = RunFolder(root).config
    if not path.is_file():
        raise ConfigError(f"there is no run in {quoted(root)}: {quoted(path)} is missing")
    return parse_model(TrainConfig, load_yaml(path).get("train", {}), str(path))
