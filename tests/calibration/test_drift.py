"""Drift of a batch and of a running line: promised rates, what moved, monitors that survive restarts."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from calibration.drift_checks import DRIFT_CHECKS
from differnet.calibration import (
    CalibrationError,
    Monitor,
    batch_drift,
    log10_wealth,
    online_p_values,
    what_drifted,
)


@pytest.mark.parametrize("name", DRIFT_CHECKS)
def test_property(name: str) -> None:
    DRIFT_CHECKS[name]()


def test_every_statistic_is_reported_in_its_order() -> None:
    rng = np.random.default_rng(0)
    good, batch = rng.normal(5, 2, size=(100, 3)), rng.normal([5, 5, 11], 2, size=(10, 3))
    found = batch_drift(good, batch, names=["a", "b", "c"])
    assert [each.name for each in found.statistics] == ["a", "b", "c"]
    assert [each.name for each in found.moved] == ["c"]
    assert found.p_value == min(each.p_value for each in found.statistics) <= found.alpha
    assert found.statistics[2].deviations == pytest.approx(3, abs=1)
    assert found.statistics[0].spread == pytest.approx(batch[:, 0].std(ddof=1) / good[:, 0].std(ddof=1))


def test_the_surest_comes_first() -> None:
    rng = np.random.default_rng(1)
    good, batch = rng.normal(size=(300, 2)), rng.normal([0.75, 3], size=(30, 2))
    moved = batch_drift(good, batch, alpha=0.05, names=["little", "much"]).moved
    assert [each.name for each in moved] == ["much", "little"]
    assert len(what_drifted(["little", "much"], good, batch, alpha=0.05)) == 2


def test_a_batch_of_one_part_is_judged() -> None:
    good = np.random.default_rng(2).normal(size=(199, 2))
    assert not batch_drift(good, [[0.0, 0.0]]).alarm
    found = batch_drift(good, [[0.0, -8.0]])
    assert found.p_value == pytest.approx(1 / 200)
    assert [(each.how, each.spread) for each in found.moved] == [("lower", 0.0)]


def test_equal_calibration_parts_have_no_deviations_to_count() -> None:
    good = np.full((100, 1), 0.1)
    same, other = batch_drift(good, good[:20]), batch_drift(good, good[:20] + 0.1)
    assert not same.alarm
    assert (same.statistics[0].deviations, same.statistics[0].spread) == (0.0, 0.0)
    assert other.alarm
    assert other.moved[0].deviations == math.inf


def test_huge_figures_are_judged() -> None:
    good = np.random.default_rng(6).normal(size=(100, 1)) * 1e300
    for batch, alarm in ((good[:5], False), (good[:20] + 1e301, True), (np.full((3, 1), -1.7e308), True)):
        found = batch_drift(good, batch)
        assert found.alarm == alarm
        assert math.isfinite(found.statistics[0].deviations)


def test_a_rate_that_so_few_parts_cannot_promise_is_refused() -> None:
    good = np.random.default_rng(3).normal(size=(50, 1))
    with pytest.raises(CalibrationError, match="good parts"):
        batch_drift(good, good[:1], alpha=0.01)
    assert not batch_drift(good, good[:2], alpha=0.01).alarm
    with pytest.raises(CalibrationError):
        batch_drift(good, good[:5], alpha=0.001, draws=99)
    # Three parts can be exchanged with two in ten ways, however often one draws.
    with pytest.raises(CalibrationError):
        batch_drift(good[:3], good[:2], alpha=0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_rates_outside_0_to_1_are_refused(alpha: float) -> None:
    with pytest.raises(CalibrationError):
        batch_drift(np.zeros((5, 1)), np.zeros((5, 1)), alpha)
    with pytest.raises(CalibrationError):
        Monitor([1.0, 2.0], alpha)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], "ab", ["a", "b", "c"]])
def test_names_are_one_a_column(names: Any) -> None:
    with pytest.raises(CalibrationError):
        what_drifted(names, np.zeros((5, 2)), np.zeros((5, 2)), alpha=0.1)


def test_a_monitor_begins_with_a_capital_of_one() -> None:
    state = Monitor([1.0]).state
    assert state.wealth_log10 == pytest.approx(0, abs=1e-12)
    assert (state.alarm, state.parts, state.change, state.since) == (False, 0, None, None)


def test_an_alarm_stays_on() -> None:
    rng = np.random.default_rng(4)
    monitor = Monitor(rng.normal(size=200))
    assert [monitor.update(s) for s in rng.normal(3, size=30)][-1].alarm
    quiet = [monitor.update(s) for s in rng.normal(size=400)]
    assert all(state.alarm for state in quiet)
    assert quiet[-1].wealth_log10 < quiet[0].wealth_log10


def test_capital_of_an_endless_change_stays_finite() -> None:
    wealth = log10_wealth(np.full(5_000, 1e-300))
    assert np.isfinite(wealth).all()
    assert np.isfinite(log10_wealth([0.0, 1.0])).all()
    # What is lost in a quiet life is bounded by what is kept back, 1 / log2(t + 2).
    assert log10_wealth(np.full(5_000, 0.5))[-1] > -math.log10(math.log2(5_003)) - 1e-9


@pytest.mark.parametrize("strangeness", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_leaves_the_monitor_as_it_was(strangeness: float) -> None:
    monitor = Monitor([1.0, 2.0, 3.0])
    monitor.update(2.5)
    before = monitor.to_dict()
    with pytest.raises(CalibrationError):
        monitor.update(strangeness)
    assert monitor.to_dict() == before
    with pytest.raises(CalibrationError):
        online_p_values([1.0], [strangeness])
    with pytest.raises(CalibrationError):
        Monitor([1.0, strangeness])
    with pytest.raises(CalibrationError):
        Monitor([])


@pytest.mark.parametrize("p", [[-0.1], [1.1], [math.nan]])
def test_capital_takes_p_values_only(p: list[float]) -> None:
    with pytest.raises(CalibrationError):
        log10_wealth(p)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"alpha": 2.0},
        {"seed": "a"},
        {"seed": None},
        {"parts": 99},
        {"parts": -1},
        {"parts": 1.0},
        {"alarm": 1},
        {"seen": []},
        {"seen": [1.0, math.nan]},
        {"seen": "abc"},
        {"stakes": [0.0]},
        {"gains": None},
        {"starts": [math.nan] * 14},
        {"more": 1},
    ],
)
def test_a_kept_monitor_that_is_none_is_refused(change: dict[str, Any]) -> None:
    monitor = Monitor([1.0, 2.0])
    monitor.update(1.5)
    assert Monitor.from_dict(monitor.to_dict()).state == monitor.state
    with pytest.raises(CalibrationError):
        Monitor.from_dict(monitor.to_dict() | change)
    for key in monitor.to_dict():
        with pytest.raises(CalibrationError):
            Monitor.from_dict({k: v for k, v in monitor.to_dict().items() if k != key})


def test_an_alarm_survives_a_restart() -> None:
    rng = np.random.default_rng(5)
    monitor = Monitor(rng.normal(size=200))
    told = [monitor.update(s) for s in rng.normal(2, size=40)][-1]
    again = Monitor.from_dict(json.loads(json.dumps(monitor.to_dict())))
    assert again.state == told
    assert told.alarm
    assert told.since is not None
    assert again.update(1.0) == monitor.update(1.0)
