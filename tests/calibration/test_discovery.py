"""What stands out in a batch, and how many good parts are among it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from differnet.calibration import (
    CalibrationError,
    benjamini_hochberg,
    good_among_flagged,
    p_values,
    share_of_good,
)

batches = st.lists(st.integers(1, 200).map(lambda k: k / 200), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(batch=batches, q=st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_adjusted_p_values_are_those_of_scipy(batch: list[float], q: float) -> None:
    found = benjamini_hochberg(batch, q)
    wanted = stats.false_discovery_control(batch, method="bh")
    assert found.adjusted == pytest.approx(wanted, rel=1e-12)
    assert found.flagged.tolist() == (wanted <= q).tolist()
    # The same parts by the step-up rule in its own words: the largest i with p_(i) <= q i / m.
    ordered, m = np.sort(batch), len(batch)
    passing = np.flatnonzero(ordered <= q * np.arange(1, m + 1) / m * (1 + 1e-12))
    assert int(found.flagged.sum()) <= (int(passing[-1]) + 1 if passing.size else 0)
    assert found.line == max([p for p, flag in zip(batch, found.flagged, strict=True) if flag], default=0.0)


def test_parts_without_a_p_value_are_neither_flagged_nor_counted() -> None:
    found = benjamini_hochberg([0.01, math.nan, 0.9], 0.1)
    alone = benjamini_hochberg([0.01, 0.9], 0.1)
    assert math.isnan(found.adjusted[1])
    assert found.flagged.tolist() == [True, False, False]
    assert found.adjusted[[0, 2]].tolist() == alone.adjusted.tolist()
    assert not benjamini_hochberg([math.nan], 0.1).flagged.any()
    assert benjamini_hochberg([], 0.1).expected_good == 0.0


def test_few_defects_cannot_be_found_with_few_calibration_parts() -> None:
    """None below m / (q (n+1)): what by_fdr warns of."""
    good = np.arange(99.0)
    for defects, wanted in ((9, 0), (10, 10)):
        batch = np.append(np.full(100 - defects, -1.0), np.full(defects, 1e9))
        assert benjamini_hochberg(p_values(good, batch), 0.1).flagged.sum() == wanted


def test_expected_good_parts_are_those_that_chance_puts_below_the_line() -> None:
    uniform = np.arange(1, 901) / 900
    found = benjamini_hochberg(np.append(uniform, np.full(100, 1e-6)), 0.1)
    count = int(found.flagged.sum())
    truly_good = count - 100
    # pi0 is 0.9 and the line lies where q of the flagged are good.
    assert found.expected_good == pytest.approx(truly_good, abs=1.0)
    assert truly_good / count == pytest.approx(0.09, abs=0.02)


def test_share_of_good_parts_errs_upwards() -> None:
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.9):
        found = []
        for _ in range(300):
            good = rng.uniform(size=1000) < share
            # Some of the defects look usual.
            found.append(share_of_good(np.where(good, rng.uniform(size=1000), rng.beta(0.3, 4, 1000))))
        error = 4 * float(np.std(found)) / math.sqrt(len(found))
        assert share - error <= np.mean(found) <= share + 0.02
    # (1 + 4) of 20 parts above 0.5, and half as many below it that are good.
    assert share_of_good([0.01] * 16 + [0.6, 0.7, 0.8, 0.9]) == 0.5
    assert share_of_good([]) == 1.0
    assert share_of_good([0.9] * 9) == 1.0


def test_upper_figure_is_the_beta_binomial_quantile() -> None:
    """Against drawing the calibration's luck first, and then the parts."""
    rng = np.random.default_rng(1)
    n, m, alpha = 200, 300, 0.05
    flagged = rng.binomial(m, rng.beta(10, 191, size=200_000))
    bound = good_among_flagged(np.full(m, 1e-9), alpha, n, confidence=0.95).at_most
    assert np.mean(flagged <= bound) >= 0.95 - 0.002
    assert np.mean(flagged <= bound - 1) < 0.95 + 0.002


def test_no_more_good_parts_than_flagged_ones_and_none_below_the_smallest_rate() -> None:
    found = good_among_flagged([0.004, 0.5, 0.6, 0.9], 0.005, 250, confidence=0.999)
    assert (found.flagged, found.at_most) == (1, 1)
    assert found.expected == pytest.approx(4 / 251, rel=1e-12)
    # 50 good parts would be expected, but one is flagged.
    assert good_among_flagged([0.004] + [0.9] * 99, 0.5, 250).expected == 1.0
    below = good_among_flagged([0.1, 0.2], 0.01, 9)
    assert (below.flagged, below.expected, below.at_most) == (0, 0.0, 0)
    assert good_among_flagged([math.nan], 0.1, 99).at_most == 0


def test_what_is_out_of_range_is_refused() -> None:
    for wrong in ([1.1], [-0.1, 0.5], [3.0, math.inf]):
        with pytest.raises(CalibrationError, match="outside"):
            benjamini_hochberg(wrong, 0.1)
    for q in (0.0, 1.0, math.nan):
        with pytest.raises(CalibrationError):
            benjamini_hochberg([0.5], q)
        with pytest.raises(CalibrationError):
            share_of_good([0.5], usual=q)
        with pytest.raises(CalibrationError):
            good_among_flagged([0.5], 0.1, 99, confidence=q)
        with pytest.raises(CalibrationError):
            good_among_flagged([0.5], q, 99)
    with pytest.raises(CalibrationError):
        good_among_flagged([0.5], 0.1, 0)
