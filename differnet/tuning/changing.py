"""Put thresholds in force for a model, take them back, and see who did so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from differnet.calibration import Revision, Suggestion, by_hand
from differnet.detection import read_good_parts, revisions_of
from differnet.records import DiffernetError
from differnet.store import RevisionEntry, Store, StoreError


class ChangeError(DiffernetError):
    """Thresholds that may not be put in force, or that the record could not be told of."""


@dataclass(frozen=True)
class Place:
    """A model whose thresholds somebody changes.

    Attributes:
        folder: Of its bundle.
        model_id, calibration_id: Whose strangeness the thresholds are for.
        last: Number of the last revision that this person has seen, 0 for none.
    """

    folder: Path
    model_id: str
    calibration_id: str
    last: int


def put_in_force(store: Store, place: Place, chosen: Suggestion, *, author: str, reason: str) -> Revision:
    """Put thresholds in force for a model, and let the record know.

    The file beside the model counts; the record is told after it. Verdicts that were given stay as they are.

    Args:
        store: The record, which knows the model.
        place: Of the model.
        chosen: The thresholds with their promises.
        author: Who decides.
        reason: Why.

    Raises:
        ChangeError: The folder holds another model or calibration, or the thresholds are in force and the
            record refused to be told.
        BundleError: The model is gone or damaged.
        RevisionError: Nobody or nothing is named, somebody else set thresholds meanwhile, or the disk
            refused.
    """
    _require_same(place)
    revision = revisions_of(place.folder).append(
        chosen,
        author=author.strip(),
        reason=reason.strip(),
        model_id=place.model_id,
        calibration_id=place.calibration_id,
        after=place.last,
    )
    return _tell(store, revision)


def roll_back(store: Store, place: Place, number: int, *, author: str, reason: str) -> Revision:
    """Put the thresholds of an earlier revision in force again, as a new one.

    Args:
        store: The record, which knows the model.
        place: Of the model.
        number: Of the earlier revision.
        author: Who decides.
        reason: Why.

    Raises:
        ChangeError: The revision is of another model or calibration; or as `put_in_force`.
        BundleError: The model is gone or damaged.
        RevisionError: As `put_in_force`, or there is no such revision.
    """
    _require_same(place)
    kept = revisions_of(place.folder)
    earlier = next((revision for revision in kept.history() if revision.number == number), None)
    ours = place.model_id, place.calibration_id
    if earlier is not None and (earlier.model_id, earlier.calibration_id) != ours:
        raise ChangeError(
            expected=f"a revision for model {ours[0]} and its calibration {ours[1]}",
            found=f"revision {number} for model {earlier.model_id}, calibration {earlier.calibration_id}",
            remedy="Thresholds of another calibration mean something else here: choose new ones.",
        )
    revision = kept.rollback(number, author=author.strip(), reason=reason.strip(), after=place.last)
    return _tell(store, revision)


def history_of(folder: Path, holding: str | None = None) -> tuple[Revision, ...]:
    """Return every revision that was ever in force in a model's place, the newest first.

    Args:
        folder: Of the model.
        holding: sha256 of a revision that a run has kept: that the file still has it is checked.

    Raises:
        RevisionError: A line was changed, removed, moved or cut off, or the one kept elsewhere is missing.
    """
    return revisions_of(folder).history(holding)[::-1]


def set_by_hand(
    good: ArrayLike, parts: int, t_review: float, t_defect: float, *, promised: bool
) -> Suggestion:
    """Say what can be promised of two thresholds that a person chose, to be put in force.

    Args:
        good: ``(n,)`` strangeness of the calibration parts.
        parts: Different parts behind them.
        t_review: T1.
        t_defect: T2.
        promised: Whether a rate of them holds for new good parts.

    Raises:
        CalibrationError: Not ``0 <= T1 <= T2``, or one is not finite.

    Example:
        >>> set_by_hand(range(100), 2, 90, 98, promised=False).cannot[0]
        'Nothing is promised: the model was calibrated on variations of 2.'
    """
    found = by_hand(good, t_review, t_defect)
    if promised:
        return found
    few = f"Nothing is promised: the model was calibrated on variations of {parts}."
    return Suggestion(found.review, found.defect, found.rule, (), (few, *found.cannot))


def _require_same(place: Place) -> None:
    found = read_good_parts(place.folder)
    if (found.model_id, found.calibration_id) != (place.model_id, place.calibration_id):
        raise ChangeError(
            expected=f"model {place.model_id} with calibration {place.calibration_id} in {place.folder}",
            found=f"model {found.model_id} with calibration {found.calibration_id}",
            remedy="Inspect parts with the model that is there now, and tune on that run.",
        )


def _tell(store: Store, revision: Revision) -> Revision:
    try:
        store.add_revision(
            RevisionEntry(
                revision.model_id,
                revision.calibration_id,
                revision.number,
                revision.review,
                revision.defect,
                revision.author,
                revision.reason,
                revision.rule,
                revision.time,
            )
        )
        store.note(
            revision.author,
            "set thresholds" if revision.rolled_back_to is None else "rolled thresholds back",
            f"model {revision.model_id}",
            {"revision": revision.number, "sha256": revision.sha256, "reason": revision.reason},
        )
    except StoreError as error:
        raise ChangeError(
            expected="the record to be told of the thresholds",
            found=f"{error.found}",
            remedy=f"Revision {revision.number} is in force; the next run that uses it tells the record.",
        ) from error
    return revision
