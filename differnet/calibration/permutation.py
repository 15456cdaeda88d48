"""Is a batch like the calibration parts? Let parts change places and see whether it matters.

If the batch is exchangeable with the calibration parts, any other parts of the two together could as well
have been the batch. The batch's rank among such exchanged batches is therefore a p-value that is exact,
whatever the figures' distribution and however they depend on one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from differnet.calibration.conformal import CalibrationError

Figures = NDArray[np.float64]
Places = NDArray[np.int32]

# Exchanged batches. At a rate of 1 % the alarm rests on 20 of them: drawing others changes a p-value of 0.01
# by 0.002 (one standard error), and 2,000 take 50 ms.
DRAWS = 1_999
# Numbers held at a time: 32 MB of float64.
_CHUNK = 2**22


def exchanged(calibration: int, batch: int, draws: int, seed: int) -> Places:
    """Return who could have been the batch: places among the calibration parts followed by the batch.

    Args:
        calibration: Calibration parts, n.
        batch: Parts of the batch, M.
        draws: Exchanged batches to draw. A batch of one part needs none: all n + 1 are tried.
        seed: Of the draws.

    Returns:
        ``(draws + 1, M)``, or ``(n + 1, 1)``; the batch itself comes first.

    Example:
        >>> exchanged(3, 1, 99, seed=0).ravel().tolist()
        [3, 0, 1, 2]
    """
    parts = calibration + batch
    itself = np.arange(calibration, parts, dtype=np.int32)[None]
    if batch == 1:
        return np.concatenate([itself, np.arange(calibration, dtype=np.int32)[:, None]])
    rng = np.random.default_rng(seed)
    drawn, rows = [itself], max(1, _CHUNK // parts)
    for first in range(0, draws, rows):
        everybody = np.tile(np.arange(parts, dtype=np.int32), (min(rows, draws - first), 1))
        drawn.append(rng.permuted(everybody, axis=1)[:, :batch])
    return np.concatenate(drawn)


def smallest_p_value(calibration: int, batch: int, draws: int) -> float:
    """Return the smallest p-value that so many parts and exchanged batches can give.

    Example:
        >>> smallest_p_value(99, 1, 1_999), smallest_p_value(99, 25, 1_999)
        (0.01, 0.0005)
    """
    # With few parts the batch itself is drawn again and again, so that no more draws make up for them.
    return 1.0 / (calibration + 1 if batch == 1 else min(draws + 1, math.comb(calibration + batch, batch)))


def mean_scores(figures: Figures, places: Places) -> Figures:
    """Return how far each exchanged batch's mean lies above that of all, in its own standard deviations.

    Of several parts the normal scores of their ranks are averaged, ``Phi^{-1}((rank - 1/2) / N)``, so that
    a few wild figures decide nothing; ties share their rank. Of a single part the figure itself is taken,
    which still tells two strangest parts apart.

    Args:
        figures: ``(N, k)`` of calibration parts and batch.
        places: ``(rows, M)``.

    Returns:
        ``(rows, k)``; 0 where a column is constant.

    Source: van der Waerden 1952, "Order tests for the two-sample problem and their power".
    """
    several = places.shape[1] > 1
    scores = ndtri((rankdata(figures, axis=0) - 0.5) / len(figures)) if several else figures
    columns = [batch_means(column, places) for column in scores.T]
    return standardised(np.stack(columns, axis=1))


def batch_means(figures: Figures, places: Places) -> Figures:
    """Return the mean of each exchanged batch, ``(rows,)``, of ``(N,)`` figures."""
    return by_chunk(lambda at: np.asarray(figures[at].mean(axis=1)), places)


def shape_distances(figures: Figures, places: Places) -> Figures:
    """Return how far each exchanged batch's distribution is from that of all parts, in standard deviations.

    The two-sample Anderson-Darling distance,
    ``A^2 = 1 / (M n) sum_i (N M_i - M i)^2 / (i (N - i))``, ``M_i`` of the batch among the i smallest of all
    N, with ties counted at their end. It sees what a mean does not: a batch that varies more or less.

    Args:
        figures: ``(N, k)`` of calibration parts and batch.
        places: ``(rows, M)``.

    Returns:
        ``(rows, k)``, higher is further.

    Source: Pettitt 1976, "A two-sample Anderson-Darling rank statistic".
    """
    parts, batch = len(figures), places.shape[1]
    i = np.arange(1, parts)
    odd = 2.0 * np.arange(1, batch + 1) - 1

    def distances(column: Figures) -> Figures:
        order = np.argsort(column, kind="stable")
        last_of_equals = np.diff(column[order]) > 0
        # M_i steps up by one at each of the batch's ranks, so sums over i become sums over the batch:
        # sum_i M_i^2 h_i = sum_k (2k - 1) H(rank_k), where H(r) sums h from r on. Constants are left out.
        squared = _from_each_on(last_of_equals * parts**2 / (i * (parts - i)))
        crossed = _from_each_on(last_of_equals * parts * batch / (parts - i))
        rank = np.empty(parts, dtype=np.int32)
        rank[order] = np.arange(parts, dtype=np.int32)

        def distance(at: Places) -> Figures:
            ranks = np.sort(rank[at], axis=1)
            return np.asarray((odd * squared[ranks] - 2 * crossed[ranks]).sum(axis=1))

        return by_chunk(distance, places)

    return standardised(np.stack([distances(column) for column in figures.T], axis=1))


def standardised(figures: Figures) -> Figures:
    """Return each column less its mean, in its standard deviations; a constant column becomes 0.

    Example:
        >>> standardised(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])).round(2).tolist()
        [[-1.22, 0.0], [0.0, 0.0], [1.22, 0.0]]
    """
    # Divided by the largest first, so that squares of huge figures stay finite.
    scaled = figures / np.maximum(np.abs(figures).max(axis=0), 1e-300)
    spread = scaled.std(axis=0)
    # Rounding alone makes a constant column vary by 1e-16.
    varies = spread > 1e-12
    return np.asarray(np.where(varies, (scaled - scaled.mean(axis=0)) / np.where(varies, spread, 1.0), 0.0))


def upper(figures: Figures) -> Figures:
    """Return each row's p-value by column among all rows, ``#{rows at least as high} / rows``.

    Example:
        >>> upper(np.array([[5.0], [1.0], [1.0], [7.0]])).ravel().tolist()
        [0.5, 1.0, 1.0, 0.25]
    """
    return np.asarray(rankdata(-figures, method="max", axis=0) / len(figures))


def two_sided(figures: Figures) -> Figures:
    """Return each row's p-value by column, twice the smaller of those on either side, at most 1.

    Example:
        >>> two_sided(np.array([[5.0], [1.0], [2.0], [7.0]])).ravel().tolist()
        [1.0, 0.5, 1.0, 0.5]
    """
    return np.asarray(np.minimum(1.0, 2 * np.minimum(upper(figures), upper(-figures))))


def jointly(p_values: Figures, sizes: Figures) -> Figures:
    """Return the p-value of the first row's columns among what any column shows in any row.

    ``#{rows whose smallest p-value is at most p_j} / rows``: the smallest of several p-values is a statistic
    like any other, and its rank among rows that could as well have been the first is a p-value under
    whatever dependence. The smallest of those returned is the p-value of all columns together; those at or
    below alpha are the columns that moved, with a chance of at most alpha that any of them did not. Where
    p-values tie, as they do at the far end of few rows, the larger size is the stranger.

    Args:
        p_values: ``(rows, columns)``.
        sizes: ``(rows, columns)``, comparable between columns.

    Returns:
        ``(columns,)``.

    Source: Westfall, Young 1993, "Resampling-based multiple testing", section 2.3 (single-step minP).

    Example:
        >>> jointly(np.array([[0.25, 1.0], [0.25, 0.5], [0.5, 0.25], [1.0, 0.5]]), np.ones((4, 2))).tolist()
        [0.75, 1.0]
    """
    best = p_values.min(axis=1)
    size = np.where(p_values == best[:, None], sizes, -np.inf).max(axis=1)
    stranger = best[:, None] < p_values[0]
    tied = (best[:, None] == p_values[0]) & (size[:, None] >= sizes[0])
    return np.asarray((stranger | tied).mean(axis=0))


def by_chunk(measure: Callable[[Places], Figures], places: Places) -> Figures:
    """Apply ``measure`` to a few rows at a time, so that large batches fit memory."""
    pieces = math.ceil(places.size / _CHUNK)
    return np.concatenate([measure(some) for some in np.array_split(places, pieces)])


def tables(calibration: ArrayLike, batch: ArrayLike) -> tuple[Figures, Figures]:
    """Return both as finite tables of the same columns.

    Raises:
        CalibrationError: Fewer than two calibration parts, no part in the batch, figures that are not finite,
            or tables of different statistics.
    """
    good, asked = (np.asarray(table, dtype=np.float64) for table in (calibration, batch))
    if good.ndim != 2 or asked.ndim != 2 or good.shape[1] != asked.shape[1] or not good.shape[1]:
        raise CalibrationError(
            expected="two tables, a row a part, with the same statistics as columns",
            found=f"shapes {good.shape} and {asked.shape}",
            remedy="Measure the batch as the calibration parts were measured.",
        )
    strange = sum(int((~np.isfinite(table)).sum()) for table in (good, asked))
    if len(good) < 2 or not len(asked) or strange:
        raise CalibrationError(
            expected="at least two calibration parts and one part to judge, all with finite figures",
            found=f"{len(good)} and {len(asked)} parts, {strange} figures not finite",
            remedy="Look for unreadable or blank pictures; they are INVALID and belong to no test.",
        )
    return good, asked


def _from_each_on(terms: Figures) -> Figures:
    """Return the sum of terms from each on, and 0 beyond the last."""
    return np.append(np.cumsum(terms[::-1])[::-1], 0.0)
