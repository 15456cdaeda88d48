"""Suggest where a part goes to review and where it is rejected, and say what that promises.

Two thresholds on strangeness: from ``review`` on a person looks, from ``defect`` on the part is rejected.
Each function here follows one wish of the line: so much overkill and no more, so few escapes, the least
cost, what the reviewers can look at, a share of good parts among the rejected, or no labelled defect at
all. Arrays in, arrays out; usable without the rest of differnet.

A suggestion says in sentences what it promises, from how many parts and within which interval, and what it
cannot promise. The two differ by rule: conformal thresholds promise a rate of good parts whatever their
law, a threshold tested on defects promises a rate of defects like them, and what is chosen for being best
on the parts at hand is best on those. For the last kind the bounds here hold for every threshold at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from differnet.calibration.conformal import (
    CalibrationError,
    _rank,
    false_alarm_interval,
    p_values,
    smallest_alpha,
    threshold,
)
from differnet.calibration.discovery import benjamini_hochberg
from differnet.calibration.tails import _TAIL_SHARE, TailScale

Figures = NDArray[np.float64]

# Of the Beta intervals beside overkill: what design/trust.md's table of 90 % intervals states.
_BETA_CONFIDENCE = 0.9
# Of every other interval: what quality manuals expect.
_CONFIDENCE = 0.95
# Fewer labelled defects than that bound no escape rate below 10 %: 0 escapes in 29 say "below 9.8 %".
_FEW_DEFECTS = 30
# Share of good parts beyond the threshold when nothing is known of defects. Simulated batches with 3, 10,
# 30 and 67 % defects of all degrees of difficulty lost, beside the best threshold, 0.14, 0.14, 0.15, 0.18
# and 0.22 in F1 at 0.05, 0.03, 0.02, 0.01 and 0.005; at 0.02 the worst of the four shares lost least (0.19,
# beside 0.26 at 0.05 and 0.26 at 0.01).
_UNKNOWN_DEFECTS = 0.02
# Standard errors that the count of defects in a batch is lowered by, and the count of good parts beyond a
# line is raised by. Without them noise in the bulk passes for defects: of the same batches the loss was 0.16
# with neither, 0.11 with these, and flat around them (1 to 2; 0.5 to 1).
_DEFECTS_LOWERED = 1.5
_GOOD_RAISED = 0.5

_DRIFT = "Nothing is promised of parts unlike the calibration parts: another lot, light, camera or product."


@dataclass(frozen=True)
class Suggestion:
    """Two thresholds, and what may be relied on.

    Attributes:
        review: Strangeness from which a person looks.
        defect: Strangeness from which a part is rejected; ``review`` where nothing goes to review.
        rule: How the two were found, with its settings.
        promises: Sentences: what holds, from how many parts, within which interval.
        cannot: Sentences: what cannot be promised, and why.
    """

    review: float
    defect: float
    rule: str
    promises: tuple[str, ...]
    cannot: tuple[str, ...]


@dataclass(frozen=True)
class ExpectedCosts:
    """What a part costs on average, by the threshold from which parts are rejected.

    Attributes:
        levels: ``(k,)`` ascending thresholds: one for each way to divide the parts.
        cost: ``(k,)`` with the review threshold at its best, at or below.
        review: ``(k,)`` places in ``levels`` of that review threshold; its own where nothing is reviewed.
        overkill: ``(k,)`` share of good parts at or above.
        caught: ``(k,)`` share of defects at or above.
        good, defects: How many parts it was counted on.
    """

    levels: Figures
    cost: Figures
    review: NDArray[np.int64]
    overkill: Figures
    caught: Figures
    good: int
    defects: int

    @property
    def least(self) -> int:
        """Place of the least cost; of several the lowest threshold."""
        return int(np.argmin(self.cost))


def by_label(strangeness: ArrayLike, defective: ArrayLike) -> tuple[Figures, Figures]:
    """Part labelled figures into those of good parts and those of defects.

    Args:
        strangeness: ``(n,)``.
        defective: ``(n,)`` bool, or 0 and 1.

    Returns:
        Strangeness of the good parts, and of the defects; neither is empty.

    Raises:
        CalibrationError: One class is missing, a figure is not finite, or labels are something else.

    Example:
        >>> good, defects = by_label([0.2, 3.0, 0.4], [False, True, False])
        >>> good.tolist(), defects.tolist()
        ([0.2, 0.4], [3.0])
    """
    figures, labels = _finite(strangeness, "parts"), np.asarray(defective).ravel()
    if labels.shape != figures.shape or not np.isin(labels, (0, 1)).all():
        raise CalibrationError(
            expected="a label for each part: defective or not",
            found=f"{len(labels)} labels for {len(figures)} parts",
            remedy="Leave out parts without a label.",
        )
    bad = labels.astype(bool)
    if bad.all() or not bad.any():
        raise CalibrationError(
            expected="labelled parts of both classes",
            found=f"{len(bad)} parts, all of them {'defects' if bad.any() else 'good'}",
            remedy="Label parts of the other class, or ask for a threshold by overkill, or without defects.",
        )
    return figures[~bad], figures[bad]


def by_overkill(good: ArrayLike, alpha_review: float, alpha_defect: float) -> Suggestion:
    """Suggest thresholds that flag and reject no more good parts than stated.

    Both are conformal thresholds: the mean rate over calibration sets is ``k/(n+1)`` with
    ``k = floor(alpha (n+1))``, whatever the law of the strangeness, and the rate of this calibration set is
    ``Beta(k, n+1-k)``.

    Args:
        good: ``(n,)`` strangeness of good parts that were not trained on.
        alpha_review: Largest share of good parts that is reviewed or rejected.
        alpha_defect: Largest share of good parts that is rejected; at most ``alpha_review``.

    Raises:
        CalibrationError: A rate is below ``1/(n+1)``, or more is rejected than is flagged.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors".

    Example:
        >>> found = by_overkill(range(1000), 0.05, 0.01)
        >>> found.review < found.defect
        True
        >>> found.promises[1].endswith("90 % of such calibrations give 0.544 % to 1.57 %.")
        True
    """
    figures = _finite(good, "calibration parts")
    if alpha_defect > alpha_review:
        raise CalibrationError(
            expected=f"no more overkill than the {alpha_review:.3g} that are reviewed or rejected",
            found=f"{alpha_defect:.3g}",
            remedy="Give the larger rate to the review.",
        )
    return Suggestion(
        threshold(figures, alpha_review),
        threshold(figures, alpha_defect),
        f"overkill: {_percent(alpha_review)} of good parts reviewed or rejected, "
        f"{_percent(alpha_defect)} rejected",
        (_flagged(len(figures), alpha_review), _overkill(len(figures), alpha_defect)),
        (_no_defects(), *_few_good(len(figures)), _DRIFT),
    )


def by_review_budget(good: ArrayLike, share: float, alpha_defect: float | None = None) -> Suggestion:
    """Suggest the lowest review threshold that sends no more than ``share`` of the good parts to a person.

    Between the two thresholds lie ``k = floor(share (n+1))`` of the ``n+1`` gaps between good parts, so the
    share that goes to review is ``Beta(k, n+1-k)``, as an overkill of ``share`` would be.

    Args:
        good: ``(n,)`` strangeness of good parts that were not trained on.
        share: Largest share of good parts that may go to review, at least ``1/(n+1)``.
        alpha_defect: Overkill beyond that; ``None`` is the least that n parts can promise.

    Raises:
        CalibrationError: A rate is below ``1/(n+1)``, or the two together reach 1.

    Source: Wilks 1941, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical
    Statistics 12: gaps between order statistics.

    Example:
        >>> found = by_review_budget(range(999), 0.03, 0.01)
        >>> sum(found.review <= part < found.defect for part in range(999))
        30
    """
    figures = _finite(good, "calibration parts")
    n = len(figures)
    rejected = smallest_alpha(n) if alpha_defect is None else alpha_defect
    # One refuses a share that n parts cannot keep, the other gives the rank.
    threshold(figures, share)
    defect = threshold(figures, rejected)
    gaps = _rank(n, share) + _rank(n, rejected)
    if gaps > n:
        raise CalibrationError(
            expected="a review budget and an overkill of less than 1 together",
            found=f"{share:.3g} and {rejected:.3g} with {n} calibration parts",
            remedy="Ask for a smaller budget.",
        )
    return Suggestion(
        threshold(figures, gaps / (n + 1)),
        defect,
        f"review budget: {_percent(share)} of good parts reviewed, {_percent(rejected)} rejected",
        (
            f"On average at most {_percent(_rank(n, share) / (n + 1))} of good parts go to review: "
            f"{_calibrated(n, share)}",
            _overkill(n, rejected),
        ),
        (
            "How many defects go to review on top is not known without labelled ones.",
            _no_defects(),
            *_few_good(n),
            _DRIFT,
        ),
    )


def by_escape(
    good: ArrayLike,
    defects: ArrayLike,
    most_escape: float,
    confidence: float = _CONFIDENCE,
    alpha_defect: float | None = None,
) -> Suggestion:
    """Suggest the highest review threshold below which no more defects escape than stated.

    Learn then test: thresholds are tested from low to high, "more than ``most_escape`` of defects escape"
    being the hypothesis, with the exact p-value ``P(Bin(n, most_escape) <= escapes)``; the last one before
    a p-value above ``1 - confidence`` is taken. A sequence that is fixed beforehand needs no correction for
    many tests. Escapes only grow along it, so the sequence may be as fine as it likes, and the last
    threshold is then a labelled defect: the one with k stranger than ``n - k - 1`` others, which is the
    tolerance limit of Wilks. Either way ``P(escape rate > most_escape) <= 1 - confidence``.

    A part escapes when it passes: review counts as caught.

    Args:
        good: ``(n,)`` strangeness of good parts that were not trained on.
        defects: ``(d,)`` strangeness of labelled defects that nothing was tuned on.
        most_escape: Largest share of defects that may escape, between 0 and 1.
        confidence: That it does not, between 0 and 1.
        alpha_defect: Overkill of the defect threshold; ``None`` is the least that n parts can promise. It is
            raised to the review threshold where that is higher.

    Raises:
        CalibrationError: Too few defects: even none of d escaping would not show it, which takes
            ``(1 - most_escape)^d <= 1 - confidence``. Or an argument is out of range.

    Source: Angelopoulos, Bates, Candes, Jordan, Lei 2021, "Learn then test: calibrating predictive
    algorithms to achieve risk control", section 2; Wilks 1941, "Determination of sample sizes for setting
    tolerance limits".

    Example:
        >>> found = by_escape(range(100), range(60, 260), most_escape=0.05, confidence=0.95)
        >>> found.review
        64.0
    """
    figures, bad = _finite(good, "calibration parts"), np.sort(_finite(defects, "defects"))
    if not (0 < most_escape < 1 and 0 < confidence < 1):
        raise CalibrationError(
            expected="an escape rate and a confidence, both above 0 and below 1",
            found=f"{most_escape} and {confidence}",
            remedy="0.05 at a confidence of 0.95 is usual.",
        )
    n, d = len(figures), len(bad)
    # Thresholds at the defects themselves, ascending; the k-th lets at most k of them escape.
    p_broken = stats.binom.cdf(np.arange(d), d, most_escape)
    tested = np.flatnonzero(p_broken > 1 - confidence)
    allowed = (int(tested[0]) if tested.size else d) - 1
    if allowed < 0:
        needed = math.ceil(math.log1p(-confidence) / math.log1p(-most_escape))
        raise CalibrationError(
            expected=f"at least {needed} labelled defects for an escape rate of {most_escape:.3g} at "
            f"{confidence:.3g} confidence",
            found=f"{d}",
            remedy="Label more defects, or accept a larger escape rate or less confidence.",
        )
    review = float(bad[allowed])
    rejected = smallest_alpha(n) if alpha_defect is None else alpha_defect
    conformal = threshold(figures, rejected)
    defect = max(review, conformal)
    flagged = int(np.count_nonzero(figures >= review))
    low, high = _exact_interval(flagged, n)
    return Suggestion(
        review,
        defect,
        f"escapes: at most {_percent(most_escape)} of defects at {_percent(confidence)} confidence",
        (
            f"At most {_percent(most_escape)} of defects like the labelled ones escape, with "
            f"{_percent(confidence)} confidence: {d} labelled defects, {int(np.sum(bad < review))} escape.",
            f"{_percent(flagged / n)} of good parts are reviewed or rejected, with {_percent(_CONFIDENCE)} "
            f"confidence {_percent(low)} to {_percent(high)}: {flagged} of {n} calibration parts.",
            # Raised to the review threshold it rejects what the sentence above says, and less than alpha.
            *(() if defect > conformal else (_overkill(n, rejected),)),
        ),
        (
            "Nothing is promised of kinds of defect that are not among the labelled ones.",
            *_few_defects(d),
            *_few_good(n),
            _DRIFT,
        ),
    )


def by_cost(
    good: ArrayLike,
    defects: ArrayLike,
    cost_overkill: float,
    cost_escape: float,
    defect_share: float,
    cost_review: float | None = None,
) -> Suggestion:
    """Suggest the thresholds of least expected cost a part.

    With ``G(t)`` and ``D(t)`` the shares of good parts and of defects at or above t, and ``s`` the share of
    defects on the line, it is

        ``(1-s) (c_review (G(t1) - G(t2)) + c_overkill G(t2)) + s (c_escape (1 - D(t1)) + c_review (D(t1) -
        D(t2)))``,

    a person's verdict being taken as right; without ``cost_review`` nothing is reviewed and ``t1 = t2``. All
    pairs of thresholds between parts are compared; of those that cost the same the lowest is taken, halfway
    between two parts.

    The least cost on these parts is an optimistic figure of others. Its upper bound adds ``sqrt(ln(1/a) /
    2n)`` to ``G`` and to ``1 - D``, which no threshold exceeds with probability ``1 - a`` each (Massart
    1990), so it holds for the chosen one.

    Args:
        good: ``(n,)`` strangeness of good parts that were not trained on.
        defects: ``(d,)`` strangeness of labelled defects.
        cost_overkill: Of a good part that is rejected, in any unit.
        cost_escape: Of a defect that passes, in the same unit.
        defect_share: Share of defects on the line, not among the labelled parts.
        cost_review: Of a part that a person looks at; at most the other two.

    Raises:
        CalibrationError: A cost is negative, or a look dearer than the error it prevents, or the share
            is not between 0 and 1.

    Source: Elkan 2001, "The foundations of cost-sensitive learning", for the cost; Massart 1990, "The tight
    constant in the Dvoretzky-Kiefer-Wolfowitz inequality".

    Example:
        >>> found = by_cost([0, 1, 2, 3], [3, 8, 9], cost_overkill=1, cost_escape=50, defect_share=0.1)
        >>> found.review == found.defect == 2.5
        True
    """
    costs = expected_costs(good, defects, cost_overkill, cost_escape, defect_share, cost_review)
    of_good, of_bad = 1 - defect_share, defect_share
    second = costs.least
    first = int(costs.review[second])
    least = float(costs.cost[second])
    overkill, caught = costs.overkill, costs.caught
    lengths = costs.good, costs.defects
    slack = [math.sqrt(math.log(2 / (1 - _CONFIDENCE)) / (2 * length)) for length in lengths]
    most = least + of_good * cost_overkill * slack[0] + of_bad * cost_escape * slack[1]
    most_overkill, most_escape = overkill[second] + slack[0], 1 - caught[first] + slack[1]
    return Suggestion(
        float(costs.levels[first]),
        float(costs.levels[second]),
        f"least cost: overkill {cost_overkill:g}, escape {cost_escape:g}, "
        f"review {'none' if cost_review is None else f'{cost_review:g}'}, {_percent(defect_share)} defects",
        (
            f"The expected cost a part is at most {most:.3g} with {_percent(_CONFIDENCE)} confidence, if the "
            f"line makes {_percent(defect_share)} defects: {least:.3g} on {lengths[0]} good parts and "
            f"{lengths[1]} defects.",
            f"At most {_percent(min(1.0, most_overkill))} of good parts are rejected and "
            f"{_percent(min(1.0, most_escape))} of defects like the labelled ones escape, with the same "
            f"confidence: {_percent(overkill[second])} and {_percent(1 - caught[first])} on these parts.",
        ),
        (
            "The share of defects on the line was given, not measured.",
            "Nothing is promised of kinds of defect that are not among the labelled ones.",
            *_few_defects(costs.defects),
            _DRIFT,
        ),
    )


def expected_costs(
    good: ArrayLike,
    defects: ArrayLike,
    cost_overkill: float,
    cost_escape: float,
    defect_share: float,
    cost_review: float | None = None,
) -> ExpectedCosts:
    """Return the expected cost a part at every threshold that tells parts apart, see `by_cost`.

    Args:
        good: ``(n,)`` strangeness of good parts.
        defects: ``(d,)`` strangeness of labelled defects.
        cost_overkill: Of a good part that is rejected, in any unit.
        cost_escape: Of a defect that passes, in the same unit.
        defect_share: Share of defects on the line, not among the labelled parts.
        cost_review: Of a part that a person looks at; at most the other two.

    Raises:
        CalibrationError: As `by_cost`.

    Example:
        >>> found = expected_costs([0, 1, 2, 3], [3, 8, 9], 1, 50, defect_share=0.1)
        >>> float(found.levels[found.least]), round(float(found.cost[found.least]), 3)
        (2.5, 0.225)
    """
    figures, bad = np.sort(_finite(good, "calibration parts")), np.sort(_finite(defects, "defects"))
    look = min(cost_overkill, cost_escape) if cost_review is None else cost_review
    costs = (look, cost_overkill, cost_escape)
    if not (all(math.isfinite(c) for c in costs) and 0 <= look <= min(costs) and max(costs) > 0):
        raise CalibrationError(
            expected="costs of at least 0, and a review that costs no more than overkill or an escape",
            found=f"overkill {cost_overkill}, escape {cost_escape}, review {cost_review}",
            remedy="Leave the review out where it costs more than the error that it prevents.",
        )
    if not 0 < defect_share < 1:
        raise CalibrationError(
            expected="a share of defects on the line above 0 and below 1",
            found=f"{defect_share}",
            remedy="Estimate it from scrap records; 0.01 is usual.",
        )
    levels = _between(np.concatenate([figures, bad]))
    overkill, caught = _at_least(figures, levels), _at_least(bad, levels)
    of_good, of_bad = 1 - defect_share, defect_share
    every = np.arange(len(levels))
    if cost_review is None:
        cost = of_good * cost_overkill * overkill + of_bad * cost_escape * (1 - caught)
        return ExpectedCosts(levels, cost, every, overkill, caught, len(figures), len(bad))
    # The cost is a sum of one term in t1 and one in t2: of each t2 the best t1 below is a running minimum.
    of_review = of_good * look * overkill + of_bad * (cost_escape * (1 - caught) + look * caught)
    of_defect = of_good * (cost_overkill - look) * overkill - of_bad * look * caught
    best = np.minimum.accumulate(of_review)
    lower = np.concatenate([[True], of_review[1:] < best[:-1]])
    review = np.maximum.accumulate(np.where(lower, every, 0))
    return ExpectedCosts(levels, best + of_defect, review, overkill, caught, len(figures), len(bad))


def by_f1(good: ArrayLike, defects: ArrayLike, *, split: bool = False, seed: int = 0) -> Suggestion:
    """Suggest the one threshold of the largest F1 on labelled parts; nothing goes to review.

    ``F1 = 2 TP / (2 TP + FP + FN)``; of thresholds with the same the lowest is taken, halfway between two
    parts. It was chosen for being best on these parts, so that the F1 that they show is optimistic of others.
    With ``split`` half of each class chooses, and the other half, which did not, measures.

    What holds of the chosen threshold as of any other: with probability ``1 - a`` each, overkill and escape
    exceed their shares on the parts that chose by no more than ``sqrt(ln(1/a) / 2n)``.

    Args:
        good: ``(n,)`` strangeness of labelled good parts.
        defects: ``(d,)`` strangeness of labelled defects.
        split: Choose on a random half of each class and measure on the other.
        seed: Of the split; the same seed gives the same halves.

    Raises:
        CalibrationError: A class is missing, or has no two parts to split.

    Source: Lipton, Elkan, Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1 measure";
    Massart 1990, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality".

    Example:
        >>> found = by_f1([0, 1, 2, 3], [3, 8, 9])
        >>> found.review == found.defect == 2.5, found.cannot[0]
        (True, 'F1 is 0.857 on the very 4 good parts and 3 defects that chose the threshold: optimistic.')
    """
    figures, bad = _finite(good, "labelled good parts"), _finite(defects, "labelled defects")
    chosen = figures, bad
    measured = chosen
    if split:
        if min(len(figures), len(bad)) < 2:
            raise CalibrationError(
                expected="at least two labelled good parts and two defects to split",
                found=f"{len(figures)} good parts and {len(bad)} defects",
                remedy="Label more parts, or choose and measure on the same ones.",
            )
        rng = np.random.default_rng(seed)
        halves = [np.array_split(rng.permutation(values), 2) for values in (figures, bad)]
        chosen, measured = (halves[0][0], halves[1][0]), (halves[0][1], halves[1][1])
    limit = _largest_f1(*chosen)
    told = [
        (np.count_nonzero(measured[0] >= limit), len(measured[0]), "good parts are rejected (overkill)"),
        (np.count_nonzero(measured[1] < limit), len(measured[1]), "defects escape"),
    ]
    f1 = _f1_at(*measured, limit)
    parts = f"{len(measured[0])} good parts and {len(measured[1])} defects"
    if split:
        promises = (
            f"F1 is {f1:.3g} on the {parts} that did not choose the threshold.",
            *(_counted(int(events), of, what) for events, of, what in told),
        )
        doubts: tuple[str, ...] = ()
    else:
        slack = [math.sqrt(math.log(1 / (1 - _CONFIDENCE)) / (2 * of)) for _, of, _ in told]
        most = [min(1.0, events / of + more) for (events, of, _), more in zip(told, slack, strict=True)]
        promises = (
            f"At most {_percent(most[0])} of good parts are rejected and at most {_percent(most[1])} of "
            f"defects like the labelled ones escape, each with {_percent(_CONFIDENCE)} confidence, however "
            "the threshold was chosen.",
        )
        doubts = (f"F1 is {f1:.3g} on the very {parts} that chose the threshold: optimistic.",)
    return Suggestion(
        limit,
        limit,
        f"largest F1, {'chosen on one half of the labelled parts' if split else 'on the labelled parts'}",
        promises,
        (
            *doubts,
            f"F1 depends on how many defects there are: {len(bad)} defects beside {len(figures)} good parts "
            "here, and another share on the line.",
            "Nothing is promised of kinds of defect that are not among the labelled ones.",
            *_few_defects(len(measured[1])),
            _DRIFT,
        ),
    )


def by_fdr(good: ArrayLike, strangeness: ArrayLike, q: float, q_review: float | None = None) -> Suggestion:
    """Suggest thresholds for one batch by the share of good parts among what they flag.

    Benjamini and Hochberg's procedure on the batch's conformal p-values draws the line, see
    `benjamini_hochberg`. Where it flags nothing, so do the thresholds: they lie beyond the strangest part
    of the batch and of the good ones.

    Args:
        good: ``(n,)`` strangeness of good parts that were not trained on.
        strangeness: ``(m,)`` of the whole batch; NaN is left out.
        q: Share of good parts among the rejected, on average over batches.
        q_review: The same among the reviewed and rejected, at least ``q``; ``None`` reviews nothing.

    Raises:
        CalibrationError: A share is not between 0 and 1, or that of the review is below ``q``.

    Source: Bates, Candes, Lei, Romano, Sesia 2023, "Testing for outliers with conformal p-values", Annals of
    Statistics 51.

    Example:
        >>> found = by_fdr(range(999), [5.0] * 90 + [2e3] * 10, q=0.1)
        >>> found.defect > 998, found.promises[1]
        (True, '10 of 100 parts of this batch are rejected, an estimated 0.1 of them good.')
    """
    figures, asked = _finite(good, "calibration parts"), np.asarray(strangeness, dtype=np.float64).ravel()
    wide = q if q_review is None else q_review
    if wide < q:
        raise CalibrationError(
            expected=f"a share for the review of at least {q:.3g}",
            found=f"{wide:.3g}",
            remedy="Give the larger share to the review.",
        )
    values = p_values(figures, asked)
    told, looked = benjamini_hochberg(values, q), benjamini_hochberg(values, wide)
    # Only finite figures: a threshold of infinity is no threshold, and such a part is INVALID anyway.
    strangest = max(float(figures.max()), float(asked.max(initial=-np.inf, where=np.isfinite(asked))))
    nothing = float(np.nextafter(strangest, np.inf))
    m, n = int(np.count_nonzero(~np.isnan(values))), len(figures)
    rejected = int(np.count_nonzero(told.flagged))
    least = math.ceil(m / (q * (n + 1)))
    too_few = f"Fewer than {least} defects in the batch cannot be found with {n} calibration parts."
    return Suggestion(
        threshold(figures, looked.line) if looked.line else nothing,
        threshold(figures, told.line) if told.line else nothing,
        f"false discoveries: {_percent(q)} of the rejected, {_percent(wide)} of the reviewed and rejected",
        (
            f"On average over batches at most {_percent(q)} of what is rejected is good, however the defects "
            f"look: {n} calibration parts.",
            f"{rejected} of {m} parts of this batch are rejected, an estimated {told.expected_good:.2g} "
            "of them good.",
        ),
        (
            "It is a mean over batches: of one batch more may be good.",
            "The thresholds are those of this batch; on another they promise nothing.",
            *((too_few,) if least > 1 else ()),
            _no_defects(),
            _DRIFT,
        ),
    )


def without_defects(
    good: ArrayLike,
    strangeness: ArrayLike | None = None,
    alpha_review: float = 0.05,
    most_overkill: float = 0.1,
) -> Suggestion:
    """Suggest thresholds that come near the best F1, without one labelled defect.

    The chance ``g(t)`` that a good part reaches t is read off `TailScale`: counted in the bulk, an
    exponential law beyond, which reaches where no calibration part lies. (A generalised Pareto tail in its
    place, its shape by probability-weighted moments, lost as much within 0.006 in F1 at every rate tried.)

    Without a batch nothing is known of how many defects there are. The defect threshold is then where
    ``g(t) = 0.02``: near the best for one defect in ten, see the comment at the constant.

    With a batch of m parts, ``R(t)`` of them at or above t, the number of defects is estimated from below,

        ``D = m max over t of (R/m - g - 1.5 e) / (1 - g)``,  ``e = sqrt(g (1-g) (1/m + 1/n))``,

    ``e`` being the standard error of ``R/m - g`` (Meinshausen and Rice 2006), and so are the defects at or
    above t, ``T = R - (m-D) g - m e / 2``. The threshold is where the F1 to be expected, ``2 T / (R + D)``,
    is largest. Where ``D`` is 0 the batch shows no defects, and the threshold is that without one.

    What is seen: of 2,500 simulated batches of 60 to 600 parts, 3 to 67 % of them defects of all degrees of
    difficulty, 30 to 300 calibration parts, the F1 was 0.15 below that of the best threshold without a
    batch and 0.11 with one (0.06 in batches of 600 whose best is above 0.8). On MTD's test parts, half of
    the good ones calibrating, it was 0.03 and 0.01 below the best of 0.984.

    Either way no more than ``most_overkill`` of the good parts is rejected: the threshold does not fall
    below the conformal one of that rate.

    Args:
        good: ``(n,)`` strangeness of good parts that were not trained on, n >= 2.
        strangeness: ``(m,)`` of an unlabelled batch, in which defects may be; what is not finite is left out.
        alpha_review: Largest share of good parts that is reviewed or rejected, as far as the defect
            threshold allows; raised to ``1/(n+1)``.
        most_overkill: Largest share of good parts that is rejected; raised to ``1/(n+1)``.

    Raises:
        CalibrationError: Fewer than two calibration parts, or a rate is not between 0 and 1.

    Source: Meinshausen, Rice 2006, "Estimating the proportion of false null hypotheses among a large number
    of independently tested hypotheses", Annals of Statistics 34, for ``D``; Lipton, Elkan, Naryanaswamy
    2014, "Optimal thresholding of classifiers to maximize F1 measure", for the threshold of a mixture.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> good, batch = rng.normal(size=200), np.append(rng.normal(size=180), rng.normal(6, 1, size=20))
        >>> found = without_defects(good, batch)
        >>> int((batch[180:] >= found.defect).sum()), int((batch[:180] >= found.defect).sum())
        (20, 0)
    """
    figures = _finite(good, "calibration parts")
    scale = TailScale.fit(figures)
    n = len(figures)
    rates = [max(rate, smallest_alpha(n)) for rate in (alpha_review, most_overkill)]
    conformal = [threshold(figures, rate) for rate in rates]
    unknown = scale.start + scale.excess * math.log(_TAIL_SHARE / _UNKNOWN_DEFECTS)
    batch = np.zeros(0) if strangeness is None else np.asarray(strangeness, dtype=np.float64).ravel()
    batch = batch[np.isfinite(batch)]
    found = _best_f1(scale, batch, conformal[1]) if batch.size else None
    defect = max(unknown if found is None else found[0], conformal[1])
    if not batch.size:
        share = _percent(_UNKNOWN_DEFECTS)
        basis = f"where {share} of good parts would lie beyond it, their tail being exponential"
    elif found is None:
        basis = f"as without a batch, since {len(batch)} parts show no more strange ones than good parts do"
    else:
        basis = f"for the best F1 if {found[1]:.1f} of the batch's {len(batch)} parts are defects"
    return Suggestion(
        min(conformal[0], defect),
        defect,
        f"without labelled defects: {basis}",
        (_flagged(n, max(rates)),),
        (
            f"The defect threshold is an estimate, {basis}; no F1 is promised.",
            *(("A batch whose good parts have drifted shows defects that are none.",) * bool(batch.size)),
            _no_defects(),
            *_few_good(n),
            _DRIFT,
        ),
    )


def by_hand(good: ArrayLike, review: float, defect: float) -> Suggestion:
    """Say what can be promised of two thresholds that a person chose.

    Of each: how many calibration parts lie at or above it, and the exact interval of that share.

    Args:
        good: ``(n,)`` strangeness of good parts that were not trained on.
        review: Strangeness from which a person looks.
        defect: Strangeness from which a part is rejected.

    Raises:
        CalibrationError: Not ``0 <= review <= defect``, or one is not finite.

    Source: Clopper, Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26.

    Example:
        >>> by_hand(range(100), 90, 98).promises[1]
        '2 % of good parts are rejected (overkill), with 95 % confidence 0.243 % to 7.04 %: 2 of 100 \
calibration parts.'
    """
    figures = _finite(good, "calibration parts")
    if not (math.isfinite(review) and math.isfinite(defect) and 0 <= review <= defect):
        raise CalibrationError(
            expected="two finite thresholds, 0 <= review <= defect",
            found=f"review {review}, defect {defect}",
            remedy="Set both to the same strangeness to review nothing.",
        )
    return Suggestion(
        float(review),
        float(defect),
        "set by hand",
        (
            _share_beyond(figures, review, "reviewed or rejected"),
            _share_beyond(figures, defect, "rejected (overkill)"),
        ),
        (
            "The confidence is that of thresholds that were not chosen by looking at the calibration parts.",
            _no_defects(),
            _DRIFT,
        ),
    )


def _share_beyond(figures: Figures, limit: float, what: str) -> str:
    n, beyond = len(figures), int(np.count_nonzero(figures >= limit))
    low, high = _exact_interval(beyond, n)
    return (
        f"{_percent(beyond / n)} of good parts are {what}, with {_percent(_CONFIDENCE)} confidence "
        f"{_percent(low)} to {_percent(high)}: {beyond} of {n} calibration parts."
    )


def _counted(events: int, of: int, what: str) -> str:
    low, high = _exact_interval(events, of)
    return (
        f"{_percent(events / of)} of {what}, with {_percent(_CONFIDENCE)} confidence {_percent(low)} to "
        f"{_percent(high)}: {events} of {of}."
    )


def _largest_f1(good: Figures, bad: Figures) -> float:
    levels = _between(np.concatenate([good, bad]))
    overkill, caught = _at_least(np.sort(good), levels), _at_least(np.sort(bad), levels)
    rejected, right = len(good) * overkill + len(bad) * caught, len(bad) * caught
    return float(levels[np.argmax(2 * right / (rejected + len(bad)))])


def _f1_at(good: Figures, bad: Figures, limit: float) -> float:
    right = int(np.count_nonzero(bad >= limit))
    return 2 * right / (right + int(np.count_nonzero(good >= limit)) + len(bad))


def _best_f1(scale: TailScale, batch: Figures, lowest: float) -> tuple[float, float] | None:
    """Return the threshold of the largest expected F1 and the number of defects, or ``None`` without any."""
    m, n = len(batch), len(scale.body)
    levels = np.unique(batch)
    reached = m * _at_least(np.sort(batch), levels)
    by_chance = 10 ** -scale.strangeness(levels)
    error = np.sqrt(by_chance * (1 - by_chance) * (1 / m + 1 / n))
    # In the lower half more good parts than defects are compared, and 1 - g comes near 0.
    upper = by_chance <= 0.5
    excess = (reached / m - by_chance - _DEFECTS_LOWERED * error)[upper] / (1 - by_chance[upper])
    defects = m * float(excess.max(initial=0.0))
    allowed = np.flatnonzero(levels >= lowest)
    if defects <= 0 or not allowed.size:
        return None
    true = reached - (m - defects) * by_chance - _GOOD_RAISED * m * error
    f1 = 2 * true / (reached + defects)
    best = int(allowed[np.argmax(f1[allowed])])
    if f1[best] <= 0:
        return None
    # Halfway down to the next part: no part of the batch tells where in between.
    return float(_between(levels)[best]), defects


def _between(values: Figures) -> Figures:
    """Return a threshold for each way to divide the values: all, halfway between two, none at or above."""
    distinct = np.unique(values)
    halfway = distinct[:-1] / 2 + distinct[1:] / 2
    halfway = np.where((halfway > distinct[:-1]) & (halfway <= distinct[1:]), halfway, distinct[1:])
    return np.concatenate([distinct[:1], halfway, [np.nextafter(distinct[-1], np.inf)]])


def _at_least(ordered: Figures, levels: Figures) -> Figures:
    """Return the share of ``ordered`` at or above each level."""
    return np.asarray(1 - np.searchsorted(ordered, levels, side="left") / len(ordered))


def _exact_interval(events: int, of: int) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson 1934; `evaluation` has its own."""
    tail = (1 - _CONFIDENCE) / 2
    low = float(stats.beta.ppf(tail, events, of - events + 1)) if events else 0.0
    return low, float(stats.beta.ppf(1 - tail, events + 1, of - events)) if events < of else 1.0


