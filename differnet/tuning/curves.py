"""Curves over all thresholds, each with no more points than a chart can show.

A curve of 100,000 parts has as many points, of which a chart of 400 pixels shows 400. `thin` keeps some of
the true points and never moves one: it cuts the curve into pieces of equal length and keeps the first and the
last point of each. What lies between them in a piece is no further from the line that is drawn than the piece
is long, and every curve says how long that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from differnet.calibration import expected_costs
from differnet.evaluation.intervals import (
    CONFIDENCE,
    AurocInterval,
    auroc_interval,
    p_value_uniformity,
)
from differnet.evaluation.metrics import MetricError, aupr, operating_points

Figures = NDArray[np.float64]

POINTS = 400
"""Most points of a curve: one a pixel of a chart."""


@dataclass(frozen=True)
class Curve:
    """Points of a curve, in its order.

    Attributes:
        x, y: ``(k,)`` figures of the points, each exact.
        threshold: ``(k,)`` strangeness from which parts count as flagged; infinite where none does.
        off: No point that was left out lies further from the line through these than that, in shares of the
            axes' extents, both added. 0 where none was left out.
    """

    x: Figures
    y: Figures
    threshold: Figures
    off: float


@dataclass(frozen=True)
class Separation:
    """How well strangeness separates defects from good parts.

    Attributes:
        good, defects: How many there are.
        roc: Overkill and the share of defects that is caught.
        precision_recall: Share of defects that is caught, and share of defects among what is flagged.
        detection_error: Overkill and escape, thinned on the normal deviate's scale on which it is drawn, see
            `deviates`; thresholds at which either is 0 or 1 have no place there.
        auroc: Area under the first, with its interval.
        aupr: Average precision.
    """

    good: int
    defects: int
    roc: Curve
    precision_recall: Curve
    detection_error: Curve
    auroc: AurocInterval
    aupr: float


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold does to labelled parts.

    Attributes:
        threshold: Strangeness from which parts count as flagged.
        overkill: Share of good parts that is flagged.
        caught: Share of defects that is flagged.
        precision: Share of defects among the flagged; ``None`` where nothing is.
    """

    threshold: float
    overkill: float
    caught: float
    precision: float | None

    @property
    def errors(self) -> tuple[float, float] | None:
        """Overkill and escape where both have a place on the normal deviate's scale, else ``None``."""
        inside = 0 < self.overkill < 1 and 0 < self.caught < 1
        return (self.overkill, 1 - self.caught) if inside else None


@dataclass(frozen=True)
class CostCurve:
    """Expected cost a part by the threshold from which parts are rejected.

    Attributes:
        curve: Threshold and cost; the review threshold at its best, at or below.
        review, defect: Thresholds of the least cost, as `differnet.calibration.by_cost` suggests them.
        least: That cost.
        now: Cost of the two thresholds that were asked about; ``None`` where they send parts to review and
            nobody said what a look costs.
    """

    curve: Curve
    review: float
    defect: float
    least: float
    now: float | None


@dataclass(frozen=True)
class Quantiles:
    """p-values of good parts beside those of a uniform law, on the scale ``-log10 p``.

    Attributes:
        uniform: ``(k,)`` expected i-th smallest of as many uniform p-values, ``i / (m + 1)``.
        found: ``(k,)`` the i-th smallest that was found.
        low, high: ``(k,)`` where the i-th smallest lies 95 times in 100, ``Beta(i, m + 1 - i)``, each point
            by itself.
        summary: As `p_value_uniformity`.
        off: As of a `Curve`, on the scale ``-log10 p``.
    """

    uniform: Figures
    found: Figures
    low: Figures
    high: Figures
    summary: dict[str, float]
    off: float


