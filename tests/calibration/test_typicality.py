"""Typicality of a batch and combinations of p-values: exact, two-sided, honest about what they cannot see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from calibration.drift_checks import TYPICALITY_CHECKS
from differnet.calibration import CalibrationError, combine_p_values, several_statistics, typicality_p_values
from differnet.calibration.permutation import jointly


@pytest.mark.parametrize("name", TYPICALITY_CHECKS)
def test_property(name: str) -> None:
    TYPICALITY_CHECKS[name]()


def test_same_seed_same_p_value() -> None:
    rng = np.random.default_rng(0)
    good, batches = rng.normal(size=80), rng.normal(size=(3, 10))
    once = typicality_p_values(good, batches, seed=1)
    assert np.array_equal(once, typicality_p_values(good, batches, seed=1))
    assert not np.array_equal(once, typicality_p_values(good, batches, seed=2))


def test_batches_are_judged_one_by_one() -> None:
    rng = np.random.default_rng(1)
    good, batches = rng.normal(size=80), rng.normal(size=(4, 5))
    alone = [typicality_p_values(good, batch[None])[0] for batch in batches]
    assert typicality_p_values(good, batches).tolist() == alone


def test_units_and_order_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    good, batch = rng.normal(size=(60, 3)), rng.normal(0.5, size=(9, 3))
    found = several_statistics(good, batch)
    other = several_statistics(
        good[::-1] * [1e6, 1e-6, 1] + [0, 5, -1e3], batch * [1e6, 1e-6, 1] + [0, 5, -1e3]
    )
    # Reversed calibration parts are drawn in another order: the same up to the noise of the draws.
    assert other.by_statistic == pytest.approx(found.by_statistic, abs=0.04)
    assert other.p_value == pytest.approx(found.p_value, abs=0.04)


def test_two_strangest_of_different_statistics_do_not_hide_one_another() -> None:
    """Each of four statistics has two parts at its ends; a part far beyond all of them is the one in 100."""
    rng = np.random.default_rng(3)
    good = rng.normal(size=(99, 4))
    assert several_statistics(good, [[0.0, 0.0, 9.0, 0.0]]).p_value == 0.01
    assert several_statistics(good, [[0.0, 0.0, -9.0, 0.0]]).p_value == 0.01


def test_an_exact_combination_loses_less_than_bonferroni() -> None:
    """Four statistics that say the same cost hardly more than one."""
    rng = np.random.default_rng(4)
    good = rng.normal(size=(300, 1)) + 0.01 * rng.normal(size=(300, 4))
    batch = rng.normal(0.7, size=(10, 1)) + 0.01 * rng.normal(size=(10, 4))
    exact, generous = (several_statistics(good, batch, rule) for rule in ("calibrated", "bonferroni"))
    assert exact.p_value < 0.5 * generous.p_value
    assert np.array_equal(exact.by_statistic, generous.by_statistic)
    assert several_statistics(good, batch, "mean").p_value == combine_p_values(exact.by_statistic, "mean")


def test_what_moved_is_told() -> None:
    rng = np.random.default_rng(5)
    good, batch = rng.normal(size=(200, 3)), rng.normal([0, 3, 0], size=(12, 3))
    found = several_statistics(good, batch)
    assert (found.jointly <= 0.01).tolist() == [False, True, False]
    assert found.p_value == found.jointly.min()
    # Allowing for three statistics costs; only at the far end, where two sides tie, does size gain a half.
    assert (found.jointly >= 0.5 * found.by_statistic).all()


def test_joint_p_values_are_counted() -> None:
    rng = np.random.default_rng(6)
    p, sizes = rng.integers(1, 6, (40, 3)) / 5, rng.normal(size=(40, 3))
    keys = [min((p[r, c], -sizes[r, c]) for c in range(3)) for r in range(40)]
    wanted = [sum(key <= (p[0, c], -sizes[0, c]) for key in keys) / 40 for c in range(3)]
    assert jointly(p, sizes).tolist() == wanted


def test_identical_calibration_parts_still_judge() -> None:
    good = np.full((50, 2), 3.0)
    assert several_statistics(good, [[3.0, 3.0]]).p_value == 1.0
    assert several_statistics(good, [[3.0, 3.1]]).p_value == pytest.approx(1 / 51)
    assert typicality_p_values(good[:, 0], [[3.0], [3.1]]).tolist() == pytest.approx([1.0, 1 / 51])
    assert typicality_p_values(good[:, 0], [[3.0, 3.1]], draws=99)[0] < 0.1


def test_huge_figures_stay_figures() -> None:
    good = np.random.default_rng(7).normal(size=(60, 1)) * 1e300
    for batch in (good[:1], good[:5], np.array([[1.7e308]])):
        assert 0 < several_statistics(good, batch).p_value <= 1
        assert 0 < typicality_p_values(good, batch.T)[0] <= 1


@pytest.mark.parametrize(
    ("good", "batch"),
    [
        ([[1.0]], [[1.0]]),
        ([[1.0], [math.nan]], [[1.0]]),
        ([[1.0], [2.0]], [[math.inf]]),
        ([[1.0], [2.0]], np.zeros((0, 1))),
        ([[1.0], [2.0]], [[1.0, 2.0]]),
        ([1.0, 2.0], [1.0]),
        (np.zeros((5, 0)), np.zeros((2, 0))),
    ],
)
def test_tables_that_do_not_match_or_are_not_finite_are_refused(good: Any, batch: Any) -> None:
    with pytest.raises(CalibrationError):
        several_statistics(good, batch)


@pytest.mark.parametrize("batches", [[1.0], [[math.nan]], [[[1.0]]], np.zeros((0, 3)), np.zeros((2, 0))])
def test_batches_that_are_none_are_refused(batches: Any) -> None:
    with pytest.raises(CalibrationError):
        typicality_p_values([1.0, 2.0, 3.0], batches)


@pytest.mark.parametrize("wrong", [[], [-0.1], [0.5, 1.1], 0.5])
def test_p_values_are_between_0_and_1(wrong: Any) -> None:
    with pytest.raises(CalibrationError):
        combine_p_values(wrong)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(CalibrationError, match="fisher"):
        combine_p_values([0.5], "fisher")  # type: ignore[arg-type]


def test_a_p_value_of_1_does_not_outvote_evidence() -> None:
    assert combine_p_values([1e-6, 1.0], "cauchy") < 1e-4
    assert combine_p_values([0.0, 1.0], "cauchy") < 1e-12
