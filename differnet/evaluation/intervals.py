"""How sure a measured figure is: intervals for shares and for the AUROC, and for p-values.

A figure from a few hundred parts is a sample. Two figures whose intervals overlap widely are a tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from differnet.evaluation.metrics import MetricError, image_auroc

CONFIDENCE = 0.95
"""Of every interval; 95 % is what quality manuals expect."""

CELLS_AT_ONCE = 2_000_000
"""Counts of bootstrap draws held at once: 16 MB an array, whatever the number of parts."""


@dataclass(frozen=True)
class Rate:
    """A share with its exact interval.

    Attributes:
        events: How often it happened.
        of: In how many cases.
        share: ``events / of``, or ``None`` without cases.
        low, high: Two-sided Clopper-Pearson bounds; 0 and 1 without cases.
    """

    events: int
    of: int
    share: float | None
    low: float
    high: float

    def __str__(self) -> str:
        """Say the rate as a person would, and say so when there is none."""
        if self.share is None:
            return "no cases"
        return f"{percent(self.share)} ({percent(self.low)} to {percent(self.high)})"


@dataclass(frozen=True)
class AurocInterval:
    """An image AUROC with its interval.

    Attributes:
        auroc: As measured.
        low, high: Bounds within 0 and 1.
        standard_error: Of ``auroc``; 0 when the classes are perfectly separated, where only the
            bounds tell how sure that is.
        confidence: Of the interval.
        method: ``hanley-mcneil`` or ``bootstrap``.
    """

    auroc: float
    low: float
    high: float
    standard_error: float
    confidence: float
    method: str


@dataclass(frozen=True)
class AurocDifference:
    """By how much one image AUROC exceeds another on the same parts.

    Attributes:
        difference: First minus second, as measured.
        low, high: Bounds within -1 and 1.
        standard_error: Of ``difference``; 0 where no part's placement differs, and only the bounds tell.
        confidence: Of the interval.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    confidence: float

    @property
    def word(self) -> str:
        """``above`` or ``below`` where the interval leaves 0 out, else ``tie``."""
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "tie"


def percent(share: float) -> str:
    """Write a share with as many digits as can matter, and never round it to nothing.

    Example:
        >>> percent(0.0234), percent(0.5), percent(0.00004), percent(0.0), percent(1.0)
        ('2.3 %', '50.0 %', '0.004 %', '0 %', '100 %')
    """
    if share in (0.0, 1.0):
        return "100 %" if share else "0 %"
    hundredths = 100 * share
    # A rate next to an end keeps one figure of its distance: 99.96 % is not 100 %.
    near = min(hundredths, 100 - hundredths)
    digits = 1 if near >= 0.1 else min(6, int(np.ceil(-np.log10(near))))
    return f"{hundredths:.{digits}f} %"