def thin(x: ArrayLike, y: ArrayLike, most: int = POINTS) -> tuple[NDArray[np.int64], float]:
    """Choose points of a curve that show its whole course.

    Args:
        x: ``(n,)`` finite, in the order of the curve.
        y: ``(n,)`` likewise.
        most: Points to keep at most, at least 4.

    Returns:
        Places of the kept points, the first and the last among them, and how far one that was left out lies
        from the line through those at most, in shares of the extents of x and y, both added.

    Example:
        >>> places, off = thin([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1], most=4)
        >>> places.tolist(), off
        ([0, 2, 3, 5], 1.0)
    """
    if not np.size(x):
        return np.zeros(0, dtype=np.int64), 0.0
    steps = np.abs(np.diff(_shares(x))) + np.abs(np.diff(_shares(y)))
    if len(steps) < most:
        return np.arange(len(steps) + 1), 0.0
    pieces = most // 2
    along = np.concatenate([[0.0], np.cumsum(steps)])
    length = float(along[-1]) / pieces
    if not length:
        return np.array([0, len(steps)]), 0.0
    piece = np.minimum(along / length, pieces - 1).astype(np.int64)
    begins = np.flatnonzero(np.concatenate([[True], piece[1:] != piece[:-1]]))
    ends = np.concatenate([begins[1:] - 1, [len(piece) - 1]])
    return np.unique(np.concatenate([begins, ends])), length


def separation(good: ArrayLike, defects: ArrayLike, most: int = POINTS) -> Separation:
    """Return ROC, precision-recall and detection-error curve of labelled parts.

    The ROC and its area are Mann-Whitney's, ties counting half; precision and average precision are those of
    the thresholds that exist, without interpolation (Davis and Goadrich 2006); the detection error trade-off
    is that of Martin et al. 1997.

    Args:
        good: ``(g,)`` finite strangeness of the good parts.
        defects: ``(d,)`` finite strangeness of the defects.
        most: Points a curve.

    Raises:
        MetricError: One of the two is empty.

    Example:
        >>> found = separation([0.1, 0.4], [0.35, 0.8])
        >>> found.roc.x.tolist(), found.roc.y.tolist(), found.auroc.auroc
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0], 0.75)
    """
    usual, faulty = np.asarray(good, dtype=np.float64), np.asarray(defects, dtype=np.float64)
    strangeness = np.concatenate([usual, faulty])
    defective = np.concatenate([np.zeros(len(usual), dtype=bool), np.ones(len(faulty), dtype=bool)])
    levels, caught, overkill = operating_points(strangeness, defective)
    flagged_good, flagged = overkill / len(usual), caught / len(faulty)
    precision = caught[1:] / (caught[1:] + overkill[1:])
    inside = (caught > 0) & (caught < len(faulty)) & (overkill > 0) & (overkill < len(usual))
    errors = flagged_good[inside], 1 - flagged[inside]
    places, off = thin(deviates(errors[0]), deviates(errors[1]), most)
    return Separation(
        len(usual),
        len(faulty),
        _curve(flagged_good, flagged, levels, most),
        _curve(flagged[1:], precision, levels[1:], most),
        Curve(errors[0][places], errors[1][places], levels[inside][places], off),
        auroc_interval(strangeness, defective, method="hanley-mcneil"),
        aupr(strangeness, defective),
    )


def deviates(rates: ArrayLike) -> Figures:
    """Return the standard normal deviates that rates are exceeded at: where a detection error is drawn.

    Args:
        rates: ``(k,)`` above 0 and below 1.

    Example:
        >>> deviates([0.5, 0.975]).round(2).tolist()
        [0.0, 1.96]
    """
    return np.asarray(special.ndtri(np.asarray(rates, dtype=np.float64)))


def operating_point(good: ArrayLike, defects: ArrayLike, threshold: float) -> OperatingPoint:
    """Say where a threshold lies on the curves of `separation`.

    Args:
        good: ``(g,)`` finite strangeness of the good parts.
        defects: ``(d,)`` finite strangeness of the defects.
        threshold: From which parts count as flagged.

    Raises:
        MetricError: One of the two is empty.
    """
    usual, faulty = np.asarray(good, dtype=np.float64), np.asarray(defects, dtype=np.float64)
    if not (usual.size and faulty.size):
        raise MetricError(
            expected="good parts and defects",
            found=f"{usual.size} and {faulty.size}",
            remedy="Label parts of both kinds.",
        )
    wrong, right = int(np.count_nonzero(usual >= threshold)), int(np.count_nonzero(faulty >= threshold))
    precision = right / (right + wrong) if right + wrong else None
    return OperatingPoint(threshold, wrong / len(usual), right / len(faulty), precision)


