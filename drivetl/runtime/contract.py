"""The contract of a bundle: everything that a program must know to run ``model.onnx`` the way it was measured.

It is stored twice: as ``contract.json`` and in the metadata of the ONNX file (key `METADATA_KEY`). The file also
holds ``model_sha256`` and ``verification``, which the copy cannot know. The contract detects accidents (a model
swapped, a letterbox changed), not attackers: whoever can rewrite both files can forge both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import BundleError, quoted
from drivetl.runtime.decode import BOX_ROWS, DECODINGS
from drivetl.runtime.document import Node
from drivetl.runtime.letterbox import Letterbox, to_tensor

__all__ = ["METADATA_KEY", "SCHEMA_VERSION", "Contract", "Thresholds"]

SCHEMA_VERSION = 1
METADATA_KEY = "drivetl.contract"
_PRECISIONS = ("fp32", "fp16", "int8")
_MAX_SIDE_PX = 8192
_MAX_CLASSES = 10_000
_MAX_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Defaults for decoding: confidence and NMS overlap in [0, 1], and the most detections a picture gives."""

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300


@dataclass(frozen=True, slots=True)
class Contract:
    """What `model.onnx` takes and gives.

    Attributes:
        input_name: name of the ONNX input.
        input_size_hw: its height and width in pixels.
        output_name: name of the ONNX output.
        output_shape: ``(batch, 4 + classes, anchors)``, or ``(batch, rows, 6)``, see ``decoding``; of a dynamic graph
            at ``input_size_hw``.
        class_names: in the order of class ids.
        letterbox: how a picture becomes an input.
        thresholds: decoding defaults.
        decoding: layout of the output, one of `drivetl.runtime.decode.DECODINGS`, described there.
        precision: ``fp32``, ``fp16`` or ``int8``.
        opset: ONNX operator set of the graph.
        source_weights_sha256: of the checkpoint that was exported.
        dataset_fingerprint: of the dataset that the weights were adapted to, or None.
        tools: versions of the tools that made the bundle.
        licence: SPDX identifier that the weights carry.
        input_dtype: ``float32``: NCHW, RGB, pixel values divided by 255; ``uint8``: the letterboxed picture itself,
            NHWC, BGR, and the graph does colour, scaling and layout.
        batch: pictures that the graph takes in a run; of a dynamic graph, the most it was made for.
        dynamic: the graph leaves batch, height and width open.
        size_range_hw: smallest and largest input that a dynamic graph will be given, each (height, width): engines
            that are built beforehand need them. None where nobody said.
        graph_confidence: of ``xyxy_nms``, the threshold inside the graph: nothing below it comes out.
        quantisation: how an int8 graph came about; None for the others.
        model_sha256: of the file ``model.onnx``; empty in the copy inside the ONNX.
        verification: recorded results of ``drivetl verify``; None until it ran.
    """

    input_name: str
    input_size_hw: tuple[int, int]
    output_name: str
    output_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    letterbox: Letterbox
    thresholds: Thresholds = field(default_factory=Thresholds)
    decoding: str = "cxcywh_scores"
    precision: str = "fp32"
    opset: int = 0
    source_weights_sha256: str = ""
    dataset_fingerprint: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    licence: str = "AGPL-3.0"
    input_dtype: str = "float32"
    batch: int = 1
    dynamic: bool = False
    size_range_hw: tuple[tuple[int, int], tuple[int, int]] | None = None
    graph_confidence: float = 0.0
    quantisation: Mapping[str, Any] | None = None
    model_sha256: str = ""
    verification: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return the contract as the JSON document of ``contract.json``."""
        # What a bundle does not have is left out, so that bundles made before it existed stay what they are.
        quantisation = {} if self.quantisation is None else {"quantisation": dict(self.quantisation)}
        return {
            "schema_version": SCHEMA_VERSION,
            "input": {
                "name": self.input_name,
                self._input.shape_key: list(self.input_shape),
                "dtype": self.input_dtype,
                "colour_order": self._input.colour_order,
                "scale": self._input.scale,
                **({"dynamic": {"sizes_hw": self._sizes()}} if self.dynamic else {}),
            },
            "letterbox": {
                "pad_value": self.letterbox.pad_value,
                "center": self.letterbox.center,
                "scale_up": self.letterbox.scale_up,
            },
            "output": {
                "name": self.output_name,
                "shape": list(self.output_shape),
                "decoding": self.decoding,
                **({"graph_confidence": self.graph_confidence} if self.decoding == "xyxy_nms" else {}),
            },
            "class_names": list(self.class_names),
            "thresholds": asdict(self.thresholds),
            "precision": self.precision,
            **quantisation,
            "opset": self.opset,
            "source_weights_sha256": self.source_weights_sha256,
            "dataset_fingerprint": self.dataset_fingerprint,
            "tools": dict(self.tools),
            "licence": self.licence,
            "model_sha256": self.model_sha256,
            "verification": None if self.verification is None else dict(self.verification),
        }

    @property
    def _input(self) -> _Input:
        return _INPUTS[self.input_dtype]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input: ``(batch, 3, h, w)``, or ``(batch, h, w, 3)`` where the graph preprocesses."""
        return self._input.shape(self.batch, *self.input_size_hw)

    @property
    def channel_axis(self) -> int:
        """Which dimension of the input holds the three colours."""
        return 3 if self._input.channels_last else 1

    def shape_ranges(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the smallest, usual and largest input shape, as engines want them; alike where nothing is open."""
        if not self.dynamic:
            return self.input_shape, self.input_shape, self.input_shape
        low, high = self.size_range_hw or (self.input_size_hw, self.input_size_hw)
        return self._input.shape(1, *low), self.input_shape, self._input.shape(self.batch, *high)

    def at_size(self, size_hw: tuple[int, int], where: str) -> Contract:
        """Return the contract of a dynamic graph that is given inputs of another size; ``where`` names the bundle.

        Raises:
            BundleError: the graph has one fixed size, or was made for a range that the size lies outside of.
        """
        height, width = size_hw
        if size_hw == self.input_size_hw:
            return self
        if not self.dynamic:
            fixed = "x".join(str(side) for side in self.input_size_hw)
            raise BundleError(
                f"{quoted(where)} takes inputs of {fixed} and was asked for {height}x{width}; export it with --dynamic"
            )
        low, high = self.size_range_hw or ((1, 1), (_MAX_SIDE_PX, _MAX_SIDE_PX))
        if not (low[0] <= height <= high[0] and low[1] <= width <= high[1]):
            raise BundleError(
                f"{quoted(where)} takes inputs of {low[0]}x{low[1]} to {high[0]}x{high[1]} and was asked for "
                f"{height}x{width}; export it with another --size-range"
            )
        return replace(self, input_size_hw=size_hw, letterbox=replace(self.letterbox, size_hw=size_hw))

    def _sizes(self) -> list[list[int]] | None:
        return None if self.size_range_hw is None else [list(size) for size in self.size_range_hw]

    def to_input(self, letterboxed_bgr: NDArray[np.uint8]) -> NDArray[Any]:
        """Return a letterboxed picture, uint8 ``(h, w, 3)``, as the model's input."""
        return to_tensor(letterboxed_bgr) if self.input_dtype == "float32" else letterboxed_bgr[None]

    def metadata_document(self) -> dict[str, Any]:
        """Return the copy that goes into the ONNX metadata: without the two fields that it cannot know."""
        document = self.document()
        del document["model_sha256"], document["verification"]
        return document

    @classmethod
    def from_document(cls, document: object, where: str) -> Contract:
        """Validate a parsed ``contract.json``; ``where`` names it in messages.

        Raises:
            BundleError: a field is missing, of the wrong kind or out of range, or the schema is unknown.
        """
        root = Node(document, where, "contract")
        version = root.integer("schema_version", 1, 1_000_000)
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{quoted(where)} has contract schema {version}, and this drivetl reads schema {SCHEMA_VERSION}; "
                f"use the drivetl that exported it, or export again"
            )
        tensor, box, output, limits = (root.node(key) for key in ("input", "letterbox", "output", "thresholds"))
        dtype = tensor.one_of("dtype", tuple(_INPUTS))
        batch, height, width = _input_sizes(tensor, _INPUTS[dtype])
        names = root.strings("class_names", _MAX_CLASSES)
        decoding = output.one_of("decoding", DECODINGS)
        return cls(
            input_name=tensor.text("name"),
            input_size_hw=(height, width),
            output_name=output.text("name"),
            output_shape=_output_shape(output, decoding, batch, len(names)),
            class_names=names,
            letterbox=Letterbox(
                (height, width),
                pad_value=box.integer("pad_value", 0, 255),
                center=box.boolean("center"),
                scale_up=box.boolean("scale_up"),
            ),
            thresholds=Thresholds(
                limits.number("confidence", 0, 1),
                limits.number("iou", 0, 1),
                limits.integer("max_detections", 1, 30_000),
            ),
            decoding=decoding,
            precision=root.one_of("precision", _PRECISIONS),
            opset=root.integer("opset", 0, 1000),
            source_weights_sha256=root.text("source_weights_sha256", empty=True),
            dataset_fingerprint=root.optional_text("dataset_fingerprint"),
            tools={key: str(value) for key, value in root.mapping("tools").items()},
            licence=root.text("licence"),
            input_dtype=dtype,
            batch=batch,
            dynamic=tensor.has("dynamic"),
            size_range_hw=_size_range_hw(tensor),
            graph_confidence=output.number("graph_confidence", 0, 1) if decoding == "xyxy_nms" else 0.0,
            quantisation=root.mapping("quantisation") if root.has("quantisation") else None,
            model_sha256=root.text("model_sha256", empty=True),
            verification=root.mapping("verification") if root.get("verification") is not None else None,
        )


