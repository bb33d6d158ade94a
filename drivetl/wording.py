"""Numbers in sentences. Standard library only."""

from __future__ import annotations

__all__ = ["counted"]

_PLURALS = {"box": "boxes", "class": "classes", "pass": "passes"}


def counted(number: float, noun: str) -> str:
    """Return number and noun, the noun in the form that goes with it: ``1 box``, ``2 boxes``.

    Args:
        number: of things; a whole number.
        noun: in the singular; its last word takes the plural.
    """
    first, space, last = noun.rpartition(" ")
    plural = _PLURALS.get(last, f"{last}s")
    return f"{number:g} {noun}" if number == 1 else f"{int(number)} {first}{space}{plural}"
