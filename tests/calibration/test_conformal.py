"""p-values and thresholds: exact, equivalent, honest about what few parts can promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.checks import CALIBRATION_CHECKS
from differnet.calibration import (
    CalibrationError,
    false_alarm_interval,
    p_values,
    smallest_alpha,
    threshold,
)

finite = st.floats(-1e12, 1e12) | st.integers(-3, 3).map(float)


@pytest.mark.parametrize("name", CALIBRATION_CHECKS)
def test_property(name: str) -> None:
    CALIBRATION_CHECKS[name]()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    good=st.lists(finite, min_size=1, max_size=40),
    strangeness=finite,
    alpha=st.floats(0.001, 0.999) | st.integers(1, 99).map(lambda k: k / 100),
)
def test_threshold_and_p_value_are_one_statement(good: list[float], strangeness: float, alpha: float) -> None:
    if alpha < smallest_alpha(len(good)):
        with pytest.raises(CalibrationError):
            threshold(good, alpha)
        return
    limit = threshold(good, alpha)
    asked = [strangeness, *good, limit, math.nextafter(limit, -math.inf)]
    for one, p_value in zip(asked, p_values(good, asked), strict=True):
        assert (one >= limit) == (p_value <= alpha)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(good=st.lists(finite, min_size=1, max_size=30), pair=st.tuples(finite, finite))
def test_stranger_parts_never_have_larger_p_values(good: list[float], pair: tuple[float, float]) -> None:
    less, more = p_values(good, sorted(pair))
    assert 1 / (len(good) + 1) <= more <= less <= 1


@pytest.mark.parametrize("percent", range(1, 100))
def test_percentages_promise_what_they_say(percent: int) -> None:
    """Products such as 0.29 * 100 fall below the whole number; the promise must not."""
    good = np.arange(99.0)
    assert (good >= threshold(good, percent / 100)).sum() == percent - 1


@pytest.mark.parametrize("parts", [1, 4, 19, 99, 100])
def test_too_small_a_rate_is_refused_and_says_how_many_parts_it_takes(parts: int) -> None:
    good = np.arange(float(parts))
    least = smallest_alpha(parts)
    if least < 1:
        assert math.isfinite(threshold(good, least))
    with pytest.raises(CalibrationError) as refused:
        threshold(good, math.nextafter(least, 0))
    assert f"{parts} calibration parts" in refused.value.found
    with pytest.raises(CalibrationError, match="at least 99 good parts"):
        threshold(np.arange(50.0), 0.01)
    assert math.isfinite(threshold(np.arange(99.0), 0.01))


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.0, 1.5, math.nan, math.inf, -math.inf])
def test_rates_outside_0_to_1_are_refused(alpha: float) -> None:
    with pytest.raises(CalibrationError):
        threshold([1.0, 2.0], alpha)
    with pytest.raises(CalibrationError):
        false_alarm_interval(10, alpha)


@pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1e-9])
def test_absurdly_small_rates_are_refused_in_words(alpha: float) -> None:
    with pytest.raises(CalibrationError, match="good parts"):
        threshold([1.0, 2.0], alpha)


@pytest.mark.parametrize("good", [[], [math.nan], [1.0, math.inf], [1.0, -math.inf, 2.0]])
def test_calibration_parts_must_be_finite(good: list[float]) -> None:
    with pytest.raises(CalibrationError):
        p_values(good, [1.0])
    with pytest.raises(CalibrationError):
        threshold(good, 0.5)


@pytest.mark.parametrize(
    ("parts", "alpha", "low", "high"),
    [(100, 0.01, 0.05, 2.95), (1000, 0.01, 0.54, 1.57)],
)
def test_interval_is_the_published_one(parts: int, alpha: float, low: float, high: float) -> None:
    found = false_alarm_interval(parts, alpha)
    assert [round(100 * rate, 2) for rate in found] == [low, high]


def test_interval_of_a_promise_that_is_never_broken() -> None:
    assert false_alarm_interval(10, 0.01) == (0.0, 0.0)


def test_order_of_calibration_parts_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    good, asked = rng.normal(size=30), rng.normal(size=10)
    assert np.array_equal(p_values(good, asked), p_values(rng.permutation(good), asked))
    assert threshold(good, 0.1) == threshold(rng.permutation(good), 0.1)
