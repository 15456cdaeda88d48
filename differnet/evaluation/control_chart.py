"""Control charts: does the share of one lot differ by more than chance makes of a steady line?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.evaluation.intervals import percent
from differnet.evaluation.metrics import MetricError

FALSE_ALARM = 0.0027
"""Largest chance of a lot of a steady line to lie outside the limits: that of a normal figure beyond three
standard deviations, which charts have used since Shewhart (1931)."""

RUN_LENGTH = 8
"""Lots in a row on one side of the centre that count as a signal (Western Electric 1956, rule 4)."""


@dataclass(frozen=True)
class ControlChart:
    """The shares of lots beside what a steady line would give.

    Attributes:
        shares: ``(lots,)``, NaN of a lot without parts.
        centre: Share of all parts together, or the one that was given.
        lower, upper: ``(lots,)`` smallest and largest share within the limits of each lot.
        outside: ``(lots,)`` int8: -1 below the limits, 1 above, else 0.
        runs: First and last place of each run of `RUN_LENGTH` or more lots on one side, and the side.
        chance: That one lot or more of so many lies outside though the share never changes.
    """

    shares: NDArray[np.float64]
    centre: float
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    outside: NDArray[np.int8]
    runs: tuple[tuple[int, int, int], ...]
    chance: float

    @property
    def blind(self) -> bool:
        """Whether every lot is so small that no share could be outside."""
        return bool((self.lower <= 0).all() and (self.upper >= 1).all())

    @property
    def calm(self) -> bool:
        """Whether there is no signal."""
        return not self.outside.any() and not self.runs


def p_chart(
    events: ArrayLike, of: ArrayLike, false_alarm: float = FALSE_ALARM, centre: float | None = None
) -> ControlChart:
    """Compare the shares of lots with exact binomial limits.

    Of a lot of n parts the limits are the ``false_alarm / 2`` and ``1 - false_alarm / 2`` quantiles of the
    binomial law of n and the centre, so that a lot of a steady line lies outside with a chance of at most
    ``false_alarm``, and mostly less: counts are whole. The usual three standard deviations promise that of
    large counts alone. Where the centre is taken from the lots themselves it is a little uncertain, and lots
    that stand out draw it towards them.

    Args:
        events: ``(lots,)`` how often it happened.
        of: ``(lots,)`` among how many parts.
        false_alarm: Largest chance of a lot of a steady line to lie outside.
        centre: Share of a steady line; the share of all lots together where it is not given.

    Returns:
        The chart.

    Raises:
        MetricError: Counts that do not match, or a share that is not between 0 and 1.

    Example:
        >>> chart = p_chart([2, 3, 1, 14], [100, 100, 100, 100])
        >>> chart.centre, chart.upper.round(2).tolist(), chart.outside.tolist()
        (0.05, [0.13, 0.13, 0.13, 0.13], [0, 0, 0, 1])
    """
    happened, parts = np.asarray(events, dtype=np.int64), np.asarray(of, dtype=np.int64)
    fits = happened.ndim == 1 and happened.shape == parts.shape and bool((happened >= 0).all())
    if not fits or not bool((happened <= parts).all()):
        raise MetricError(
            expected="as many counts as lots, none of them larger than its lot",
            found=f"{happened.tolist()} of {parts.tolist()}"[:200],
            remedy="Count events and parts of the same lots.",
        )
    total = int(parts.sum())
    middle = centre if centre is not None else float(happened.sum() / total) if total else 0.0
    if not (0 <= middle <= 1 and 0 < false_alarm < 1):
        raise MetricError(
            expected="a centre from 0 to 1, and a false-alarm rate between 0 and 1",
            found=f"{middle} and {false_alarm}",
            remedy="Give shares, not percent.",
        )
    held = parts > 0
    least = np.where(held, stats.binom.ppf(false_alarm / 2, parts, middle), 0).clip(0)
    most = np.where(held, stats.binom.ppf(1 - false_alarm / 2, parts, middle), 0)
    outside = np.where(happened < least, -1, np.where(happened > most, 1, 0)).astype(np.int8)
    beyond = stats.binom.cdf(least - 1, parts, middle) + stats.binom.sf(most, parts, middle)
    divisor = np.maximum(parts, 1)
    shares = np.where(held, happened / divisor, np.nan)
    return ControlChart(
        shares=shares,
        centre=middle,
        lower=np.where(held, least / divisor, 0.0),
        upper=np.where(held, most / divisor, 1.0),
        outside=outside,
        runs=_runs(shares, middle),
        chance=float(1 - np.prod(1 - np.where(held, beyond, 0.0))),
    )


def signal_words(chart: ControlChart, names: Sequence[str], what: str) -> list[str]:
    """Say in words what a chart shows.

    Args:
        chart: Of the lots.
        names: ``(lots,)`` for a person.
        what: That is counted, such as ``DEFECT``.

    Returns:
        At least one sentence; that there is no signal is one.

    Example:
        >>> chart = p_chart([2, 3, 1, 14], [100, 100, 100, 100])
        >>> signal_words(chart, ["mon", "tue", "wed", "thu"], "DEFECT")
        ['thu: 14.0 % DEFECT, above the limit of 13.0 %.']
        >>> signal_words(p_chart([1, 0], [3, 3]), ["mon", "tue"], "DEFECT")
        ['DEFECT: lots of this size are too small to tell a change from chance.']
    """
    if chart.blind:
        return [f"{what}: lots of this size are too small to tell a change from chance."]
    told = []
    for place in np.flatnonzero(chart.outside).tolist():
        above = chart.outside[place] > 0
        limit = chart.upper[place] if above else chart.lower[place]
        told.append(
            f"{names[place]}: {percent(float(chart.shares[place]))} {what}, "
            f"{'above' if above else 'below'} the limit of {percent(float(limit))}."
        )
    for first, last, side in chart.runs:
        told.append(
            f"{what}: {last - first + 1} lots in a row {'above' if side > 0 else 'below'} the average of "
            f"{percent(chart.centre)}, the first {names[first]}, the last {names[last]}."
        )
    return told or [f"{what}: no lot differs from the average by more than chance explains."]


def same_share(events: int, of: int, other_events: int, other_of: int) -> float:
    """Return the p-value of two shares being the same, by Fisher's exact test, two-sided.

    Args:
        events: How often it happened.
        of: In how many cases.
        other_events: How often elsewhere.
        other_of: In how many cases there.

    Returns:
        Lower is surer that they differ; 1 where one has no cases.

    Raises:
        MetricError: Not ``0 <= events <= of`` of either.

    Source: Fisher 1934, "Statistical methods for research workers", fifth edition, section 21.02.

    Example:
        >>> round(same_share(3, 4, 1, 4), 3)
        0.486
    """
    if not (0 <= events <= of and 0 <= other_events <= other_of):
        raise MetricError(
            expected="0 <= events <= of",
            found=f"{events} of {of}, {other_events} of {other_of}",
            remedy="Count events and cases of the same parts.",
        )
    if not of or not other_of:
        return 1.0
    table = np.array([[events, of - events], [other_events, other_of - other_events]])
    return float(stats.fisher_exact(table).pvalue)


def _runs(shares: NDArray[np.float64], centre: float) -> tuple[tuple[int, int, int], ...]:
    """Find runs of lots on one side of the centre; a lot on it, or without parts, ends a run."""
    sides = np.nan_to_num(np.sign(shares - centre)).astype(int).tolist()
    found, first = [], 0
    for place in range(1, len(sides) + 1):
        if place == len(sides) or sides[place] != sides[first]:
            if sides[first] and place - first >= RUN_LENGTH:
                found.append((first, place - 1, sides[first]))
            first = place
    return tuple(found)
