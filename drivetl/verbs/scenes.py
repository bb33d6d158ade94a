"""``drivetl scenes``: render a labelled dataset, draw a contact sheet, time the renderer."""

from __future__ import annotations

import dataclasses
import json as json_module
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetl.errors import ConfigError, quoted
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._options import size_from
from drivetl.wording import counted

if TYPE_CHECKING:
    from drivetl.progress import Progress
    from drivetl.scenes import SceneSequence
    from drivetl.weather import WeatherClip

__all__ = ["register"]

_DRIVE_MARKER = "drive.json"
_JPEG_QUALITY = 93

scenes = typer.Typer(
    name="scenes",
    help="Rendered driving scenes with exact boxes and depth: make, show, time them.",
    no_args_is_help=True,
)

PresetArgument = Annotated[
    str, typer.Argument(metavar="PRESET", help="target-city, source-city, suburb-evening, industrial-dusk, or a YAML.")
]
SizeOption = Annotated[str, typer.Option("--size", help="Height x width of the pictures.")]


def register(app: typer.Typer) -> None:
    """Add ``drivetl scenes`` and its verbs to the command line."""
    app.add_typer(scenes)


def _size(text: str) -> tuple[int, int]:
    try:
        size_hw = size_from(text)
    except ConfigError:
        size_hw = None
    if size_hw is None:
        raise ConfigError(f"--size takes height x width, as 540x960, not {quoted(text)}")
    return size_hw


