"""``drivetl select``: which model size fits hardware that one does not have yet."""

from __future__ import annotations

from typing import Annotated

import typer

from drivetl.verbs._console import JsonFlag, Reporter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("select")(select)


def select(
    profile: Annotated[str, typer.Option("--profile", help="Hardware profile: a shipped name, or a YAML file.")],
    budget_ms: Annotated[
        float | None, typer.Option("--budget-ms", min=0.001, help="For one inference; default: the profile's budget.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rank the YOLO11 and YOLO26 sizes by accuracy under a latency budget, from estimates.

    The estimates are of inference alone and were not measured on the device.

    Example: drivetl select --profile jetson-orin-nano --budget-ms 20
    """
    from drivetl.deploy import rank

    reporter = Reporter("select", as_json)
    with reporter.working():
        ranking = rank(profile, budget_ms, reporter.progress)
    first = ranking[0]
    lines = [
        f"{profile}, {first['precision']}, budget {first['budget_ms']:g} ms; estimates at 640x640, not measurements",
        f"{'model':<9} {'mAP50-95':>8} {'ms':>7}  {'error bar':<16} fits",
    ]
    for row in ranking:
        bar = f"{row['low_ms']:.1f} to {row['high_ms']:.1f}"
        lines.append(
            f"{row['model']:<9} {row['coco_map50_95']:>8.1f} {row['estimate_ms']:>7.1f}  {bar:<16} {row['fits']}"
        )
    reporter.finish({"profile": profile, "budget_ms": first["budget_ms"], "ranking": ranking}, lines)
