"""Which parts of a training folder are probably not good."""

from __future__ import annotations

import math

import numpy as np
import pytest

from differnet.calibration import CalibrationError, suspects


def test_planted_parts_are_suspected_and_good_ones_hardly_ever() -> None:
    in_vain = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        figures = rng.normal(size=(200, 2))
        figures[:10, seed % 2] += 8
        found = suspects(figures)
        assert found[:10].all()
        in_vain += int(found[10:].sum())
    # One in nine of those found, 55 in all, and as many again by chance.
    assert in_vain <= 100


def test_clean_folders_are_left_alone() -> None:
    """The rate bounds how often a folder of good parts has a suspect at all."""
    folders = [
        suspects(np.random.default_rng(seed).normal(size=(100, 2)), rate=0.1).any() for seed in range(200)
    ]
    # 0.1 of 200, and the spread, an estimate, is allowed its share.
    assert sum(folders) <= 36


def test_the_line_is_drawn_further_in_where_many_stand_out() -> None:
    figures = np.random.default_rng(4).normal(size=(400, 1))
    figures[0] = 3.3
    assert not suspects(figures, rate=0.1)[0]
    figures[1:40, 0] = np.linspace(3.0, 6.0, 39)
    found = suspects(figures, rate=0.1)
    assert found[0]
    # The share of good parts among them is what was asked for, more or less.
    assert 39 <= found.sum() <= 48


def test_one_strange_speck_is_no_reason_for_suspicion() -> None:
    """Good parts whose strangest patches follow Gumbel's law are left alone, where a normal law is not."""
    rng = np.random.default_rng(5)
    drawn = [rng.gumbel(size=(150, 1)) for _ in range(100)]
    calm = np.random.default_rng(6).normal(size=(150, 1))
    assert sum(suspects(calm, figures, rate=0.1).any() for figures in drawn) <= 18
    assert sum(suspects(np.hstack([calm, figures])).any() for figures in drawn) >= 60
    spoilt = drawn[0].copy()
    spoilt[3] = 16.0
    assert suspects(calm, spoilt)[3]


def test_tables_of_different_parts_are_refused() -> None:
    with pytest.raises(CalibrationError):
        suspects(np.zeros((40, 1)), np.zeros((39, 1)))


def test_a_tenth_of_defects_does_not_hide_itself() -> None:
    """The upper half's spread is theirs; the lower half's is not."""
    rng = np.random.default_rng(1)
    figures = rng.normal(size=(400, 1))
    figures[:40] += 7
    assert suspects(figures)[:40].all()


def test_no_more_than_fifteen_parts_in_a_hundred() -> None:
    figures = np.random.default_rng(2).normal(size=(100, 1))
    figures[:40, 0] += np.linspace(20, 60, 40)
    found = suspects(figures)
    assert found.sum() == 15
    assert found[25:40].all()


def test_scale_and_place_of_the_evidence_do_not_matter() -> None:
    figures = np.random.default_rng(3).normal(size=(150, 2))
    figures[5] += 7
    assert suspects(figures).tolist() == suspects(1e3 * figures - 7e4).tolist()


def test_few_or_identical_parts_are_not_suspected() -> None:
    assert not suspects([[1.0]] * 10 + [[99.0]] * 5).any()
    assert not suspects(np.ones((50, 2))).any()


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[1.0], [math.nan]], [[math.inf], [1.0]]])
def test_what_is_no_finite_table_is_refused(wrong: list[object]) -> None:
    with pytest.raises(CalibrationError):
        suspects(wrong)  # type: ignore[arg-type]
