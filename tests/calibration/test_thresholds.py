"""Suggested thresholds: each keeps its wish on the parts at hand, and says what it cannot promise.

What they promise of other parts is in ``tests/validity``.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from differnet.calibration import (
    CalibrationError,
    Suggestion,
    benjamini_hochberg,
    by_cost,
    by_escape,
    by_f1,
    by_fdr,
    by_label,
    by_overkill,
    by_review_budget,
    expected_costs,
    p_values,
    threshold,
    without_defects,
)
from differnet.calibration import thresholds as room

Figures = NDArray[np.float64]

figures = st.lists(st.integers(-4, 6).map(float) | st.floats(-1e300, 1e300), min_size=1, max_size=12)


def told(suggestion: Suggestion) -> str:
    return " ".join((*suggestion.promises, *suggestion.cannot))


def everything() -> dict[str, Suggestion]:
    rng = np.random.default_rng(0)
    good, bad = rng.normal(size=150), rng.normal(3, 1, 80)
    return {
        "overkill": by_overkill(good, 0.05, 0.01),
        "budget": by_review_budget(good, 0.05),
        "escape": by_escape(good, bad, 0.1, 0.95),
        "cost": by_cost(good, bad, 1, 20, 0.05, 0.2),
        "fdr": by_fdr(good, np.append(good, bad), 0.1, 0.2),
        "f1": by_f1(good, bad),
        "f1, split": by_f1(good, bad, split=True),
        "none": without_defects(good),
        "batch": without_defects(good, np.append(good, bad)),
    }


@pytest.mark.parametrize("name", everything())
def test_every_suggestion_is_two_finite_thresholds_and_sentences(name: str) -> None:
    found = everything()[name]
    assert math.isfinite(found.review)
    assert math.isfinite(found.defect)
    assert found.review <= found.defect
    assert found.promises
    assert found.cannot
    for sentence in (*found.promises, *found.cannot):
        assert sentence.endswith(".")
        assert "nan" not in sentence.split()
    assert "150" in told(found)
    # Drift is never covered, and says so.
    assert any("another lot" in sentence for sentence in found.cannot)
    # Where no defect was seen, nothing is said of escapes, and that is said.
    unseen = name not in ("escape", "cost", "f1", "f1, split")
    assert unseen == any("nothing is promised of escapes" in sentence for sentence in found.cannot)


def test_overkill_thresholds_are_conformal() -> None:
    good = np.random.default_rng(1).normal(size=500)
    found = by_overkill(good, 0.05, 0.01)
    assert (found.review, found.defect) == (threshold(good, 0.05), threshold(good, 0.01))
    # n = 500 at 1 %: k = 5, mean 5/501.
    assert "On average at most 0.998 % of good parts are rejected (overkill): 500 calibration" in told(found)
    low, high = stats.beta(5, 496).ppf([0.05, 0.95])
    assert f"{100 * low:.3g} % to {100 * high:.3g} %" in found.promises[1]
    with pytest.raises(CalibrationError):
        by_overkill(good, 0.01, 0.05)
    with pytest.raises(CalibrationError, match="999 good parts"):
        by_overkill(good, 0.05, 0.001)


@pytest.mark.parametrize("n", [19, 99, 100, 1000])
def test_review_budget_is_used_to_the_last_part_and_not_exceeded(n: int) -> None:
    good = np.arange(float(n))
    share, overkill = 0.1, 0.06
    found = by_review_budget(good, share, overkill)
    between = int(np.sum((good >= found.review) & (good < found.defect)))
    assert between == math.floor(share * (n + 1) + 1e-9)
    assert int(np.sum(good >= found.defect)) == math.floor(overkill * (n + 1) + 1e-9) - 1
    assert by_review_budget(good, share).defect == threshold(good, 1 / (n + 1))
    with pytest.raises(CalibrationError):
        by_review_budget(good, 0.5 / (n + 1))
    with pytest.raises(CalibrationError):
        by_review_budget(good, 0.7, 0.4)


@pytest.mark.parametrize(
    ("most", "confidence", "needed"),
    [(0.05, 0.95, 59), (0.01, 0.95, 299), (0.1, 0.9, 22), (0.001, 0.95, 2995)],
)
def test_escapes_take_as_many_defects_as_the_binomial_law_says(
    most: float, confidence: float, needed: int
) -> None:
    good, bad = np.arange(10.0), np.arange(5.0, 5.0 + needed)
    # None may escape: the threshold is the tamest defect.
    assert by_escape(good, bad, most, confidence).review == 5.0
    with pytest.raises(CalibrationError, match=f"at least {needed} labelled defects") as refused:
        by_escape(good, bad[1:], most, confidence)
    assert refused.value.found == str(needed - 1)


def test_escapes_on_the_labelled_defects_are_those_the_test_allows() -> None:
    good = np.random.default_rng(2).normal(size=200)
    for d in (59, 93, 200, 1000):
        bad = np.random.default_rng(d).normal(3, 1, d)
        found = by_escape(good, bad, 0.05, 0.95)
        escapes = int(np.sum(bad < found.review))
        assert stats.binom.cdf(escapes, d, 0.05) <= 0.05 < stats.binom.cdf(escapes + 1, d, 0.05)
        assert f"{d} labelled defects, {escapes} escape" in found.promises[0]
        share = float(np.mean(good >= found.review))
        assert found.promises[1].startswith(f"{100 * share:.3g} % of good parts are reviewed or rejected")


def test_escape_with_ties_lets_no_more_escape() -> None:
    bad = np.repeat([1.0, 2.0, 3.0], [1, 70, 29])
    found = by_escape([0.0], bad, 0.1, 0.95, alpha_defect=0.5)
    assert found.review == 2.0


def test_defect_threshold_never_lies_below_the_review() -> None:
    found = by_escape([0.0, 1.0], np.full(59, 7.0), 0.05)
    assert (found.review, found.defect) == (7.0, 7.0)
    # The conformal rate is that of a lower threshold: it is not claimed.
    assert "(overkill)" not in told(found)
    assert "(overkill)" in told(by_escape([0.0, 1.0], np.full(59, 0.5), 0.05))


def test_few_labelled_defects_are_told() -> None:
    found = by_escape(np.arange(99.0), np.arange(50.0, 79.0), 0.2, 0.95)
    assert any("Only 29 labelled defects (fewer than 30)" in s and "9.81 %" in s for s in found.cannot)
    assert "labelled defects (fewer" not in told(by_escape(np.arange(99.0), np.arange(30.0), 0.2, 0.95))
    assert "Only 3 labelled" in told(by_cost([0.0], [1.0, 2.0, 3.0], 1, 1, 0.1))


def cost_of(
    review: float, defect: float, good: Figures, bad: Figures, costs: tuple[float, float, float], share: float
) -> float:
    overkill, escape, look = costs
    of_good = np.where(good >= defect, overkill, np.where(good >= review, look, 0.0)).mean()
    of_bad = np.where(bad >= defect, 0.0, np.where(bad >= review, look, escape)).mean()
    return float((1 - share) * of_good + share * of_bad)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    good=figures,
    bad=figures,
    costs=st.tuples(st.integers(1, 9), st.integers(1, 99), st.sampled_from([None, 0.0, 0.2, 1.0])),
    share=st.sampled_from([0.01, 0.3, 0.8]),
)
def test_no_pair_of_thresholds_costs_less(
    good: list[float], bad: list[float], costs: tuple[int, int, float | None], share: float
) -> None:
    """Against every pair between parts, priced part by part."""
    overkill, escape, look = costs
    found = by_cost(good, bad, overkill, escape, share, look)
    g, b = np.array(good), np.array(bad)
    priced = (overkill, escape, 0.0 if look is None else look)
    places = [*np.unique([*good, *bad]), math.nextafter(max(*good, *bad), math.inf)]
    pairs = [(t, t) for t in places] if look is None else [(r, t) for r in places for t in places if r <= t]
    least = min(cost_of(r, t, g, b, priced, share) for r, t in pairs)
    assert cost_of(found.review, found.defect, g, b, priced, share) == pytest.approx(least, abs=1e-9)
    assert look is not None or found.review == found.defect
    assert math.isfinite(found.review)
    assert math.isfinite(found.defect)


def test_cost_sentences_hold_the_figures() -> None:
    good, bad = np.arange(100.0), np.arange(80.0, 180.0)
    found = by_cost(good, bad, 1, 30, 0.1, 0.1)
    cost = cost_of(found.review, found.defect, good, bad, (1, 30, 0.1), 0.1)
    assert f"{cost:.3g} on 100 good parts and 100 defects" in found.promises[0]
    slack = math.sqrt(math.log(40) / 200)
    assert f"at most {cost + 0.9 * slack + 3 * slack:.3g} with 95 %" in found.promises[0]
    assert "given, not measured" in told(found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cost_overkill": -1.0},
        {"cost_overkill": 0.0, "cost_escape": 0.0},
        {"cost_review": 2.0},
        {"cost_escape": math.nan},
        {"cost_escape": math.inf},
        {"defect_share": 0.0},
        {"defect_share": 1.0},
        {"defects": []},
        {"good": [math.nan]},
    ],
)
def test_costs_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    usual: dict[str, Any] = {
        "good": [0.0],
        "defects": [1.0],
        "cost_overkill": 1.0,
        "cost_escape": 5.0,
        "defect_share": 0.1,
    }
    by_cost(**usual)
    with pytest.raises(CalibrationError):
        by_cost(**(usual | wrong))


@pytest.mark.parametrize("q", [0.02, 0.1, 0.3])
def test_batch_thresholds_flag_what_benjamini_and_hochberg_do(q: float) -> None:
    rng = np.random.default_rng(3)
    good = rng.normal(size=400)
    for shift in (0.0, 1.5, 4.0):
        batch = np.append(rng.normal(size=90), [*rng.normal(shift, 1, 10), math.nan])
        found = by_fdr(good, batch, q, min(2 * q, 0.9))
        values = p_values(good, batch)
        for limit, rate in ((found.defect, q), (found.review, min(2 * q, 0.9))):
            wanted = benjamini_hochberg(values, rate).flagged
            assert ((batch >= limit) == wanted).all()
        assert f"{int((batch >= found.defect).sum())} of 100 parts" in told(found)


def test_batch_without_discoveries_flags_nothing() -> None:
    found = by_fdr(np.arange(99.0), [1.0, 500.0], 0.01)
    assert found.review == found.defect > 500.0
    assert math.isfinite(by_fdr(np.arange(9.0), [math.inf, 1.0], 0.01).defect)
    assert any("Fewer than 2 defects" in s for s in found.cannot)
    with pytest.raises(CalibrationError):
        by_fdr([1.0], [1.0], 0.2, 0.1)
    with pytest.raises(CalibrationError):
        by_fdr([1.0], [1.0], 0.0)


def f1_of(limit: float, strangeness: Figures, bad: NDArray[np.bool_]) -> float:
    flagged = strangeness >= limit
    return 2 * float(np.sum(flagged & bad)) / float(flagged.sum() + bad.sum())


def best_f1(strangeness: Figures, bad: NDArray[np.bool_]) -> float:
    found = np.cumsum(bad[np.argsort(-strangeness)])
    return float(np.max(2 * found / (np.arange(1, len(bad) + 1) + bad.sum())))


def batches(count: int, seed: int) -> list[tuple[Figures, Figures, NDArray[np.bool_]]]:
    """Return calibration parts, a batch, and which of it are defects: light and heavy tails, few and many."""
    rng = np.random.default_rng(seed)
    drawn = []
    for i in range(count):
        size, share = int(rng.choice([60, 200, 600])), float(rng.choice([0.03, 0.1, 0.3, 0.67]))
        d = max(1, int(rng.binomial(size, share)))
        law = (stats.norm(), stats.gamma(3), stats.lognorm(0.5), stats.expon())[i % 4]
        parts, calibration = law.rvs(size, rng), law.rvs(int(rng.choice([30, 100, 300])), rng)
        parts[:d] += float(rng.choice([3, 5, 10])) * law.std() * rng.gamma(2, 0.5, d)
        drawn.append((calibration, parts, np.arange(size) < d))
    return drawn


def test_threshold_without_defects_comes_near_the_best_one() -> None:
    """Loss in F1 beside the best threshold, mean of 400 batches: a batch helps, and beats any one rate."""
    drawn = batches(400, seed=0)
    best = np.array([best_f1(parts, bad) for _, parts, bad in drawn])

    def loss(limits: list[float]) -> float:
        reached = [f1_of(limit, parts, bad) for limit, (_, parts, bad) in zip(limits, drawn, strict=True)]
        return float(np.mean(best - reached))

    alone = loss([without_defects(good).defect for good, _, _ in drawn])
    helped = loss([without_defects(good, parts).defect for good, parts, _ in drawn])
    strangest = loss([float(np.nextafter(good.max(), np.inf)) for good, _, _ in drawn])
    # Measured 0.122, 0.098 and 0.167, with standard errors of 0.007 to 0.009.
    assert helped < 0.11
    assert helped < alone < 0.13 < strangest


def test_well_separated_defects_are_found_whatever_their_number() -> None:
    rng = np.random.default_rng(4)
    for d in (5, 20, 100, 190):
        good = rng.normal(size=200)
        parts = np.append(rng.normal(size=200 - d), rng.normal(9, 1, d))
        limit = without_defects(good, parts).defect
        assert f1_of(limit, parts, np.arange(200) >= 200 - d) > 0.9


def test_batch_of_good_parts_has_the_threshold_of_no_batch() -> None:
    """Where it finds no defects; where noise passes for some, overkill stays within what was allowed."""
    rng = np.random.default_rng(5)
    same, rejected = 0, []
    for _ in range(200):
        good, parts = rng.exponential(size=100), rng.exponential(size=150)
        found = without_defects(good, parts)
        same += found.defect == without_defects(good).defect
        rejected.append(float(np.mean(parts >= found.defect)))
    # Measured 114, and 0.035 with a standard error of 0.003.
    assert same >= 90
    assert np.mean(rejected) < 0.047


def test_without_defects_promises_overkill_alone() -> None:
    good = np.random.default_rng(6).normal(size=60)
    batch = np.append(good[:30], np.full(30, 1.2))
    found = without_defects(good, batch, alpha_review=0.05, most_overkill=0.1)
    assert found.review <= found.defect
    assert found.review >= threshold(good, 0.1)
    assert "at most 9.84 % of good parts are reviewed or rejected" in told(found)
    assert "no F1 is promised" in told(found)
    # Few parts cannot promise 5 or 10 %; the least they can promise is taken.
    assert math.isfinite(without_defects([0.0, 1.0, 2.0]).defect)
    with pytest.raises(CalibrationError):
        without_defects([1.0])
    with pytest.raises(CalibrationError):
        without_defects(good, most_overkill=1.0)
    assert without_defects(good, [math.nan, math.inf]) == without_defects(good)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(good=st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=20), batch=figures)
def test_without_defects_is_finite_whatever_the_figures(good: list[float], batch: list[float]) -> None:
    found = without_defects(good, batch)
    assert math.isfinite(found.review)
    assert math.isfinite(found.defect)
    assert found.review <= found.defect


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    values=st.lists(
        st.floats(-1e308, 1e308) | st.sampled_from([0.0, 5e-324, 1e-323]), min_size=1, max_size=20
    )
)
def test_thresholds_between_parts_divide_them_in_every_way(values: list[float]) -> None:
    levels, distinct = room._between(np.array(values)), np.unique(values)
    assert [int(np.sum(distinct >= t)) for t in levels] == list(range(len(distinct), -1, -1))
    assert np.isfinite(levels).all()


def test_one_class_is_refused_where_labels_are_needed() -> None:
    good, bad = by_label([3, 1, 2], [1, 0, 1])
    assert good.tolist() == [1.0]
    assert bad.tolist() == [3.0, 2.0]
    for labels, word in (([0, 0, 0], "good"), ([True] * 3, "defects")):
        with pytest.raises(CalibrationError, match=f"3 parts, all of them {word}"):
            by_label([1, 2, 3], labels)
    for wrong in ([0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 1.0, math.nan]):
        with pytest.raises(CalibrationError):
            by_label([1, 2, 3], wrong)
    with pytest.raises(CalibrationError):
        by_label([1, math.nan], [0, 1])


@pytest.mark.parametrize(("most", "confidence"), [(0.0, 0.9), (1.0, 0.9), (0.1, 1.0), (0.1, math.nan)])
def test_escape_rates_outside_0_to_1_are_refused(most: float, confidence: float) -> None:
    with pytest.raises(CalibrationError):
        by_escape([0.0, 1.0], np.arange(100.0), most, confidence)


def f1_beyond(good: Figures, bad: Figures, limit: float) -> float:
    right = int((bad >= limit).sum())
    return 2 * right / (right + int((good >= limit).sum()) + len(bad))


@given(good=figures, bad=figures)
@settings(max_examples=80, deadline=None)
def test_no_threshold_has_a_larger_f1(good: list[float], bad: list[float]) -> None:
    usual, faulty = np.array(good), np.array(bad)
    found = by_f1(usual, faulty)
    assert found.review == found.defect
    both = np.unique(np.concatenate([usual, faulty]))
    others = [f1_beyond(usual, faulty, limit) for limit in (*both, np.nextafter(both[-1], np.inf))]
    assert f1_beyond(usual, faulty, found.defect) == pytest.approx(max(others))


def test_an_f1_that_chose_itself_is_said_to_be_optimistic() -> None:
    rng = np.random.default_rng(3)
    good, bad = rng.normal(size=60), rng.normal(2, 1, 40)
    found, split = by_f1(good, bad), by_f1(good, bad, split=True, seed=1)
    assert "that chose the threshold: optimistic" in told(found)
    assert "however the threshold was chosen" in told(found)
    assert "40 defects beside 60 good parts here" in told(found)
    # Massart's slack is what makes it hold of a threshold that was chosen by looking.
    overkill = (good >= found.defect).mean() + math.sqrt(math.log(20) / 120)
    assert f"At most {100 * overkill:.3g} % of good parts are rejected" in told(found)
    assert "optimistic" not in told(split)
    assert "on the 30 good parts and 20 defects that did not choose the threshold" in told(split)
    assert by_f1(good, bad, split=True, seed=1) == split
    for few in ([1.0], []):
        with pytest.raises(CalibrationError):
            by_f1(good, few, split=True)


def test_the_f1_of_the_other_half_is_not_optimistic() -> None:
    """Over 300 lines: what a split measures is on average what new parts show; what chose itself is more."""
    rng = np.random.default_rng(5)
    fresh = rng.normal(size=20_000), rng.normal(1, 1, 20_000)
    optimistic: list[float] = []
    honest: list[float] = []
    broken = 0
    for line in range(300):
        good, bad = rng.normal(size=20), rng.normal(1, 1, 20)
        for split, differences in ((False, optimistic), (True, honest)):
            found = by_f1(good, bad, split=split, seed=line)
            said = float(told(found).split("F1 is ")[1].split(" ")[0])
            differences.append(said - f1_beyond(*fresh, found.defect))
            if not split:
                bounds = [float(b) / 100 for b in re.findall(r"t most ([\d.]+) %", found.promises[0])]
                true = (fresh[0] >= found.defect).mean(), (fresh[1] < found.defect).mean()
                broken += true[0] > bounds[0] or true[1] > bounds[1]
    error = np.std(honest) / np.sqrt(300)
    assert np.mean(optimistic) > 0.03
    # Each of the two bounds is promised 95 times in 100, whatever was chosen.
    assert broken / 300 <= 0.1 + 4 * math.sqrt(0.1 * 0.9 / 300)
    assert abs(np.mean(honest)) < 4 * error


@given(good=figures, bad=figures, look=st.none() | st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_least_of_the_expected_costs_is_the_rules(
    good: list[float], bad: list[float], look: float | None
) -> None:
    priced, found = expected_costs(good, bad, 1, 9, 0.2, look), by_cost(good, bad, 1, 9, 0.2, look)
    assert found.defect == priced.levels[priced.least]
    assert found.review == priced.levels[priced.review[priced.least]]
    assert priced.cost[priced.least] == priced.cost.min()
    assert (priced.review <= np.arange(len(priced.levels))).all()
