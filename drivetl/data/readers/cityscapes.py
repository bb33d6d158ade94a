"""Cityscapes: ``gtFine/<split>/<city>/*_gtFine_polygons.json`` and ``leftImg8bit/<split>/<city>/*_leftImg8bit.png``.

Source of the schema: cityscapesScripts, helpers/annotation.py and helpers/labels.py. A box is the extent of an
instance's polygon, whose points may lie outside the picture. A label with "group" at its end (``cargroup``) covers
instances that could not be told apart; it becomes a region to ignore for its class, as in the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivetl.data.pictures import picture_size_hw
from drivetl.data.readers.common import Reading, Request, field_of, finite, load_json, rows_of
from drivetl.data.records import Box, IgnoreRegion, Sample, Xyxy
from drivetl.errors import DatasetError, quoted

__all__ = ["read"]

_LABEL_ENDING = "_gtFine_polygons.json"
_PICTURE_ENDING = "_leftImg8bit.png"
# Surfaces and void labels: no objects to detect, so no card needs to list them.
_STUFF = frozenset(
    {
        "unlabeled",
        "ego vehicle",
        "rectification border",
        "out of roi",
        "static",
        "dynamic",
        "ground",
        "road",
        "sidewalk",
        "parking",
        "rail track",
        "building",
        "wall",
        "fence",
        "guard rail",
        "bridge",
        "tunnel",
        "pole",
        "polegroup",
        "vegetation",
        "terrain",
        "sky",
        "license plate",
    }
)


def read(request: Request) -> Reading:
    """Read ``train`` and ``val``. Pictures of one recorded sequence of a city form a group.

    Raises:
        DatasetError: folders or pictures are missing, or an annotation does not fit the schema.
    """
    root = request.source / "gtFine"
    label_files = sorted(root.glob(f"*/*/*{_LABEL_ENDING}"))
    labelled = [path for path in label_files if path.parent.parent.name != "test"]
    if not labelled:
        raise DatasetError(
            f"{quoted(request.source)} has no gtFine/<split>/<city>/*{_LABEL_ENDING}; give Cityscapes' top folder"
        )
    reading = Reading((_sample(path, request.source) for path in labelled), len(labelled))
    if len(labelled) < len(label_files):
        reading.notes.append("The test split was left out: its published labels are placeholders.")
    return reading


def _sample(path: Path, source: Path) -> Sample:
    split, city = path.parent.parent.name, path.parent.name
    frame = path.name.removesuffix(_LABEL_ENDING)
    image = source / "leftImg8bit" / split / city / f"{frame}{_PICTURE_ENDING}"
    if not image.is_file():
        raise DatasetError(f"the annotation {quoted(path)} has no picture {quoted(image)}; restore it")
    size_hw = picture_size_hw(image)
    document = load_json(path)
    said = tuple(field_of(document, key, quoted(path)) for key in ("imgHeight", "imgWidth"))
    if said != size_hw:
        raise DatasetError(
            f"{quoted(path)} is for a picture of {said[1]} x {said[0]} pixels, but it has {size_hw[1]} x {size_hw[0]}"
        )
    boxes: list[Box] = []
    ignore: list[IgnoreRegion] = []
    for label, xyxy in _objects(document, path):
        if label.endswith("group"):
            ignore.append(IgnoreRegion(xyxy, label.removesuffix("group")))
        else:
            boxes.append(Box(label, xyxy))
    sequence = "_".join(frame.split("_")[:2])
    return Sample(image, size_hw, split, sequence, tuple(boxes), tuple(ignore), {"city": city})


def _objects(document: Any, path: Path) -> Iterator[tuple[str, Xyxy]]:
    for index, entry in enumerate(rows_of(document, "objects", quoted(path))):
        where = f"{quoted(path)}, object {index}"
        label = str(field_of(entry, "label", where))
        # The labelling tool keeps what was deleted, marked so.
        if label not in _STUFF and not entry.get("deleted"):
            yield label, _extent(field_of(entry, "polygon", where), where)


def _extent(polygon: Any, where: str) -> Xyxy:
    if (
        not isinstance(polygon, list)
        or len(polygon) < 3
        or not all(isinstance(p, list) and len(p) == 2 for p in polygon)
    ):
        raise DatasetError(f"{where}: the polygon needs at least three points [x, y]; correct the annotation")
    xs = [finite(point[0], where) for point in polygon]
    ys = [finite(point[1], where) for point in polygon]
    return min(xs), min(ys), max(xs), max(ys)
