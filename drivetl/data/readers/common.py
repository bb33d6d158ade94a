"""What the readers share: the form of a reading, JSON with good errors, numbers, and pictures by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivetl.data.cards import DatasetCard
from drivetl.data.pictures import is_picture
from drivetl.data.records import Sample, Xyxy
from drivetl.errors import DatasetError, quoted
from drivetl.files import files_below

__all__ = [
    "Reading",
    "Request",
    "field_of",
    "file_inside",
    "finite",
    "first_folder",
    "load_json",
    "mapping_of",
    "mappings",
    "namesakes",
    "only_one",
    "pictures_by_name",
    "rows_of",
    "standard_split",
    "token_of",
    "xyxy_from",
]

_STANDARD_SPLITS = (("train", "train"), ("valid", "val"), ("val", "val"), ("test", "test"))


@dataclass(frozen=True, slots=True)
class Request:
    """What a reader is asked for: the dataset's folder (or file), its card, and names of classes and splits by hand."""

    source: Path
    card: DatasetCard
    names: tuple[str, ...] | None = None
    split_names: frozenset[str] = frozenset()


@dataclass(slots=True)
class Reading:
    """What a reader found.

    Attributes:
        samples: pictures with native class names. Boxes are as the source has them and may leave the picture.
            An empty ``split`` or ``group`` means that the source does not say.
        total: how many samples will come.
        class_names: native names in the order of the source's ids, or None where it has no order.
        by_folder: whether a folder of pictures may be one recording; see `drivetl.data.recordings`.
        unlabelled: whether these are pictures alone, which is no fault: nobody has labelled them yet.
        notes: sentences for the user; complete once ``samples`` is used up.
    """

    samples: Iterable[Sample]
    total: int
    class_names: tuple[str, ...] | None = None
    by_folder: bool = False
    unlabelled: bool = False
    notes: list[str] = field(default_factory=list)


def standard_split(name: str) -> str:
    """Return ``train``, ``val`` or ``test`` for a name that begins so (``train2017``, ``valid``), else the name."""
    lowered = name.lower()
    return next((standard for start, standard in _STANDARD_SPLITS if lowered.startswith(start)), name)


def first_folder(source: Path, choices: Sequence[str], what: str) -> Path:
    """Return the first of ``choices`` that is a folder inside ``source``.

    Raises:
        DatasetError: none is.
    """
    for choice in choices:
        if (source / choice).is_dir():
            return source / choice
    raise DatasetError(
        f"{quoted(source)} has no folder {' or '.join(quoted(c + '/') for c in choices)} with {what}; "
        "give the dataset's top folder"
    )


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DatasetError: it cannot be read, or is not JSON; the message gives the line.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"cannot read {quoted(path)}: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{quoted(path)}, line {error.lineno}: not JSON ({error.msg}); fetch the file again"
        ) from error
    except (ValueError, RecursionError) as error:  # other bytes than UTF-8, or a number of thousands of digits
        raise DatasetError(
            f"{quoted(path)} is not JSON that drivetl reads ({quoted(error)}); fetch the file again"
        ) from error


def field_of(record: Any, key: str, where: str) -> Any:
    """Return ``record[key]``.

    Raises:
        DatasetError: the record is no mapping or lacks the key.
    """
    if not isinstance(record, Mapping) or key not in record:
        raise DatasetError(f"{where}: the field {quoted(key)} is missing; is this the right format?")
    return record[key]


def rows_of(record: Any, key: str, where: str) -> list[Mapping[str, Any]]:
    """Return ``record[key]`` as a list of mappings; absent or null gives an empty list.

    Raises:
        DatasetError: it is something else.
    """
    return mappings(record.get(key) if isinstance(record, Mapping) else record, f"{where}, {quoted(key)}")


def mappings(value: Any, where: str) -> list[Mapping[str, Any]]:
    """Return a list of mappings; null gives an empty one.

    Raises:
        DatasetError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise DatasetError(f"{where}: a list of records is expected here; is this the right format?")
    return value


def mapping_of(record: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Return ``record[key]`` as a mapping; absent or null gives an empty one.

    Raises:
        DatasetError: it is something else.
    """
    value = record.get(key) or {}
    if not isinstance(value, Mapping):
        raise DatasetError(f"{where}: the field {quoted(key)} is {quoted(value, 40)}, not a record; correct the label")
    return value


def token_of(record: Any, key: str, where: str) -> int | str:
    """Return an identifier: ``record[key]``, a whole number or a text.

    Raises:
        DatasetError: it is missing or something else.
    """
    value = field_of(record, key, where)
    if not isinstance(value, int | str):
        raise DatasetError(f"{where}: the field {quoted(key)} is {quoted(value, 40)}, not a number or text")
    return value


def finite(value: Any, where: str) -> float:
    """Return a number as float.

    Raises:
        DatasetError: it is no number, NaN, infinite or larger than a float can be.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DatasetError(f"{where}: {quoted(value, 40)} is not a finite number; correct the label")
    return number


def xyxy_from(values: Sequence[Any], where: str) -> Xyxy:
    """Return four numbers as a box.

    Raises:
        DatasetError: there are not four finite numbers.
    """
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 4:
        raise DatasetError(f"{where}: {quoted(values, 60)} is not a box of four numbers; correct the label")
    left, top, right, bottom = (finite(value, where) for value in values)
    return left, top, right, bottom


def file_inside(folder: Path, name: str, where: str) -> Path | None:
    """Return the file ``name`` of ``folder``, or None where there is none; every name out of a label file goes here.

    Raises:
        DatasetError: the name leads out of the folder, or is none that a system can look for.
    """
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise DatasetError(
            f"{where}: the picture {quoted(name)} lies outside the dataset; give its path from the dataset's top folder"
        )
    path = folder / relative
    try:
        return path if path.is_file() else None
    except OSError as error:
        raise DatasetError(
            f"{where}: cannot look for the picture {quoted(name)}: {error.strerror or error}; correct the name"
        ) from error


def pictures_by_name(folder: Path, *, stem: bool = False) -> dict[str, Path]:
    """Return the pictures below ``folder`` by file name, or by file name without ending.

    Raises:
        DatasetError: two pictures have the same name, so that a label could mean either.
    """
    found = namesakes(folder, stem=stem)
    return {name: only_one(paths, quoted(folder)) for name, paths in found.items()}


def namesakes(folder: Path, *, stem: bool = False) -> dict[str, list[Path]]:
    """Return the pictures below ``folder`` by file name, all of one name together; see `only_one`."""
    found: dict[str, list[Path]] = {}
    for path in files_below(folder):
        if is_picture(path):
            found.setdefault(path.stem if stem else path.name, []).append(path)
    return found


def only_one(paths: Sequence[Path], where: str) -> Path:
    """Return the one picture of a name.

    Raises:
        DatasetError: there are several, so that a label could mean either.
    """
    if len(paths) > 1:
        raise DatasetError(
            f"{where}: {quoted(paths[0])} and {quoted(paths[1])} have the same name, so a label could mean either; "
            "move one of them elsewhere"
        )
    return paths[0]
