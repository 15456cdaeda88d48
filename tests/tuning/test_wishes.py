"""Wishes: one at a time, each by its own rule, and none of parts that cannot carry it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from differnet import calibration as rules
from differnet.calibration import CalibrationError
from differnet.reporting.counts import Truth
from differnet.tuning import Evidence, Wish, WishError, suggest
from differnet.tuning.wishes import COMPANIONS, RULES
from tuning.conftest import DrawParts

GOOD = np.random.default_rng(9).exponential(0.43, 300)


def test_evidence_is_what_the_run_says_of_its_parts(draw_parts: DrawParts) -> None:
    parts = draw_parts(300)
    found = Evidence.of(GOOD, parts)
    finite = np.isfinite(parts.columns.strangeness)
    assert found.good.tolist() == GOOD.tolist()
    assert len(found.batch) == finite.sum()
    for figures, truth in ((found.labelled_good, Truth.GOOD), (found.defects, Truth.DEFECT)):
        expected = parts.columns.strangeness[finite & (parts.columns.truth == truth)]
        assert figures.tolist() == expected.tolist()
    assert not Evidence.of(GOOD).batch.size


def test_each_wish_is_answered_by_its_rule(draw_parts: DrawParts) -> None:
    evidence = Evidence.of(GOOD, draw_parts(300))
    good, defects = evidence.good, evidence.defects
    for wish, expected in (
        (Wish(max_overkill=0.02), rules.by_overkill(good, 0.05, 0.02)),
        (Wish(max_overkill=0.1), rules.by_overkill(good, 0.1, 0.1)),
        (Wish(max_overkill=0.02, max_review=0.2), rules.by_overkill(good, 0.2, 0.02)),
        (Wish(max_escape=0.3), rules.by_escape(good, defects, 0.3, 0.95)),
        (Wish(max_escape=0.3, confidence=0.8), rules.by_escape(good, defects, 0.3, 0.8)),
        (
            Wish(cost_overkill=1, cost_escape=9, defect_share=0.1),
            rules.by_cost(good, defects, 1, 9, 0.1),
        ),
        (
            Wish(cost_overkill=1, cost_escape=9, defect_share=0.1, cost_review=0.1),
            rules.by_cost(good, defects, 1, 9, 0.1, 0.1),
        ),
        (Wish(review_budget=0.03), rules.by_review_budget(good, 0.03)),
        (Wish(fdr=0.2), rules.by_fdr(good, evidence.batch, 0.2)),
        (Wish(no_defects=True), rules.without_defects(good, evidence.batch)),
        (Wish(best_f1=True), rules.by_f1(evidence.labelled_good, defects)),
        (Wish(best_f1=True, split=True), rules.by_f1(evidence.labelled_good, defects, split=True)),
    ):
        assert suggest(wish, evidence) == expected


def test_without_a_batch_and_without_labels_what_needs_none_still_works(draw_parts: DrawParts) -> None:
    bare = Evidence.of(GOOD)
    assert suggest(Wish(no_defects=True), bare) == rules.without_defects(GOOD)
    unlabelled = Evidence.of(GOOD, draw_parts(200, labelled=False))
    assert suggest(Wish(fdr=0.1), unlabelled).review <= suggest(Wish(fdr=0.1), unlabelled).defect
    for wish in (
        Wish(max_escape=0.1),
        Wish(best_f1=True),
        Wish(cost_overkill=1, cost_escape=2, defect_share=0.1),
    ):
        with pytest.raises(CalibrationError):
            suggest(wish, unlabelled)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(),
        Wish(max_overkill=0.1, fdr=0.1),
        Wish(max_overkill=0.1, confidence=0.9),
        Wish(confidence=0.9),
        Wish(cost_overkill=1.0, cost_escape=2.0),
        Wish(cost_overkill=1.0, defect_share=0.1),
        Wish(no_defects=True, split=True),
    ],
)
def test_half_a_wish_or_two_are_none(wish: Wish) -> None:
    with pytest.raises(WishError) as caught:
        suggest(wish, Evidence.of(GOOD))
    with pytest.raises(WishError) as spelt:
        wish.rule_in(lambda name: f"--{name}")
    assert "--" in str(spelt.value)
    assert "--" not in str(caught.value)


def test_every_field_is_a_rule_or_belongs_to_one() -> None:
    assert {f.name for f in fields(Wish)} == set(RULES) | set(COMPANIONS)
