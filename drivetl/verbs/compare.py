"""``drivetl compare``: is one model better than another, or can these pictures not tell?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._options import percent
from drivetl.wording import counted

if TYPE_CHECKING:
    from drivetl.evaluate.comparison import Comparison
    from drivetl.evaluate.side_by_side import SideBySide

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("compare")(compare)


def compare(
    data: Annotated[list[Path], typer.Option("--data", help="The dataset; given again for each further fold.")],
    before: Annotated[
        list[Path], typer.Option("--before", help="Predictions of the model to compare with; again for more seeds.")
    ],
    after: Annotated[
        list[Path], typer.Option("--after", help="Predictions of the model in question; again for more seeds.")
    ],
    min_boxes: Annotated[int, typer.Option("--min-boxes", min=1, help="Boxes a class of the headline needs.")] = 20,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Classes of the headline instead, such as car,bus.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Leave out all classes but these, such as those both models have.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the resampling.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Compare two models on the same pictures by paired bootstrap over groups: better, worse, or cannot tell.

    Predictions come from: drivetl evaluate MODEL --data DATASET --predictions FILE.json

    Example: drivetl compare --data datasets/fog --before zero-shot.json --after seed0.json --after seed1.json
    """
    from drivetl.evaluate.comparison import compare as run

    reporter = Reporter("compare", as_json)
    with reporter.working():
        chosen, kept = (
            None if text is None else [name.strip() for name in text.split(",")] for text in (classes, only)
        )
        result = run(
            data, before, after, min_boxes=min_boxes, classes=chosen, only=kept, seed=seed, progress=reporter.progress
        )
    reporter.finish(result.document(), _lines(result))


def _lines(result: Comparison) -> list[str]:
    pictures = sum(len(entry.groups) for entry in result.test_sets)
    groups = sum(len(set(entry.groups)) for entry in result.test_sets)
    rows = [("headline", result.headline), ("all classes", result.all_classes)]
    rows += sorted(result.per_class.items(), key=lambda row: -row[1].boxes)
    if result.pooled:
        rows += [("pooled headline", result.pooled["headline"]), ("pooled all", result.pooled["all_classes"])]
    width = max(len(name) for name, _ in rows)
    where = f"{len(result.test_sets)} test sets, " if len(result.test_sets) > 1 else ""
    lines = [
        f"{where}{counted(pictures, 'picture')} in {counted(groups, 'group')}; headline over "
        f"{', '.join(result.headline.classes)}",
        f"{'mAP50-95':<{width}}  boxes  before  after  difference   95 % interval        p  verdict",
        *(_row(name, entry, width) for name, entry in rows),
    ]
    for side in ("before", "after"):
        values = (result.headline.seeds or {}).get(side)
        spread = (result.headline.spread or {}).get(side)
        if values and spread is not None:
            figures = ", ".join(percent(value) for value in values)
            lines.append(f"seeds {side}: {figures} (standard deviation {spread:.3f})")
    return [*lines, *result.notes]


def _row(name: str, entry: SideBySide, width: int) -> str:
    figure = entry.map50_95
    difference = f"{figure.difference:+.3f}" if figure.difference is not None else "–"
    interval = f"{figure.interval.low:+.3f} to {figure.interval.high:+.3f}" if figure.interval else "–"
    chance = "–" if figure.p_value is None else f"{figure.p_value:.3f}"
    return (
        f"{name:<{width}}  {entry.boxes:>5}  {percent(figure.before):>6}  {percent(figure.after):>5}  {difference:>10}"
        f"  {interval:>16}  {chance:>6}  {figure.verdict}"
    )