def proportion_interval(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Bound a share exactly, two-sided (Clopper and Pearson 1934, Biometrika 26).

    The bounds are quantiles of beta distributions, ``B(a/2; k, n-k+1)`` and ``B(1-a/2; k+1, n-k)``
    with ``a = 1 - confidence``. They hold the true share at least as often as promised.

    Args:
        k: How often it happened.
        n: In how many independent cases.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper bound; 0 and 1 without cases.

    Raises:
        MetricError: Not ``0 <= k <= n``, or the confidence is not between 0 and 1.

    Example:
        >>> low, high = proportion_interval(3, 20)
        >>> round(low, 4), round(high, 4)
        (0.0321, 0.3789)
    """
    _check_counts(k, n, confidence)
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return low, high


def rate(events: int, of: int, confidence: float = CONFIDENCE) -> Rate:
    """Take a share with its exact two-sided interval, see `proportion_interval`.

    Args:
        events: How often it happened.
        of: In how many cases.
        confidence: That the true share lies within, at least.

    Returns:
        The share and its bounds.

    Raises:
        MetricError: Not ``0 <= events <= of``, or the confidence is not between 0 and 1.

    Example:
        >>> str(rate(0, 100))
        '0 % (0 % to 3.6 %)'
    """
    low, high = proportion_interval(events, of, confidence)
    return Rate(events, of, events / of if of else None, low, high)


def largest_rate(events: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Bound a share from above, one-sided: the claim that a test of ``of`` parts supports.

    Args:
        events: How often it happened.
        of: In how many cases.
        confidence: That the true share is no larger, at least.

    Returns:
        The bound; 1 without cases.

    Raises:
        MetricError: Not ``0 <= events <= of``, or the confidence is not between 0 and 1.

    Example:
        >>> largest_rate(0, 299) < 0.01, largest_rate(0, 298) < 0.01, largest_rate(0, 2995) < 0.001
        (True, False, True)
    """
    _check_counts(events, of, confidence)
    return float(stats.beta.ppf(confidence, events + 1, of - events)) if events < of else 1.0


def auroc_standard_error(auroc: float, defects: int, good: int) -> float:
    """Return the standard error of an AUROC from the numbers of parts alone.

    ``SE^2 = (A(1-A) + (d-1)(Q1 - A^2) + (g-1)(Q2 - A^2)) / (d g)`` with ``Q1 = A / (2-A)`` and
    ``Q2 = 2A^2 / (1+A)`` (Hanley and McNeil 1982, Radiology 143: exponential
    strangeness). It also serves published figures, whose parts one does not have.

    Args:
        auroc: ``A``, between 0 and 1.
        defects: ``d``, at least 1.
        good: ``g``, at least 1.

    Returns:
        In the unit of ``auroc``.

    Raises:
        MetricError: An argument is out of range.

    Example:
        >>> round(auroc_standard_error(0.977, defects=392, good=191), 4)
        0.0056
    """
    if not (0.0 <= auroc <= 1.0 and defects >= 1 and good >= 1):
        raise MetricError(
            expected="an AUROC between 0 and 1, of at least one defect and one good part",
            found=f"{auroc} of {defects} defects and {good} good parts",
            remedy="Give the AUROC as a share, not in percent.",
        )
    square = auroc * auroc
    of_defects = (defects - 1) * (auroc / (2 - auroc) - square)
    of_good = (good - 1) * (2 * square / (1 + auroc) - square)
    variance = (auroc * (1 - auroc) + of_defects + of_good) / (defects * good)
    return float(np.sqrt(max(0.0, variance)))


def auroc_interval(
    strangeness: ArrayLike,
    defective: ArrayLike,
    *,
    method: Literal["hanley-mcneil", "bootstrap"] = "bootstrap",
    confidence: float = CONFIDENCE,
    draws: int = 2000,
    seed: int = 0,
) -> AurocInterval:
    """Measure the image AUROC with an interval.

    ``hanley-mcneil`` takes `auroc_standard_error` on the logit scale, where the interval cannot
    leave 0 to 1 (Pepe 2003). ``bootstrap`` draws defects and good parts with replacement, each
    class by itself, and takes percentiles (Efron and Tibshirani 1993, chapter 13).

    Both collapse to a point when the classes are perfectly separated. The interval is then exact but
    wide: of ``m = min(defects, good)`` disjoint pairs, chosen beforehand, all were in order, which
    has probability at most ``AUROC^m``, so the bound is ``((1 - confidence) / 2)^(1/m)``.

    Args:
        strangeness: ``(n,)``, higher is stranger.
        defective: ``(n,)`` bool, or 0 and 1.
        method: See above.
        confidence: Between 0 and 1.
        draws: Of the bootstrap, at least 2.
        seed: Of the bootstrap; the same seed gives the same interval.

    Returns:
        The AUROC, its bounds and its standard error.

    Raises:
        MetricError: As `image_auroc`, or an argument is out of range.

    Example:
        >>> held = auroc_interval([1, 2, 3, 4], [0, 0, 1, 1], method="hanley-mcneil")
        >>> held.auroc, round(held.low, 3), held.high
        (1.0, 0.158, 1.0)
    """
    auroc = image_auroc(strangeness, defective)
    values, of_defect = np.asarray(strangeness, dtype=np.float64), np.asarray(defective).astype(bool)
    _check_settings(method, confidence, draws)
    defects = int(np.count_nonzero(of_defect))
    good = of_defect.size - defects
    if auroc in (0.0, 1.0):
        edge = float(((1 - confidence) / 2) ** (1 / min(defects, good)))
        low, high = (edge, 1.0) if auroc else (0.0, 1.0 - edge)
        return AurocInterval(auroc, low, high, 0.0, confidence, method)
    if method == "bootstrap":
        drawn = _bootstrap_aurocs(values[of_defect], values[~of_defect], draws, seed)
        low, high = (float(q) for q in np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]))
        return AurocInterval(auroc, low, high, float(drawn.std(ddof=1)), confidence, method)
    error = auroc_standard_error(auroc, defects, good)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error / (auroc * (1 - auroc))
    centre = float(special.logit(auroc))
    low, high = float(special.expit(centre - reach)), float(special.expit(centre + reach))
    return AurocInterval(auroc, low, high, error, confidence, method)


