"""``drivetl select``: which model size fits hardware that one does not have yet."""

from __future__ import annotations

from typing import Annotated

import typer

from drivetl.verbs._console import JsonFlag, Reporter

__all__ = ["register"]

_COVERED = {
    "inference": "inference alone",
    "end_to_end": "all from picture to detections, of which nothing but inference is estimated",
}


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("select")(select)


def select(
    profile: Annotated[str, typer.Option("--profile", help="Hardware profile: a shipped name, or a YAML file.")],
    budget_ms: Annotated[
        float | None,
        typer.Option("--budget-ms", min=0.001, help="For inference alone; default: the profile's, end to end."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rank the YOLO11 and YOLO26 sizes by accuracy under a latency budget, from estimates.

    The estimates are of inference alone and were not measured on the device. The profile's own budget is for all from
    picture to detections, so that without --budget-ms no size is said to fit for certain.

    Example: drivetl select --profile jetson-orin-nano --budget-ms 20
    """
    from drivetl.deploy import rank

    reporter = Reporter("select", as_json)
    with reporter.working():
        ranking = rank(profile, budget_ms, reporter.progress)
    first = ranking[0]
    lines = [
        f"{profile}, {first['precision']}, budget {first['budget_ms']:g} ms for {_COVERED[first['budget_covers']]}",
        "estimates of inference alone at 640x640, not measurements",
        f"{'model':<9} {'mAP50-95':>8} {'ms':>7}  {'error bar':<16} fits",
    ]
    for row in ranking:
        bar = f"{row['low_ms']:.1f} to {row['high_ms']:.1f}"
        lines.append(
            f"{row['model']:<9} {row['coco_map50_95']:>8.1f} {row['estimate_ms']:>7.1f}  {bar:<16} {row['fits']}"
        )
    budget = {"budget_ms": first["budget_ms"], "budget_covers": first["budget_covers"]}
    reporter.finish({"profile": profile, **budget, "estimate_covers": "inference", "ranking": ranking}, lines)