@dataclass(frozen=True, slots=True)
class _Input:
    """One of the two kinds of input."""

    shape_key: str
    colour_order: str
    scale: str
    channels_last: bool

    def shape(self, batch: int, height: int, width: int) -> tuple[int, int, int, int]:
        return (batch, height, width, 3) if self.channels_last else (batch, 3, height, width)


_INPUTS = {
    "float32": _Input("shape_nchw", "RGB", "1/255", channels_last=False),
    "uint8": _Input("shape_nhwc", "BGR", "1", channels_last=True),
}


def _input_sizes(tensor: Node, kind: _Input) -> tuple[int, int, int]:
    """Return batch, height and width."""
    tensor.one_of("colour_order", (kind.colour_order,))
    tensor.one_of("scale", (kind.scale,))
    shape = tensor.integers(kind.shape_key, 4)
    height, width = shape[1:3] if kind.channels_last else shape[2:]
    if shape != kind.shape(shape[0], height, width) or shape[0] > _MAX_BATCH or max(height, width) > _MAX_SIDE_PX:
        wanted = "[batch, height, width, 3]" if kind.channels_last else "[batch, 3, height, width]"
        raise tensor.wrong(kind.shape_key, f"{wanted} with a batch up to {_MAX_BATCH} and sides up to {_MAX_SIDE_PX}")
    return shape[0], height, width


