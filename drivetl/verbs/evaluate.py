"""``drivetl evaluate``: average precision of a checkpoint or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    as_json: JsonFlag = False,
) -> None:
    """Measure accuracy (AP by the COCO protocol) through the letterbox and decoder of the car.

    Example: drivetl evaluate yolo11n --data datasets/fog --split test
    """
    from drivetl.evaluate import evaluate as run
    from drivetl.evaluate import open_model

    reporter = Reporter("evaluate", as_json)
    with reporter.working():
        opened = open_model(model, size_hw=size_from(imgsz), device=device, threads=threads)
        results = [run(opened, path, split=split, progress=reporter.progress) for path in data]
    documents = [{"data": str(path), **result.document()} for path, result in zip(data, results, strict=True)]
    lines: list[str] = []
    for document in documents:
        lines += ["", f"{document['model']} on {document['data']} ({split}, {document['images']} pictures)"]
        lines += score_lines(document)
        if document["missing_classes"]:
            lines.append(f"The model has no class for: {', '.join(document['missing_classes'])}.")
        if document["dropped"]:
            lines.append(f"Not scored, because the dataset has no such class: {sum(document['dropped'].values())}.")
    reporter.finish({**documents[0], "datasets": documents} if len(documents) > 1 else documents[0], lines[1:])
