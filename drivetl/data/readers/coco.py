"""COCO instances JSON: ``annotations/instances_<split>.json`` and folders of pictures.

Source of the schema: cocodataset.org, "Data format". ``bbox`` is [x, y, width, height] in continuous pixels from 0.
Category ids are not contiguous (80 classes, ids 1 to 90). ``iscrowd`` marks a region with many objects of a class.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivetl.data.pictures import picture_size_hw
from drivetl.data.readers.common import (
    Reading,
    Request,
    field_of,
    file_inside,
    finite,
    load_json,
    rows_of,
    standard_split,
    token_of,
    xyxy_from,
)
from drivetl.data.records import Box, IgnoreRegion, Sample
from drivetl.errors import DatasetError, quoted

__all__ = ["read"]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    split: str
    images: list[Mapping[str, Any]]
    annotations: dict[int | str, list[Mapping[str, Any]]]
    categories: dict[int | str, str]


def read(request: Request) -> Reading:
    """Read one JSON file, or all ``instances_*.json`` of a folder (Roboflow's ``*/_annotations.coco.json`` too).

    A lone file says nothing of splits where its name is that of none, such as CVAT's ``instances_default.json``.

    Raises:
        DatasetError: no JSON, fields missing, a picture missing, an id twice, or files that disagree about the classes.
    """
    files = [_load(path, split) for path, split in _json_files(request.source)]
    names = tuple(name for _, name in sorted(files[0].categories.items(), key=_by_id))
    for file in files[1:]:
        if file.categories != files[0].categories:
            raise DatasetError(
                f"{quoted(file.path)} has other categories than {quoted(files[0].path)}; import them apart"
            )
    unsplit = len(files) == 1 and not _is_split(files[0].split, request.split_names)
    samples = (
        replace(sample, split="") if unsplit else sample
        for file in files
        for sample in _samples(file, _top(request.source))
    )
    return Reading(samples, sum(len(file.images) for file in files), names, by_folder=True)


def _is_split(name: str, given: Collection[str]) -> bool:
    """Say whether a name is one that splits have, or that the user gives as one."""
    return name in given or name.startswith("minival") or standard_split(name) in ("train", "val", "test")


def _top(source: Path) -> Path:
    """Return the dataset's top folder: COCO's own label files lie in ``annotations/``, beside the pictures."""
    folder = source if source.is_dir() else source.absolute().parent
    return folder.parent if source.is_file() and folder.name == "annotations" else folder


def _by_id(category: tuple[int | str, str]) -> tuple[bool, int, str]:
    """Sort numbers as numbers; text ids, which COCO does not have, come after them."""
    identifier = category[0]
    return (False, identifier, "") if isinstance(identifier, int) else (True, 0, identifier)


def _json_files(source: Path) -> list[tuple[Path, str]]:
    if source.is_file():
        return [(source, source.stem.removeprefix("instances_") if source.stem.startswith("instances_") else "")]
    found = sorted([*source.glob("annotations/instances_*.json"), *source.glob("instances_*.json")])
    if found:
        return [(path, path.stem.removeprefix("instances_")) for path in found]
    found = sorted(source.glob("*/_annotations.coco.json"))
    if not found:
        raise DatasetError(
            f"{quoted(source)} has no annotations/instances_*.json; give the dataset's top folder or the JSON file"
        )
    return [(path, path.parent.name) for path in found]


def _load(path: Path, split: str) -> _File:
    document = load_json(path)
    where = quoted(path)
    rows = rows_of(document, "categories", where)
    names = (str(field_of(entry, "name", where)) for entry in rows)
    categories = dict(zip(_ids(rows, "categories", where), names, strict=True))
    by_image: dict[int | str, list[Mapping[str, Any]]] = defaultdict(list)
    for index, entry in enumerate(rows_of(document, "annotations", where)):
        category = token_of(entry, "category_id", f"{where}, annotation {index}")
        if category not in categories:
            raise DatasetError(f"{where}, annotation {index}: category_id {quoted(category)} is not in 'categories'")
        by_image[token_of(entry, "image_id", f"{where}, annotation {index}")].append(entry)
    images = rows_of(document, "images", where)
    strangers = by_image.keys() - set(_ids(images, "images", where))
    if strangers:
        raise DatasetError(
            f"{where}: annotations name the image_id {quoted(next(iter(strangers)))}, which is not in 'images'"
        )
    return _File(path, split, images, by_image, categories)


def _ids(rows: list[Mapping[str, Any]], key: str, where: str) -> list[int | str]:
    """Return the ids of a list. One that stands twice would give a picture the other's labels, or a box its class."""
    found = [token_of(entry, "id", where) for entry in rows]
    twice = [identifier for identifier, count in Counter(found).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{where}: the id {quoted(twice[0])} stands twice in {quoted(key)}, so a label could mean either; give "
            "each entry an id of its own"
        )
    return found


def _samples(file: _File, root: Path) -> Iterator[Sample]:
    for entry in file.images:
        where = f"{quoted(file.path)}, image {quoted(entry['id'])}"
        image = _picture(str(field_of(entry, "file_name", where)), file, root, where)
        size_hw = picture_size_hw(image)
        said = (entry.get("height"), entry.get("width"))
        if None not in said and said != size_hw:
            raise DatasetError(
                f"{where}: the file says {said[1]} x {said[0]} pixels, but {quoted(image)} has {size_hw[1]} x "
                f"{size_hw[0]}"
            )
        boxes: list[Box] = []
        ignore: list[IgnoreRegion] = []
        for annotation in file.annotations.get(entry["id"], []):
            at = f"{where}, annotation {quoted(annotation.get('id', '?'))}"
            left, top, width, height = xyxy_from(field_of(annotation, "bbox", at), at)
            xyxy = (left, top, left + width, top + height)
            name = file.categories[annotation["category_id"]]
            if finite(annotation.get("iscrowd", 0), at):
                ignore.append(IgnoreRegion(xyxy, name))
            else:
                boxes.append(Box(name, xyxy))
        yield Sample(image, size_hw, file.split, "", tuple(boxes), tuple(ignore))


def _picture(name: str, file: _File, root: Path, where: str) -> Path:
    """Return the picture in one of the usual places; a name that leads out of the dataset is refused."""
    inside = (file.split, f"images/{file.split}", "images", "")
    folders = [place / folder for place in (root, file.path.parent) for folder in inside]
    for folder in folders:
        if (path := file_inside(folder, name, where)) is not None:
            return path
    raise DatasetError(f"{where}: the picture {quoted(name)} is not in {', '.join(quoted(f) for f in folders[:3])}")
