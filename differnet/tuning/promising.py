"""What may be relied on at two thresholds, and what cannot be promised, in sentences."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from differnet.calibration import by_hand, smallest_alpha
from differnet.evaluation.intervals import CONFIDENCE, Rate, largest_rate, percent
from differnet.reporting.counts import Truth
from differnet.reporting.report import no_promise
from differnet.tuning.basis import Basis
from differnet.tuning.moving import Moved
from differnet.tuning.parts import Parts

FEW_DEFECTS = 30
"""Fewer labelled defects than that bound no escape rate below 10 %: 0 escapes in 29 say "below 9.8 %"."""

DRIFT_ALPHA = 0.01
"""False-alarm rate of the comparison of a run's good parts with those of the calibration."""


def promises(basis: Basis, t_review: float, t_defect: float) -> tuple[str, ...]:
    """Say which shares of good parts lie beyond two thresholds, with their intervals.

    Args:
        basis: The good parts that it is told from.
        t_review: T1.
        t_defect: T2.

    Returns:
        Sentences; none where no rate holds, or nobody knows of a good part.
    """
    if not basis.promised or not basis.good.size:
        return ()
    told = by_hand(basis.good, max(0.0, t_review), max(0.0, t_defect)).promises
    own = "" if basis.of_model else "labelled good parts of this run."
    return tuple(sentence.replace("calibration parts.", own) if own else sentence for sentence in told)


def limits(basis: Basis, parts: Parts, moved: Moved, drift: str | None = None) -> tuple[str, ...]:
    """Say what cannot be promised at two thresholds, and why; the gravest first.

    Args:
        basis: The good parts that promises are made from.
        parts: Of the run.
        moved: What the thresholds do to them.
        drift: What `drifted` said of the run.
    """
    told: list[str] = []
    n, defects = basis.parts, parts.count(Truth.DEFECT)
    if basis.variations is not None:
        told.append(f"N{no_promise(basis.variations)[1:]}. Calibrate the model on further good parts.")
    if drift is not None:
        told.append(drift)
    if not basis.of_model:
        told.append(f"{basis.problem} What is said of good parts rests on {basis.words}.")
    if basis.promised and n and not bool((basis.good >= moved.t_defect).any()):
        told.append(
            f"An overkill below {percent(smallest_alpha(n))}, which is 1 in {n + 1:,}: T2 lies beyond all "
            f"{n:,} good parts that it rests on. To promise 1 in 1,000 takes 999."
        )
    if not defects:
        told.append("Any escape rate: no part of this run is labelled as a defect.")
    elif defects < FEW_DEFECTS:
        told.append(
            f"An escape rate below {percent(largest_rate(0, defects))}, even if none escaped: only {defects} "
            f"labelled defect{'s' * (defects != 1)}. From {FEW_DEFECTS} on it is below 10 %."
        )
    chosen = _if_chosen(moved.counts.overkill, moved.counts.escape)
    if chosen:
        told.append(
            "The intervals beside the rates, if the thresholds were chosen by looking at these very parts. "
            f"What holds of any choice, each with {100 * CONFIDENCE:.0f} % confidence: {chosen}."
        )
    if defects:
        told.append("Anything of kinds of defect that are not among the labelled ones.")
    told.append("Anything of parts unlike these: another lot, light, camera or product.")
    return tuple(told)


def drifted(basis: Basis, parts: Parts) -> str | None:
    """Compare the good parts of a run with those of the calibration, at a false-alarm rate of 1 %.

    Args:
        basis: Of the run.
        parts: Of the run; only labelled good ones that the model was not trained on count.

    Returns:
        A sentence where they are not alike, else ``None``; also where there is nothing to compare.

    Source: Smirnov 1939, the two-sample test of Kolmogorov and Smirnov.
    """
    columns = parts.columns
    good = columns.strangeness[
        (columns.truth == Truth.GOOD) & np.isfinite(columns.strangeness) & ~columns.doubted
    ]
    if not (basis.of_model and basis.promised and basis.good.size and good.size):
        return None
    found = stats.ks_2samp(good, basis.good)
    if found.pvalue > DRIFT_ALPHA:
        return None
    # Where the distance is largest more of the run's parts lie below: they are less strange.
    way = "less strange" if found.statistic_sign > 0 else "stranger"
    return (
        f"The calibration's rates: the {good.size:,} labelled good parts of this run are {way} than the "
        f"{basis.parts:,} of the calibration (p = {found.pvalue:.2g}). Something has drifted, or the "
        "labels are of other parts; see Drift and health."
    )


def _if_chosen(overkill: Rate, escape: Rate) -> str:
    """Bound both rates whatever thresholds were chosen (Massart 1990, one side)."""
    told = []
    for rate, what in ((overkill, "overkill"), (escape, "escapes")):
        if rate.share is not None:
            slack = math.sqrt(math.log(1 / (1 - CONFIDENCE)) / (2 * rate.of))
            told.append(f"{what} of at most {percent(min(1.0, rate.share + slack))}")
    return " and ".join(told)
