"""How long a network will take on hardware that nobody here has: a roofline for each layer.

A layer takes the time of its arithmetic or of its memory traffic, whichever is longer (Williams, Waterman and
Patterson, Roofline, CACM 2009). Three constants a device make peaks into what is reached: the share of the peak
arithmetic, the share of the peak bandwidth, and a fixed time for every run. They are fitted to published latencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.deploy.rewrite import PART
from drivetl.errors import BundleError, quoted

__all__ = ["Constants", "Peaks", "estimate_ms", "fit", "graph_layers"]

Layers = Sequence[tuple[float, float]]
_GRID = np.geomspace(0.02, 1.0, 60)
_BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}


@dataclass(frozen=True, slots=True)
class Peaks:
    """What a device could do at most.

    Attributes:
        tflops: 10¹² operations a second, dense, in the precision that is asked about.
        bandwidth_gb_s: 10⁹ bytes a second between chip and memory.
    """

    tflops: float
    bandwidth_gb_s: float


@dataclass(frozen=True, slots=True)
class Constants:
    """What of the peaks is reached.

    Attributes:
        compute: share of the peak arithmetic, in (0, 1].
        memory: share of the peak bandwidth, in (0, 1].
        overhead_ms: of every run.
    """

    compute: float
    memory: float
    overhead_ms: float


def estimate_ms(layers: Layers, peaks: Peaks, constants: Constants, precision: str = "fp16") -> float:
    """Return the time of one inference in milliseconds; preprocessing and postprocessing are not in it.

    Args:
        layers: operations and values moved of each layer.
        peaks: of the device.
        constants: of the device, or of one that is built alike.
        precision: ``fp32``, ``fp16`` or ``int8``: how many bytes a value has.
    """
    compute_ms, memory_ms = _times_ms(layers, peaks, precision)
    return float(np.maximum(compute_ms / constants.compute, memory_ms / constants.memory).sum() + constants.overhead_ms)


def fit(networks: Sequence[Layers], measured_ms: Sequence[float], peaks: Peaks, precision: str = "fp16") -> Constants:
    """Return the constants with the least sum of squared relative errors over measured networks.

    The two shares are searched on a grid; the overhead that fits best to each pair follows from it, never below zero.

    Args:
        networks: layers of each network.
        measured_ms: its latency in milliseconds.
        peaks: of the device that it was measured on.
        precision: that it was measured in.
    """
    times = [_times_ms(layers, peaks, precision) for layers in networks]
    measured = np.asarray(measured_ms, np.float64)
    best = (np.inf, Constants(1.0, 1.0, 0.0))
    for compute in _GRID:
        for memory in _GRID:
            work = np.array([np.maximum(c / compute, m / memory).sum() for c, m in times])
            # Least squares of (work + overhead) / measured - 1 in the overhead.
            overhead = max(float(((1 - work / measured) / measured).sum() / (1 / measured**2).sum()), 0.0)
            error = float((((work + overhead) / measured - 1) ** 2).sum())
            if error < best[0]:
                best = (error, Constants(float(compute), float(memory), overhead))
    return best[1]


def _times_ms(layers: Layers, peaks: Peaks, precision: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each layer the milliseconds of its arithmetic and of its memory traffic at the peaks."""
    table = np.asarray(layers, np.float64)
    return table[:, 0] / (peaks.tflops * 1e9), table[:, 1] * _BYTES[precision] / (peaks.bandwidth_gb_s * 1e6)


def graph_layers(model: Any, input_shape: Sequence[int]) -> list[tuple[float, float]]:
    """Return operations and values moved of every convolution of an ONNX graph, as `estimate_ms` wants them.

    Activations and other cheap operators are left out: inference engines fuse them into the convolutions.

    Args:
        model: the graph; dimensions that it leaves open are those of ``input_shape``.
        input_shape: of its input, batch included.

    Raises:
        BundleError: there is no convolution, or the size of one does not follow from the graph.
    """
    from onnx import shape_inference

    closed = _closed(model, input_shape)
    graph = shape_inference.infer_shapes(closed, data_prop=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    weights = {value.name: list(value.dims) for value in graph.initializer}
    # In int8 a convolution gets its weights through this operator, which keeps their shape.
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    found: dict[str, tuple[float, float]] = {}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            read, kernel = shapes.get(node.input[0], []), weights[node.input[1]]
            written = shapes.get(node.output[0], [])
            if len(read) != 4 or len(written) != 4 or 0 in (*read, *written):
                raise BundleError(f"the size of the convolution {quoted(node.name)} does not follow from the graph")
            size = float(np.prod(kernel))
            operations = 2.0 * size * written[0] * written[2] * written[3]
            moved = size + float(np.prod(written))
            # The parts of a convolution that was split (`drivetl.deploy.rewrite`) are one layer: the constants were
            # fitted on networks that are whole.
            part = PART.search(node.name)
            layer = node.name[: part.start()] if part else f"#{len(found)}"
            before = found.get(layer, (0.0, float(np.prod(read))))
            found[layer] = (before[0] + operations, before[1] + moved)
    if not found:
        raise BundleError("the graph has no convolution whose weights it holds, so its work cannot be counted")
    return list(found.values())


def _closed(model: Any, input_shape: Sequence[int]) -> Any:
    """Return a copy of a graph whose input has a fixed shape, and what is written inside follows from it."""
    closed = type(model)()
    closed.CopyFrom(model)
    dimensions = closed.graph.input[0].type.tensor_type.shape.dim
    for dimension, size in zip(dimensions, input_shape, strict=True):
        dimension.dim_value = size
    for value in closed.graph.output:
        value.type.tensor_type.ClearField("shape")
    del closed.graph.value_info[:]
    return closed
