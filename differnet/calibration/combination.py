"""Put several kinds of evidence together: how much does each say, and how much do they say together?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr


def surprise(surplus: ArrayLike) -> NDArray[np.float64]:
    """Return ``-log10 P(Z >= surplus)`` of a standard normal Z; NaN stays NaN.

    Evidence is the logarithm of a squared latent norm, which is close to normal for good parts. Where
    it is not, the figure is a smooth, increasing scale of strangeness all the same: what is promised rests on
    conformal p-values of whatever is computed from it.

    Example:
        >>> surprise([0.0, 3.0]).round(2).tolist()
        [0.3, 2.87]
    """
    return np.asarray(-log_ndtr(-np.asarray(surplus, dtype=np.float64)) / np.log(10.0))


def together(surprises: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Add the surprises of several kinds of evidence of the same parts, each ``(n,)``.

    Fisher's statistic. It ranks like the strongest evidence where one stands out, and lets two that agree say
    more than either; the shares of the sum tell which evidence it was. Kinds of evidence of one part are not
    independent, so the sum has no distribution that could be looked up: it is calibrated on good parts.

    Source: Fisher 1932, "Statistical methods for research workers", section 21.1.

    Example:
        >>> together([[0.1, 2.0], [0.2, 0.3]]).round(1).tolist()
        [0.3, 2.3]
    """
    return np.asarray(np.sum([np.asarray(s, dtype=np.float64) for s in surprises], axis=0))
