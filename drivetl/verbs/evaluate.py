"""``drivetl evaluate``: average precision of a checkpoint or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from drivetl.errors import ConfigError
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._options import DeviceOption, ImgszOption, ThreadsOption, score_lines, size_from

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint (.pt), the name of published weights, or a bundle.")],
    data: Annotated[list[Path], typer.Option("--data", help="Dataset folder or data.yaml; may be given again.")],
    split: Annotated[str, typer.Option("--split", help="Which split to measure on.")] = "val",
    imgsz: ImgszOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Also write what was found, as JSON for drivetl compare.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --predictions names.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure accuracy (AP by the COCO protocol) through the letterbox and decoder of the car.

    Example: drivetl evaluate yolo11n --data datasets/fog --split test
    """
    from drivetl.evaluate import evaluate as run
    from drivetl.evaluate import open_model

    if predictions is not None:
        _check_predictions(predictions, data, overwrite)
    reporter = Reporter("evaluate", as_json)
    with reporter.working():
        opened = open_model(model, size_hw=size_from(imgsz), device=device, threads=threads)
        results = [run(opened, path, split=split, progress=reporter.progress) for path in data]
        if predictions is not None:
            results[0].predictions.write(predictions, overwrite=overwrite)
        documents = [
            {"data": str(path), **result.document(reporter.progress)}
            for path, result in zip(data, results, strict=True)
        ]
    lines: list[str] = []
    for document in documents:
        lines += ["", f"{document['model']} on {document['data']} ({split}, {document['images']} pictures)"]
        lines += score_lines(document)
        lines.append(_interval_line(document["interval"]))
        if document["missing_classes"]:
            lines.append(f"The model has no class for: {', '.join(document['missing_classes'])}.")
        if document["dropped"]:
            lines.append(f"Not scored, because the dataset has no such class: {sum(document['dropped'].values())}.")
    reporter.finish({**documents[0], "datasets": documents} if len(documents) > 1 else documents[0], lines[1:])


def _check_predictions(target: Path, data: list[Path], overwrite: bool) -> None:
    from drivetl.evaluate.predictions import refuse_existing

    if len(data) > 1:
        raise ConfigError(
            f"--predictions takes one --data, not {len(data)}: a file holds the predictions on one dataset; "
            "evaluate each on its own"
        )
    refuse_existing(target, overwrite=overwrite)


def _interval_line(interval: dict[str, Any]) -> str:
    if interval["note"]:
        return str(interval["note"])
    (low, high), (low50, high50) = interval["map50_95"], interval["map50"]
    return (
        f"95 % interval over {interval['groups']} groups: mAP50-95 {low:.3f} to {high:.3f}, "
        f"mAP50 {low50:.3f} to {high50:.3f}"
    )
