"""Faults to plant in p-values, thresholds and verdicts, each with the check that has to notice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.calibration import combination, conformal, tails, verdict
from differnet.calibration.verdict import CalibratedEvidence, Thresholds
from differnet.records import Verdict

Values = NDArray[np.float64]


class Fault(NamedTuple):
    """A mistake somebody could make: its name, what plants it, and the check meant to catch it."""

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    by: str


def counted(count: Callable[[Values, Values], Values], of: Callable[[int, Values], Values]) -> Any:
    """Return p-values that count calibration parts by ``count`` and turn counts to values by ``of``."""

    def p_values(calibration: Any, strangeness: Any) -> Values:
        good, asked = np.sort(np.asarray(calibration, float)), np.asarray(strangeness, float)
        return np.where(np.isnan(asked), np.nan, of(len(good), count(good, asked)))

    return p_values


def at_least(good: Values, asked: Values) -> Values:
    return np.asarray(len(good) - np.searchsorted(good, asked, side="left"), float)


def above(good: Values, asked: Values) -> Values:
    return np.asarray(len(good) - np.searchsorted(good, asked, side="right"), float)


def at_most(good: Values, asked: Values) -> Values:
    return np.asarray(np.searchsorted(good, asked, side="right"), float)


def sound(n: int, count: Values) -> Values:
    return (1 + count) / (n + 1)


def nan_is(value: float) -> Any:
    """Return p-values whose NaN became ``value``."""
    true = conformal.p_values
    return lambda *given: np.nan_to_num(true(*given), nan=value)


def shifted(by: int) -> Any:
    """Return a threshold that is the order statistic ``by`` places off."""

    def threshold(calibration: Any, alpha: float) -> float:
        good = np.sort(np.asarray(calibration, float))
        place = len(good) - conformal._rank(len(good), alpha) + by
        return float(np.nextafter(good[min(max(place, 0), len(good) - 1)], np.inf))

    return threshold


def at_the_part(calibration: Any, alpha: float) -> float:
    good = np.sort(np.asarray(calibration, float))
    return float(good[len(good) - conformal._rank(len(good), alpha)])


def empirical_quantile(calibration: Any, alpha: float) -> float:
    return float(np.quantile(np.asarray(calibration, float), 1 - alpha))


def strictly_above(evidence: CalibratedEvidence, thresholds: Thresholds) -> Any:
    later = {name: math.nextafter(getattr(thresholds, name), math.inf) for name in ("review", "defect")}
    return TRUE_DECIDE(evidence, replace(thresholds, **later))


def defects_before_flags(evidence: CalibratedEvidence, thresholds: Thresholds) -> Any:
    if evidence.total >= thresholds.defect:
        return Verdict.DEFECT, ("improbable",)
    return TRUE_DECIDE(evidence, thresholds)


def health_forgotten(evidence: CalibratedEvidence, thresholds: Thresholds) -> Any:
    return TRUE_DECIDE(replace(evidence, healthy=True), thresholds)


def without_nan(surprises: Any) -> Values:
    return np.asarray(np.nansum([np.asarray(s, float) for s in surprises], axis=0))


def strongest_alone(evidence: CalibratedEvidence, thresholds: Thresholds) -> Any:
    return TRUE_DECIDE(replace(evidence, total=max(evidence.whole, evidence.local)), thresholds)


def in_sample(figures: Any) -> Values:
    return tails.TailScale.fit(figures).strangeness(figures)


TRUE_DECIDE = verdict.decide
COUNT, SAME = "p_values_are_counted_exactly", "threshold_is_where_p_is_alpha"
UNIFORM, LAW = "p_values_are_super_uniform", "overkill_follows_the_beta_law"
FINITE, TABLE = "nothing_that_is_not_finite_passes", "verdicts_follow_the_table"


def put(owner: object, name: str, faulty: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, name, faulty)


def _of_p_values() -> list[Fault]:
    planted: list[tuple[str, Any, str]] = [
        ("tail swapped", counted(at_most, sound), COUNT),
        ("tail swapped and mirrored", counted(lambda g, a: len(g) - at_least(g, a), sound), COUNT),
        ("n for n+1 below", counted(at_least, lambda n, c: np.minimum((1 + c) / n, 1)), COUNT),
        ("the part itself not counted", counted(at_least, lambda n, c: c / (n + 1)), UNIFORM),
        ("off by one above and below", counted(at_least, lambda n, c: c / n), COUNT),
        ("n+2 for n+1", counted(at_least, lambda n, c: (1 + c) / (n + 2)), COUNT),
        ("> for >= on ties", counted(above, sound), COUNT),
        ("NaN gets 1", nan_is(1.0), "no_p_value_for_nan"),
        ("NaN gets the smallest", nan_is(0.25), "no_p_value_for_nan"),
    ]
    return [Fault(f"p_values: {what}", put(conformal, "p_values", f), by) for what, f, by in planted]


def _of_thresholds() -> list[Fault]:
    planted: list[tuple[str, Any, str]] = [
        ("one part too high", shifted(1), SAME),
        ("one part too low", shifted(-1), SAME),
        ("at the calibration part itself", at_the_part, SAME),
        ("empirical quantile", empirical_quantile, LAW),
    ]
    return [Fault(f"threshold: {what}", put(conformal, "threshold", f), by) for what, f, by in planted]


def _of_verdicts() -> list[Fault]:
    everything = SimpleNamespace(isfinite=lambda _: True, isnan=math.isnan, nan=math.nan)
    only_nan = SimpleNamespace(isfinite=lambda f: f == f, isnan=math.isnan, nan=math.nan)
    return [
        Fault("decide: NaN compared", put(verdict, "math", everything), FINITE),
        Fault("decide: infinity compared", put(verdict, "math", only_nan), FINITE),
        Fault("decide: > for >=", put(verdict, "decide", strictly_above), TABLE),
        Fault("decide: flags after strangeness", put(verdict, "decide", defects_before_flags), TABLE),
        Fault("decide: health forgotten", put(verdict, "decide", health_forgotten), TABLE),
        Fault("together: NaN counts as nothing", put(combination, "together", without_nan), FINITE),
        Fault("decide: the strongest evidence alone", put(verdict, "decide", strongest_alone), TABLE),
        Fault(
            "good parts judged by their own scale",
            put(tails, "held_out_strangeness", in_sample),
            "combined_evidence_keeps_its_rate",
        ),
    ]


CALIBRATION_FAULTS: tuple[Fault, ...] = (*_of_p_values(), *_of_thresholds(), *_of_verdicts())
