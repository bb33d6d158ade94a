"""Weights to a bundle: the graph, its contract, golden frames and a report, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drivetl import __version__
from drivetl.deploy.golden import write_golden
from drivetl.deploy.graph import UINT8_INPUT, half_precision, name_nodes, preprocess_in_graph
from drivetl.deploy.machine import runtime_versions
from drivetl.deploy.nms import FLOOR, ROWS_OUTPUT, suppress_in_graph
from drivetl.deploy.quantise import Int8Options, quantise
from drivetl.deploy.rewrite import rewrite
from drivetl.errors import ConfigError, quoted
from drivetl.files import atomic_dir, sha256_file, write_json
from drivetl.progress import Progress, silent
from drivetl.runtime import Contract, Detector, Letterbox, open_bundle, open_session
from drivetl.runtime.bundle import CONTRACT_FILE, MODEL_FILE
from drivetl.runtime.contract import METADATA_KEY

__all__ = ["REPORT_FILE", "ExportResult", "GraphOptions", "export"]

REPORT_FILE = "report.json"
_REPORT_SCHEMA_VERSION = 1
_STEPS = 3


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """What is done to the graph that comes out of the weights.

    Attributes:
        in_graph_preprocessing: let it take the letterboxed uint8 BGR picture and do colour, scaling and layout itself.
        precision: ``fp32``, ``fp16`` or ``int8``; the decoding tail, input and output stay in float32 in each.
        int8: how to quantise; needed for int8 and for nothing else.
        batch: pictures in a run; of a dynamic graph, the most.
        dynamic: leave batch, height and width open; CUDA runs no such graph, see `drivetl.runtime.Bundle.session`.
        size_range_hw: smallest and largest input (height, width) of a dynamic graph, for engines that need to know.
        one_to_one: take the one-to-one head of YOLO26.
        in_graph_nms: suppress inside the graph, see `drivetl.deploy.nms`.
        as_exported: leave out the rewriting that makes the graph faster on a CPU, see `drivetl.deploy.rewrite`.
    """

    in_graph_preprocessing: bool = False
    precision: str = "fp32"
    int8: Int8Options | None = None
    batch: int = 1
    dynamic: bool = False
    size_range_hw: tuple[tuple[int, int], tuple[int, int]] | None = None
    one_to_one: bool = False
    in_graph_nms: bool = False
    as_exported: bool = False


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A bundle that was written.

    Attributes:
        bundle: its folder.
        precision: ``fp32``, ``fp16`` or ``int8``.
        bytes: size of ``model.onnx``.
        contract: what is in it.
        golden_frames: how many pictures a device can test itself with.
        rewritten: see `drivetl.deploy.rewrite.rewrite`; None where the graph is as it was exported.
    """

    bundle: Path
    precision: str
    bytes: int
    contract: Contract
    golden_frames: int
    rewritten: dict[str, int] | None = None

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            "bundle": str(self.bundle),
            "precision": self.precision,
            "bytes": self.bytes,
            "input_size_hw": list(self.contract.input_size_hw),
            "input_dtype": self.contract.input_dtype,
            "batch": self.contract.batch,
            "dynamic": self.contract.dynamic,
            "decoding": self.contract.decoding,
            "class_names": list(self.contract.class_names),
            "opset": self.contract.opset,
            "model_sha256": self.contract.model_sha256,
            "source_weights_sha256": self.contract.source_weights_sha256,
            "dataset_fingerprint": self.contract.dataset_fingerprint,
            "golden_frames": self.golden_frames,
            "rewritten": self.rewritten,
            "tools": dict(self.contract.tools),
            "quantisation": None if self.contract.quantisation is None else dict(self.contract.quantisation),
        }


