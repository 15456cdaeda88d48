"""Parts among the good ones that probably are not good. Arrays in, arrays out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.calibration.combination import surprise, together
from differnet.calibration.conformal import CalibrationError

# Good parts that may be suspected in vain, over the whole folder, were the evidence normal.
_IN_VAIN = 0.1
# Below this many parts a spread from the lower half is a guess.
_LEAST_PARTS = 24
# More than that is no contamination but a mixture, which a person has to take apart.
_LARGEST_SHARE = 0.15
_LOWER = float(stats.norm.cdf(-1))


def suspects(evidence: ArrayLike) -> NDArray[np.bool_]:
    """Tell which parts of a training folder stand out so far that they are probably not good.

    Each kind of evidence is measured from its median in units of a spread taken from its lower half: defects
    are strange, so they widen the upper half alone. The spread is widened by ``3 / sqrt(n)`` for being an
    estimate itself, of members that have seen fewer parts than the rest. The surprises of all kinds are
    added, and the limit is where independent normal evidence would put a tenth of a part of the whole folder.

    Args:
        evidence: ``(parts, kinds)`` held-out log energies, higher is stranger.

    Returns:
        ``(parts,)``; at most 15 % of them, the strangest, and none of fewer than 24 parts.

    Raises:
        CalibrationError: The evidence is not a finite table.

    Example:
        >>> figures = np.random.default_rng(0).normal(size=(100, 2))
        >>> figures[7] += 9
        >>> np.flatnonzero(suspects(figures)).tolist()
        [7]
    """
    figures = np.asarray(evidence, dtype=np.float64)
    if figures.ndim != 2 or not np.isfinite(figures).all():
        raise CalibrationError(
            expected="a finite figure for every part and kind of evidence",
            found=f"a table of shape {figures.shape}, {int((~np.isfinite(figures)).sum())} not finite",
            remedy="Look for unreadable or blank pictures among the good parts.",
        )
    parts, kinds = figures.shape
    if parts < _LEAST_PARTS:
        return np.zeros(parts, dtype=bool)
    middle = np.median(figures, axis=0)
    spread = (middle - np.quantile(figures, _LOWER, axis=0)) * (1 + 3 / math.sqrt(parts))
    # A kind of evidence in which the lower half of the parts agrees tells nothing of the others.
    telling = spread > 1e-9 * np.maximum(1.0, np.abs(middle))
    surplus = (figures - middle)[:, telling] / spread[telling]
    total = together([surprise(column) for column in surplus.T]) if telling.any() else np.zeros(parts)
    limit = float(stats.gamma.isf(_IN_VAIN / parts, kinds)) / math.log(10)
    suspected = total > limit
    most = int(_LARGEST_SHARE * parts)
    if suspected.sum() > most:
        suspected &= total > np.sort(total)[-most - 1]
    return np.asarray(suspected)
