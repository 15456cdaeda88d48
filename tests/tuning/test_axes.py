"""Axes: every part in one bin, and a threshold in the same place as the parts that it cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from differnet.calibration import p_values
from differnet.reporting.counts import histogram
from differnet.tuning import bars, p_value_axis, strangeness_axis
from tuning.conftest import DrawParts

GOOD = np.random.default_rng(3).exponential(0.43, 200)


def test_the_axis_of_strangeness_shows_the_histogram_of_the_report(draw_parts: DrawParts) -> None:
    columns = draw_parts(500).columns
    expected = histogram(columns, 1.3, 2.0)
    found = bars(columns, strangeness_axis(columns, 1.3, 2.0))
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.edges == pytest.approx(expected.edges)
    assert (found.above, found.absent, found.axis.upper) == (expected.above, expected.absent, expected.upper)
    positions = [position for position, _ in found.axis.ticks]
    assert positions == sorted(positions)
    assert all(0 <= position <= 1 for position in positions)
    assert found.axis.place(float(found.axis.ticks[1][1])) == pytest.approx(positions[1])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 50), parts=st.integers(20, 400), rounded=st.booleans())
def test_the_axis_of_p_values_rises_and_tells_each_good_part_its_p_value(
    draw_parts: DrawParts, seed: int, parts: int, rounded: bool
) -> None:
    good = np.random.default_rng(seed).exponential(0.43, parts)
    good = np.round(good, 1) if rounded else good
    axis = p_value_axis(good, 6.0)
    assert axis is not None
    assert axis.position[0] == 0
    assert axis.position[-1] == 1
    assert (np.diff(axis.position) >= 0).all()
    assert (np.diff(axis.strangeness) >= 0).all()
    # Where it stands follows from its p-value alone, to what thinning the stops leaves out.
    p = p_values(good, good)
    rarest = float(p.min())
    assert axis.place(good) == pytest.approx(0.9 * np.log(p) / np.log(rarest), abs=0.03)
    assert axis.place(good.max()) == pytest.approx(0.9)
    assert axis.upper > good.max()
    found = bars(draw_parts(200, seed).columns, axis)
    columns = draw_parts(200, seed).columns
    assert found.counts.sum() == np.isfinite(columns.strangeness).sum()
    assert found.absent == np.isnan(columns.strangeness).sum()
    assert (np.diff(found.edges) >= 0).all()


def test_a_bin_holds_the_parts_between_its_edges(draw_parts: DrawParts) -> None:
    # Not rounded: no part lies on an edge.
    strangeness = np.random.default_rng(8).exponential(2.0, 2000)
    columns = replace(draw_parts(2000, 4, plain=True).columns, strangeness=strangeness)
    for axis in (strangeness_axis(columns, 1.3, 2.0), p_value_axis(GOOD, 6.0)):
        assert axis is not None
        found = bars(columns, axis)
        counted, _ = np.histogram(strangeness[strangeness <= axis.upper], found.edges)
        assert found.above == (strangeness > axis.upper).sum() > 0
        counted[-1] += found.above
        assert counted.tolist() == found.counts.sum(axis=0).tolist()


def test_too_few_good_parts_make_no_axis_of_p_values() -> None:
    for good in (GOOD[:18], np.ones(50), np.zeros(0)):
        assert p_value_axis(good, 5.0) is None
    axis = p_value_axis(GOOD[:19], 5.0)
    assert axis is not None
    ticks = [text for _, text in axis.ticks]
    assert ticks == ["1", "0.5", "0.2", "0.05"]