def export(
    weights: Path,
    out: Path,
    *,
    size_hw: tuple[int, int] | None = None,
    golden: Path | None = None,
    dataset_fingerprint: str | None = None,
    options: GraphOptions | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ExportResult:
    """Export a checkpoint as a bundle.

    Args:
        weights: the checkpoint.
        out: the bundle folder to make.
        size_hw: input height and width in pixels, multiples of the model's stride; None takes the square of the
            size that the checkpoint was trained at.
        golden: a dataset of which a few pictures become golden frames; None makes one synthetic frame.
        dataset_fingerprint: of the dataset that the weights were adapted to.
        options: what is done to the graph; None leaves it as the weights give it.
        overwrite: replace an existing bundle.
        progress: told the steps.

    Raises:
        WeightsError: the checkpoint cannot be used, or finds nothing at any confidence.
        ConfigError: ``size_hw`` does not fit the model or lies outside the size range, the range does not fit the
            model, or options contradict each other.
        DatasetError, ImageError: ``golden`` cannot be used.
        GateFailed: int8 does not keep to the accuracy budget; see `drivetl.deploy.quantise.quantise`.
        OutputError: ``out`` exists or cannot be written; nothing is left behind.
    """
    options = _checked(options or GraphOptions())
    progress("export", 0, _STEPS)
    with atomic_dir(out, marker=CONTRACT_FILE, overwrite=overwrite) as folder:
        # Only now: loading torch takes seconds, and a place that may not be written is known before.
        from drivetl.yolo import export_onnx

        size_hw = _size_hw(weights, size_hw, options)
        described = export_onnx(
            weights,
            folder / MODEL_FILE,
            size_hw=size_hw,
            batch=options.batch,
            dynamic=options.dynamic,
            one_to_one=options.one_to_one,
        )
        progress("export", 1, _STEPS)
        if options.dynamic:
            described["output"]["shape"] = _settle_output(folder / MODEL_FILE, size_hw, options)
        contract = _contract(described, size_hw, dataset_fingerprint, options)
        contract, rewritten = _finish_graph(folder, contract, options, progress)
        progress("export", 2, _STEPS)
        # Opening it holds the written graph against the written contract, as every later user will.
        frames = write_golden(Detector(open_bundle(folder)), golden, folder)
        size = (folder / MODEL_FILE).stat().st_size
        result = ExportResult(out, contract.precision, size, contract, frames, rewritten)
        write_json(folder / REPORT_FILE, _report(result, weights))
    progress("export", _STEPS, _STEPS)
    return result


def _size_hw(weights: Path, size_hw: tuple[int, int] | None, options: GraphOptions) -> tuple[int, int]:
    """Return the usual input size: the one given, or the checkpoint's; a range has to hold it."""
    if size_hw is not None and options.size_range_hw is None:
        return size_hw
    from drivetl.yolo import load_checkpoint

    checkpoint = load_checkpoint(weights)
    size_hw = size_hw or (checkpoint.imgsz, checkpoint.imgsz)
    model: Any = checkpoint.model
    _check_range(size_hw, options.size_range_hw, int(model.stride.max()))
    return size_hw


def _check_range(
    size_hw: tuple[int, int], range_hw: tuple[tuple[int, int], tuple[int, int]] | None, stride: int
) -> None:
    """Raise where the usual size lies outside the range, or an end of the range is no multiple of the stride."""
    if range_hw is None:
        return
    shown = ",".join(f"{height}x{width}" for height, width in range_hw)
    if any(side % stride or side < stride for end in range_hw for side in end):
        raise ConfigError(f"--size-range takes multiples of {stride} in pixels, not {quoted(shown)}")
    low, high = range_hw
    if not all(least <= side <= most for least, side, most in zip(low, size_hw, high, strict=True)):
        raise ConfigError(
            f"the input size {size_hw[0]}x{size_hw[1]} lies outside --size-range {quoted(shown)}; give an --imgsz "
            "inside it, or a wider range"
        )


def _settle_output(path: Path, size_hw: tuple[int, int], options: GraphOptions) -> tuple[int, ...]:
    """Return the output's shape for the usual input, and declare in a dynamic graph which of its sides are fixed."""
    import onnx

    graph = onnx.load(str(path))
    session = open_session(graph.SerializeToString(), where=str(path))
    tensor = np.zeros((options.batch, 3, *size_hw), np.float32)
    output = graph.graph.output[0]
    shape = session.run(output.name, graph.graph.input[0].name, tensor).shape
    # Ultralytics names the last side of the one-to-one output "anchors", though it is always six.
    sides = ("batch", "rows", shape[2]) if options.one_to_one else ("batch", shape[1], "anchors")
    output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, sides))
    onnx.save(graph, str(path))
    return tuple(shape)


