"""Which pictures belong together by their names: frames of one recording, and copies that Roboflow made of one picture.

What is inside the pictures is looked at in `drivetl.data.grouping`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from drivetl.data.text import plain
from drivetl.errors import quoted

__all__ = ["NameGroups", "named_groups", "original_of"]

_COPY = re.compile(r"(.+?)\.rf\.[0-9A-Za-z][0-9A-Za-z._-]*")
_NUMBERED = re.compile(r"(.*?)([0-9]+)")


@dataclass(frozen=True, slots=True)
class NameGroups:
    """What the names say.

    Attributes:
        groups: one for each picture. Where no other picture belongs to it, that is its own name, with its split or
            folder before it where others bear that name.
        notes: sentences on the folders that were taken for recordings, on those that were not, and on copies.
    """

    groups: list[str]
    notes: list[str]


def original_of(name: str) -> str:
    """Return the name of the picture that a copy of Roboflow was made from: ``X_jpg`` for ``X_jpg.rf.<hash>``.

    Any other name, which is given without its ending, comes back as it is.
    """
    match = _COPY.fullmatch(name)
    return name if match is None else match[1]


def named_groups(pictures: Sequence[Path], splits: Sequence[str], *, by_folder: bool = True) -> NameGroups:
    """Group pictures by their names, and by their folders where these look like recordings.

    A recording is a folder below the split's own whose pictures are numbered one after another. A folder that holds a
    whole split is none, nor is one of a city or a class, whose pictures bear other names.

    Args:
        pictures: their paths.
        splits: the split of each picture; ``""`` where it has none.
        by_folder: false where the layout has no folders of recordings, and each name stands once.
    """
    folders = [path.parent for path in pictures] if by_folder else [Path()] * len(pictures)
    recordings, others = _recordings(pictures, folders, splits)
    top = _top(folders)
    shown = {folder: plain(folder.relative_to(top).as_posix()) for folder in set(folders)}
    stems = [plain(path.stem) for path in pictures]
    where: dict[str, dict[str, set[Path]]] = defaultdict(lambda: defaultdict(set))
    for stem, split, folder in zip(stems, splits, folders, strict=True):
        where[stem][split].add(folder)

    def group(stem: str, split: str, folder: Path) -> str:
        if folder in recordings:
            return shown[folder]
        if (original := original_of(stem)) != stem:
            return original  # whatever its split: a copy in another one is a leak
        if len(where[stem][split]) > 1:
            return f"{shown[folder]}/{stem}"
        # Many sets number the pictures of each split from zero: the same name says nothing across them.
        return stem if len(where[stem]) == 1 else f"{plain(split)}/{stem}"

    groups = [group(*named) for named in zip(stems, splits, folders, strict=True)]
    told = [sorted(shown[folder] for folder in found) for found in (recordings, others)]
    copies = [stem for stem in stems if original_of(stem) != stem]
    return NameGroups(groups, [*_folder_notes(*told), *_copy_notes(copies)])


def _recordings(
    pictures: Sequence[Path], folders: Sequence[Path], splits: Sequence[str]
) -> tuple[set[Path], set[Path]]:
    """Return the folders that are recordings, and the other ones that lie below the folder of their split."""
    names: dict[Path, set[str]] = defaultdict(set)
    of_split: dict[str, set[Path]] = defaultdict(set)
    for path, folder, split in zip(pictures, folders, splits, strict=True):
        names[folder].add(path.stem)
        of_split[split].add(folder)
    below = {folder for held in of_split.values() for folder in held - {_top(held)}}
    recordings = {folder for folder in below if _numbered(names[folder])}
    return recordings, below - recordings


def _top(folders: Iterable[Path]) -> Path:
    held = {str(folder) for folder in folders}
    return Path(os.path.commonpath(held)) if held else Path()


def _numbered(names: set[str]) -> bool:
    """Say whether names end in numbers that follow each other in steps that are mostly alike.

    Half of the steps may differ, because frames without an object are often left out; and alike are steps within a
    quarter of the median, because a number may be a time. Of pictures chosen by chance, few steps are alike.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if (match := _NUMBERED.fullmatch(name)) is not None:
            numbers[match[1]].add(int(match[2]))
    steps = [after - before for found in numbers.values() for before, after in pairwise(sorted(found))]
    if not steps:
        return False
    usual = median(steps)
    return 2 * sum(4 * abs(step - usual) <= usual for step in steps) >= len(names) - 1


def _folder_notes(recordings: Sequence[str], others: Sequence[str]) -> list[str]:
    notes = []
    if recordings:
        notes.append(
            f"The pictures of each folder such as {quoted(recordings[0])} ({len(recordings)} in all) are numbered one "
            "after another: it is taken for one recording, which no drawn split divides; a list may, with: drivetl "
            "data split --list"
        )
    if others:
        notes.append(
            f"The pictures of a folder such as {quoted(others[0])} ({len(others)} in all) are not numbered one after "
            "another: it is not taken for a recording, and may be divided."
        )
    return notes


def _copy_notes(copies: Sequence[str]) -> list[str]:
    originals = len({original_of(stem) for stem in copies})
    if originals == len(copies):
        return []
    return [
        f"{len(copies)} pictures are by their names copies that Roboflow made of {originals}; those of one original "
        "form a group."
    ]
