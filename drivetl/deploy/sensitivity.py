"""Which groups of layers an 8-bit graph suffers from most, measured on a few pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from drivetl.deploy.qdq import in_float
from drivetl.progress import Progress, tracked

__all__ = ["Raw", "Sensitivity", "distortion", "raw_of", "sensitivities"]

_Array = NDArray[np.float32]
Raw = Callable[[_Array], _Array]
# Anchors that score more than this in float take part: the others are background on both sides.
_CONFIDENCE = 0.05
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What leaving one group in float gains.

    Attributes:
        group: see `drivetl.deploy.qdq.layer_groups`.
        gain: beside what was in float already, by how much `distortion` falls.
        distortion: what is left.
    """

    group: str
    gain: float
    distortion: float


def sensitivities(
    original: Any,
    quantised: Any,
    groups: Mapping[str, Sequence[str]],
    tensors: Sequence[_Array],
    progress: Progress,
    *,
    kept: Sequence[str] = (),
) -> list[Sensitivity]:
    """Return every group with what it gains when it too is left in float, the largest gain first.

    Args:
        original: the float graph.
        quantised: the 8-bit one.
        groups: group name → node names.
        tensors: inputs, float32 ``(1, 3, h, w)``.
        progress: told after every group.
        kept: groups that are left in float already; they are not among the result.
    """
    run = raw_of(original)
    reference = [run(tensor) for tensor in tensors]

    def left(model: Any) -> float:
        tested = raw_of(model)
        return float(np.mean([distortion(raw, tested(tensor)) for raw, tensor in zip(reference, tensors, strict=True)]))

    already = {name for group in kept for name in groups[group]}
    whole = left(in_float(quantised, original, already) if already else quantised)
    found = []
    candidates = [(group, names) for group, names in groups.items() if group not in kept]
    for group, names in tracked(candidates, "sensitivity", len(candidates), progress):
        remaining = left(in_float(quantised, original, already.union(names)))
        found.append(Sensitivity(group, round(whole - remaining, 6), round(remaining, 6)))
    return sorted(found, key=lambda entry: -entry.gain)


def distortion(reference: _Array, tested: _Array) -> float:
    """Return how far a raw output is from another: mean change of the best score plus mean loss of overlap, 0 if equal.

    Args:
        reference: ``(1, 4 + classes, anchors)``, see `drivetl.runtime.decode`. Its anchors that score more than 0.05
            take part; where there is none, the one that scores most.
        tested: likewise.
    """
    best = reference[0, 4:].max(axis=0)
    anchor = np.flatnonzero(best > min(_CONFIDENCE, float(best.max()) / 2))
    class_id = reference[0, 4:, anchor].argmax(axis=1) + 4
    scores = np.abs(reference[0, class_id, anchor] - tested[0, class_id, anchor])
    return float(scores.mean() + 1 - _overlap(reference[0, :4, anchor], tested[0, :4, anchor]).mean())


def _overlap(first: _Array, second: _Array) -> NDArray[np.float64]:
    """Return the intersection over union of each box with its counterpart, both ``(n, 4)`` as centre and size."""
    one, two = first.astype(np.float64), second.astype(np.float64)
    low = np.maximum(one[:, :2] - one[:, 2:] / 2, two[:, :2] - two[:, 2:] / 2)
    high = np.minimum(one[:, :2] + one[:, 2:] / 2, two[:, :2] + two[:, 2:] / 2)
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = one[:, 2:].prod(axis=1) + two[:, 2:].prod(axis=1) - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def raw_of(model: Any) -> Raw:
    """Return a graph with a float input as a function from input tensor to raw output, on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(tensor: _Array) -> _Array:
        result: _Array = session.run(None, {name: tensor})[0]
        return result

    return run