def auroc_difference(
    first: ArrayLike, second: ArrayLike, defective: ArrayLike, *, confidence: float = CONFIDENCE
) -> AurocDifference:
    """Measure by how much one method's image AUROC exceeds another's on the same parts.

    What both find hard is hard for both, so the difference is known better than either figure. With the
    placements of a defect among the good parts and of a good part among the defects,

        ``V_i = P(s_i > s_good) + P(s_i = s_good) / 2``,  ``W_j = P(s_defect > s_j) + P(s_defect = s_j) / 2``,

    the AUROC is the mean of either, and the variance of the difference of two is
    ``var(V1 - V2) / d + var(W1 - W2) / g`` for ``d`` defects and ``g`` good parts. Placements of several
    runs of a method are averaged: the figure is then the mean over runs, and its interval that of other
    parts judged by the same runs. The interval is the normal one, and too narrow where one class has few
    parts and both methods are nearly perfect: of 400 simulated pairs at 97 and 95 %, 88 % of those with 60
    defects and 14 good parts held the true difference, 96 % of those with 392 and 191 at 96 and 93 %.

    Where no placement differs from another in the two methods (both separate perfectly, say), the
    variance is 0 and tells nothing. As in `auroc_interval`, none of ``m = min(d, g)`` disjoint pairs was
    then ordered differently, and the reach is ``1 - ((1 - confidence) / 2)^(1/m)``.

    Args:
        first: ``(n,)`` strangeness, or ``(runs, n)`` of several runs; higher is stranger.
        second: The same of the other method, which may have another number of runs.
        defective: ``(n,)`` bool, or 0 and 1: at least two of each class.
        confidence: Between 0 and 1.

    Returns:
        First minus second, with bounds within -1 and 1.

    Raises:
        MetricError: As `image_auroc`, fewer than two parts of a class, or a confidence out of range.

    Source: DeLong, DeLong, Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver
    operating characteristic curves: a nonparametric approach", Biometrics 44, equations 4 to 6.

    Example:
        >>> found = auroc_difference([1, 4, 3, 6, 5], [1, 2, 6, 4, 5], [0, 0, 0, 1, 1])
        >>> round(found.difference, 3), found.word
        (0.333, 'tie')
    """
    of_defect = np.asarray(defective).astype(bool)
    both = [_mean_placements(values, defective) for values in (first, second)]
    defects, good = int(np.count_nonzero(of_defect)), int(np.count_nonzero(~of_defect))
    if min(defects, good) < 2 or not 0.0 < confidence < 1.0:
        raise MetricError(
            expected="at least two defects and two good parts, and a confidence between 0 and 1",
            found=f"{defects} defects and {good} good parts, at {confidence}",
            remedy="Compare on more parts.",
        )
    apart = both[0] - both[1]
    difference = float(apart[of_defect].mean())
    variance = apart[of_defect].var(ddof=1) / defects + apart[~of_defect].var(ddof=1) / good
    error = float(np.sqrt(variance))
    # Equal placements differ by the rounding of their means alone.
    if error < 1e-12:
        error, reach = 0.0, 1 - float(((1 - confidence) / 2) ** (1 / min(defects, good)))
    else:
        reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    low, high = max(-1.0, difference - reach), min(1.0, difference + reach)
    return AurocDifference(difference, low, high, error, confidence)


