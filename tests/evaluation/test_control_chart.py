"""Limits hold what they promise, and what they show is said in words."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import stats

from differnet.evaluation.control_chart import (
    FALSE_ALARM,
    RUN_LENGTH,
    p_chart,
    same_share,
    signal_words,
)
from differnet.evaluation.metrics import MetricError


def binomial(n: int, k: int, p: Fraction) -> Fraction:
    return comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("n", [1, 7, 30, 200])
@pytest.mark.parametrize("centre", [Fraction(1, 100), Fraction(1, 3), Fraction(9, 10)])
def test_limits_are_the_tightest_that_keep_the_promise(n: int, centre: Fraction) -> None:
    chart = p_chart([0], [n], centre=float(centre))
    lower, upper = round(chart.lower[0] * n), round(chart.upper[0] * n)
    tail = Fraction(FALSE_ALARM) / 2
    below = sum(binomial(n, k, centre) for k in range(lower))
    above = sum(binomial(n, k, centre) for k in range(upper + 1, n + 1))
    assert below <= tail
    assert above <= tail
    # One count closer and the promise would be broken.
    assert below + binomial(n, lower, centre) > tail
    assert above + binomial(n, upper, centre) > tail
    assert chart.chance == pytest.approx(float(below + above), abs=1e-12)


def test_a_steady_line_is_outside_as_rarely_as_said() -> None:
    rng = np.random.default_rng(0)
    lots, runs = 24, 4000
    of = np.full(lots, 120)
    told = p_chart(rng.binomial(of, 0.08), of, centre=0.08).chance
    alarms = np.mean([p_chart(rng.binomial(of, 0.08), of, centre=0.08).outside.any() for _ in range(runs)])
    assert 0.01 < told < lots * FALSE_ALARM
    assert abs(alarms - told) < 4 * np.sqrt(told * (1 - told) / runs)


def test_lots_that_differ_are_named_on_their_side() -> None:
    chart = p_chart([50, 52, 90, 48, 10], [100, 100, 100, 100, 100])
    assert chart.centre == 0.5
    assert chart.outside.tolist() == [0, 0, 1, 0, -1]
    words = signal_words(chart, ["a", "b", "c", "d", "e"], "PASS")
    assert words == [
        "c: 90.0 % PASS, above the limit of 65.0 %.",
        "e: 10.0 % PASS, below the limit of 35.0 %.",
    ]
    assert not chart.calm


def test_limits_follow_the_size_of_each_lot() -> None:
    chart = p_chart([10, 100], [100, 1000])
    assert chart.upper[0] > chart.upper[1] > chart.centre > chart.lower[1] > chart.lower[0]


def test_a_long_run_on_one_side_is_a_signal_and_a_short_one_is_none() -> None:
    low, high = [4] * RUN_LENGTH, [6] * (RUN_LENGTH - 1)
    chart = p_chart([*low, *high], [100] * 15, centre=0.05)
    assert chart.runs == ((0, RUN_LENGTH - 1, -1),)
    names = [f"lot {i}" for i in range(15)]
    assert signal_words(chart, names, "REVIEW") == [
        "REVIEW: 8 lots in a row below the average of 5.0 %, the first lot 0, the last lot 7."
    ]
    assert p_chart([*low[1:], *high], [100] * 14, centre=0.05).runs == ()
    # A lot exactly on the average ends a run.
    assert p_chart([4, 4, 4, 4, 5, 4, 4, 4, 4], [100] * 9, centre=0.05).runs == ()
    assert p_chart([*high, 5, *high, 6], [100] * 16, centre=0.05).runs == ((8, 15, 1),)


def test_lots_too_small_to_tell_anything_are_called_so() -> None:
    chart = p_chart([1, 0, 1], [2, 2, 2])
    assert chart.blind
    assert signal_words(chart, ["a", "b", "c"], "PASS") == [
        "PASS: lots of this size are too small to tell a change from chance."
    ]


def test_an_empty_lot_has_no_share_and_no_signal() -> None:
    chart = p_chart([5, 0, 6], [100, 0, 100])
    assert np.isnan(chart.shares[1])
    assert chart.outside.tolist() == [0, 0, 0]
    assert (chart.lower[1], chart.upper[1]) == (0.0, 1.0)
    assert p_chart([], []).calm
    assert p_chart([0], [0]).chance == 0


@pytest.mark.parametrize("share", [0, 100])
def test_what_never_or_always_happens_is_no_signal(share: int) -> None:
    chart = p_chart([share] * 10, [100] * 10)
    assert chart.calm
    assert chart.centre == share / 100
    assert chart.chance == 0


@pytest.mark.parametrize(
    ("events", "of", "words"),
    [([3], [2], "larger than its lot"), ([1, 2], [3], "as many counts"), ([-1], [3], "none of them")],
)
def test_counts_that_do_not_match_are_refused(events: list[int], of: list[int], words: str) -> None:
    with pytest.raises(MetricError, match=words):
        p_chart(events, of)


def test_rates_that_are_no_shares_are_refused() -> None:
    with pytest.raises(MetricError, match="not percent"):
        p_chart([1], [2], centre=50)
    with pytest.raises(MetricError, match="not percent"):
        p_chart([1], [2], false_alarm=0)


def test_two_shares_are_compared_exactly() -> None:
    # All tables with these margins, and of them those that are no more probable.
    law = [stats.hypergeom.pmf(k, 30, 12, 10) for k in range(11)]
    assert same_share(7, 10, 5, 20) == pytest.approx(sum(p for p in law if p <= law[7] * (1 + 1e-7)))
    assert same_share(5, 10, 10, 20) == pytest.approx(1.0)
    assert same_share(0, 0, 3, 10) == 1.0
    assert same_share(95_000, 100_000, 94_000, 100_000) < 1e-15
    with pytest.raises(MetricError):
        same_share(3, 2, 0, 1)
