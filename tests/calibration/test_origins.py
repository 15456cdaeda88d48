"""The boundary between defects and wrong inputs stands where simulated ones of both kinds put it."""

from __future__ import annotations

import numpy as np
import pytest

from differnet.calibration import CalibrationError, GoodFigures, OriginRule


def clouds(distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (400, 3)), rng.normal(distance, 1, (400, 3))


def test_what_is_apart_is_told_apart_in_the_middle() -> None:
    defects, wrong = clouds(6.0)
    rule = OriginRule.fit(defects, wrong)
    middle = np.full((1, 3), 3.0)
    across = float(rule.wrongness(middle + 3)[0] - rule.wrongness(middle - 3)[0])
    assert abs(float(rule.wrongness(middle)[0])) < 0.1 * across
    assert (rule.wrongness(defects) < 0).all()
    assert (rule.wrongness(wrong) >= 0).all()


def test_where_they_overlap_the_wrong_inputs_draw_the_line() -> None:
    defects, wrong = clouds(1.0)
    rule = OriginRule.fit(defects, wrong)
    assert np.mean(rule.wrongness(wrong) < 0) == pytest.approx(0.05, abs=0.005)
    wider = OriginRule.fit(defects, wrong, missed=0.3)
    assert np.mean(wider.wrongness(wrong) < 0) == pytest.approx(0.3, abs=0.005)


def test_how_many_of_a_kind_were_simulated_decides_little() -> None:
    defects, wrong = clouds(6.0)
    many, few = OriginRule.fit(defects, wrong), OriginRule.fit(defects, wrong[:40])
    points = np.linspace(0, 6, 13)[:, None] * np.ones(3)
    crossing = [int(np.argmax(rule.wrongness(points) >= 0)) for rule in (many, few)]
    assert abs(crossing[0] - crossing[1]) <= 1


def test_a_rule_comes_back_from_its_row() -> None:
    rule = OriginRule.fit(*clouds(2.0))
    again = OriginRule.from_row(rule.row)
    points = np.random.default_rng(1).normal(size=(20, 3))
    assert np.array_equal(rule.wrongness(points), again.wrongness(points))
    for row in ([1.0], [np.nan, 0.0], [[1.0, 2.0]]):
        with pytest.raises(CalibrationError):
            OriginRule.from_row(row)


def test_good_parts_that_agree_leave_every_distance_finite() -> None:
    good = GoodFigures.fit(np.ones((30, 2)))
    far = good.distances([[1.0, 1.0], [2.0, -5.0]])
    assert (far[0] == 0).all()
    assert np.isfinite(far).all()
    assert (np.abs(far[1]) > 5).all()


def test_distances_are_spreads_near_good_parts_and_logarithms_far_out() -> None:
    rng = np.random.default_rng(3)
    figures = rng.normal(5.0, [0.01, 100.0], (2000, 2))
    # One good part in twenty is odd; it widens what is usual by little.
    figures[::20] += [0.1, 1000.0]
    good = GoodFigures.fit(figures)
    near, below, far = good.distances([[5.01, 105.0], [4.99, -95.0], [5e6, 5e10]])
    assert near == pytest.approx([0.88, 0.88], abs=0.2)
    assert below == pytest.approx([-0.88, -0.88], abs=0.2)
    assert (far < 25).all()
    assert (far > 18).all()


def test_figures_count_by_their_own_spread() -> None:
    """A figure in other units, which nothing depends on, changes nothing."""
    defects, wrong = clouds(3.0)
    scale = np.array([1.0, 1e4, 1e-4])
    rule, other = OriginRule.fit(defects, wrong), OriginRule.fit(defects * scale, wrong * scale)
    points = np.random.default_rng(1).normal(1.5, 1, (200, 3))
    assert other.wrongness(points * scale) == pytest.approx(rule.wrongness(points), abs=1e-3)


def test_too_little_is_refused() -> None:
    defects, wrong = clouds(2.0)
    for broken, other in ((defects[:5], wrong), (defects, wrong[:5]), (defects[:, :2], wrong)):
        with pytest.raises(CalibrationError):
            OriginRule.fit(broken, other)
    with pytest.raises(CalibrationError):
        OriginRule.fit(np.where(np.arange(3) == 1, np.inf, defects), wrong)
    with pytest.raises(CalibrationError):
        GoodFigures.fit(np.zeros((1, 2)))
