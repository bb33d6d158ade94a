"""What a training says to TensorBoard and MLflow: the lines of its log, and nothing to anybody who was not named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.trackers import Trackers
from drivetl.adapt.training import train
from drivetl.errors import ConfigError

Configure = Callable[..., TrainConfig]

LINES: list[dict[str, Any]] = [
    {"epoch": 1, "seconds": 3.5, "optimiser_steps": 4, "train/box_loss": 1.25, "metrics/mAP50-95(B)": 0.25},
    {"epoch": 2, "seconds": 7.0, "optimiser_steps": 8, "train/box_loss": 1.0, "metrics/mAP50-95(B)": None},
]


def config_of(tmp_path: Path, *trackers: str, uri: str | None = None) -> TrainConfig:
    return TrainConfig.model_validate(
        {"data": tmp_path / "data", "weights": "yolo11n", "trackers": trackers, "mlflow_uri": uri}
    )


def follow(config: TrainConfig, log: Path, lines: list[dict[str, Any]], resumed: int | None = None) -> Trackers:
    trackers = Trackers(config, log, resumed_epoch=resumed)
    for line in lines:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        trackers.follow()
    return trackers


def test_nothing_is_opened_or_imported_unless_asked(tmp_path: Path) -> None:
    assert TrainConfig(data=tmp_path, weights="yolo11n").trackers == ()
    script = (
        "import sys; from pathlib import Path; from drivetl.adapt.config import TrainConfig; "
        "from drivetl.adapt.trackers import Trackers; "
        "t = Trackers(TrainConfig(data=Path('x'), weights='y'), Path('nowhere'), resumed_epoch=None); "
        "t.follow(); t.close(); print([m for m in ('mlflow', 'tensorboard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and not list(tmp_path.iterdir())


def test_tensorboard_reads_back_what_the_log_says(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = tmp_path / "training_log.jsonl"
    config = config_of(tmp_path, "tensorboard")
    stale = tmp_path / "tensorboard"
    stale.mkdir()
    (stale / "events.out.tfevents.1.old").write_bytes(b"")
    follow(config, log, LINES[:1]).close()
    follow(config, log, LINES[1:], resumed=1).close()
    assert not (stale / "events.out.tfevents.1.old").exists(), "a new run starts clean"
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"seconds", "optimiser_steps", "train/box_loss", "metrics/mAP50-95B"}
    assert [(e.step, e.value) for e in events.Scalars("train/box_loss")] == [(1, 1.25), (2, 1.0)]
    assert [(e.step, e.value) for e in events.Scalars("metrics/mAP50-95B")] == [(1, 0.25)]


def test_mlflow_keeps_one_run_beside_the_log_and_opens_no_socket(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    script = f"""
import socket, sys, json
from pathlib import Path
class Refused(socket.socket):
    def connect(self, address):
        print("CONNECT", address); raise OSError("no network in this test")
socket.socket = Refused
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_trackers import LINES, config_of, follow
here = Path({str(tmp_path)!r})
log = here / "training_log.jsonl"
config = config_of(here, "mlflow")
follow(config, log, LINES[:1])  # interrupted: not closed
follow(config, log, LINES[1:], resumed=1).close()
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=(here / "mlruns").as_uri())
(experiment,) = [e for e in client.search_experiments() if e.name == "drivetl"]
(run,) = client.search_runs([experiment.experiment_id])
history = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/box_loss")]
print(json.dumps([run.info.status, history, run.data.params["weights"], run.data.metrics["metrics/mAP50-95B"]]))
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONNECT" not in done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == ["FINISHED", [[1, 1.25], [2, 1.0]], "yolo11n", 0.25]


def test_a_run_that_was_stopped_after_its_last_epoch_is_closed_when_it_is_resumed(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Path] = []

    class Spy(Trackers):
        def close(self) -> None:
            closed.append(self._log)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("drivetl.adapt.trainer.Trackers", Spy)
    config = configure(epochs=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("drivetl.adapt.training._write_checkpoints", stop)
        train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert len(closed) == 2


def test_what_trackers_left_of_a_replaced_run_is_deleted(configure: Configure, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(configure(epochs=1), run)
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.tfevents.1.old").touch()
    (run / "mlflow_run.json").write_text('{"run_id": "old"}')
    train(configure(epochs=1), run, overwrite=True)
    assert not (run / "tensorboard").exists() and not (run / "mlflow_run.json").exists()


def test_mlflow_goes_on_with_its_run_after_a_kill_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = []
    for _ in range(2):
        Trackers(config_of(tmp_path, "mlflow"), tmp_path / "training_log.jsonl", resumed_epoch=None)
        runs.append(json.loads((tmp_path / "mlflow_run.json").read_text())["run_id"])
    assert runs[0] == runs[1]


def test_a_tracking_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://127.0.0.1:9"
    with pytest.raises(ConfigError, match=r"MLflow cannot write to 'http://127.0.0.1:9': .*--resume"):
        Trackers(config_of(tmp_path, "mlflow", uri=uri), tmp_path / "log.jsonl", resumed_epoch=None)


def test_a_password_is_refused_before_it_is_written_down(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        train(configure(epochs=1, mlflow_uri="https://me:secret@tracking.example/path"), tmp_path / "run")
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_password_in_the_environment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.example")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        Trackers(config_of(tmp_path, "mlflow"), tmp_path / "log.jsonl", resumed_epoch=None)
    assert "secret" not in str(caught.value)


def test_a_client_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"mlflow-skinny"):
        Trackers(config_of(tmp_path, "mlflow"), tmp_path / "log.jsonl", resumed_epoch=None)
