"""Each thing that a GPU provider can lack has a sentence of its own; fakes stand for machines that are not here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from drivetl.runtime import requirements
from drivetl.runtime.requirements import missing_for

DRIVER, CUDNN, TRT10, PARSER, TRT11 = (
    "libcuda.so.1",
    "libcudnn.so.9",
    "libnvinfer.so.10",
    "libnvonnxparser.so.10",
    "libnvinfer.so.11",
)
CUDA = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the names of the libraries are Linux's")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a machine of libraries that load, and of what driver and ONNX Runtime say of their CUDA."""

    def make(*libraries: str, built: int | None = 13, driver: tuple[int, int] | None = (13, 0)) -> list[str]:
        preloaded: list[str] = []
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
        providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
        monkeypatch.setattr(ort, "preload_dlls", lambda: preloaded.append("once"))
        monkeypatch.setattr(requirements, "_library_loads", lambda name: name in libraries)
        monkeypatch.setattr(requirements, "_built_for_cuda", lambda: built)
        monkeypatch.setattr(requirements, "_driver_cuda", lambda: driver)
        return preloaded

    return make


def test_a_whole_machine_lacks_nothing(machine: Any) -> None:
    preloaded = machine(DRIVER, *CUDA, CUDNN, TRT10, PARSER)
    assert missing_for("cuda") is None and missing_for("tensorrt") is None
    # The libraries of NVIDIA's wheels are found only when they were loaded first.
    assert preloaded == ["once", "once"]


@pytest.mark.parametrize(
    ("libraries", "driver", "provider", "sentence"),
    [
        ((), None, "cuda", "no NVIDIA driver is installed"),
        ((DRIVER, *CUDA, CUDNN), (12, 4), "cuda", "built for CUDA 13 and the NVIDIA driver knows CUDA 12.4 at most"),
        ((DRIVER, CUDNN), (13, 1), "cuda", "CUDA 13 are not installed (libcublasLt.so.13, libcublas.so.13, libcurand"),
        ((DRIVER, *CUDA[:2], CUDNN), (13, 1), "cuda", "(libcurand.so.10, libcudart.so.13 do not load)"),
        *[
            ((DRIVER, *[other for other in CUDA if other != name], CUDNN), (13, 0), provider, f"({name} does not load)")
            for name in CUDA
            for provider in ("cuda", "tensorrt")
        ],
        ((DRIVER, *CUDA), (13, 0), "cuda", "cuDNN 9 is not installed (libcudnn.so.9 does not load)"),
        ((DRIVER, *CUDA), (13, 0), "tensorrt", "cuDNN 9 is not installed"),
        ((DRIVER, *CUDA, CUDNN), (13, 0), "tensorrt", "TensorRT 10 is not installed (libnvinfer.so.10"),
        ((DRIVER, *CUDA, CUDNN, TRT10), (13, 0), "tensorrt", "its parser (libnvonnxparser.so.10 does not load)"),
        ((DRIVER, *CUDA, CUDNN, TRT11), (13, 0), "tensorrt", "TensorRT 11 is installed and this onnxruntime needs 10"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    machine: Any, libraries: tuple[str, ...], driver: Any, provider: str, sentence: str
) -> None:
    machine(*libraries, driver=driver)
    said = missing_for(provider)
    assert said is not None and sentence in said
    assert any(remedy in said for remedy in ("pip install", "update the driver", "install the driver"))


def test_the_libraries_of_nvidias_tensorrt_wheel_are_loaded_from_their_folder(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tensorrt_libs"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    machine(DRIVER, *CUDA, CUDNN)
    loaded: set[str] = set()

    def loads(name: str) -> bool:
        """A loader that knows what was loaded by its path, and nothing else of TensorRT."""
        if name.startswith(str(folder)):
            loaded.add(Path(name).name)
            return True
        return name in (DRIVER, *CUDA, CUDNN) or name in loaded

    monkeypatch.setattr(requirements, "_library_loads", loads)
    assert missing_for("tensorrt") is None
    assert loaded == {TRT10, "libnvinfer_plugin.so.10", PARSER}


def test_tf32_is_off_before_the_first_of_nvidias_libraries_is_loaded_for_tensorrt(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    preloaded = machine(DRIVER, *CUDA, CUDNN, TRT10, PARSER)
    found: dict[str, str] = {}
    monkeypatch.setattr(ort, "preload_dlls", lambda: found.setdefault("ahead", os.environ["NVIDIA_TF32_OVERRIDE"]))
    # CUDA has an option of its own, and a process may use both.
    assert missing_for("cuda") is None and found.pop("ahead") == "1"
    assert missing_for("tensorrt") is None and found == {"ahead": "0"} and not preloaded


def test_a_newer_driver_and_a_build_that_does_not_tell_are_no_fault(machine: Any) -> None:
    machine(DRIVER, *CUDA, CUDNN, driver=(14, 2))
    assert missing_for("cuda") is None
    # A vendor's build for a Jetson names no CUDA, and its libraries have other names.
    machine(DRIVER, TRT10, built=None, driver=None)
    assert missing_for("cuda") is None
    # It may hold TensorRT's parser itself.
    assert missing_for("tensorrt") is None


def test_this_onnxruntime_says_what_it_was_built_for_and_its_libraries_load_once_preloaded() -> None:
    pytest.importorskip("nvidia.cudnn", reason="NVIDIA's wheels, which torch for CUDA brings, are not installed")
    built = requirements._built_for_cuda()
    assert built is not None and built >= 12
    # In a process of its own: what is loaded stays loaded.
    code = (
        "import onnxruntime as ort; from drivetl.runtime import requirements as r; ort.preload_dlls(); "
        f"assert all(map(r._library_loads, ['libcudnn.so.9', *[name.format({built}) for name in r._CUDA]]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_this_onnxruntimes_cuda_provider_is_linked_to_is_looked_for() -> None:
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    readelf = shutil.which("readelf")
    if readelf is None or not provider.is_file():
        pytest.skip("needs readelf, and an ONNX Runtime with the CUDA provider")
    listed = subprocess.run([readelf, "-d", provider], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(lib(?:cu|nv)[^]]*)\]", listed))
    built = requirements._built_for_cuda()
    assert needed == {DRIVER, *(name.format(built) for name in requirements._CUDA)}
