"""What p-values alone tell is what the calibration parts themselves would tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from differnet.calibration import (
    CalibrationError,
    Monitor,
    batch_drift,
    detectable_shift,
    drift_of_p_values,
    movement_words,
    online_p_values,
    p_values,
    placed,
)


@settings(max_examples=200, deadline=None)
@given(
    good=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    line=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
)
def test_parts_are_put_where_their_p_values_say(good: list[float], line: list[float]) -> None:
    known = p_values(good, line)
    calibration, batch = placed(known, len(good), line)
    assert (np.diff(calibration) > 0).all()
    assert np.isfinite(batch).all()
    assert p_values(calibration, batch).tolist() == known.tolist()
    # Among each other they keep their order, and ties stay beside each other.
    assert (np.argsort(batch, kind="stable") == np.argsort(line, kind="stable")).all()


def test_a_monitor_sees_no_difference() -> None:
    rng = np.random.default_rng(3)
    good, line = rng.gamma(2.0, 1.0, 150), rng.gamma(2.6, 1.0, 400)
    calibration, batch = placed(p_values(good, line), len(good), line)
    assert online_p_values(calibration, batch).tolist() == online_p_values(good, line).tolist()
    by_parts, by_places = Monitor(good), Monitor(calibration)
    for figure, place in zip(line, batch, strict=True):
        assert by_parts.update(figure) == by_places.update(place)
    assert by_places.state.alarm


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_a_batch_test_sees_no_difference(shift: float) -> None:
    rng = np.random.default_rng(4)
    good, line = rng.normal(size=120), rng.normal(shift, 1.0, 50)
    good.sort()
    wanted = batch_drift(good[:, None], line[:, None], names=["strangeness"])
    known = p_values(good, line)
    calibration, batch = placed(known, 120, line)
    same = batch_drift(calibration[:, None], batch[:, None], names=["strangeness"])
    assert (same.p_value, same.statistics[0].how) == (wanted.p_value, wanted.statistics[0].how)
    # Other parts of a gap come first here, so that other batches are drawn.
    found = drift_of_p_values({"strangeness": known}, 120)
    assert found.p_value == pytest.approx(wanted.p_value, abs=4 * np.sqrt(0.25 / 1999))
    assert found.alarm == wanted.alarm == bool(shift)
    # On normal parts the scale of places is that of the parts.
    assert found.statistics[0].deviations == pytest.approx(wanted.statistics[0].deviations, abs=0.12)


def test_false_alarms_are_no_more_than_promised() -> None:
    rng = np.random.default_rng(5)
    runs, alarms = 300, 0
    for _ in range(runs):
        good, line = (rng.normal(size=(m, 1)) + rng.normal(size=(m, 3)) for m in (80, 20))
        kinds = {str(i): p_values(good[:, i], line[:, i]) for i in range(3)}
        alarms += drift_of_p_values(kinds, 80, alpha=0.05, draws=199).alarm
    assert alarms / runs <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / runs)
    assert alarms > 0


def test_what_moved_is_named() -> None:
    rng = np.random.default_rng(6)
    good = rng.normal(size=(150, 2))
    line = rng.normal((0.0, 1.2), 1.0, (60, 2))
    names = ("strangeness of the whole", "strangeness of the patches")
    found = drift_of_p_values(
        {name: p_values(good[:, i], line[:, i]) for i, name in enumerate(names)}, 150, 0.01
    )
    assert [each.name for each in found.moved] == ["strangeness of the patches"]
    assert movement_words(found.moved[0]).startswith("the strangest places are stranger")
    assert len(found.statistics) == 2


@pytest.mark.parametrize("wrong", [[0.123], [0.0], [1.1], [float("nan")], [1 / 11, 0.3]])
def test_p_values_of_other_calibrations_are_refused(wrong: list[float]) -> None:
    with pytest.raises(CalibrationError, match="whole multiples"):
        placed(wrong, 10)
    with pytest.raises(CalibrationError):
        placed([0.5], 0)


def test_a_rate_that_so_few_parts_cannot_promise_is_refused() -> None:
    with pytest.raises(CalibrationError, match="smallest p-value"):
        drift_of_p_values({"a": [0.2], "b": [0.4]}, 9, alpha=0.1)
    with pytest.raises(CalibrationError, match="found none"):
        drift_of_p_values({}, 9)


@pytest.mark.parametrize(("parts", "batch"), [(120, 30), (60, 60), (400, 15)])
def test_a_shift_that_is_called_detectable_mostly_is(parts: int, batch: int) -> None:
    rng = np.random.default_rng(7)
    shift, runs = detectable_shift(parts, batch, 0.05, power=0.9), 150
    found = sum(
        batch_drift(rng.normal(size=(parts, 1)), rng.normal(shift, 1, (batch, 1)), 0.05, draws=199).alarm
        for _ in range(runs)
    )
    assert 0.8 <= found / runs <= 1.0
    assert detectable_shift(parts, batch, 0.01) > shift
    assert detectable_shift(parts, batch, 0.05, statistics=6) > shift
    with pytest.raises(CalibrationError):
        detectable_shift(parts, 0, 0.05)
