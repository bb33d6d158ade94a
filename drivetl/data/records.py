"""What every reader gives and every stage takes: pictures with boxes, ignore regions and conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Attribute", "Box", "IgnoreRegion", "Sample", "Xyxy", "spread"]

Xyxy = tuple[float, float, float, float]
Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Box:
    """One labelled object.

    Attributes:
        class_name: a class of the dataset.
        xyxy_px: left, top, right, bottom in pixels of the picture, ``0 <= left < right <= width``. The coordinates
            are continuous: a box over the first pixel column only has left 0 and right 1.
        attributes: what the source says of the object, such as ``occluded`` and ``truncated``.
    """

    class_name: str
    xyxy_px: Xyxy
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IgnoreRegion:
    """A region whose content was not labelled: detections inside it are neither hits nor misses.

    Attributes:
        xyxy_px: as in `Box`.
        class_name: the class it holds for (a COCO crowd), or None for every class (KITTI's DontCare).
    """

    xyxy_px: Xyxy
    class_name: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with everything that is known about it.

    Attributes:
        image: path of the picture file.
        size_hw: height and width in pixels, as OpenCV decodes it (EXIF orientation applied).
        split: ``train``, ``val`` or ``test``.
        group: pictures of one group (a sequence, a set of near-identical frames) never stand on two sides of a split.
        boxes: the labelled objects.
        ignore: regions that count neither as hit nor as miss.
        attributes: conditions under BDD100K's names (``weather``, ``scene``, ``timeofday``) and others.
    """

    image: Path
    size_hw: tuple[int, int]
    split: str
    group: str
    boxes: tuple[Box, ...] = ()
    ignore: tuple[IgnoreRegion, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def spread(samples: Iterable[Sample], total: int, count: int) -> Iterator[Sample]:
    """Yield exactly ``count`` of ``total`` samples, at most as many as there are, evenly spread over their order."""
    count = min(count, total)
    return (
        sample for index, sample in enumerate(samples) if (index * count) // total != ((index - 1) * count) // total
    )