def p_value_uniformity(p_values: ArrayLike) -> dict[str, float]:
    """Summarise how far the p-values of good parts are from uniform.

    Valid p-values of good parts satisfy ``P(p <= a) <= a``; a ``share_01`` whose ``low_01`` is above
    0.01 is evidence that they are not. The intervals take the p-values as independent. Those of one
    calibration set share its luck (Bates et al. 2023, Ann. Statist. 51), so with few calibration
    parts they are too narrow; and conformal p-values of ``n`` such parts stand on a grid, which
    alone makes a distance of ``1 / (n + 1)``.

    Args:
        p_values: ``(n,)`` of good parts that were used neither for training nor for calibration.

    Returns:
        ``count``; ``ks_distance``, the largest distance between their distribution and the uniform
        one (Kolmogorov-Smirnov); ``share_01``, ``low_01``, ``high_01``: the share at or below 1 %
        with its exact 95 % interval; ``share_05``, ``low_05``, ``high_05``: the same at 5 %.

    Raises:
        MetricError: There is none, or one is NaN or not between 0 and 1.

    Example:
        >>> summary = p_value_uniformity([0.125, 0.375, 0.625, 0.875])
        >>> summary["count"], summary["ks_distance"], summary["share_05"], round(summary["high_05"], 3)
        (4.0, 0.125, 0.0, 0.602)
    """
    values = np.asarray(p_values, dtype=np.float64)
    # Written so that NaN, which compares as neither, is refused.
    if values.ndim != 1 or not values.size or not ((values >= 0) & (values <= 1)).all():
        raise MetricError(
            expected="at least one p-value, all between 0 and 1",
            found=f"shape {values.shape}, from {values.min(initial=1.0)} to {values.max(initial=0.0)}",
            remedy="Leave parts without a p-value out.",
        )
    summary = {"count": float(values.size), "ks_distance": float(stats.kstest(values, "uniform").statistic)}
    for level, name in ((0.01, "01"), (0.05, "05")):
        at_or_below = int(np.count_nonzero(values <= level))
        low, high = proportion_interval(at_or_below, values.size)
        summary |= {f"share_{name}": at_or_below / values.size, f"low_{name}": low, f"high_{name}": high}
    return summary


def _mean_placements(strangeness: ArrayLike, defective: ArrayLike) -> NDArray[np.float64]:
    """Return each part's placement among the parts of the other class, ``(n,)``, the mean over runs."""
    runs = np.atleast_2d(np.asarray(strangeness, dtype=np.float64))
    of_defect = np.asarray(defective).astype(bool)
    placements = np.empty(runs.shape)
    for values, placed in zip(runs, placements, strict=True):
        image_auroc(values, defective)  # raises, with its reason, where there is none
        among_all = stats.rankdata(values)
        for some in (of_defect, ~of_defect):
            placed[some] = (among_all[some] - stats.rankdata(values[some])) / np.count_nonzero(~some)
        # Of a good part: the share of defects that are stranger.
        placed[~of_defect] = 1 - placed[~of_defect]
    return np.asarray(placements.mean(axis=0))


def _bootstrap_aurocs(
    defects: NDArray[np.float64], good: NDArray[np.float64], draws: int, seed: int
) -> NDArray[np.float64]:
    """Return ``(draws,)`` AUROCs of resampled classes."""
    levels, places = np.unique(np.concatenate([defects, good]), return_inverse=True)
    of_defects, of_good = places[: defects.size], places[defects.size :]
    rng = np.random.default_rng(seed)
    rows = max(1, CELLS_AT_ONCE // levels.size)
    drawn = np.empty(draws)
    for start in range(0, draws, rows):
        block = drawn[start : start + rows]
        caught = _resampled(of_defects, block.size, levels.size, rng)
        overkill = _resampled(of_good, block.size, levels.size, rng)
        # Of each defect's level: twice the good parts below, and once those that tie.
        outdone = 2 * np.cumsum(overkill, axis=1) - overkill
        block[:] = np.einsum("ij,ij->i", caught, outdone) / (2 * defects.size * good.size)
    return drawn


def _resampled(
    places: NDArray[np.int64], draws: int, levels: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw as many parts as there are, with replacement, and count them by level: ``(draws, levels)``."""
    picked = places[rng.integers(places.size, size=(draws, places.size))]
    cells = picked + levels * np.arange(draws)[:, np.newaxis]
    return np.bincount(cells.ravel(), minlength=draws * levels).reshape(draws, levels)


def _check_counts(events: int, of: int, confidence: float) -> None:
    if not (0 <= events <= of and 0.0 < confidence < 1.0):
        raise MetricError(
            expected="0 <= events <= cases and a confidence between 0 and 1",
            found=f"{events} of {of} at {confidence}",
            remedy="Give the confidence as a share, for example 0.95.",
        )


def _check_settings(method: str, confidence: float, draws: int) -> None:
    if not (method in ("hanley-mcneil", "bootstrap") and 0.0 < confidence < 1.0 and draws >= 2):
        raise MetricError(
            expected="hanley-mcneil or bootstrap, a confidence between 0 and 1, at least 2 draws",
            found=f"{method}, {confidence}, {draws}",
            remedy="Use the defaults.",
        )
