"""``drivetl baseline``: Ultralytics' own training, to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.wording import counted

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb ``baseline``."""
    app.command("baseline")(_baseline)


def _baseline(
    out: Annotated[Path, typer.Option("--out", help="The run's folder; weights/adapted.pt is written there.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="A dataset with a split train; give several and they are merged.")
    ],
    weights: Annotated[str, typer.Option(help="A .pt file, or a name such as yolo11n.")],
    recipe: Annotated[
        Path | None, typer.Option(help="A YAML file whose section 'train' holds Ultralytics' settings.")
    ] = None,
    selection_split: Annotated[
        str | None, typer.Option("--selection-split", help="Split that chooses the epoch; default: the last epoch.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="CPU threads of torch; default: as many as Ultralytics takes."),
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Train with Ultralytics' own trainer and defaults: what drivetl train is measured against.

    Example: drivetl baseline --data datasets/fog --weights yolo11n --out runs/plain
    """
    from drivetl.adapt.plain import train_plain
    from drivetl.config import load_yaml, train_section

    reporter = Reporter("baseline", json)
    with reporter.working():
        settings = train_section(load_yaml(recipe), recipe) if recipe is not None else {}
        result = train_plain(
            data,
            weights,
            out,
            settings=settings,
            selection_split=selection_split,
            device=device,
            threads=threads,
            overwrite=overwrite,
            progress=reporter.progress,
        )
    lines = [f"Trained in {result.seconds:.0f} s on {counted(result.threads, 'thread')}.", *result.notes]
    lines.append(f"Weights: {result.weights}")
    reporter.finish(result.document(), lines)
