from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drivetl.yolo.environment import cache_dir

# Creating an internet socket or a child process ends the program; a loopback or Unix socket would too, on purpose.
_NO_WAY_OUT = """
import socket, subprocess
class NoSocket(socket.socket):
    def __init__(self, family=socket.AF_INET, *args, **kwargs):
        if family in (socket.AF_INET, socket.AF_INET6, -1):
            raise SystemExit("an internet socket was opened")
        super().__init__(family, *args, **kwargs)
def refuse(*args, **kwargs):
    raise SystemExit(f"a name was looked up or a process started: {args}")
socket.socket = NoSocket
socket.getaddrinfo = refuse
"""


def run(code: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "ULTRALYTICS_", "OMP_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "DRIVETL_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_importing_the_package_loads_neither_torch_nor_ultralytics(tmp_path: Path) -> None:
    code = (
        "import sys, drivetl.yolo, drivetl.yolo.environment, drivetl.yolo.weights, drivetl.adapt.config\n"
        "assert 'TorchModel' in dir(drivetl.yolo)\n"
        "assert not {'torch', 'ultralytics'} & set(sys.modules)"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_door_sets_every_switch_and_opens_no_socket(tmp_path: Path) -> None:
    code = f"""{_NO_WAY_OUT}
import os
from drivetl.yolo import ultra
from ultralytics import utils
from ultralytics.utils.checks import check_font
assert not utils.ONLINE and utils.SAFE_LOAD and not utils.AUTOINSTALL
assert utils.SETTINGS["sync"] is False
assert str(utils.USER_CONFIG_DIR).startswith({str(tmp_path)!r}), utils.USER_CONFIG_DIR
assert check_font("Arial.ttf").is_file() and check_font("Arial.Unicode.ttf").is_file()
assert "OMP_NUM_THREADS" not in os.environ
import torch
assert torch.get_num_threads() == len(os.sched_getaffinity(0)) or len(os.sched_getaffinity(0)) > 8
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_ultralytics_imported_without_the_switches_is_refused(tmp_path: Path) -> None:
    code = """
import os, sys, types
utils = types.ModuleType("ultralytics.utils")
utils.ONLINE, utils.SAFE_LOAD = True, False
sys.modules["ultralytics"] = types.ModuleType("ultralytics")
sys.modules["ultralytics.utils"] = utils
from drivetl.errors import ConfigError
from drivetl.yolo.environment import prepare
try:
    prepare()
except ConfigError as error:
    assert "YOLO_OFFLINE" in str(error), error
else:
    raise SystemExit("it was accepted")
os.environ.update(YOLO_OFFLINE="1", YOLO_AUTOINSTALL="0", YOLO_CONFIG_DIR="x", ULTRALYTICS_SAFE_LOAD="1",
                  NO_ALBUMENTATIONS_UPDATE="1", YOLO_VERBOSE="0")
try:
    prepare()  # the variables came after the import, so they do not hold
except ConfigError as error:
    assert "ULTRALYTICS_SAFE_LOAD" in str(error), error
else:
    raise SystemExit("it was accepted")
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code = "from drivetl.yolo.environment import prepare; prepare()"
    done = run(code, tmp_path / "file" / "cache")
    assert done.returncode != 0
    assert "OutputError" in done.stderr
    assert "file/cache" in done.stderr


def test_cache_follows_the_variable_and_else_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("DRIVETL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "drivetl"


@pytest.mark.parametrize(
    "module", ["drivetl.adapt.averaging", "drivetl.adapt.training", "drivetl.yolo.checkpoint", "drivetl.yolo.layers"]
)
@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_are_told_to_sleep_before_torch_is_loaded(module: str, own: str | None, tmp_path: Path) -> None:
    """OpenMP reads the variable once; afterwards it is too late."""
    code = (
        "import os, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('OMP_WAIT_POLICY'))\n"
        "            raise SystemExit\n"
        "sys.meta_path.insert(0, Hook())\n"
        f"import {module}"
    )
    done = run(code, tmp_path, **({} if own is None else {"OMP_WAIT_POLICY": own}))
    assert (done.stdout.strip(), done.returncode) == (own or "PASSIVE", 0), done.stderr