def _size_range_hw(tensor: Node) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if not tensor.has("dynamic"):
        return None
    dynamic = tensor.node("dynamic")
    sizes = dynamic.get("sizes_hw")
    if sizes is None:
        return None
    expected = f"null, or [[height, width], [height, width]] from small to large, up to {_MAX_SIDE_PX}"
    if not isinstance(sizes, list) or len(sizes) != 2:
        raise dynamic.wrong("sizes_hw", expected)
    pairs = Node({"least": sizes[0], "most": sizes[1]}, dynamic.where, f"{dynamic.path}.sizes_hw")
    low, high = pairs.integers("least", 2), pairs.integers("most", 2)
    if low[0] > high[0] or low[1] > high[1] or max(high) > _MAX_SIDE_PX:
        raise dynamic.wrong("sizes_hw", expected)
    return (low[0], low[1]), (high[0], high[1])


def _output_shape(output: Node, decoding: str, batch: int, classes: int) -> tuple[int, int, int]:
    first, second, third = output.integers("shape", 3)
    if decoding in BOX_ROWS:
        if (first, third) != (batch, 6):
            raise output.wrong("shape", f"[{batch}, rows, 6]")
    elif (first, second) != (batch, 4 + classes):
        raise output.wrong("shape", f"[{batch}, {4 + classes}, anchors] for {classes} classes")
    return first, second, third
