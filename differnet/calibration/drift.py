"""Is a batch still what the model was calibrated on, and if not, what changed?

The stated false-alarm rate of a verdict holds for parts that are exchangeable with the calibration parts.
Here that is tested for a batch, at a false-alarm rate of its own; ``monitor.py`` watches a running line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from differnet.calibration.conformal import CalibrationError
from differnet.calibration.permutation import (
    DRAWS,
    Figures,
    exchanged,
    jointly,
    mean_scores,
    shape_distances,
    smallest_p_value,
    tables,
    two_sided,
    upper,
)

How = Literal["higher", "lower", "otherwise"]


@dataclass(frozen=True)
class Movement:
    """How one statistic of a batch compares with the calibration parts.

    Attributes:
        name: Of the statistic.
        how: ``higher`` or ``lower`` by its mean; ``otherwise`` where only its distribution differs.
        deviations: Mean of the batch less that of the calibration parts, in the latter's standard deviations;
            infinite where all calibration parts agree and the batch does not.
        spread: Standard deviation of the batch for one of the calibration parts; 0 for a batch of one part.
        p_value: That this statistic moved, allowing for the number of statistics; lower is surer.
    """

    name: str
    how: How
    deviations: float
    spread: float
    p_value: float


@dataclass(frozen=True)
class BatchDrift:
    """Whether a batch is still what the model was calibrated on.

    Attributes:
        p_value: Of the batch being exchangeable with the calibration parts, lower is less so.
        alpha: False-alarm rate asked for.
        alarm: ``p_value <= alpha``.
        statistics: Every statistic in the order given.
        moved: Those that moved, the surest first, at a chance of at most ``alpha`` that any did not. An alarm
            names at least one.
    """

    p_value: float
    alpha: float
    alarm: bool
    statistics: tuple[Movement, ...]
    moved: tuple[Movement, ...]


def batch_drift(
    calibration: ArrayLike,
    batch: ArrayLike,
    alpha: float = 0.01,
    names: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> BatchDrift:
    """Test whether a batch is exchangeable with the calibration parts, at a false-alarm rate of ``alpha``.

    Two questions of each statistic: is its mean usual (two-sided), and is its distribution (the two-sample
    Anderson-Darling distance)? The smallest of these 2k p-values is ranked among exchanged batches. A
    one-sample test of the batch's conformal p-values for uniformity would be wrong: they share their
    calibration parts and are not independent.

    What is tested is exchangeability. A batch whose parts resemble one another more than the calibration
    parts do, such as one lot of many, is rightly told apart.

    Args:
        calibration: ``(n, k)`` of good parts that were not trained on, n >= 2.
        batch: ``(M, k)``, the same statistics.
        alpha: False-alarm rate.
        names: Of the k statistics; ``statistic 1`` and so on where not given.
        draws: Exchanged batches.
        seed: Of the draws.

    Raises:
        CalibrationError: Tables that do not match or are not finite, names of another number, an alpha not
            between 0 and 1, or smaller than so many parts can promise.

    Source: Westfall, Young 1993, "Resampling-based multiple testing"; Pettitt 1976, "A two-sample
    Anderson-Darling rank statistic".

    Example:
        >>> good = np.random.default_rng(0).normal(size=(200, 2))
        >>> found = batch_drift(good, good[:20] + [0, 2], names=["nll", "brightness"])
        >>> found.alarm, [(moved.name, moved.how) for moved in found.moved]
        (True, [('brightness', 'higher')])
    """
    good, asked = tables(calibration, batch)
    known = _names(names, good.shape[1])
    _check_rate(alpha, smallest_p_value(len(good), len(asked), draws))
    figures = np.concatenate([good, asked])
    places = exchanged(len(good), len(asked), draws, seed)
    scores = mean_scores(figures, places)
    by_mean, sizes = two_sided(scores), np.abs(scores)
    if len(asked) > 1:
        distances = shape_distances(figures, places)
        together = jointly(np.hstack([by_mean, upper(distances)]), np.hstack([sizes, distances]))
        by_kind = together.reshape(2, -1)
    else:
        # The distribution of a single part is its place.
        by_kind = np.stack([jointly(by_mean, sizes), np.ones(len(known))])
    statistics = tuple(
        _movement(name, column, where, alpha)
        for name, column, where in zip(known, zip(good.T, asked.T, strict=True), by_kind.T, strict=True)
    )
    moved = sorted((each for each in statistics if each.p_value <= alpha), key=_surest)
    p_value = float(by_kind.min())
    return BatchDrift(p_value, alpha, p_value <= alpha, statistics, tuple(moved))


def what_drifted(
    names: Sequence[str],
    calibration: ArrayLike,
    batch: ArrayLike,
    alpha: float = 0.01,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[str, ...]:
    """Say in words what changed between the calibration parts and a batch, the surest first.

    Only what ``batch_drift`` finds to have moved is named: the chance that anything is named in vain is at
    most ``alpha``, all statistics together. That is Bonferroni's promise, kept exactly instead of generously.

    Args:
        names: Of the k statistics. Those of ``differnet.images.QualityFigures`` and ``nll`` have sentences of
            their own; any other is told by its name.
        calibration: ``(n, k)`` of good parts.
        batch: ``(M, k)``.
        alpha: Chance of naming anything in vain.
        draws: Exchanged batches.
        seed: Of the draws.

    Returns:
        At least one sentence; ``nothing in particular`` where nothing moved.

    Raises:
        CalibrationError: As ``batch_drift``.

    Example:
        >>> good = np.random.default_rng(0).normal(0.5, 0.01, size=(200, 1))
        >>> what_drifted(["brightness"], good, good[:20] - 0.03)
        ('the pictures are darker (brightness 3.3 calibration standard deviations below usual)',)
    """
    moved = batch_drift(calibration, batch, alpha, names, draws, seed).moved
    return tuple(movement_words(each) for each in moved) or ("nothing in particular",)


def _movement(name: str, column: tuple[Figures, Figures], by_kind: Figures, alpha: float) -> Movement:
    # As differences from one part, so that equal figures differ by 0 and not by rounding, and in units of the
    # largest, so that their squares stay finite.
    origin = column[0][0]
    largest = max(float(np.abs(figures / 2 - origin / 2).max()) for figures in column) or 1.0
    good, asked = ((figures / 2 - origin / 2) / largest for figures in column)
    gap, usual = float(asked.mean() - good.mean()), float(good.std(ddof=1))
    spread = float(asked.std(ddof=1)) if len(asked) > 1 else 0.0
    by_mean, by_shape = (float(p) for p in by_kind)
    how: How = "higher" if gap > 0 else "lower"
    # A shift of the mean is told as one even where the distribution shows it more surely.
    if by_shape < by_mean and by_mean > alpha:
        how = "otherwise"
    return Movement(name, how, _over(gap, usual), _over(spread, usual), min(by_mean, by_shape))


def _over(figure: float, usual: float) -> float:
    if usual:
        return figure / usual
    return math.copysign(math.inf, figure) if figure else 0.0


def _surest(moved: Movement) -> tuple[float, float]:
    return moved.p_value, -abs(moved.deviations)


# Higher, lower.
_SENTENCES = {
    "brightness": ("the pictures are brighter", "the pictures are darker"),
    "contrast": ("the pictures have more contrast", "the pictures have less contrast"),
    "sharpness": ("the pictures are sharper", "the pictures are more blurred"),
    "entropy": ("the pictures use more grey levels", "the pictures use fewer grey levels"),
    "colour_cast": ("the pictures have a stronger colour cast", "the pictures are more neutral in colour"),
    "black_share": ("more of the pictures is black", "less of the pictures is black"),
    "white_share": ("more of the pictures is over-exposed", "less of the pictures is over-exposed"),
    "nll": ("the parts are stranger to the model", "the parts are more usual to the model than good parts"),
    "strangeness": ("the parts are stranger", "the parts are more usual than good parts"),
    "strangeness of the whole": ("the parts as a whole are stranger", "the parts as a whole are plainer"),
    "strangeness of the patches": (
        "the strangest places are stranger",
        "the strangest places are more usual than those of good parts",
    ),
    "strangeness of the median cell": (
        "most of the picture is stranger",
        "most of the picture is plainer",
    ),
    "energy of the whole": ("the parts as a whole are stranger", "the parts as a whole are plainer"),
    "energy of the median cell": (
        "most of the picture is stranger",
        "most of the picture is plainer",
    ),
    "energy of the strangest patches": (
        "the strangest places are stranger",
        "the strangest places are plainer",
    ),
    "nll of the strangest patches": ("the strangest places are rougher", "the strangest places are smoother"),
}


def movement_words(moved: Movement) -> str:
    """Say in words how a statistic moved.

    Args:
        moved: One of ``BatchDrift.moved``.

    Example:
        >>> movement_words(Movement("sharpness", "lower", -2.5, 1.1, 0.001))
        'the pictures are more blurred (sharpness 2.5 calibration standard deviations below usual)'
    """
    if moved.how == "otherwise":
        return f"{moved.name} is distributed otherwise (it varies {moved.spread:.2g} times as much as usual)"
    higher, lower = _SENTENCES.get(moved.name, (f"{moved.name} is higher", f"{moved.name} is lower"))
    said, side = (higher, "above") if moved.how == "higher" else (lower, "below")
    if math.isinf(moved.deviations):
        return f"{said} ({moved.name} was the same in all calibration parts)"
    return f"{said} ({moved.name} {abs(moved.deviations):.1f} calibration standard deviations {side} usual)"


def detectable_shift(parts: int, batch: int, alpha: float, statistics: int = 1, power: float = 0.9) -> float:
    """Return how far a mean has to move so that `batch_drift` mostly notices, in standard deviations.

    ``(z_{1 - alpha / 4k} + z_power) sqrt(1 / n + 1 / M)`` by the normal approximation, of k statistics that
    are each asked for their mean, two-sided, and their distribution. No alarm shows no more than that
    nothing moved further.

    Args:
        parts: Calibration parts, n.
        batch: Parts of the batch, M.
        alpha: False-alarm rate.
        statistics: Statistics tested together, k.
        power: How often such a shift is noticed.

    Raises:
        CalibrationError: No parts, or a rate that is not between 0 and 1.

    Example:
        >>> round(detectable_shift(200, 50, 0.01), 2)
        0.65
    """
    _check_rate(alpha, 0.0)
    if min(parts, batch, statistics) < 1 or not 0 < power < 1:
        raise CalibrationError(
            expected="calibration parts, a batch, statistics, and a power between 0 and 1",
            found=f"{parts}, {batch}, {statistics} and {power}",
            remedy="Give a batch of at least one part.",
        )
    sure = float(ndtri(1 - alpha / (4 * statistics)) + ndtri(power))
    return sure * math.sqrt(1 / parts + 1 / batch)


def _names(names: Sequence[str] | None, statistics: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"statistic {number}" for number in range(1, statistics + 1))
    if isinstance(names, str) or len(names) != statistics or len(set(names)) != statistics:
        raise CalibrationError(
            expected=f"{statistics} different names, one a column of the tables",
            found=f"{names!r}",
            remedy="Name each statistic once, in the order of the columns.",
        )
    return tuple(names)


def _check_rate(alpha: float, least: float) -> None:
    if not 0 < alpha < 1:
        raise CalibrationError(
            expected="a false-alarm rate above 0 and below 1",
            found=f"{alpha}",
            remedy="A rate of 0.01 is usual.",
        )
    if alpha < least:
        raise CalibrationError(
            expected=f"a false-alarm rate of at least {least:.3g}, the smallest p-value of so many parts",
            found=f"{alpha:.3g}",
            remedy="Calibrate on more good parts, judge more parts at once, or accept a larger rate.",
        )
