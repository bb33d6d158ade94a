"""How a stage says how far it is, without knowing who listens. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["Progress", "silent", "tracked"]

T = TypeVar("T")


class Progress(Protocol):
    """Called with the label of the work, how many steps are done, and how many there are (None: unknown)."""

    def __call__(self, label: str, done: int, total: int | None) -> None: ...


def silent(label: str, done: int, total: int | None) -> None:
    """Report to nobody."""


def tracked(items: Iterable[T], label: str, total: int | None, progress: Progress) -> Iterator[T]:
    """Yield ``items``, reporting before the first and after each."""
    progress(label, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(label, done, total)
