"""What must hold of p-values, thresholds and verdicts: each check raises AssertionError with what broke.

The tests of this folder call them on the true code, ``tests/mutants`` on code with a planted fault.
Everything is called through its module, so that a fault planted there is met.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import stats

from differnet.calibration import combination, conformal, tails, verdict
from differnet.calibration.verdict import CalibratedEvidence, Thresholds
from differnet.records import Verdict

# Usual evidence of a good part, judged by usual thresholds: PASS.
GOOD = CalibratedEvidence(
    total=0.8,
    whole=0.5,
    local=0.7,
    spread=0.3,
    blandness=0.2,
    wrongness=-4.0,
    p_value=0.4,
    p_value_whole=0.5,
    p_value_local=0.3,
    p_value_spread=0.6,
)
LIMITS = Thresholds(review=1.3, defect=2.0)
FIGURES = (
    *("total", "whole", "local", "spread", "blandness", "wrongness"),
    *("p_value", "p_value_whole", "p_value_local", "p_value_spread"),
)


def require(truth: bool, what: str) -> None:
    if not truth:
        raise AssertionError(what)


def p_values_are_counted_exactly() -> None:
    """Against counting by hand in fractions, with many ties and infinite strangeness."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 19, 99):
        good = rng.integers(0, 6, n).astype(float)
        asked = np.array([-math.inf, *range(-1, 8), 2.5, math.inf])
        found = conformal.p_values(good, asked)
        for strangeness, p_value in zip(asked, found, strict=True):
            wanted = Fraction(1 + sum(g >= strangeness for g in good.tolist()), n + 1)
            require(p_value == float(wanted), f"p of {strangeness} among {n}: {p_value}, not {wanted}")


