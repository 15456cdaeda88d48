"""What a person may wish of two thresholds, and what follows from it: one logic for command line and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from differnet import calibration as rules
from differnet.calibration import Suggestion
from differnet.records import USUAL_REVIEW, DiffernetError
from differnet.reporting.counts import Truth
from differnet.tuning.parts import Parts

Figures = NDArray[np.float64]

# The wishes that each ask for thresholds by a rule of their own.
RULES = ("max_overkill", "max_escape", "cost_overkill", "review_budget", "fdr", "no_defects", "best_f1")
# What belongs to a rule, and to no other.
COMPANIONS = {
    "max_review": "max_overkill",
    "confidence": "max_escape",
    "cost_escape": "cost_overkill",
    "cost_review": "cost_overkill",
    "defect_share": "cost_overkill",
    "split": "best_f1",
}
# They look at inspected parts: labelled ones, or the batch that is asked about.
NEED_PARTS = ("max_escape", "cost_overkill", "fdr", "best_f1")
USUAL_CONFIDENCE = 0.95


class WishError(DiffernetError):
    """Several wishes at once, none, or half of one."""


@dataclass(frozen=True)
class Wish:
    """What is asked of two thresholds; each is ``None`` where it is not.

    Attributes:
        max_overkill: Largest share of good parts that is rejected.
        max_review: Beside it the share that is reviewed or rejected; `USUAL_REVIEW` where nobody says.
        max_escape: Largest share of defects that passes.
        confidence: Beside it, that no more does; `USUAL_CONFIDENCE` where nobody says.
        cost_overkill: Of a good part that is rejected.
        cost_escape, defect_share: Beside it, of a defect that passes, and the share of defects on the line.
        cost_review: Beside it, of a look; nothing is reviewed where nobody says.
        review_budget: Largest share of good parts that goes to review.
        fdr: Share of good parts among the rejected of the batch.
        no_defects: Near the best F1 without one labelled defect.
        best_f1: Of the labelled parts.
        split: Beside it, choose on one half of them and measure on the other.
    """

    max_overkill: float | None = None
    max_review: float | None = None
    max_escape: float | None = None
    confidence: float | None = None
    cost_overkill: float | None = None
    cost_escape: float | None = None
    cost_review: float | None = None
    defect_share: float | None = None
    review_budget: float | None = None
    fdr: float | None = None
    no_defects: bool | None = None
    best_f1: bool | None = None
    split: bool | None = None

    @property
    def rule(self) -> str:
        """The one rule that is asked for.

        Raises:
            WishError: None or several are, or half of one, or something that belongs to another rule.
        """
        return self.rule_in(str)

    def rule_in(self, spell: Callable[[str], str], offered: tuple[str, ...] = RULES) -> str:
        """Return the one rule that is asked for, and name wishes in a message as a person knows them.

        Args:
            spell: Writes a wish's name, such as an option of a command.
            offered: The rules that this person may ask for.

        Raises:
            WishError: As `rule`.
        """
        asked = {f.name for f in fields(self) if getattr(self, f.name) is not None}
        found = [name for name in RULES if name in asked]
        if len(found) != 1:
            raise WishError(
                expected=f"exactly one of {', '.join(map(spell, offered))}",
                found=" and ".join(map(spell, found)) or "none",
                remedy="Ask for one at a time.",
            )
        for name, of in COMPANIONS.items():
            if name in asked and of != found[0]:
                raise WishError(
                    expected=f"what belongs to {spell(found[0])}",
                    found=f"{spell(name)}, which belongs to {spell(of)}",
                    remedy="Leave it out.",
                )
        if found[0] == "cost_overkill" and not {"cost_escape", "defect_share"} <= asked:
            raise WishError(
                expected=f"{spell('cost_escape')} and {spell('defect_share')} beside {spell(found[0])}",
                found="not both",
                remedy="Say what an escape costs, and how many parts are defects.",
            )
        return found[0]


@dataclass(frozen=True)
class Evidence:
    """What suggestions rest on.

    Attributes:
        good: ``(n,)`` strangeness of good parts that were not trained on: those of the calibration.
        batch: Strangeness of all parts of a run, whatever they are; empty where there is none.
        labelled_good: Of those of which somebody said that they are good.
        defects: Of those of which somebody said that they are defects.
    """

    good: Figures
    batch: Figures
    labelled_good: Figures
    defects: Figures

    @classmethod
    def of(cls, good: ArrayLike, parts: Parts | None = None) -> Evidence:
        """Gather it from the calibration's parts and those of a run."""
        none = np.zeros(0)
        if parts is None:
            return cls(np.asarray(good, dtype=np.float64), none, none, none)
        return cls(
            np.asarray(good, dtype=np.float64),
            parts.strangeness_of(),
            parts.strangeness_of(Truth.GOOD),
            parts.strangeness_of(Truth.DEFECT),
        )


def suggest(wish: Wish, evidence: Evidence) -> Suggestion:
    """Follow a wish.

    Args:
        wish: What is asked for.
        evidence: The parts that it is answered from.

    Raises:
        WishError: Not one wish, whole.
        CalibrationError: The parts cannot carry the promise, or there are no labelled defects.

    Example:
        >>> found = suggest(Wish(max_overkill=0.01), Evidence.of(range(999)))
        >>> found.rule
        'overkill: 5 % of good parts reviewed or rejected, 1 % rejected'
    """
    rule, good = wish.rule, evidence.good
    if rule == "max_overkill" and wish.max_overkill is not None:
        usual = max(USUAL_REVIEW, wish.max_overkill)
        return rules.by_overkill(
            good, usual if wish.max_review is None else wish.max_review, wish.max_overkill
        )
    if rule == "max_escape" and wish.max_escape is not None:
        sure = USUAL_CONFIDENCE if wish.confidence is None else wish.confidence
        return rules.by_escape(good, evidence.defects, wish.max_escape, sure)
    costs = wish.cost_overkill, wish.cost_escape, wish.defect_share
    if rule == "cost_overkill" and costs[0] is not None and costs[1] is not None and costs[2] is not None:
        return rules.by_cost(good, evidence.defects, costs[0], costs[1], costs[2], wish.cost_review)
    if rule == "review_budget" and wish.review_budget is not None:
        return rules.by_review_budget(good, wish.review_budget)
    if rule == "fdr" and wish.fdr is not None:
        return rules.by_fdr(good, evidence.batch, wish.fdr)
    if rule == "best_f1":
        return rules.by_f1(evidence.labelled_good, evidence.defects, split=bool(wish.split))
    return rules.without_defects(good, evidence.batch if evidence.batch.size else None)
