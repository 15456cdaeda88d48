"""Put evidence of different kinds on one scale: how rarely a good part shows as much."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from differnet.calibration.conformal import CalibrationError

# The upper quarter of the good parts tells how fast the tail falls. Less would leave too few parts
# (44 good parts leave 11), more would let the bulk's shape decide.
_TAIL_SHARE = 0.25
# Scales that good parts are judged by. One for each part gives the same rates and takes n^2 log n.
_MOST_FOLDS = 20


@dataclass(frozen=True)
class TailScale:
    """``-log10`` of a smoothed probability that a good part's figure is at least this large.

    Up to the 75th percentile of the good parts, their empirical distribution, interpolated; beyond it an
    exponential tail with the mean excess of those parts. The exponential law is the least
    presumptuous one of a given mean (maximum entropy), and unlike the empirical distribution it
    keeps ranking parts that are stranger than every good one. The probability is smoothed, not
    promised: promises come from conformal p-values of whatever is computed from this scale.

    Attributes:
        body: The good parts' figures, ascending.
        start: Where the tail begins, in the figure's unit.
        excess: Mean excess over ``start`` of the good parts beyond it.
    """

    body: NDArray[np.float64]
    start: float
    excess: float

    @classmethod
    def fit(cls, figures: ArrayLike) -> Self:
        """Fit to ``(n,)`` figures of good parts that were not trained on, n >= 2.

        Raises:
            CalibrationError: Fewer than two figures, or some that are not finite.
        """
        ordered = np.sort(np.asarray(figures, dtype=np.float64).ravel())
        if len(ordered) < 2 or not np.isfinite(ordered).all():
            raise CalibrationError(
                expected="figures of at least two good parts, all finite",
                found=f"{len(ordered)} figures, {int((~np.isfinite(ordered)).sum())} of them not finite",
                remedy="Look for unreadable or blank pictures among the good parts.",
            )
        start = float(np.quantile(ordered, 1 - _TAIL_SHARE))
        beyond = ordered[ordered > start] - start
        spread = float(np.ptp(ordered))
        # Identical good parts leave no excess to learn from: any difference is then strange, yet
        # the scale stays finite.
        least = max(1e-6 * spread, 1e-9 * max(abs(start), 1.0))
        excess = max(float(beyond.mean()), least) if len(beyond) else least
        return cls(ordered, start, excess)

    def strangeness(self, figures: ArrayLike) -> NDArray[np.float64]:
        """Return ``-log10`` of the smoothed tail probability of each figure; NaN stays NaN.

        Example:
            >>> scale = TailScale.fit(range(101))
            >>> [round(float(s), 2) for s in scale.strangeness([0, 50, 75, 150])]
            [0.0, 0.3, 0.6, 3.11]
        """
        asked = np.asarray(figures, dtype=np.float64)
        # Interpolated between good parts: of two parts that fall between the same two the stranger stays so.
        places, ranks = self._knots
        below = np.interp(asked, places, ranks)
        # The body ends exactly where the tail begins, so that the scale has no step there.
        share = np.minimum((1 - _TAIL_SHARE) * below / max(float(ranks[-1]), 1.0), 1 - _TAIL_SHARE)
        body = 0.0 - np.log10(1 - share)
        tail = -np.log10(_TAIL_SHARE) + np.maximum(asked - self.start, 0) / (self.excess * np.log(10))
        strangeness = np.where(asked > self.start, tail, body)
        return np.where(np.isnan(asked), np.nan, strangeness)

    @cached_property
    def _knots(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Figures below the tail, and how many good parts lie below each; last, where it begins."""
        below = int(np.searchsorted(self.body, self.start, side="left"))
        places, ranks = np.unique(self.body[:below], return_index=True)
        return np.append(places, self.start), np.append(ranks, below).astype(np.float64)


def held_out_strangeness(figures: ArrayLike) -> NDArray[np.float64]:
    """Return each good part's strangeness on a scale fitted to other good parts.

    A scale makes the very parts it was fitted to look usual. Where several evidences are combined, each on
    its own scale, conformal p-values among such parts come out too small: with 20 parts and two
    evidences, 7.6 % of fresh good parts got the p-value 1/21 = 4.8 % (400 simulated calibrations). Held
    out, 3.1 % get it.

    Args:
        figures: ``(n,)`` of good parts that were not trained on, n >= 3.

    Returns:
        ``(n,)`` in the order of ``figures``.

    Raises:
        CalibrationError: Fewer than three figures, or some that are not finite.

    Example:
        >>> bool(held_out_strangeness(range(101)).max() > TailScale.fit(range(101)).strangeness(100))
        True
    """
    good = np.asarray(figures, dtype=np.float64).ravel()
    if len(good) < 3:
        raise CalibrationError(
            expected="at least three good parts",
            found=f"{len(good)}",
            remedy="Calibrate on more; each is judged by the others.",
        )
    fold = np.arange(len(good)) % _MOST_FOLDS
    strangeness = np.empty(len(good))
    for held in range(min(len(good), _MOST_FOLDS)):
        strangeness[fold == held] = TailScale.fit(good[fold != held]).strangeness(good[fold == held])
    return strangeness
