"""Sessions run where they were asked to, or not at all; what ONNX Runtime refuses is one sentence."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from drivetl.doctor import PROBE_GRAPH, _try_provider
from drivetl.errors import BundleError, ConfigError, DeviceError, ProviderUnavailable
from drivetl.runtime import open_bundle, open_session
from drivetl.runtime.requirements import missing_for
from drivetl.runtime.session import reason_of


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def test_the_cpu_session_proves_where_every_node_runs(tiny_bundle: Callable[..., Path]) -> None:
    session = open_bundle(tiny_bundle()).session("cpu", threads=1)
    assert session.provider == "cpu"
    assert session.intra_op_threads == 1
    assert set(session.nodes_per_provider) == {"CPUExecutionProvider"}
    assert session.nodes_per_provider["CPUExecutionProvider"] >= 2


@pytest.mark.skipif(_has_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_without_a_driver_is_refused_and_the_reason_named(
    provider: str, tiny_bundle: Callable[..., Path]
) -> None:
    with pytest.raises(ProviderUnavailable, match=r"driver|built without") as caught:
        open_bundle(tiny_bundle()).session(provider)
    assert caught.value.exit_status == 1
    assert provider in str(caught.value)


def test_a_build_without_the_provider_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "built without CUDAExecutionProvider" in str(missing_for("cuda"))
    assert missing_for("cpu") is None


def test_an_unknown_provider_lists_the_known_ones() -> None:
    with pytest.raises(ProviderUnavailable, match=r"'vulkan'.*cpu, cuda, tensorrt"):
        missing_for("vulkan")


def test_nodes_on_a_foreign_provider_are_an_error(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Callable[..., Path]
) -> None:
    monkeypatch.setattr("drivetl.runtime.session._nodes_per_provider", lambda *_: {"OtherExecutionProvider": 3})
    with pytest.raises(ProviderUnavailable, match="OtherExecutionProvider"):
        open_bundle(tiny_bundle()).session("cpu")
    # Nothing is no proof.
    monkeypatch.setattr("drivetl.runtime.session._nodes_per_provider", lambda *_: {})
    with pytest.raises(ProviderUnavailable, match=r"assigned to \{\}"):
        open_bundle(tiny_bundle("again")).session("cpu")


def test_an_engine_counts_as_the_nodes_that_it_was_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ONNX Runtime documents `Session_GetEpGraphAssignmentInfo` for providers that compile; no TensorRT is here."""
    name = "TensorrtExecutionProvider"
    engine = SimpleNamespace(ep_name=name, get_nodes=lambda: ["Conv"] * 88)
    session = SimpleNamespace(get_providers=lambda: [name], get_provider_graph_assignment_info=lambda: [engine])
    monkeypatch.setattr("drivetl.runtime.session.missing_for", lambda provider: None)
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: session)
    assert open_session(b"", "tensorrt").nodes_per_provider == {name: 88}


def test_threads_that_no_machine_has_are_refused(tiny_bundle: Callable[..., Path]) -> None:
    for threads in (-1, 1025):
        with pytest.raises(ConfigError, match=f"threads must be 0 to 1024, not '{threads}'"):
            open_bundle(tiny_bundle(f"bundle{threads}")).session("cpu", threads=threads)


# Places in ONNX Runtime's source as its messages hold them; the first two are from 1.31.
PLACES = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:1010 std::shared_ptr<onnxruntime::"
    "IExecutionProviderFactory> onnxruntime::python::CreateExecutionProviderFactoryInstance(const onnxruntime::"
    "SessionOptions&, const std::string&, const onnxruntime::ProviderOptionsMap&)",
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& "
    "onnxruntime::ProviderLibrary::Get()",
    "/a/cuda_call.cc:129 std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, "
    "const char*, int) [with ERRTYPE = cudaError; bool THRW = true]",
    "/a/b.h:2 void onnxruntime::A::f(std::function<void(int, float (*)(int))>) const::<lambda(int)>",
    "/a/b.cc:2 bool onnxruntime::A::operator()(int) const",
)


@pytest.mark.parametrize("place", PLACES)
def test_of_what_onnxruntime_says_the_reason_is_kept_and_not_its_source(place: str) -> None:
    reason = "The value for the key 'trt_engine_cache_enable' (here) should be 'True' or 'False'."
    assert reason_of(RuntimeError(f"{place} {reason}\n")) == f"'{reason}'"
    begun = "[ONNXRuntimeError] : 1 : FAIL : Status Message: "
    assert reason_of(RuntimeError(f"{begun}{place} {reason}")) == f"'{begun}{reason}'"
    assert reason_of(RuntimeError(reason)) == f"'{reason}'" and reason_of(RuntimeError()) == "'RuntimeError'"
    began = time.perf_counter()
    reason_of(RuntimeError(place + "((" * 10_000))
    assert time.perf_counter() - began < 5


