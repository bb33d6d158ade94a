"""How long a frame takes, stage by stage, on the provider that really runs. Tails decide, not means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.data.pictures import decode_picture
from drivetl.deploy.golden import SYNTHETIC, synthetic_frame
from drivetl.deploy.machine import describe_machine, peak_memory_mb
from drivetl.deploy.profiles import load_profile
from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress, silent
from drivetl.runtime import Detector, open_bundle

__all__ = ["STAGES", "AgainstBare", "LatencyResult", "Percentiles", "Sampling", "bench"]

STAGES = ("preprocess", "inference", "postprocess", "end_to_end")
_BLOCKS = 5
_BLOCK = 30
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a latency is sampled.

    Attributes:
        iterations: frames to time, at least 1. A p99 is worth quoting from 1,000 on.
        warm_up: frames before, untimed: the first runs allocate memory and choose kernels.
        against_bare: also compare inference with a bare ``session.run`` loop.
    """

    iterations: int = 300
    warm_up: int = 30
    against_bare: bool = False


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latency in milliseconds. Each is a time that was really observed (nearest rank), never interpolated."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, latency_ms: NDArray[np.float64]) -> Percentiles:
        """Return the percentiles of at least one latency."""
        ranks = np.percentile(latency_ms, (50, 90, 95, 99, 100), method="inverted_cdf")
        return cls(*(round(float(value), 4) for value in ranks))


@dataclass(frozen=True, slots=True)
class AgainstBare:
    """What the measurement itself costs: inference here against a bare ``session.run`` loop on the same session.

    Attributes:
        ratio: p50 of inference here by p50 of the bare loop, the median over the pairs of neighbouring blocks.
        ours_p50_ms: p50 of inference of each block of the whole pipeline.
        bare_p50_ms: p50 of each block of the bare loop.
    """

    ratio: float
    ours_p50_ms: tuple[float, ...]
    bare_p50_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """What was measured, on what.

    Attributes:
        provider: the execution provider that every node of the graph ran on.
        nodes_per_provider: how many nodes ONNX Runtime gave to each provider.
        precision: of the bundle.
        input_size_hw: of the model, in pixels.
        picture: name of the frame that was used.
        picture_size_hw: its size in pixels.
        candidates: boxes of that frame that go into non-maximum suppression; its cost grows with them.
        detections: what is left of them.
        samples: how many frames were timed.
        warm_up: how many ran before, untimed.
        threads: of one operator of ONNX Runtime (0: its own choice) and of OpenCV.
        latency_ms: percentiles for each of `STAGES`.
        budget_ms: what a frame must keep to end to end, or None.
        deadline_miss_rate: share of frames over the budget, in [0, 1]; None without one.
        memory_limit_mb: of the profile, or None.
        peak_memory_mb: most host memory of the process; None where the system does not tell.
        profile: its name, or None.
        machine: see `drivetl.deploy.machine.describe_machine`.
        against_bare: the check against a bare loop, where it was asked for.
    """

    provider: str
    nodes_per_provider: dict[str, int]
    precision: str
    input_size_hw: tuple[int, int]
    picture: str
    picture_size_hw: tuple[int, int]
    candidates: int
    detections: int
    samples: int
    warm_up: int
    threads: dict[str, int]
    latency_ms: dict[str, Percentiles]
    budget_ms: float | None
    deadline_miss_rate: float | None
    memory_limit_mb: int | None
    peak_memory_mb: float | None
    profile: str | None
    machine: dict[str, Any]
    against_bare: AgainstBare | None

    @property
    def problems(self) -> tuple[str, ...]:
        """Return every limit that was not kept, as a sentence."""
        found = []
        p99 = self.latency_ms["end_to_end"].p99
        if self.budget_ms is not None and p99 > self.budget_ms:
            found.append(f"p99 end to end is {p99:.1f} ms, over the budget of {self.budget_ms:g} ms")
        limit, peak = self.memory_limit_mb, self.peak_memory_mb
        if limit is not None and (peak is None or peak > limit):
            shown = "unknown on this system" if peak is None else f"{peak:.0f} MiB"
            found.append(f"peak memory is {shown}, the limit {limit} MiB")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether every limit that was given was kept; true where none was."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {"passed": self.passed, "problems": list(self.problems), **asdict(self)}


