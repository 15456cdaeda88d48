"""Reasons: which come first, and what they say. The verdicts themselves are in ``checks.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calibration.checks import GOOD, LIMITS
from differnet.calibration import OOD_STRANGENESS, Thresholds, decide
from differnet.records import Verdict


@pytest.mark.parametrize(("whole", "local", "first"), [(3.0, 9.0, "patches"), (9.0, 3.0, "whole")])
def test_strongest_evidence_is_told_first(whole: float, local: float, first: str) -> None:
    said, reasons = decide(replace(GOOD, total=9.0, whole=whole, local=local), LIMITS)
    assert said is Verdict.DEFECT
    assert first in reasons[0]
    assert len(reasons) == 2


def test_reasons_carry_the_p_values_of_their_own_evidence() -> None:
    _, reasons = decide(
        replace(GOOD, total=9.0, local=9.0, p_value_local=0.0123, p_value_whole=0.456), LIMITS
    )
    assert "0.0123" in reasons[0]
    assert "0.456" in reasons[1]


def test_ood_says_why_before_anything_else() -> None:
    said, reasons = decide(replace(GOOD, total=9.0, local=9.0, wrongness=0.0), LIMITS)
    assert said is Verdict.OOD
    assert "most of the picture" in reasons[0]
    assert "patches" in reasons[1]


def test_bland_pictures_are_told_from_strange_ones() -> None:
    said, reasons = decide(replace(GOOD, blandness=LIMITS.ood), LIMITS)
    assert said is Verdict.OOD
    assert "too probable" in reasons[0]


def test_every_flag_is_told_in_its_order() -> None:
    said, reasons = decide(replace(GOOD, quality_flags=("constant", "black", "upside down")), LIMITS)
    assert said is Verdict.OOD
    assert ["flat" in reasons[0], "black" in reasons[1], reasons[2]] == [True, True, "upside down"]


def test_pass_says_how_probable() -> None:
    assert decide(GOOD, LIMITS) == (Verdict.PASS, ("as probable as good parts (p = 0.4)",))


def test_ood_limit_is_one_in_a_million() -> None:
    assert Thresholds(1.0, 2.0).ood == OOD_STRANGENESS == 6.0
