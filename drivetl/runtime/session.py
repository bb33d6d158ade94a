"""ONNX Runtime sessions that run where they were asked to run, or not at all.

ONNX Runtime lists CUDA as available on machines without a driver, and a session asked for CUDA silently runs on the
CPU. Here the CPU provider is not listed beside a GPU provider and the fallback is disabled, so that a session either
runs on the provider that was asked for or raises `ProviderUnavailable` with what is missing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from drivetl.errors import BundleError, ConfigError, DeviceError, DrivetlError, ProviderUnavailable, quoted
from drivetl.runtime.requirements import PROVIDERS, load_fault, missing_for

__all__ = ["ORT_ERRORS", "Session", "device_error", "open_session", "read_model", "reason_of"]

_ERRORS_ONLY = 3
# Far beyond every machine in a car; a slip of the keyboard must not ask the system for millions.
_MOST_THREADS = 1024
# Where in its own source ONNX Runtime gave up: path and line, then a C++ signature, whose parentheses may hold others.
_BRACKETED = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_OWN_PLACE = re.compile(
    rf"\S+\.(?:cc|cpp|cuh?|h|hpp):\d+ [\w:<>,*&~ ]*{_BRACKETED}(?:{_BRACKETED}| const\b|::<[^>]*>| \[with [^\]]*\])* "
)
# Enough for any of its sentences, and little enough for the pattern, whose time grows with the square.
_SAID_AT_MOST = 2000
# What ONNX Runtime says where it was the device and not the graph: a CUDA library's own status (CUDA, CUBLAS, CUDNN,
# CUDNN_FE, CURAND …), the allocator above them, or TensorRT when it runs.
_DEVICE_FAULT = re.compile(
    r"\b[A-Z][A-Z_]{1,20} failure \d+:.*|\bCUDA error\b.*|\bFailed to allocate memory for requested buffer .*"
    r"|\bAvailable memory of .*"
    r"|\bTensorRT EP (?:execution context enqueue failed|failed to create context|could not build execution context).*"
)
_DEVICE_REMEDY = "see with nvidia-smi, on a Jetson with tegrastats, what holds its memory, and start again"
# By itself CUDA rounds float32 factors to TF32's 10 bits. On an H100 that moved the raw scores of yolo11n by 0.017 and
# lost 0.7 % of its detections; without it, by 0.00002 and none. Whoever wants the speed of fewer bits exports fp16.
_OPTIONS = {"cuda": {"use_tf32": "0"}}
# What ONNX Runtime says where the library of a provider did not load: of CUDA, that the nodes have nowhere to go but
# the CPU; of TensorRT, a page to read. Which library it was goes to its log.
_PERHAPS_NOT_LOADED = ("assigned to the default CPU EP", "Please install TensorRT libraries")
# ONNX Runtime's exceptions share no base class below Exception, and which of them exist differs between versions, so
# they are collected where they are defined. Its wrapper adds RuntimeError and ValueError (a graph with broken text).
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


@dataclass(frozen=True, slots=True)
class Session:
    """An ONNX Runtime session together with the proof of where it runs.

    Attributes:
        ort_session: the session itself.
        provider: ``cpu``, ``cuda`` or ``tensorrt``.
        nodes_per_provider: how many graph nodes ONNX Runtime assigned to each execution provider.
        intra_op_threads: threads of one operator; 0 is ONNX Runtime's choice (one for each physical core).
    """

    ort_session: ort.InferenceSession
    provider: str
    nodes_per_provider: dict[str, int]
    intra_op_threads: int

    def run(self, output_name: str, input_name: str, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Run the network on one input tensor and return the named output.

        Raises:
            BundleError: the graph cannot compute it; a graph may load and still hold shapes that do not fit.
            DeviceError: the GPU failed.
        """
        try:
            result: NDArray[np.float32] = self.ort_session.run([output_name], {input_name: tensor})[0]
        except ORT_ERRORS as error:
            doing = f"run the graph on an input of shape {tensor.shape}"
            raise device_error(error, self.provider, doing) or BundleError(
                f"ONNX Runtime cannot {doing}: {reason_of(error)}; export it again"
            ) from error
        return result


