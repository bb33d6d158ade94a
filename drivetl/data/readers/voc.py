"""Pascal VOC: one XML file a picture, lists of pictures for the splits.

Source of the schema: the VOC2012 development kit documentation (Everingham and Winn). There the first pixel has the
coordinate 1 and xmax, ymax are inclusive, so the box in continuous pixels is (xmin - 1, ymin - 1, xmax, ymax).
Tools such as OpenLabeling, which DAWN was labelled with, count from 0 and write the drawn corners; there the numbers
are taken as they are. The card's ``box_origin`` says which; ``detect`` takes 0 when any coordinate is 0, because no
1-based file can hold that, and 1 otherwise.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Iterator
from pathlib import Path

from drivetl.data.labels import label_lines
from drivetl.data.pictures import picture_size_hw
from drivetl.data.readers.common import Reading, Request, first_folder, load_json, pictures_by_name, xyxy_from
from drivetl.data.readers.voc_xml import Node, parse_annotation
from drivetl.data.records import Box, IgnoreRegion, Sample, Xyxy
from drivetl.errors import DatasetError, quoted

__all__ = ["read"]

_SPLITS = ("train", "val", "test")
_PRESENCE = re.compile(r"\s+-?[01]$")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(request: Request) -> Reading:
    """Read annotations, split lists and groups. Objects marked ``difficult`` become regions to ignore.

    Raises:
        DatasetError: folders or files are missing, or an annotation does not fit the schema.
    """
    source = request.source
    annotations = first_folder(source, ("annotations", "Annotations"), "XML annotations")
    pictures = pictures_by_name(first_folder(source, ("images", "JPEGImages"), "pictures"), stem=True)
    xml_files = {path.stem: path for path in sorted(annotations.glob("*.xml"))}
    listed = _split_lists(source, xml_files)
    stems = dict.fromkeys(xml_files, "") if listed is None else listed
    groups = _groups(source / "groups.json")
    samples = [_sample(stem, split, xml_files, pictures, groups) for stem, split in stems.items()]
    reading = Reading([], len(samples))
    if listed is not None and (unlisted := len(xml_files.keys() - listed.keys())):
        reading.notes.append(f"{unlisted} annotated pictures stand in no split list and were left out.")
    origin = request.card.box_origin
    if origin == "detect":
        zero = any(value == 0 for sample in samples for xyxy in _all_xyxy(sample) for value in xyxy[:2])
        origin = "zero" if zero else "one"
        reason = "a coordinate is 0" if zero else "no coordinate is 0, as Pascal VOC defines it"
        reading.notes.append(f"Box coordinates are read as starting at {int(not zero)}, because {reason}.")
    reading.samples = samples if origin == "zero" else map(_from_one, samples)
    return reading


def _split_lists(source: Path, annotated: Container[str]) -> dict[str, str] | None:
    """Return the split of each listed picture, or None where there are no lists.

    A line is a name, which may hold spaces, or a name and whether a class is in the picture (1, -1), as in VOC.
    """
    folder = next(
        (f for f in (source, source / "ImageSets" / "Main") if any((f / f"{s}.txt").is_file() for s in _SPLITS)), None
    )
    if folder is None:
        return None
    split_of: dict[str, str] = {}
    for split in _SPLITS:
        path = folder / f"{split}.txt"
        for number, line in label_lines(path) if path.is_file() else ():
            stem = _stem(line.strip())
            if stem not in annotated:
                stem = _stem(_PRESENCE.sub("", line.strip()))
            if split_of.setdefault(stem, split) != split:
                raise DatasetError(
                    f"{quoted(path)}, line {number}: {quoted(stem)} is listed in {split_of[stem]}.txt too; keep one"
                )
    return split_of


def _stem(name: str) -> str:
    return Path(name).stem if Path(name).suffix.lower() in (".jpg", ".jpeg", ".png", ".xml") else name


def _groups(path: Path) -> dict[str, str]:
    """Return the group of each picture from a list of lists of file names that belong together."""
    if not path.is_file():
        return {}
    document = load_json(path)
    if not isinstance(document, list) or not all(
        isinstance(group, list) and all(isinstance(name, str) for name in group) for group in document
    ):
        raise DatasetError(f"{quoted(path)} must be a JSON list of lists of picture names")
    return {Path(name).stem: Path(group[0]).stem for group in document for name in group}


def _sample(
    stem: str, split: str, xml_files: dict[str, Path], pictures: dict[str, Path], groups: dict[str, str]
) -> Sample:
    if stem not in xml_files:
        raise DatasetError(f"the {split} list names {quoted(stem)}, but there is no annotation {quoted(stem + '.xml')}")
    path = xml_files[stem]
    if stem not in pictures:
        raise DatasetError(
            f"the annotation {quoted(path)} has no picture of the same name; restore it or remove the annotation"
        )
    root = parse_annotation(path)
    image = pictures[stem]
    size_hw = picture_size_hw(image)
    _check_size(root, size_hw, path)
    boxes: list[Box] = []
    ignore: list[IgnoreRegion] = []
    for node in root.all("object"):
        name, xyxy, attributes = _object(node, path)
        if attributes.pop("difficult"):
            ignore.append(IgnoreRegion(xyxy, name))
        else:
            boxes.append(Box(name, xyxy, attributes))
    return Sample(image, size_hw, split, groups.get(stem, ""), tuple(boxes), tuple(ignore))


def _check_size(root: Node, size_hw: tuple[int, int], path: Path) -> None:
    """Refuse an annotation made for another picture; some tools write 0, which says nothing."""
    size = root.first("size")
    if size is None:
        return
    said = (size.value("height"), size.value("width"))
    if said != (str(size_hw[0]), str(size_hw[1])) and "0" not in said and None not in said:
        raise DatasetError(
            f"{quoted(path)}, line {size.line}: it is for a picture of {said[1]} x {said[0]} pixels, but the picture "
            f"has {size_hw[1]} x {size_hw[0]}; boxes would not fit"
        )


def _object(node: Node, path: Path) -> tuple[str, Xyxy, dict[str, bool]]:
    where = f"{quoted(path)}, line {node.line}"
    name = node.value("name")
    # Direct children only: a person's <part> has a <bndbox> of its own.
    corners = node.first("bndbox")
    if not name or corners is None:
        raise DatasetError(f"{where}: the object has no {'name' if not name else 'bndbox'}; correct the annotation")
    xyxy = xyxy_from([corners.value(corner) for corner in _CORNERS], f"{quoted(path)}, line {corners.line}")
    flags = {key: node.value(key) == "1" for key in ("difficult", "truncated", "occluded")}
    return name, xyxy, flags


def _all_xyxy(sample: Sample) -> Iterator[Xyxy]:
    yield from (box.xyxy_px for box in sample.boxes)
    yield from (region.xyxy_px for region in sample.ignore)


def _from_one(sample: Sample) -> Sample:
    def shifted(xyxy: Xyxy) -> Xyxy:
        return xyxy[0] - 1, xyxy[1] - 1, xyxy[2], xyxy[3]

    return dataclasses.replace(
        sample,
        boxes=tuple(dataclasses.replace(box, xyxy_px=shifted(box.xyxy_px)) for box in sample.boxes),
        ignore=tuple(dataclasses.replace(region, xyxy_px=shifted(region.xyxy_px)) for region in sample.ignore),
    )