def test_an_onnxruntime_that_cannot_prove_where_it_ran_is_refused(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Callable[..., Path]
) -> None:
    name = "get_provider_graph_assignment_info"
    monkeypatch.delattr(next(kind for kind in ort.InferenceSession.__mro__ if name in vars(kind)), name)
    with pytest.raises(ProviderUnavailable, match=r"cannot say which nodes ran on it.*install onnxruntime 1\.24\.1"):
        open_bundle(tiny_bundle()).session("cpu")
    state = _try_provider("cpu")
    assert not state.usable and "1.24.1" in str(state.reason)


def test_the_wrapper_may_not_fall_back_to_another_provider(tiny_bundle: Callable[..., Path]) -> None:
    session = open_bundle(tiny_bundle()).session("cpu")
    assert session.ort_session._enable_fallback is False


def test_cuda_computes_float32_as_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def record(model: bytes, *, providers: list[Any], **_: Any) -> None:
        given.extend(providers)
        raise _Recorded

    monkeypatch.setattr("drivetl.runtime.session.missing_for", lambda provider: None)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", record)
    for provider, options in (("cuda", {"enable_cuda_graph": "1"}), ("cuda", None), ("tensorrt", None), ("cpu", None)):
        with pytest.raises(_Recorded):
            open_session(b"", provider, provider_options=options)
    assert [options for _, options in given] == [{"use_tf32": "0", "enable_cuda_graph": "1"}, {"use_tf32": "0"}, {}, {}]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_int8_is_refused_on_a_gpu_and_the_remedy_named(provider: str, tiny_bundle: Callable[..., Path]) -> None:
    def int8(document: dict[str, Any]) -> None:
        document["precision"] = "int8"

    bundle = open_bundle(tiny_bundle(change=int8))
    with pytest.raises(ProviderUnavailable, match=r"int8.*no kernel.*--precision fp16"):
        bundle.session(provider)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda model: b"",
    "text": lambda model: b"<html>not a model</html>",
    "truncated": lambda model: model[: len(model) // 2],
    "zeros": lambda model: bytes(1000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_garbage_is_a_bundle_error(damage: Callable[[bytes], bytes], tiny_bundle: Callable[..., Path]) -> None:
    model = (tiny_bundle() / "model.onnx").read_bytes()
    with pytest.raises(BundleError, match=r"ONNX Runtime does not accept 'here'.*export it again"):
        open_session(damage(model), where="here")


def test_flipped_bytes_never_escape_as_another_error(tiny_bundle: Callable[..., Path], capfd: Any) -> None:
    model = (tiny_bundle() / "model.onnx").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(model)
        for position in rng.integers(0, 400, 3):
            damaged[position] = rng.integers(0, 256)
        try:
            open_session(bytes(damaged))
        except BundleError:
            refused += 1
    assert refused > 50
    # The wrapper announces its own fallback on stdout, where the JSON document belongs.
    assert capfd.readouterr().out == ""


def _unknown_operator(model: Any) -> None:
    model.graph.node[0].op_type = "Nope"


def _future_opset(model: Any) -> None:
    model.opset_import[0].version = 99


def _dangling_input(model: Any) -> None:
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize("graph", [_unknown_operator, _future_opset, _dangling_input])
def test_a_graph_that_onnxruntime_refuses_is_a_bundle_error(
    graph: Callable[[Any], None], tiny_bundle: Callable[..., Path]
) -> None:
    bundle = open_bundle(tiny_bundle(graph=graph))
    with pytest.raises(BundleError, match="ONNX Runtime does not accept"):
        bundle.session()


def test_open_dimensions_are_refused_on_cuda_before_onnxruntime_is_asked(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Callable[..., Path]
) -> None:
    given: list[dict[str, str]] = []

    def record(model: bytes, provider: str, *, provider_options: dict[str, str], **_: Any) -> None:
        given.append(provider_options)
        raise _Recorded

    def open_shape(document: dict[str, Any]) -> None:
        document["input"]["dynamic"] = {"sizes_hw": [[64, 64], [64, 128]]}

    monkeypatch.setattr("drivetl.runtime.bundle.open_session", record)
    with pytest.raises(_Recorded):
        open_bundle(tiny_bundle("one")).session("cuda")
    many = open_bundle(tiny_bundle("many", change=open_shape))
    # ONNX Runtime's own sentence names a fallback that nobody asked for, and no remedy.
    with pytest.raises(ProviderUnavailable, match=r"many' has open dim.* without --dynamic .*--size-range for --prov"):
        many.session("cuda")
    with pytest.raises(ProviderUnavailable, match="open dimensions"):
        many.session("cuda", cuda_graph=True)
    assert given == [{"cudnn_conv_algo_search": "EXHAUSTIVE"}]
    with pytest.raises(_Recorded):
        many.session("tensorrt")


# As a session of 1.31 says it that runs out of memory; on a GPU that is not there, the same with another number.
PLACE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 std::conditional_t<THRW, void, onnxruntime::"
    "common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, const char*, int) "
    "[with ERRTYPE = cudaError; bool THRW = true; SUCCTYPE = cudaError; std::conditional_t<THRW, void, common::Status> "
    "= void]"
)
BEGUN = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'/model.0/conv/Conv' "
    "Status Message: "
)
ARENA = "/a/bfc_arena.cc:359 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool)"
FAULTS = [
    (
        f"{BEGUN}{PLACE} CUDA failure 2: out of memory ; GPU=0 ; hostname=car ; file=/a.cc ; line=9 ; expr=cuda; \n",
        "CUDA failure 2: out of memory ; GPU=0",
    ),
    (
        f"{BEGUN}CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED ; GPU=0 ; hostname=car",
        "CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED ; GPU=0",
    ),
    (
        f"{PLACE} CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=1 ; hostname=car",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=1",
    ),
    (
        f"{BEGUN}{ARENA} Failed to allocate memory for requested buffer of size 838860800\n",
        "Failed to allocate memory for requested buffer of size 838860800",
    ),
    (
        f"{BEGUN}TensorRT EP execution context enqueue failed.",
        "TensorRT EP execution context enqueue failed.",
    ),
]


