"""Frames through stages of known length, on a clock that stands still until it is moved."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np
import pytest

from drivetl.video.admission import Admission


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def passes(admission: Admission, clock: Clock, stages_s: Sequence[float]) -> None:
    """Send a frame through the first stages."""
    for stage, taken_s in enumerate(stages_s):
        admission.begin(stage)
        clock.now_s += taken_s
        admission.end(stage)


def practised(clock: Clock, stages_s: Sequence[float]) -> Admission:
    """An admission that has seen frames go through, the last of which has just begun with the last stage."""
    admission = Admission(len(stages_s), clock)
    passes(admission, clock, stages_s)
    passes(admission, clock, stages_s[:-1])
    admission.begin(len(stages_s) - 1)
    return admission


def test_the_second_frame_waits_for_what_the_first_one_teaches() -> None:
    clock = Clock()
    admission = Admission(2, clock)
    assert admission.delay_s() == 0
    admission.begin(0)
    assert admission.delay_s() == math.inf
    admission.end(0)
    assert admission.delay_s() == math.inf  # it waits for the stage that nobody has seen yet
    admission.begin(1)
    clock.now_s += 0.1
    admission.end(1)
    assert admission.delay_s() == 0


def test_a_frame_sets_out_so_that_the_slow_stage_is_free_when_it_comes() -> None:
    clock = Clock()
    admission = practised(clock, [0.03, 0.01, 0.3])
    assert admission.delay_s() == pytest.approx(0.26)
    clock.now_s += 0.2
    assert admission.delay_s() == pytest.approx(0.06)
    clock.now_s += 0.07
    assert admission.delay_s() == 0  # 30 ms are left, and it needs 40 to get there


def test_a_frame_that_waits_already_counts() -> None:
    clock = Clock()
    admission = practised(clock, [0.03, 0.01, 0.3])
    clock.now_s += 0.16
    passes(admission, clock, [0.03, 0.01])
    # In 100 ms the slow stage takes the one that waits, and is free 300 ms later.
    assert admission.delay_s() == pytest.approx(0.1 + 0.3 - 0.04)


def test_what_is_late_is_expected_to_be_late_for_as_long_again() -> None:
    clock = Clock()
    admission = practised(clock, [0.03, 0.01, 0.02])
    clock.now_s += 2
    assert admission.delay_s() == pytest.approx(1.98 - 0.04)
    admission.end(2)
    assert admission.delay_s() == 0


def test_whoever_stops_does_not_wait() -> None:
    admission = Admission(1, Clock())
    admission.begin(0)
    admission.wait(lambda: True)


def travel(stages_s: Sequence[float], frames: int) -> tuple[list[float], float]:
    """Send frames whenever they may set out; return how long each was under way, and the time between two of them."""
    clock = Clock()
    admission = Admission(len(stages_s), clock)
    busy = [False] * len(stages_s)
    queues: list[list[float]] = [[] for _ in stages_s]
    events: list[tuple[float, int, float]] = []  # when a stage ends with a frame that set out when
    ages_s, done_s = [], []

    def begin(stage: int) -> None:
        if queues[stage] and not busy[stage]:
            busy[stage] = True
            admission.begin(stage)
            heapq.heappush(events, (clock.now_s + stages_s[stage], stage, queues[stage].pop(0)))

    while len(ages_s) < frames:
        if not busy[0] and not queues[0] and admission.delay_s() <= 0.005:
            queues[0].append(clock.now_s)
            begin(0)
        if events and events[0][0] <= clock.now_s + 0.001:
            clock.now_s, stage, set_out_s = heapq.heappop(events)
            admission.end(stage)
            busy[stage] = False
            if stage + 1 < len(stages_s):
                queues[stage + 1].append(set_out_s)
                begin(stage + 1)
            else:
                ages_s.append(clock.now_s - set_out_s)
                done_s.append(clock.now_s)
            begin(stage)
        else:
            clock.now_s += 0.001
    return ages_s, (done_s[-1] - done_s[len(done_s) // 2]) / (len(done_s) - 1 - len(done_s) // 2)


@pytest.mark.parametrize(
    "stages_s",
    [(0.1, 0.01, 0.01), (0.03, 0.01, 0.3), (0.03, 0.025, 0.02), (0.01, 0.2, 0.02), (0.01, 0.01, 0.03), (0.02,) * 3],
)
def test_no_frame_grows_old_on_its_way_and_the_slowest_stage_sets_the_pace(stages_s: tuple[float, ...]) -> None:
    ages_s, every_s = travel(stages_s, 40)
    assert max(ages_s) <= sum(stages_s) + 0.01
    assert every_s <= max(stages_s) + 0.003
    assert np.median(ages_s) <= sum(stages_s) + 0.007
