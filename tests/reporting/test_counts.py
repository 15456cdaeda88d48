"""Counts, rates and intervals against closed forms and by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from differnet.evaluation.intervals import largest_rate, percent, rate
from differnet.records import Record, Verdict
from differnet.reporting.counts import (
    VERDICTS,
    Columns,
    Truth,
    columns_of,
    discoveries,
    histogram,
    kinds_table,
    recorded_counts,
    starting_thresholds,
    truth_of,
    verdict_codes,
    verdict_counts,
)
from differnet.reporting.run_folder import RunFolder

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]

GOOD, DEFECT, WRONG, NONE = (int(group) for group in Truth)


def columns(
    strangeness: list[float],
    truth: list[int],
    fixed: list[int] | None = None,
    doubted: list[bool] | None = None,
) -> Columns:
    number = len(strangeness)
    return Columns(
        np.array(strangeness, float),
        np.array(truth, np.int8),
        np.array(fixed if fixed is not None else [-1] * number, np.int8),
        np.array(doubted if doubted is not None else [False] * number, bool),
        np.full(number, np.nan),
    )


def test_no_threshold_passes_what_was_reviewed_for_another_reason(make_record: MakeRecord) -> None:
    figures = {"t_review": 1.0, "t_defect": 2.0}
    doubted = make_record(0, Verdict.REVIEW, strangeness=0.4, **figures)
    strange = make_record(1, Verdict.REVIEW, strangeness=1.4, **figures)
    table = columns_of([doubted, strange])
    assert table.doubted.tolist() == [True, False]
    for thresholds, verdicts in (
        ((1.0, 2.0), [Verdict.REVIEW, Verdict.REVIEW]),
        ((3.0, 4.0), [Verdict.REVIEW, Verdict.PASS]),
        ((0.1, 0.2), [Verdict.DEFECT, Verdict.DEFECT]),
    ):
        assert [VERDICTS[code] for code in verdict_codes(table, *thresholds)] == verdicts


def test_a_threshold_belongs_to_the_stranger_side() -> None:
    codes = verdict_codes(columns([0.99, 1.0, 1.99, 2.0], [GOOD] * 4), 1.0, 2.0)
    assert [VERDICTS[code] for code in codes] == [
        Verdict.PASS,
        Verdict.REVIEW,
        Verdict.REVIEW,
        Verdict.DEFECT,
    ]


def test_what_is_not_finite_never_passes() -> None:
    codes = verdict_codes(columns([np.nan, np.inf, -np.inf], [GOOD] * 3), 1.0, 2.0)
    assert {VERDICTS[code] for code in codes} == {Verdict.INVALID}


def test_no_threshold_moves_a_wrong_input_or_an_invalid_file() -> None:
    fixed = [VERDICTS.index(Verdict.OOD), VERDICTS.index(Verdict.INVALID)]
    for t_review in (0.0, 5.0):
        codes = verdict_codes(columns([0.1, np.nan], [GOOD, NONE], fixed), t_review, 9.0)
        assert codes.tolist() == fixed


@pytest.mark.parametrize("thresholds", [(2.0, 1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_impossible_thresholds_are_refused(thresholds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="T1 <= T2"):
        verdict_codes(columns([1.0], [GOOD]), *thresholds)


def test_rates_by_hand() -> None:
    ood, invalid = VERDICTS.index(Verdict.OOD), VERDICTS.index(Verdict.INVALID)
    counts = verdict_counts(
        columns(
            [0, 0, 1.5, 3, 0, 0, 0, 1.5, 3, 9, 0],
            [GOOD, GOOD, GOOD, GOOD, GOOD, GOOD, DEFECT, DEFECT, DEFECT, WRONG, NONE],
            [-1, -1, -1, -1, ood, invalid, -1, -1, -1, ood, -1],
        ),
        1.0,
        2.0,
    )
    assert (counts.overkill.events, counts.overkill.of) == (2, 5)
    assert (counts.escape.events, counts.escape.of) == (1, 3)
    assert (counts.review_load.events, counts.review_load.of) == (2, 10)
    assert (counts.passed.events, counts.passed.of) == (4, 11)
    assert counts.table.sum() == 11
    assert counts.of_verdict(Verdict.OOD) == 2


def test_counts_at_the_thresholds_in_force_equal_the_recorded_verdicts(make_run: MakeRun) -> None:
    run = make_run(["good"] * 30 + ["scratch"] * 10 + ["wrong_input/blank", "unreadable", None])
    recorded = recorded_counts(run.records)
    computed = verdict_counts(
        columns_of(run.records), *starting_thresholds(run.facts.t_review, run.facts.t_defect)
    )
    np.testing.assert_array_equal(recorded.table, computed.table)


def test_nothing_at_all_has_rates_without_cases() -> None:
    counts = verdict_counts(columns([], []), 1.0, 2.0)
    assert str(counts.overkill) == "no cases"
    assert (counts.escape.low, counts.escape.high) == (0.0, 1.0)


@pytest.mark.parametrize(("events", "of"), [(0, 1), (1, 1), (0, 300), (7, 40), (40, 40)])
def test_intervals_agree_with_scipy(events: int, of: int) -> None:
    ours = rate(events, of)
    theirs = stats.binomtest(events, of).proportion_ci(0.95, "exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_intervals_cover_what_they_claim() -> None:
    # Exact, not simulated: coverage is the sum of the binomial weights whose interval holds the truth.
    for share in (0.01, 0.05, 0.3):
        weights = stats.binom.pmf(np.arange(61), 60, share)
        inside = [rate(k, 60).low <= share <= rate(k, 60).high for k in range(61)]
        assert weights[inside].sum() >= 0.95


def test_one_sided_claims_know_their_sizes() -> None:
    assert largest_rate(0, 299) < 0.01 <= largest_rate(0, 298)
    assert largest_rate(0, 2995) < 0.001 <= largest_rate(0, 2994)
    assert largest_rate(0, 0) == largest_rate(3, 3) == 1.0


def test_discoveries_by_the_step_up_rule() -> None:
    p_values = np.random.default_rng(3).uniform(size=400) ** 2.5
    ordered = np.sort(p_values)
    below = np.flatnonzero(ordered <= 0.1 * np.arange(1, 401) / 400)
    found = discoveries(p_values)
    assert found.selected == below[-1] + 1
    assert found.expected_good == pytest.approx(0.1 * found.selected)


def test_discoveries_without_p_values() -> None:
    assert discoveries([]).tested == 0
    assert discoveries([np.nan, 0.001]).tested == 1


@pytest.mark.parametrize(
    ("label", "group"),
    [
        ("good", Truth.GOOD),
        ("Normal", Truth.GOOD),
        (None, Truth.UNLABELLED),
        ("scratch", Truth.DEFECT),
        ("wrong colour", Truth.DEFECT),
        ("wrong_colour", Truth.DEFECT),
        ("goods", Truth.DEFECT),
        ("wrong_input", Truth.WRONG_INPUT),
        ("wrong_inputs/blank", Truth.WRONG_INPUT),
        ("OOD", Truth.WRONG_INPUT),
    ],
)
def test_labels_are_sorted_into_truth(label: str | None, group: Truth) -> None:
    assert truth_of(label) is group


def test_every_finite_strangeness_is_in_the_histogram_once() -> None:
    rng = np.random.default_rng(0)
    strangeness = np.r_[rng.exponential(0.4, 500), rng.gamma(3, 20, 50), [np.nan, np.inf, 0.0]]
    truth = np.r_[np.zeros(500), np.ones(50), [0, 1, 3]].astype(np.int8)
    table = columns(strangeness.tolist(), truth.tolist())
    counted = histogram(table, 1.3, 2.0)
    assert counted.counts.sum() == 551
    assert counted.absent == 2
    assert counted.upper == pytest.approx(10.0)
    assert counted.above == np.count_nonzero(strangeness[np.isfinite(strangeness)] > counted.upper)
    inside = strangeness[(truth == 0) & (strangeness < counted.edges[1])]
    assert counted.counts[GOOD, 0] == inside.size


@pytest.mark.parametrize("strangeness", [[], [np.nan], [0.0], [1e300], [0.0, 0.0]])
def test_a_histogram_of_little_has_a_range(strangeness: list[float]) -> None:
    counted = histogram(columns(strangeness, [GOOD] * len(strangeness)), 0.0, 0.0)
    assert counted.upper >= 1.0
    assert counted.counts.sum() == np.isfinite(strangeness).sum()


def test_kinds_are_ordered_by_frequency(make_run: MakeRun) -> None:
    table = kinds_table(make_run(["dent", "scratch", "scratch", "good", None]).records)
    assert list(table) == ["scratch", "dent"]
    assert table["scratch"].sum() == 2


@pytest.mark.parametrize(
    ("known", "start"),
    [
        ((None, None), (1.3, 2.0)),
        ((3.0, None), (3.0, 3.0)),
        ((2.0, 1.0), (2.0, 2.0)),
        ((-1.0, 0.5), (0.0, 0.5)),
    ],
)
def test_starting_thresholds_are_ordered(known: tuple[float, float], start: tuple[float, float]) -> None:
    assert starting_thresholds(*known) == start


def test_a_share_next_to_an_end_is_not_rounded_onto_it() -> None:
    assert percent(0.99996) == "99.996 %"
    assert percent(1e-6) == "0.0001 %"


def test_a_hundred_thousand_rows_are_counted_quickly() -> None:
    rng = np.random.default_rng(0)
    table = Columns(
        rng.exponential(0.5, 100_000),
        rng.integers(0, 4, 100_000).astype(np.int8),
        np.full(100_000, -1, np.int8),
        rng.uniform(size=100_000) < 0.01,
        rng.uniform(size=100_000),
    )
    taken = []
    for t_review in np.linspace(0.1, 1.9, 20):
        start = time.perf_counter()
        verdict_counts(table, float(t_review), 2.0)
        taken.append(time.perf_counter() - start)
    # The page may take 300 ms; the mathematics a tenth of that on a slow machine.
    assert np.median(taken) < 0.03