@pytest.mark.parametrize(("said", "kept"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_of_the_gpu_is_not_laid_to_the_bundle(
    said: str, kept: str, tiny_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ort_state.Fail(said)

    session = open_bundle(tiny_bundle()).session()
    tensor = np.zeros((1, 3, 64, 64), np.float32)
    failing = replace(session, ort_session=SimpleNamespace(run=fail), provider="cuda")
    with pytest.raises(DeviceError) as caught:
        failing.run("output0", "images", tensor)
    sentence = str(caught.value)
    assert sentence.startswith("the GPU failed when cuda was to run the graph on an input of shape (1, 3, 64, 64): ")
    assert f": '{kept}'; see with nvidia-smi" in sentence and sentence.endswith("and start again")
    assert caught.value.exit_status == 2 and "export" not in sentence
    # A processor has none of these.
    with pytest.raises(BundleError, match="export it again"):
        replace(failing, provider="cpu").run("output0", "images", tensor)
    monkeypatch.setattr("drivetl.runtime.session.missing_for", lambda provider: None)
    monkeypatch.setattr(ort, "InferenceSession", fail)
    with pytest.raises(
        ProviderUnavailable, match=rf"could not be made on it: '{re.escape(kept)}'; see with nvidia-smi"
    ):
        open_session(b"", "cuda")


def test_a_graph_that_cannot_compute_stays_the_bundles_fault_on_a_gpu(tiny_bundle: Callable[..., Path]) -> None:
    session = replace(open_bundle(tiny_bundle()).session(), provider="cuda")
    with pytest.raises(BundleError, match="export it again"):
        session.run("output0", "images", np.zeros((1, 3, 64, 72), np.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="the name of the library is Linux's")
def test_a_provider_that_did_not_load_is_said_to_be_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP"

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("drivetl.runtime.session.missing_for", lambda provider: None)
    monkeypatch.setattr(ort, "InferenceSession", refuse)
    monkeypatch.setattr(ort, "__file__", str(tmp_path / "__init__.py"))
    # No such file: a build that holds the provider itself, of which nothing more is known.
    with pytest.raises(ProviderUnavailable, match=r"could not be made on it: .*default CPU EP"):
        open_session(b"", "cuda")
    library = tmp_path / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir()
    library.write_bytes(b"no library")
    with pytest.raises(ProviderUnavailable, match=r"did not load: '.*_cuda.so' does not load \(.*\); install what it"):
        open_session(b"", "cuda")
    # Another reason is not looked into: ONNX Runtime may not have come to the provider yet.
    said = "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF"
    with pytest.raises(ProviderUnavailable, match=r"could not be made on it: .*INVALID_PROTOBUF"):
        open_session(b"", "cuda")


@pytest.mark.skipif(_has_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_onnxruntimes_own_words_for_a_provider_that_did_not_load_are_known(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    if missing_for(provider) is not None and "built without" in str(missing_for(provider)):
        pytest.skip(f"this ONNX Runtime was built without {provider}")
    monkeypatch.setattr("drivetl.runtime.session.missing_for", lambda provider: None)
    with pytest.raises(ProviderUnavailable, match=rf"did not load: .*providers_{provider}.* does not load \(lib"):
        open_session(PROBE_GRAPH, provider)


class _Recorded(Exception):
    """Raised in place of a session, with what ONNX Runtime would have been given."""


def test_importing_the_runtime_loads_neither_torch_nor_ultralytics() -> None:
    code = "import drivetl.runtime, sys; assert not {'torch', 'ultralytics', 'onnx', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
