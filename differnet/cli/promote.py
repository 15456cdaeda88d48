"""`differnet promote`: put a new model in the place of the one in use, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from differnet.cli.data import JsonOption
from differnet.cli.db import USUAL_PLACE, PlaceOption, open_record
from differnet.cli.exits import RefusedError
from differnet.cli.retrain import show_comparison
from differnet.cli.review import ByOption
from differnet.cli.terminal import Terminal, terminal
from differnet.cli.threshold import person
from differnet.cli.train import MANIFEST, load_model

if TYPE_CHECKING:
    from differnet.detection import Detector


def promote(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="NEW MODEL", help="The new model and the one in use; with --back MODEL alone."
        ),
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept.")],
    by: ByOption = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where the comparison speaks against it, or there is none.")
    ] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Return to the previous model; asked again, it returns once more.")
    ] = False,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Put a new model in the place of the one in use. The old one is kept as MODEL.previous.

    Refused (exit code 3) unless `differnet retrain` has compared these very two models, and the new one is
    not significantly worse and neither rejects more good parts nor passes more defects. Where the file system
    can exchange folders (on Linux and macOS most can) there is the old model or the new one at every moment,
    each with its own thresholds. Who, when and why is noted in the record.
    """
    if len(places) != (1 if back else 2):
        raise typer.BadParameter("give MODEL alone" if back else "give two folders: NEW MODEL")
    if back and anyway:
        raise typer.BadParameter("--anyway belongs to a promotion; going back asks for no comparison")
    if not reason.strip():
        raise typer.BadParameter("--reason wants to know why")
    author = by or person("--by")
    if back:
        _go_back(places[0], reason, author, place, as_json)
    else:
        _promote(places[0], places[1], reason, author, place, anyway=anyway, as_json=as_json)


def _promote(
    new: Path, model: Path, reason: str, author: str, place: str, *, anyway: bool, as_json: bool
) -> None:
    shown = terminal()
    _mend(shown, model)
    from differnet.reviewing import (
        carry_thresholds,
        keep_thresholds_beside_previous,
        kept_comparison,
        objections,
        previous_of,
    )
    from differnet.reviewing import promote as put_in_place

    old_detector, new_detector = load_model(model), load_model(new)
    _require_another(new, model, new_detector, old_detector)
    compared = kept_comparison(new)
    against = objections(compared, old_detector, new_detector)
    if compared is not None and (against or not anyway):
        show_comparison(shown, compared)
        shown.blank()
    if against and not anyway:
        raise RefusedError(
            expected="a new model that a comparison on the same pictures finds no worse",
            found="; ".join(against),
            remedy=f"{model} is as it was. Compare with differnet retrain, or promote it --anyway.",
        )
    for sentence in against:
        shown.warn(f"promoted anyway: {sentence}")
    facts: dict[str, Any] = {
        "reason": reason,
        "from": old_detector.model_id,
        "to": new_detector.model_id,
        "source": str(new.resolve()),
        "anyway": anyway,
        "against": list(against),
    }
    with open_record(place) as store:
        # Noted before and after, so that the record also tells of one that was cut off.
        store.note(author, "begin promotion", str(model.resolve()), facts)
        carry_thresholds(new, model, new_detector, author, reason)
        keep_thresholds_beside_previous(model)
        in_one_step = put_in_place(new, model)
        store.note(author, "promote", str(model.resolve()), facts)
    _tell(shown, model, facts, previous_of(model), in_one_step, as_json)


def _go_back(model: Path, reason: str, author: str, place: str, as_json: bool) -> None:
    shown = terminal()
    _mend(shown, model)
    from differnet.reviewing import (
        carry_thresholds,
        keep_thresholds_beside_previous,
        no_previous,
        previous_of,
        put_back,
    )

    previous = previous_of(model)
    if not (previous / MANIFEST).is_file():
        raise no_previous(model)
    # The one in use may be damaged; the one that is to come must not be.
    detector = load_model(previous)
    facts: dict[str, Any] = {"reason": reason, "from": _told_id(model), "to": detector.model_id}
    with open_record(place) as store:
        store.note(author, "begin return", str(model.resolve()), facts)
        carry_thresholds(previous, model, detector, author, reason)
        keep_thresholds_beside_previous(model)
        in_one_step = put_back(model)
        store.note(author, "return to previous model", str(model.resolve()), facts)
    _tell(shown, model, facts, previous, in_one_step, as_json)


def _mend(shown: Terminal, model: Path) -> None:
    from differnet.reviewing import recover

    if recover(model):
        shown.warn("an earlier promotion was cut off; it has been finished or undone.")


def _require_another(new: Path, model: Path, theirs: Detector, ours: Detector) -> None:
    names = ("model_id", "calibration_id")
    if all(theirs.facts()[name] == ours.facts()[name] for name in names):
        from differnet.reviewing import PromotionError

        raise PromotionError(
            expected=f"another model than the one at {model}",
            found=f"the same at {new}",
            remedy="It is in its place already. To return to the one before: --back.",
        )


def _told_id(model: Path) -> str | None:
    """Return which model a manifest says it is; the model need not be sound."""
    try:
        return str(json.loads((model / MANIFEST).read_bytes())["model_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _tell(
    shown: Terminal, model: Path, facts: dict[str, Any], previous: Path, in_one_step: bool, as_json: bool
) -> None:
    if not in_one_step:
        shown.warn(
            "this file system cannot exchange two folders in one step: for an instant there was no model. "
            "What a loss of power leaves in that instant is mended by the next differnet promote."
        )
    if as_json:
        shown.write_json({"model": model, "previous": previous, **facts})
        return
    before = "the other" if facts["from"] is None else facts["from"][:8]
    shown.note(f"Model {facts['to'][:8]} is in place at {model}; {before} is kept as {previous.name}.")
    shown.write(str(model))
    shown.note(f"To return: differnet promote --back {model} --reason WHY")
    shown.note(
        "Programs that have loaded the model before go on with the old one until they are started again."
    )