@scenes.command("render")
def render(
    preset: PresetArgument,
    out: Annotated[Path, typer.Option("--out", help="The new dataset folder.")],
    train: Annotated[int, typer.Option("--train", min=0, help="Scenes in the split train.")] = 60,
    val: Annotated[int, typer.Option("--val", min=0, help="Scenes in the split val.")] = 30,
    test: Annotated[int, typer.Option("--test", min=0, help="Scenes in the split test.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")] = 0,
    size: SizeOption = "540x960",
    depth: Annotated[bool, typer.Option("--depth", help="Also write depth maps: 16-bit PNG, centimetres.")] = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Render a dataset of one environment, in the YOLO layout that the other verbs take.

    Example: drivetl scenes render target-city --out datasets/target-city --train 200
    """
    from drivetl.scenes import load_preset, write_scenes_dataset

    reporter = Reporter("scenes render", json)
    counts = {split: count for split, count in (("train", train), ("val", val), ("test", test)) if count}
    with reporter.working():
        dataset = write_scenes_dataset(
            load_preset(preset),
            out,
            counts=counts,
            seed=seed,
            size_hw=_size(size),
            depth=depth,
            progress=reporter.progress,
            overwrite=overwrite,
        )
        per_class = Counter(
            box.class_name for split in dataset.splits for sample in dataset.samples(split) for box in sample.boxes
        )
    document = {
        "dataset": str(out),
        "preset": preset,
        "seed": seed,
        "splits": dataset.splits,
        "images": sum(dataset.splits.values()),
        "boxes": per_class.total(),
        "per_class": {name: per_class[name] for name in dataset.names},
        "fingerprint": dataset.fingerprint,
    }
    splits = ", ".join(f"{count} {split}" for split, count in dataset.splits.items())
    reporter.finish(document, [f"{out}: {splits}; {counted(per_class.total(), 'box')}"])


@scenes.command("sheet")
def sheet(
    out: Annotated[Path, typer.Option("--out", help="The contact sheet: .jpg, .png or .webp.")],
    preset: Annotated[
        list[str] | None, typer.Option("--preset", help="Only this one; may be repeated. Default: all take turns.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=200, help="How many scenes.")] = 12,
    columns: Annotated[int, typer.Option("--columns", min=1, max=20, help="Scenes in a row.")] = 3,
    cell_width: Annotated[int, typer.Option("--cell-width", min=64, max=1920, help="Pixels across one scene.")] = 480,
    boxes: Annotated[bool, typer.Option("--boxes/--no-boxes", help="Draw the labels.")] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first scene; the others count up.")] = 0,
    limit_kb: Annotated[int | None, typer.Option("--limit-kb", min=1, help="Largest size of the file in kB.")] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Draw a contact sheet of scenes with their boxes.

    Example: drivetl scenes sheet --out scenes.jpg --preset target-city
    """
    from drivetl.scenes import known_presets, load_preset
    from drivetl.scenes.sheet import contact_sheet
    from drivetl.sheet_file import check_sheet, save_sheet

    reporter = Reporter("scenes sheet", json)
    names = tuple(preset or known_presets())
    check_sheet(out, overwrite=overwrite)
    with reporter.working():
        picture = contact_sheet(
            [load_preset(name) for name in names],
            seed=seed,
            count=count,
            columns=columns,
            cell_width_px=cell_width,
            boxes=boxes,
            progress=reporter.progress,
        )
        save_sheet(picture, out, limit_bytes=None if limit_kb is None else 1000 * limit_kb, overwrite=overwrite)
    document = {"file": str(out), "presets": list(names), "count": count, "size_hw": list(picture.shape[:2])}
    reporter.finish(document, [f"{out}: {count} scenes of {', '.join(names)}"])


@scenes.command("bench")
def bench(
    preset: PresetArgument = "target-city",
    count: Annotated[int, typer.Option("--scenes", min=10, max=10000, help="How many scenes are timed.")] = 100,
    size: SizeOption = "540x960",
    json: JsonFlag = False,
) -> None:
    """Time the renderer on one thread; a table, then JSON.

    Example: drivetl scenes bench target-city --scenes 100
    """
    import cv2

    from drivetl.scenes import load_preset
    from drivetl.scenes.benchmark import time_scenes

    reporter = Reporter("scenes bench", json)
    size_hw = _size(size)
    with reporter.measuring():
        times = time_scenes(load_preset(preset), scenes=count, size_hw=size_hw)
    document = {
        "preset": preset,
        "size_hw": list(size_hw),
        "threads": 1,
        "opencv": cv2.__version__,
        **{key: round(value, 3) for key, value in dataclasses.asdict(times).items()},
    }
    lines = [
        f"{preset}, {size_hw[1]}x{size_hw[0]}, one thread, {count} scenes after {count} to warm up",
        f"one scene      median {times.median_ms:.1f} ms, p95 {times.p95_ms:.1f}, fastest {times.fastest_ms:.1f}",
        f"scenes         {times.scenes_per_s:.1f} a second ({times.cold_scenes_per_s:.1f} while warming up), "
        f"{times.scenes_per_cpu_s:.1f} a second of CPU time",
        f"a drive        {times.frames_per_s:.1f} frames a second",
    ]
    reporter.finish(document, [*lines, json_module.dumps(document)])


@scenes.command("drive")
def drive(
    preset: PresetArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the frames, numbered JPEG files.")],
    frames: Annotated[int, typer.Option("--frames", min=1, help="How many.")] = 100,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=1000, help="Frames a second.")] = 10.0,
    size: SizeOption = "540x960",
    condition: Annotated[str | None, typer.Option("--condition", help="Weather, with the exact depth.")] = None,
    severity: Annotated[int, typer.Option("--severity", min=1, max=5, help="Of the weather.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Render a drive through one environment, frame by frame; 'drivetl video' takes the folder.

    Example: drivetl scenes drive target-city --out runs/drive --frames 100 --condition fog
    """
    import numpy as np

    from drivetl.files import atomic_dir, json_bytes
    from drivetl.scenes import SceneSequence, load_preset
    from drivetl.weather import WeatherClip

    reporter = Reporter("scenes drive", json)
    # The drive must not be one of the scenes that were trained on, whose seeds come from other words.
    sequence = SceneSequence(load_preset(preset), seed=seed, frames=frames, fps=fps, size_hw=_size(size))
    clip = None
    if condition is not None:
        clip = WeatherClip(condition, severity, rng=np.random.default_rng(seed), fps=fps)
    document = {"out": str(out), "frames": frames, "fps": fps, "condition": condition}
    with reporter.working(), atomic_dir(out, marker=_DRIVE_MARKER, overwrite=overwrite) as folder:
        _write_frames(sequence, clip, folder, reporter.progress)
        (folder / _DRIVE_MARKER).write_bytes(json_bytes({"schema": 1, "preset": preset, "seed": seed, **document}))
    reporter.finish(document, [f"{out}: {counted(frames, 'frame')}, {fps:g} a second"])


def _write_frames(sequence: SceneSequence, clip: WeatherClip | None, folder: Path, progress: Progress) -> None:
    import cv2

    from drivetl.progress import tracked

    for index, frame in enumerate(tracked(sequence, "rendering the drive", len(sequence), progress)):
        image = frame.image_bgr if clip is None else clip(frame.image_bgr, depth_m=frame.depth_m)
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (folder / f"{index:05d}.jpg").write_bytes(data.tobytes())
