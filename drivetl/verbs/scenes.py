"""``drivetl scenes``: rendered driving scenes, as a dataset or as the frames of a drive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetl.errors import ConfigError
from drivetl.verbs._console import JsonFlag, OverwriteFlag, Reporter
from drivetl.verbs._options import size_from

if TYPE_CHECKING:
    from drivetl.progress import Progress
    from drivetl.scenes import SceneSequence
    from drivetl.weather import WeatherClip

__all__ = ["register"]

_DRIVE_MARKER = "drive.json"
_JPEG_QUALITY = 93

scenes = typer.Typer(name="scenes", help="Rendered driving scenes with exact boxes and depth.", no_args_is_help=True)

PresetArgument = Annotated[str, typer.Argument(metavar="PRESET", help="source-city, target-city, or a YAML file.")]
SizeOption = Annotated[str, typer.Option("--size", help="Height x width of the pictures in pixels.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")]


def register(app: typer.Typer) -> None:
    """Add ``drivetl scenes`` and its verbs to the command line."""
    app.add_typer(scenes)


@scenes.command("render")
def render(
    preset: PresetArgument,
    out: Annotated[Path, typer.Option("--out", help="The dataset's folder.")],
    train: Annotated[int, typer.Option("--train", min=0, help="Scenes to train on.")] = 60,
    val: Annotated[int, typer.Option("--val", min=0, help="Scenes that choose the epoch.")] = 30,
    test: Annotated[int, typer.Option("--test", min=0, help="Scenes that are only reported.")] = 100,
    size: SizeOption = "540x960",
    depth: Annotated[bool, typer.Option("--depth", help="Also write the exact depth maps.")] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Render scenes of one environment as a labelled dataset.

    Example: drivetl scenes render target-city --out datasets/target --train 200 --test 100
    """
    from drivetl.scenes import load_preset, write_scenes_dataset

    reporter = Reporter("scenes render", json)
    counts = {name: count for name, count in (("train", train), ("val", val), ("test", test)) if count}
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
    per_class = dict.fromkeys(dataset.names, 0)
    for split in dataset.splits:
        for sample in dataset.samples(split):
            for box in sample.boxes:
                per_class[box.class_name] += 1
    document = {"out": str(out), "images": sum(counts.values()), "splits": counts, "boxes": sum(per_class.values())}
    boxes = ", ".join(f"{name} {count}" for name, count in per_class.items() if count)
    reporter.finish({**document, "per_class": per_class}, [f"{out}: {document['images']} scenes, boxes: {boxes}"])


@scenes.command("drive")
def drive(
    preset: PresetArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the frames, numbered JPEG files.")],
    frames: Annotated[int, typer.Option("--frames", min=1, help="How many.")] = 100,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=1000, help="Frames a second.")] = 10.0,
    size: SizeOption = "540x960",
    condition: Annotated[str | None, typer.Option("--condition", help="Weather, with the exact depth.")] = None,
    severity: Annotated[int, typer.Option("--severity", min=1, max=5, help="Of the weather.")] = 3,
    seed: SeedOption = 0,
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
    reporter.finish(document, [f"{out}: {frames} frames, {fps:g} a second"])


def _write_frames(sequence: SceneSequence, clip: WeatherClip | None, folder: Path, progress: Progress) -> None:
    import cv2

    from drivetl.progress import tracked

    for index, frame in enumerate(tracked(sequence, "rendering the drive", len(sequence), progress)):
        image = frame.image_bgr if clip is None else clip(frame.image_bgr, depth_m=frame.depth_m)
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (folder / f"{index:05d}.jpg").write_bytes(data.tobytes())


def _size(text: str) -> tuple[int, int]:
    size_hw = size_from(text) or (540, 960)
    if not all(64 <= side <= 4096 for side in size_hw):
        raise ConfigError(f"--size {size_hw[0]}x{size_hw[1]} must be 64 to 4096 pixels each way")
    return size_hw