def _contract(
    described: dict[str, Any], size_hw: tuple[int, int], dataset_fingerprint: str | None, options: GraphOptions
) -> Contract:
    return Contract(
        input_name=described["input"]["name"],
        input_size_hw=size_hw,
        output_name=described["output"]["name"],
        output_shape=described["output"]["shape"],
        class_names=tuple(described["names"]),
        letterbox=Letterbox(size_hw),
        opset=described["opset"],
        source_weights_sha256=described["sha256"],
        dataset_fingerprint=dataset_fingerprint,
        tools={"drivetl": __version__, **described["tools"], **runtime_versions()},
        licence=_spdx(described["licence"]),
        decoding="xyxy_one_to_one" if options.one_to_one else "cxcywh_scores",
        batch=options.batch,
        dynamic=options.dynamic,
        size_range_hw=options.size_range_hw,
    )


def _spdx(licence: str) -> str:
    """Return the SPDX identifier at the start of a licence text; NOASSERTION, as SPDX has it, where there is none."""
    words = licence.split()
    return words[0] if words else "NOASSERTION"


def _checked(options: GraphOptions) -> GraphOptions:
    if options.precision not in ("fp32", "fp16", "int8"):
        raise ConfigError(f"the precision {quoted(options.precision)} is none of fp32, fp16 and int8")
    if (options.precision == "int8") != (options.int8 is not None):
        raise ConfigError(
            "int8 needs a dataset to calibrate on, and nothing else does; give --calibrate DATASET with it"
        )
    contradictions = (
        (options.size_range_hw and not options.dynamic, "--size-range says how far a graph is open; give --dynamic"),
        (options.in_graph_nms and options.one_to_one, "the one-to-one head needs no NMS; leave --in-graph-nms out"),
        (options.in_graph_nms and options.dynamic, "--in-graph-nms wants a fixed batch; leave --dynamic out"),
        (
            options.precision == "int8" and (options.one_to_one or options.dynamic or options.batch > 1),
            "int8 is calibrated and judged on the raw output, one picture at a time; leave --head, --dynamic and "
            "--batch out, or ship fp16",
        ),
    )
    for contradiction, sentence in contradictions:
        if contradiction:
            raise ConfigError(sentence)
    return options


def _rewrite(path: Path) -> dict[str, int]:
    """Rewrite a graph in its file, where calibration for int8 will look for the same tensors."""
    import onnx

    graph = onnx.load(str(path))
    name_nodes(graph)
    found = rewrite(graph)
    onnx.save(graph, str(path))
    return found


def _finish_graph(
    folder: Path, contract: Contract, options: GraphOptions, progress: Progress
) -> tuple[Contract, dict[str, int] | None]:
    """Change the graph as asked for, put the contract into it and beside it.

    Returns:
        The contract with the graph's hash, and what was rewritten.
    """
    import onnx

    rewritten = None if options.as_exported else _rewrite(folder / MODEL_FILE)
    graph = onnx.load(str(folder / MODEL_FILE))
    name_nodes(graph)
    contract = replace(contract, precision=options.precision)
    if options.precision == "fp16":
        half_precision(graph)
    if options.int8 is not None:
        graph, account = quantise(graph, folder / MODEL_FILE, contract, options.int8, progress)
        _restore_metadata(graph, folder / MODEL_FILE)
        contract = replace(contract, quantisation=account)
    if options.in_graph_nms:
        shape = suppress_in_graph(graph, contract.thresholds)
        contract = replace(
            contract, output_name=ROWS_OUTPUT, output_shape=shape, decoding="xyxy_nms", graph_confidence=FLOOR
        )
    if options.in_graph_preprocessing:
        preprocess_in_graph(graph)
        contract = replace(contract, input_name=UINT8_INPUT, input_dtype="uint8")
    entry = graph.metadata_props.add()
    entry.key = METADATA_KEY
    entry.value = json.dumps(contract.metadata_document(), separators=(",", ":"), ensure_ascii=False)
    onnx.save(graph, str(folder / MODEL_FILE))
    contract = replace(contract, model_sha256=sha256_file(folder / MODEL_FILE))
    write_json(folder / CONTRACT_FILE, contract.document())
    return contract, rewritten


def _restore_metadata(graph: Any, path: Path) -> None:
    """Give a quantised graph the metadata of the one it was made of, which other tools read."""
    import onnx

    del graph.metadata_props[:]
    graph.metadata_props.extend(onnx.load(str(path)).metadata_props)


def _report(result: ExportResult, weights: Path) -> dict[str, Any]:
    exported = result.document()
    # The place where it was made says nothing to whoever receives the bundle.
    del exported["bundle"]
    return {
        "schema_version": _REPORT_SCHEMA_VERSION,
        "export": {"weights": weights.name, **exported},
        "verification": None,
    }
