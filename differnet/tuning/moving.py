"""What two thresholds do to the parts at hand, and what their calibration says of parts to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from differnet.calibration import good_among_flagged, p_values, share_of_good
from differnet.evaluation.intervals import Rate, percent, rate
from differnet.records import Verdict
from differnet.reporting.counts import VERDICTS, Truth, VerdictCounts, tabulate, verdict_codes
from differnet.tuning.parts import Parts

_PASS, _REVIEW = VERDICTS.index(Verdict.PASS), VERDICTS.index(Verdict.REVIEW)
_INVALID = VERDICTS.index(Verdict.INVALID)
# DEFECT and OOD stand side by side.
_REJECTED = slice(VERDICTS.index(Verdict.DEFECT), _INVALID)


@dataclass(frozen=True)
class Moved:
    """What two thresholds do to the parts of a run.

    Attributes:
        t_review, t_defect: T1 and T2.
        codes: ``(n,)`` column of each part's verdict in `VERDICTS`.
        counts: Label by verdict, with overkill, escape, review load and first-pass yield.
        precision: Parts that are no good ones, among the rejected of which anything is known.
        recall: Defects that do not pass, among the defects that could be judged: 1 less the escape.
    """

    t_review: float
    t_defect: float
    codes: NDArray[np.int8]
    counts: VerdictCounts
    precision: Rate
    recall: Rate


@dataclass(frozen=True)
class Expected:
    """What is to be expected of good parts, label or none, by the calibration's own parts.

    Attributes:
        reviewed: Calibration parts at or above T1, of all.
        rejected: Calibration parts at or above T2, of all.
        p_review, p_defect: p-value of a part that is as strange as T1, as T2; no smaller one is possible than
            ``1 / (n + 1)``.
        flagged: Parts of the run at or above T1, of those that have a strangeness.
        good_flagged: How many of them are probably good.
        most_good_flagged: No more than that, with 95 % confidence.
    """

    reviewed: Rate
    rejected: Rate
    p_review: float
    p_defect: float
    flagged: int
    good_flagged: float
    most_good_flagged: int


@dataclass(frozen=True)
class KindRow:
    """How one kind of defect or wrong input is judged.

    Attributes:
        kind: Its name.
        counts: ``(5,)`` in the order of `VERDICTS`.
        caught: Those that do not pass, among those that could be judged.
    """

    kind: str
    counts: NDArray[np.int64]
    caught: Rate


def move(parts: Parts, t_review: float, t_defect: float) -> Moved:
    """Judge the parts of a run by two thresholds.

    Args:
        parts: Of the run.
        t_review: T1.
        t_defect: T2, at least T1.

    Raises:
        ValueError: A threshold is not finite, or T2 is below T1.
    """
    codes = verdict_codes(parts.columns, t_review, t_defect)
    counts = tabulate(parts.columns.truth, codes)
    known = counts.table[: Truth.UNLABELLED, _REJECTED].sum(axis=1)
    defects = counts.table[Truth.DEFECT, :_INVALID]
    return Moved(
        t_review,
        t_defect,
        codes,
        counts,
        rate(int(known.sum() - known[Truth.GOOD]), int(known.sum())),
        rate(int(defects.sum() - defects[_PASS]), int(defects.sum())),
    )


def expect(good: ArrayLike, parts: Parts, t_review: float, t_defect: float) -> Expected:
    """Say what the calibration expects of good parts at two thresholds; no label is needed.

    How many of the flagged parts are good is estimated from how many parts of the run look usual, see
    `good_among_flagged`. The rates are those of thresholds that nobody chose by looking at the calibration.

    Args:
        good: ``(n,)`` strangeness of the calibration parts.
        parts: Of the run.
        t_review: T1.
        t_defect: T2, at least T1.

    Raises:
        CalibrationError: There are no calibration parts, or some are not finite.
    """
    figures = np.asarray(good, dtype=np.float64)
    batch = parts.strangeness_of()
    p_review, p_defect = (float(p) for p in p_values(figures, [t_review, t_defect]))
    flagged = int(np.count_nonzero(batch >= t_review))
    good_flagged, most = _good_flagged(p_values(figures, batch), p_review, len(figures))
    return Expected(
        rate(int(np.count_nonzero(figures >= t_review)), len(figures)),
        rate(int(np.count_nonzero(figures >= t_defect)), len(figures)),
        p_review,
        p_defect,
        flagged,
        min(float(flagged), good_flagged),
        min(flagged, most),
    )


def by_kind(parts: Parts, codes: NDArray[np.int8]) -> tuple[KindRow, ...]:
    """Count verdicts for each kind of defect and wrong input, the one that passes most often first.

    Args:
        parts: Of a run.
        codes: ``(n,)`` column in `VERDICTS`.
    """
    width, named = len(VERDICTS), parts.kind >= 0
    cells = np.bincount(
        parts.kind[named].astype(np.int64) * width + codes[named], minlength=len(parts.kinds) * width
    )
    rows = []
    for kind, counts in zip(parts.kinds, cells.reshape(-1, width).astype(np.int64), strict=True):
        judged = int(counts[:_INVALID].sum())
        rows.append(KindRow(kind, counts, rate(judged - int(counts[_PASS]), judged)))
    return tuple(sorted(rows, key=lambda row: (-int(row.counts[_PASS]), -row.caught.of, row.kind)))


def difference_words(now: Rate, before: Rate) -> str | None:
    """Say by how many points a rate has changed; ``None`` where it has not, or there is none.

    Example:
        >>> difference_words(rate(3, 100), rate(1, 100)), difference_words(rate(1, 2000), rate(2, 2000))
        ('+2.0 points', '-0.05 points')
    """
    if now.share is None or before.share is None or now.share == before.share:
        return None
    points = 100 * (now.share - before.share)
    # As many digits as a percentage of that size has.
    digits = percent(min(1.0, abs(points) / 100)).removesuffix(" %").partition(".")[2]
    return f"{points:+.{len(digits)}f} points"


def _good_flagged(batch: NDArray[np.float64], line: float, calibration_parts: int) -> tuple[float, int]:
    if line >= 1:
        # As strange as T1 is every calibration part: all good parts of the run are flagged.
        return share_of_good(batch) * len(batch), len(batch)
    found = good_among_flagged(batch, line, calibration_parts)
    return found.expected, found.at_most
