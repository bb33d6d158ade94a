"""Engines lie apart by graph, GPU and TensorRT, and one that cannot be read is built anew; all three are fakes here."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from drivetl.errors import BundleError, ProviderUnavailable
from drivetl.runtime import Bundle, engines, open_bundle, requirements
from drivetl.runtime.engines import discard_engines, engine_folder

SHA = "0123456789abcdef" * 4


def _driver(name: bytes = b"Orin", multiprocessors: int = 8, **broken: Any) -> Any:
    """A driver library of one GPU; ``broken`` gives functions that fail (a status) or that it lacks (None)."""

    def tell(place: Any, value: int) -> int:
        place._obj.value = value
        return 0

    def tell_name(buffer: Any, size: int, device: ctypes.c_int) -> int:
        assert device.value == 7 and len(name) < size
        buffer.value = name
        return 0

    library = SimpleNamespace(
        cuInit=lambda flags: flags,
        cuDeviceGet=lambda device, ordinal: tell(device, 7 + ordinal),
        cuDeviceGetName=tell_name,
        cuDeviceGetAttribute=lambda value, which, device: tell(value, multiprocessors) if which == 16 else 1,
    )
    for function, status in broken.items():
        if status is None:
            delattr(library, function)
        else:
            setattr(library, function, lambda *_, status=status: status)
    return library


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Return what the folder is called on a machine."""

    def name(driver: Any, version: int | None, board: str | None = None) -> str:
        told = None if version is None else SimpleNamespace(getInferLibVersion=lambda: version)
        monkeypatch.setattr("drivetl.runtime.first_gpu.driver", lambda: driver)
        monkeypatch.setattr(engines, "tensorrt", lambda: told)
        tree = tmp_path / "model"
        tree.unlink(missing_ok=True)
        if board is not None:
            tree.write_bytes(board.encode() + b"\0")
        monkeypatch.setattr(engines, "_BOARD", tree)
        folder = engine_folder(tmp_path / "engines", SHA)
        assert folder.is_dir() and folder.parent == tmp_path / "engines"
        return folder.name

    return name


def test_each_gpu_board_and_tensorrt_has_a_folder_of_its_own(machine: Callable[..., str]) -> None:
    nano, nx = "NVIDIA Jetson Orin Nano Developer Kit", "NVIDIA Orin NX Developer Kit"
    names = [
        machine(_driver(b"NVIDIA H100 80GB HBM3", 132), 101401),
        machine(_driver(b"Orin", 16), 100300),
        # One name of the driver, one compute capability, three boards.
        machine(_driver(b"Orin", 8), 100300, nano),
        machine(_driver(b"Orin", 8), 100300, nx),
        machine(_driver(b"Orin", 8), 100700, nx),
    ]
    assert names == [
        "0123456789abcdef-NVIDIA-H100-80GB-HBM3-132sm-trt10.14.1",
        "0123456789abcdef-Orin-16sm-trt10.3.0",
        "0123456789abcdef-Orin-8sm-NVIDIA-Jetson-Orin-Nano-Developer-Kit-trt10.3.0",
        "0123456789abcdef-Orin-8sm-NVIDIA-Orin-NX-Developer-Kit-trt10.3.0",
        "0123456789abcdef-Orin-8sm-NVIDIA-Orin-NX-Developer-Kit-trt10.7.0",
    ]


@pytest.mark.parametrize(
    ("driver", "version", "wanted"),
    [
        (None, None, ""),
        (None, 100300, "-trt10.3.0"),
        (_driver(cuInit=100), None, ""),
        (_driver(cuInit=None), 0, ""),
        (_driver(cuDeviceGet=101), None, ""),
        (_driver(cuDeviceGetName=1), 100300, "-trt10.3.0"),
        (_driver(cuDeviceGetAttribute=1), 100300, "-Orin-trt10.3.0"),
        (_driver(b"../../\xff etc"), None, "-..-..-etc-8sm"),
    ],
)
def test_what_does_not_tell_is_left_out(driver: Any, version: int | None, wanted: str, machine: Any) -> None:
    assert machine(driver, version) == f"0123456789abcdef{wanted}"


def test_a_tensorrt_without_the_function_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "tensorrt", lambda: SimpleNamespace())
    assert engines._tensorrt_version() is None


def test_tf32_is_off_before_tensorrt_is_asked_for_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    found: list[str | None] = []
    monkeypatch.setattr(requirements, "_load_tensorrt_wheel", lambda: None)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: found.append(requirements.os.environ["NVIDIA_TF32_OVERRIDE"]))
    requirements.tensorrt()
    assert found == ["0"]


