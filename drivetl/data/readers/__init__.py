"""One reader a format. Each takes a `Request` and gives a `Reading`; nothing else knows the formats."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from drivetl.data.readers import bdd100k, cityscapes, coco, kitti, nuimages, voc, yolo
from drivetl.data.readers.common import Reading, Request
from drivetl.errors import DatasetError, quoted

__all__ = ["READERS", "Reading", "Request", "reader_for"]

READERS: Mapping[str, Callable[[Request], Reading]] = MappingProxyType(
    {
        "kitti": kitti.read,
        "bdd100k": bdd100k.read,
        "nuimages": nuimages.read,
        "cityscapes": cityscapes.read,
        "coco": coco.read,
        "voc": voc.read,
        "yolo": yolo.read,
    }
)


def reader_for(name: str) -> Callable[[Request], Reading]:
    """Return the reader of a format.

    Raises:
        DatasetError: there is no such format; the message suggests the nearest.
    """
    if name not in READERS:
        close = difflib.get_close_matches(name.lower(), READERS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DatasetError(f"there is no format {quoted(name)}; {hint}Formats: {', '.join(READERS)}")
    return READERS[name]
