"""A float graph to an 8-bit one (QuantizeLinear/DequantizeLinear pairs), and parts of it back to float."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

from drivetl.deploy.graph import decoding_tail

__all__ = ["OPERATORS", "in_float", "layer_groups", "quantised"]

# What a YOLO's layers are made of. All of it, not the convolutions alone: between two convolutions that are 8-bit,
# every operator in float costs two conversions of the whole tensor.
OPERATORS = ("Conv", "Sigmoid", "Mul", "Add", "Concat", "MaxPool", "Resize", "Split")
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def quantised(model: Any, ranges: Any) -> Any:
    """Return a graph whose layers are 8-bit: weights int8 with a scale for each output channel, activations uint8.

    The decoding tail stays in float, see `drivetl.deploy.graph.decoding_tail`.

    Args:
        model: the float ONNX model; not changed.
        ranges: of its tensors, see `drivetl.deploy.calibration.tensor_ranges`.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    tail = decoding_tail(model)
    quantizer = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[node.name for node in model.graph.node if node.op_type in OPERATORS],
        nodes_to_exclude=tail,
        op_types_to_quantize=list(OPERATORS),
        extra_options={},
    )
    quantizer.quantize_model()
    # It appends the pairs at the end; a graph stands in the order of its use.
    quantizer.model.topological_sort()
    return quantizer.model.model


def layer_groups(model: Any) -> dict[str, tuple[str, ...]]:
    """Return the quantised layers of a float graph in groups: group name → node names, in the order of the graph.

    A group is a module of the network (``/model.4``); of the last one, the detection head, each branch
    (``/model.23/cv3.0``) is one. Names that are not like that stand for themselves.
    """
    tail = set(decoding_tail(model))
    names = [node.name for node in model.graph.node if node.op_type in OPERATORS and node.name not in tail]
    head = next((_module(name) for name in reversed(names)), "")
    groups: dict[str, list[str]] = {}
    for name in names:
        module = _module(name)
        key = "/".join(name.split("/")[:3]) if module == head and module != name else module
        groups.setdefault(key, []).append(name)
    return {key: tuple(members) for key, members in groups.items()}


def _module(name: str) -> str:
    parts = name.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else name


def in_float(model: Any, original: Any, names: Collection[str]) -> Any:
    """Return a quantised graph in which the named nodes compute in float again.

    Args:
        model: of `quantised`; not changed.
        original: the float model that it was made of.
        names: of nodes.
    """
    from onnx import ModelProto

    released = ModelProto()
    released.CopyFrom(model)
    inputs = {node.name: list(node.input) for node in original.graph.node}
    made = {name for node in original.graph.node if node.name in names for name in node.output}
    tail = set(decoding_tail(original))
    for node in released.graph.node:
        if node.name in names:
            node.input[:] = inputs[node.name]
        elif node.name in tail:
            # Between two nodes in float there is nothing to round.
            for index, name in enumerate(inputs[node.name]):
                if name in made:
                    node.input[index] = name
    _bring_weights(released, original, names)
    _remove_unused(released)
    return released


def _bring_weights(model: Any, original: Any, names: Collection[str]) -> None:
    """Give the nodes in float the weights that the quantised graph does not hold any more.

    A dequantised bias bears the name of the float one, so the float one gets another.
    """
    from onnx import TensorProto

    present = {value.name for value in model.graph.initializer}
    dequantised = {name for node in model.graph.node for name in node.output}
    weights = {value.name: value for value in original.graph.initializer if value.name not in present}
    brought: set[str] = set()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in weights and (node.name in names or name not in dequantised):
                node.input[index] = f"{name}/float" if name in dequantised else name
                brought.add(name)
    for name in sorted(brought):
        value = TensorProto()
        value.CopyFrom(weights[name])
        value.name = f"{name}/float" if name in dequantised else name
        model.graph.initializer.append(value)


def _remove_unused(model: Any) -> None:
    """Take out the pairs and constants that nothing reads any more."""
    graph = model.graph
    used = {value.name for value in graph.output}
    kept: list[Any] = []
    for node in reversed(graph.node):
        if node.op_type in _PAIR and not used.intersection(node.output):
            continue
        used.update(node.input)
        kept.append(node)
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [value for value in graph.initializer if value.name in used])


def _replace(field: Any, values: Sequence[Any]) -> None:
    kept = [copy.deepcopy(value) for value in values]
    del field[:]
    field.extend(kept)
