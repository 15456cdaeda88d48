"""Several kinds of evidence on one scale, and what they say together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from differnet.calibration import surprise, together


def test_surprise_is_the_upper_tail() -> None:
    for surplus in (-3.0, 0.0, 1.0, 6.0, 30.0):
        assert surprise([surplus])[0] == pytest.approx(-stats.norm.logsf(surplus) / math.log(10))


def test_surprise_ranks_without_ties_and_stays_finite() -> None:
    figures = surprise(np.linspace(-5, 1e6, 1000))
    assert bool(np.isfinite(figures).all())
    assert bool((np.diff(figures) > 0).all())
    assert math.isnan(surprise([math.nan])[0])


def test_two_that_agree_say_more_than_either() -> None:
    one, other = surprise([2.0]), surprise([2.0])
    assert together([one, other])[0] == pytest.approx(2 * one[0])
    # One that stands out is hardly changed by another that sees nothing.
    loud = surprise([8.0])
    assert together([loud, surprise([-1.0])])[0] == pytest.approx(loud[0], rel=0.01)
    assert math.isnan(together([loud, [math.nan]])[0])


def test_sum_of_independent_surprises_follows_fisher() -> None:
    rng = np.random.default_rng(0)
    total = together([surprise(rng.normal(size=20_000)) for _ in range(3)])
    # 2 ln(10) times the sum is chi-square of 6 degrees of freedom.
    assert stats.kstest(2 * math.log(10) * total, stats.chi2(6).cdf).pvalue > 0.001
