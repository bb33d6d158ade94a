"""Pictures that stand on two sides of a split: the very same files, whatever links lead to them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["in_both"]


def in_both(one: Iterable[Path], other: Iterable[Path]) -> list[Path]:
    """Return the pictures of ``one`` that are in ``other`` too, in their order."""
    known = {os.path.realpath(path) for path in other}
    return [path for path in one if os.path.realpath(path) in known]
