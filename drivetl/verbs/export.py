"""``drivetl export``: weights to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._options import ImgszOption, refuse_without, size_from

if TYPE_CHECKING:
    from drivetl.deploy import ExportResult, GraphOptions, Int8Options, NativeBuild
    from drivetl.runtime import Contract

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("export")(export)


_Weights = Annotated[str, typer.Argument(help="A checkpoint (.pt), or the name of published weights.")]
_Out = Annotated[Path, typer.Option("--out", help="The bundle folder to make.")]
_Precision = Annotated[Literal["fp32", "fp16", "int8"], typer.Option("--precision", help="What the graph computes in.")]
_Calibrate = Annotated[
    Path | None,
    typer.Option("--calibrate", help="For int8: the target dataset; calibrated on train, judged on test or val."),
]
_MaxDrop = Annotated[
    float | None, typer.Option("--max-drop", help="With --calibrate: mAP50-95 points that int8 may lose; default: 1.")
]
_Golden = Annotated[
    Path | None,
    typer.Option("--golden", help="Dataset whose pictures become golden frames; default: a synthetic frame."),
]
_AdaptedTo = Annotated[
    Path | None,
    typer.Option("--adapted-to", help="Dataset the weights were trained on; its fingerprint is recorded."),
]
_Preprocessing = Annotated[
    bool, typer.Option("--in-graph-preprocessing", help="The graph takes the letterboxed uint8 BGR picture.")
]
_Nms = Annotated[
    bool, typer.Option("--in-graph-nms", help="Class-wise NMS inside; the graph gives at most 300 boxes a picture.")
]
_Head = Annotated[
    Literal["one-to-many", "one-to-one"],
    typer.Option("--head", help="Of YOLO26: one-to-many wants NMS like the others, one-to-one answers once."),
]
_Batch = Annotated[int, typer.Option("--batch", min=1, help="Pictures in a run; with --dynamic, the most.")]
_Dynamic = Annotated[
    bool, typer.Option("--dynamic", help="Leave batch, height and width open: for the CPU and TensorRT, not CUDA.")
]
_SizeRange = Annotated[
    str | None,
    typer.Option("--size-range", help="Of --dynamic: smallest and largest input, such as 320x320,640x640."),
]
_AsExported = Annotated[
    bool, typer.Option("--as-exported", help="Leave out the rewriting that makes the graph faster on a CPU.")
]
_For = Annotated[
    str | None, typer.Option("--for", help="Also print the command that builds the engine on this profile's hardware.")
]


def export(
    weights: _Weights,
    out: _Out,
    imgsz: ImgszOption = None,
    precision: _Precision = "fp32",
    calibrate: _Calibrate = None,
    max_drop: _MaxDrop = None,
    golden: _Golden = None,
    adapted_to: _AdaptedTo = None,
    in_graph_preprocessing: _Preprocessing = False,
    in_graph_nms: _Nms = False,
    head: _Head = "one-to-many",
    batch: _Batch = 1,
    dynamic: _Dynamic = False,
    size_range: _SizeRange = None,
    as_exported: _AsExported = False,
    target: _For = None,
    overwrite: OverwriteFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Export weights as a bundle: the ONNX graph, its contract, golden frames and a report.

    Golden frames are copies of pictures and travel with the bundle: mind the licence of the dataset they come from.
    Exit status 1 where int8 cannot keep to --max-drop; then nothing is written.

    Example: drivetl export runs/fog/weights/adapted.pt --imgsz 384x640 --out bundles/fog
    """
    from drivetl.data import open_dataset
    from drivetl.deploy import GraphOptions
    from drivetl.deploy import export as run
    from drivetl.yolo import resolve_weights

    refuse_without("--calibrate", calibrate is not None, {"--max-drop": max_drop})
    reporter = Reporter("export", as_json)
    with reporter.working():
        kind = head == "one-to-one"
        sizes = _size_range(size_range)
        options = GraphOptions(
            in_graph_preprocessing, precision, None, batch, dynamic, sizes, kind, in_graph_nms, as_exported
        )
        build = _native_build(target, options, size_from(imgsz))
        checkpoint = resolve_weights(weights)
        if calibrate is not None:
            options = replace(options, int8=_int8(checkpoint, calibrate, max_drop, reporter))
        result = run(
            checkpoint,
            out,
            size_hw=size_from(imgsz),
            golden=golden,
            options=options,
            dataset_fingerprint=None if adapted_to is None else open_dataset(adapted_to).fingerprint,
            overwrite=overwrite,
            progress=reporter.progress,
        )
    for warning in (result.contract.quantisation or {}).get("warnings", ()):
        reporter.say(f"warning: {warning}")
    native = build(result)
    document = {**result.document(), "native": None if native is None else native.document()}
    reporter.finish(document, [*_lines(result), *_native_lines(native)])


def _native_build(
    target: str | None, options: GraphOptions, size_hw: tuple[int, int] | None
) -> Callable[[ExportResult], NativeBuild | None]:
    """Check the options against the profile before the work; return what gives the command after it."""
    from drivetl.deploy import check_for, load_profile, native_build

    if target is None:
        return lambda result: None
    profile = load_profile(target)
    check_for(target, profile, options, size_hw)
    return lambda result: native_build(target, profile, result.bundle, result.contract)