def threshold_is_where_p_is_alpha() -> None:
    """``strangeness >= threshold`` and ``p <= alpha`` are the same statement, on ties and beside them."""
    rng = np.random.default_rng(1)
    for n in (1, 7, 19, 99, 100):
        for good in (rng.normal(size=n), rng.integers(0, 4, n).astype(float)):
            beside = [good, np.nextafter(good, np.inf), np.nextafter(good, -np.inf)]
            asked = np.concatenate([*beside, [-1e300, 1e300]])
            for k in {1, 2, (n + 1) // 2, n}:
                alpha = k / (n + 1)
                if not 0 < alpha < 1:
                    continue
                limit = conformal.threshold(good, alpha)
                agree = (asked >= limit) == (conformal.p_values(good, asked) <= alpha)
                require(bool(agree.all()), f"threshold and p-value disagree at n={n}, alpha={alpha:.3g}")


def p_values_are_super_uniform() -> None:
    """``P(p <= u) <= u`` for parts exchangeable with the calibration parts, within 4 standard errors."""
    rng = np.random.default_rng(2)
    runs, n = 4_000, 19
    for rounded in (False, True):
        p_values = np.empty(runs)
        for run in range(runs):
            drawn = rng.exponential(size=n + 1)
            drawn = np.round(drawn, 1) if rounded else drawn
            p_values[run] = conformal.p_values(drawn[:n], drawn[n:])[0]
        for u in (0.05, 0.1, 0.25, 0.5, 0.9):
            share = float(np.mean(p_values <= u))
            allowed = 4 * math.sqrt(u * (1 - u) / runs)
            require(share <= u + allowed, f"P(p <= {u}) = {share:.4f}")
            # Without ties it is u itself: a p-value that is too large is safe and useless.
            require(rounded or share >= u - allowed, f"P(p <= {u}) = {share:.4f}, far too small")


def overkill_follows_the_beta_law() -> None:
    """Given one calibration set, the realised rate of uniform strangeness is ``1 - threshold``."""
    rng = np.random.default_rng(3)
    for n, alpha in ((99, 0.01), (100, 0.05), (500, 0.05)):
        rates = np.array([1 - conformal.threshold(rng.uniform(size=n), alpha) for _ in range(400)])
        k = math.floor(alpha * (n + 1) + 1e-9)
        law = stats.beta(k, n + 1 - k)
        gap = abs(float(rates.mean()) - law.mean())
        allowed = 4 * law.std() / math.sqrt(len(rates))
        require(bool(gap <= allowed), f"mean overkill {rates.mean():.4f}, not {law.mean():.4f} (n={n})")
        # The statistic's 1e-5 quantile: a wrong law is refused, an unlucky seed is not.
        require(bool(stats.kstest(rates, law.cdf).pvalue > 1e-5), f"overkill is not Beta({k}, {n + 1 - k})")


def combined_evidence_keeps_its_rate() -> None:
    """Two evidences on scales of their own, the stranger one counts: the rate is still kept."""
    rng = np.random.default_rng(4)
    runs, n, fresh = 250, 20, 100
    hits = {u: np.empty(runs) for u in (1 / (n + 1), 0.1, 0.25)}
    for run in range(runs):
        good, asked = rng.chisquare(20, (2, n)), rng.chisquare(20, (2, fresh))
        calibrated = np.max([tails.held_out_strangeness(g) for g in good], axis=0)
        judged = np.max(
            [tails.TailScale.fit(g).strangeness(a) for g, a in zip(good, asked, strict=True)], axis=0
        )
        p_values = conformal.p_values(calibrated, judged)
        for u in hits:
            hits[u][run] = np.mean(p_values <= u)
    for u, rates in hits.items():
        allowed = 4 * float(rates.std()) / math.sqrt(runs)
        require(
            bool(rates.mean() <= u + allowed), f"P(p <= {u:.3f}) = {rates.mean():.4f}, allowed +{allowed:.4f}"
        )


def no_p_value_for_nan() -> None:
    found = conformal.p_values([1.0, 2.0, 3.0], [math.nan, 0.0])
    require(math.isnan(found[0]), f"NaN got the p-value {found[0]}")
    require(found[1] == 1.0, f"a usual part beside it got {found[1]}")
    scaled = tails.TailScale.fit([1.0, 2.0, 3.0]).strangeness([math.nan, 2.0])
    require(math.isnan(scaled[0]) and math.isfinite(scaled[1]), f"NaN scaled to {scaled.tolist()}")


def nothing_that_is_not_finite_passes() -> None:
    for value in (math.nan, math.inf, -math.inf):
        for name in FIGURES:
            change: dict[str, Any] = {name: value}
            said, _ = verdict.decide(replace(GOOD, **change), LIMITS)
            require(said is Verdict.INVALID, f"{name} = {value} is {said}")
        for name in ("review", "defect", "ood"):
            said, _ = verdict.decide(GOOD, replace(LIMITS, **{name: value}))
            require(said is Verdict.INVALID, f"threshold {name} = {value} gives {said}")
    for pair in ((math.nan, 1.0), (1.0, math.nan), (math.nan, math.nan)):
        total = combination.together([combination.surprise([figure]) for figure in pair])
        require(math.isnan(total[0]), f"{pair} together are {total}")


def verdicts_follow_the_table() -> None:
    strange: dict[str, Any] = {"wrongness": 0.0}
    table: list[tuple[dict[str, Any], Verdict]] = [
        ({}, Verdict.PASS),
        ({"healthy": False}, Verdict.INVALID),
        ({"healthy": False, "total": 9.0}, Verdict.INVALID),
        ({"total": LIMITS.review}, Verdict.REVIEW),
        ({"total": math.nextafter(LIMITS.review, 0)}, Verdict.PASS),
        ({"total": LIMITS.defect}, Verdict.DEFECT),
        ({"total": math.nextafter(LIMITS.defect, 0)}, Verdict.REVIEW),
        # One evidence alone decides nothing: the promised rate is that of all together.
        ({"whole": 99.0}, Verdict.PASS),
        ({"local": 99.0}, Verdict.PASS),
        ({"total": 50.0, "wrongness": math.nextafter(0.0, -1)}, Verdict.DEFECT),
        # How far it reaches decides nothing alone: a large defect is one.
        ({"total": 50.0, "spread": 99.0}, Verdict.DEFECT),
        (strange | {"total": LIMITS.review}, Verdict.REVIEW),
        (strange | {"total": LIMITS.defect}, Verdict.OOD),
        # It lies on the side of wrong inputs, and no further out than good parts: within the promised rate.
        (strange, Verdict.PASS),
        ({"blandness": LIMITS.ood}, Verdict.OOD),
        ({"blandness": math.nextafter(LIMITS.ood, 0)}, Verdict.PASS),
        ({"quality_flags": ("black",)}, Verdict.OOD),
        ({"quality_flags": ("constant",), "total": 99.0}, Verdict.OOD),
        ({"quality_flags": ("constant",), "local": math.nan}, Verdict.INVALID),
    ]
    for change, wanted in table:
        said, reasons = verdict.decide(replace(GOOD, **change), LIMITS)
        require(said is wanted, f"{change} is {said}, not {wanted}")
        require(bool(reasons) and all(reasons), f"{change} has no reason")


CALIBRATION_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        p_values_are_counted_exactly,
        threshold_is_where_p_is_alpha,
        p_values_are_super_uniform,
        overkill_follows_the_beta_law,
        combined_evidence_keeps_its_rate,
        no_p_value_for_nan,
        nothing_that_is_not_finite_passes,
        verdicts_follow_the_table,
    )
}
