"""``drivetl data``: import, check, merge, stats, get; more verbs are in ``_data_splits`` and ``_shift``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._data_splits import DatasetArgument, OutDataset, add_splits
from drivetl.verbs._shift import add_to
from drivetl.wording import counted

__all__ = ["register"]

_MOST_LINES = 50

CopyFlag = Annotated[bool, typer.Option("--copy", help="Copy the pictures; by default they are linked.")]

data = typer.Typer(
    name="data", help="Datasets: import, check, split, merge, count, compare and fetch them.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add ``drivetl data`` and its verbs to the command line."""
    add_splits(data)
    add_to(data)
    app.add_typer(data)


_Format = Annotated[
    str, typer.Argument(metavar="FORMAT", help="kitti, bdd100k, nuimages, cityscapes, coco, voc or yolo.")
]
_Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="The dataset's folder, as published.")]
_Card = Annotated[
    str | None,
    typer.Option(help="A card's name, or your edited copy of a file in datasets/. Default: FORMAT's own."),
]
_Classes = Annotated[str, typer.Option(help="driving maps to the taxonomy, native keeps the source's classes.")]
_Names = Annotated[
    str | None, typer.Option(help="YOLO without data.yaml: a file with one class a line, or a card such as coco.")
]
_SplitNames = Annotated[
    str | None, typer.Option(metavar="OLD=NEW,…", help="Rename the source's splits, as train=train,val=test.")
]
_Val = Annotated[float | None, typer.Option(help="Share for val where the source has no splits. Default: 0.2.")]
_Test = Annotated[float | None, typer.Option(help="Share for test where the source has no splits. Default: none.")]
_Seed = Annotated[int, typer.Option(help="Decides which pictures are drawn.", min=0)]


