"""The scale that puts evidence side by side: monotone, without a step into the tail, always finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from differnet.calibration import CalibrationError, TailScale, held_out_strangeness

# float32 evidence reaches 3.4e38 at most.
figures = st.lists(st.floats(-1e38, 1e38) | st.integers(-2, 2).map(float), min_size=2, max_size=30)

DEGENERATE = {
    "identical": [5.0] * 10,
    "identical_zero": [0.0] * 4,
    "two": [1.0, 2.0],
    "two_identical": [3.0, 3.0],
    "huge": [1e38, -1e38, 3e37, 0.0],
    "tiny": [1e-30, 2e-30, 3e-30, 4e-30],
    "one_outlier": [0.0] * 20 + [1e12],
    "mostly_ties": [1.0] * 15 + [2.0] * 5,
    "subnormal": [5e-324, 0.0, 1e-320],
}


def around(good: list[float]) -> NDArray[np.float64]:
    values = np.array([*good, min(good) - 1, max(good) + 1, -3e38, 3e38, 0.0])
    return np.unique(np.concatenate([values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf)]))


@pytest.mark.parametrize("good", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_degenerate_figures_give_a_finite_monotone_scale(good: list[float]) -> None:
    strangeness = TailScale.fit(good).strangeness(around(good))
    assert np.isfinite(strangeness).all()
    assert (strangeness >= 0).all()
    assert (np.diff(strangeness) >= 0).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(good=figures, asked=st.lists(st.floats(-3e38, 3e38), min_size=2, max_size=10))
def test_scale_is_finite_and_monotone(good: list[float], asked: list[float]) -> None:
    strangeness = TailScale.fit(good).strangeness(sorted(asked))
    assert np.isfinite(strangeness).all()
    assert (np.diff(strangeness) >= 0).all()


def test_scale_has_no_step_into_the_tail() -> None:
    good = np.random.default_rng(0).gamma(3, size=200)
    scale = TailScale.fit(good)
    at, beyond = scale.strangeness([scale.start, math.nextafter(scale.start, math.inf)])
    assert at == pytest.approx(math.log10(4), abs=1e-12)
    assert beyond == pytest.approx(at, abs=1e-9)
    wide = scale.strangeness(np.linspace(scale.start, scale.start + 1e-6, 50))
    assert np.ptp(wide) < 1e-5


def test_tail_keeps_ranking_beyond_every_good_part() -> None:
    scale = TailScale.fit(np.random.default_rng(1).exponential(size=50))
    strangeness = scale.strangeness([20.0, 21.0, 1e6])
    assert (np.diff(strangeness) > 0).all()


def test_exponential_figures_have_the_strangeness_of_their_probability() -> None:
    scale = TailScale.fit(np.random.default_rng(2).exponential(size=20_000))
    asked = np.array([0.5, 1.0, 3.0, 8.0])
    # The mean excess of 5,000 parts is known to 1.4 %; 8 is 6.6 excesses beyond the quartile.
    assert scale.strangeness(asked) == pytest.approx(asked / math.log(10), rel=0.06)


@pytest.mark.parametrize("good", [[], [1.0], [1.0, math.nan], [math.inf, 1.0, 2.0]])
def test_figures_must_be_two_and_finite(good: list[float]) -> None:
    with pytest.raises(CalibrationError):
        TailScale.fit(good)


def test_infinite_figures_stay_infinite_and_nan_stays_nan() -> None:
    found = TailScale.fit([1.0, 2.0, 3.0]).strangeness([math.inf, -math.inf, math.nan])
    assert found[0] == math.inf
    assert found[1] == 0
    assert math.isnan(found[2])


def test_held_out_strangeness_of_few_parts_is_that_of_the_others() -> None:
    good = np.random.default_rng(3).normal(size=12)
    for i, found in enumerate(held_out_strangeness(good)):
        assert found == TailScale.fit(np.delete(good, i)).strangeness(good[i : i + 1])[0]


@pytest.mark.parametrize("parts", [3, 4, 19, 20, 21, 500])
def test_held_out_strangeness_is_finite_and_in_order(parts: int) -> None:
    good = np.random.default_rng(parts).normal(size=parts)
    held_out = held_out_strangeness(good)
    assert held_out.shape == (parts,)
    assert np.isfinite(held_out).all()
    assert held_out.argmax() == good.argmax()
    assert held_out.max() >= TailScale.fit(good).strangeness(good.max())


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_held_out_strangeness_needs_others(parts: int) -> None:
    with pytest.raises(CalibrationError):
        held_out_strangeness(np.arange(float(parts)))
