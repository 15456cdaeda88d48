"""Put several kinds of evidence together: how much does each say, and how much do they say together?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from differnet.calibration.conformal import CalibrationError

Rule = Literal["bonferroni", "mean", "cauchy"]

# A p-value above it says no more than that nothing was seen.
_CAUCHY_LARGEST = 0.99


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


def combine_p_values(p_values: ArrayLike, rule: Rule = "bonferroni") -> NDArray[np.float64]:
    """Combine the p-values of several tests of the same part or batch into one, whatever their dependence.

    ========== ======================================== =================================================
    rule       formula                                  valid
    ========== ======================================== =================================================
    bonferroni ``k min p``                              under any dependence
    mean       ``2 mean p``                             under any dependence
    cauchy     ``P(C >= mean tan((1/2 - p) pi))``,      approximately, for small p-values only: nothing is
               C standard Cauchy                        promised
    ========== ======================================== =================================================

    ``bonferroni`` sees one test that stands out, ``mean`` many that agree. Where the calibration parts are at
    hand, ``several_statistics`` loses nothing to dependence and is to be preferred.

    Args:
        p_values: ``(..., k)`` in [0, 1].
        rule: See above.

    Returns:
        ``(...)`` at most 1. NaN among the p-values gives NaN, never a p-value that could pass.

    Raises:
        CalibrationError: No p-values, some outside [0, 1], or an unknown rule.

    Source: Vovk, Wang 2020, "Combining p-values via averaging"; Liu, Xie 2020, "Cauchy combination test".

    Example:
        >>> p_values = [0.01, 0.2, 0.6]
        >>> float(combine_p_values(p_values).round(3)), float(combine_p_values(p_values, "mean").round(3))
        (0.03, 0.54)
        >>> float(combine_p_values(p_values, "cauchy").round(3))
        0.029
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim == 0 or not p.shape[-1] or bool(((p < 0) | (p > 1)).any()):
        raise CalibrationError(
            expected="at least one p-value, all between 0 and 1",
            found=f"{p.size} p-values, {int(((p < 0) | (p > 1)).sum())} of them outside",
            remedy="Pass p-values, not strangeness.",
        )
    if rule == "bonferroni":
        return np.asarray(np.minimum(1.0, p.shape[-1] * p.min(axis=-1)))
    if rule == "mean":
        return np.asarray(np.minimum(1.0, 2 * p.mean(axis=-1)))
    if rule == "cauchy":
        # Discrete p-values reach 1, whose tangent is minus infinity: one such would outvote any evidence.
        tangents = 1 / np.tan(np.pi * np.clip(p, 1e-300, _CAUCHY_LARGEST))
        # arctan2(1, t) is pi/2 - arctan(t) without its cancellation.
        return np.asarray(np.arctan2(1.0, tangents.mean(axis=-1)) / np.pi)
    raise CalibrationError(
        expected="the rule bonferroni, mean or cauchy", found=repr(rule), remedy="Name one of them."
    )
