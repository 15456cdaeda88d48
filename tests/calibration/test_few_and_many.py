"""p-values for few parts, for several products, with random ties; and what must not have been trained on."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from differnet.calibration import (
    CalibrationError,
    cross_bound,
    cross_p_values,
    p_values,
    p_values_by_group,
    require_disjoint,
    smallest_alpha,
    smoothed_p_values,
    threshold,
    thresholds_by_group,
)


def test_random_ties_stay_within_the_count() -> None:
    """Between (#{c > s}) / (n+1), excluded, and (1 + #{c >= s}) / (n+1), included, and uniform in between."""
    good = np.array([1.0, 2.0, 2.0, 2.0, 5.0])
    asked = np.repeat([0.0, 2.0, 9.0], 4000)
    found = smoothed_p_values(good, asked, seed=0).reshape(3, 4000)
    for row, (low, high) in zip(found, ((5, 6), (1, 5), (0, 1)), strict=True):
        assert low / 6 < row.min() <= row.max() <= high / 6
        assert float(row.mean()) == pytest.approx((low + high) / 12, abs=0.01)
    assert (found.ravel() <= p_values(good, asked)).all()


def test_random_ties_follow_the_seed() -> None:
    good, asked = np.zeros(9), np.append(np.zeros(5), math.nan)
    assert np.array_equal(
        smoothed_p_values(good, asked, 1), smoothed_p_values(good, asked, 1), equal_nan=True
    )
    assert smoothed_p_values(good, asked, 1)[0] != smoothed_p_values(good, asked, 2)[0]
    assert math.isnan(smoothed_p_values(good, asked, 1)[5])


def test_cross_p_values_are_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    for folds in (2, 3, 7):
        n = 14
        good = rng.integers(0, 5, n).astype(float)
        fold = rng.permutation(np.arange(n) % folds)
        asked = rng.integers(-1, 7, (30, folds)).astype(float)
        found = cross_p_values(good, fold, asked)
        for row, p_value in zip(asked, found, strict=True):
            wanted = Fraction(1 + sum(good[i] >= row[fold[i]] for i in range(n)), n + 1)
            assert p_value == float(wanted)


def test_one_member_gives_the_split_p_values() -> None:
    good, asked = np.arange(10.0), np.array([[3.0], [99.0], [math.nan]])
    found = cross_p_values(good, np.zeros(10, dtype=int), asked)
    assert np.array_equal(found, p_values(good, asked[:, 0]), equal_nan=True)
    two = cross_p_values([1.0, 2.0], [0, 1], [[math.nan, 5.0]])
    assert math.isnan(two[0])


def test_cross_bound_is_the_published_one() -> None:
    # Each part its own fold is the jackknife+: 2 alpha.
    assert cross_bound(50, 50, 0.05) == pytest.approx(0.1)
    # CV+ of 100 parts in 10 folds: min(2 * 0.9 / 11, 0.9 / 11).
    assert cross_bound(100, 10, 0.05) == pytest.approx(0.1 + 0.9 / 11)
    # Folds of unequal size have the first term only.
    assert cross_bound(101, 10, 0.05) == pytest.approx(0.1 + 18 / 111)
    assert cross_bound(4, 2, 0.5) == 1.0


@pytest.mark.parametrize(
    ("good", "folds", "asked"),
    [
        ([1.0, 2.0], [0, 2], [[1.0, 1.0]]),
        ([1.0, 2.0], [0, 0], [[1.0, 1.0]]),
        ([1.0, 2.0], [0, 1, 1], [[1.0, 1.0]]),
        ([1.0, 2.0], [0, 1], [1.0, 1.0]),
        ([1.0, 2.0], [0.0, 1.0], [[1.0, 1.0]]),
        ([1.0, math.nan], [0, 1], [[1.0, 1.0]]),
        ([], [], np.zeros((1, 0))),
    ],
)
def test_folds_that_do_not_fit_are_refused(good: list[float], folds: list[float], asked: object) -> None:
    with pytest.raises(CalibrationError):
        cross_p_values(good, folds, asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(("parts", "folds", "alpha"), [(10, 1, 0.1), (10, 11, 0.1), (10, 5, 0.0)])
def test_bounds_of_no_folds_are_refused(parts: int, folds: int, alpha: float) -> None:
    with pytest.raises(CalibrationError):
        cross_bound(parts, folds, alpha)


def test_a_part_is_compared_with_its_own_group_alone() -> None:
    rng = np.random.default_rng(1)
    groups = rng.permutation(["bolt"] * 30 + ["nut"] * 9).tolist()
    good = np.where(np.array(groups) == "nut", 100.0, 0.0) + rng.normal(size=39)
    asked, of = [0.0, 100.0, 50.0, 50.0, math.nan], ["bolt", "nut", "bolt", "nut", "bolt"]
    found = p_values_by_group(good, groups, asked, of)
    for one, group, p_value in zip(asked, of, found, strict=True):
        own = [g for g, name in zip(good.tolist(), groups, strict=True) if name == group]
        assert np.array_equal(p_value, p_values(own, [one])[0], equal_nan=True)
    assert found[2] == 1 / 31
    assert found[3] == 1.0


def test_thresholds_by_group_are_those_of_each_and_name_the_smallest() -> None:
    good, groups = np.arange(40.0), ["a"] * 19 + ["b"] * 21
    found = thresholds_by_group(good, groups, 0.05)
    assert found == {"a": threshold(good[:19], 0.05), "b": threshold(good[19:], 0.05)}
    with pytest.raises(CalibrationError, match="at least 24 good parts of each group") as refused:
        thresholds_by_group(good, groups, 0.04)
    assert refused.value.found == "19 of 'a'"
    with pytest.raises(CalibrationError):
        thresholds_by_group(good, groups, 1.0)
    assert smallest_alpha(19) == 0.05


def test_unknown_groups_and_missing_names_are_refused() -> None:
    with pytest.raises(CalibrationError, match="3 parts of 2 other groups, 2 of 'cap'") as refused:
        p_values_by_group([1.0], ["bolt"], [1.0] * 4, ["cap", "bolt", "cap", "ring"])
    assert "bolt" in refused.value.expected
    with pytest.raises(CalibrationError):
        p_values_by_group([1.0, 2.0], ["bolt"], [1.0], ["bolt"])
    with pytest.raises(CalibrationError):
        p_values_by_group([1.0], ["bolt"], [1.0, 2.0], ["bolt"])
    with pytest.raises(CalibrationError):
        p_values_by_group([], [], [1.0], ["bolt"])


def test_parts_that_were_trained_on_are_refused_with_number_and_example() -> None:
    require_disjoint([], [], "lots")
    require_disjoint(["a", "b"], ["c"], "pictures (sha256)")
    with pytest.raises(CalibrationError) as refused:
        require_disjoint(["lot 1", "lot 2"], ["lot 2", "lot 2", "lot 1", "lot 9"], "lots")
    assert refused.value.found == "3 of 4 calibration parts share 2 of them, such as 'lot 1'"
    assert refused.value.expected.startswith("lots")


def test_parts_without_identity_show_nothing() -> None:
    with pytest.raises(CalibrationError, match="1 of 3 parts without one"):
        require_disjoint(["a", ""], ["b"], "lots")
    # Iterables that can be read once only are read once.
    with pytest.raises(CalibrationError):
        require_disjoint(iter("ab"), iter("bc"), "lots")
