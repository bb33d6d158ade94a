"""Class-wise non-maximum suppression inside the graph, as ONNX's own operator does it."""

from __future__ import annotations

from typing import Any

import numpy as np

from drivetl.runtime import Thresholds

__all__ = ["FLOOR", "ROWS_OUTPUT", "suppress_in_graph"]

ROWS_OUTPUT = "detections"
# Suppression never lets a weaker box remove a stronger one, so a floor this low gives, above any threshold that is
# asked for later, the detections that suppressing from there would give. It is the one that accuracy is measured from.
FLOOR = 0.001
_PREFIX = "drivetl/nms"


def suppress_in_graph(model: Any, thresholds: Thresholds, floor: float = FLOOR) -> tuple[int, int, int]:
    """Let a graph end in rows ``(batch, max_detections, 6)``: left, top, right, bottom, confidence, class id.

    Each box stands for its best class, as `drivetl.runtime.decode` takes it for a car. The operator gives as many boxes
    as it finds, an engine wants one shape: rows that are not needed are zero.

    Args:
        model: an ONNX model whose one output is float32 ``(batch, 4 + classes, anchors)`` with a fixed batch; changed
            in place, the output becomes `ROWS_OUTPUT`.
        thresholds: overlap and most detections are fixed in the graph.
        floor: boxes must score more than this.

    Returns:
        The new output's shape.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    output = graph.output[0]
    batch, channels = (d.dim_value for d in output.type.tensor_type.shape.dim[:2])
    builder = _Builder(graph)
    parts = []
    for index in range(batch):
        # One picture at a time: the operator's rows of all pictures come in one list, which has no fixed shape.
        raw = builder.cut(output.name, index, index + 1, axis=0)
        parts.append(_rows(builder, raw, channels - 4, thresholds, floor))
    builder.add("Concat", parts, output=ROWS_OUTPUT, axis=0)
    shape = (batch, thresholds.max_detections, 6)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(ROWS_OUTPUT, TensorProto.FLOAT, shape))
    return shape


def _rows(builder: _Builder, raw: str, classes: int, thresholds: Thresholds, floor: float) -> str:
    """Add the nodes for one picture's ``(1, 4 + classes, anchors)``; return the name of its ``(1, rows, 6)``."""
    from onnx import TensorProto

    most = thresholds.max_detections
    boxes = builder.add("Transpose", [builder.cut(raw, 0, 4, axis=1)], perm=[0, 2, 1])
    scores = builder.cut(raw, 4, 4 + classes, axis=1)
    best = builder.add("ArgMax", [scores], axis=1, keepdims=1)
    is_best = builder.add("Equal", [builder.constant(np.arange(classes).reshape(1, classes, 1)), best])
    own = builder.add("Where", [is_best, scores, builder.constant(np.array(0, np.float32))])
    limits = (
        builder.constant(np.array([most])),
        builder.constant(np.array([thresholds.iou], np.float32)),
        builder.constant(np.array([floor], np.float32)),
    )
    found = builder.add("NonMaxSuppression", [boxes, own, *limits], center_point_box=1)  # (n, 3): picture, class, box
    # Zeros behind what was found, so that there are always enough to take the best of.
    confidence = builder.add("GatherND", [own, found])
    padded = builder.add("Concat", [confidence, builder.constant(np.zeros(most, np.float32))], axis=0)
    top, order = builder.add_two("TopK", [padded, builder.constant(np.array([most]))])
    indices = builder.add("Concat", [found, builder.constant(np.zeros((most, 3), np.int64))], axis=0)
    chosen = builder.add("Gather", [indices, order], axis=0)
    class_id = builder.add("Cast", [builder.cut(chosen, 1, 2, axis=1)], to=TensorProto.FLOAT)
    anchor = builder.reshape(builder.cut(chosen, 2, 3, axis=1), [most])
    box = builder.add("Gather", [builder.reshape(boxes, [-1, 4]), anchor], axis=0)
    centre, size = builder.cut(box, 0, 2, axis=1), builder.cut(box, 2, 4, axis=1)
    half = builder.add("Div", [size, builder.constant(np.array(2, np.float32))])
    corners = [builder.add("Sub", [centre, half]), builder.add("Add", [centre, half])]
    column = builder.reshape(top, [most, 1])
    rows = builder.add("Concat", [*corners, column, class_id], axis=1)
    real = builder.add("Greater", [column, builder.constant(np.array(0, np.float32))])
    kept = builder.add("Where", [real, rows, builder.constant(np.array(0, np.float32))])
    return builder.reshape(kept, [1, most, 6])


class _Builder:
    """Adds nodes and constants at the end of a graph, each under a name of its own."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._count = 0

    def add(self, kind: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self._node(kind, inputs, [output or self._name(kind)], attributes)[0]

    def add_two(self, kind: str, inputs: list[str]) -> tuple[str, str]:
        """Add a node with two outputs and return their names."""
        first, second = self._node(kind, inputs, [self._name(kind), self._name(kind)], {})
        return first, second

    def constant(self, value: Any) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = self._name("constant")
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def cut(self, tensor: str, start: int, end: int, *, axis: int) -> str:
        """Add the slice ``start:end`` of one axis."""
        return self.add("Slice", [tensor, *(self.constant(np.array([v], np.int64)) for v in (start, end, axis))])

    def reshape(self, tensor: str, shape: list[int]) -> str:
        """Add a tensor of the same values in another shape."""
        return self.add("Reshape", [tensor, self.constant(np.array(shape, np.int64))])

    def _node(self, kind: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> list[str]:
        from onnx import helper

        self._graph.node.append(helper.make_node(kind, inputs, outputs, self._name(f"node-{kind}"), **attributes))
        return outputs

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{_PREFIX}/{kind}_{self._count}"
