"""The labels of a split, as what is scored on them takes them: columns of boxes, pictures by name, what is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetl.data import Dataset, open_dataset
from drivetl.evaluate.boxes import Truth
from drivetl.evaluate.dimensions import Facts
from drivetl.evaluate.predictions import Picture, picture_of
from drivetl.evaluate.scoring import annotations_of
from drivetl.progress import Progress, silent, tracked

__all__ = ["Labels", "labels_of", "read_labels"]


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a split.

    Attributes:
        truth: boxes and ignore regions.
        pictures: in the dataset's order.
        facts: conditions of pictures and properties of boxes, in the order of ``truth``.
    """

    truth: Truth
    pictures: tuple[Picture, ...]
    facts: Facts


def read_labels(data: Path, split: str, progress: Progress = silent) -> Labels:
    """Read the labels of a split; no pixels.

    Raises:
        DatasetError: the dataset or split cannot be used.
    """
    return labels_of(open_dataset(data), split, progress)


def labels_of(dataset: Dataset, split: str, progress: Progress = silent) -> Labels:
    """Read the labels of a split of an open dataset; errors as in `read_labels`."""
    ids = {name: index for index, name in enumerate(dataset.names)}
    facts = Facts()
    pictures: list[Picture] = []
    samples = dataset.samples(split)
    total = dataset.splits[split]

    def annotations() -> Iterator[dict[str, Any]]:
        for number, sample in enumerate(tracked(samples, "read labels", total, progress)):
            pictures.append(picture_of(number, sample, dataset.root))
            found = list(annotations_of(sample, number, ids))
            facts.add(sample, len(found))
            yield from found

    truth = Truth.of(annotations(), total, len(ids))
    return Labels(truth, tuple(pictures), facts)