def _finite(values: ArrayLike, what: str) -> Figures:
    figures = np.asarray(values, dtype=np.float64).ravel()
    if not figures.size or not np.isfinite(figures).all():
        raise CalibrationError(
            expected=f"at least one of the {what}, all of finite strangeness",
            found=f"{figures.size}, {int((~np.isfinite(figures)).sum())} of them not finite",
            remedy="Look for unreadable or blank pictures among them.",
        )
    return figures


def _calibrated(n: int, alpha: float) -> str:
    low, high = false_alarm_interval(n, alpha, _BETA_CONFIDENCE)
    return (
        f"{n} calibration parts; {_percent(_BETA_CONFIDENCE)} of such calibrations give "
        f"{_percent(low)} to {_percent(high)}."
    )


def _flagged(n: int, alpha: float) -> str:
    mean = _percent(_rank(n, alpha) / (n + 1))
    return f"On average at most {mean} of good parts are reviewed or rejected: {_calibrated(n, alpha)}"


def _overkill(n: int, alpha: float) -> str:
    mean = _percent(_rank(n, alpha) / (n + 1))
    return f"On average at most {mean} of good parts are rejected (overkill): {_calibrated(n, alpha)}"


def _no_defects() -> str:
    return "No labelled defect was used: nothing is promised of escapes."


def _few_defects(d: int) -> tuple[str, ...]:
    if d >= _FEW_DEFECTS:
        return ()
    bound = 1 - (1 - _CONFIDENCE) ** (1 / d)
    return (
        f"Only {d} labelled defects (fewer than {_FEW_DEFECTS}): even if none escaped, that would show no "
        f"more than an escape rate below {_percent(bound)} with {_percent(_CONFIDENCE)} confidence.",
    )


def _few_good(n: int) -> tuple[str, ...]:
    least = _percent(smallest_alpha(n))
    return (f"No overkill below 1/(n+1) = {least} can be promised with {n} calibration parts.",)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
