"""Faults to plant in the boundary between defects and wrong inputs, each with the check that notices."""

from __future__ import annotations

from typing import Any

import numpy as np
from calibration import test_origins
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from differnet.calibration.origins import GoodFigures, OriginRule
from mutants.calibration_faults import Fault, put

Figures = NDArray[np.float64]

CHECKS = {
    check.__name__: check
    for check in (
        test_origins.test_what_is_apart_is_told_apart_in_the_middle,
        test_origins.test_where_they_overlap_the_wrong_inputs_draw_the_line,
        test_origins.test_how_many_of_a_kind_were_simulated_decides_little,
        test_origins.test_a_rule_comes_back_from_its_row,
        test_origins.test_good_parts_that_agree_leave_every_distance_finite,
        test_origins.test_distances_are_spreads_near_good_parts_and_logarithms_far_out,
        test_origins.test_figures_count_by_their_own_spread,
    )
}
APART, OVERLAP, MANY, ROW, AGREE, FAR, SPREAD = CHECKS
TRUE_FIT = OriginRule.fit.__func__  # type: ignore[attr-defined]
TRUE_GOOD = GoodFigures.fit.__func__  # type: ignore[attr-defined]


def limited(limit: Any) -> Any:
    """Return a rule whose limit is ``limit(defects, wrong, missed)`` of the weighted sums."""

    @classmethod  # type: ignore[misc]
    def fit(cls: type[OriginRule], defects: Any, wrong: Any, missed: float = 0.05) -> OriginRule:
        rule = TRUE_FIT(cls, defects, wrong, missed)
        sums = (np.asarray(figures) @ rule.weights for figures in (defects, wrong))
        return cls(rule.weights, float(limit(*sums, missed)))

    return fit


@classmethod  # type: ignore[misc]
def swapped(cls: type[OriginRule], defects: Any, wrong: Any, missed: float = 0.05) -> OriginRule:
    return TRUE_FIT(cls, wrong, defects, missed)  # type: ignore[no-any-return]


@classmethod  # type: ignore[misc]
def backwards(cls: type[OriginRule], row: Any) -> OriginRule:
    return cls(np.asarray(row)[1:], float(np.asarray(row)[0]))


@classmethod  # type: ignore[misc]
def of_everything(cls: type[GoodFigures], figures: Any) -> GoodFigures:
    """Let parts that agree have no spread at all."""
    good = np.asarray(figures, float)
    centre = np.median(good, axis=0)
    return cls(centre, np.median(np.abs(good - centre), axis=0) * 1.4826)


@classmethod  # type: ignore[misc]
def of_deviation(cls: type[GoodFigures], figures: Any) -> GoodFigures:
    """Let one odd part widen what is usual."""
    good = TRUE_GOOD(cls, figures)
    return cls(good.centre, np.maximum(np.asarray(figures, float).std(axis=0), 1e-6))


@classmethod  # type: ignore[misc]
def in_units(cls: type[OriginRule], defects: Any, wrong: Any, missed: float = 0.05) -> OriginRule:
    """Penalise the weight of a figure by the unit that it came in."""
    rows, labels = np.concatenate([defects, wrong]), np.repeat([0, 1], [len(defects), len(wrong)])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000).fit(rows, labels)
    weights = model.coef_[0]
    return cls(weights, float((np.max(defects @ weights) + np.min(wrong @ weights)) / 2))


@classmethod  # type: ignore[misc]
def by_many(cls: type[OriginRule], defects: Any, wrong: Any, missed: float = 0.05) -> OriginRule:
    """Put the limit where as many are beyond as were wrong inputs."""
    rule = TRUE_FIT(cls, defects, wrong, missed)
    sums = np.concatenate([np.asarray(defects), np.asarray(wrong)]) @ rule.weights
    return cls(rule.weights, float(np.sort(sums)[len(sums) // 2]))


def fitted(fit: Any) -> Any:
    return put(OriginRule, "fit", fit)


ORIGIN_FAULTS = [
    Fault("kinds swapped", fitted(swapped), APART),
    Fault("beyond is a defect", put(OriginRule, "wrongness", lambda s, d: s.limit - d @ s.weights), APART),
    Fault("limit at the defects", fitted(limited(lambda d, w, m: d.max())), APART),
    Fault("limit at the wrong inputs", fitted(limited(lambda d, w, m: w.min())), APART),
    Fault("limit of zero", fitted(limited(lambda d, w, m: 0.0)), APART),
    Fault(
        "always the middle", put(OriginRule, "fit", limited(lambda d, w, m: (d.max() + w.min()) / 2)), OVERLAP
    ),
    Fault("the other tail", fitted(limited(lambda d, w, m: np.quantile(w, 1 - m))), OVERLAP),
    Fault(
        "defects draw the line",
        put(OriginRule, "fit", limited(lambda d, w, m: np.quantile(d, 1 - m))),
        OVERLAP,
    ),
    Fault("how many of a kind decides", fitted(by_many), MANY),
    Fault("units decide", fitted(in_units), SPREAD),
    Fault("row read backwards", put(OriginRule, "from_row", backwards), ROW),
    Fault("no spread where parts agree", put(GoodFigures, "fit", of_everything), AGREE),
    Fault("an odd part widens what is usual", put(GoodFigures, "fit", of_deviation), FAR),
    Fault(
        "distances without logarithm",
        put(GoodFigures, "distances", lambda s, f: (np.asarray(f) - s.centre) / s.spread),
        FAR,
    ),
    Fault(
        "distances without spread",
        put(GoodFigures, "distances", lambda s, f: np.arcsinh(np.asarray(f) - s.centre)),
        FAR,
    ),
    Fault(
        "distances without side",
        put(GoodFigures, "distances", lambda s, f: np.arcsinh(np.abs(np.asarray(f) - s.centre) / s.spread)),
        FAR,
    ),
]
