"""A dataset under one kind of weather: the same pictures and boxes, with the depth that the dataset brings."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.data.dataset import Dataset, open_dataset
from drivetl.data.layout import MARKER, origin_of, refuse_nesting, write_dataset
from drivetl.data.pictures import decode_picture
from drivetl.data.records import Attribute, Sample
from drivetl.errors import DatasetError, ImageError, quoted
from drivetl.files import refuse_existing_dir, writing
from drivetl.progress import Progress, silent, tracked
from drivetl.weather.camera import JPEG_LIMIT_PX
from drivetl.weather.checks import require_severity
from drivetl.weather.conditions import apply_weather, find_condition

__all__ = ["read_depth", "weather_dataset"]

_JPEG_QUALITY = 95
_NO_DEPTH = 65535
_CENTIMETRES = 100.0
# What BDD100K's attributes call it.
_BDD100K = {
    "fog": ("weather", "foggy"),
    "haze": ("weather", "foggy"),
    "rain": ("weather", "rainy"),
    "snow": ("weather", "snowy"),
    "night": ("timeofday", "night"),
}


def weather_dataset(
    source: Path,
    out: Path,
    *,
    split: str,
    condition: str,
    severity: int,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """Write one split of a dataset under a weather condition, whole or not at all.

    Where a dataset that drivetl made has exact depth (``depth/SPLIT/NAME.png``, as
    `drivetl.scenes.write_scenes_dataset` writes it), it is used; elsewhere the depth prior. What is returned has the
    notes of the dataset, and one on a folder ``depth`` that is not used.

    Args:
        source: the dataset.
        out: the new dataset's folder; it has the one split.
        split: which split.
        condition: a key of `drivetl.weather.CONDITIONS`.
        severity: 1 to 5.
        seed: every picture draws from it and its number.
        overwrite: replace a dataset that stands at ``out``.
        progress: told of every picture.

    Raises:
        ConfigError: an unknown condition or severity.
        DatasetError: the dataset, the split or a depth map cannot be used.
        ImageError: a picture cannot be decoded or is too large for a JPEG, or its boxes cannot be used.
        OutputError: ``out`` exists and may not be replaced, is the dataset itself or nested with it, or cannot be
            written.
    """
    find_condition(condition)
    require_severity(severity)
    dataset = open_dataset(source)
    refuse_nesting(dataset.root, out)
    samples = list(dataset.samples(split))
    _refuse_large(samples)
    refuse_existing_dir(out, marker=MARKER, overwrite=overwrite)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    marks = _marks(condition, severity)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name:
        weathered = []
        for index, sample in enumerate(tracked(samples, f"{condition} {severity}", len(samples), progress)):
            rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
            picture = _in_weather(dataset.root, sample, condition, severity, rng)
            path = Path(name) / f"{index:06d}-{sample.image.stem}.jpg"
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            with writing(out):
                path.write_bytes(data.tobytes())
            weathered.append(dataclasses.replace(sample, image=path, attributes={**sample.attributes, **marks}))
        origin = origin_of(dataset, weathered)
        made = write_dataset(out, weathered, dataset.names, origin, link="copy", overwrite=overwrite, progress=progress)
        return Dataset(made.yaml_path, (*dataset.notes, *_unused_depth(dataset.root, condition)))


def _refuse_large(samples: Iterable[Sample]) -> None:
    """Refuse what no JPEG holds before the work, not at the picture where it ends."""
    for sample in samples:
        height, width = sample.size_hw
        if max(height, width) > JPEG_LIMIT_PX:
            raise ImageError(
                f"{quoted(sample.image)} is {width}x{height}; JPEG, as which it would be written, allows "
                f"{JPEG_LIMIT_PX} pixels a side, so crop it or leave it out"
            )


def _unused_depth(root: Path, condition: str) -> list[str]:
    """Return a note on a stranger's folder ``depth`` where the condition would have used it."""
    folder = root / "depth"
    if "depth_m" not in find_condition(condition).wants or not folder.is_dir() or (root / MARKER).is_file():
        return []
    return [
        f"{quoted(folder)} is not used, because drivetl did not make the dataset and the unit of its depth is unknown; "
        "depth is estimated."
    ]


def _in_weather(
    root: Path, sample: Sample, condition: str, severity: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a picture of the dataset in ``root`` in weather; an error says which picture it is."""
    image = decode_picture(sample.image)
    depth_m = read_depth(root, sample) if "depth_m" in find_condition(condition).wants else None
    boxes = np.array([box.xyxy_px for box in sample.boxes], np.float32).reshape(-1, 4)
    try:
        return apply_weather(image, condition, severity, rng=rng, depth_m=depth_m, boxes_xyxy_px=boxes)
    except ImageError as error:
        raise ImageError(f"{quoted(sample.image)}: {error}") from error


def _marks(condition: str, severity: int) -> dict[str, Attribute]:
    marks: dict[str, Attribute] = {"condition": condition, "severity": severity}
    if condition in _BDD100K:
        name, value = _BDD100K[condition]
        marks[name] = value
    return marks


def read_depth(root: Path, sample: Sample) -> NDArray[np.float32] | None:
    """Return the depth of a picture in metres, float32 (height, width), infinite in the sky; None if it has none.

    It is measured along the optical axis, as stereo cameras and renderers give it, in uint16 centimetres. That holds
    only where drivetl made the dataset in ``root``; a stranger's map may be in any unit, and is none.

    Raises:
        DatasetError: the depth map is damaged, of another size than the picture, or has places without a distance.
    """
    path = root / "depth" / sample.split / f"{sample.image.stem}.png"
    if not path.is_file() or not (root / MARKER).is_file():
        return None
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DatasetError(f"cannot read {quoted(path)}: {error.strerror or error}; make it readable") from error
    centimetres = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if centimetres is None or centimetres.dtype != np.uint16 or centimetres.shape != sample.size_hw:
        raise DatasetError(f"{quoted(path)} is no depth map of {sample.size_hw[1]}x{sample.size_hw[0]} pixels")
    if not centimetres.all():
        raise DatasetError(
            f"{quoted(path)} holds 0 at {np.count_nonzero(centimetres == 0)} pixels; fill them, or remove the map to "
            "have the depth estimated"
        )
    depth_m = centimetres.astype(np.float32) / np.float32(_CENTIMETRES)
    depth_m[centimetres == _NO_DEPTH] = np.inf
    return depth_m
