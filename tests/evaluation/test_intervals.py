"""Intervals hold what they promise, against exact sums and simulated parts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from differnet.evaluation import intervals
from differnet.evaluation.intervals import (
    auroc_difference,
    auroc_interval,
    auroc_standard_error,
    largest_rate,
    p_value_uniformity,
    percent,
    proportion_interval,
    rate,
)
from differnet.evaluation.metrics import MetricError, image_auroc

Floats = NDArray[np.float64]
Method = Literal["hanley-mcneil", "bootstrap"]
METHODS: tuple[Method, ...] = ("hanley-mcneil", "bootstrap")


def drawn_parts(seed: int, defects: int, good: int, shift: float) -> tuple[Floats, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(shift, size=defects), rng.normal(size=good)])
    return values, np.repeat([True, False], [defects, good])


@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_a_bound_is_where_what_happened_becomes_improbable(n: int, data: st.DataObject, held: float) -> None:
    k = data.draw(st.integers(0, n))
    low, high = proportion_interval(k, n, held)
    assert 0.0 <= low <= k / n <= high <= 1.0
    # At the bounds, as many or more (as few or fewer) have exactly the tail's probability.
    if k:
        assert stats.binom.sf(k - 1, n, low) == pytest.approx((1 - held) / 2, rel=1e-6)
    if k < n:
        assert stats.binom.cdf(k, n, high) == pytest.approx((1 - held) / 2, rel=1e-6)


@given(st.integers(1, 60), st.data())
def test_shares_of_events_and_of_their_absence_mirror(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = proportion_interval(k, n)
    assert proportion_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_the_exact_interval_covers_at_least_as_often_as_promised(share: float) -> None:
    bounds = [proportion_interval(k, 40) for k in range(41)]
    held = np.array([low <= share <= high for low, high in bounds])
    assert 0.95 <= float(stats.binom.pmf(np.arange(41), 40, share) @ held) < 1.0


def test_a_rate_says_its_interval_and_that_there_is_none() -> None:
    held = rate(3, 20)
    assert (held.events, held.of, held.share) == (3, 20, 0.15)
    assert (held.low, held.high) == proportion_interval(3, 20)
    assert str(held) == "15.0 % (3.2 % to 37.9 %)"
    assert str(rate(0, 0)) == "no cases"
    assert rate(0, 0).share is None
    assert proportion_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("share", "words"), [(0.9996, "99.96 %"), (0.00004, "0.004 %"), (0.5, "50.0 %")])
def test_a_share_is_never_rounded_to_none_or_all(share: float, words: str) -> None:
    assert percent(share) == words


def test_the_one_sided_bound_is_the_two_sided_one_of_twice_the_tail() -> None:
    assert largest_rate(2, 50) == pytest.approx(proportion_interval(2, 50, confidence=0.9)[1], abs=1e-12)
    assert largest_rate(5, 5) == largest_rate(0, 0) == 1.0


@pytest.mark.parametrize(
    ("k", "n", "held"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0.0), (1, 5, 1.0), (1, 5, 95.0)]
)
def test_impossible_counts_are_refused(k: int, n: int, held: float) -> None:
    for bound in (proportion_interval, rate, largest_rate):
        with pytest.raises(MetricError, match="confidence"):
            bound(k, n, held)


@pytest.mark.parametrize(("auroc", "points"), [(0.977, 0.56), (0.993, 0.30)])
def test_published_figures_on_mtd_have_the_known_standard_errors(auroc: float, points: float) -> None:
    assert 100 * auroc_standard_error(auroc, defects=392, good=191) == pytest.approx(points, abs=0.005)


def test_the_standard_error_is_that_of_exponential_strangeness() -> None:
    rng = np.random.default_rng(0)
    # Rates 1 and 1/9: the defect is the stranger one with probability 0.9.
    defects, good = 9 * rng.exponential(size=(4000, 60)), rng.exponential(size=(4000, 25))
    aurocs = (defects[:, :, np.newaxis] > good[:, np.newaxis, :]).mean(axis=(1, 2))
    assert aurocs.mean() == pytest.approx(0.9, abs=0.002)
    # 4,000 draws give a standard deviation to about 1.2 %.
    assert aurocs.std() == pytest.approx(auroc_standard_error(0.9, defects=60, good=25), rel=0.04)


@pytest.mark.parametrize(("auroc", "defects", "good"), [(97.7, 5, 5), (-0.1, 5, 5), (0.9, 0, 5), (0.9, 5, 0)])
def test_an_impossible_auroc_has_no_standard_error(auroc: float, defects: int, good: int) -> None:
    with pytest.raises(MetricError, match="AUROC"):
        auroc_standard_error(auroc, defects, good)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_cover_the_true_auroc_about_as_often_as_promised(method: Method) -> None:
    true_auroc = float(stats.norm.cdf(1.5 / np.sqrt(2)))
    covered = 0
    for seed in range(300):
        held = auroc_interval(*drawn_parts(seed, 40, 30, 1.5), method=method, draws=400, seed=seed)
        covered += held.low <= true_auroc <= held.high
    # 0.95 of 300, give or take four standard errors (0.0126 each): neither boastful nor useless.
    assert 0.90 <= covered / 300 <= 0.995


@pytest.mark.parametrize("method", METHODS)
def test_an_interval_holds_its_auroc_and_widens_with_confidence(method: Method) -> None:
    values, truth = drawn_parts(1, 50, 30, 1.0)
    held = auroc_interval(values, truth, method=method)
    wider = auroc_interval(values, truth, method=method, confidence=0.99)
    assert held.auroc == image_auroc(values, truth)
    assert 0.0 < wider.low < held.low < held.auroc < held.high < wider.high < 1.0
    assert (held.method, held.confidence, wider.confidence) == (method, 0.95, 0.99)
    assert held.standard_error == pytest.approx(auroc_standard_error(held.auroc, 50, 30), rel=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_an_interval_turns_round_with_strangeness(method: Method) -> None:
    values, truth = drawn_parts(2, 30, 30, 1.0)
    held, turned = (auroc_interval(sign * values, truth, method=method) for sign in (1, -1))
    # Equal numbers make the formula symmetric, and the same seed picks the same parts.
    assert (turned.low, turned.high) == pytest.approx((1 - held.high, 1 - held.low), abs=1e-9)


def test_the_bootstrap_follows_its_seed() -> None:
    values, truth = drawn_parts(3, 30, 20, 1.0)
    assert auroc_interval(values, truth, seed=5) == auroc_interval(values, truth, seed=5)
    assert auroc_interval(values, truth, seed=5) != auroc_interval(values, truth, seed=6)


def test_bootstrap_draws_are_aurocs_of_resampled_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    defects, good = rng.integers(1, 6, size=12).astype(float), rng.integers(0, 5, size=9).astype(float)
    held = intervals._bootstrap_aurocs(defects, good, 50, seed=4)
    again = np.random.default_rng(4)
    picks = again.integers(12, size=(50, 12)), again.integers(9, size=(50, 9))
    truth = np.repeat([True, False], [12, 9])
    slow = [
        image_auroc(np.concatenate([defects[of_defects], good[of_good]]), truth)
        for of_defects, of_good in zip(*picks, strict=True)
    ]
    np.testing.assert_allclose(held, slow, atol=1e-12)
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 20)
    in_blocks = intervals._bootstrap_aurocs(defects, good, 51, seed=4)
    assert in_blocks.shape == (51,)
    # 50 draws tell a mean to a seventh of their spread; four times that.
    assert in_blocks.mean() == pytest.approx(held.mean(), abs=0.57 * held.std())


@pytest.mark.parametrize("method", METHODS)
def test_perfect_separation_is_no_certainty(method: Method) -> None:
    values, truth = np.arange(12.0), np.repeat([False, True], [4, 8])
    held = auroc_interval(values, truth, method=method)
    assert (held.auroc, held.high, held.standard_error) == (1.0, 1.0, 0.0)
    assert held.low**4 == pytest.approx(0.025)
    turned = auroc_interval(-values, truth, method=method)
    assert (turned.low, turned.high) == pytest.approx((0.0, 1 - held.low))


def test_the_bound_at_perfect_separation_is_seldom_too_high() -> None:
    # Where the true AUROC lies just under the bound, perfection may be seen in 2.5 % at most.
    low = auroc_interval(np.arange(12.0), np.repeat([False, True], [6, 6]), method="hanley-mcneil").low
    shift = float(np.sqrt(2) * stats.norm.ppf(low))
    rng = np.random.default_rng(0)
    defects, good = rng.normal(shift, size=(20_000, 6)), rng.normal(size=(20_000, 6))
    assert (defects.min(axis=1) > good.max(axis=1)).mean() <= 0.025


def test_unknown_settings_of_an_interval_are_refused() -> None:
    values, truth = drawn_parts(0, 5, 5, 0.0)
    with pytest.raises(MetricError, match="delong"):
        auroc_interval(values, truth, method="delong")  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="draws"):
        auroc_interval(values, truth, draws=1)
    with pytest.raises(MetricError, match="confidence"):
        auroc_interval(values, truth, confidence=95)
    with pytest.raises(MetricError, match="NaN"):
        auroc_interval([np.nan, 1.0], [0, 1])


def judged_twice(seed: int, defects: int, good: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Strangeness by two methods that find the same parts hard; the second sees defects less well."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([True, False], [defects, good])
    shared = rng.normal(size=truth.size)
    first, second = (shared + shift * truth + 0.7 * rng.normal(size=truth.size) for shift in (2.0, 1.5))
    return first, second, truth


def test_a_difference_is_that_of_the_two_aurocs() -> None:
    first, second, truth = judged_twice(0, 40, 25)
    found = auroc_difference(first, second, truth)
    assert found.difference == pytest.approx(image_auroc(first, truth) - image_auroc(second, truth))
    turned = auroc_difference(second, first, truth)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert found.low < found.difference < found.high
    wider = auroc_difference(first, second, truth, confidence=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_ties_and_infinite_strangeness_count_as_in_the_auroc() -> None:
    truth = np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    first, second = [2.0, np.inf, 1.0, 1.0, 0.0, 2.0], [np.inf, np.inf, 0.0, 1.0, np.inf, 1.0]
    found = auroc_difference(first, second, truth)
    assert found.difference == pytest.approx(image_auroc(first, truth) - image_auroc(second, truth))


def test_the_paired_error_is_that_of_the_bootstrap_and_smaller_than_that_of_strangers() -> None:
    first, second, truth = judged_twice(1, 120, 80)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(1000):
        picked = np.concatenate([rng.integers(120, size=120), 120 + rng.integers(80, size=80)])
        drawn.append(image_auroc(first[picked], truth) - image_auroc(second[picked], truth))
    found = auroc_difference(first, second, truth)
    # 1,000 draws give a standard deviation to 2.2 %; four times that.
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.09)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.005)
    a, b = (auroc_standard_error(image_auroc(s, truth), 120, 80) for s in (first, second))
    assert found.standard_error < 0.8 * np.hypot(a, b)


def test_against_one_that_sees_nothing_the_error_is_that_of_hanley_and_mcneil() -> None:
    # A method that gives every part the same figure has an AUROC of 1/2 and no variance of its own.
    rng = np.random.default_rng(0)
    values = np.concatenate([9 * rng.exponential(size=600), rng.exponential(size=400)])
    truth = np.repeat([True, False], [600, 400])
    found = auroc_difference(values, np.zeros(1000), truth)
    auroc = image_auroc(values, truth)
    assert found.difference == pytest.approx(auroc - 0.5)
    # Their law is that of exponential strangeness; a thousand parts give a variance to some percent.
    assert found.standard_error == pytest.approx(auroc_standard_error(auroc, 600, 400), rel=0.08)


def test_paired_intervals_cover_the_true_difference_about_as_often_as_promised() -> None:
    spread = np.sqrt(2 * (1 + 0.7**2))
    true = float(stats.norm.cdf(2.0 / spread) - stats.norm.cdf(1.5 / spread))
    found = [auroc_difference(*judged_twice(seed, 40, 30)) for seed in range(400)]
    covered = np.mean([f.low <= true <= f.high for f in found])
    # 0.95, give or take four standard errors of 400 draws.
    assert 0.90 <= covered <= 0.99


def test_runs_of_a_method_count_as_their_mean() -> None:
    first, second, truth = judged_twice(2, 30, 30)
    again = judged_twice(3, 30, 30)[0]
    found = auroc_difference(np.stack([first, again]), second, truth)
    mean = (image_auroc(first, truth) + image_auroc(again, truth)) / 2
    assert found.difference == pytest.approx(mean - image_auroc(second, truth))
    assert auroc_difference([first, first], [second], truth) == auroc_difference(first, second, truth)


def test_methods_that_do_not_differ_anywhere_are_tied_and_not_for_certain() -> None:
    values, truth = np.arange(12.0), np.repeat([False, True], [4, 8])
    found = auroc_difference(values, values**2, truth)
    assert (found.difference, found.standard_error, found.word) == (0.0, 0.0, "tie")
    assert (1 - found.high) ** 4 == pytest.approx(0.025)
    assert found.low == -found.high


@pytest.mark.parametrize(("shift", "word"), [(3.0, "above"), (0.0, "tie"), (-3.0, "below")])
def test_a_difference_has_a_word(shift: float, word: str) -> None:
    first, _, truth = judged_twice(4, 60, 60)
    assert auroc_difference(first + shift * truth, first, truth).word == word


def test_what_cannot_be_compared_is_refused() -> None:
    values, truth = np.arange(4.0), np.array([True, False, False, False])
    with pytest.raises(MetricError, match="two defects"):
        auroc_difference(values, values, truth)
    with pytest.raises(MetricError, match="confidence"):
        auroc_difference(values, values, [1, 1, 0, 0], confidence=95)
    with pytest.raises(MetricError):
        auroc_difference(values, values[:3], [1, 1, 0, 0])
    with pytest.raises(MetricError, match="NaN"):
        auroc_difference(values, [np.nan, 1, 2, 3], [1, 1, 0, 0])


def test_uniform_p_values_look_uniform_and_others_do_not() -> None:
    p_values = np.random.default_rng(0).uniform(size=2000)
    summary = p_value_uniformity(p_values)
    # 1.63 / sqrt(n) is the distance that uniform p-values exceed once in a hundred times.
    assert summary["ks_distance"] < 1.63 / np.sqrt(2000)
    assert summary["low_01"] <= 0.01 <= summary["high_01"]
    assert summary["low_05"] <= 0.05 <= summary["high_05"]
    too_small = p_value_uniformity(p_values**2)
    assert too_small["ks_distance"] == pytest.approx(0.25, abs=0.03)
    assert too_small["low_01"] > 0.01
    assert too_small["low_05"] > 0.05


def test_the_distance_is_taken_on_both_sides_of_each_step() -> None:
    assert p_value_uniformity([0.0])["ks_distance"] == 1.0
    assert p_value_uniformity([1.0])["ks_distance"] == 1.0
    assert p_value_uniformity([0.5, 0.5])["ks_distance"] == 0.5


def test_shares_count_p_values_at_the_level_itself() -> None:
    summary = p_value_uniformity([0.01, 0.05, 0.2, 0.9])
    assert (summary["count"], summary["share_01"], summary["share_05"]) == (4.0, 0.25, 0.5)
    assert (summary["low_05"], summary["high_05"]) == proportion_interval(2, 4)


@pytest.mark.parametrize("p_values", [[], [np.nan, 0.5], [-0.01], [1.01], [[0.5]]])
def test_what_are_no_p_values_is_refused(p_values: list[float]) -> None:
    with pytest.raises(MetricError, match="p-value"):
        p_value_uniformity(p_values)
