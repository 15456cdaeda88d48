"""`differnet promote`: put a new model in the place of the one in use, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differnet.cli.data import JsonOption
from differnet.cli.db import USUAL_PLACE, PlaceOption, open_record
from differnet.cli.exits import RefusedError
from differnet.cli.retrain import show_comparison
from differnet.cli.review import ByOption
from differnet.cli.terminal import Terminal, terminal
from differnet.cli.threshold import person
from differnet.cli.train import load_model

if TYPE_CHECKING:
    from differnet.reviewing import Replaced


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
    from differnet.reviewing import replace_model, weigh

    old_detector, new_detector = load_model(model), load_model(new)
    weighed = weigh(new, model, new_detector, old_detector)
    compared, against = weighed.comparison, weighed.against
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
    with open_record(place) as store:
        done = replace_model(store, weighed, author=author, reason=reason, anyway=anyway)
    _tell(shown, done, as_json)


def _go_back(model: Path, reason: str, author: str, place: str, as_json: bool) -> None:
    shown = terminal()
    _mend(shown, model)
    from differnet.reviewing import require_previous, return_to_previous

    # The one in use may be damaged; the one that is to come must not be.
    detector = load_model(require_previous(model))
    with open_record(place) as store:
        done = return_to_previous(store, model, detector, author=author, reason=reason)
    _tell(shown, done, as_json)


def _mend(shown: Terminal, model: Path) -> None:
    from differnet.reviewing import recover

    if recover(model):
        shown.warn("an earlier promotion was cut off; it has been finished or undone.")


def _tell(shown: Terminal, done: Replaced, as_json: bool) -> None:
    if not done.in_one_step:
        shown.warn(
            "this file system cannot exchange two folders in one step: for an instant there was no model. "
            "What a loss of power leaves in that instant is mended by the next differnet promote."
        )
    if as_json:
        shown.write_json({"model": done.model, "previous": done.previous, **done.facts})
        return
    shown.note(done.words)
    shown.write(str(done.model))
    shown.note(f"To return: differnet promote --back {done.model} --reason WHY")
    shown.note(
        "Programs that have loaded the model before go on with the old one until they are started again."
    )
