"""From calibrated evidence to a verdict with its reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass

from differnet.records import Verdict

# A picture that shows less than any good part is no part, however probable: one good part in a million by the
# extrapolated exponential tail, not by counting.
OOD_STRANGENESS = 6.0

# Why a picture of the training set is no PASS. Too probable is a matter of course there.
LEARNED = (
    "the model was trained on this very picture, and knows it by heart: no error rate holds for it; a new "
    "picture of the part is wanted"
)


@dataclass(frozen=True)
class Thresholds:
    """Limits on strangeness. At or above ``review`` a person looks; at or above ``defect`` it is one.

    ``ood`` limits the strangeness of being too probable.
    """

    review: float
    defect: float
    ood: float = OOD_STRANGENESS


@dataclass(frozen=True)
class CalibratedEvidence:
    """What is known of one part on calibrated scales.

    Attributes:
        total: Strangeness of the part, all evidence together.
        whole: Strangeness of the part's pooled statistics (global density).
        local: Strangeness of its strangest patches (local density).
        spread: Strangeness of its median cell: is most of the picture strange?
        blandness: Strangeness of that median cell on the side of being too probable.
        wrongness: From 0 on it looks like a wrong input rather than a defect, see `OriginRule`.
        p_value, p_value_whole, p_value_local, p_value_spread: Conformal p-values, of the combined
            strangeness and of each evidence alone.
        quality_flags: Facts of the pixels such as ``constant``.
        learned: Whether the model was trained on this very picture, so that finding it usual says nothing.
        healthy: False when the model itself failed its checks.
        promised: False where the p-values are shares of variations of very few parts: no reason tells them.
    """

    total: float
    whole: float
    local: float
    spread: float
    blandness: float
    wrongness: float
    p_value: float
    p_value_whole: float
    p_value_local: float
    p_value_spread: float
    quality_flags: tuple[str, ...] = ()
    learned: bool = False
    healthy: bool = True
    promised: bool = True


def decide(evidence: CalibratedEvidence, thresholds: Thresholds) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict and its reasons, the strongest first.

    The order matters: what is not finite is INVALID before anything else is asked, so that a
    comparison with NaN can never pass a part.
    """
    figures = (
        *(evidence.total, evidence.whole, evidence.local, evidence.spread),
        *(evidence.blandness, evidence.wrongness),
        *(evidence.p_value, evidence.p_value_whole, evidence.p_value_local, evidence.p_value_spread),
        *(thresholds.review, thresholds.defect, thresholds.ood),
    )
    if not evidence.healthy:
        return Verdict.INVALID, ("the model failed its self-test; nothing it says counts",)
    if not all(math.isfinite(figure) for figure in figures):
        return Verdict.INVALID, ("the evidence is not a finite number",)
    if evidence.quality_flags:
        return Verdict.OOD, tuple(_FLAG_REASONS.get(flag, flag) for flag in evidence.quality_flags)
    strange = evidence.total >= thresholds.review
    rejected = evidence.total >= thresholds.defect
    if rejected and evidence.wrongness >= 0:
        return Verdict.OOD, (
            "most of the picture is unlike the good parts: another product, view, light or focus",
            *_reasons(evidence),
        )
    if evidence.blandness >= thresholds.ood:
        return Verdict.OOD, (
            "the picture is too probable to be a real part: its patches vary less than any good part's",
            *_reasons(evidence),
        )
    if rejected:
        return Verdict.DEFECT, _reasons(evidence)
    if strange:
        return Verdict.REVIEW, _reasons(evidence)
    if evidence.learned:
        return Verdict.REVIEW, (LEARNED,)
    if not evidence.promised:
        return Verdict.PASS, ("no stranger than the few good parts and variations of them",)
    return Verdict.PASS, (f"as probable as good parts (p = {evidence.p_value:.3g})",)


_FLAG_REASONS = {
    "constant": "the picture is one flat colour",
    "black": "the picture is black: no light, or the lens is covered",
    "white": "the picture is white: hopelessly over-exposed",
}


def _reasons(evidence: CalibratedEvidence) -> tuple[str, ...]:
    def beside(p_value: float) -> str:
        return (
            f"(p = {p_value:.3g})"
            if evidence.promised
            else "beside the few good parts and variations of them"
        )

    told = [
        (evidence.local, f"some patches are improbable {beside(evidence.p_value_local)}"),
        (evidence.whole, f"the part as a whole is improbable {beside(evidence.p_value_whole)}"),
    ]
    return tuple(text for _, text in sorted(told, key=lambda pair: -pair[0]))
