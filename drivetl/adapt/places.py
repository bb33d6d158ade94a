"""Where one fit keeps its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Paths of one fit.

    Attributes:
        data: the YAML that Ultralytics is given.
        pictures: the list of pictures to train on, where it is not a whole folder.
        selection: the list of pictures to select on, likewise.
        replay: the list of source pictures, likewise.
        log: one line of JSON per epoch.
        state: what a resumed run continues from.
    """

    data: Path
    pictures: Path
    selection: Path
    replay: Path
    log: Path
    state: Path
