"""``drivetl data shift`` and ``drivetl data select``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, Reporter
from drivetl.verbs._options import ImgszOption, size_from

if TYPE_CHECKING:
    from drivetl.evaluate.description import Described

__all__ = ["add_to"]

ModelOption = Annotated[str, typer.Option("--model", help="The checkpoint whose features are taken.")]
LimitOption = Annotated[int, typer.Option("--limit", min=8, help="Look at so many pictures of each at most.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Decides which pictures are drawn, and permutations.")]


def add_to(data: typer.Typer) -> None:
    """Add both verbs to ``drivetl data``."""
    data.command()(shift)
    data.command()(select)


def shift(
    source: Annotated[Path, typer.Argument(metavar="A", help="What the model knows: a dataset or a folder.")],
    target: Annotated[Path, typer.Argument(metavar="B", help="Where it is to work: a dataset or a folder.")],
    model: ModelOption = "yolo11n",
    split: Annotated[str | None, typer.Option("--split", help="Only this split of datasets; default: all.")] = None,
    imgsz: ImgszOption = "320",
    limit: LimitOption = 300,
    seed: SeedOption = 0,
    json: JsonFlag = False,
) -> None:
    """Say how far apart two datasets are for a detector, whether that could be chance, and what differs.

    Example: drivetl data shift datasets/kitti datasets/dawn --model yolo11n
    """
    from drivetl.evaluate.shift import domain_shift

    reporter = Reporter("data shift", json)
    with reporter.working():
        _check_split(split, source, target)
        sides = [
            _described(path, model, split, imgsz, (limit, seed), reporter, name)
            for path, name in ((source, "source"), (target, "target"))
        ]
        result = domain_shift(sides[0], sides[1], seed=seed)
    document = {"source": str(source), "target": str(target), "model": model, **result.document()}
    lines = [
        result.sentence(),
        f"Fréchet {result.frechet:.2f}, MMD² {result.mmd2:.4f}, p {result.p_value:.3f} over "
        f"{result.groups[0]} and {result.groups[1]} groups",
        f"{'figure':<12}  source  target  effect       p",
        *(
            f"{row.name:<12}  {row.source:>6.2f}  {row.target:>6.2f}  {row.effect:>+6.2f}  {row.p_value:>6.3f}"
            for row in result.differences
        ),
        *result.notes,
        f"farthest from the source: {', '.join(Path(path).name for path, _ in result.farthest)}",
    ]
    reporter.finish(document, lines)


def select(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help="Pictures to choose from: a dataset or a folder.")],
    budget: Annotated[int, typer.Option("--budget", min=1, help="How many pictures can be labelled.")],
    labelled: Annotated[
        Path | None, typer.Option("--labelled", help="A dataset that is labelled already; its like is not needed.")
    ] = None,
    model: ModelOption = "yolo11n",
    split: Annotated[str | None, typer.Option("--split", help="Only this split of datasets; default: all.")] = None,
    doubt: Annotated[
        float, typer.Option("--doubt", min=0, max=1, help="Weight of the model's doubt against diversity.")
    ] = 0.5,
    imgsz: ImgszOption = "320",
    limit: LimitOption = 1000,
    seed: SeedOption = 0,
    json: JsonFlag = False,
) -> None:
    """Pick what to label next: unlike what is labelled, unlike each other, and hard for the model.

    Example: drivetl data select footage --budget 50 --labelled datasets/kitti
    """
    from drivetl.evaluate.selection import select as pick

    reporter = Reporter("data select", json)
    with reporter.working():
        _check_split(split, pool, *([] if labelled is None else [labelled]))
        known = None
        if labelled is not None:
            known = _described(labelled, model, split, imgsz, (limit, seed), reporter, "labelled")
        of_pool = _described(pool, model, split, imgsz, (limit, seed), reporter, "pool", budget)
        picks = pick(of_pool, budget, labelled=known, weight=doubt)
    document = {
        "pool": str(pool),
        "model": model,
        "looked_at": len(of_pool.paths),
        "picks": [asdict(entry) for entry in picks],
    }
    if len(of_pool.paths) == limit:
        reporter.say(f"Chosen from {limit} pictures, drawn at random where there are more; --limit looks at more.")
    reporter.finish(document, [entry.picture for entry in picks])


def _check_split(split: str | None, *paths: Path) -> None:
    from drivetl.evaluate.description import is_plain_folder

    if split is not None and all(is_plain_folder(path) for path in paths):
        named = " and ".join(quoted(path) for path in paths)
        raise ConfigError(f"--split {quoted(split)} is for datasets, and {named} have none; leave it out")


def _described(
    path: Path,
    model: str,
    split: str | None,
    imgsz: str | None,
    drawn: tuple[int, int],
    reporter: Reporter,
    name: str,
    least: int = 0,
) -> Described:
    """Look at the pictures of a dataset or folder; ``drawn`` is how many at most, and the seed."""
    import numpy as np

    from drivetl.evaluate.description import describe, pictures_of
    from drivetl.evaluate.model import fitting_size
    from drivetl.yolo import TorchModel, resolve_weights

    samples = pictures_of(path, split, drawn[0], np.random.default_rng(drawn[1]))
    if len(samples) < least:
        raise ConfigError(
            f"{quoted(path)} gives {len(samples)} pictures to choose from, fewer than --budget {least}; lower --budget"
            + (f", or raise --limit above {drawn[0]}" if len(samples) == drawn[0] else "")
        )
    weights = resolve_weights(model)
    network = TorchModel(weights)
    size_hw = fitting_size(network, weights.name, size_from(imgsz))
    return describe(samples, network, size_hw=size_hw, label=f"look at the {name}", progress=reporter.progress)
