"""How long a frame takes, stage by stage, on the provider that really runs. Tails decide, not means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.data.pictures import decode_picture
from drivetl.deploy.against_bare import AgainstBare, against_bare
from drivetl.deploy.golden import SYNTHETIC, synthetic_frame
from drivetl.deploy.gpu_state import GpuWatch
from drivetl.deploy.machine import Load, describe_machine, int8_warning, peak_memory_mb
from drivetl.deploy.place import Place, detector_at, limits_of, provider_of
from drivetl.deploy.sampling import STAGES, Sampling, back_to_back_ms, paced_ms
from drivetl.deploy.tails import Percentiles, histogram, series
from drivetl.errors import ConfigError, quoted
from drivetl.progress import Progress, silent
from drivetl.runtime import Contract, Detector, open_bundle
from drivetl.runtime.decode import BOX_ROWS

__all__ = ["LatencyResult", "Paced", "bench"]

_NS_PER_MS = 1e6
# What a budget leaves beyond its p99.
_MISSES_ALLOWED = 0.01


@dataclass(frozen=True, slots=True)
class Paced:
    """The same frames at the rate of a camera, with idle gaps in which clocks fall and caches cool.

    Attributes:
        rate_hz: frames due each second.
        lost: frames that a newer one overtook while the detector was busy; each missed its deadline.
        latency_ms: percentiles for each of `STAGES` of the others; end to end counts from when a frame came.
        tails: see `drivetl.deploy.tails.series`.
    """

    rate_hz: float
    lost: int
    latency_ms: dict[str, Percentiles]
    tails: dict[str, Any]

    @property
    def deadline_miss_rate(self) -> float | None:
        """Share of frames over the budget, in [0, 1]; None without one."""
        rate: float | None = self.tails["deadline_miss_rate"]
        return rate


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """What was measured, on what.

    Attributes:
        provider: the execution provider that every node of the graph ran on.
        nodes_per_provider: how many nodes ONNX Runtime gave to each provider.
        cuda_graph: whether they were replayed as one CUDA graph.
        precision: of the bundle.
        input_size_hw: of the model, in pixels.
        batch: pictures that every run of the network computes; one of them is the frame.
        picture: name of the frame that was used.
        picture_size_hw: its size in pixels.
        candidates: boxes of that frame that go into non-maximum suppression; its cost grows with them.
        detections: what is left of them.
        samples: how many frames were timed.
        warm_up: how many ran before, untimed.
        threads: of one operator of ONNX Runtime (0: its own choice) and of OpenCV.
        latency_ms: percentiles for each of `STAGES`, frames back to back.
        tails: see `drivetl.deploy.tails.series`.
        histogram: of end to end, see `drivetl.deploy.tails.histogram`.
        throughput_hz: frames a second, back to back.
        cold_start_ms: from opening the bundle to the first detections.
        paced: the same at the rate of a camera, where it was asked for.
        budget_ms: what a frame must keep to end to end, or None.
        deadline_miss_rate: share of frames over the budget, in [0, 1]; None without one.
        memory_limit_mb: of the profile, or None.
        peak_memory_mb: most host memory of the process; None where the system does not tell.
        profile: its name, or None.
        machine: see `drivetl.deploy.machine.describe_machine`.
        load: what else the machine did meanwhile, see `drivetl.deploy.machine.Load`.
        against_bare: the check against a bare loop, where it was asked for.
        warnings: sentences on what the figures do not say.
    """

    provider: str
    nodes_per_provider: dict[str, int]
    cuda_graph: bool
    precision: str
    input_size_hw: tuple[int, int]
    batch: int
    picture: str
    picture_size_hw: tuple[int, int]
    candidates: int
    detections: int
    samples: int
    warm_up: int
    threads: dict[str, int]
    latency_ms: dict[str, Percentiles]
    tails: dict[str, Any]
    histogram: dict[str, list[float]]
    throughput_hz: float
    cold_start_ms: float
    paced: Paced | None
    budget_ms: float | None
    deadline_miss_rate: float | None
    memory_limit_mb: int | None
    peak_memory_mb: float | None
    profile: str | None
    machine: dict[str, Any]
    load: dict[str, Any]
    against_bare: AgainstBare | None
    warnings: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Return every limit that was not kept, as a sentence."""
        found = _over_budget("", self.latency_ms["end_to_end"], self.budget_ms)
        if self.paced is not None:
            when = f" at {self.paced.rate_hz:g} Hz"
            found += _over_budget(when, self.paced.latency_ms["end_to_end"], self.budget_ms)
            missed = self.paced.deadline_miss_rate
            # The percentiles are those of frames that ran; one that was overtaken has no latency and is late too.
            if self.paced.lost and missed is not None and missed > _MISSES_ALLOWED:
                found.append(
                    f"{missed:.1%} of the frames{when} were late or overtaken by the next one ({self.paced.lost} were "
                    f"overtaken), over {_MISSES_ALLOWED:.0%}"
                )
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


