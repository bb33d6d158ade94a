"""The contract of a bundle: everything that a program must know to run ``model.onnx`` the way it was measured.

It is stored twice: as ``contract.json`` and in the metadata of the ONNX file (key `METADATA_KEY`). The file also
holds ``model_sha256`` and ``verification``, which the copy cannot know. The contract detects accidents (a model
swapped, a letterbox changed), not attackers: whoever can rewrite both files can forge both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import BundleError, quoted
from drivetl.runtime.letterbox import Letterbox, to_tensor

__all__ = ["METADATA_KEY", "SCHEMA_VERSION", "Contract", "Thresholds"]

SCHEMA_VERSION = 1
METADATA_KEY = "drivetl.contract"
_DECODINGS = ("cxcywh_scores",)
_PRECISIONS = ("fp32", "fp16", "int8")
_MAX_SIDE_PX = 8192
_MAX_CLASSES = 10_000


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
        output_shape: ``(1, 4 + classes, anchors)``.
        class_names: in the order of class ids.
        letterbox: how a picture becomes an input.
        thresholds: decoding defaults.
        decoding: layout of the output; ``cxcywh_scores`` is described in `drivetl.runtime.decode`.
        precision: ``fp32``, ``fp16`` or ``int8``.
        opset: ONNX operator set of the graph.
        source_weights_sha256: of the checkpoint that was exported.
        dataset_fingerprint: of the dataset that the weights were adapted to, or None.
        tools: versions of the tools that made the bundle.
        licence: SPDX identifier that the weights carry.
        input_dtype: ``float32``: NCHW, RGB, pixel values divided by 255; ``uint8``: the letterboxed picture itself,
            NHWC, BGR, and the graph does colour, scaling and layout.
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
    quantisation: Mapping[str, Any] | None = None
    model_sha256: str = ""
    verification: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return the contract as the JSON document of ``contract.json``."""
        # Left out where there is none, so that bundles made before it existed stay what they are.
        quantisation = {} if self.quantisation is None else {"quantisation": dict(self.quantisation)}
        return {
            "schema_version": SCHEMA_VERSION,
            "input": {
                "name": self.input_name,
                self._input.shape_key: list(self.input_shape),
                "dtype": self.input_dtype,
                "colour_order": self._input.colour_order,
                "scale": self._input.scale,
            },
            "letterbox": {
                "pad_value": self.letterbox.pad_value,
                "center": self.letterbox.center,
                "scale_up": self.letterbox.scale_up,
            },
            "output": {"name": self.output_name, "shape": list(self.output_shape), "decoding": self.decoding},
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
        """Shape of the input: ``(1, 3, h, w)``, or ``(1, h, w, 3)`` where the graph preprocesses."""
        return self._input.shape(*self.input_size_hw)

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
        root = _Node(document, where, "contract")
        version = root.integer("schema_version", 1, 1_000_000)
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{quoted(where)} has contract schema {version}, and this drivetl reads schema {SCHEMA_VERSION}; "
                f"use the drivetl that exported it, or export again"
            )
        tensor, box, output, limits = (root.node(key) for key in ("input", "letterbox", "output", "thresholds"))
        dtype = tensor.one_of("dtype", tuple(_INPUTS))
        height, width = _input_size_hw(tensor, _INPUTS[dtype])
        names = root.strings("class_names", _MAX_CLASSES)
        shape = output.integers("shape", 3)
        if shape[0] != 1 or shape[1] != 4 + len(names):
            raise output.wrong("shape", f"[1, {4 + len(names)}, anchors] for {len(names)} classes")
        return cls(
            input_name=tensor.text("name"),
            input_size_hw=(height, width),
            output_name=output.text("name"),
            output_shape=(shape[0], shape[1], shape[2]),
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
            decoding=output.one_of("decoding", _DECODINGS),
            precision=root.one_of("precision", _PRECISIONS),
            opset=root.integer("opset", 0, 1000),
            source_weights_sha256=root.text("source_weights_sha256", empty=True),
            dataset_fingerprint=root.optional_text("dataset_fingerprint"),
            tools={key: str(value) for key, value in root.mapping("tools").items()},
            licence=root.text("licence"),
            input_dtype=dtype,
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

    def shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        return (1, height, width, 3) if self.channels_last else (1, 3, height, width)


_INPUTS = {
    "float32": _Input("shape_nchw", "RGB", "1/255", channels_last=False),
    "uint8": _Input("shape_nhwc", "BGR", "1", channels_last=True),
}


def _input_size_hw(tensor: _Node, kind: _Input) -> tuple[int, int]:
    tensor.one_of("colour_order", (kind.colour_order,))
    tensor.one_of("scale", (kind.scale,))
    shape = tensor.integers(kind.shape_key, 4)
    height, width = shape[1:3] if kind.channels_last else shape[2:]
    if shape != kind.shape(height, width) or max(height, width) > _MAX_SIDE_PX:
        wanted = "[1, height, width, 3]" if kind.channels_last else "[1, 3, height, width]"
        raise tensor.wrong(kind.shape_key, f"{wanted} with sides up to {_MAX_SIDE_PX}")
    return height, width


class _Node:
    """One mapping of the document, with typed access whose errors name file, key, value and what was expected."""

    def __init__(self, value: object, where: str, path: str) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"{quoted(where)}: {path} must be a mapping, not {quoted(value, 60)}; export again")
        self._values: dict[str, Any] = value
        self._where = where
        self._path = path

    def wrong(self, key: str, expected: str) -> BundleError:
        return BundleError(
            f"{quoted(self._where)}: {self._path}.{key} is {quoted(self._values.get(key), 60)}, "
            f"expected {expected}; export the bundle again"
        )

    def get(self, key: str) -> Any:
        if key not in self._values:
            raise BundleError(f"{quoted(self._where)}: {self._path}.{key} is missing; export the bundle again")
        return self._values[key]

    def has(self, key: str) -> bool:
        return key in self._values

    def node(self, key: str) -> _Node:
        return _Node(self.get(key), self._where, f"{self._path}.{key}")

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return value

    def text(self, key: str, *, empty: bool = False) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not (value or empty):
            raise self.wrong(key, "text")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.get(key) is None else self.text(key)

    def one_of(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self.get(key)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(key, " or ".join(allowed))
        return value

    def boolean(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, "a number")
        if not low <= value <= high:
            raise self.wrong(key, f"a number from {low} to {high}")
        return float(value)

    def integers(self, key: str, count: int) -> tuple[int, ...]:
        value = self.get(key)
        whole = isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        if not whole or len(value) != count or min(value) < 1:
            raise self.wrong(key, f"{count} positive whole numbers")
        return tuple(value)

    def strings(self, key: str, most: int) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not 1 <= len(value) <= most or not all(isinstance(v, str) for v in value):
            raise self.wrong(key, f"a list of 1 to {most} names")
        return tuple(value)
