"""Changes to an exported graph: preprocessing moved into it, its decoding tail found, half precision."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["UINT8_INPUT", "counts_up", "decoding_tail", "half_precision", "name_nodes", "preprocess_in_graph"]

UINT8_INPUT = "images_bgr"
_PREFIX = "drivetl/preprocess"


def preprocess_in_graph(model: Any) -> None:
    """Let a graph take the letterboxed picture itself: uint8 ``(n, h, w, 3)`` BGR instead of float32 NCHW RGB.

    Layout, channel order, type and division by 255 become four nodes at its front. Dividing, not multiplying by a
    rounded 1/255, gives the very floats of `drivetl.runtime.to_tensor`, so the outputs are the same bit for bit, and
    a quarter of the bytes is copied to the device.

    Args:
        model: an ONNX model whose one input is float32 ``(n, 3, h, w)``, fixed or open; changed in place.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    inner = graph.input[0].name
    batch, _, height, width = (d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim)
    del graph.input[0]
    graph.input.append(helper.make_tensor_value_info(UINT8_INPUT, TensorProto.UINT8, [batch, height, width, 3]))
    constants = {"rgb": np.array([2, 1, 0], np.int64), "levels": np.array(255.0, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(value, f"{_PREFIX}/{name}") for name, value in constants.items())
    steps: tuple[tuple[str, list[str], str | None, dict[str, Any]], ...] = (
        # The cast first: TensorRT takes uint8 at the border of a network and nowhere inside.
        ("Cast", [UINT8_INPUT], "float", {"to": TensorProto.FLOAT}),
        ("Transpose", [f"{_PREFIX}/float"], "planes", {"perm": [0, 3, 1, 2]}),
        ("Gather", [f"{_PREFIX}/planes", f"{_PREFIX}/rgb"], "ordered", {"axis": 1}),
        ("Div", [f"{_PREFIX}/ordered", f"{_PREFIX}/levels"], None, {}),
    )
    front = [
        helper.make_node(kind, inputs, [f"{_PREFIX}/{output}" if output else inner], f"{_PREFIX}/{kind}", **attributes)
        for kind, inputs, output, attributes in steps
    ]
    nodes = [*front, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def name_nodes(model: Any) -> None:
    """Give every node without a name one: what follows tells nodes apart by it."""
    for index, node in enumerate(model.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{index}"


def decoding_tail(model: Any) -> list[str]:
    """Return the names (see `name_nodes`) of the nodes after the last trained convolutions, in the order of the graph.

    They turn the head's raw maps into boxes in pixels and scores. Box coordinates reach into the hundreds while scores
    end at one, and both meet in one tensor: in half precision a coordinate above 512 is only good to half a pixel,
    and one 8-bit scale for both leaves no score at all, so this part always stays in float32. The convolution of
    the distribution focal loss (one output channel, weights 0, 1, 2, …) belongs to it.
    """
    weights = {value.name: value for value in model.graph.initializer}
    tail: list[str] = []
    wanted_by_others: set[str] = set()  # tensors on the way to a trained convolution
    for node in reversed(model.graph.node):
        trained = node.op_type == "Conv" and not counts_up(weights.get(node.input[1]))
        if trained or wanted_by_others.intersection(node.output):
            wanted_by_others.update(node.input)
        else:
            tail.append(node.name)
    return tail[::-1]


def counts_up(weight: Any) -> bool:
    """Return whether an initializer has one output channel and counts 0, 1, 2, …: it takes an expected value."""
    from onnx import numpy_helper

    if weight is None or not weight.dims or weight.dims[0] != 1:
        return False
    values = numpy_helper.to_array(weight).reshape(-1)
    return bool(np.array_equal(values, np.arange(len(values))))


def half_precision(model: Any) -> None:
    """Let a graph compute in float16 up to its decoding tail, which stays in float32 like input and output.

    Args:
        model: a float32 ONNX model; changed in place. A weight beyond the range of float16 becomes infinite there, and
            `drivetl verify` finds that.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, tail = model.graph, set(decoding_tail(model))
    weights = {value.name: value for value in graph.initializer if value.data_type == TensorProto.FLOAT}
    floats = _float_tensors(model)
    inputs = {value.name for value in graph.input} & floats
    made = {name for node in graph.node if node.name not in tail for name in node.output} & floats
    halved: dict[str, None] = {}
    widened: dict[str, None] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if node.name in tail:
                if name in made:
                    widened[name] = None
                    node.input[index] = f"{name}/float"
            # The scales of a Resize are float32 by definition.
            elif name in weights.keys() | inputs and not (node.op_type == "Resize" and index):
                halved[name] = None
                node.input[index] = f"{name}/half"
    graph.initializer.extend(
        numpy_helper.from_array(numpy_helper.to_array(weights[name]).astype(np.float16), f"{name}/half")
        for name in halved
        if name in weights
    )
    casts = [_cast(helper, name, "half", TensorProto.FLOAT16) for name in halved if name in inputs]
    casts += [_cast(helper, name, "float", TensorProto.FLOAT) for name in widened]
    _insert(graph, casts)
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)


def _float_tensors(model: Any) -> set[str]:
    """Return the names of the float32 tensors of a graph."""
    from onnx import TensorProto, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}


def _cast(helper: Any, name: str, suffix: str, to: int) -> Any:
    return helper.make_node("Cast", [name], [f"{name}/{suffix}"], f"{name}/to_{suffix}", to=to)


def _insert(graph: Any, casts: list[Any]) -> None:
    """Put each cast directly behind what makes its input: nodes of a graph stand in the order of their use."""
    waiting = {cast.input[0]: cast for cast in casts}
    nodes = [waiting[value.name] for value in graph.input if value.name in waiting]
    for node in graph.node:
        nodes += [node, *(waiting[name] for name in node.output if name in waiting)]
    del graph.node[:]
    graph.node.extend(nodes)
