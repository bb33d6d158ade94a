"""The lines of the training log, also in TensorBoard and MLflow for those who watch runs there. Off by default."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from drivetl.adapt.config import TrainConfig
from drivetl.errors import ConfigError, quoted
from drivetl.files import write_json

__all__ = ["MLFLOW_NOTE", "TENSORBOARD_FOLDER", "Trackers", "refuse_login"]

# What they leave beside the log: event files, and which run of MLflow's is this one.
TENSORBOARD_FOLDER, MLFLOW_NOTE = "tensorboard", "mlflow_run.json"

_EXPERIMENT = "drivetl"
_STEPS = "epoch"
# What both clients accept in a name: MLflow the fewest.
_NOT_IN_NAMES = re.compile(r"[^\w\-./: ]")


class _Tracker(Protocol):
    def add(self, values: dict[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """Hands every line of the training log on to the trackers of the settings; without any it does nothing.

    The log stays the source: a tracker is given nothing that is not in it, and a resumed run continues where the log
    does. TensorBoard's files lie beside the log in ``tensorboard``. MLflow writes to the tracking URI of the settings,
    else to that of the environment variable ``MLFLOW_TRACKING_URI``, else beside the log in ``mlruns``: without a URI
    that the user has named nothing is sent anywhere.
    """

    def __init__(self, config: TrainConfig, log: Path, *, resumed_epoch: int | None) -> None:
        """Open the trackers.

        Args:
            config: settings of the run.
            log: the training log, of which lines are read.
            resumed_epoch: epochs that are done when a run is continued; None for a new one.

        Raises:
            ConfigError: a client is not installed, or the tracking server cannot be used.
        """
        self._log = log
        opened: dict[str, Callable[[TrainConfig, Path, int | None], _Tracker]]
        opened = {"tensorboard": _TensorBoard, "mlflow": _MLflow}
        self._trackers = [opened[name](config, log.parent, resumed_epoch) for name in config.trackers]

    def follow(self) -> None:
        """Hand on the last line of the log.

        Raises:
            ConfigError: the tracking server cannot be used any more.
        """
        if not self._trackers:
            return
        line: dict[str, Any] = json.loads(self._log.read_text(encoding="utf-8").splitlines()[-1])
        step = int(line.pop(_STEPS))
        values = {_NOT_IN_NAMES.sub("", name): float(value) for name, value in line.items() if _is_number(value)}
        for tracker in self._trackers:
            tracker.add(values, step)

    def close(self) -> None:
        """Say that the run is done."""
        for tracker in self._trackers:
            tracker.close()


def refuse_login(uri: str) -> None:
    """Refuse an address that names a user in front of its host: it is written down with the run, for all to read.

    Raises:
        ConfigError: it does.
    """
    if "@" in uri.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            "the address of the MLflow server must not hold a user name or password, because it is written down with "
            "the run; MLflow reads them from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _missing(name: str, package: str, error: ImportError) -> ConfigError:
    return ConfigError(
        f"trackers names {name!r}, whose client is not installed ({error}); pip install 'drivetl[trackers]', which "
        f"brings {package}, or leave it out"
    )


class _TensorBoard:
    """Writes event files with torch's ``SummaryWriter``."""

    def __init__(self, config: TrainConfig, folder: Path, resumed_epoch: int | None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", "tensorboard", error) from error
        place = folder / TENSORBOARD_FOLDER
        if resumed_epoch is None:
            shutil.rmtree(place, ignore_errors=True)  # of a run that --overwrite replaces
        # Steps from here on, which a killed process may have written, are hidden by TensorBoard.
        purge = None if resumed_epoch is None else resumed_epoch + 1
        self._writer: Any = SummaryWriter(str(place), purge_step=purge)

    def add(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """Logs a run with ``MlflowClient``, which touches none of MLflow's global state."""

    def __init__(self, config: TrainConfig, folder: Path, resumed_epoch: int | None) -> None:
        # MLflow counts its users over the network; these are its own switches, read on import.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["DO_NOT_TRACK"] = "true"
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise _missing("mlflow", "mlflow-skinny", error) from error
        self._problem: type[Exception] = MlflowException
        self.uri = config.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").absolute().as_uri()
        refuse_login(self.uri)
        if self.uri.startswith("file:"):
            # MLflow asks this of everyone who keeps runs in plain files, which need no database beside them.
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        self._note = folder / MLFLOW_NOTE
        self._client: Any = self._asked(lambda: MlflowClient(tracking_uri=self.uri))
        self._run_id = self._asked(lambda: self._opened(config, folder, resumed_epoch))

    def _opened(self, config: TrainConfig, folder: Path, resumed_epoch: int | None) -> str:
        from mlflow.entities import Param

        if self._note.is_file():  # of this run: --overwrite deletes what is of one before
            return str(json.loads(self._note.read_text(encoding="utf-8"))["run_id"])
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(_EXPERIMENT)
        run_id = str(self._client.create_run(experiment, run_name=folder.name).info.run_id)
        settings = {name: str(value) for name, value in config.model_dump(mode="json").items() if value is not None}
        self._client.log_batch(run_id, params=[Param(name, value[:6000]) for name, value in settings.items()])
        write_json(self._note, {"tracking_uri": self.uri, "run_id": run_id}, overwrite=True)
        return run_id

    def add(self, values: dict[str, float], step: int) -> None:
        from time import time

        from mlflow.entities import Metric

        now = int(1000 * time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._asked(lambda: self._client.log_batch(self._run_id, metrics=metrics))

    def close(self) -> None:
        self._asked(lambda: self._client.set_terminated(self._run_id))

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._problem as error:
            why = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise ConfigError(
                f"MLflow cannot write to {quoted(self.uri)}: {why}; start the server or correct mlflow_uri and go on "
                "with --resume, or leave 'mlflow' out of trackers"
            ) from error
