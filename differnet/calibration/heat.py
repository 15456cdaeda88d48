"""How rarely a good part shows as much heat in one place. Arrays in, arrays out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from differnet.calibration.conformal import CalibrationError

# Quantiles of good cells that are kept, evenly spaced in -log10 of the share above them.
_LEVELS = 31
# The hottest of a thousand good cells, or the hottest ten where there are fewer, tell how the tail falls.
_TAIL_SHARE = 1e-3
_LEAST_TAIL = 10
_LN10 = float(np.log(10.0))


@dataclass(frozen=True)
class HeatScale:
    """``-log10`` of the share of good cells that are at least as hot: one unit for every map and picture.

    Interpolated between quantiles of good cells; beyond the hottest thousandth an exponential tail of their
    mean excess, so that what no good part has shown keeps its order.

    Attributes:
        quantiles: ``(31,)`` of good cells, ascending.
        top: ``-log10`` of the share of good cells above the last quantile.
        excess: Mean excess of those cells over it, above 0.
    """

    quantiles: NDArray[np.float64]
    top: float
    excess: float

    @classmethod
    def fit(cls, cells: ArrayLike) -> Self:
        """Fit to the cells of good parts that were not trained on, at least two.

        Raises:
            CalibrationError: Fewer than two cells, or some that are not finite.
        """
        ordered = np.sort(np.asarray(cells, dtype=np.float64).ravel())
        n = len(ordered)
        if n < 2 or not (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):
            raise CalibrationError(
                expected="heat of at least two cells of good parts, all finite",
                found=f"{n} cells, {int((~np.isfinite(ordered)).sum())} of them not finite",
                remedy="Look for unreadable or blank pictures among the good parts.",
            )
        tail = min(max(_LEAST_TAIL, round(_TAIL_SHARE * n)), n // 2)
        top = -float(np.log10(tail / n))
        quantiles = np.quantile(ordered, 1 - 10.0 ** -np.linspace(0, top, _LEVELS))
        excess = float(np.maximum(ordered[n - tail :] - quantiles[-1], 0).mean())
        # Cells that are all alike leave no excess: any difference is then hot, yet the scale stays finite.
        least = max(1e-6 * float(np.ptp(ordered)), 1e-9 * max(abs(float(ordered[-1])), 1.0))
        return cls(quantiles, top, max(excess, least))

    def surprise(self, cells: ArrayLike) -> NDArray[np.float32]:
        """Return ``-log10`` of the share of good cells at least as hot, of any shape; NaN stays NaN.

        Example:
            >>> scale = HeatScale.fit(np.arange(100_000))
            >>> scale.surprise([-5, 90_000, 99_000]).round(2).tolist()
            [0.0, 1.0, 2.0]
        """
        asked = np.asarray(cells, dtype=np.float64)
        below = np.interp(asked, self.quantiles, np.linspace(0, self.top, _LEVELS))
        beyond = np.maximum(asked - self.quantiles[-1], 0) / (self.excess * _LN10)
        return np.asarray(below + beyond, dtype=np.float32)

    def value(self, share: float) -> float:
        """Return the heat that this share of good cells exceed; the other way round from `surprise`.

        Raises:
            CalibrationError: Not ``0 < share <= 1``.

        Example:
            >>> round(HeatScale.fit(np.arange(100_000)).value(0.01) / 1000)
            99
        """
        if not 0 < share <= 1:
            raise CalibrationError(
                expected="a share of good cells above 0, at most 1",
                found=str(share),
                remedy="Ask for one in a hundred with 0.01.",
            )
        level = -math.log10(share)
        below = float(np.interp(level, np.linspace(0, self.top, _LEVELS), self.quantiles))
        return below + max(0.0, level - self.top) * self.excess * _LN10

    @property
    def row(self) -> NDArray[np.float64]:
        """The scale as ``(33,)`` numbers, for a file."""
        return np.array([*self.quantiles, self.top, self.excess])

    @classmethod
    def from_row(cls, row: ArrayLike) -> Self:
        """Rebuild a scale from its `row`.

        Raises:
            CalibrationError: These numbers are no scale.
        """
        numbers = np.asarray(row, dtype=np.float64)
        sound = numbers.shape == (HEAT_NUMBERS,) and bool(np.isfinite(numbers).all())
        if not sound or (np.diff(numbers[:_LEVELS]) < 0).any() or not (numbers[_LEVELS:] > 0).all():
            raise CalibrationError(
                expected=f"{_LEVELS} ascending quantiles, and a level and an excess above 0",
                found=f"{numbers.size} numbers: {numbers.tolist()}",
                remedy="Calibrate the model anew.",
            )
        return cls(numbers[:_LEVELS], float(numbers[-2]), float(numbers[-1]))


# Numbers in a scale's row.
HEAT_NUMBERS = _LEVELS + 2
