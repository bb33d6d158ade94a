from __future__ import annotations

import threading
import time

import pytest

from drivetl.video.pace import Pace
from drivetl.video.settings import Controls


def test_a_frame_is_held_until_it_is_due() -> None:
    pace = Pace(50.0, Controls(0.5), lambda: False)
    begun_s = time.perf_counter()
    pace.until_due(0.0)
    assert time.perf_counter() - begun_s < 0.1
    pace.until_due(0.3)
    assert time.perf_counter() - begun_s >= 0.27


@pytest.mark.parametrize("held", ["gap", "pause"])
def test_stopping_ends_every_wait_at_once(held: str) -> None:
    stop = threading.Event()
    controls = Controls(0.5, paused=held == "pause")
    pace = Pace(25.0, controls, stop.is_set)
    waiting = threading.Thread(target=pace.until_due, args=(600.0 if held == "gap" else 0.0,), daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    stop.set()
    waiting.join(2)
    assert not waiting.is_alive()


def test_a_pause_in_a_gap_holds_the_frame_after_it() -> None:
    controls = Controls(0.5)
    pace = Pace(1000.0, controls, lambda: False)
    waiting = threading.Thread(target=pace.until_due, args=(0.2,), daemon=True)
    waiting.start()
    controls.paused = True
    waiting.join(0.6)
    assert waiting.is_alive()
    controls.paused = False
    waiting.join(2)
    assert not waiting.is_alive()
