from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from drivetl.video.line import Line


@dataclass
class Item:
    number: int
    marks: list[str] = field(default_factory=list)


def items(count: int) -> Iterator[Item]:
    return (Item(number) for number in range(count))


def mark(name: str, pause_s: float = 0.0):  # type: ignore[no-untyped-def]
    def step(item: Item) -> None:
        time.sleep(pause_s)
        item.marks.append(name)

    return step


def test_every_item_passes_every_step_in_order() -> None:
    with Line(items(50), [[mark("a")], [mark("b", 0.001), mark("c")], [mark("d")]]) as line:
        done = [item for item in line.results() if item is not None]
    assert [item.number for item in done] == list(range(50))
    assert all(item.marks == ["a", "b", "c", "d"] for item in done)


def test_groups_overlap() -> None:
    begun = time.perf_counter()
    with Line(items(10), [[mark("a", 0.05)], [mark("b", 0.05)], [mark("c", 0.05)]]) as line:
        assert sum(item is not None for item in line.results()) == 10
    assert time.perf_counter() - begun < 1.3  # 1.5 s one after the other, 0.6 s overlapped


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_a_slow_group_makes_the_others_wait_instead_of_filling_memory(slow: int) -> None:
    begun = itertools.count()
    in_flight, most = 0, 0

    def source() -> Iterator[Item]:
        nonlocal in_flight, most
        for item in items(30):
            next(begun)
            in_flight += 1
            most = max(most, in_flight)
            yield item

    groups = [[mark("x", 0.005 if index == slow else 0.0)] for index in range(3)]
    with Line(source(), groups, capacity=2) as line:
        for item in line.results():
            in_flight -= item is not None
    assert most <= 3 * (2 + 1) + 1  # what the queues hold and what each group has in hand


def test_an_error_comes_after_the_items_before_it_and_stops_all_threads() -> None:
    def broken(item: Item) -> None:
        if item.number == 5:
            raise ZeroDivisionError

    before = threading.active_count()
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError), Line(items(10**9), [[], [mark("a")], [broken], [mark("b")]]) as line:
        for item in line.results():
            seen += [] if item is None else [item.number]
    assert seen == [0, 1, 2, 3, 4]
    assert threading.active_count() == before


def test_leaving_early_stops_an_endless_source() -> None:
    before = threading.active_count()
    with Line((Item(n) for n in itertools.count()), [[mark("a")], [mark("b")]]) as line:
        assert next(line.results()) is not None
    assert threading.active_count() == before


def test_waiting_is_told() -> None:
    with Line(items(1), [[mark("a", 0.35)]]) as line:
        results = list(line.results())
    assert results.count(None) >= 2 and results[-1] is not None


def test_threads_change_quickly_inside_and_as_before_outside() -> None:
    before = sys.getswitchinterval()
    with Line(items(1), [[mark("a")]]) as line:
        inside = sys.getswitchinterval()
        list(line.results())
    assert inside < before == sys.getswitchinterval()
