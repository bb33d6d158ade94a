"""The class names that a ``data.yaml`` gives, and those of several datasets as one list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetl.data.text import plain
from drivetl.errors import DatasetError, quoted
from drivetl.taxonomy import DRIVING_CLASSES, canonical_name

__all__ = ["case_notes", "class_names", "renamed_notes", "united_names", "unlabelled_notes"]


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


def united_names(datasets: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """Return the class names of several datasets together, and which of each dataset's names become another.

    Names that differ in case or spacing alone become one: the taxonomy's, else the first. Where a dataset has two such
    names, they are two classes to it, and nothing of that spelling is united. The order is the taxonomy's where all
    names are in it, else that of first appearance.

    Args:
        datasets: what to call each dataset: its class names.
    """
    written = [name for names in datasets.values() for name in names]
    chosen: dict[str, str] = {}
    for name in (*(name for name in DRIVING_CLASSES if name in written), *written):
        chosen.setdefault(_spelling(name), name)
    counts = (Counter(map(_spelling, names)) for names in datasets.values())
    kept_apart = {key for found in counts for key, count in found.items() if count > 1}
    renamed = {
        label: {
            name: chosen[_spelling(name)]
            for name in names
            if _spelling(name) not in kept_apart and chosen[_spelling(name)] != name
        }
        for label, names in datasets.items()
    }
    seen = dict.fromkeys(renamed[label].get(name, name) for label, names in datasets.items() for name in names)
    in_taxonomy = seen.keys() <= set(DRIVING_CLASSES)
    return tuple(n for n in DRIVING_CLASSES if n in seen) if in_taxonomy else tuple(seen), renamed


def _spelling(name: str) -> str:
    """Return what names have in common that differ in case or spacing alone (``Traffic_Light``, ``traffic light``)."""
    return re.sub(r"[\s_-]", "", name).casefold() or name


def renamed_notes(renamed: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a sentence on every name that `united_names` replaced."""
    return [
        f"The class {quoted(old)} of {quoted(label)} is {quoted(new)} here: they differ in case or spacing alone."
        for label, names in renamed.items()
        for old, new in names.items()
    ]


def unlabelled_notes(label: str, names: Sequence[str], classes: Iterable[str]) -> Iterator[str]:
    """Yield a sentence on each of ``classes`` that a dataset, called ``label``, lacks, or has under a synonym."""
    for name in classes:
        if name in names:
            continue
        same = [other for other in names if canonical_name(other) == canonical_name(name)]
        if same:
            yield (
                f"The class {quoted(name)} is {' or '.join(map(quoted, same))} in {quoted(label)}: the two stay apart "
                "here, and an object of the one counts as background of the other; if they are one, import the "
                "datasets with --classes driving first."
            )
        else:
            yield f"The class {quoted(name)} is not labelled in {quoted(label)}: its objects there train as background."
