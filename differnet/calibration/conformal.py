"""Conformal p-values: how a part compares with good parts the model was not trained on.

Arrays in, arrays out; usable without the rest of differnet. For parts exchangeable with the
calibration parts, and whatever the statistic, ``P(p <= alpha) <= alpha``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    return Ranks.of(calibration).p_values(strangeness)


@dataclass(frozen=True)
class Ranks:
    """Good parts put in order once, for many p-values.

    Attributes:
        ordered: ``(n,)`` strangeness of good parts that were not trained on, ascending.
    """

    ordered: NDArray[np.float64]

    @classmethod
    def of(cls, calibration: ArrayLike) -> Self:
        """Order ``(n,)`` good parts.

        Raises:
            CalibrationError: None, or some that are not finite.
        """
        return cls(_ordered(calibration))

    def p_values(self, strangeness: ArrayLike) -> NDArray[np.float64]:
        """Return `p_values` of ``(m,)`` parts."""
        asked = np.asarray(strangeness, dtype=np.float64)
        at_least = len(self.ordered) - np.searchsorted(self.ordered, asked, side="left")
        return np.where(np.isnan(asked), np.nan, (1.0 + at_least) / (len(self.ordered) + 1.0))


def smoothed_p_values(calibration: ArrayLike, strangeness: ArrayLike, seed: int) -> NDArray[np.float64]:
    """Return p-values with ties broken at random, ``(#{c > s} + U (1 + #{c = s})) / (n + 1)``.

    With ``U`` uniform on (0, 1] they are exactly uniform for exchangeable parts, where those of `p_values`
    are uniform on a grid at best. Tests that look at the whole distribution, for drift or for how many parts
    of a batch are good, need that. Verdicts do not: the same picture must get the same verdict, and
    these depend on the seed and on a part's place in the batch.

    Args:
        calibration: ``(n,)`` strangeness of good parts that were not trained on.
        strangeness: ``(m,)`` of the parts in question.
        seed: Of the random ties; the same seed gives the same p-values.

    Returns:
        ``(m,)`` in (0, 1], lower is stranger; never above `p_values`. NaN where the strangeness is NaN.

    Raises:
        CalibrationError: No calibration parts, or some that are not finite.

    Source: Vovk, Gammerman, Shafer 2005, "Algorithmic learning in a random world", chapter 2 (smoothed
    conformal predictors).

    Example:
        >>> p = smoothed_p_values([1.0, 2.0, 3.0], [0.0, 2.0, 9.0], seed=0)
        >>> bool((p <= p_values([1.0, 2.0, 3.0], [0.0, 2.0, 9.0])).all()), p.round(2).tolist()
        (True, [0.84, 0.62, 0.24])
    """
    ordered = _ordered(calibration)
    asked = np.asarray(strangeness, dtype=np.float64)
    above = len(ordered) - np.searchsorted(ordered, asked, side="right")
    equal = len(ordered) - np.searchsorted(ordered, asked, side="left") - above
    # 1 - [0, 1) is (0, 1]: a p-value of 0 would say that something is impossible.
    ties = 1.0 - np.random.default_rng(seed).uniform(size=asked.shape)
    return np.where(np.isnan(asked), np.nan, (above + ties * (1.0 + equal)) / (len(ordered) + 1.0))


def cross_p_values(calibration: ArrayLike, folds: ArrayLike, strangeness: ArrayLike) -> NDArray[np.float64]:
    """Return cross-conformal p-values, for parts too few to be split.

    ``(1 + sum over i of [c_i >= s_{k(i)}]) / (n + 1)``: each calibration part ``i``, judged by the member
    that did not train on its fold ``k(i)``, is compared with the new part judged by the same member. Every
    good part then both trains and calibrates.

    What is guaranteed is weaker than for `p_values`: ``P(p <= alpha)`` is at most `cross_bound`, a
    little above ``2 alpha``. What is seen is below ``alpha``: with 20 parts, 5 folds and Mahalanobis
    distances in 1 to 8 dimensions, 4.6 to 3.7 % of good parts had a p-value of at most 1/21 = 4.8 % (2,000
    simulated calibrations each). The bound is for members that turn out very unlike each other.

    Args:
        calibration: ``(n,)`` strangeness of good parts, each by the member that did not train on it.
        folds: ``(n,)`` whole numbers 0 to K-1, the member that each was judged by.
        strangeness: ``(m, K)`` of the parts in question, by every member.

    Returns:
        ``(m,)`` in ``[1/(n+1), 1]``, lower is stranger; NaN where any member's figure is NaN.

    Raises:
        CalibrationError: No calibration parts, some that are not finite, or folds that do not fit.

    Source: Vovk 2015, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74.

    Example:
        >>> cross_p_values([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], [[1.5, 9.0], [9.0, 9.0]]).tolist()
        [0.4, 0.2]
    """
    good = np.asarray(calibration, dtype=np.float64).ravel()
    _ordered(good)
    asked = np.asarray(strangeness, dtype=np.float64)
    member = np.asarray(folds).ravel()
    fits = asked.ndim == 2 and member.shape == good.shape and np.issubdtype(member.dtype, np.integer)
    if not fits or set(member.tolist()) != set(range(asked.shape[1])):
        raise CalibrationError(
            expected="a fold 0 to K-1 for each calibration part, and a row of K figures for each new one",
            found=f"{len(good)} parts, folds {sorted(set(member.tolist()))[:8]}, figures {asked.shape}",
            remedy="Judge new parts by the same members, in the order of the folds.",
        )
    at_least = np.zeros(len(asked))
    for k in range(asked.shape[1]):
        fold = np.sort(good[member == k])
        at_least += len(fold) - np.searchsorted(fold, asked[:, k], side="left")
    return np.where(np.isnan(asked).any(axis=1), np.nan, (1.0 + at_least) / (len(good) + 1.0))


def cross_bound(parts: int, folds: int, alpha: float) -> float:
    """Return what ``P(p <= alpha)`` of cross-conformal p-values cannot exceed, whatever the members.

    ``2 alpha + min(2 (K-1) / (n+K), (1 - K/n) / (K+1))``, and 1 at most. The first term holds for folds of
    any size: twice a weighted mean of p-values is one. The second needs folds of equal size, and makes the
    bound ``2 alpha`` when each part is its own fold.

    Args:
        parts: n.
        folds: K, from 2 to n.
        alpha: Nominal rate.

    Raises:
        CalibrationError: ``alpha`` is not between 0 and 1, or folds are fewer than 2 or more than the parts.

    Source: Barber, Candes, Ramdas, Tibshirani 2021, "Predictive inference with the jackknife+", Annals of
    Statistics 49, theorem 4; Vovk, Wang 2020, "Combining p-values via averaging", Biometrika 107.

    Example:
        >>> cross_bound(20, 20, 0.05), round(cross_bound(20, 5, 0.05), 3)
        (0.1, 0.225)
    """
    _check_rate(alpha)
    if not 2 <= folds <= parts:
        raise CalibrationError(
            expected="at least two folds, none of them empty",
            found=f"{folds} folds of {parts} parts",
            remedy="Four or five folds are usual; one per part where there are few.",
        )
    excess = 2 * (folds - 1) / (parts + folds)
    if parts % folds == 0:
        excess = min(excess, (1 - folds / parts) / (folds + 1))
    return min(1.0, 2 * alpha + excess)


def p_values_by_group(
    calibration: ArrayLike, groups: Sequence[str], strangeness: ArrayLike, asked_groups: Sequence[str]
) -> NDArray[np.float64]:
    """Return p-values that compare a part with calibration parts of its own group only.

    The rate then holds in each group (product, camera, cavity), not only over all of them: a product
    that is stranger than the others is not rejected for it, and one that is tamer does not hide its defects.
    The price is that a group of n parts cannot go below ``1/(n+1)``; `thresholds_by_group` refuses what it
    cannot keep.

    Args:
        calibration: ``(n,)`` strangeness of good parts that were not trained on.
        groups: ``n`` names.
        strangeness: ``(m,)`` of the parts in question.
        asked_groups: ``m`` names.

    Returns:
        ``(m,)``, lower is stranger; NaN where the strangeness is NaN.

    Raises:
        CalibrationError: A group without calibration parts, or names and figures of different number.

    Source: Vovk, Gammerman, Shafer 2005, "Algorithmic learning in a random world", section 4.5 (Mondrian
    conformal predictors).

    Example:
        >>> products = ["bolt", "bolt", "nut"]
        >>> p_values_by_group([1.0, 2.0, 7.0], products, [5.0, 5.0], ["bolt", "nut"]).round(2).tolist()
        [0.33, 1.0]
    """
    by_group = _by_group(calibration, groups)
    asked = np.asarray(strangeness, dtype=np.float64).ravel()
    names = np.asarray(list(asked_groups), dtype=object)
    if len(names) != len(asked):
        raise CalibrationError(
            expected="a group for each part in question",
            found=f"{len(names)} groups for {len(asked)} parts",
            remedy="Name the product of each part.",
        )
    unknown = Counter(name for name in names.tolist() if name not in by_group)
    if unknown:
        name, count = unknown.most_common(1)[0]
        raise CalibrationError(
            expected=f"parts of groups that were calibrated: {', '.join(sorted(by_group)[:8])}",
            found=f"{sum(unknown.values())} parts of {len(unknown)} other groups, {count} of {name!r}",
            remedy="Calibrate on good parts of that group, or leave its parts out.",
        )
    told = np.empty(len(asked))
    for group in set(names.tolist()):
        own = names == group
        told[own] = p_values(by_group[group], asked[own])
    return told


def thresholds_by_group(calibration: ArrayLike, groups: Sequence[str], alpha: float) -> dict[str, float]:
    """Return each group's `threshold`, so that ``P(p <= alpha) <= alpha`` in every one of them.

    Args:
        calibration: ``(n,)`` strangeness of good parts that were not trained on.
        groups: ``n`` names.
        alpha: False-alarm rate in each group.

    Raises:
        CalibrationError: A group has too few parts for ``alpha``; the smallest one is named.

    Example:
        >>> sorted(thresholds_by_group([1.0, 7.0], ["bolt", "nut"], 0.5))
        ['bolt', 'nut']
    """
    by_group = _by_group(calibration, groups)
    _check_rate(alpha)
    least = min(sorted(by_group), key=lambda name: len(by_group[name]))
    if _rank(len(by_group[least]), alpha) < 1:
        raise CalibrationError(
            expected=f"at least {_needed(alpha)} good parts of each group for a rate of {alpha:.3g}",
            found=f"{len(by_group[least])} of {least!r}",
            remedy="Calibrate on more parts of that group, or accept a larger rate.",
        )
    return {name: threshold(own, alpha) for name, own in by_group.items()}


def require_disjoint(trained_on: Iterable[str], calibrated_on: Iterable[str], what: str) -> None:
    """Refuse calibration parts that were trained on, or that come from the same lots.

    A model knows the parts it was trained on: they look more usual than fresh ones, and every
    promise made from them is broken. Parts of one lot are alike in the same way, only less.

    Args:
        trained_on: What identifies each training part, the sha256 of its file or its lot.
        calibrated_on: The same of each calibration part.
        what: Names what is compared, in the plural: ``pictures (sha256)`` or ``lots``.

    Raises:
        CalibrationError: Some are in both, or one has no identity, so that nothing can be said of it.

    Example:
        >>> require_disjoint(["lot 1", "lot 1"], ["lot 2"], "lots")
    """
    seen, asked = list(trained_on), list(calibrated_on)
    nameless = sum(not name for name in (*seen, *asked))
    if nameless:
        raise CalibrationError(
            expected=f"{what} that tell parts apart",
            found=f"{nameless} of {len(seen) + len(asked)} parts without one",
            remedy="Name them, or compare the sha256 of the files instead.",
        )
    shared = set(seen) & set(asked)
    if shared:
        parts = sum(name in shared for name in asked)
        raise CalibrationError(
            expected=f"{what} that are calibrated on and not trained on",
            found=f"{parts} of {len(asked)} calibration parts share {len(shared)} of them, "
            f"such as {min(shared)!r}",
            remedy="Calibrate on parts that the model has never seen.",
        )


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
        raise CalibrationError(
            expected=f"a false-alarm rate of at least 1/(n+1) = {smallest_alpha(n):.3g}",
            found=f"{alpha:.3g} with {n} calibration parts",
            remedy=f"Calibrate on at least {_needed(alpha)} good parts, or accept a larger rate.",
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
    # Takes half a second to import, and judging a picture needs no interval.
    from scipy import stats

    k = _rank(parts, alpha)
    if k < 1:
        return 0.0, 0.0
    tail = (1 - confidence) / 2
    law = stats.beta(k, parts + 1 - k)
    return float(law.ppf(tail)), float(law.ppf(1 - tail))


def _rank(parts: int, alpha: float) -> int:
    """Return the largest k with ``k / (n+1) <= alpha``, compared as p-values are: after rounding."""
    _check_rate(alpha)
    near = math.floor(alpha * (parts + 1))
    return max(k for k in (near - 1, near, near + 1) if k / (parts + 1.0) <= alpha)


def _needed(alpha: float) -> int:
    """Return the fewest calibration parts that can promise ``alpha``."""
    return math.ceil(min(1 / alpha, 1e18)) - 1


def _check_rate(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise CalibrationError(
            expected="a false-alarm rate above 0 and below 1",
            found=f"{alpha}",
            remedy="A rate of 0.01 is usual.",
        )


def _by_group(calibration: ArrayLike, groups: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    good = np.asarray(calibration, dtype=np.float64).ravel()
    _ordered(good)
    names = np.asarray(list(groups), dtype=object)
    if len(names) != len(good):
        raise CalibrationError(
            expected="a group for each calibration part",
            found=f"{len(names)} groups for {len(good)} parts",
            remedy="Name the product of each part.",
        )
    return {name: good[names == name] for name in dict.fromkeys(names.tolist())}


def _ordered(calibration: ArrayLike) -> NDArray[np.float64]:
    ordered = np.sort(np.asarray(calibration, dtype=np.float64).ravel())
    if len(ordered) == 0 or not np.isfinite(ordered).all():
        raise CalibrationError(
            expected="at least one calibration part, all of finite strangeness",
            found=f"{len(ordered)} parts, {int((~np.isfinite(ordered)).sum())} of them not finite",
            remedy="Look for unreadable or blank pictures among the good parts.",
        )
    return ordered
