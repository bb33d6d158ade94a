"""Where a stranger's ``data.yaml`` says that its pictures lie: folders, and lists of paths."""

from __future__ import annotations

import os
from pathlib import Path

from drivetl.errors import DatasetError, quoted
from drivetl.files import read_limited

__all__ = ["exists", "listed_in", "place_of"]

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


def _refuse_impossible(path: Path, where: str) -> None:
    """Refuse what no file system can hold, here, where the line is known; every later look at it would fail."""
    encoded = os.fsencode(path)
    longest = max(len(name) for name in encoded.split(os.fsencode(os.sep)))
    if longest > _NAME_LIMIT_BYTES or len(encoded) > _PATH_LIMIT_BYTES or b"\0" in encoded:
        raise DatasetError(f"{where}: {quoted(path)} cannot be the path of a picture; correct the list")
