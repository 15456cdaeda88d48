"""Which rates a calibration promises, where somebody asks for some and where nobody does."""

from __future__ import annotations

from differnet.detection.detector import Detector
from differnet.records import USUAL_DEFECT, USUAL_REVIEW


def rates_for(
    detector: Detector, alpha_review: float | None, alpha_defect: float | None
) -> tuple[float, float]:
    """Choose the rates to promise, of review and of defects: those asked for, else the model's own.

    Where the model's own is the smallest possible it may have been raised to it for want of parts; the usual
    one is then taken where that is smaller.

    Args:
        detector: The model; thresholds that a person set for it play no part.
        alpha_review: Asked for.
        alpha_defect: Asked for.
    """
    own, smallest = detector.settings, detector.facts()["calibration"]["smallest_alpha"]
    review, defect = (
        (min(rate, usual) if rate <= smallest else rate) if asked is None else asked
        for asked, rate, usual in (
            (alpha_review, own.alpha_review, USUAL_REVIEW),
            (alpha_defect, own.alpha_defect, USUAL_DEFECT),
        )
    )
    return review, defect