@data.command("import")
def import_(
    format: _Format,
    source: _Source,
    out: OutDataset,
    card: _Card = None,
    classes: _Classes = "driving",
    names: _Names = None,
    split_names: _SplitNames = None,
    val: _Val = None,
    test: _Test = None,
    seed: _Seed = 0,
    copy: CopyFlag = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Turn a published dataset's own files into a dataset that trains.

    Example: drivetl data import kitti ~/kitti --out datasets/kitti
    """
    from drivetl.data import import_dataset

    reporter = Reporter("data import", json)
    with reporter.working():
        result = import_dataset(
            format,
            source,
            out,
            card=card,
            classes=classes,
            names=names,
            split_names=_pairs(split_names),
            val=val,
            test=test,
            seed=seed,
            link="copy" if copy else "symlink",
            overwrite=overwrite,
            progress=reporter.progress,
        )
    document = {
        "dataset": str(result.path),
        "images": result.images,
        "boxes": result.boxes,
        "per_class": result.per_class,
        "ignored": result.ignored,
        "dropped": result.dropped,
        "splits": result.splits,
        "fingerprint": result.fingerprint,
        "notes": list(result.notes),
    }
    lines = [
        f"{counted(result.images, 'picture')}, {counted(result.boxes, 'box')}, "
        f"{counted(result.ignored, 'region')} to ignore → {result.path}",
        f"splits: {_counts(result.splits)}",
        f"boxes:  {_counts(result.per_class)}",
        *result.notes,
    ]
    reporter.finish(document, [_plain(line) for line in lines])


@data.command()
def check(dataset: DatasetArgument, json: JsonFlag = False) -> None:
    """Find what would spoil training; exits with 1 if there is anything.

    Example: drivetl data check datasets/kitti
    """
    from drivetl.data import check_dataset

    reporter = Reporter("data check", json)
    with reporter.working():
        report = check_dataset(dataset, reporter.progress)
    problems = [{"kind": p.kind, "file": p.file, "line": p.line, "message": p.message} for p in report.problems]
    found = counted(len(problems), "problem")
    document = {"ok": report.ok, "images": report.images, "problems": problems, "notes": list(report.notes)}
    lines = [
        f"{p.file}{'' if p.line is None else f':{p.line}'}: {p.kind}: {p.message}"
        for p in report.problems[:_MOST_LINES]
    ]
    if len(report.problems) > _MOST_LINES:
        lines.append(f"… and {len(report.problems) - _MOST_LINES} more; --json lists all")
    lines += [*report.notes, f"{counted(report.images, 'picture')} checked: {'ok' if report.ok else found}"]
    verdict = f"the dataset check found {found}"
    reporter.gate(document, [_plain(line) for line in lines], report.ok, verdict)


@data.command()
def merge(
    datasets: Annotated[list[Path], typer.Argument(metavar="DATASET…", help="Two or more datasets.")],
    out: OutDataset,
    names: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="What to call them. Default: folder names.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", help="Hold this one out: its val, else test, else all is the split held_out."),
    ] = None,
    copy: CopyFlag = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Put several environments into one dataset that remembers which picture came from where.

    Example: drivetl data merge datasets/kitti datasets/dawn --leave-out dawn --out datasets/both
    """
    from drivetl.data import merge_datasets

    reporter = Reporter("data merge", json)
    with reporter.working():
        result = merge_datasets(
            datasets,
            out,
            names=None if names is None else names.split(","),
            leave_out=leave_out or (),
            link="copy" if copy else "symlink",
            overwrite=overwrite,
            progress=reporter.progress,
        )
    splits = result.dataset.splits
    document = {
        "dataset": str(out),
        "splits": splits,
        "names": list(result.dataset.names),
        "fingerprint": result.dataset.fingerprint,
        "notes": list(result.notes),
    }
    reporter.finish(document, [_plain(line) for line in (f"{_counts(splits)} → {out}", *result.notes)])


@data.command()
def stats(
    dataset: DatasetArgument,
    out: Annotated[Path | None, typer.Option(help="Draw the histograms into this PNG, JPEG or WebP.")] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Count classes, sizes, conditions and box positions, and draw them.

    Example: drivetl data stats datasets/kitti --out kitti.png
    """
    import dataclasses

    from drivetl.data import dataset_stats, draw_stats
    from drivetl.sheet_file import check_sheet, save_sheet

    reporter = Reporter("data stats", json)
    if out is not None:
        check_sheet(out, overwrite=overwrite)
    with reporter.working():
        result = dataset_stats(dataset, reporter.progress)
    if out is not None:
        save_sheet(draw_stats(result), out, overwrite=overwrite)
    document = {**dataclasses.asdict(result), "file": None if out is None else str(out)}
    lines = [f"{counted(result.images, 'picture')} ({_counts(result.splits)}), {counted(result.boxes, 'box')}"]
    lines += [f"{name}: {_counts(counts)}" for name, counts in result.per_class.items()]
    lines.append(f"size in px: {_counts(result.sizes_px)}")
    lines += [f"{key}: {_counts(counts)}" for key, counts in result.conditions.items()]
    reporter.finish(document, [_plain(line) for line in lines])


@data.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A card's name, such as coco128, or a card file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for fetched datasets. Default: $DRIVETL_DATA, else ~/.cache/drivetl/data."),
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Fetch a dataset that allows it; for the others, say where to register.

    Example: drivetl data get coco128
    """
    import shlex

    from drivetl.data import data_cache, get_dataset, load_card

    reporter = Reporter("data get", json)
    card = load_card(name)
    with reporter.working():
        result = get_dataset(card, out or data_cache(), given=name, overwrite=overwrite, progress=reporter.progress)
    path = None if result.path is None else str(result.path)
    document = {
        "name": result.name,
        "path": path,
        "sha256": result.sha256,
        "page": result.page,
        "licence": card.licence,
    }
    if path is None:
        lines = [f"{card.title} wants a registration: {result.page}", f"licence: {card.licence}"]
    else:
        format, *options = result.import_options
        command = shlex.join(["drivetl", "data", "import", format, path, *options, "--out", "DATASET"])
        lines = [
            f"{path} (sha256 {result.sha256})",
            f"licence: {card.licence}",
            f"next: {command}",
        ]
    reporter.finish(document, [_plain(line) for line in lines])


def _pairs(text: str | None) -> dict[str, str] | None:
    from drivetl.errors import ConfigError, quoted

    if text is None:
        return None
    pairs = [part.split("=") for part in text.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise ConfigError(f"--split-names takes OLD=NEW,OLD=NEW, not {quoted(text)}")
    return dict(pairs)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _plain(text: str) -> str:
    from drivetl.data.text import plain

    return plain(text)
