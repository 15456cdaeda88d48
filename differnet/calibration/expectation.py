"""What a figure usually is for a good part of its kind.

A density finds some good parts less probable than others of the same product: coarse grain, bright
light, a long exposure leave more to chance than smooth and dark. Where that can be told from what kind
of part it is, evidence is judged against parts of the same kind, so that the unusual stands out and not
the merely varied. Arrays in, arrays out; usable without the rest of differnet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky, eigh
from scipy.linalg.lapack import dtrtri
from scipy.spatial.distance import cdist

from differnet.calibration.conformal import CalibrationError

Figures = NDArray[np.float64]

# Kinds are in standard deviations of good parts: from "nearly everything is alike" to "only the
# nearest neighbours are".
_LENGTHS = (1.0, 2.0, 4.0, 8.0)
# Of the variance that is not noise, for one of noise.
_SIGNALS = (0.1, 0.3, 1.0, 3.0)
# Gain in log-density a part, in its own standard errors, from which the kinds are believed. Sixteen kernels
# are tried, and at 2 the luckiest of them was adopted for a product whose kinds explain nothing.
_BELIEVED = 3.0
# Parts the expectation is learned from: its cost grows with their cube, and it is smooth.
_MOST_PARTS = 1500


class Kernel(NamedTuple):
    """How alike parts of like kind are.

    Attributes:
        length: Distance between kinds over which figures stay alike, standard deviations of a kind.
        signal: Variance explained by kinds, for one of noise; 0 where kinds explain nothing.
    """

    length: float
    signal: float


@dataclass(frozen=True)
class Expectation:
    """Gaussian process regression of a figure on the kind of part, or the mean where that is as good.

    ``expected(k) = mean + signal * R(k, K) (signal * R(K, K) + I)^{-1} (y - mean)`` with
    ``R(a, b) = exp(-|a - b|^2 / (2 length^2))``: far from every good part it returns to the mean, so that
    a strange part is never excused by extrapolation. Length and signal are those of the highest
    leave-one-out log-density, and are adopted where that density exceeds the one without kinds by three
    standard errors of the paired difference; no defect is needed to decide.

    Attributes:
        kinds: ``(n, k)`` of the good parts.
        weights: ``(n,)`` of the good parts' likeness.
        mean: Without regard to kind.
        spread: Standard deviation of a good part's leave-one-out residual.
        kernel: In force.
        held_out: ``(n,)`` leave-one-out residuals in units of ``spread``.

    Source: Rasmussen, Williams 2006, "Gaussian processes for machine learning", sections 2.2 and 5.4.2.
    """

    kinds: Figures
    weights: Figures
    mean: float
    spread: float
    kernel: Kernel
    held_out: Figures

    @classmethod
    def fit(
        cls,
        figures: ArrayLike,
        kinds: ArrayLike,
        kernel: Kernel | None = None,
        spectra: Spectra | None = None,
    ) -> Self:
        """Fit to good parts that were not trained on.

        Args:
            figures: ``(n,)``, n >= 2.
            kinds: ``(n, k)`` coordinates of what kind of part each is; k may be 0.
            kernel: Taken as given; ``None`` chooses.
            spectra: Of ``kinds``, where several figures of the same parts are asked for.

        Raises:
            CalibrationError: Fewer than two parts, figures that are not finite, or kinds of another number of
                parts.

        Example:
            >>> kinds = np.linspace(-2, 2, 50)[:, None]
            >>> usual = Expectation.fit(np.sin(kinds[:, 0]), kinds)
            >>> bool(abs(usual.expected([[1.0]])[0] - np.sin(1.0)) < 0.05)
            True
        """
        y, x = np.asarray(figures, dtype=np.float64).ravel(), np.asarray(kinds, dtype=np.float64)
        strange = int((~np.isfinite(y)).sum()), int((~np.isfinite(x)).sum())
        if len(y) < 2 or any(strange) or x.ndim != 2 or len(x) != len(y):
            raise CalibrationError(
                expected="finite figures of at least two good parts, and a row of kinds for each",
                found=f"{len(y)} figures, {strange[0]} of them not finite; kinds {x.shape}, {strange[1]} not",
                remedy="Look for unreadable or blank pictures among the good parts.",
            )
        mean = float(y.mean())
        learned = _evenly(len(y), _MOST_PARTS)
        if kernel is None:
            kernel = _choose(y[learned] - mean, spectra or Spectra(x), x.shape[1])
        left_out, weights = _leave_one_out(y[learned] - mean, x[learned], kernel)
        residuals, others = y - mean, np.setdiff1d(np.arange(len(y)), learned)
        residuals[learned] = left_out
        if len(others) and kernel.signal:
            residuals[others] -= kernel.signal * _likeness(x[others], x[learned], kernel.length) @ weights
        # Identical parts leave no residual: any difference is then strange, yet the scale stays finite.
        spread = max(float(np.sqrt(np.mean(residuals**2))), 1e-6 * max(1.0, abs(mean)))
        return cls(x[learned], weights, mean, spread, kernel, residuals / spread)

    def expected(self, kinds: ArrayLike) -> Figures:
        """Return the usual figure of good parts of these ``(m, k)`` kinds, ``(m,)``."""
        asked = np.asarray(kinds, dtype=np.float64)
        if not self.kernel.signal:
            return np.full(len(asked), self.mean)
        likeness = _likeness(asked, self.kinds, self.kernel.length)
        explained: Figures = self.kernel.signal * likeness @ self.weights
        return self.mean + explained

    def surplus(self, figures: ArrayLike, kinds: ArrayLike) -> Figures:
        """Return by how many standard deviations ``(m,)`` figures exceed what is usual for their kinds."""
        return (np.asarray(figures, dtype=np.float64) - self.expected(kinds)) / self.spread


class Spectra:
    """Eigenvalues and eigenvectors of how alike good parts are, for every length that is tried.

    With them each strength of the signal costs two products with a vector instead of an inverse, for every
    figure of the same parts.

    Args:
        kinds: ``(n, k)`` coordinates of what kind of part each is.
    """

    def __init__(self, kinds: ArrayLike) -> None:
        x = np.asarray(kinds, dtype=np.float64)
        self._kinds = x[_evenly(len(x), _MOST_PARTS)]

    @cached_property
    def of_lengths(self) -> dict[float, tuple[Figures, Figures]]:
        """Ascending eigenvalues ``(m,)`` and eigenvectors ``(m, m)`` by the length."""
        found = {length: eigh(_likeness(self._kinds, self._kinds, length)) for length in _LENGTHS}
        return {length: (np.maximum(values, 0.0), vectors) for length, (values, vectors) in found.items()}


def _choose(centred: Figures, spectra: Spectra, kinds: int) -> Kernel:
    """Return the best kernel, of signal 0 unless one is better beyond doubt."""
    plain = Kernel(1.0, 0.0)
    if len(centred) < 8 or not kinds or float(np.ptp(centred)) == 0.0:
        return plain
    without = _log_densities(centred * len(centred) / (len(centred) - 1))
    best, gain = plain, np.full(len(centred), -np.inf)
    for length, (values, vectors) in spectra.of_lengths.items():
        along, squares = vectors.T @ centred, vectors**2
        for signal in _SIGNALS:
            inverse = 1 / (signal * values + 1)
            # As in `_leave_one_out`, whose inverse these are the parts of.
            densities = _log_densities((vectors @ (inverse * along)) / (squares @ inverse))
            if float((densities - without).sum()) > float(gain.sum()):
                best, gain = Kernel(length, signal), densities - without
    doubt = float(gain.std(ddof=1)) / math.sqrt(len(gain))
    return best if float(gain.mean()) > _BELIEVED * doubt else plain


def _log_densities(residuals: Figures) -> Figures:
    variance = max(float(np.mean(residuals**2)), 1e-300)
    densities: Figures = -0.5 * (np.log(variance) + residuals**2 / variance)
    return densities


def _leave_one_out(centred: Figures, kinds: Figures, kernel: Kernel) -> tuple[Figures, Figures]:
    """Return every part's residual from the expectation of the others, and the weights of all.

    In closed form ``[C^{-1} y]_i / [C^{-1}]_ii`` (Rasmussen and Williams 2006, equation 5.12).
    """
    n = len(centred)
    if not kernel.signal:
        return centred * n / (n - 1), np.zeros(n)
    covariance = kernel.signal * _likeness(kinds, kinds, kernel.length)
    covariance[np.diag_indices(n)] += 1.0
    # Of the inverse only the diagonal is needed: squares of the inverted factor, summed.
    factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
    weights: Figures = cho_solve((factor, True), centred, check_finite=False)
    root, _ = dtrtri(factor, lower=1, overwrite_c=1)
    return weights / np.square(root).sum(0), weights


def _likeness(a: Figures, b: Figures, length: float) -> Figures:
    if not a.shape[1]:
        return np.ones((len(a), len(b)))
    return np.asarray(np.exp(-0.5 * cdist(a, b, "sqeuclidean") / length**2), dtype=np.float64)


def _evenly(n: int, most: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))
