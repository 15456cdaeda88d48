"""Is a batch typical of what was calibrated on, neither too strange nor too usual?

A picture of one flat grey is more probable under a density of good parts than any good part: it is not
strange, it is untypical. Typical parts have about the usual nll, and a test of typicality is two-sided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from differnet.calibration.combination import Rule, combine_p_values
from differnet.calibration.conformal import CalibrationError
from differnet.calibration.permutation import (
    DRAWS,
    batch_means,
    exchanged,
    jointly,
    mean_scores,
    tables,
    two_sided,
)


def typicality_p_values(
    calibration: ArrayLike, batches: ArrayLike, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Return the p-value of each batch's mean nll being as near to the entropy as a good batch's.

    The statistic is ``|mean nll of the batch - entropy|``, the entropy estimated by the mean nll of the other
    parts. It is compared with the same statistic of other batches of M out of calibration parts and batch
    together: ``p = (1 + #{at least as far}) / (draws + 1)``. A single part is compared with each
    calibration part by turns, ``p = (1 + #{at least as far}) / (n + 1)``, without drawing.

    Nalisnick et al. bootstrap from the calibration parts alone. That takes their mean for the entropy, and
    with 100 parts 7.5 % instead of 5 % of good batches of 25 are called untypical (``tests/validity``); by
    exchange it is 5 %.

    What it cannot see: a part whose nll is near the entropy by accident, however odd it is.
    ``several_statistics`` looks at more than one figure.

    Args:
        calibration: ``(n,)`` nll of good parts that were not trained on, n >= 2.
        batches: ``(b, M)`` nll, a row a batch; ``(b, 1)`` judges each part on its own.
        draws: Exchanged batches.
        seed: Of the draws.

    Returns:
        ``(b,)``, lower is less typical. For good batches ``P(p <= alpha) <= alpha``.

    Raises:
        CalibrationError: Fewer than two calibration parts, no batch, or figures that are not finite.

    Source: Nalisnick, Matsukawa, Teh, Lakshminarayanan 2019, "Detecting out-of-distribution inputs to deep
    generative models using typicality", section 4; Phipson, Smyth 2010 for the 1 in (1 + #).

    Example:
        >>> good = np.linspace(90, 110, 99)
        >>> typicality_p_values(good, [[100.0], [130.0], [60.0]]).round(2).tolist()
        [1.0, 0.01, 0.01]
    """
    asked = np.asarray(batches, dtype=np.float64)
    if asked.ndim != 2:
        raise CalibrationError(
            expected="a table of nll, a row a batch",
            found=f"shape {asked.shape}",
            remedy="Pass nll[:, None] to judge parts one by one, nll[None] to judge them as one batch.",
        )
    good, stacked = tables(np.asarray(calibration, dtype=np.float64).ravel()[:, None], asked.reshape(-1, 1))
    batch = asked.shape[1]
    places = exchanged(len(good), batch, draws, seed)
    p_values = np.empty(len(asked))
    for row, figures in enumerate(stacked.reshape(-1, batch)):
        nll = np.concatenate([good[:, 0], figures])
        # Only the order counts, and sums of huge figures stay finite.
        nll /= max(float(np.abs(nll).max()), 1e-300)
        # The mean of the other parts is further from the batch's than the mean of all by N / n, for every
        # exchanged batch alike.
        far = np.abs(batch_means(nll, places) - nll.mean())
        p_values[row] = np.mean(far >= far[0])
    return p_values


@dataclass(frozen=True)
class Typicality:
    """What several statistics say of a batch.

    Attributes:
        p_value: Of all statistics together, lower is less typical.
        by_statistic: ``(k,)`` two-sided p-values, each as if it were the only one.
        jointly: ``(k,)`` p-values that allow for all k: those at or below alpha are untypical, and with
            probability 1 - alpha none of them is named in vain. Only the rule ``calibrated`` tells them
            exactly; the others give ``k p``.
    """

    p_value: float
    by_statistic: NDArray[np.float64]
    jointly: NDArray[np.float64]


def several_statistics(
    calibration: ArrayLike,
    batch: ArrayLike,
    rule: Literal["calibrated"] | Rule = "calibrated",
    draws: int = DRAWS,
    seed: int = 0,
) -> Typicality:
    """Test a batch of parts by several statistics at once, such as nll, latent norm and log-determinant.

    Each statistic is judged two-sidedly, by the rank of the batch's mean among exchanged batches. The rule
    ``calibrated`` takes the smallest of these p-values as a statistic of its own and ranks it likewise: exact
    under any dependence between the statistics, where ``bonferroni`` pays for k of them although they may
    say the same. For a single part it is also the only one that few calibration parts can feed: at 1 % and
    with four statistics it takes 99 of them, ``bonferroni`` 799.

    Args:
        calibration: ``(n, k)`` of good parts that were not trained on, n >= 2.
        batch: ``(M, k)`` of the parts in question; M may be 1, and ranks are then counted without drawing.
        rule: ``calibrated``, or one of ``combine_p_values``.
        draws: Exchanged batches.
        seed: Of the draws.

    Raises:
        CalibrationError: Tables that do not match or are not finite.

    Source: Westfall, Young 1993, "Resampling-based multiple testing".

    Example:
        >>> good = np.random.default_rng(0).normal(size=(199, 2))
        >>> found = several_statistics(good, [[0.0, 5.0]])
        >>> found.p_value, found.jointly.round(3).tolist()
        (0.005, [0.995, 0.005])
    """
    good, asked = tables(calibration, batch)
    figures = np.concatenate([good, asked])
    scores = mean_scores(figures, exchanged(len(good), len(asked), draws, seed))
    p_values = two_sided(scores)
    if rule == "calibrated":
        together = jointly(p_values, np.abs(scores))
        return Typicality(float(together.min()), p_values[0], together)
    together = np.minimum(1.0, len(p_values[0]) * p_values[0])
    return Typicality(float(combine_p_values(p_values[0], rule)), p_values[0], together)
