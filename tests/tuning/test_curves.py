"""Curves against scikit-learn and scipy, and what thinning may do to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    det_curve,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from differnet.calibration import by_cost, expected_costs
from differnet.evaluation.metrics import MetricError
from differnet.tuning import (
    Curve,
    cost_curve,
    deviates,
    operating_point,
    separation,
    uniform_quantiles,
)
from differnet.tuning.curves import thin

Figures = NDArray[np.float64]


def drawn(good: int = 300, defects: int = 120, seed: int = 0) -> tuple[Figures, Figures]:
    """Good parts and defects whose strangeness overlaps, with ties."""
    rng = np.random.default_rng(seed)
    return np.round(rng.exponential(0.4, good), 2), np.round(rng.exponential(1.0, defects) + 0.2, 2)


def both(good: Figures, defects: Figures) -> tuple[Figures, NDArray[np.int64]]:
    return np.concatenate([good, defects]), np.repeat([0, 1], [len(good), len(defects)])


def points(x: Figures, y: Figures) -> set[tuple[float, float]]:
    return {(round(float(a), 12), round(float(b), 12)) for a, b in zip(x, y, strict=True)}


@pytest.mark.parametrize("seed", range(4))
def test_the_curves_are_those_of_scikit_learn(seed: int) -> None:
    good, defects = drawn(seed=seed)
    strangeness, truth = both(good, defects)
    found = separation(good, defects, most=10_000)
    overkill, caught, _ = roc_curve(truth, strangeness, drop_intermediate=False)
    assert points(found.roc.x, found.roc.y) == points(overkill, caught)
    precision, recall, _ = precision_recall_curve(truth, strangeness)
    # It adds a point where nothing is flagged, which has no precision.
    assert points(found.precision_recall.x, found.precision_recall.y) == points(recall[:-1], precision[:-1])
    false_alarms, missed, _ = det_curve(truth, strangeness)
    inside = (false_alarms > 0) & (false_alarms < 1) & (missed > 0) & (missed < 1)
    expected = points(false_alarms[inside], missed[inside])
    assert points(found.detection_error.x, found.detection_error.y) == expected
    assert deviates(false_alarms[inside]) == pytest.approx(stats.norm.ppf(false_alarms[inside]))
    assert found.auroc.auroc == pytest.approx(roc_auc_score(truth, strangeness))
    assert found.aupr == pytest.approx(average_precision_score(truth, strangeness))
    assert found.roc.off == found.precision_recall.off == found.detection_error.off == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_each_point_is_what_its_threshold_does(seed: int) -> None:
    good, defects = drawn(80, 30, seed)
    found = separation(good, defects, most=40)
    for overkill, caught, threshold in zip(found.roc.x, found.roc.y, found.roc.threshold, strict=True):
        assert overkill == np.mean(good >= threshold)
        assert caught == np.mean(defects >= threshold)
    for overkill, caught, threshold in zip(found.roc.x, found.roc.y, found.roc.threshold, strict=True):
        point = operating_point(good, defects, float(threshold))
        assert (point.overkill, point.caught) == (overkill, caught)
    for overkill, escape, threshold in zip(
        found.detection_error.x, found.detection_error.y, found.detection_error.threshold, strict=True
    ):
        assert operating_point(good, defects, float(threshold)).errors == pytest.approx((overkill, escape))
    curve = found.precision_recall
    for recall, precision, threshold in zip(curve.x, curve.y, curve.threshold, strict=True):
        flagged = (defects >= threshold).sum(), (good >= threshold).sum()
        assert recall == flagged[0] / len(defects)
        assert precision == flagged[0] / sum(flagged)
        assert operating_point(good, defects, float(threshold)).precision == precision


def test_parts_that_are_perfectly_apart_have_no_detection_error() -> None:
    found = separation([0.1, 0.2], [3.0, 4.0])
    assert len(found.detection_error.x) == 0
    assert found.auroc.auroc == found.aupr == 1.0
    with pytest.raises(MetricError):
        separation([0.1], [])
    with pytest.raises(MetricError):
        operating_point([], [0.1], 1.0)
    beyond = operating_point([0.1], [0.2], 9.0)
    assert (beyond.precision, beyond.errors) == (None, None)


curves = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=120).map(
    lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True))
)


def off_the_line(x: Figures, y: Figures, kept: NDArray[np.int64]) -> float:
    """Return how far the furthest point lies from the line through the kept ones, brute force."""
    spread = [float(np.ptp(of)) or 1.0 for of in (x, y)]
    u, v = x / spread[0], y / spread[1]
    worst = 0.0
    for place in range(len(x)):
        after = int(np.searchsorted(kept, place))
        if kept[after] == place:
            continue
        a, b = kept[after - 1], kept[after]
        along = np.linspace(0, 1, 2001)
        apart = np.abs(u[a] + along * (u[b] - u[a]) - u[place]) + np.abs(
            v[a] + along * (v[b] - v[a]) - v[place]
        )
        worst = max(worst, float(apart.min()))
    return worst


@settings(max_examples=60, deadline=None)
@given(curve=curves, most=st.integers(4, 40))
def test_a_thinned_curve_keeps_its_ends_its_points_and_its_course(
    curve: tuple[Figures, Figures], most: int
) -> None:
    kept, off = thin(*curve, most)
    assert len(kept) <= most
    assert kept[0] == 0
    assert kept[-1] == len(curve[0]) - 1
    assert (np.diff(kept) > 0).all()
    # The grid along a line of at most the extents' length adds up to a thousandth.
    assert off_the_line(*curve, kept) <= off + 2e-3
    if len(curve[0]) <= most:
        assert off == 0.0


def test_a_curve_of_many_parts_is_off_by_no_more_than_a_pixel() -> None:
    rng = np.random.default_rng(5)
    found = separation(rng.exponential(0.4, 20_000), rng.exponential(1.2, 5_000))
    for curve in (found.roc, found.precision_recall, found.detection_error):
        assert len(curve.x) <= 400
        assert curve.off < 0.02
    # The area under the thinned ROC is that of all points to what was left out.
    area = float(np.trapezoid(found.roc.y, found.roc.x))
    assert abs(area - found.auroc.auroc) < found.roc.off


@pytest.mark.parametrize("review", [None, 0.0, 0.2, 1.0])
def test_the_least_cost_is_what_the_rule_suggests(review: float | None) -> None:
    good, defects = drawn(200, 60, 3)
    costs: dict[str, Any] = {
        "cost_overkill": 1.0,
        "cost_escape": 20.0,
        "defect_share": 0.05,
        "cost_review": review,
    }
    found = cost_curve(good, defects, (0.7, 1.1), **costs)
    rule = by_cost(good, defects, 1.0, 20.0, 0.05, review)
    assert (found.review, found.defect) == (rule.review, rule.defect)
    assert found.least == found.curve.y.min()
    if review is None:
        # What a look costs nobody said.
        assert found.now is None
        found = cost_curve(good, defects, (0.7, 0.7), **costs)
    assert found.now is not None
    assert found.least <= found.now
    place = found.curve.threshold.tolist().index(rule.defect)
    assert found.curve.y[place] == found.least


def test_a_cost_is_what_its_parts_cost() -> None:
    good, defects = drawn(60, 20, 7)
    costs: dict[str, Any] = {"cost_overkill": 3.0, "cost_escape": 50.0, "defect_share": 0.1}
    costs["cost_review"] = 0.5
    priced = expected_costs(good, defects, **costs)
    for place in range(0, len(priced.levels), 5):
        second, first = priced.levels[place], priced.levels[priced.review[place]]
        assert first <= second
        now = cost_curve(good, defects, (float(first), float(second)), **costs).now
        assert now is not None
        assert now == pytest.approx(priced.cost[place])
        # No other T1 below costs less.
        others = [
            cost_curve(good, defects, (float(other), float(second)), **costs).now or 0.0
            for other in priced.levels[: place + 1 : 3]
        ]
        assert min(others) >= priced.cost[place] - 1e-12


def test_quantiles_are_those_of_scipy() -> None:
    p = np.random.default_rng(2).uniform(size=500)
    found = uniform_quantiles(p, most=600)
    assert found.found.tolist() == np.sort(p).tolist()
    assert found.uniform == pytest.approx(np.arange(1, 501) / 501)
    rank = np.arange(1, 501)
    assert found.low == pytest.approx(stats.beta(rank, 501 - rank).ppf(0.025))
    assert found.high == pytest.approx(stats.beta(rank, 501 - rank).ppf(0.975))
    inside = (found.low <= found.found) & (found.found <= found.high)
    assert inside.mean() > 0.8
    assert found.summary["ks_distance"] == pytest.approx(stats.kstest(p, "uniform").statistic)
    thinned = uniform_quantiles(p, most=40)
    assert len(thinned.uniform) <= 40
    assert points(thinned.uniform, thinned.found) <= points(found.uniform, found.found)
    assert thinned.found[0] == p.min()


@pytest.mark.parametrize("p", [[], [0.0, 0.5], [0.5, 1.5], [np.nan]])
def test_what_is_no_p_value_is_refused(p: list[float]) -> None:
    with pytest.raises(MetricError):
        uniform_quantiles(p)


def test_a_curve_says_what_it_holds() -> None:
    found = separation(*drawn())
    assert isinstance(found.roc, Curve)
    assert (found.good, found.defects) == (300, 120)
    assert found.auroc.low < found.auroc.auroc < found.auroc.high
