"""Opening a bundle: is it one, is it whole, is it the model that was exported?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetl.errors import BundleError, ProviderUnavailable, quoted
from drivetl.runtime.contract import METADATA_KEY, Contract
from drivetl.runtime.decode import BOX_ROWS
from drivetl.runtime.engines import discard_engines, engine_folder, engine_options, is_unreadable
from drivetl.runtime.replay import CUDA_GRAPH, check_replayable
from drivetl.runtime.session import Session, open_session, read_model

__all__ = ["CONTRACT_FILE", "MODEL_FILE", "Bundle", "open_bundle"]

CONTRACT_FILE = "contract.json"
MODEL_FILE = "model.onnx"
_CONTRACT_LIMIT_BYTES = 4 << 20
# How every reference to a tensor stored outside the graph begins in the ONNX file: the protobuf text field `key`
# (tag 0x0a, length 8) with the value "location". drivetl never writes one, and reading one would open other files.
_EXTERNAL_DATA = b"\x0a\x08location"

_ONNX_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files are present and whose graph has the hash that its contract names.

    Attributes:
        path: the folder.
        contract: what the model takes and gives.
        model: the serialised ONNX graph.
    """

    path: Path
    contract: Contract
    model: bytes

    def session(
        self,
        provider: str = "cpu",
        *,
        threads: int = 0,
        engine_cache: Path | None = None,
        cuda_graph: bool = False,
    ) -> Session:
        """Open an ONNX Runtime session and hold the graph against the contract.

        Args:
            provider: ``cpu``, ``cuda`` or ``tensorrt``.
            threads: threads of one operator, 0 for ONNX Runtime's choice.
            engine_cache: a folder for TensorRT's engines and timings, so that only the first start on a board takes
                the minutes of a build; each graph, GPU and TensorRT has a folder of its own in there. Other providers
                have nothing to keep.
            cuda_graph: let CUDA record a run for `drivetl.runtime.replay.Replay`.

        Raises:
            ProviderUnavailable: the provider cannot run here, not in the bundle's precision, not with its open
                dimensions, or has no CUDA graph.
            BundleError: the graph's inputs, outputs or stored contract differ from ``contract.json``, or the engine
                cache cannot be made.

        Warns:
            RuntimeWarning: the engine in the cache cannot be read; it is deleted and built once more.
        """
        self._check_fits(provider)
        options: dict[str, str] = {}
        if cuda_graph:
            check_replayable(self.contract, provider, str(self.path))
            options = CUDA_GRAPH
        if provider == "cuda":
            # Trying every algorithm takes half a second for each shape, and a graph has one here.
            options = {"cudnn_conv_algo_search": "EXHAUSTIVE", **options}
        engines = None
        if provider == "tensorrt":
            options = _engine_ranges(self.contract)
            if engine_cache is not None:
                engines = engine_folder(engine_cache, self.contract.model_sha256)
                options |= engine_options(engines)
        session = self._opened(provider, threads, options, engines)
        self._check_graph(session)
        return session

    def _check_fits(self, provider: str) -> None:
        """Refuse what a provider cannot run of this graph, before ONNX Runtime says so in words of its own."""
        if provider != "cpu" and self.contract.precision == "int8":
            raise ProviderUnavailable(
                f"{provider} was asked for and {quoted(self.path)} is int8, made for processors: CUDA has no kernel "
                "for some of its operators, TensorRT no unsigned activations; for GPUs export with --precision fp16"
            )
        if not self.contract.dynamic:
            return
        if provider == "cuda":
            # Shape, and what computes with its result, goes to the CPU on purpose (ONNX Runtime's
            # GetCpuPreferredNodes), and a session here has no CPU to fall back to.
            raise ProviderUnavailable(
                f"cuda was asked for and {quoted(self.path)} has open dimensions, whose arithmetic ONNX Runtime leaves "
                "to the CPU, where no part of a bundle runs unasked; export it without --dynamic for the size that "
                "the camera gives, or with --size-range for --provider tensorrt"
            )
        if provider == "tensorrt" and self.contract.size_range_hw is None:
            raise BundleError(
                f"{quoted(self.path)} has open dimensions and TensorRT builds its engine for a range of them, which "
                "nobody gave; export it again with --size-range, or without --dynamic"
            )

    def _opened(self, provider: str, threads: int, options: dict[str, str], engines: Path | None) -> Session:
        """Open the session; where a kept engine cannot be read, once more without it."""
        where = str(self.path / MODEL_FILE)
        try:
            return open_session(self.model, provider, threads=threads, where=where, provider_options=options)
        except ProviderUnavailable as error:
            if engines is None or not is_unreadable(error):
                raise
        discard_engines(engines)
        return open_session(self.model, provider, threads=threads, where=where, provider_options=options)

    def _check_graph(self, session: Session) -> None:
        contract, graph = self.contract, session.ort_session
        try:
            takes = [(node.name, list(node.shape), node.type) for node in graph.get_inputs()]
            gives = [(node.name, list(node.shape), node.type) for node in graph.get_outputs()]
            stored = graph.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        except UnicodeDecodeError as error:
            raise self._mismatch(f"holds text that is not UTF-8 ({error.reason})") from error
        # Of an open graph, ONNX Runtime may know that a side of the output is fixed all the same.
        rows_axis = 1 if contract.decoding in BOX_ROWS else 2
        open_sides = tuple(axis for axis in range(4) if axis != contract.channel_axis) if contract.dynamic else ()
        kind = _ONNX_TYPES[contract.input_dtype]
        if not _fits(takes, contract.input_name, contract.input_shape, kind, open_sides) or any(
            isinstance(takes[0][1][axis], int) for axis in open_sides
        ):
            raise self._mismatch(f"takes {quoted(takes)}")
        open_sides = (0, rows_axis) if contract.dynamic else ()
        if not _fits(gives, contract.output_name, contract.output_shape, "tensor(float)", open_sides):
            raise self._mismatch(f"gives {quoted(gives)}")
        if stored is None or _parse(stored.encode(), str(self.path / MODEL_FILE)) != contract.metadata_document():
            raise self._mismatch("carries a different contract in its metadata, or none")

    def _mismatch(self, what: str) -> BundleError:
        return BundleError(
            f"{quoted(self.path / MODEL_FILE)} {what}, which is not what {CONTRACT_FILE} beside it says; export again"
        )


