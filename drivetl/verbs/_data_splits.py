"""``drivetl data split`` and ``drivetl data folds``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter

__all__ = ["DatasetArgument", "OutDataset", "add_splits"]

DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset folder, or a data.yaml.")]
OutDataset = Annotated[Path, typer.Option("--out", help="The new dataset folder.")]


def add_splits(data: typer.Typer) -> None:
    """Add both to ``drivetl data``."""
    data.command("split")(_split)
    data.command("folds")(_folds)


def _split(
    dataset: DatasetArgument,
    out: OutDataset,
    from_: Annotated[str, typer.Option("--from", help="The split to cut from.")] = "train",
    into: Annotated[str, typer.Option("--into", help="The new split; with --list it may exist.")] = "val",
    fraction: Annotated[float, typer.Option(help="Share of the pictures to move, 0 to 1.")] = 0.2,
    list_: Annotated[
        Path | None, typer.Option("--list", help="Move exactly the pictures that this file names, one a line.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which groups move.", min=0)] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Cut a new split out of another; sequences and near-identical pictures stay together.

    Example: drivetl data split datasets/dawn --from train --into val --fraction 0.2 --out datasets/dawn-split
    """
    from drivetl.data import move_listed, split_dataset

    reporter = Reporter("data split", json)
    with reporter.working():
        if list_ is not None:
            result = move_listed(
                dataset, out, list_, from_=from_, into=into, overwrite=overwrite, progress=reporter.progress
            )
        else:
            result = split_dataset(
                dataset,
                out,
                from_=from_,
                into=into,
                fraction=fraction,
                seed=seed,
                overwrite=overwrite,
                progress=reporter.progress,
            )
    document = {
        "dataset": str(out),
        "splits": result.splits,
        "fingerprint": result.fingerprint,
        "notes": list(result.notes),
    }
    counts = ", ".join(f"{name} {count}" for name, count in result.splits.items())
    reporter.finish(document, [_plain(line) for line in (f"{counts} → {out}", *result.notes)])


def _folds(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder that will hold fold0, fold1 and so on.")],
    folds: Annotated[int, typer.Option(help="How many folds.", min=2, max=100)] = 3,
    from_: Annotated[str, typer.Option("--from", help="The split whose pictures are dealt out.")] = "train",
    seed: Annotated[int, typer.Option(help="Decides which groups meet.", min=0)] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Write one dataset per fold for cross-validation: its pictures as test, all others as train.

    Sequences and near-identical pictures stay together, and every class is spread over the folds.

    Example: drivetl data folds datasets/dawn --folds 3 --out datasets/dawn-folds
    """
    from drivetl.data import fold_dataset

    reporter = Reporter("data folds", json)
    with reporter.working():
        results = fold_dataset(
            dataset, out, folds=folds, from_=from_, seed=seed, overwrite=overwrite, progress=reporter.progress
        )
    document = {
        "folds": [
            {"dataset": str(result.root), "splits": result.splits, "fingerprint": result.fingerprint}
            for result in results
        ],
        "notes": list(results[0].notes),
    }
    lines = [f"train {r.splits['train']}, test {r.splits['test']} → {r.root}" for r in results]
    lines += results[0].notes  # every fold is made from the same pictures
    reporter.finish(document, [_plain(line) for line in lines])


def _plain(text: str) -> str:
    from drivetl.data.text import plain

    return plain(text)