def cost_curve(
    good: ArrayLike,
    defects: ArrayLike,
    thresholds: tuple[float, float],
    *,
    cost_overkill: float,
    cost_escape: float,
    defect_share: float,
    cost_review: float | None = None,
    most: int = POINTS,
) -> CostCurve:
    """Return the expected cost a part at every threshold, and at those that are asked about.

    Args:
        good: ``(n,)`` strangeness of good parts.
        defects: ``(d,)`` strangeness of labelled defects.
        thresholds: T1 and T2 to price.
        cost_overkill: Of a good part that is rejected, in any unit.
        cost_escape: Of a defect that passes, in the same unit.
        defect_share: Share of defects on the line.
        cost_review: Of a look; ``None`` where nothing is to be reviewed.
        most: Points of the curve.

    Raises:
        CalibrationError: As `differnet.calibration.by_cost`.
    """
    costs = expected_costs(good, defects, cost_overkill, cost_escape, defect_share, cost_review)
    levels, cost, least = costs.levels, costs.cost, costs.least
    places, off = thin(levels, cost, most - 1)
    places = np.unique(np.append(places, least))
    usual, faulty = np.asarray(good, dtype=np.float64), np.asarray(defects, dtype=np.float64)
    t_review, t_defect = thresholds
    rejected, flagged = np.mean(usual >= t_defect), np.mean(usual >= t_review)
    missed, found = np.mean(faulty < t_review), np.mean(faulty >= t_defect)
    of_review = (1 - defect_share) * (flagged - rejected) + defect_share * (1 - missed - found)
    now = (1 - defect_share) * cost_overkill * rejected + defect_share * cost_escape * missed
    unknown = cost_review is None and t_review < t_defect
    return CostCurve(
        Curve(levels[places], cost[places], levels[places], off),
        float(levels[costs.review[least]]),
        float(levels[least]),
        float(cost[least]),
        None if unknown else float(now + (cost_review or 0.0) * of_review),
    )


def uniform_quantiles(p_values: ArrayLike, most: int = POINTS) -> Quantiles:
    """Compare p-values of good parts with a uniform law: larger ones than its own are as promised.

    Conformal p-values of ``n`` calibration parts stand on a grid of ``1 / (n + 1)``, below which there is
    none. The intervals suppose that p-values are independent; those of one calibration share its luck, so
    that with few calibration parts more of them leave the intervals than 5 in 100.

    Args:
        p_values: ``(m,)`` above 0, at most 1, of good parts.
        most: Points to keep.

    Raises:
        MetricError: There is none, or one is not above 0 and at most 1.
    """
    found = np.sort(np.asarray(p_values, dtype=np.float64))
    summary = p_value_uniformity(found)
    if not found[0] > 0:
        raise MetricError(
            expected="p-values above 0", found="0", remedy="Use conformal p-values: none of them is 0."
        )
    rank = np.arange(1, len(found) + 1)
    uniform = rank / (len(found) + 1)
    places, off = thin(-np.log10(uniform), -np.log10(found), most)
    tail = (1 - CONFIDENCE) / 2
    low, high = (
        np.asarray(stats.beta.ppf(q, rank[places], len(found) + 1 - rank[places])) for q in (tail, 1 - tail)
    )
    return Quantiles(uniform[places], found[places], low, high, summary, off)


def _curve(x: Figures, y: Figures, threshold: Figures, most: int) -> Curve:
    places, off = thin(x, y, most)
    return Curve(x[places], y[places], threshold[places], off)


def _shares(values: ArrayLike) -> Figures:
    figures = np.asarray(values, dtype=np.float64)
    extent = float(np.ptp(figures)) if figures.size else 0.0
    return figures / extent if extent else np.zeros(figures.shape)
