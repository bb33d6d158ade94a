"""Where a stranger's ``data.yaml`` says that its pictures lie, in folders and lists of paths, and where labels do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from drivetl.data.pictures import is_picture
from drivetl.errors import DatasetError, quoted
from drivetl.files import read_limited

__all__ = ["SPLITS", "VAL_ALIASES", "exists", "label_path", "listed_in", "places_of", "unread_keys", "without_repeats"]

SPLITS = ("train", "val", "test", "minival")
# The first is Ultralytics' own, the other is named after the folder that Roboflow writes.
VAL_ALIASES = ("validation", "valid")

# What else a YAML says of a dataset, for drivetl or for Ultralytics.
_KEYS = frozenset({"path", "names", "nc", "download", "kpt_shape", "flip_idx", "channels"})
# A key may name any folder, even the root of the system.
_MOST_FOLDERS = 100
_LIST_LIMIT_BYTES = 256 << 20
# Linux's limits; those of other systems are no wider.
_NAME_LIMIT_BYTES = 255
_PATH_LIMIT_BYTES = 4095


def places_of(document: Mapping[str, Any], split: str, yaml_path: Path) -> list[Path]:
    """Return the folders and list files of a split. They may lie anywhere: they are only read.

    Raises:
        DatasetError: one does not exist, or the system will not even look there.
    """
    base = str(document.get("path") or "")
    places = []
    for value in _values(document[split]):
        place = _place_of(yaml_path.parent / base, value)
        if not exists(place):
            raise DatasetError(
                f"{quoted(yaml_path)}: {quoted(split)} names {quoted(place)}, which does not exist; "
                f"{_remedy(base, value)}"
            )
        places.append(place)
    return places


def _values(value: object) -> list[str]:
    return [str(entry) for entry in (value if isinstance(value, list) else [value])]


def _place_of(base: Path, value: str) -> Path:
    """Return where a split lies; ``../train/images`` of a YAML that Roboflow wrote stands beside it, not above."""
    place = base / value
    if value.startswith("../") and not exists(place) and exists(base / value.removeprefix("../")):
        return base / value.removeprefix("../")
    return place


def _remedy(base: str, value: str) -> str:
    """Return what to do about a place that does not exist; Ultralytics looks below the current folder too."""
    here = Path(base).absolute()
    if base and exists(_place_of(here, value)):
        return f"'path' is taken from the folder of the YAML and not from the current one, so write {quoted(here)}"
    return "correct the path"


def unread_keys(document: Mapping[str, Any], splits: Iterable[str], yaml_path: Path) -> Iterator[str]:
    """Yield a clause, with a remedy, on every key that names pictures and is none of ``splits``, which are all read."""
    base = yaml_path.parent / str(document.get("path") or "")
    read = [document[split] for split in splits]
    for key, value in document.items():
        if key in _KEYS or key in SPLITS or value in read:
            continue
        entries = value if isinstance(value, list) else [value]
        if not any(isinstance(entry, str) and _names_pictures(base, entry) for entry in entries):
            continue
        close = difflib.get_close_matches(str(key).lower(), (*SPLITS, *VAL_ALIASES), n=1, cutoff=0.65)
        split = "val" if close and close[0] in VAL_ALIASES else "".join(close)
        if not split:
            remedy = f"rename it if it is one of {', '.join(SPLITS)}"
        elif document.get(split):
            remedy = f"list its value under {quoted(split)} if it belongs there"
        else:
            remedy = f"rename it to {quoted(split)} if it is that"
        yield f"the key {quoted(key)} of {quoted(yaml_path)} names pictures, but no split, and is not read; {remedy}"


def _names_pictures(base: Path, value: str) -> bool:
    """Whether a value names a list, or a folder with pictures that is not the whole dataset; it may be any text."""
    place = base / value
    try:
        if not place.is_dir():
            return place.suffix == ".txt" and place.is_file()
    except OSError:  # too long for a path
        return False
    if base.resolve().is_relative_to(place.resolve()):
        return False
    walked = islice(os.walk(place), _MOST_FOLDERS)
    return any(is_picture(Path(name)) for _, _, names in walked for name in names)


def exists(path: Path) -> bool:
    """Say whether a path exists.

    Raises:
        DatasetError: the system will not even look, because the path is too long or not allowed.
    """
    try:
        return path.exists()
    except OSError as error:
        raise DatasetError(f"cannot look for {quoted(path)}: {error.strerror or error}; correct the path") from error


def label_path(picture: Path) -> Path:
    """Return where the YOLO layout has the label file: the last folder ``images`` becomes ``labels``."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def listed_in(path: Path) -> list[Path]:
    """Return the pictures of a text file, one path a line, relative to the file as Ultralytics reads ``./``.

    Raises:
        DatasetError: it is no such file, or a line cannot be a path.
    """
    if not path.is_file():
        raise DatasetError(f"{quoted(path)} is neither a folder nor a text file that lists pictures; correct the path")
    try:
        lines = read_limited(path, _LIST_LIMIT_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{quoted(path)} cannot be read as a list of pictures in UTF-8: {quoted(error)}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if picture := line.strip():
            place = (path.parent / picture).absolute()
            _refuse_impossible(place, f"{quoted(path)}, line {number}")
            found.append(place)
    return found


def without_repeats(pictures: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Return the pictures, each once, and those that stood among them already, in their order.

    One path may be written in several ways, and lead through linked folders. Where the label is another, so is the
    picture; and a link to a picture is a picture.
    """
    real: dict[str, tuple[str, str]] = {}
    known: set[tuple[str, str, str]] = set()
    once: list[Path] = []
    again: list[Path] = []
    for picture in pictures:
        folder, name = os.path.split(picture)
        if folder not in real:
            real[folder] = os.path.realpath(folder), os.path.realpath(label_path(picture).parent)
        place = *real[folder], name
        (again if place in known else once).append(picture)
        known.add(place)
    return once, again


def _refuse_impossible(path: Path, where: str) -> None:
    """Refuse what no file system can hold, here, where the line is known; every later look at it would fail."""
    encoded = os.fsencode(path)
    longest = max(len(name) for name in encoded.split(os.fsencode(os.sep)))
    if longest > _NAME_LIMIT_BYTES or len(encoded) > _PATH_LIMIT_BYTES or b"\0" in encoded:
        raise DatasetError(f"{where}: {quoted(path)} cannot be the path of a picture; correct the list")
