"""Rewriting of an exported graph into one that computes the same, and that ONNX Runtime's CPU kernels run faster.

Both changes concern operators that the kernels do badly at, not the arithmetic: the same products are summed, and only
the last bits may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drivetl.deploy.graph import counts_up

__all__ = ["PART", "rewrite", "split_by_weights", "unroll_box_softmax"]

# How the name of a convolution ends that makes a part of what one made before.
PART = re.compile(r"/part_\d+$")

_PREFIX = "drivetl/box"
# ReduceMax takes its axes as an input since then.
_LEAST_OPSET = 18


def rewrite(model: Any) -> dict[str, int]:
    """Apply every change of this module that fits a graph; what does not look as expected is left as it is.

    Args:
        model: a float32 ONNX model whose nodes have names; changed in place.

    Returns:
        In how many places each was applied: ``box_softmax``, ``splits``.
    """
    return {"box_softmax": unroll_box_softmax(model), "splits": split_by_weights(model)}


def unroll_box_softmax(model: Any) -> int:
    """Write the expected distance of the distribution focal loss (Li et al. 2020) as one quotient of two sums.

    The exporter gives a softmax along the second of four axes and a convolution with the weights 0, 1, 2, …. The
    kernel of the softmax takes its axis to the end and back, which costs 6 to 8 % of a whole frame of YOLO11n.
    The same from operators that run along the anchors: maximum, exponential, and a product with two rows, one that
    counts and one of ones.

    Args:
        model: an ONNX model; changed in place where it has such a softmax.

    Returns:
        How many there were.
    """
    from onnx import helper, numpy_helper

    if _opset(model) < _LEAST_OPSET:
        return 0
    count = 0
    graph = model.graph
    makers, readers = _makers(graph), _readers(graph)
    weights = {value.name: value for value in graph.initializer}
    for conv in [node for node in graph.node if node.op_type == "Conv" and counts_up(weights.get(node.input[1]))]:
        levels = numpy_helper.to_array(weights[conv.input[1]])
        before = _softmax_of_transpose(conv, makers, readers)
        if before is None:
            continue
        softmax, transpose = before
        place = f"{_PREFIX}/{conv.name}"
        graph.initializer.extend(
            numpy_helper.from_array(value, f"{place}/{name}")
            for name, value in {
                "axis": np.array([2], np.int64),
                "rows": np.stack([levels.reshape(-1), np.ones(levels.size)]).astype(np.float32),
            }.items()
        )
        steps: tuple[tuple[str, list[str], list[str], dict[str, Any]], ...] = (
            # Without the largest taken off first, a logit above 88 would be infinite.
            ("ReduceMax", [transpose.input[0], f"{place}/axis"], ["largest"], {"keepdims": 1}),
            ("Sub", [transpose.input[0], f"{place}/largest"], ["below"], {}),
            ("Exp", [f"{place}/below"], ["weight"], {}),
            ("MatMul", [f"{place}/rows", f"{place}/weight"], ["sums"], {}),
            ("Split", [f"{place}/sums"], ["weighted", "total"], {"axis": 2, "num_outputs": 2}),
        )
        nodes = [
            helper.make_node(kind, inputs, [f"{place}/{output}" for output in outputs], f"{place}/{kind}", **attributes)
            for kind, inputs, outputs, attributes in steps
        ]
        quotient = [f"{place}/weighted", f"{place}/total"]
        # The convolution gave (n, 1, 4, anchors), this gives (n, 4, 1, anchors): the Reshape behind it takes either.
        nodes.append(helper.make_node("Div", quotient, list(conv.output), f"{place}/Div"))
        _replace(graph, {conv.name: nodes}, [conv, softmax, transpose])
        count += 1
    return count


def _softmax_of_transpose(
    conv: Any, makers: Mapping[str, Any], readers: Mapping[str, list[Any]]
) -> tuple[Any, Any] | None:
    """Return the two nodes before a convolution if these are (n, 4, bins, anchors) → (n, bins, 4, anchors) → softmax.

    Nothing else may read what they give, and nothing but a Reshape what the convolution gives.
    """
    softmax = makers.get(conv.input[0])
    transpose = None if softmax is None else makers.get(softmax.input[0])
    if softmax is None or transpose is None or (softmax.op_type, transpose.op_type) != ("Softmax", "Transpose"):
        return None
    along_bins = _attributes(softmax).get("axis") == 1 and list(_attributes(transpose).get("perm", ())) == [0, 2, 1, 3]
    alone = all(len(readers[name]) == 1 for name in (softmax.input[0], conv.input[0], conv.output[0]))
    reshaped = all(getattr(node, "op_type", "") == "Reshape" for node in readers[conv.output[0]])
    return (softmax, transpose) if along_bins and alone and reshaped and len(conv.input) == 2 else None


def split_by_weights(model: Any) -> int:
    """Compute the parts of a tensor that is split into its channels each by a convolution of its own.

    Of a C2f block and its like the first convolution and its SiLU make a tensor that is split at once. Split is the one
    operator of such a block that the channel-blocked layout of ONNX Runtime's CPU kernels does not know, so the
    tensor is brought out of that layout and back into it, in every block. Each part has its own rows of the weights:
    convolving with them gives it directly. About 6 % of a frame of YOLO11n.

    Args:
        model: an ONNX model whose nodes have names; changed in place where a convolution of one group and a SiLU,
            read by nothing else, feed a Split along the channels.

    Returns:
        How many Splits went.
    """
    from onnx import numpy_helper

    graph = model.graph
    makers, readers = _makers(graph), _readers(graph)
    constants = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    count = 0
    for split in [node for node in graph.node if node.op_type == "Split" and _attributes(node).get("axis", 0) == 1]:
        found = _silu_of_conv(split.input[0], makers, readers)
        if found is None or not all(name in constants for name in found[0].input[1:]):
            continue
        conv, sigmoid, mul = found
        sizes = _sizes(split, constants, channels=len(constants[conv.input[1]]))
        if sizes is not None:
            parts = _parts(graph, conv, split.output, np.cumsum([0, *sizes]), constants)
            _replace(graph, {conv.name: parts}, [conv, sigmoid, mul, split])
            count += 1
    return count


def _silu_of_conv(
    name: str, makers: Mapping[str, Any], readers: Mapping[str, list[Any]]
) -> tuple[Any, Any, Any] | None:
    """Return the convolution, Sigmoid and Mul that make a tensor as x · sigmoid(x), if nothing else reads them."""
    mul = makers.get(name)
    if mul is None or mul.op_type != "Mul" or len(readers[name]) != 1:
        return None
    made = [makers.get(each) for each in mul.input]
    for conv, sigmoid in (made, made[::-1]):
        if conv is None or sigmoid is None or (conv.op_type, sigmoid.op_type) != ("Conv", "Sigmoid"):
            continue
        alone = len(readers[conv.output[0]]) == 2 and len(readers[sigmoid.output[0]]) == 1
        if alone and sigmoid.input[0] == conv.output[0] and _attributes(conv).get("group", 1) == 1:
            return conv, sigmoid, mul
    return None


def _sizes(split: Any, constants: Mapping[str, Any], *, channels: int) -> list[int] | None:
    """Return how many channels each part has, if the graph says it."""
    if len(split.input) > 1:
        return [int(size) for size in constants[split.input[1]]] if split.input[1] in constants else None
    count = len(split.output)
    return [channels // count] * count if channels % count == 0 else None


def _parts(graph: Any, conv: Any, outputs: Sequence[str], bounds: Any, constants: Mapping[str, Any]) -> list[Any]:
    """Return the nodes that make each part, and give the graph the rows of the weights that they need."""
    from onnx import helper, numpy_helper

    nodes = []
    for index, output in enumerate(outputs):
        rows = slice(int(bounds[index]), int(bounds[index + 1]))
        names = [f"{name}/part_{index}" for name in conv.input[1:]]
        graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(constants[whole][rows]), name)
            for whole, name in zip(conv.input[1:], names, strict=True)
        )
        place = f"{conv.name}/part_{index}"
        part = helper.make_node("Conv", [conv.input[0], *names], [f"{place}/made"], place)
        part.attribute.extend(conv.attribute)
        nodes += [
            part,
            helper.make_node("Sigmoid", [f"{place}/made"], [f"{place}/sigmoid"], f"{place}/Sigmoid"),
            helper.make_node("Mul", [f"{place}/made", f"{place}/sigmoid"], [output], f"{place}/Mul"),
        ]
    return nodes


def _opset(model: Any) -> int:
    return max((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _makers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


def _readers(graph: Any) -> dict[str, list[Any]]:
    """Return for every tensor the nodes that read it; an output of the graph has itself as one more."""
    readers: dict[str, list[Any]] = {name: [] for node in graph.node for name in (*node.input, *node.output)}
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    for value in graph.output:
        readers.setdefault(value.name, []).append(value)
    return readers


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _replace(graph: Any, made: Mapping[str, Iterable[Any]], gone: Sequence[Any]) -> None:
    """Put new nodes where the node of a name stood, take others out, and the constants that nothing reads any more.

    Shapes that were noted for tensors in between are dropped: whoever wants them infers them.
    """
    names = {node.name for node in gone}
    nodes: list[Any] = []
    for node in graph.node:
        nodes += made.get(node.name, ())
        if node.name not in names:
            nodes.append(node)
    read = {name for node in nodes for name in node.input}
    kept = [value for value in graph.initializer if value.name in read]
    for field, values in ((graph.node, nodes), (graph.initializer, kept), (graph.value_info, [])):
        del field[:]
        field.extend(values)
