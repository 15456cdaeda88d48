"""Parts among the good ones that probably are not good. Arrays in, arrays out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.calibration.conformal import CalibrationError

# Below this many parts a spread from the lower half is a guess.
_LEAST_PARTS = 32
# More than that is no contamination but a mixture, which a person has to take apart.
_LARGEST_SHARE = 0.15
# Quantiles that median and spread are taken from: those of a normal law at 0 and -1.
_LOWER = float(stats.norm.cdf(-1))


def suspects(evidence: ArrayLike, strongest: ArrayLike | None = None, rate: float = 0.2) -> NDArray[np.bool_]:
    """Tell which parts of a training folder stand out so far that they are probably not good.

    Each kind of evidence is measured from its median in units of a spread taken from its lower half:
    defects are strange, so they widen the upper half alone. The spread is widened by ``3 / sqrt(n)``, for
    being an estimate itself. A part's p-value is the smallest of its kinds of evidence, times their number;
    Benjamini and Hochberg's procedure then draws the line where the parts that stand out say it is: in a
    folder of good parts far out, and in a spoilt one further in.

    Args:
        evidence: ``(parts, kinds)`` held-out log energies of wholes, higher is stranger; of good parts they
            are close to normal.
        strongest: ``(parts, kinds)`` log energies of each part's strangest patches. The strangest of many
            follow Gumbel's law, whose upper tail is heavier: a good part may well have one strange speck.
        rate: Expected share of good parts among the suspects, as far as good parts follow these laws.

    Returns:
        ``(parts,)``; at most 15 % of them, the strangest, and none of fewer than 32 parts.

    Raises:
        CalibrationError: The evidence is no finite table, or the tables differ in length.

    Source: Benjamini, Hochberg 1995, "Controlling the false discovery rate"; Gumbel 1958, "Statistics of
    extremes".

    Example:
        >>> figures = np.random.default_rng(0).normal(size=(100, 2))
        >>> figures[7] += 9
        >>> np.flatnonzero(suspects(figures)).tolist()
        [7]
    """
    wholes = _table(evidence)
    parts = len(wholes)
    extremes = np.zeros((parts, 0)) if strongest is None else _table(strongest)
    if len(extremes) != parts:
        raise CalibrationError(
            expected=f"strongest patches of the same {parts} parts",
            found=f"{len(extremes)} rows",
            remedy="Give one row a part in both tables.",
        )
    if parts < _LEAST_PARTS:
        return np.zeros(parts, dtype=bool)
    by_kind = [
        *(_upper_tail(column, stats.norm) for column in wholes.T),
        *(_upper_tail(column, stats.gumbel_r) for column in extremes.T),
    ]
    logs = np.stack([log for log in by_kind if log is not None] or [np.zeros(parts)])
    # Logarithms, so that what is far beyond the smallest number still has an order.
    log_p = logs.min(axis=0) + math.log(len(logs))
    order = np.argsort(log_p, kind="stable")
    passing = np.flatnonzero(log_p[order] <= np.log(rate * np.arange(1, parts + 1) / parts))
    count = min(int(passing[-1]) + 1 if len(passing) else 0, int(_LARGEST_SHARE * parts))
    suspected = np.zeros(parts, dtype=bool)
    suspected[order[:count]] = True
    return suspected


def _upper_tail(figures: NDArray[np.float64], law: Any) -> NDArray[np.float64] | None:
    """Return ``log P(X >= figure)`` under a law fitted to the lower half, ``None`` where that half agrees."""
    middle = float(np.median(figures))
    spread = middle - float(np.quantile(figures, _LOWER))
    # Where the lower half of the parts agrees, the evidence tells nothing of the others.
    if spread <= 1e-9 * max(1.0, abs(middle)):
        return None
    at_middle = float(law.ppf(0.5))
    unit = spread * (1 + 3 / math.sqrt(len(figures))) / (at_middle - float(law.ppf(_LOWER)))
    return np.asarray(law.logsf(at_middle + (figures - middle) / unit))


def _table(evidence: ArrayLike) -> NDArray[np.float64]:
    figures = np.asarray(evidence, dtype=np.float64)
    if figures.ndim != 2 or not np.isfinite(figures).all():
        raise CalibrationError(
            expected="a finite figure for every part and kind of evidence",
            found=f"a table of shape {figures.shape}, {int((~np.isfinite(figures)).sum())} not finite",
            remedy="Look for unreadable or blank pictures among the good parts.",
        )
    return figures
