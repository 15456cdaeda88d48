"""Put a new model in the place of the one in use, or return, and note in the record who did it and why.

What the command `differnet promote` and the page Models share: the steps in their order, whatever fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet.reviewing.comparing import Comparison, kept_comparison
from differnet.reviewing.promotion import (
    PromotionError,
    carry_thresholds,
    keep_thresholds_beside_previous,
    no_previous,
    objections,
    previous_of,
    promote,
    put_back,
)
from differnet.store import Store

if TYPE_CHECKING:
    from differnet.detection import Detector

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Weighed:
    """A new model beside the one in use, with what speaks against it.

    Attributes:
        new, model: Their folders.
        new_detector, old_detector: Loaded from them, with the thresholds in force.
        comparison: That is kept beside the new model, if any.
        against: Sentences; none where nothing does.
    """

    new: Path
    model: Path
    new_detector: Detector
    old_detector: Detector
    comparison: Comparison | None
    against: tuple[str, ...]


@dataclass(frozen=True)
class Replaced:
    """A model that took another one's place.

    Attributes:
        model: The place.
        previous: Where the other one is kept.
        facts: What the record's audit trail says of it: reason, from, to, and of a promotion where the new
            one came from and what spoke against it.
        in_one_step: Whether there was a model at every instant.
    """

    model: Path
    previous: Path
    facts: dict[str, Any]
    in_one_step: bool

    @property
    def words(self) -> str:
        """Say what is where now."""
        before = "the other" if self.facts["from"] is None else self.facts["from"][:8]
        return (
            f"Model {self.facts['to'][:8]} is in place at {self.model}; {before} is kept as "
            f"{self.previous.name}."
        )


def weigh(new: Path, model: Path, new_detector: Detector, old_detector: Detector) -> Weighed:
    """Ask what speaks against putting a new model in the place of the one in use.

    Args:
        new: Folder of the new model.
        model: Folder of the one in use.
        new_detector: Loaded from ``new``, with the thresholds in force.
        old_detector: Loaded from ``model``, likewise.

    Raises:
        PromotionError: They are the same model and calibration.
        ComparisonError: What is kept beside the new model is no comparison.
    """
    names = ("model_id", "calibration_id")
    if all(new_detector.facts()[name] == old_detector.facts()[name] for name in names):
        raise PromotionError(
            expected=f"another model than the one at {model}",
            found=f"the same at {new}",
            remedy="It is in its place already. To return to the one before: --back.",
        )
    compared = kept_comparison(new)
    against = objections(compared, old_detector, new_detector)
    return Weighed(new, model, new_detector, old_detector, compared, against)


def replace_model(
    store: Store, weighed: Weighed, *, author: str, reason: str, anyway: bool = False
) -> Replaced:
    """Put a new model in the place of the one in use; the old one becomes ``MODEL.previous``.

    Args:
        store: The record, which is told before and after, so that it also tells of one that was cut off.
        weighed: The two.
        author: Who does it.
        reason: Why.
        anyway: Also where something speaks against it.

    Raises:
        PromotionError: Something speaks against it, or it cannot be done, see `promote`.
        RevisionError: A file of thresholds is damaged, or the disk refused.
        StoreError: The record refused; nothing was changed.
        OSError: The disk refused.
    """
    if weighed.against and not anyway:
        raise PromotionError(
            expected="a new model that a comparison on the same pictures finds no worse",
            found="; ".join(weighed.against),
            remedy=f"{weighed.model} is as it was. Compare the two, or promote it anyway.",
        )
    facts: dict[str, Any] = {
        "reason": reason,
        "from": weighed.old_detector.model_id,
        "to": weighed.new_detector.model_id,
        "source": str(weighed.new.resolve()),
        "anyway": anyway,
        "against": list(weighed.against),
    }
    place = weighed.model
    store.note(author, "begin promotion", str(place.resolve()), facts)
    carry_thresholds(weighed.new, place, weighed.new_detector, author, reason)
    keep_thresholds_beside_previous(place)
    in_one_step = promote(weighed.new, place)
    store.note(author, "promote", str(place.resolve()), facts)
    return _placed(store, Replaced(place, previous_of(place), facts, in_one_step))


def require_previous(model: Path) -> Path:
    """Return where the model is kept that stood at ``model`` before.

    Raises:
        PromotionError: There is none.
    """
    previous = previous_of(model)
    if not (previous / _MANIFEST).is_file():
        raise no_previous(model)
    return previous


def return_to_previous(
    store: Store, model: Path, previous_detector: Detector, *, author: str, reason: str
) -> Replaced:
    """Exchange a model with the previous one; asked again, it exchanges them again.

    Args:
        store: The record, which is told before and after.
        model: Folder of the model in use, which may be damaged.
        previous_detector: Loaded from `require_previous`; the one that is to come must be sound.
        author: Who does it.
        reason: Why.

    Raises:
        PromotionError: There is no previous one.
        RevisionError: A file of thresholds is damaged, or the disk refused.
        StoreError: The record refused; nothing was changed.
        OSError: The disk refused.
    """
    previous = require_previous(model)
    facts: dict[str, Any] = {"reason": reason, "from": told_id(model), "to": previous_detector.model_id}
    store.note(author, "begin return", str(model.resolve()), facts)
    carry_thresholds(previous, model, previous_detector, author, reason)
    keep_thresholds_beside_previous(model)
    in_one_step = put_back(model)
    store.note(author, "return to previous model", str(model.resolve()), facts)
    return _placed(store, Replaced(model, previous, facts, in_one_step))


def told_id(model: Path) -> str | None:
    """Return which model a manifest says it is; the model need not be sound."""
    try:
        return str(json.loads((model / _MANIFEST).read_bytes())["model_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _placed(store: Store, done: Replaced) -> Replaced:
    """Tell the record where the two lie now, as far as it knows them."""
    store.place_model(done.facts["to"], done.model)
    if done.facts["from"] not in (None, done.facts["to"]):
        store.place_model(done.facts["from"], done.previous)
    return done
