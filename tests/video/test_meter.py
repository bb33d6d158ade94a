from __future__ import annotations

import numpy as np
import pytest

from drivetl.video.meter import Latencies, Stopwatch


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
