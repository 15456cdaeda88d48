"""How rarely a good cell is as hot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from differnet.calibration import HEAT_NUMBERS, CalibrationError, HeatScale


def test_surprise_is_the_share_of_good_cells_above() -> None:
    rng = np.random.default_rng(0)
    scale = HeatScale.fit(rng.lognormal(size=(50, 32, 32)))
    fresh = scale.surprise(rng.lognormal(size=200_000))
    for level in (0.5, 1.0, 2.0, 3.0):
        share = float((fresh >= level).mean())
        assert share == pytest.approx(10**-level, rel=0.1 if level < 3 else 0.35)


def test_what_no_good_cell_has_shown_keeps_its_order() -> None:
    scale = HeatScale.fit(np.random.default_rng(1).normal(size=5000))
    beyond = scale.surprise([4.0, 6.0, 60.0])
    assert 3 < beyond[0] < beyond[1] < beyond[2] < math.inf
    assert scale.surprise([-9.0]) == [0.0]
    assert np.isnan(scale.surprise([math.nan])).all()


def test_it_survives_being_written_down() -> None:
    scale = HeatScale.fit(np.random.default_rng(2).normal(size=300))
    again = HeatScale.from_row(scale.row)
    asked = np.linspace(-5, 9, 50)
    assert scale.row.shape == (HEAT_NUMBERS,)
    assert again.surprise(asked).tolist() == scale.surprise(asked).tolist()


def test_few_or_identical_cells_give_a_finite_scale() -> None:
    same = HeatScale.fit([2.0] * 40)
    assert np.isfinite(same.surprise([1.0, 2.0, 3.0])).all()
    assert same.surprise([3.0]) > same.surprise([2.0])
    assert np.isfinite(HeatScale.fit([0.0, 1.0]).surprise([5.0])).all()


@pytest.mark.parametrize("wrong", [[], [1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_what_is_no_heat_is_refused(wrong: list[float]) -> None:
    with pytest.raises(CalibrationError):
        HeatScale.fit(wrong)


def test_numbers_that_are_no_scale_are_refused() -> None:
    row = HeatScale.fit(np.arange(100.0)).row
    for wrong in (row[:-1], row[::-1], np.append(row[:-1], 0.0), np.append(row[:-1], math.nan)):
        with pytest.raises(CalibrationError):
            HeatScale.from_row(wrong)


def test_the_value_of_a_share_is_the_heat_of_that_surprise() -> None:
    rng = np.random.default_rng(3)
    scale = HeatScale.fit(rng.lognormal(size=20_000))
    # Beyond the hottest thousandth too, where no quantile was kept.
    for share in (0.9, 0.3, 0.01, 0.001, 1e-6):
        assert scale.surprise([scale.value(share)])[0] == pytest.approx(-math.log10(share), abs=1e-5)
    assert float((rng.lognormal(size=200_000) > scale.value(0.01)).mean()) == pytest.approx(0.01, rel=0.2)
    for wrong in (0.0, -0.1, 1.5, math.nan):
        with pytest.raises(CalibrationError):
            scale.value(wrong)