def _over_budget(when: str, latency_ms: Percentiles, budget_ms: float | None) -> list[str]:
    """Return a sentence if the p99 is over the budget; of too few frames for one, none may be."""
    if budget_ms is None:
        return []
    name, found = ("p99", latency_ms.p99) if latency_ms.p99 is not None else ("the slowest frame", latency_ms.max)
    if found <= budget_ms:
        return []
    return [f"{name} end to end{when} is {found:.1f} ms, over the budget of {budget_ms:g} ms"]


def bench(
    bundle: Path,
    *,
    place: Place | None = None,
    profile: str | None = None,
    budget_ms: float | None = None,
    image: Path | None = None,
    sampling: Sampling | None = None,
    progress: Progress = silent,
) -> LatencyResult:
    """Measure the latency of a bundle on this machine.

    One frame at a time, as a car gets them: the next one starts when the detections of the last are there. The timer
    brackets the calls that `drivetl.runtime.Detector` makes for every frame; decoding the picture file is not timed.

    Args:
        bundle: the folder.
        place: where it runs; None takes the profile's, without one the CPU.
        profile: name or path of a hardware profile; options given beside it come first.
        budget_ms: what the p99 end to end must keep to; None takes the profile's.
        image: a picture file; None takes a synthetic 1280x720 frame.
        sampling: how many frames to time, and how; None takes the defaults.
        progress: told before and after each part, never while the clock runs.

    Raises:
        BundleError: the bundle cannot be used.
        ConfigError: the profile is about another kind of bundle, or the options contradict it or each other.
        ImageError: the picture cannot be decoded.
        ProviderUnavailable: the provider cannot run here. Nothing is measured then.
    """
    sampling, place = sampling or Sampling(), place or Place()
    if place.cuda_graph and sampling.against_bare:
        raise ConfigError("a bare session.run loop has no CUDA graph; leave --against-bare or --cuda-graph out")
    _check_numbers(sampling, budget_ms)
    image_bgr = synthetic_frame() if image is None else decode_picture(image)
    gpu = GpuWatch(provider_of(place, profile))
    begun_ns = perf_counter_ns()
    opened = open_bundle(bundle)
    limits = limits_of(opened.contract, profile, place, budget_ms)
    detector = detector_at(opened, place, limits)
    detector(image_bgr)
    cold_start_ms = round((perf_counter_ns() - begun_ns) / _NS_PER_MS, 2)
    measured = _measured(detector, image_bgr, sampling, limits.budget_ms, gpu, progress)
    return LatencyResult(
        provider=detector.provider,
        nodes_per_provider=detector.session.nodes_per_provider,
        cuda_graph=place.cuda_graph,
        picture=SYNTHETIC if image is None else image.name,
        samples=sampling.iterations,
        warm_up=sampling.warm_up,
        threads={"intra_op": detector.session.intra_op_threads, "opencv": cv2.getNumThreads()},
        cold_start_ms=cold_start_ms,
        budget_ms=limits.budget_ms,
        memory_limit_mb=limits.memory_mb,
        peak_memory_mb=peak_memory_mb(),
        profile=profile,
        **_of_graph(opened.contract),
        **measured,
    )


