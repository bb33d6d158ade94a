"""``drivetl weights``: published weights, the download and the list of what is here."""

from __future__ import annotations

from typing import Annotated

import typer

from drivetl.verbs._console import JsonFlag, Reporter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs ``weights get`` and ``weights list``."""
    group = typer.Typer(
        name="weights", help="Get published weights, or list what is on this machine.", no_args_is_help=True
    )
    group.command("get")(_get)
    group.command("list")(_list)
    app.add_typer(group)


def _get(
    name: Annotated[str, typer.Argument(help="For example yolo11n, yolov8s or yolo26m.")],
    accept_hash: Annotated[
        str | None, typer.Option("--accept-hash", metavar="SHA256", help="Take the file if it has this hash instead.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Download weights from Ultralytics' releases into drivetl's cache, and check their hash.

    An interrupted download continues where it stopped. $DRIVETL_CACHE moves the cache.

    Example: drivetl weights get yolo11n
    """
    from drivetl.yolo.weights import get_weights

    reporter = Reporter("weights get", json)
    with reporter.working():
        path, sha256 = get_weights(name, accept_sha256=accept_hash, progress=reporter.progress)
    reporter.finish(
        {"path": str(path), "sha256": sha256},
        [f"{path}", f"sha256 {sha256}", "Ultralytics publishes these weights under AGPL-3.0."],
    )


def _list(json: JsonFlag = False) -> None:
    """List published weights, and where they lie on this machine.

    Looked for in $DRIVETL_WEIGHTS and in drivetl's cache.

    Example: drivetl weights list
    """
    from drivetl.yolo.weights import list_weights

    found = list_weights()
    document = [
        {"name": w.name, "path": str(w.path) if w.path else None, "sha256_known": w.sha256_known} for w in found
    ]
    lines = [f"{w.name:<10}  {w.path or f'not here: drivetl weights get {w.name}'}" for w in found]
    Reporter("weights list", json).finish({"weights": document}, lines)
