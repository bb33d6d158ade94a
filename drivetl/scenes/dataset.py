"""Write scenes as a dataset, drawn on several cores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from drivetl.cores import usable_cores
from drivetl.data.dataset import Dataset
from drivetl.data.layout import MARKER, Origin, write_dataset
from drivetl.data.records import Box, IgnoreRegion, Sample
from drivetl.errors import ConfigError, OutputError, quoted
from drivetl.files import refuse_existing_dir, writing
from drivetl.progress import Progress, silent, tracked
from drivetl.scenes.frame import SCENE_CLASSES, SceneFrame, SceneObject
from drivetl.scenes.presets import Preset
from drivetl.scenes.render import render_scene

__all__ = ["scene_seed", "write_scenes_dataset"]

_SCENES_A_PROCESS = 12

_Job = tuple[Preset, str, int, int, tuple[int, int], Path, bool]


def scene_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of one scene: another for every split and index, the same on every machine."""
    mixed = np.random.SeedSequence([seed, index, *split.encode()])
    return int(mixed.generate_state(1, np.uint32)[0])


def write_scenes_dataset(
    preset: Preset,
    out: Path,
    *,
    counts: Mapping[str, int],
    seed: int = 0,
    size_hw: tuple[int, int] = (540, 960),
    depth: bool = False,
    progress: Progress = silent,
    overwrite: bool = False,
) -> Dataset:
    """Render scenes and write them as a YOLO-layout dataset with their conditions, whole or not at all.

    Args:
        preset: the environment.
        out: the dataset's folder.
        counts: how many scenes each split gets, as ``{"train": 60, "val": 30}``.
        seed: every scene has its own seed, derived from this one, the split and its number.
        size_hw: height and width of the pictures.
        depth: also write ``depth/SPLIT/NAME.png``: 16 bits, centimetres, 65535 for the sky and beyond 655 m.
        progress: is told of every scene.
        overwrite: replace a dataset that stands at ``out``.

    Raises:
        ConfigError: no scene is asked for.
        OutputError: ``out`` exists and may not be replaced, or cannot be written; or a process was killed.
    """
    if not counts or any(count < 0 for count in counts.values()) or not sum(counts.values()):
        raise ConfigError(f"a dataset needs at least one scene; the counts are {quoted(dict(counts))}")
    refuse_existing_dir(out, marker=MARKER, overwrite=overwrite)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-scenes-", dir=out.parent) as name:
        folder = Path(name)
        jobs: list[_Job] = [
            (preset, split, index, scene_seed(seed, split, index), size_hw, folder, depth)
            for split, count in counts.items()
            for index in range(count)
        ]
        samples = list(tracked(_rendered(jobs), f"rendering {preset.name}", len(jobs), progress))
        return write_dataset(
            out,
            samples,
            SCENE_CLASSES,
            Origin("scenes", preset.name, "driving", ignored=sum(len(sample.ignore) for sample in samples)),
            link="copy",
            depth=folder / "depth" if depth else None,
            overwrite=overwrite,
        )


def _rendered(jobs: list[_Job]) -> Iterator[Sample]:
    # Starting a process takes about as long as a dozen scenes; the pictures do not depend on how many there are.
    count = min(len(jobs) // _SCENES_A_PROCESS, usable_cores())
    if count <= 1:
        yield from map(_render_one, jobs)
        return
    # spawn: OpenCV's and torch's threads do not survive a fork.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        try:
            yield from pool.map(_render_one, jobs, chunksize=4)
        except BrokenProcessPool as error:
            raise OutputError("a rendering process was killed, perhaps for want of memory; run it again") from error


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _render_one(job: _Job) -> Sample:
    preset, split, index, seed, size_hw, folder, with_depth = job
    frame = render_scene(preset, seed=seed, size_hw=size_hw)
    path = folder / f"{preset.name}-{split}-{index:05d}.jpg"
    quality = int(frame.attributes["jpeg_quality"])
    _, data = cv2.imencode(".jpg", frame.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    with writing(path):
        path.write_bytes(data.tobytes())
    if with_depth:
        _write_depth(frame, folder / "depth" / split / f"{path.stem}.png")
    return Sample(
        image=path,
        size_hw=size_hw,
        split=split,
        group=path.stem,
        boxes=tuple(Box(o.class_name, o.xyxy_px, _attributes(o)) for o in frame.objects),
        ignore=tuple(IgnoreRegion(o.xyxy_px, o.class_name) for o in frame.ignore),
        attributes=frame.attributes,
    )


def _attributes(thing: SceneObject) -> dict[str, float | int]:
    return {
        "occluded": round(thing.occluded, 4),
        "truncated": round(thing.truncated, 4),
        "track_id": thing.track_id,
        "depth_m": round(thing.depth_m, 2),
    }


def _write_depth(frame: SceneFrame, path: Path) -> None:
    centimetres = np.minimum(np.rint(frame.depth_m * 100), 65535).astype(np.uint16)
    _, data = cv2.imencode(".png", centimetres)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
