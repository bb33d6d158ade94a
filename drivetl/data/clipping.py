"""Boxes cut to their pictures, and an account of what that changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drivetl.data.labels import clipped
from drivetl.data.records import Xyxy
from drivetl.errors import quoted

__all__ = ["Clipping", "clipping_notes"]

_CLIP_TOLERANCE_PX = 1e-3
# Detectors and weather compute in float32, which tells two edges this far apart up to a hundred thousand pixels from
# the corner; nearer ones may become one, and a box without area. No object is that thin.
_THINNEST_PX = 0.01


@dataclass(slots=True)
class Clipping:
    """Counts what does not fit while boxes are cut to their pictures.

    Attributes:
        clipped: boxes that left the picture.
        without_area: boxes of which less than a hundredth of a pixel a side is in it.
        first: the first picture with one of those.
    """

    clipped: int = 0
    without_area: int = 0
    first: Path | None = None

    def inside(self, xyxy_px: Xyxy, image: Path, size_hw: tuple[int, int]) -> Xyxy | None:
        """Return the part of a box that lies in its picture; None where that has no area."""
        result = clipped(xyxy_px, size_hw)
        if any(abs(a - b) > _CLIP_TOLERANCE_PX for a, b in zip(result, xyxy_px, strict=True)):
            self.clipped += 1
        if min(result[2] - result[0], result[3] - result[1]) < _THINNEST_PX:
            self.without_area += 1
            self.first = self.first or image
            return None
        return result


def clipping_notes(found: Iterable[Clipping], whose: str = "") -> list[str]:
    """Return sentences on what did not fit; ``whose`` follows the word boxes, as `` of 'datasets/mine'``."""
    parts = list(found)
    notes = []
    if count := sum(part.clipped for part in parts):
        notes.append(f"{count} boxes{whose} left the picture and were clipped to it.")
    if count := sum(part.without_area for part in parts):
        first = next(part.first for part in parts if part.first is not None)
        notes.append(f"{count} boxes{whose} without area in the picture were left out, the first in {quoted(first)}.")
    return notes
