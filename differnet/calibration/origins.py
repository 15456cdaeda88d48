"""Is a strange picture a broken part, or no picture of such a part at all? Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from differnet.calibration.conformal import CalibrationError

Figures = NDArray[np.float64]

# Median absolute deviation of a normal law, in standard deviations.
_MAD = 1.4826
# Inverse of the ridge penalty: simulated pictures say roughly which way, not more.
_TRUST = 0.1
# Share of the simulated defects that may be stranger than "nearly all".
_LOST = 0.01
# A boundary from fewer pictures of a kind is a guess.
_LEAST_PICTURES = 10


@dataclass(frozen=True)
class GoodFigures:
    """Where good parts lie in each of several figures, and how widely.

    Attributes:
        centre: ``(k,)`` medians.
        spread: ``(k,)`` above 0.
    """

    centre: Figures
    spread: Figures

    @classmethod
    def fit(cls, figures: ArrayLike) -> Self:
        """Fit to ``(n, k)`` figures of good parts that were not trained on.

        Raises:
            CalibrationError: Fewer than two parts, or figures that are not finite.
        """
        good = _table(figures, "figures of at least two good parts", 2)
        centre = np.median(good, axis=0)
        # Robust, but never far below the standard deviation: of few parts the median deviation may be 0.
        spread = np.maximum(_MAD * np.median(np.abs(good - centre), axis=0), 0.2 * good.std(axis=0))
        least = 1e-6 * np.maximum(1.0, np.abs(centre))
        return cls(centre, np.maximum(spread, least))

    def distances(self, figures: ArrayLike) -> Figures:
        """Return ``asinh((x - centre) / spread)``, ``(m, k)``: near good parts spreads, far out logarithms.

        Example:
            >>> good = GoodFigures(np.zeros(1), np.ones(1))
            >>> good.distances([[0.0], [1.0], [1e6]]).round(1).tolist()
            [[0.0], [0.9], [14.5]]
        """
        return np.arcsinh((np.asarray(figures, dtype=np.float64) - self.centre) / self.spread)


@dataclass(frozen=True)
class OriginRule:
    """Linear boundary between defects and wrong inputs, learned from good parts spoilt either way.

    A defect changes a place of the part, a wrong input most of the picture: logistic regression finds the
    direction that tells them apart. Where nearly all of either kind are apart, the boundary stands in the
    middle between them. Where they overlap it stands at the wrong inputs, nearly all of which are still
    beyond it: real defects are larger and stranger than simulated ones now and then.

    Attributes:
        weights: ``(k,)`` of the distances from good parts.
        limit: From which weighted sum on a picture counts as a wrong input.

    Source: Hastie, Tibshirani, Friedman 2009, "The elements of statistical learning", section 4.4.
    """

    weights: Figures
    limit: float

    @classmethod
    def fit(cls, defects: ArrayLike, wrong: ArrayLike, missed: float = 0.05) -> Self:
        """Fit to distances of simulated pictures.

        Args:
            defects: ``(n, k)`` of defects.
            wrong: ``(m, k)`` of wrong inputs.
            missed: Share of the wrong inputs that may count as defects, at most.

        Raises:
            CalibrationError: Fewer than ten pictures of a kind, of different width, or not finite.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> rule = OriginRule.fit(rng.normal(0, 1, (200, 2)), rng.normal(6, 1, (200, 2)))
            >>> (rule.wrongness([[0.0, 0.0], [6.0, 6.0]]) >= 0).tolist()
            [False, True]
        """
        broken = _table(
            defects, f"distances of at least {_LEAST_PICTURES} simulated defects", _LEAST_PICTURES
        )
        other = _table(wrong, f"distances of at least {_LEAST_PICTURES} wrong inputs", _LEAST_PICTURES)
        if broken.shape[1] != other.shape[1]:
            raise CalibrationError(
                expected="as many figures of defects as of wrong inputs",
                found=f"{broken.shape[1]} and {other.shape[1]}",
                remedy="Measure the same figures of both.",
            )
        # Takes a second to import, and judging by a rule needs none of it.
        from sklearn.linear_model import LogisticRegression

        rows = np.concatenate([broken, other])
        labels = np.repeat([0, 1], [len(broken), len(other)])
        unit = np.maximum(rows.std(axis=0), 1e-9)
        # Weighted, so that how many of a kind were simulated decides nothing.
        model = LogisticRegression(C=_TRUST, class_weight="balanced", max_iter=2000)
        model.fit(rows / unit, labels)
        weights = np.asarray(model.coef_[0], dtype=np.float64) / unit
        lowest = float(np.quantile(other @ weights, missed))
        highest = float(np.quantile(broken @ weights, 1 - _LOST))
        return cls(weights, (highest + lowest) / 2 if highest < lowest else lowest)

    def wrongness(self, distances: ArrayLike) -> Figures:
        """Return by how much ``(m,)`` pictures are beyond the boundary; at 0 and above, wrong inputs.

        Args:
            distances: ``(m, k)`` from `GoodFigures.distances`.
        """
        return np.asarray(np.asarray(distances, dtype=np.float64) @ self.weights - self.limit)

    @property
    def row(self) -> Figures:
        """The rule as ``(k + 1,)`` numbers, for a file."""
        return np.array([*self.weights, self.limit])

    @classmethod
    def from_row(cls, row: ArrayLike) -> Self:
        """Rebuild a rule from its `row`.

        Raises:
            CalibrationError: Fewer than two numbers, or some that are not finite.
        """
        numbers = np.asarray(row, dtype=np.float64)
        if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
            raise CalibrationError(
                expected="finite weights and a limit",
                found=f"shape {numbers.shape}",
                remedy="Calibrate the model anew.",
            )
        return cls(numbers[:-1], float(numbers[-1]))


def _table(figures: ArrayLike, expected: str, least: int) -> Figures:
    table = np.asarray(figures, dtype=np.float64)
    if table.ndim != 2 or len(table) < least or not np.isfinite(table).all():
        raise CalibrationError(
            expected=f"{expected}, all finite",
            found=f"shape {table.shape}, {int((~np.isfinite(table)).sum())} not finite",
            remedy="Look for unreadable or blank pictures among the good parts.",
        )
    return table
