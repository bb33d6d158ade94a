"""``drivetl export``: weights to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drivetl.errors import quoted
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._options import ImgszOption, size_from

if TYPE_CHECKING:
    from drivetl.deploy import ExportResult, Int8Options

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("export")(export)


def export(
    weights: Annotated[str, typer.Argument(help="A checkpoint (.pt), or the name of published weights.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle folder to make.")],
    imgsz: ImgszOption = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option("--precision", help="What the graph computes in.")
    ] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", help="For int8: the target dataset; calibrated on train, judged on test or val."),
    ] = None,
    max_drop: Annotated[float, typer.Option("--max-drop", help="mAP50-95 points that int8 may lose.")] = 1.0,
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="Dataset whose pictures become golden frames; default: a synthetic frame."),
    ] = None,
    adapted_to: Annotated[
        Path | None,
        typer.Option("--adapted-to", help="Dataset the weights were trained on; its fingerprint is recorded."),
    ] = None,
    in_graph_preprocessing: Annotated[
        bool, typer.Option("--in-graph-preprocessing", help="The graph takes the letterboxed uint8 BGR picture.")
    ] = False,
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

    reporter = Reporter("export", as_json)
    with reporter.working():
        checkpoint = resolve_weights(weights)
        int8 = None if calibrate is None else _int8(checkpoint, calibrate, max_drop, reporter)
        result = run(
            checkpoint,
            out,
            size_hw=size_from(imgsz),
            golden=golden,
            options=GraphOptions(in_graph_preprocessing, precision, int8),
            dataset_fingerprint=None if adapted_to is None else open_dataset(adapted_to).fingerprint,
            overwrite=overwrite,
            progress=reporter.progress,
        )
    for warning in (result.contract.quantisation or {}).get("warnings", ()):
        reporter.say(f"warning: {warning}")
    reporter.finish(result.document(), _lines(result))


def _int8(checkpoint: Path, data: Path, max_drop: float, reporter: Reporter) -> Int8Options:
    from drivetl.data import open_dataset
    from drivetl.deploy import Int8Options
    from drivetl.taxonomy import map_detections
    from drivetl.verbs._accuracy import DatasetAccuracy
    from drivetl.yolo import load_checkpoint

    shared = map_detections(load_checkpoint(checkpoint).names, open_dataset(data).names)
    accuracy = DatasetAccuracy(data, reporter.progress) if shared else None
    return Int8Options(data, accuracy, max_drop=max_drop)


def _lines(result: ExportResult) -> list[str]:
    contract = result.contract
    height, width = contract.input_size_hw
    return [
        f"bundle     {quoted(result.bundle)}",
        f"input      {height}x{width} {contract.input_dtype}, {result.precision}, opset {contract.opset}",
        f"classes    {len(contract.class_names)}",
        f"model      {result.bytes / 1e6:.1f} MB, sha256 {contract.model_sha256[:12]}…",
        f"golden     {result.golden_frames} frame(s) for the self-test on the device",
        *_int8_lines(contract.quantisation),
    ]


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
    if held_out["difference"] is None:
        return [f"held out ({held_out['split']}, {held_out['pictures']} pictures): no boxes to compare on"]
    low, high = held_out["interval"] or (float("nan"), float("nan"))
    lines = [
        f"held out ({held_out['split']}, {held_out['pictures']} pictures): mAP50-95 {held_out['before']:.4f} to "
        f"{held_out['after']:.4f}, {100 * held_out['difference']:+.2f} points, 95 % interval "
        f"{100 * low:+.2f} to {100 * high:+.2f}"
    ]
    for kind in ("per_class", "per_condition"):
        for name, row in held_out[kind].items():
            if row["difference"] is not None:
                lines.append(
                    f"  {name:<20} {row['boxes']:>5} boxes  {row['before']:.4f} to {row['after']:.4f}  "
                    f"{100 * row['difference']:+.2f}"
                )
    return lines
