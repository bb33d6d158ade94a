"""Bundles broken at random, as files that a stranger or a bad disk could have made; for `drivetl.deploy.fuzz`."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetl.runtime.bundle import CONTRACT_FILE, MODEL_FILE
from drivetl.runtime.contract import METADATA_KEY

__all__ = ["KINDS", "Mutant", "mutant"]

_UNTYPED: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "x" * 5000,
    "\x1b[31m\u202e\ud800",
    [],
    {},
    [[]],
    {"a": {}},
    [None] * 3,
)
_NUMBERS: tuple[Any, ...] = (0, -1, 1, 2, 7, 63, 65, 1024, 8192, 2**31, 2**63, 2**70, 0.5, -0.0, 1e-320, 1e308)
_TEXTS = (b"NaN", b"-Infinity", b"1e999", b"[" * 3000, b"9" * 5000, b"\x00", b"\xff\xfe", b"{}", b'"\\ud800"')
_MOST_CHANGES = 3


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken bundle.

    Attributes:
        kind: one of `KINDS`.
        repaired: its hash, and where it can be its contract in the graph, were made to agree again, so that it gets
            past the checks that would stop an accident.
        contract: bytes of ``contract.json``.
        model: bytes of ``model.onnx``.
    """

    kind: str
    repaired: bool
    contract: bytes
    model: bytes

    def write(self, folder: Path) -> None:
        """Write both files into a folder that exists."""
        (folder / CONTRACT_FILE).write_bytes(self.contract)
        (folder / MODEL_FILE).write_bytes(self.model)


def mutant(contract: bytes, model: bytes, seed: int, index: int) -> Mutant:
    """Return mutant number ``index``; the same arguments give the same bytes.

    Args:
        contract: of the sound bundle, the bytes of its file.
        model: likewise.
        seed: of the series.
        index: every second one is repaired, and the kinds take turns.
    """
    rng = np.random.default_rng([seed, index])
    kind, repaired = tuple(KINDS)[(index // 2) % len(KINDS)], bool(index % 2)
    contract, model = KINDS[kind](rng, contract, model)
    if repaired:
        contract, model = _repaired(contract, model)
    return Mutant(kind, repaired, contract, model)


def _contract_bytes(rng: np.random.Generator, contract: bytes, model: bytes) -> tuple[bytes, bytes]:
    return _bytes(rng, contract), model


def _model_bytes(rng: np.random.Generator, contract: bytes, model: bytes) -> tuple[bytes, bytes]:
    return contract, _bytes(rng, model)


def _bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Flip, cut out, repeat, insert or cut off."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, _MOST_CHANGES + 1)):
        place = int(rng.integers(len(changed) + 1))
        length = int(rng.integers(1, 17))
        match rng.integers(6):
            case 0 | 1:
                changed[place : place + 1] = bytes([int(rng.integers(256))])
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4:
                changed[place:place] = _TEXTS[rng.integers(len(_TEXTS))]
            case _:
                del changed[max(len(changed) - length * length, place) :]
    return bytes(changed)


def _contract_values(rng: np.random.Generator, contract: bytes, model: bytes) -> tuple[bytes, bytes]:
    """Give one to three places of the document another value, or take them away."""
    document = json.loads(contract)
    for _ in range(rng.integers(1, _MOST_CHANGES + 1)):
        places = list(_places(document))
        if not places:
            break
        holder, key = places[rng.integers(len(places))]
        odd = (*_NUMBERS, *_UNTYPED)
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(odd[rng.integers(len(odd))])
    return json.dumps(document).encode(), model


def _places(node: Any) -> list[tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    found = [(node, key) for key in keys]
    for key in keys:
        found += _places(node[key])
    return found


def _graph_values(rng: np.random.Generator, contract: bytes, model: bytes) -> tuple[bytes, bytes]:
    """Change what a node does, what it reads, or how large a tensor says that it is."""
    import onnx

    changed = onnx.load_model_from_string(model)
    graph = changed.graph
    for _ in range(rng.integers(1, _MOST_CHANGES + 1)):
        node = graph.node[rng.integers(len(graph.node))]
        match rng.integers(6):
            case 0 if node.attribute:
                attribute = node.attribute[rng.integers(len(node.attribute))]
                attribute.ints[:] = [_whole(rng) for _ in attribute.ints]
                attribute.i, attribute.f = _whole(rng), float(rng.normal()) * 1e9
            case 1 if node.input:
                node.input[rng.integers(len(node.input))] = _tensor(rng, graph)
            case 2 if graph.initializer:
                tensor = graph.initializer[rng.integers(len(graph.initializer))]
                tensor.dims[:] = [_whole(rng) for _ in tensor.dims]
            case 3 if graph.initializer:
                tensor = graph.initializer[rng.integers(len(graph.initializer))]
                if rng.random() < 0.5:
                    tensor.data_type = int(rng.integers(0, 25))
                tensor.raw_data = rng.bytes(len(tensor.raw_data))
            case 4:
                node.op_type = graph.node[rng.integers(len(graph.node))].op_type
            case _:
                value = (graph.input, graph.output)[rng.integers(2)][0]
                side = value.type.tensor_type.shape.dim
                side[rng.integers(len(side))].dim_value = _whole(rng)
    return contract, changed.SerializeToString()


def _whole(rng: np.random.Generator) -> int:
    chosen = (-(2**62), -1, 0, 1, 2, 3, 8, 64, 1000, 2**20, 2**31, 2**40, 2**62)
    return chosen[rng.integers(len(chosen))]


def _tensor(rng: np.random.Generator, graph: Any) -> str:
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    names += [name for node in graph.node for name in node.output]
    return str(names[rng.integers(len(names))])


def _repaired(contract: bytes, model: bytes) -> tuple[bytes, bytes]:
    """Let the graph carry the contract and the contract the graph's hash, as far as they can still be read."""
    try:
        document = json.loads(contract)
    except (ValueError, RecursionError):
        return contract, model
    if not isinstance(document, dict):
        return contract, model
    model = _carrying(document, model)
    document["model_sha256"] = hashlib.sha256(model).hexdigest()
    return json.dumps(document).encode(), model


def _carrying(document: dict[str, Any], model: bytes) -> bytes:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        graph = onnx.load_model_from_string(model)
        copied = {key: value for key, value in document.items() if key not in ("model_sha256", "verification")}
        for entry in graph.metadata_props:
            if entry.key == METADATA_KEY:
                entry.value = json.dumps(copied)
        return graph.SerializeToString()  # type: ignore[no-any-return]
    except (DecodeError, ValueError):
        return model


_Change = Callable[[np.random.Generator, bytes, bytes], tuple[bytes, bytes]]
KINDS: dict[str, _Change] = {
    "contract bytes": _contract_bytes,
    "contract values": _contract_values,
    "model bytes": _model_bytes,
    "graph values": _graph_values,
}
