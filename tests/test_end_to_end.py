"""The whole way, from a dataset's own files to a video, without opening a socket or starting pip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

# Python imports sitecustomize in every process of the run, children included.
GUARD = """
import os, socket, subprocess

def _report(what):
    with open(os.environ["DRIVETL_TEST_GUARD_LOG"], "a") as log:
        log.write(what + "\\n")
    raise PermissionError(what)

class GuardedSocket(socket.socket):
    def __init__(self, family=-1, *args, **kwargs):
        if family in (-1, socket.AF_INET, socket.AF_INET6) and kwargs.get("fileno", None) is None:
            _report(f"socket of family {family}")
        super().__init__(family, *args, **kwargs)

class GuardedPopen(subprocess.Popen):
    def __init__(self, args, *rest, **kwargs):
        words = args if isinstance(args, str) else " ".join(map(str, args))
        if "pip " in words or words.endswith("pip") or " install" in words:
            _report(f"process {words}")
        super().__init__(args, *rest, **kwargs)

socket.socket = GuardedSocket
subprocess.Popen = GuardedPopen
"""


def small_fog(material: Path, folder: Path) -> Path:
    """A few of DAWN's pictures: each class on at least two to train on, four more to report."""
    source = material / "data" / "dawn-fog"
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    still = dict.fromkeys(("person", "bicycle", "car", "motorcycle", "bus", "truck"), 2)
    train = []
    for name in (source / "train.txt").read_text().split():
        text = (source / "annotations" / f"{Path(name).stem}.xml").read_text()
        new = [label for label in still if still[label] and f"<name>{label}</name>" in text]
        if new:
            train.append(name)
            still |= {label: still[label] - 1 for label in new}
    assert not any(still.values())
    for listed, names in (("train.txt", train), ("val.txt", (source / "val.txt").read_text().split()[:4])):
        (folder / listed).write_text("\n".join(names) + "\n")
        for name in names:
            shutil.copy(source / "images" / name, folder / "images")
            shutil.copy(source / "annotations" / f"{Path(name).stem}.xml", folder / "annotations")
    return folder


@pytest.mark.material
def test_a_recipe_runs_offline_and_skips_what_is_done(material: Path, tmp_path: Path) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    log = tmp_path / "guard.log"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(guard), str(PROJECT)]),
        "DRIVETL_TEST_GUARD_LOG": str(log),
        "DRIVETL_WEIGHTS": str(material / "weights"),
        "DRIVETL_CACHE": str(tmp_path / "cache"),
    }
    probe = subprocess.run([sys.executable, "-c", "import socket; socket.socket()"], env=environment, check=False)
    assert probe.returncode != 0 and log.read_text().startswith("socket"), "the guard itself must work"
    log.unlink()

    source = small_fog(material, tmp_path / "fog")
    command = [sys.executable, "-m", "drivetl", "run", str(PROJECT / "configs" / "clear_to_fog.yaml"), "--json"]
    for setting in (f"data.source={source}", "imgsz=128", "train.epochs=1"):
        command += ["--set", setting]
    command += ["--out", str(tmp_path / "runs")]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-3000:]
    assert not log.exists(), log.read_text()

    stages = json.loads(first.stdout)["stages"]
    assert list(stages) == [
        *("import", "split", "check", "zero_shot", "train", "adapted", "compare", "export", "verify", "bench"),
        *("video", "page"),
    ]
    listed = (source / "train.txt").read_text().split() + (source / "val.txt").read_text().split()
    assert stages["import"]["images"] == len(listed)
    assert stages["zero_shot"]["images"] == stages["adapted"]["images"] == 4
    assert list(stages["zero_shot"]["per_class"]) == list(stages["adapted"]["per_class"])
    assert stages["train"]["optimiser_steps"] >= 1
    assert {row["kind"] for row in stages["train"]["head_transfer"]} == {"same"}
    assert stages["verify"]["passed"] is True
    assert stages["bench"]["latency_ms"]["end_to_end"]["p50"] > 0
    assert stages["video"]["frames_out"] == 4
    assert (tmp_path / "runs" / "clear_to_fog" / "video.mp4").stat().st_size > 1000

    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0
    assert second.stderr.count("done before, unchanged") == len(stages)
    assert json.loads(second.stdout)["stages"] == stages
