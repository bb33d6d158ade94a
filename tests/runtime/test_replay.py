"""Bound buffers compute what a plain run computes; who may record a graph, and in which thread it is replayed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from drivetl.errors import BundleError, DeviceError, ProviderUnavailable
from drivetl.runtime import Detector, open_bundle
from drivetl.runtime.replay import CUDA_GRAPH, Replay, check_replayable

Make = Callable[..., Path]


def test_bound_buffers_give_the_bytes_of_a_plain_run_for_one_picture_after_another(tiny_bundle: Make) -> None:
    bundle = open_bundle(tiny_bundle())
    session, contract = bundle.session(threads=1), bundle.contract
    replay = Replay(session, contract, "cpu")
    rng = np.random.default_rng(0)
    for _ in range(3):
        tensor = rng.random(contract.input_shape, np.float32)
        plain = session.run(contract.output_name, contract.input_name, tensor)
        assert replay(tensor).tobytes() == plain.tobytes()


def test_the_input_may_be_a_view_and_is_copied(tiny_bundle: Make) -> None:
    bundle = open_bundle(tiny_bundle())
    session, contract = bundle.session(threads=1), bundle.contract
    replay = Replay(session, contract, "cpu")
    tensor = np.random.default_rng(1).random(contract.input_shape, np.float32)
    view = np.asfortranarray(tensor)
    replay.write(view)
    view[...] = 0
    replay.run()
    assert replay.read().tobytes() == session.run(contract.output_name, contract.input_name, tensor).tobytes()


def test_a_graph_stays_in_the_thread_that_recorded_it(tiny_bundle: Make) -> None:
    bundle = open_bundle(tiny_bundle())
    replay = Replay(bundle.session(threads=1), bundle.contract, "cpu")
    mine, theirs = np.random.default_rng(3).random((2, *bundle.contract.input_shape), np.float32)
    alone = replay(mine).tobytes()
    said: list[str] = []

    def elsewhere() -> None:
        for call in (replay.run, lambda: replay.write(theirs)):
            try:
                call()
            except ProviderUnavailable as error:
                said.append(str(error))

    replay.write(mine)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(said) == 2 and all("one detector in each thread" in sentence for sentence in said)
    replay.run()
    assert replay.read().tobytes() == alone, "the other thread's picture did not get in between"


@pytest.mark.parametrize("provider", ["cpu", "tensorrt"])
def test_only_cuda_records(provider: str, tiny_bundle: Make) -> None:
    with pytest.raises(
        ProviderUnavailable, match=f"asked for on {provider}, and drivetl replays CUDA graphs with --provider cuda only"
    ):
        Detector(tiny_bundle(), provider=provider, cuda_graph=True)


def test_cuda_is_told_to_record(tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, str]] = []

    class Opened(Exception):
        pass

    def record(model: bytes, provider: str, *, provider_options: dict[str, str], **_: Any) -> None:
        given.append(provider_options)
        raise Opened

    monkeypatch.setattr("drivetl.runtime.bundle.open_session", record)
    bundle = open_bundle(tiny_bundle())
    with pytest.raises(Opened):
        bundle.session("cuda", cuda_graph=True)
    assert given == [{"cudnn_conv_algo_search": "EXHAUSTIVE", **CUDA_GRAPH}]


def test_suppression_in_the_graph_is_not_recorded(tiny_bundle: Make) -> None:
    contract = replace(open_bundle(tiny_bundle()).contract, decoding="xyxy_nms")
    with pytest.raises(BundleError, match="without --in-graph-nms"):
        check_replayable(contract, "cuda", "bundle")


def test_a_device_that_is_not_there_is_one_sentence(tiny_bundle: Make) -> None:
    bundle = open_bundle(tiny_bundle())
    with pytest.raises(BundleError, match="no buffers for the graph on cuda"):
        Replay(bundle.session(threads=1), bundle.contract, "cuda")


@pytest.mark.parametrize(("part", "call"), [("_input", "update_inplace"), ("_output", "numpy"), ("_session", "run")])
def test_a_gpu_that_fails_in_any_part_of_a_replay_is_one_sentence(part: str, call: str, tiny_bundle: Make) -> None:
    said = "/a/cuda_call.cc:146 bool onnxruntime::CudaCall(int) CUDA failure 700: an illegal memory access ; GPU=0"

    def fail(*_: Any) -> None:
        raise RuntimeError(said)

    bundle = open_bundle(tiny_bundle())
    session, tensor = bundle.session(threads=1), np.zeros(bundle.contract.input_shape, np.float32)
    replay = Replay(replace(session, provider="cuda"), bundle.contract, "cpu")
    failing = SimpleNamespace(**{call: fail})
    if part == "_session":
        failing = replace(session, provider="cuda", ort_session=SimpleNamespace(run_with_iobinding=fail))
    setattr(replay, part, failing)
    with pytest.raises(
        DeviceError, match=r"the GPU failed .*: 'CUDA failure 700: an illegal memory access ; GPU=0'; see"
    ):
        replay(tensor)
    said = "something else"
    with pytest.raises(BundleError, match="'something else'"):
        replay(tensor)


def test_a_gpu_without_memory_for_the_buffers_is_not_laid_to_the_bundle(
    tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=car")

    bundle = open_bundle(tiny_bundle())
    session = bundle.session(threads=1)
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", fail)
    with pytest.raises(
        DeviceError, match=r"was to reserve buffers for the graph: 'CUDA failure 2: out of memory ; GPU=0'"
    ):
        Replay(session, bundle.contract)


def test_a_tensor_of_another_size_is_refused(tiny_bundle: Make) -> None:
    bundle = open_bundle(tiny_bundle())
    replay = Replay(bundle.session(threads=1), bundle.contract, "cpu")
    with pytest.raises(BundleError, match=r"does not take a tensor of shape \(1, 3, 64, 72\)"):
        replay.write(np.zeros((1, 3, 64, 72), np.float32))


def test_a_detector_with_a_graph_detects_through_it(tiny_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_bundle()
    plain = Detector(path, threads=1)
    # The seam: the session and the buffers of this machine in place of the GPU's.
    cpu_session = plain.session
    monkeypatch.setattr("drivetl.runtime.bundle.Bundle.session", lambda self, provider, **_: cpu_session)
    monkeypatch.setattr(
        "drivetl.runtime.detector.Replay", lambda session, contract: Replay(session, contract, device="cpu")
    )
    replayed = Detector(path, provider="cuda", cuda_graph=True)
    image_bgr = np.random.default_rng(2).integers(0, 256, (90, 120, 3), np.uint8)
    tensor, _ = plain.preprocess(image_bgr)
    assert replayed.infer(tensor).tobytes() == plain.infer(tensor).tobytes()
    assert len(replayed(image_bgr)) == len(plain(image_bgr))
