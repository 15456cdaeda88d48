"""Which parts get another verdict when thresholds move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from differnet.records import Verdict
from differnet.reporting.counts import VERDICTS, Columns, Truth, verdict_codes


@dataclass(frozen=True)
class Flip:
    """Parts that go from one verdict to another.

    Attributes:
        before: Verdict by the thresholds in force.
        after: Verdict by the others.
        rows: ``(k,)`` places of the parts in their run, the strangest first.
        of: ``(4,)`` how many of them are of each `Truth`.
    """

    before: Verdict
    after: Verdict
    rows: NDArray[np.int64]
    of: NDArray[np.int64]


def flips(columns: Columns, before: tuple[float, float], after: tuple[float, float]) -> tuple[Flip, ...]:
    """Find the parts whose verdict other thresholds would change. OOD and INVALID stay.

    Args:
        columns: Of the parts of a run.
        before: T1 and T2 in force.
        after: T1 and T2 instead.

    Returns:
        One entry a pair of verdicts that occurs, the most frequent first.

    Raises:
        ValueError: A threshold is not finite, or a T2 is below its T1.
    """
    return changed_verdicts(columns, verdict_codes(columns, *before), verdict_codes(columns, *after))


def changed_verdicts(columns: Columns, before: NDArray[np.int8], after: NDArray[np.int8]) -> tuple[Flip, ...]:
    """Find the parts that two lists of verdicts judge differently, see `flips`.

    Args:
        columns: Of ``n`` parts.
        before: ``(n,)`` column in `VERDICTS`.
        after: ``(n,)`` likewise.
    """
    rows = np.flatnonzero(before != after)
    # Of equally strange ones the first in the run first: the same move shows the same order.
    rows = rows[np.argsort(-columns.strangeness[rows], kind="stable")]
    pairs = before[rows].astype(np.int64) * len(VERDICTS) + after[rows]
    found = []
    for pair in np.unique(pairs):
        some = rows[pairs == pair]
        old, new = divmod(int(pair), len(VERDICTS))
        of = np.bincount(columns.truth[some], minlength=len(Truth)).astype(np.int64)
        found.append(Flip(VERDICTS[old], VERDICTS[new], some, of))
    return tuple(sorted(found, key=lambda flip: -len(flip.rows)))