def open_session(
    model: bytes,
    provider: str = "cpu",
    *,
    threads: int = 0,
    where: str = "model.onnx",
    provider_options: dict[str, str] | None = None,
) -> Session:
    """Open a session on exactly one provider.

    On TensorRT ``NVIDIA_TF32_OVERRIDE=0`` is set for the whole process, see `drivetl.runtime.requirements.missing_for`.

    Args:
        model: the serialised ONNX graph.
        provider: ``cpu``, ``cuda`` or ``tensorrt``.
        threads: threads of one operator, 0 to 1024; 0 for ONNX Runtime's choice.
        where: names the model in messages.
        provider_options: what ONNX Runtime hands to the provider.

    Raises:
        ProviderUnavailable: the provider cannot run on this machine, or not every node runs on it.
        BundleError: ONNX Runtime does not accept the graph.
        ConfigError: so many threads nobody has.
    """
    if not 0 <= threads <= _MOST_THREADS:
        raise ConfigError(f"threads must be 0 to {_MOST_THREADS}, not {quoted(threads)}; 0 is ONNX Runtime's choice")
    missing = missing_for(provider)
    if missing:
        raise ProviderUnavailable(f"{provider} was asked for and cannot run here: {missing}")
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    # Within a run, threads wait actively, which is fast; after it they would go on for a while and take a core from
    # the next stage and from every other program in the car.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # Without enable_fallback=0 the Python wrapper retries on the CPU by itself, here and inside run().
        chosen = [(PROVIDERS[provider], {**_OPTIONS.get(provider, {}), **(provider_options or {})})]
        session = ort.InferenceSession(model, sess_options=options, providers=chosen, enable_fallback=0)
    except ORT_ERRORS as error:
        raise _not_opened(error, provider, where) from error
    nodes = _nodes_per_provider(session, provider)
    foreign = {name: count for name, count in nodes.items() if name != PROVIDERS[provider]}
    if PROVIDERS[provider] not in session.get_providers() or foreign or not nodes:
        raise ProviderUnavailable(f"{provider} was asked for, but the graph's nodes were assigned to {nodes}")
    return Session(session, provider, nodes, threads)


def _not_opened(error: Exception, provider: str, where: str) -> DrivetlError:
    """Return the sentence for a session that could not be made."""
    reason = reason_of(error)
    if provider == "cpu":
        return BundleError(f"ONNX Runtime does not accept {quoted(where)}: {reason}; export it again")
    fault = load_fault(provider) if any(words in str(error) for words in _PERHAPS_NOT_LOADED) else None
    if fault is not None:
        return ProviderUnavailable(
            f"{provider} was asked for and its provider did not load: {fault}; install what it lacks, or name its "
            "folder in LD_LIBRARY_PATH (PATH on Windows), then check with drivetl doctor"
        )
    fault, remedy = _device_fault(error), f"; {_DEVICE_REMEDY}"
    return ProviderUnavailable(
        f"{provider} was asked for and the session could not be made on it: {fault + remedy if fault else reason}"
    )


def device_error(error: Exception, provider: str, doing: str) -> DeviceError | None:
    """Return the error to raise where a GPU failed, and not the graph; None where it was the graph, or a CPU.

    Args:
        error: one of `ORT_ERRORS`.
        provider: where the session runs.
        doing: what was to be done, as a verb in its plain form and what belongs to it.
    """
    fault = None if provider == "cpu" else _device_fault(error)
    if fault is None:
        return None
    return DeviceError(f"the GPU failed when {provider} was to {doing}: {fault}; {_DEVICE_REMEDY}")


def _device_fault(error: Exception) -> str | None:
    """Return what the device said, quoted, without where in ONNX Runtime's source it was heard."""
    found = _DEVICE_FAULT.search(str(error)[:_SAID_AT_MOST])
    return None if found is None else quoted(found[0].partition(" ; hostname=")[0].strip(), 200)


def reason_of(error: Exception) -> str:
    """Return the first line of what ONNX Runtime says, without its places in ONNX Runtime's source, quoted and cut."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return quoted(_OWN_PLACE.sub("", said[:_SAID_AT_MOST]), 200)


def _nodes_per_provider(session: Any, provider: str) -> dict[str, int]:
    """Return how many nodes each execution provider was given."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise ProviderUnavailable(
            f"{provider} was asked for, and this onnxruntime {ort.__version__} cannot say which nodes ran on it; "
            "without that proof nothing is run: install onnxruntime 1.24.1 or newer (on a Jetson a build for its "
            "GPU, see export/README.md)"
        )
    # It notes every part of the graph when it assigns it, with the nodes that the part has then, and compiles it after
    # that: an engine of TensorRT counts as the nodes it was built from, never as nothing. So no nodes are no proof.
    counts: Counter[str] = Counter()
    for subgraph in session.get_provider_graph_assignment_info():
        counts[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(counts)


def read_model(path: Path) -> bytes:
    """Read a serialised model.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {quoted(path)}: {error.strerror or error}") from error
