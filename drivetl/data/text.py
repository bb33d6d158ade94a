"""Names that come from strangers, made harmless. Standard library only."""

from __future__ import annotations

__all__ = ["plain"]


def plain(text: str) -> str:
    """Return ``text`` with control characters, terminal escapes, bidirectional overrides and the like spelled out.

    Class names, groups and attributes are printed by drivetl and by Ultralytics, and written as UTF-8, which half of
    a surrogate pair cannot be.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
