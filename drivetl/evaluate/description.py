"""Pictures as a detector sees them: its own features, plain figures, and how unsure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivetl.data import open_dataset
from drivetl.data.grouping import content_groups
from drivetl.data.pictures import decode_picture, is_picture, picture_size_hw
from drivetl.data.records import Sample
from drivetl.errors import DatasetError, quoted
from drivetl.evaluate.picture_figures import picture_figures
from drivetl.files import files_below
from drivetl.progress import Progress, silent, tracked
from drivetl.runtime import Geometry, Letterbox, decode, to_tensor

if TYPE_CHECKING:
    from drivetl.yolo import TorchModel

__all__ = ["Described", "describe", "is_plain_folder", "pictures_of"]

_UNSURE_FROM = 0.1


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a set of pictures.

    Attributes:
        paths: of the pictures.
        groups: the group of each.
        features: float64 ``(n, channels)``: the head's input, averaged over each picture.
        figures: float64 ``(n, 7)``, see `drivetl.evaluate.picture_figures.FIGURES`.
        doubt: float64 ``(n,)`` in [0, 1]: mean of one minus confidence over the detections from 0.1 on; NaN for none.
    """

    paths: tuple[Path, ...]
    groups: tuple[str, ...]
    features: NDArray[np.float64]
    figures: NDArray[np.float64]
    doubt: NDArray[np.float64]


def is_plain_folder(path: Path) -> bool:
    """Say whether a path is a folder of pictures rather than a dataset: it has no splits."""
    return path.is_dir() and not any((path / name).is_file() for name in ("data.yaml", "data.yml"))


def pictures_of(path: Path, split: str | None, limit: int, rng: np.random.Generator) -> list[Sample]:
    """Return pictures of a dataset, or of a folder without labels, at most ``limit`` of them drawn at random.

    A folder says nothing of groups: there, near-identical pictures are one, such as neighbouring frames of a drive.

    Raises:
        DatasetError: there is none, or the split does not exist.
    """
    if is_plain_folder(path):
        found = [entry for entry in files_below(path) if is_picture(entry)]
        drawn = [found[index] for index in _drawn(len(found), path, limit, rng)]
        groups = content_groups(drawn, [str(entry) for entry in drawn])
        return [Sample(entry, picture_size_hw(entry), "", group) for entry, group in zip(drawn, groups, strict=True)]
    dataset = open_dataset(path)
    samples = [s for name in ([split] if split else dataset.splits) for s in dataset.samples(name)]
    return [samples[index] for index in _drawn(len(samples), path, limit, rng)]


def _drawn(count: int, path: Path, limit: int, rng: np.random.Generator) -> list[int]:
    """Return which of so many pictures are looked at, in their order."""
    if not count:
        raise DatasetError(f"{quoted(path)} has no pictures; give a dataset or a folder of pictures")
    return list(range(count)) if count <= limit else sorted(rng.choice(count, limit, replace=False).tolist())


def describe(
    samples: Sequence[Sample],
    model: TorchModel,
    *,
    size_hw: tuple[int, int],
    label: str = "look at pictures",
    progress: Progress = silent,
) -> Described:
    """Look at pictures with a model; one picture is in memory at a time.

    Args:
        samples: the pictures, with their boxes if there are any.
        model: whose features are taken.
        size_hw: of its input in pixels.
        label: what to call the work.
        progress: told after every picture.

    Raises:
        ImageError: a picture cannot be decoded.
    """
    letterbox = Letterbox(size_hw)
    features, figures, doubt = [], [], []
    for sample in tracked(samples, label, len(samples), progress):
        image = decode_picture(sample.image)
        letterboxed, geometry = letterbox(image)
        tensor = to_tensor(letterboxed)
        raw, levels = model.raw_and_features(tensor)
        features.append(np.concatenate([_averaged(level[0], geometry) for level in levels]))
        found = decode(raw, geometry, confidence=_UNSURE_FROM)
        doubt.append(1 - float(found.confidence.mean()) if len(found) else np.nan)
        figures.append(picture_figures(image, sample.boxes))
    return Described(
        tuple(sample.image for sample in samples),
        tuple(sample.group for sample in samples),
        np.array(features, dtype=np.float64),
        np.array(figures, dtype=np.float64),
        np.array(doubt, dtype=np.float64),
    )


def _averaged(level: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float64]:
    """Average a feature map over the picture alone: the grey around it would tell pictures apart by their shape."""
    spans = []
    for axis in range(2):
        cells = level.shape[1 + axis]
        per_px = cells / geometry.input_size_hw[axis]
        start = min(round(geometry.top_left_px[axis] * per_px), cells - 1)
        stop = round((geometry.top_left_px[axis] + geometry.resized_hw[axis]) * per_px)
        spans.append(slice(start, max(stop, start + 1)))
    average: NDArray[np.float64] = level[:, spans[0], spans[1]].mean(axis=(1, 2), dtype=np.float64)
    return average