def bench(
    bundle: Path,
    *,
    provider: str | None = None,
    profile: str | None = None,
    budget_ms: float | None = None,
    image: Path | None = None,
    sampling: Sampling | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> LatencyResult:
    """Measure the latency of a bundle on this machine.

    One frame at a time, as a car gets them: the next one starts when the detections of the last are there. The timer
    brackets the calls that `drivetl.runtime.Detector` makes for every frame; decoding the picture file is not timed.

    Args:
        bundle: the folder.
        provider: ``cpu``, ``cuda`` or ``tensorrt``; None takes the profile's, without one ``cpu``.
        profile: name or path of a hardware profile; options given beside it come first.
        budget_ms: what the p99 end to end must keep to; None takes the profile's.
        image: a picture file; None takes a synthetic 1280x720 frame.
        sampling: how many frames to time, and how; None takes the defaults.
        threads: of one operator; None takes the profile's, without one ONNX Runtime's choice.
        progress: told before and after each part, never while the clock runs.

    Raises:
        BundleError: the bundle cannot be used.
        ConfigError: the profile cannot be used or is about another kind of bundle, or a number is out of range.
        ImageError: the picture cannot be decoded.
        ProviderUnavailable: the provider cannot run here. Nothing is measured then.
    """
    sampling = sampling or Sampling()
    _check_numbers(sampling, budget_ms)
    hardware = None if profile is None else load_profile(profile)
    opened = open_bundle(bundle)
    memory_limit_mb = None
    if hardware is not None:
        hardware.check(opened.contract, str(profile))
        provider, threads = provider or hardware.provider, threads or hardware.threads
        budget_ms, memory_limit_mb = budget_ms or hardware.budget_p99_ms, hardware.memory_mb
    detector = Detector(opened, provider=provider or "cpu", threads=threads or 0)
    picture = SYNTHETIC if image is None else image.name
    image_bgr = synthetic_frame() if image is None else decode_picture(image)
    timed_ms = _timed_ms(detector, image_bgr, sampling.iterations, sampling.warm_up, progress)
    comparison = _against_bare(detector, image_bgr, progress) if sampling.against_bare else None
    tensor, geometry = detector.preprocess(image_bgr)
    raw = detector.infer(tensor)
    return LatencyResult(
        provider=detector.provider,
        nodes_per_provider=detector.session.nodes_per_provider,
        precision=detector.contract.precision,
        input_size_hw=detector.contract.input_size_hw,
        picture=picture,
        picture_size_hw=geometry.image_size_hw,
        candidates=int((raw[0, 4:].max(axis=0) > detector.confidence).sum()),
        detections=len(detector.postprocess(raw, geometry)),
        samples=sampling.iterations,
        warm_up=sampling.warm_up,
        threads={"intra_op": detector.session.intra_op_threads, "opencv": cv2.getNumThreads()},
        latency_ms={name: Percentiles.of(timed_ms[:, column]) for column, name in enumerate(STAGES)},
        budget_ms=budget_ms,
        deadline_miss_rate=None if budget_ms is None else float((timed_ms[:, -1] > budget_ms).mean()),
        memory_limit_mb=memory_limit_mb,
        peak_memory_mb=peak_memory_mb(),
        profile=profile,
        machine=describe_machine(),
        against_bare=comparison,
    )


def _check_numbers(sampling: Sampling, budget_ms: float | None) -> None:
    if sampling.iterations < 1:
        raise ConfigError(f"--iterations must be at least 1, not {quoted(sampling.iterations)}")
    if sampling.warm_up < 0:
        raise ConfigError(f"--warm-up must be at least 0, not {quoted(sampling.warm_up)}")
    if budget_ms is not None and not 0 < budget_ms < float("inf"):
        raise ConfigError(f"--budget-ms must be a positive number of milliseconds, not {quoted(budget_ms)}")


def _timed_ms(
    detector: Detector, image_bgr: NDArray[np.uint8], iterations: int, warm_up: int, progress: Progress
) -> NDArray[np.float64]:
    """Return latencies in milliseconds, float64 ``(iterations, 4)``, a column for each of `STAGES`."""
    progress("warm-up", 0, warm_up)
    for _ in range(warm_up):
        detector(image_bgr)
    progress("warm-up", warm_up, warm_up)
    progress("measure", 0, iterations)
    stamps_ns = np.zeros((iterations, 4), dtype=np.int64)
    for index in range(iterations):
        start = perf_counter_ns()
        tensor, geometry = detector.preprocess(image_bgr)
        preprocessed = perf_counter_ns()
        raw = detector.infer(tensor)
        inferred = perf_counter_ns()
        detector.postprocess(raw, geometry)
        stamps_ns[index] = start, preprocessed, inferred, perf_counter_ns()
    progress("measure", iterations, iterations)
    stages_ns = np.diff(stamps_ns, axis=1)
    whole_ns = stamps_ns[:, -1:] - stamps_ns[:, :1]
    return np.hstack((stages_ns, whole_ns)) / _NS_PER_MS


def _against_bare(detector: Detector, image_bgr: NDArray[np.uint8], progress: Progress) -> AgainstBare:
    """Alternate blocks of the whole pipeline and of nothing but ``session.run``.

    A machine warms up and slows down while this runs. Each block is therefore compared with its neighbour only, and
    which of the two comes first changes from pair to pair.
    """
    column = STAGES.index("inference")
    tensor, _ = detector.preprocess(image_bgr)
    ours: list[float] = []
    bare: list[float] = []
    for index in range(_BLOCKS):
        progress("against a bare loop", index, _BLOCKS)
        if index % 2:
            bare.append(_bare_p50_ms(detector, tensor))
        ours.append(Percentiles.of(_timed_ms(detector, image_bgr, _BLOCK, 2, silent)[:, column]).p50)
        if not index % 2:
            bare.append(_bare_p50_ms(detector, tensor))
    progress("against a bare loop", _BLOCKS, _BLOCKS)
    ratio = median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    return AgainstBare(round(ratio, 4), tuple(ours), tuple(bare))


def _bare_p50_ms(detector: Detector, tensor_nchw: NDArray[np.float32]) -> float:
    names, feed = [detector.contract.output_name], {detector.contract.input_name: tensor_nchw}
    run: Callable[..., Any] = detector.session.ort_session.run
    run(names, feed)
    run(names, feed)
    latency_ns = np.zeros(_BLOCK, dtype=np.int64)
    for turn in range(_BLOCK):
        start = perf_counter_ns()
        run(names, feed)
        latency_ns[turn] = perf_counter_ns() - start
    return Percentiles.of(latency_ns / _NS_PER_MS).p50