def _size_range(text: str | None) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if text is None:
        return None
    sizes = [size_from(part, "--size-range") for part in text.split(",")]
    if len(sizes) == 2 and sizes[0] is not None and sizes[1] is not None:
        low, high = sizes[0], sizes[1]
        if low[0] <= high[0] and low[1] <= high[1]:
            return low, high
    raise ConfigError(
        f"--size-range takes the smallest and the largest size, such as 320x320,640x640, not {quoted(text)}"
    )


def _native_lines(native: NativeBuild | None) -> list[str]:
    if native is None:
        return []
    return ["", f"on {native.profile}:", *([native.command] if native.command else []), native.notes]


def _int8(checkpoint: Path, data: Path, max_drop: float | None, reporter: Reporter) -> Int8Options:
    from drivetl.data import open_dataset
    from drivetl.deploy import Int8Options
    from drivetl.taxonomy import map_detections
    from drivetl.verbs._accuracy import DatasetAccuracy
    from drivetl.yolo import load_checkpoint

    names, labelled = load_checkpoint(checkpoint).names, open_dataset(data).names
    if not map_detections(names, labelled):
        raise ConfigError(
            f"--max-drop cannot be checked: {quoted(checkpoint)} and {quoted(data)} share no class; the model has "
            f"{quoted(', '.join(names))}, the dataset {quoted(', '.join(labelled))}; give --calibrate a dataset that "
            "labels what the model finds, or ship fp16"
        )
    options = Int8Options(data, DatasetAccuracy(data, reporter.progress))
    return options if max_drop is None else replace(options, max_drop=max_drop)


def _lines(result: ExportResult) -> list[str]:
    contract = result.contract
    height, width = contract.input_size_hw
    return [
        f"bundle     {quoted(result.bundle)}",
        f"input      {height}x{width} {contract.input_dtype}{_batch(contract)}",
        f"graph      {result.precision}, opset {contract.opset}",
        f"output     {contract.decoding}, {'x'.join(str(side) for side in contract.output_shape)}",
        *([] if result.rewritten is None else [_rewritten(result.rewritten)]),
        f"classes    {len(contract.class_names)}",
        f"model      {result.bytes / 1e6:.1f} MB, sha256 {contract.model_sha256[:12]}…",
        f"golden     {result.golden_frames} frame(s) for the self-test on the device",
        *_int8_lines(contract.quantisation),
    ]


def _rewritten(places: Mapping[str, int]) -> str:
    return f"rewritten  {places['box_softmax']} softmax, {places['splits']} splits, for speed on a CPU"


def _batch(contract: Contract) -> str:
    if contract.dynamic:
        return f", dynamic, up to {contract.batch} pictures a run"
    return f", {contract.batch} pictures a run" if contract.batch > 1 else ""


def _int8_lines(account: Mapping[str, Any] | None) -> list[str]:
    """Return what was tried and what it cost: on the training pictures, then on the held-out ones."""
    if account is None:
        return []
    calibration, search, held_out = account["calibration"], account["search"], account["held_out"]
    lines = ["", f"int8       calibrated on {calibration['pictures']} pictures of 'train' ({calibration['method']})"]
    if search["fp32_map50_95"] is not None:
        lines.append(f"search on {search['pictures']} pictures of 'train': fp32 mAP50-95 {search['fp32_map50_95']:.4f}")
        lines.append(f"{'ranges':<11} {'mAP50-95':>8} {'lost':>7}  left in float")
        for trial in search["trials"]:
            groups = ", ".join(trial["float_groups"]) or "nothing"
            lines.append(f"{trial['method']:<11} {trial['map50_95']:>8.4f} {trial['drop_points']:>7.2f}  {groups}")
    if search["sensitivity"]:
        lines.append(f"{'group of layers':<24} {'gain in float':>13}")
        lines += [f"{entry['group']:<24} {entry['gain']:>13.4f}" for entry in search["sensitivity"][:10]]
    if held_out is not None:
        lines += _held_out_lines(held_out)
    return lines


def _held_out_lines(held_out: Mapping[str, Any]) -> list[str]:
    span = held_out["interval"]
    words = f"95 % interval {100 * span[0]:+.2f} to {100 * span[1]:+.2f}" if span else "no interval for want of groups"
    lines = [
        f"held out ({held_out['split']}, {held_out['pictures']} pictures): mAP50-95 {held_out['before']:.4f} to "
        f"{held_out['after']:.4f}, {100 * held_out['difference']:+.2f} points, {words}"
    ]
    for kind in ("per_class", "per_condition"):
        for name, row in held_out[kind].items():
            if row["difference"] is not None:
                lines.append(
                    f"  {name:<20} {row['boxes']:>5} boxes  {row['before']:.4f} to {row['after']:.4f}  "
                    f"{100 * row['difference']:+.2f}"
                )
    return lines