def _of_graph(contract: Contract) -> dict[str, Any]:
    """Return the fields of `LatencyResult` that the contract says."""
    warnings = tuple(filter(None, (int8_warning(contract.quantisation), _batch_warning(contract))))
    said = {"precision": contract.precision, "input_size_hw": contract.input_size_hw, "batch": contract.batch}
    return {**said, "warnings": warnings}


def _batch_warning(contract: Contract) -> str | None:
    if contract.dynamic or contract.batch == 1:
        return None
    return (
        f"The graph computes {contract.batch} pictures in every run and a frame is one of them, so the times are those "
        "of a whole batch; for one camera export it without --batch."
    )


def _measured(
    detector: Detector,
    image_bgr: NDArray[np.uint8],
    sampling: Sampling,
    budget_ms: float | None,
    gpu: GpuWatch,
    progress: Progress,
) -> dict[str, Any]:
    """Return the fields of `LatencyResult` that come from running frames, and what they ran on."""
    load = Load()
    timed_ms = back_to_back_ms(detector, image_bgr, sampling.iterations, sampling.warm_up, progress)
    paced = _paced(detector, image_bgr, sampling, budget_ms, progress)
    found_load, machine = load.document(), describe_machine(gpu.document())
    comparison = against_bare(detector, image_bgr, progress) if sampling.against_bare else None
    tails = series(timed_ms[:, -1], budget_ms)
    return {
        **_content(detector, image_bgr),
        "latency_ms": _percentiles(timed_ms),
        "tails": tails,
        "histogram": histogram(timed_ms[:, -1]),
        "throughput_hz": round(1e3 / float(timed_ms[:, -1].mean()), 2),
        "paced": paced,
        "deadline_miss_rate": tails["deadline_miss_rate"],
        "machine": machine,
        "load": found_load,
        "against_bare": comparison,
    }


def _percentiles(timed_ms: NDArray[np.float64], lost: int = 0) -> dict[str, Percentiles]:
    return {name: Percentiles.of(timed_ms[:, column], lost) for column, name in enumerate(STAGES)}


def _paced(
    detector: Detector, image_bgr: NDArray[np.uint8], sampling: Sampling, budget_ms: float | None, progress: Progress
) -> Paced | None:
    if sampling.paced_hz is None:
        return None
    timed_ms, lost = paced_ms(detector, image_bgr, sampling.iterations, sampling.paced_hz, progress)
    return Paced(sampling.paced_hz, lost, _percentiles(timed_ms, lost), series(timed_ms[:, -1], budget_ms, lost))


def _content(detector: Detector, image_bgr: NDArray[np.uint8]) -> dict[str, Any]:
    """Return what is in the frame: its size, the candidates that go into suppression, and what is left of them."""
    tensor, geometry = detector.preprocess(image_bgr)
    raw = detector.infer(tensor)
    return {
        "picture_size_hw": geometry.image_size_hw,
        "candidates": _candidates(detector, raw),
        "detections": len(detector.postprocess(raw, geometry)),
    }


def _candidates(detector: Detector, raw: NDArray[np.float32]) -> int:
    best = raw[0, :, 4] if detector.contract.decoding in BOX_ROWS else raw[0, 4:].max(axis=0)
    return int((best > detector.confidence).sum())


def _check_numbers(sampling: Sampling, budget_ms: float | None) -> None:
    sampling.check()
    if budget_ms is not None and not 0 < budget_ms < float("inf"):
        raise ConfigError(f"--budget-ms must be a positive number of milliseconds, not {quoted(budget_ms)}")