def _engine_ranges(contract: Contract) -> dict[str, str]:
    """Return the options of ONNX Runtime's TensorRT provider that say for which shapes to build its engine."""
    if not contract.dynamic:
        return {}
    shapes = ("x".join(str(side) for side in shape) for shape in contract.shape_ranges())
    names = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
    return {name: f"{contract.input_name}:{shape}" for name, shape in zip(names, shapes, strict=True)}


def _fits(
    nodes: list[tuple[str, list[object], str]], name: str, shape: Sequence[int], kind: str, open_sides: Sequence[int]
) -> bool:
    """Whether a graph has this one input or output; sides that may be open are not compared."""
    if len(nodes) != 1 or (nodes[0][0], nodes[0][2]) != (name, kind) or len(nodes[0][1]) != len(shape):
        return False
    return all(axis in open_sides or found == shape[axis] for axis, found in enumerate(nodes[0][1]))


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle folder and check it before ONNX Runtime sees any of it.

    Raises:
        BundleError: no bundle, a file missing or unreadable, an unknown contract, a graph hash that does not match,
            or tensors stored outside the graph.
    """
    folder = Path(path)
    if not folder.is_dir():
        kinds = {".onnx": "an ONNX file", ".pt": "a file of weights"}
        kind = kinds.get(folder.suffix.lower(), "a file") if folder.is_file() else "missing"
        raise BundleError(
            f"{quoted(folder)} is {kind}, not a bundle folder; make one with: drivetl export WEIGHTS --out BUNDLE"
        )
    for name in (CONTRACT_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise BundleError(f"{quoted(folder)} is not a bundle: it has no {name}; make one with drivetl export")
    contract_path = folder / CONTRACT_FILE
    if contract_path.stat().st_size > _CONTRACT_LIMIT_BYTES:
        raise BundleError(f"{quoted(contract_path)} is larger than {_CONTRACT_LIMIT_BYTES} bytes; export again")
    document = _parse(read_model(contract_path), str(contract_path))
    contract = Contract.from_document(document, str(contract_path))
    model = read_model(folder / MODEL_FILE)
    found = hashlib.sha256(model).hexdigest()
    if found != contract.model_sha256:
        raise BundleError(
            f"{quoted(folder / MODEL_FILE)} has sha256 {found[:12]}…, but its contract says "
            f"{quoted(contract.model_sha256[:12])}…: the graph was changed after export; export it again"
        )
    if _EXTERNAL_DATA in model:
        raise BundleError(
            f"{quoted(folder / MODEL_FILE)} refers to tensors stored outside the file; drivetl bundles never do, "
            f"so export it again"
        )
    return Bundle(folder, contract, model)


def _parse(data: bytes, where: str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{quoted(where)} does not hold a JSON contract: {error}; export again") from error
