"""Where a stranger's ``data.yaml`` says that its pictures lie, in folders and lists of paths, and where labels do."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from drivetl.errors import DatasetError, quoted
from drivetl.files import read_limited

__all__ = ["exists", "label_path", "listed_in", "place_of", "without_repeats"]

_LIST_LIMIT_BYTES = 256 << 20
# Linux's limits; those of other systems are no wider.
_NAME_LIMIT_BYTES = 255
_PATH_LIMIT_BYTES = 4095


def place_of(base: Path, value: str) -> Path:
    """Return where a split lies; ``../train/images`` of a YAML that Roboflow wrote stands beside it, not above.

    Raises:
        DatasetError: the system will not even look there.
    """
    place = base / value
    if value.startswith("../") and not exists(place) and exists(base / value.removeprefix("../")):
        return base / value.removeprefix("../")
    return place


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
