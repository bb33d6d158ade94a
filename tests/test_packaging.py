"""The wheel carries the cards, recipes and profiles, and the files that carry them all load."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(PROJECT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("kind", ["datasets", "configs", "export/profiles"])
def test_every_shipped_yaml_is_in_the_wheel(wheel: zipfile.ZipFile, kind: str) -> None:
    shipped = {f"drivetl/resources/{kind}/{path.name}" for path in (PROJECT / kind).glob("*.yaml")}
    assert shipped and shipped <= set(wheel.namelist())


def test_the_wheel_holds_no_weights_pictures_or_tests(wheel: zipfile.ZipFile) -> None:
    endings = (".pt", ".onnx", ".jpg", ".jpeg", ".mp4")
    assert [name for name in wheel.namelist() if name.endswith(endings) or name.startswith("tests/")] == []


def test_the_installed_wheel_finds_its_yaml(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "from drivetl.resources import resource_file; print(resource_file('datasets', 'kitti'))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(result.stdout.strip()) == tmp_path / "drivetl" / "resources" / "datasets" / "kitti.yaml"
