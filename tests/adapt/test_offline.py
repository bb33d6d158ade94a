"""Training opens no internet socket and starts no process, from a clean cache, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_CODE = """
import socket, subprocess, sys
from pathlib import Path

class NoSocket(socket.socket):
    def __init__(self, family=-1, *args, **kwargs):
        if family != getattr(socket, "AF_UNIX", None):
            raise SystemExit("an internet socket was opened")
        super().__init__(family, *args, **kwargs)

def refuse(*args, **kwargs):
    raise SystemExit(f"refused: {args}")

class NoProcess(subprocess.Popen):
    def __init__(self, args, *rest, **kwargs):
        words = [args] if isinstance(args, str) else [str(word) for word in args]
        if any(tool in word for word in words for tool in ("pip", "uv", "curl", "wget", "git")):
            raise SystemExit(f"a process was started: {words}")
        super().__init__(args, *rest, **kwargs)

socket.socket, socket.getaddrinfo, socket.create_connection = NoSocket, refuse, refuse
subprocess.Popen = NoProcess

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.training import train
data, weights, out = sys.argv[1:]
result = train(TrainConfig(data=data, weights=weights, epochs=1, imgsz=64, batch=2, threads=1), Path(out))
assert result.weights.is_file()
"""


def test_training_stays_offline(drawn: Path, random_weights: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "ULTRALYTICS_"))}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(drawn), str(random_weights), str(tmp_path / "run")],
        env={**environment, "DRIVETL_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "the library's chatter does not belong on stdout"