class _Recorded(Exception):
    """Raised in place of a session, with what ONNX Runtime would have been given."""


def test_tensorrt_is_told_where_its_engines_lie_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Callable[..., Path]
) -> None:
    given: list[dict[str, str]] = []

    def record(model: bytes, provider: str, *, provider_options: dict[str, str], **_: Any) -> None:
        given.append(provider_options)
        raise _Recorded

    monkeypatch.setattr("drivetl.runtime.bundle.open_session", record)
    bundle = open_bundle(tiny_bundle())
    for provider, cache in (("tensorrt", tmp_path / "engines"), ("tensorrt", None), ("cuda", tmp_path / "other")):
        with pytest.raises(_Recorded):
            bundle.session(provider, engine_cache=cache)
    folder = engine_folder(tmp_path / "engines", bundle.contract.model_sha256)
    assert list((tmp_path / "engines").iterdir()) == [folder] and not (tmp_path / "other").exists()
    assert folder.name.startswith(bundle.contract.model_sha256[:16])
    assert given == [
        {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(folder),
        },
        {},
        {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    ]
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"engine cache .* cannot be made"):
        bundle.session("tensorrt", engine_cache=tmp_path / "file")


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Callable[..., Path]
) -> tuple[Bundle, Path, Path, list[str]]:
    """A bundle, its cache and its engine, which this TensorRT does not read; what it says, one sentence a session."""
    bundle = open_bundle(tiny_bundle())
    cache = tmp_path / "engines"
    engine = engine_folder(cache, bundle.contract.model_sha256) / "TensorrtExecutionProvider_TRTKernel_0_sm87.engine"
    engine.write_bytes(b"cut off")
    said: list[str] = []
    session = ort.InferenceSession

    def answer(model: bytes, *, providers: list[Any], **_: Any) -> Any:
        assert providers[0][0] == "TensorrtExecutionProvider"
        if engine.exists():
            said.append(f"TensorRT EP could not deserialize engine from cache: {engine}")
            raise RuntimeError(f"[ONNXRuntimeError] : 11 : EP_FAIL : {said[-1]}")
        said.append("built")
        built = session(model, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(built, "get_providers", lambda: ["TensorrtExecutionProvider"])
        node = SimpleNamespace(ep_name="TensorrtExecutionProvider", get_nodes=lambda: ["Conv"])
        monkeypatch.setattr(built, "get_provider_graph_assignment_info", lambda: [node])
        return built

    monkeypatch.setattr("drivetl.runtime.session.missing_for", lambda provider: None)
    monkeypatch.setattr(ort, "InferenceSession", answer)
    return bundle, cache, engine, said


def test_an_engine_that_cannot_be_read_is_deleted_and_built_once_more_and_that_is_said(
    refused: tuple[Bundle, Path, Path, list[str]], tmp_path: Path
) -> None:
    bundle, cache, engine, said = refused
    (engine.parent / "TensorrtExecutionProvider_cache_sm87.timing").touch()
    beside = cache / "of-another" / "graph.engine"
    beside.parent.mkdir()
    beside.touch()
    with pytest.warns(RuntimeWarning, match="cut off or built elsewhere; it is deleted and built once more") as warned:
        session = bundle.session("tensorrt", engine_cache=cache)
    assert warned[0].filename == __file__
    assert session.nodes_per_provider == {"TensorrtExecutionProvider": 1} and len(said) == 2 and said[1] == "built"
    assert list(engine.parent.iterdir()) == [] and beside.is_file()
    # It is whole now: nothing is deleted, and nothing is said.
    bundle.session("tensorrt", engine_cache=cache)
    assert said[2:] == ["built"]


def test_an_engine_that_stays_unreadable_is_built_no_third_time(
    refused: tuple[Bundle, Path, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, cache, _, said = refused
    monkeypatch.setattr("drivetl.runtime.bundle.discard_engines", lambda folder: None)
    with pytest.raises(ProviderUnavailable, match="could not deserialize engine from cache"):
        bundle.session("tensorrt", engine_cache=cache)
    assert len(said) == 2


def test_without_a_cache_of_its_own_nothing_is_deleted(refused: tuple[Bundle, Path, Path, list[str]]) -> None:
    bundle, _, engine, said = refused
    with pytest.raises(ProviderUnavailable, match="could not deserialize"):
        bundle.session("tensorrt")
    assert engine.is_file() and len(said) == 1


def test_an_engine_that_cannot_be_deleted_either_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a folder, which no unlink takes").mkdir()
    with pytest.raises(BundleError, match=r"cannot be deleted: .*name another folder for the engine cache"):
        discard_engines(tmp_path)
