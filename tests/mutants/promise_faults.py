"""Faults to plant in what calibration promises, each with the Monte Carlo check that has to notice."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import stats

from differnet.calibration import conformal, discovery, thresholds
from mutants.calibration_faults import Fault, Values, above, at_least, at_most, counted, put, shifted, sound

TRUE_ADJUSTED = discovery.benjamini_hochberg
TRUE_CROSS = conformal.cross_p_values
TRUE_RANK = conformal._rank
TRUE_THRESHOLD = conformal.threshold


def all_in_one_pot(calibration: Any, _: Any, strangeness: Any, __: Any) -> Values:
    return conformal.p_values(calibration, strangeness)


def within_groups(count: Any, of: Any) -> Any:
    """Return p-values by group that count by ``count``, and turn counts to values by ``of``."""

    def p_values_by_group(calibration: Any, groups: Any, strangeness: Any, asked_groups: Any) -> Values:
        good, names = np.asarray(calibration), np.asarray(groups)
        each = zip(strangeness, asked_groups, strict=True)
        return np.array([counted(count, of)(good[names == name], [one])[0] for one, name in each])

    return p_values_by_group


def of_the_mean_member(calibration: Any, folds: Any, strangeness: Any) -> Values:
    """Take the mildest member's word alone: each part must be stranger to all of them."""
    milder = np.max(np.asarray(strangeness), axis=1, keepdims=True)
    return TRUE_CROSS(calibration, folds, np.broadcast_to(milder, np.shape(strangeness)))


def without_itself(calibration: Any, folds: Any, strangeness: Any) -> Values:
    n = np.size(calibration)
    return np.asarray((TRUE_CROSS(calibration, folds, strangeness) * (n + 1) - 1) / n)


def smoothed(ties: float) -> Any:
    """Return p-values whose random number is always ``ties``."""

    def smoothed_p_values(calibration: Any, strangeness: Any, seed: int) -> Values:
        good, asked = np.sort(np.asarray(calibration, float)), np.asarray(strangeness, float)
        more, same = above(good, asked), at_least(good, asked) - above(good, asked)
        return np.asarray((more + ties * (1 + same)) / (len(good) + 1))

    return smoothed_p_values


def adjusted_by(change: Any) -> Any:
    """Return discoveries whose p-values are adjusted by ``change`` of the sorted ones."""

    def benjamini_hochberg(p_values: Any, q: float) -> Any:
        values = np.asarray(p_values)
        order = np.argsort(values, kind="stable")
        adjusted = np.empty(len(values))
        adjusted[order] = np.clip(change(values[order], np.arange(1, len(values) + 1)), 0, 1)
        return replace(TRUE_ADJUSTED(p_values, q), adjusted=adjusted, flagged=adjusted <= q)

    return benjamini_hochberg


def twice_the_share(p_values: Any, q: float) -> Any:
    return TRUE_ADJUSTED(p_values, 2 * q)


def escapes(cdf: Any) -> Any:
    """Return scipy.stats whose binomial p-value is another."""
    return SimpleNamespace(binom=SimpleNamespace(cdf=cdf), beta=stats.beta)


def one_gap_more(parts: int, alpha: float) -> int:
    return TRUE_RANK(parts, alpha) + 1


def not_below_any(calibration: Any, alpha: float) -> float:
    return float(np.min(calibration))


NO_SLACK = SimpleNamespace(
    sqrt=lambda _: 0.0, log=math.log, ceil=math.ceil, isfinite=math.isfinite, log1p=math.log1p
)

PROMISE_FAULTS: tuple[Fault, ...] = tuple(
    Fault(f"{name}: {what}", put(owner, name, faulty), by)
    for owner, name, what, faulty, by in (
        (conformal, "p_values", "tail swapped", counted(at_most, sound), "overkill"),
        (conformal, "p_values", "n for n+1", counted(at_least, lambda n, c: (1 + c) / n), "overkill"),
        (
            conformal,
            "p_values",
            "the part itself not counted",
            counted(at_least, lambda n, c: c / n),
            "overkill",
        ),
        (conformal, "threshold", "one part too low", shifted(-1), "overkill"),
        (conformal, "threshold", "one part too high", shifted(1), "overkill"),
        (conformal, "p_values_by_group", "products in one pot", all_in_one_pot, "super_uniform"),
        (conformal, "p_values_by_group", "tail swapped", within_groups(at_most, sound), "super_uniform"),
        (
            *(conformal, "p_values_by_group", "the part itself not counted"),
            *(within_groups(at_least, lambda n, c: c / (n + 1)), "super_uniform"),
        ),
        (conformal, "p_values_by_group", "> for >= on ties", within_groups(above, sound), "super_uniform"),
        (conformal, "smoothed_p_values", "not random", smoothed(1.0), "super_uniform"),
        (conformal, "smoothed_p_values", "always the smallest", smoothed(0.0), "super_uniform"),
        (conformal, "cross_p_values", "the strangest member alone", of_the_mean_member, "cross"),
        (conformal, "cross_p_values", "the part itself not counted", without_itself, "cross"),
        (
            *(discovery, "benjamini_hochberg", "no running minimum"),
            *(adjusted_by(lambda p, i: p * len(p) / i), "discoveries"),
        ),
        (discovery, "benjamini_hochberg", "nothing adjusted", adjusted_by(lambda p, i: p), "discoveries"),
        (
            *(discovery, "benjamini_hochberg", "ranks from 0"),
            *(adjusted_by(lambda p, i: p * len(p) / (i + 1)), "discoveries"),
        ),
        (thresholds, "benjamini_hochberg", "q doubled", twice_the_share, "discoveries"),
        (discovery, "share_of_good", "all parts good", lambda *_: 1.0, "discoveries"),
        (
            *(thresholds, "stats", "one escape more"),
            *(escapes(lambda k, d, most: stats.binom.cdf(np.asarray(k) - 1, d, most)), "escapes"),
        ),
        (
            *(thresholds, "stats", "one escape fewer"),
            *(escapes(lambda k, d, most: stats.binom.cdf(np.asarray(k) + 1, d, most)), "escapes"),
        ),
        (thresholds, "stats", "a single count for the tail", escapes(stats.binom.pmf), "escapes"),
        (thresholds, "_rank", "one gap more", one_gap_more, "budget"),
        (thresholds, "math", "the bound without its slack", NO_SLACK, "cost"),
        (thresholds, "threshold", "F1 without a floor", not_below_any, "without_defects"),
    )
)
