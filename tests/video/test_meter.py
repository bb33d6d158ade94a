from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from drivetl.video.meter import FigureLine, Latencies, Rate, Stopwatch


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
def test_percentiles_are_those_of_numpy_or_up_to_a_percent_more(share: float) -> None:
    taken = np.random.default_rng(0).lognormal(3, 0.7, 5000)
    latencies = Latencies()
    for value in taken.tolist():
        latencies.note(value)
    exact = float(np.quantile(taken, share, method="inverted_cdf"))
    assert exact <= latencies.percentile(share) <= 1.0101 * exact
    assert len(latencies) == 5000 and list(latencies.recent) == taken[-30:].tolist()


def test_extremes() -> None:
    latencies = Latencies()
    assert latencies.percentile(0.5) == 0 and len(latencies) == 0
    for value in (0.0, 1e12):
        latencies.note(value)
    assert latencies.percentile(0.5) < 0.01 and latencies.percentile(1) > 3_600_000


def test_laps() -> None:
    watch = Stopwatch()
    assert watch.lap_ms() >= 0 and watch.lap_ms() < 1000


@pytest.fixture
def pass_s(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time that passes only where a test says so."""
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr("drivetl.video.meter.time", SimpleNamespace(perf_counter=lambda: clock.now_s))

    def let_pass(seconds: float) -> None:
        clock.now_s += seconds

    return let_pass


def test_a_rate_is_that_of_now(pass_s: Callable[[float], None]) -> None:
    rate = Rate()
    assert rate.per_s() == 0
    rate.note()
    assert rate.per_s() == 0
    for _ in range(100):
        pass_s(0.1)
        rate.note()
    assert rate.per_s() == pytest.approx(10)
    pass_s(0.05)
    assert rate.per_s() == pytest.approx(10)  # the next one is not late yet
    pass_s(0.95)
    assert rate.per_s() == pytest.approx(10 / 2 + 0.5, abs=0.6)
    pass_s(9)
    assert 0 < rate.per_s() < 0.2
    for _ in range(5):  # rarer than the window is long
        rate.note()
        pass_s(4)
    assert rate.per_s() == pytest.approx(0.25)
    assert len(rate._times_s) < 30


def test_the_figures_stand_on_the_first_frame(pass_s: Callable[[float], None]) -> None:
    """A live source's age is known only after a frame was shown, and a rate takes a while."""
    line, latencies = FigureLine(1), Latencies()
    line.refresh([latencies], 0, 1)
    assert line.shown == [("end-to-end -- ms", "p99 -- ms", "-- FPS", "1 dropped")]
    pass_s(0.01)
    latencies.note(20.0)
    line.refresh([latencies], 0, 2)
    assert line.shown[0][0] == "end-to-end 20.0 ms" and line.shown[0][1].startswith("p99 20.")
    assert line.shown[0][2:] == ("-- FPS", "2 dropped")


def test_figures_stand_still_for_half_a_second_and_the_rate_counts_from_the_first_frame(
    pass_s: Callable[[float], None],
) -> None:
    line, latencies, shown = FigureLine(1), Latencies(), []
    pass_s(3)  # the line fills
    for frame in range(60):
        latencies.note(20.0 + frame)
        line.refresh([latencies], frame, 0)
        shown.append(line.shown[0])
        pass_s(0.05)
    assert [figures[2] for figures in shown[:11]] == ["-- FPS"] * 11
    assert {figures[2] for figures in shown[12:]} == {"20 FPS"}
    assert len(set(shown)) == 6  # the first one, and one in each half second
    pass_s(1)
    line.refresh([latencies], 60, 0)
    pass_s(2)
    line.refresh([latencies], 61, 0)
    assert line.shown[0][2] == "0.5 FPS"
