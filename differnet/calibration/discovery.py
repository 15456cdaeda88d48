"""Which parts of a batch stand out, and how many good ones are among them.

A line at 1 % flags ten good parts in a thousand. Where defects are rare that may be most of what is
flagged, so a batch report says how many of the flagged parts are probably good. Arrays in, arrays out;
usable without the rest of differnet.

Conformal p-values of a batch share one calibration set, so they are not independent: an unlucky set makes all
of them small together. They are positively dependent (PRDS), which is what the procedure of Benjamini and
Hochberg needs (Bates, Candes, Lei, Romano, Sesia 2023, "Testing for outliers with conformal p-values", Annals
of Statistics 51).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.calibration.conformal import CalibrationError, _rank

# p-values above it count as those of good parts (Storey's lambda). Defects seldom reach it; a larger one
# would leave too few parts to count.
_USUAL = 0.5


@dataclass(frozen=True)
class Discoveries:
    """Parts of one batch that stand out.

    Attributes:
        adjusted: ``(m,)`` p-values to be compared with ``q``; NaN where the p-value is.
        flagged: ``(m,)`` where ``adjusted <= q``.
        line: The largest p-value that is flagged; 0 where none is.
        q: The share of good parts among the flagged that was asked for, on average over batches.
        expected_good: Estimate of how many of the flagged are good, ``min(flagged, line m pi0)`` with the
            share of good parts ``pi0`` of `share_of_good`. An estimate of this batch, not a bound.
    """

    adjusted: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    line: float
    q: float
    expected_good: float


@dataclass(frozen=True)
class GoodAmongFlagged:
    """How many of the flagged parts of a batch are good.

    Attributes:
        flagged: Parts with ``p <= alpha``.
        expected: Estimate of the good ones among them.
        at_most: No more than that, with ``confidence``.
        share_of_good: Estimated share of good parts in the whole batch.
        confidence: Of ``at_most``.
    """

    flagged: int
    expected: float
    at_most: int
    share_of_good: float
    confidence: float


def benjamini_hochberg(p_values: ArrayLike, q: float) -> Discoveries:
    """Flag the parts of a batch so that on average at most a share ``q`` of the flagged is good.

    The i-th smallest of ``m`` p-values becomes ``min over j >= i of p_(j) m / j``, and what is at most
    ``q`` is flagged. The share is a mean over batches and calibration sets, an empty batch counting as 0:
    one batch may have more. A part without a p-value is not flagged and not counted; its verdict is
    INVALID.

    With ``n`` calibration parts no p-value is below ``1/(n+1)``, so that fewer than ``m / (q (n+1))``
    parts cannot be flagged, however strange they are.

    Args:
        p_values: ``(m,)`` conformal p-values of one batch against one calibration set.
        q: Between 0 and 1.

    Returns:
        The flagged parts and their adjusted p-values, equal to ``scipy.stats.false_discovery_control``.

    Raises:
        CalibrationError: A p-value is not within 0 and 1, or ``q`` is not between them.

    Source: Benjamini, Hochberg 1995, "Controlling the false discovery rate", Journal of the Royal Statistical
    Society B 57.

    Example:
        >>> found = benjamini_hochberg([0.01, 0.9, 0.02, 0.5], q=0.1)
        >>> found.adjusted.round(2).tolist(), found.flagged.tolist(), found.line
        ([0.04, 0.9, 0.04, 0.67], [True, False, True, False], 0.02)
    """
    values = _checked(p_values)
    if not 0 < q < 1:
        raise CalibrationError(
            expected="a share of good parts among the flagged between 0 and 1",
            found=f"{q}",
            remedy="A share of 0.1 is usual.",
        )
    judged = np.flatnonzero(~np.isnan(values))
    adjusted = np.full(values.shape, np.nan)
    m = len(judged)
    order = judged[np.argsort(values[judged], kind="stable")]
    by_rank = values[order] * (m / np.arange(1, m + 1))
    adjusted[order] = np.minimum(np.minimum.accumulate(by_rank[::-1])[::-1], 1.0)
    flagged = adjusted <= q
    line = float(values[flagged].max(initial=0.0))
    count = int(np.count_nonzero(flagged))
    good = min(float(count), line * m * share_of_good(values)) if count else 0.0
    return Discoveries(adjusted, flagged, line, q, good)


def share_of_good(p_values: ArrayLike, usual: float = _USUAL) -> float:
    """Estimate the share of good parts in a batch from how many look usual.

    ``pi0 = min(1, (1 + #{p > usual}) / (m (1 - usual)))``. Good parts have p-values above 0.5 half of the
    time; twice as many as do is the estimate. Defects that look usual are counted as good, and so is one
    part more than there is, so that it errs upwards. The calibration set's luck moves it by ``1 / sqrt(n)``
    in either direction; a batch that has drifted moves it downwards.

    Args:
        p_values: ``(m,)``; NaN is left out.
        usual: Storey's lambda, between 0 and 1.

    Returns:
        Between 0 and 1; 1 of an empty batch.

    Raises:
        CalibrationError: A p-value is not within 0 and 1, or ``usual`` is not between them.

    Source: Storey, Taylor, Siegmund 2004, "Strong control, conservative point estimation and simultaneous
    conservative consistency of false discovery rates", Journal of the Royal Statistical Society B 66.

    Example:
        >>> round(share_of_good([0.01] * 20 + [i / 80 for i in range(1, 81)]), 2)
        0.82
    """
    values = _checked(p_values)
    if not 0 < usual < 1:
        raise CalibrationError(
            expected="a p-value between 0 and 1, above which parts count as usual",
            found=f"{usual}",
            remedy="0.5 is usual.",
        )
    judged = values[~np.isnan(values)]
    if not judged.size:
        return 1.0
    return min(1.0, float(1 + np.count_nonzero(judged > usual)) / (judged.size * (1 - usual)))


def good_among_flagged(
    p_values: ArrayLike, alpha: float, calibration_parts: int, confidence: float = 0.95
) -> GoodAmongFlagged:
    """Say how many good parts a line at ``alpha`` flags in this batch: an estimate, and an upper figure.

    The estimate is ``min(flagged, k/(n+1) m pi0)``, with ``k = floor(alpha (n+1))`` and ``pi0`` from
    `share_of_good`. The upper figure is the quantile at ``confidence`` of the beta-binomial law
    ``BetaBin(m, k, n+1-k)``, of what would be flagged if all m parts were good: it knows that the rate
    realised by one calibration set is a Beta variable, and supposes nothing of the defects. It holds for a
    line that was drawn before the batch was seen.

    Args:
        p_values: ``(m,)`` conformal p-values of one batch against one calibration set; NaN is left out.
        alpha: The line, between 0 and 1.
        calibration_parts: n.
        confidence: Of the upper figure, between 0 and 1.

    Raises:
        CalibrationError: A p-value, the line or the confidence is out of range, or there are no
            calibration parts.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors", for the Beta law.

    Example:
        >>> found = good_among_flagged([0.001] * 30 + [0.5] * 970, 0.01, calibration_parts=999)
        >>> found.flagged, round(found.expected, 1), found.at_most
        (30, 0.0, 18)
    """
    values = _checked(p_values)
    if calibration_parts < 1 or not 0 < confidence < 1:
        raise CalibrationError(
            expected="at least one calibration part and a confidence between 0 and 1",
            found=f"{calibration_parts} parts, {confidence}",
            remedy="Give the confidence as a share, for example 0.95.",
        )
    k = _rank(calibration_parts, alpha)
    judged = values[~np.isnan(values)]
    flagged = int(np.count_nonzero(judged <= alpha))
    good = share_of_good(judged)
    # Below 1/(n+1) nothing is flagged, good or not.
    if k < 1 or not judged.size:
        return GoodAmongFlagged(flagged, 0.0, 0, good, confidence)
    expected = min(float(flagged), k / (calibration_parts + 1) * judged.size * good)
    law = stats.betabinom(judged.size, k, calibration_parts + 1 - k)
    # Its quantile as far as it counts: `ppf` adds the law up anew at every step of its search.
    reached = np.cumsum(law.pmf(np.arange(flagged)))
    at_most = int(np.searchsorted(reached, confidence))
    return GoodAmongFlagged(flagged, expected, at_most, good, confidence)


def _checked(p_values: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(p_values, dtype=np.float64).ravel()
    outside = int(np.count_nonzero((values < 0) | (values > 1)))
    if outside:
        raise CalibrationError(
            expected="p-values within 0 and 1",
            found=f"{outside} of {values.size} outside",
            remedy="Give p-values, not strangeness.",
        )
    return values
