"""Put parts among the calibration parts by their p-values alone, where those parts are not at hand.

A record keeps a conformal p-value of each part, and that says how many calibration parts are at least as
strange. Tests that look at ranks need no more: whether a batch has drifted, and a monitor's capital, are
the same for the calibration parts themselves and for figures that stand in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from differnet.calibration.conformal import CalibrationError
from differnet.calibration.drift import BatchDrift, batch_drift
from differnet.calibration.permutation import DRAWS

Figures = NDArray[np.float64]


def placed(p_values: ArrayLike, parts: int, order: ArrayLike | None = None) -> tuple[Figures, Figures]:
    """Return figures of calibration parts and of further parts that stand in the order of their p-values.

    ``(n + 1) p - 1`` calibration parts are at least as strange as a part. The figures are normal scores of
    places: those of the calibration parts are ``Phi^{-1}((i - 1/2) / n)``, so that differences read as
    standard deviations of a good part on a scale on which good parts are normal.

    Args:
        p_values: ``(m,)`` from `p_values` against ``parts`` calibration parts.
        parts: Calibration parts, n.
        order: ``(m,)`` what sorts parts of one p-value, such as their strangeness; not given, they tie.

    Returns:
        ``(n,)`` of the calibration parts, ascending, and ``(m,)`` of the parts; higher is stranger.

    Raises:
        CalibrationError: No calibration parts, or p-values that so many parts cannot give.

    Example:
        >>> from differnet.calibration import p_values
        >>> good, line = [1.0, 2.0, 3.0, 4.0], [0.5, 3.5, 9.0]
        >>> calibration, batch = placed(p_values(good, line), 4)
        >>> p_values(calibration, batch).tolist() == p_values(good, line).tolist()
        True
    """
    given = np.asarray(p_values, dtype=np.float64).ravel()
    above = given * (parts + 1) - 1
    whole = np.rint(above)
    # A p-value is kept as a float: its product is whole but for rounding.
    fits = parts >= 1 and bool((np.isfinite(given) & (np.abs(above - whole) < 1e-6)).all())
    if not fits or bool(((whole < 0) | (whole > parts)).any()):
        raise CalibrationError(
            expected=f"p-values that are whole multiples of 1/{parts + 1}, as {parts} calibration parts give",
            found=f"{len(given)} p-values, some of them others",
            remedy="Name the calibration that the parts were judged by.",
        )
    # Parts of one p-value stand between the same two calibration parts, here by their own order.
    within = np.full(len(given), 0.5)
    if order is not None:
        sorted_by = np.lexsort((np.asarray(order, dtype=np.float64), -whole))
        gaps = whole[sorted_by]
        first = np.searchsorted(-gaps, -gaps, side="left")
        number = np.searchsorted(-gaps, -gaps, side="right") - first
        within[sorted_by] = (np.arange(len(given)) - first + 1) / (number + 1)
    usual = (np.arange(parts) + 0.5) / parts
    # The gap below the i-th calibration part reaches from its neighbour's place to its own.
    edges = np.concatenate([[0.0], usual, [1.0]])
    gap = (parts - whole).astype(int)
    share = edges[gap] + within * (edges[gap + 1] - edges[gap])
    return ndtri(usual), ndtri(share)


def drift_of_p_values(
    p_values: Mapping[str, ArrayLike], parts: int, alpha: float = 0.01, draws: int = DRAWS, seed: int = 0
) -> BatchDrift:
    """Test whether a batch is exchangeable with the calibration parts, by its p-values alone.

    Each kind of p-value is tested by `batch_drift` on its own, since what they have in common among the
    calibration parts is not known here, and the smallest counts for all of them (Bonferroni): the false-alarm
    rate is at most ``alpha``, and somewhat less where the kinds say the same.

    Args:
        p_values: Name to ``(m,)`` p-values of the batch, the same parts in each.
        parts: Calibration parts.
        alpha: False-alarm rate.
        draws: Exchanged batches.
        seed: Of the draws.

    Returns:
        As `batch_drift`; deviations are those of `placed`.

    Raises:
        CalibrationError: No p-values, p-values that so many parts cannot give, or an alpha that so few parts
            cannot promise.

    Example:
        >>> from differnet.calibration import p_values
        >>> rng = np.random.default_rng(0)
        >>> good, stranger = rng.normal(size=200), rng.normal(1.0, 1.0, size=40)
        >>> found = drift_of_p_values({"strangeness": p_values(good, stranger)}, 200)
        >>> found.alarm, found.moved[0].how
        (True, 'higher')
    """
    kinds = len(p_values)
    if not kinds:
        raise CalibrationError(
            expected="p-values of a batch", found="none", remedy="Calibrate the model on good parts."
        )
    found = []
    for name, given in p_values.items():
        # Which part of a gap comes first is all one: together they take the same ranks.
        good, batch = placed(given, parts, np.arange(np.size(given)))
        test = batch_drift(good[:, None], batch[:, None], alpha / kinds, [name], draws, seed)
        moved = test.statistics[0]
        found.append(replace(moved, p_value=min(1.0, kinds * moved.p_value)))
    p_value = min(each.p_value for each in found)
    surest = sorted((each for each in found if each.p_value <= alpha), key=lambda each: each.p_value)
    return BatchDrift(p_value, alpha, p_value <= alpha, tuple(found), tuple(surest))
