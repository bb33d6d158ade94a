"""A training process that is killed without warning, five times, ends in the same weights as one left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.training import train
from drivetl.errors import OutputError
from drivetl.yolo import load_checkpoint

from .conftest import draw_dataset

Configure = Callable[..., TrainConfig]

# Where the five kills are spread: each comes up to half a second after the first of these files is there, or a later
# one if that came first. Time alone would say little on a machine whose speed is not known.
MOMENTS = (
    ("config.yaml",),  # the first fold's head phase
    ("folds/0/state.pt", "folds/0/trials.json"),  # its joint phase
    ("folds/0/candidate.pt", "folds/0/trials.json"),  # its choice of the share
    ("folds/1/state.pt", "folds/1/trials.json"),  # the second fold
    ("training_log.jsonl", "state.pt"),  # the run on all pictures
)


def begin(recipe: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "drivetl", "train", "--recipe", str(recipe), "--out", str(out), "--no-figures"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    # A session of its own, so that whatever it starts dies with it.
    return subprocess.Popen(
        [*command, *more],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def end(child: subprocess.Popen[bytes]) -> None:
    _, words = child.communicate()
    assert child.returncode == 0, words.decode()


def kill(child: subprocess.Popen[bytes], out: Path, files: tuple[str, ...], delay: float) -> None:
    while child.poll() is None and not any((out / name).exists() for name in files):
        time.sleep(0.005)
    time.sleep(delay)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    _, words = child.communicate()
    assert child.returncode in (-signal.SIGKILL, 0), words.decode()


def test_killed_at_five_random_moments(drawn: Path, random_weights: Path, tmp_path: Path) -> None:
    source = draw_dataset(tmp_path / "source", train=3, val=2)
    recipe = tmp_path / "recipe.yaml"
    parts = {"head_epochs": 2, "l2_sp": 0.01, "replay": str(source), "retention": str(source)}
    mixing = {"wise_ft": "select", "wise_ft_shares": [0.5], "selection_folds": 2}
    base = {"data": str(drawn), "weights": str(random_weights), "epochs": 3, "imgsz": 64, "batch": 2, "threads": 1}
    recipe.write_text(yaml.safe_dump({"train": {**base, **parts, **mixing, "lr0": 1e-3}}))
    whole, run = tmp_path / "whole", tmp_path / "run"
    end(begin(recipe, whole))
    rng = np.random.default_rng(5)
    killed = 0
    for files in MOMENTS:
        resumes = ["--resume"] if RunFolder(run).config.is_file() else []
        child = begin(recipe, run, *resumes)
        kill(child, run, files, float(rng.uniform(0, 0.5)))
        killed += child.returncode == -signal.SIGKILL
    assert killed >= 4, "the last may come too late"
    if not RunFolder(run).result.is_file():
        end(begin(recipe, run, "--resume"))
    assert {path.relative_to(run) for path in run.rglob("*")} == {path.relative_to(whole) for path in whole.rglob("*")}
    # The mix may be the start alone; the fine-tuned weights before the mix never are.
    for name in ("adapted.pt", "alone.pt", "last.pt"):
        expected, got = (load_checkpoint(out / "weights" / name).model.state_dict() for out in (whole, run))
        assert all(torch.equal(expected[key], got[key]) for key in expected), name
    start = load_checkpoint(random_weights).model.state_dict()
    key = "model.0.conv.weight"
    assert not torch.equal(start[key], load_checkpoint(run / "weights" / "alone.pt").model.state_dict()[key])


def test_what_a_killed_process_leaves_is_cleared(configure: Configure, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "scratch-abcd1234").mkdir(parents=True)
    (run / "scratch-abcd1234" / "features0.pt").write_bytes(b"x")
    (run / ".config-abcd1234.yaml").write_text("")
    for name in (".dataset-abcd_234", ".dataset-old-abcd_234"):
        (run / name / "images").mkdir(parents=True)
    train(configure(epochs=1), run)
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "data.yaml",
        "result.json",
        "training_log.jsonl",
        "weights",
    }
    other = tmp_path / "other"
    other.mkdir()
    (other / ".config").write_text("mine")
    with pytest.raises(OutputError, match="holds no run"):
        train(configure(epochs=1), other)
    assert (other / ".config").read_text() == "mine"
