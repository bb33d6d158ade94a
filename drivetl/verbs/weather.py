"""``drivetl weather``: preview conditions on a picture, put a dataset under one, time the kernels."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter

if TYPE_CHECKING:
    from drivetl.weather.benchmark import BenchmarkRow

__all__ = ["register"]

weather = typer.Typer(name="weather", help="Weather on pictures: preview it, apply it, time it.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``drivetl weather`` and its verbs to the command line."""
    app.add_typer(weather)


@weather.command("preview")
def preview(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A road picture.")],
    out: Annotated[Path, typer.Option("--out", help="The contact sheet: .png, .jpg or .webp.")],
    condition: Annotated[
        list[str] | None, typer.Option("--condition", help="Only this one; may be repeated. Default: all.")
    ] = None,
    severity: Annotated[
        list[int] | None, typer.Option("--severity", help="Only this one, 0 to 5; may be repeated. Default: 1 to 5.")
    ] = None,
    cell_width: Annotated[int, typer.Option("--cell-width", min=64, max=4096, help="Pixels across one cell.")] = 384,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides where drops, flakes and lamps are.")] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Draw a contact sheet of conditions and severities.

    Example: drivetl weather preview street.jpg --out weather.png --condition fog --condition rain
    """
    from drivetl.data.pictures import decode_picture
    from drivetl.sheet_file import check_sheet, save_sheet
    from drivetl.weather import CONDITIONS, SUITE, contact_sheet

    reporter = Reporter("weather preview", json)
    names, levels = tuple(condition or CONDITIONS), tuple(severity or (1, 2, 3, 4, 5))
    # Before the work, which takes minutes for a large picture.
    check_sheet(out, overwrite=overwrite)
    with reporter.working():
        sheet = contact_sheet(
            decode_picture(picture),
            conditions=names,
            severities=levels,
            seed=seed,
            cell_width_px=cell_width,
            progress=reporter.progress,
        )
        save_sheet(sheet, out, overwrite=overwrite)
    document = {
        "file": str(out),
        "suite": SUITE,
        "conditions": list(names),
        "severities": list(levels),
        "size_hw": list(sheet.shape[:2]),
    }
    reporter.finish(document, [f"{out}: {len(names)} conditions, severities {', '.join(map(str, levels))}"])


@weather.command("apply")
def apply(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset folder.")],
    out: Annotated[Path, typer.Option("--out", help="The new dataset's folder.")],
    condition: Annotated[str, typer.Option("--condition", help="For example fog.")],
    severity: Annotated[int, typer.Option("--severity", min=1, max=5, help="1 (light) to 5 (heavy).")] = 3,
    split: Annotated[str, typer.Option("--split", help="Which split to take.")] = "test",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Write one split of a dataset under a weather condition, without the others.

    Boxes stay. Fog, haze, rain and snow set the attribute ``weather``, night sets ``timeofday``; the rest stay.
    The exact depth of rendered scenes is used where it is there, elsewhere an estimate.

    Example: drivetl weather apply datasets/target --out datasets/target-fog --condition fog --severity 3
    """
    from drivetl.weather.dataset import weather_dataset

    reporter = Reporter("weather apply", json)
    with reporter.working():
        made = weather_dataset(
            dataset,
            out,
            split=split,
            condition=condition,
            severity=severity,
            seed=seed,
            overwrite=overwrite,
            progress=reporter.progress,
        )
    images = made.splits[split]
    document = {
        "out": str(out),
        "images": images,
        "split": split,
        "condition": condition,
        "severity": severity,
        "notes": list(made.notes),
    }
    reporter.finish(document, [f"{out}: {images} pictures of {split!r} under {condition} {severity}", *made.notes])


@weather.command("bench")
def bench(
    condition: Annotated[
        list[str] | None, typer.Option("--condition", help="Only this one; may be repeated. Default: all.")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=3, max=10000, help="Times each kernel runs.")] = 30,
    severity: Annotated[int, typer.Option("--severity", min=1, max=5, help="Severity that is timed.")] = 5,
    json: JsonFlag = False,
) -> None:
    """Time every kernel on one thread at 1280x720, beside Albumentations' nearest transform; a table, then JSON.

    Example: drivetl weather bench --repeats 100
    """
    from drivetl.weather import CONDITIONS
    from drivetl.weather.benchmark import time_kernels

    reporter = Reporter("weather bench", json)
    with reporter.measuring():
        rows = time_kernels(conditions=tuple(condition or CONDITIONS), repeats=repeats, severity=severity)
    document = _document(rows, repeats, severity)
    table = _table(rows)
    if json:
        for line in table:
            reporter.say(line)
    reporter.finish(document, [*table, json_module.dumps(document)])


def _document(rows: list[BenchmarkRow], repeats: int, severity: int) -> dict[str, Any]:
    import albumentations
    import cv2

    from drivetl.weather import SUITE

    return {
        "suite": SUITE,
        "size_hw": [720, 1280],
        "threads": 1,
        "repeats": repeats,
        "severity": severity,
        "versions": {"opencv": cv2.__version__, "albumentations": albumentations.__version__},
        "kernels": {row.name: _entry(row) for row in rows},
    }


def _entry(row: BenchmarkRow) -> dict[str, Any]:
    return {
        "median_ms": round(row.median_ms, 3),
        "p95_ms": round(row.p95_ms, 3),
        "fastest_ms": round(row.fastest_ms, 3),
        "budget_ms": row.budget_ms,
        "within_budget": row.median_ms <= row.budget_ms,
        "nearest": row.nearest,
        "nearest_median_ms": None if row.nearest_median_ms is None else round(row.nearest_median_ms, 3),
        "times_faster": None if row.times_faster is None else round(row.times_faster, 2),
    }


def _table(rows: list[BenchmarkRow]) -> list[str]:
    lines = [
        f"{'ms, one thread, 1280x720':<26}{'median':>8}{'p95':>8}{'fastest':>9}{'budget':>8}   Albumentations' nearest"
    ]
    for row in rows:
        line = f"{row.name:<26}{row.median_ms:>8.2f}{row.p95_ms:>8.2f}{row.fastest_ms:>9.2f}{row.budget_ms:>8.0f}"
        if row.times_faster is not None:
            line += f"   {row.nearest} {row.nearest_median_ms:.2f} ({row.times_faster:.1f} times as long)"
        lines.append(line)
    return lines
