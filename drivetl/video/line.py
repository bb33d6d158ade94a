"""Steps that overlap: each group in a thread of its own, joined by queues of a fixed length, order kept.

A slow group fills the queue before it and then makes its forerunners wait; memory does not grow. Every group has one
thread, so that frames cannot overtake each other.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["HandedOver", "Line"]

T = TypeVar("T")
_POLL_S = 0.1
# How long a thread may keep the interpreter while others wait for it. Python's 5 ms are a seventh of a frame's time on
# which the next inference may have to wait.
_TURN_S = 0.0005


class HandedOver:
    """A block that runs in another thread: what ends it early is kept for the thread that waits for it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> HandedOver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        return error is not None

    def check(self) -> None:
        """Raise here what ended the block there."""
        if self.error is not None:
            raise self.error


class _Closed(Exception):
    """Nobody will take what is put here any more."""


class _Queue(Generic[T]):
    """Holds at most ``capacity`` items; told when no more come, and when nobody takes any."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._complete = self._abandoned = False

    def put(self, item: T) -> None:
        with self._changed:
            while len(self._items) >= self._capacity and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise _Closed
            self._items.append(item)
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> tuple[bool, T | None]:
        """Return whether more may come, and an item; None if there is none (within the time)."""
        with self._changed:
            if not self._items and not self._complete:
                self._changed.wait(timeout_s)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return True, item
            return not self._complete, None

    def complete(self) -> None:
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = self._complete = True
            self._items.clear()
            self._changed.notify_all()


class Line(Generic[T]):
    """Items from an iterator through groups of steps; iterate over it in the thread that uses the results.

    Use it as a context manager: leaving the block stops all threads.
    """

    def __init__(
        self, items: Iterator[T], groups: Sequence[Sequence[Callable[[T], None]]], *, capacity: int = 2
    ) -> None:
        """Describe the line; nothing runs before the block is entered.

        Args:
            items: runs in the first thread, together with the steps of the first group.
            groups: steps that change an item in place; each group runs in one thread.
            capacity: length of each queue.
        """
        self._items, self._groups = items, groups
        self._queues: list[_Queue[T]] = [_Queue(capacity) for _ in groups]
        self._turn_s = _TURN_S
        self._outcomes = [HandedOver() for _ in groups]
        self._threads = [
            threading.Thread(target=self._work, args=(index,), name=f"video line {index}", daemon=True)
            for index in range(len(groups))
        ]

    def __enter__(self) -> Line[T]:
        self._turn_s = sys.getswitchinterval()
        sys.setswitchinterval(min(_TURN_S, self._turn_s))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for queue in self._queues:
            queue.abandon()
        for thread in self._threads:
            thread.join()
        sys.setswitchinterval(self._turn_s)

    def results(self) -> Iterator[T | None]:
        """Yield items in order; None when a tenth of a second passed without one.

        Raises:
            BaseException: what the iterator or a step raised, after all items before it.
        """
        while True:
            more, item = self._queues[-1].take(_POLL_S)
            if not more:
                break
            yield item
        for outcome in self._outcomes:
            outcome.check()

    def _work(self, index: int) -> None:
        steps, behind = self._groups[index], self._queues[index]
        with self._outcomes[index] as outcome:
            for item in self._items if index == 0 else self._taken(index - 1):
                for step in steps:
                    step(item)
                behind.put(item)
        if isinstance(outcome.error, _Closed):
            outcome.error = None
        behind.complete()
        if index:
            self._queues[index - 1].abandon()

    def _taken(self, index: int) -> Iterator[T]:
        while True:
            more, item = self._queues[index].take()
            if item is not None:
                yield item
            elif not more:
                return
