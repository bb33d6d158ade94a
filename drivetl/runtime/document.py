"""A JSON document read key by key, with errors that name file, key, value and what was expected."""

from __future__ import annotations

import math
from typing import Any

from drivetl.errors import BundleError, quoted

__all__ = ["Node"]


class Node:
    """One mapping of the document, with typed access whose errors name file, key, value and what was expected."""

    def __init__(self, value: object, where: str, path: str) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"{quoted(where)}: {path} must be a mapping, not {quoted(value, 60)}; export again")
        self._values: dict[str, Any] = value
        self.where = where
        self.path = path

    def wrong(self, key: str, expected: str) -> BundleError:
        return BundleError(
            f"{quoted(self.where)}: {self.path}.{key} is {quoted(self._values.get(key), 60)}, "
            f"expected {expected}; export the bundle again"
        )

    def get(self, key: str) -> Any:
        if key not in self._values:
            raise BundleError(f"{quoted(self.where)}: {self.path}.{key} is missing; export the bundle again")
        return self._values[key]

    def has(self, key: str) -> bool:
        return key in self._values

    def node(self, key: str) -> Node:
        return Node(self.get(key), self.where, f"{self.path}.{key}")

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return value

    def text(self, key: str, *, empty: bool = False) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not (value or empty):
            raise self.wrong(key, "text")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.get(key) is None else self.text(key)

    def one_of(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self.get(key)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(key, " or ".join(allowed))
        return value

    def boolean(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(key, "a number")
        if not low <= value <= high:
            raise self.wrong(key, f"a number from {low} to {high}")
        return float(value)

    def integers(self, key: str, count: int) -> tuple[int, ...]:
        value = self.get(key)
        whole = isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        if not whole or len(value) != count or min(value) < 1:
            raise self.wrong(key, f"{count} positive whole numbers")
        return tuple(value)

    def strings(self, key: str, most: int) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not 1 <= len(value) <= most or not all(isinstance(v, str) for v in value):
            raise self.wrong(key, f"a list of 1 to {most} names")
        return tuple(value)
