"""The class names that a ``data.yaml`` gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from drivetl.data.text import plain
from drivetl.errors import DatasetError, quoted

__all__ = ["case_notes", "class_names"]


def class_names(document: Mapping[str, Any], yaml_path: Path) -> tuple[str, ...]:
    """Return the class names of a ``data.yaml`` in the order of their ids, which may be in quotes.

    Raises:
        DatasetError: there are none, ids are missing, a name stands twice, or ``nc`` is another number.
    """
    names = document.get("names")
    if isinstance(names, dict):
        by_id = {str(key): name for key, name in names.items()}
        ids = [str(index) for index in range(len(names))]
        names = [by_id[index] for index in ids] if by_id.keys() == set(ids) else None
    if not isinstance(names, list) or not names:
        raise DatasetError(
            f"{quoted(yaml_path)}: 'names' must list the classes, or map the ids 0, 1, 2, … to them without a gap"
        )
    result = tuple(plain(str(name)) for name in names)
    nc = document.get("nc")
    if nc is not None and nc != len(result):
        raise DatasetError(
            f"{quoted(yaml_path)}: 'nc' is {quoted(nc, 20)}, but 'names' has {len(result)} classes; correct "
            "the names, or remove 'nc'"
        )
    twice = [name for name, count in Counter(result).items() if count > 1]
    if twice:
        raise DatasetError(f"{quoted(yaml_path)}: the class {quoted(twice[0])} stands twice in 'names'")
    return result


def case_notes(names: Iterable[str], yaml_path: Path) -> Iterator[str]:
    """Yield a sentence on every set of class names that are one but for the case of their letters."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    for same in alike.values():
        if len(same) > 1:
            yield (
                f"The classes {' and '.join(map(quoted, same))} of {quoted(yaml_path)} differ in case alone, and are "
                "classes of their own here; give their boxes one id if they are one."
            )
