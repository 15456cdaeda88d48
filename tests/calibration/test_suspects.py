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
    # A tenth of a part a folder is allowed.
    assert in_vain <= 15


def test_two_kinds_of_evidence_that_agree_are_enough() -> None:
    figures = np.random.default_rng(0).normal(size=(300, 2))
    figures[0] = [3.9, 0.0]
    figures[1] = [3.9, 3.9]
    assert suspects(figures)[:2].tolist() == [False, True]


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
