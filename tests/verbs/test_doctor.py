from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper
from typer.testing import CliRunner

from drivetl import doctor, nvidia
from drivetl.runtime import requirements, session
from drivetl.verbs import doctor as verb


def run(*words: str) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(lambda: None)
    verb.register(app)
    result = CliRunner().invoke(app, ["doctor", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DRIVETL_WEIGHTS", raising=False)
    return tmp_path / "cache"


def test_the_probe_is_a_convolution_that_doubles() -> None:
    shape = [1, 1, 2, 2]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [2.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="drivetl")
    assert onnx.load_from_string(doctor.PROBE_GRAPH) == model
    onnx.checker.check_model(model)


def test_json(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/mine.pt").write_bytes(b"")
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(tmp_path / "weights"))
    document = json.loads(run("--json"))
    assert (document["verb"], document["schema_version"]) == ("doctor", 1)
    assert document["providers"]["cpu"] == {"usable": True, "reason": None}
    for name, state in document["providers"].items():
        assert state["usable"] == (state["reason"] is None)
        if requirements.missing_for(name) is not None:
            assert state["reason"] == requirements.missing_for(name)
    assert document["packages"]["numpy"] == np.__version__
    assert document["packages"]["opencv-python"] == metadata.version("opencv-python")
    assert document["weights"]["found"] == {"mine": str(tmp_path / "weights/mine.pt")}
    assert (document["weights"]["cache"], document["weights"]["cache_writable"]) == (str(own_cache), True)
    assert not own_cache.exists()  # looking changes nothing
    assert document["machine"]["cores"] >= 1 and document["machine"]["python"] == sys.version.split()[0]


def test_one_screen() -> None:
    lines = run().splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 110 or " " not in line[11:] for line in lines)
    labels = [line[:11].strip() for line in lines if line and not line.startswith(" ")]
    assert labels[:5] == ["drivetl", "processor", "memory", "GPU", "packages"]
    assert {"cpu", "cuda", "tensorrt", "weights", "cache"} <= set(labels)


def test_torch_is_not_loaded() -> None:
    code = (
        "import sys; from drivetl.doctor import examine; examine(); "
        "print({'torch', 'ultralytics', 'albumentations', 'onnx'} & set(sys.modules))"
    )
    project = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("installed", "wanted"),
    [
        ({"opencv-python": "5.0.0", "onnxruntime-gpu": "1.31.1"}, []),
        ({"opencv-python": "5.0.0", "opencv-python-headless": "5.0.0"}, []),
        (
            {"opencv-python": "4.9.0.80", "opencv-python-headless": "4.10.0.84"},
            ["opencv-python==4.10.0.84 opencv-python-headless==4.10.0.84"],
        ),
        # Two builds of ONNX Runtime overwrite each other even at one version.
        ({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}, ["pip uninstall -y onnxruntime onnxruntime-gpu"]),
    ],
)
def test_duplicates(installed: dict[str, str], wanted: list[str]) -> None:
    problems = doctor.duplicates(installed)
    assert len(problems) == len(wanted)
    assert all(part in problem for part, problem in zip(wanted, problems, strict=True))


def test_two_distributions_of_one_module_are_both_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("opencv-python", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu"):
            return "4.11"
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    report = doctor.examine()
    assert report.packages["opencv-python"] == report.packages["opencv-python-headless"] == "4.11"
    assert report.packages["onnxruntime"] == report.packages["onnxruntime-gpu"] == "4.11"
    assert any("overwrite each other" in problem for problem in report.problems)
    assert not any("same cv2" in problem for problem in report.problems)


def test_a_gpu_that_cuda_cannot_use_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = SimpleNamespace(stdout="NVIDIA T4, 15360, 580.1\nNVIDIA T4, [N/A], 580.1\n", returncode=0)
    monkeypatch.setattr(nvidia.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(nvidia.subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setattr(requirements, "missing_for", lambda name: None if name == "cpu" else "cuDNN is not installed")
    report = doctor.examine()
    assert report.machine.gpus == ("NVIDIA T4, 15360 MiB, driver 580.1", "NVIDIA T4, driver 580.1")
    assert len(report.problems) == 1
    assert report.problems[0].startswith("there is a GPU (NVIDIA T4") and "cuDNN" in report.problems[0]


@pytest.mark.parametrize("error", [OSError("no"), subprocess.TimeoutExpired("nvidia-smi", 10)])
def test_an_nvidia_smi_that_fails_or_hangs(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(nvidia.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(nvidia.subprocess, "run", fail)
    assert doctor.examine().machine.gpus == ()


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor, "import_module", refuse)
    report = doctor.examine()
    assert report.providers == {}
    assert [p for p in report.problems if "libGL.so.1" in p and "apt install libgl1" in p] == list(report.problems)


def test_folders_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DRIVETL_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("DRIVETL_WEIGHTS", str(tmp_path / "nowhere"))
    problems = doctor.examine().problems
    assert [p for p in problems if "file' cannot be written; set DRIVETL_CACHE" in p]
    assert [p for p in problems if "DRIVETL_WEIGHTS names" in p and "nowhere' " not in p.replace("nowhere',", "")]
    assert "problem 1" in run()


def test_a_provider_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SimpleNamespace(run=lambda *_: np.zeros((1, 1, 2, 2), np.float32))
    monkeypatch.setattr(session, "open_session", lambda *_, **__: broken)
    report = doctor.examine()
    assert not report.providers["cpu"].usable
    assert "it computes wrongly" in report.problems[0]
