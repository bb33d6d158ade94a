"""``drivetl export``: weights to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetl.errors import quoted
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._options import ImgszOption, size_from

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("export")(export)


def export(
    weights: Annotated[str, typer.Argument(help="A checkpoint (.pt), or the name of published weights.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle folder to make.")],
    imgsz: ImgszOption = None,
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="Dataset whose pictures become golden frames; default: a synthetic frame."),
    ] = None,
    adapted_to: Annotated[
        Path | None,
        typer.Option("--adapted-to", help="Dataset the weights were trained on; its fingerprint is recorded."),
    ] = None,
    in_graph_preprocessing: Annotated[
        bool,
        typer.Option(
            "--in-graph-preprocessing",
            help="The graph takes the letterboxed uint8 BGR picture and does colour, scaling and layout itself.",
        ),
    ] = False,
    overwrite: OverwriteFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Export weights as a bundle: the ONNX graph, its contract, golden frames and a report.

    Golden frames are copies of pictures and travel with the bundle: mind the licence of the dataset they come from.

    Example: drivetl export runs/fog/weights/adapted.pt --imgsz 384x640 --out bundles/fog
    """
    from drivetl.data import open_dataset
    from drivetl.deploy import GraphOptions
    from drivetl.deploy import export as run
    from drivetl.yolo import resolve_weights

    reporter = Reporter("export", as_json)
    with reporter.working():
        result = run(
            resolve_weights(weights),
            out,
            size_hw=size_from(imgsz),
            golden=golden,
            options=GraphOptions(in_graph_preprocessing=in_graph_preprocessing),
            dataset_fingerprint=None if adapted_to is None else open_dataset(adapted_to).fingerprint,
            overwrite=overwrite,
            progress=reporter.progress,
        )
    contract = result.contract
    height, width = contract.input_size_hw
    reporter.finish(
        result.document(),
        [
            f"bundle     {quoted(result.bundle)}",
            f"input      {height}x{width} {contract.input_dtype}, {result.precision}, opset {contract.opset}",
            f"classes    {len(contract.class_names)}",
            f"model      {result.bytes / 1e6:.1f} MB, sha256 {contract.model_sha256[:12]}…",
            f"golden     {result.golden_frames} frame(s) for the self-test on the device",
        ],
    )
