"""BDD100K detection labels of both vintages: the 2018 JSON and ``det_20``.

Source of the schema: doc.bdd100k.com, "Label format" (Scalabel). One list for all pictures, or one file a picture
(2018, with ``frames[0].objects``). Objects without ``box2d`` are drivable areas and lanes. ``box2d`` is read as
continuous pixel coordinates from 0. (Scalabel's own COCO converter adds a pixel to width and height.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drivetl.data.pictures import is_picture, picture_size_hw
from drivetl.data.readers.common import (
    Reading,
    Request,
    field_of,
    load_json,
    mapping_of,
    mappings,
    namesakes,
    only_one,
    rows_of,
    xyxy_from,
)
from drivetl.data.records import Attribute, Box, IgnoreRegion, Sample
from drivetl.errors import DatasetError, quoted

__all__ = ["read"]

# The names of 2018 -> the names since 2020, so that one card and one class list serve both vintages.
_RENAMED = {"person": "pedestrian", "bike": "bicycle", "motor": "motorcycle"}
_CONDITIONS = ("weather", "scene", "timeofday")
_SPLITS = ("train", "val", "test")


def read(request: Request) -> Reading:
    """Read all label files below ``labels/`` (or the one JSON file or the folder of JSON files that SOURCE is).

    Raises:
        DatasetError: no labels, a picture missing, or a label that does not fit the schema.
    """
    source = request.source
    folders = (source / "labels" / "det_20", source / "labels", source)
    folder = next((place for place in folders if place.is_dir()), source)
    label_files = [source] if source.is_file() else sorted(folder.rglob("*.json"))
    if not label_files:
        raise DatasetError(
            f"{quoted(source)} has no label JSON, as labels/det_20/det_train.json; give BDD100K's top folder"
        )
    root = _root(source)
    # images/100k and images/10k share names; `_meant` chooses where a label asks for one of them.
    pictures = namesakes(root)
    frames = _unique([(path, index, frame) for path in label_files for index, frame in _frames(path)])
    return Reading(_samples(frames, pictures, root), len(frames))


def _root(source: Path) -> Path:
    """Return the folder ``images/`` of the set that SOURCE is, or lies in, else the folder of SOURCE."""
    start = source.parent if source.is_file() else source
    places = (place / "images" for place in (start, *start.absolute().parents[:3]))
    return next((place for place in places if place.is_dir()), start)


def _frames(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    document = load_json(path)
    if isinstance(document, Mapping):
        # Scalabel wraps the list: {"frames": [...], "config": ...}. A 2018 file has a name and its own frames[0].
        document = [document] if "name" in document else field_of(document, "frames", quoted(path))
    return list(enumerate(mappings(document, quoted(path))))


def _unique(frames: list[tuple[Path, int, Mapping[str, Any]]]) -> list[tuple[Path, int, Mapping[str, Any]]]:
    """Refuse two label files for one picture: both vintages in one folder would double every box."""
    first: dict[str, Path] = {}
    for path, index, frame in frames:
        name = str(field_of(frame, "name", f"{quoted(path)}, frame {index}"))
        if name in first:
            raise DatasetError(
                f"{quoted(path)}: {quoted(name)} is labelled in {quoted(first[name])} too; give one vintage"
            )
        first[name] = path
    return frames


def _samples(
    frames: list[tuple[Path, int, Mapping[str, Any]]], pictures: Mapping[str, list[Path]], root: Path
) -> Iterator[Sample]:
    for path, index, frame in frames:
        where = f"{quoted(path)}, frame {index}"
        name = str(frame["name"])
        places = pictures.get(name if is_picture(Path(name)) else f"{name}.jpg")
        if places is None:
            raise DatasetError(f"{where}: the picture {quoted(name)} is not below {quoted(root)}; restore or unlist it")
        image = only_one(_meant(places, path, root), where)
        boxes: list[Box] = []
        ignore: list[IgnoreRegion] = []
        for label in _labels(frame, where):
            _sort(label, where, boxes, ignore)
        said = mapping_of(frame, "attributes", where)
        attributes: dict[str, Attribute] = {key: str(said[key]) for key in _CONDITIONS if key in said}
        group = str(frame.get("videoName") or "")
        yield Sample(image, picture_size_hw(image), _split(path, image), group, tuple(boxes), tuple(ignore), attributes)


def _labels(frame: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """Return the objects of a frame; a frame without any has no ``labels`` or null."""
    inner = rows_of(frame, "frames", where)
    return rows_of(inner[0], "objects", where) if inner else rows_of(frame, "labels", where)


def _sort(label: Mapping[str, Any], where: str, boxes: list[Box], ignore: list[IgnoreRegion]) -> None:
    at = f"{where}, label {quoted(label.get('id', '?'), 40)}"
    category = str(field_of(label, "category", at))
    if not label.get("box2d"):
        return
    corners = label["box2d"]
    xyxy = xyxy_from([field_of(corners, key, at) for key in ("x1", "y1", "x2", "y2")], at)
    name = _RENAMED.get(category, category)
    said = mapping_of(label, "attributes", at)
    if said.get("crowd"):
        ignore.append(IgnoreRegion(xyxy, name))
        return
    attributes: dict[str, Attribute] = {key: bool(said[key]) for key in ("occluded", "truncated") if key in said}
    colour = said.get("trafficLightColor")
    if isinstance(colour, str) and colour.lower() not in ("na", "none"):
        attributes["traffic_light_colour"] = colour
    boxes.append(Box(name, xyxy, attributes))


def _meant(places: list[Path], label_file: Path, root: Path) -> list[Path]:
    """Return those of several pictures of one name that a label can mean; `only_one` refuses what is left.

    Detection labels of both vintages are of ``images/100k``. The 10,000 pictures for segmentation share names with it.
    """
    of_100k = [place for place in places if "100k" in place.relative_to(root).parts[:-1]]
    places = of_100k or places
    named = _split_of_labels(label_file)
    return [place for place in places if place.parent.name == named] or places


def _split(label_file: Path, image: Path) -> str:
    """Return the split by the picture's folder, else by the label file."""
    return image.parent.name if image.parent.name in _SPLITS else _split_of_labels(label_file)


def _split_of_labels(label_file: Path) -> str:
    """Return the split that a label file's folder or name (``det_train.json``) tells, else nothing."""
    words = (label_file.parent.name, *label_file.stem.split("_"))
    return next((word for word in words if word in _SPLITS), "")
