"""Conformal p-values: how a part compares with good parts the model was not trained on.

Arrays in, arrays out; usable without the rest of differnet. For parts exchangeable with the
calibration parts, and whatever the statistic, ``P(p <= alpha) <= alpha``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.records import DiffernetError


class CalibrationError(DiffernetError):
    """A promise that the calibration parts cannot carry, or figures that are not finite."""


def p_values(calibration: ArrayLike, strangeness: ArrayLike) -> NDArray[np.float64]:
    """Return split-conformal p-values, ``(1 + #{calibration >= strangeness}) / (n + 1)``.

    Ties count against the part: the p-value is the larger, valid one. A strangeness that is not a
    number gets NaN, never a p-value that could pass.

    Args:
        calibration: ``(n,)`` strangeness of good parts that were not trained on.
        strangeness: ``(m,)`` of the parts in question.

    Returns:
        ``(m,)`` in ``[1/(n+1), 1]``, lower is stranger.

    Raises:
        CalibrationError: No calibration parts, or some that are not finite.

    Source: Vovk, Gammerman, Shafer 2005, "Algorithmic learning in a random world", chapter 2.

    Example:
        >>> p_values([1.0, 2.0, 3.0], [0.0, 2.0, 9.0]).tolist()
        [1.0, 0.75, 0.25]
    """
    ordered = _ordered(calibration)
    asked = np.asarray(strangeness, dtype=np.float64)
    at_least = len(ordered) - np.searchsorted(ordered, asked, side="left")
    return np.where(np.isnan(asked), np.nan, (1.0 + at_least) / (len(ordered) + 1.0))


def smallest_alpha(parts: int) -> float:
    """Return the smallest false-alarm rate that ``parts`` calibration parts can promise, 1/(n+1).

    Example:
        >>> smallest_alpha(99)
        0.01
    """
    return 1.0 / (parts + 1.0)


def threshold(calibration: ArrayLike, alpha: float) -> float:
    """Return the least strangeness whose p-value is at most ``alpha``.

    ``strangeness >= threshold`` and ``p <= alpha`` are the same statement.

    Args:
        calibration: ``(n,)`` strangeness of good parts that were not trained on.
        alpha: False-alarm rate in ``[1/(n+1), 1)``.

    Raises:
        CalibrationError: ``alpha`` is below ``1/(n+1)``: no threshold could keep that promise. Or it is
            not a number below 1.

    Example:
        >>> t = threshold([1.0, 2.0, 3.0], 0.5)
        >>> t > 2.0, p_values([1.0, 2.0, 3.0], [t, 2.0]).tolist()
        (True, [0.5, 0.75])
    """
    ordered = _ordered(calibration)
    n = len(ordered)
    rank = _rank(n, alpha)
    if rank < 1:
        needed = math.ceil(min(1 / alpha, 1e18)) - 1
        raise CalibrationError(
            expected=f"a false-alarm rate of at least 1/(n+1) = {smallest_alpha(n):.3g}",
            found=f"{alpha:.3g} with {n} calibration parts",
            remedy=f"Calibrate on at least {needed} good parts, or accept a larger rate.",
        )
    return float(np.nextafter(ordered[n - rank], np.inf))


def false_alarm_interval(parts: int, alpha: float, confidence: float = 0.9) -> tuple[float, float]:
    """Return where the realised false-alarm rate lies, given one calibration set.

    Over calibration sets it is distributed as ``Beta(k, n+1-k)``, ``k = floor(alpha (n+1))``.

    Args:
        parts: Calibration parts, n.
        alpha: Nominal rate.
        confidence: Mass of the central interval.

    Raises:
        CalibrationError: ``alpha`` is not between 0 and 1.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors".

    Example:
        >>> [round(100 * x, 2) for x in false_alarm_interval(1000, 0.01)]
        [0.54, 1.57]
    """
    k = _rank(parts, alpha)
    if k < 1:
        return 0.0, 0.0
    tail = (1 - confidence) / 2
    law = stats.beta(k, parts + 1 - k)
    return float(law.ppf(tail)), float(law.ppf(1 - tail))


def _rank(parts: int, alpha: float) -> int:
    """Return the largest k with ``k / (n+1) <= alpha``, compared as p-values are: after rounding."""
    if not 0 < alpha < 1:
        raise CalibrationError(
            expected="a false-alarm rate above 0 and below 1",
            found=f"{alpha}",
            remedy="A rate of 0.01 is usual.",
        )
    near = math.floor(alpha * (parts + 1))
    return max(k for k in (near - 1, near, near + 1) if k / (parts + 1.0) <= alpha)


def _ordered(calibration: ArrayLike) -> NDArray[np.float64]:
    ordered = np.sort(np.asarray(calibration, dtype=np.float64).ravel())
    if len(ordered) == 0 or not np.isfinite(ordered).all():
        raise CalibrationError(
            expected="at least one calibration part, all of finite strangeness",
            found=f"{len(ordered)} parts, {int((~np.isfinite(ordered)).sum())} of them not finite",
            remedy="Look for unreadable or blank pictures among the good parts.",
        )
    return ordered
