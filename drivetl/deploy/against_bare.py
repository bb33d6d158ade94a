"""What measuring stage by stage costs: the same session in a loop of nothing but ``session.run``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.deploy.sampling import STAGES, back_to_back_ms
from drivetl.deploy.tails import Percentiles
from drivetl.progress import Progress, silent
from drivetl.runtime import Detector

__all__ = ["AgainstBare", "against_bare"]

_BLOCKS = 5
_BLOCK = 30
_NS_PER_MS = 1e6


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


def against_bare(detector: Detector, image_bgr: NDArray[np.uint8], progress: Progress) -> AgainstBare:
    """Alternate blocks of the whole pipeline and of nothing but ``session.run``.

    A machine warms up and slows down while this runs. Each block is therefore compared with its neighbour only, and
    which of the two comes first changes from pair to pair.
    """
    column = STAGES.index("inference")
    tensor, _ = detector.preprocess(image_bgr)
    if not detector.contract.dynamic:
        # `Detector.infer` fills a fixed batch up; the bare loop gets a full one.
        tensor = np.repeat(tensor, detector.contract.batch, axis=0)
    ours: list[float] = []
    bare: list[float] = []
    for index in range(_BLOCKS):
        progress("against a bare loop", index, _BLOCKS)
        if index % 2:
            bare.append(_bare_p50_ms(detector, tensor))
        ours.append(Percentiles.of(back_to_back_ms(detector, image_bgr, _BLOCK, 2, silent)[:, column]).p50)
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
