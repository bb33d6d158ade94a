"""``drivetl demo``: the whole story on rendered scenes, offline, on a CPU, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from drivetl.files import expanded
from drivetl.verbs._console import JsonFlag, Reporter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("demo")(demo)


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller pictures: two minutes at most.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the results; default: runs/demo, or runs/demo-quick.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key.path=value; overrides the recipe, configs/demo.yaml or demo_quick.yaml."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show the whole story: render a new city, adapt a COCO-pretrained YOLO to it, prove it in fog, ship it.

    Needs no dataset, network or GPU. Weights are yolo11n, or yolov3-tiny-coco where there is no yolo11n; 'drivetl
    weights get' fetches them. Run it again and it skips what is done and unchanged.

    Example: drivetl demo --quick
    """
    from drivetl.resources import resource_file
    from drivetl.verbs.run import carry_out_recipe

    reporter = Reporter("demo", json)
    name = "demo_quick" if quick else "demo"
    folder = expanded(out or Path("runs") / name.replace("_", "-")).absolute()
    carried = carry_out_recipe(resource_file("configs", name), settings or [], lambda plan: folder, reporter)
    results = carried.results
    document = {
        "weights": carried.weights,
        "fell_back": carried.fell_back,
        "zero_shot": _figures(results, "zero_shot"),
        "adapted": _figures(results, "adapted"),
        "bundle": str(folder / "bundle"),
        "video": str(folder / "video.mp4"),
        "page": str(folder / "page.html"),
        "stages": results,
    }
    reporter.finish(document, [*carried.summary(), "", f"Open {folder / 'page.html'} in a browser."])


def _figures(results: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the accuracy on clear scenes, and below ``weather`` that under the recipe's condition."""
    figures = dict(results[name])
    if f"{name}_weather" in results:
        figures["weather"] = {results["weather"]["condition"]: results[f"{name}_weather"]}
    return figures
