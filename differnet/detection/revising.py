"""Thresholds that a person set for a model: where they are kept, and how they come into force.

A bundle holds what was learned, and refuses any further file. What a person decides on top lies beside it,
in ``<model>.thresholds.jsonl``, a file that is only added to: see `differnet.calibration.Revisions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from differnet.calibration import Revision, Revisions

if TYPE_CHECKING:
    from differnet.detection.inspector import Inspector

_ENDING = ".thresholds.jsonl"


@dataclass(frozen=True)
class InForce:
    """What a model judges by.

    Attributes:
        revision: That was put in force; ``None`` where the calibration's own thresholds are.
        ignored: The last revision where it is for another model or calibration, and none is in force.
    """

    revision: Revision | None = None
    ignored: Revision | None = None


def revisions_of(folder: Path) -> Revisions:
    """Return the thresholds that were ever set for the model in ``folder``; the file need not be there."""
    # Of a link the model's own folder counts, and "." has no name to put the ending to.
    place = folder.resolve()
    return Revisions(place.with_name(place.name + _ENDING))


def belongs(revision: Revision, detector: Inspector) -> bool:
    """Tell whether a revision is for this model and this calibration."""
    facts = detector.facts()
    return _is_for(revision, facts["model_id"], facts["calibration_id"])


def revision_of(detector: Inspector, folder: Path) -> Revision | None:
    """Return the revision whose thresholds a detector judges by.

    Args:
        detector: Loaded from ``folder``.
        folder: Of the model.

    Returns:
        The revision; ``None`` where the calibration's own thresholds are in force.

    Raises:
        RevisionError: The file of revisions is damaged.
    """
    number = detector.threshold_revision
    known = revisions_of(folder).history() if number else ()
    return next((each for each in known if each.number == number and belongs(each, detector)), None)


def in_force(detector: Inspector, folder: Path) -> InForce:
    """Find the revision that is in force for a model in ``folder``, and change nothing.

    The file is of a place: models that stood there before, and after, have theirs in it too. The last one of
    this very model counts; where it is for another calibration, none is in force.

    Raises:
        RevisionError: The file of revisions is damaged.
    """
    kept = revisions_of(folder).history()
    # Its facts cost something, and mostly nobody ever set a threshold.
    return InForce() if not kept else _last_of(kept, detector.model_id, detector.facts()["calibration_id"])


def revision_in_force(folder: Path, model_id: str, calibration_id: str) -> InForce:
    """Find the revision in force for a model that need not be loaded, as `in_force` does.

    Args:
        folder: Of the model.
        model_id: As its bundle says.
        calibration_id: As its bundle says.

    Raises:
        RevisionError: The file of revisions is damaged.
    """
    kept = revisions_of(folder).history()
    return InForce() if not kept else _last_of(kept, model_id, calibration_id)


def _last_of(kept: tuple[Revision, ...], model_id: str, calibration_id: str) -> InForce:
    own = [revision for revision in kept if revision.model_id == model_id]
    last = own[-1] if own else kept[-1]
    return InForce(last) if _is_for(last, model_id, calibration_id) else InForce(ignored=last)


def _is_for(revision: Revision, model_id: str, calibration_id: str) -> bool:
    return (revision.model_id, revision.calibration_id) == (model_id, calibration_id)


def adopt_current(detector: Inspector, folder: Path) -> InForce:
    """Put the current revision of a model in force.

    Args:
        detector: Loaded from ``folder``.
        folder: Of the model.

    Returns:
        What is in force now. A revision for another model or calibration is not: its figures are measured on
        another scale.

    Raises:
        RevisionError: The file of revisions is damaged.
    """
    found = in_force(detector, folder)
    if found.revision is not None:
        revision = found.revision
        detector.adopt_thresholds(revision.review, revision.defect, revision.number)
    return found
