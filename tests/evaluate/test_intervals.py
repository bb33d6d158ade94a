"""From how many groups on there is an interval, and what stands in its place."""

from __future__ import annotations

import numpy as np
import pytest

from drivetl.evaluate.agreement import correlation
from drivetl.evaluate.intervals import LEAST_GROUPS, interval_of, p_value, p_value_by_error
from drivetl.verbs.export import _held_out_lines


@pytest.mark.parametrize(("strata", "least"), [(1, 6), (2, 7), (5, 10)])
def test_few_groups_give_neither_interval_nor_p_value(strata: int, least: int) -> None:
    values = np.random.default_rng(0).normal(1, 0.1, 500)
    assert least == LEAST_GROUPS + strata - 1
    assert interval_of(values, least - 1, strata) is None and p_value(values, least - 1, strata) is None
    found = interval_of(values, least, strata)
    assert found is not None and found.low < 1 < found.high
    assert p_value(values, least, strata) is not None


@pytest.mark.parametrize(("groups", "verdict"), [(5, "unknown"), (6, "strong")])
def test_a_link_over_few_groups_is_not_called_strong(groups: int, verdict: str) -> None:
    values = np.random.default_rng(0).permutation(60) / 60
    linked = correlation(
        values.tolist(), (values**2).tolist(), [f"g{n % groups}" for n in range(60)], np.random.default_rng(0)
    )
    assert linked.spearman == 1 and linked.verdict == verdict
    assert ("needs 6 groups" in linked.sentence()) == (verdict == "unknown")


def test_the_export_says_that_there_is_no_interval() -> None:
    held_out = {"split": "val", "pictures": 3, "before": 0.5, "after": 0.4, "difference": -0.1, "interval": None}
    (line,) = _held_out_lines({**held_out, "per_class": {}, "per_condition": {}})
    assert "-10.00 points, no interval for want of groups" in line and "nan" not in line
    (line,) = _held_out_lines({**held_out, "interval": [-0.2, 0.0], "per_class": {}, "per_condition": {}})
    assert "95 % interval -20.00 to +0.00" in line


def test_the_p_value_by_its_error_is_that_of_the_replicates_where_those_are_normal() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.01, 20_000)
    by_share = p_value(values, 50)
    assert by_share is not None
    assert p_value_by_error(0.02, float(values.std()), 50) == pytest.approx(by_share, rel=0.1)
    assert p_value_by_error(0.05, 0.001, 50) < 1e-9
    assert (p_value_by_error(0.0, 0.0, 50), p_value_by_error(0.1, 0.0, 50)) == (1.0, 0.0)
