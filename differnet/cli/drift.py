"""`differnet drift`: is what comes now still what the model was calibrated on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.db import USUAL_PLACE, PlaceOption, open_record
from differnet.cli.exits import ExitCode
from differnet.cli.inspect import Wanted, expand
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.train import NAMED_SKIPS, DeviceOption, PlaceError, load_model

# Every run has one; a folder with it holds previews, which no model was calibrated on.
RUN_FACTS = "run.json"

app = typer.Typer(no_args_is_help=True, help="Ask whether parts are still like the calibration parts.")


@app.callback()
def _drift() -> None:
    """Ask whether parts are still like the calibration parts."""


@app.command("check")
def check(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")],
    places: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGES_OR_RUN...]", help="Pictures, folders of them, or runs of them."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="A run of the record instead; see --db.")
    ] = None,
    latest: Annotated[
        int | None, typer.Option("--latest", metavar="NUMBER", min=1, help="With --run: its latest parts.")
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha", metavar="SHARE", min=1e-6, max=0.5, help="Chance of an alarm though nothing changed."
        ),
    ] = 0.01,
    layout: LayoutOption = "auto",
    device: DeviceOption = "auto",
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Is this batch still what the model was calibrated on? Exit code 3 when it is not.

    Compared are how the pictures look and how improbable they are. Defects are a change as well: parts whose
    folder, or in the record a person, calls them defective are left out, and a batch without labels should
    hold few.
    """
    if (run is None) == (not places) or (latest is not None and run is None):
        raise typer.BadParameter("give pictures and runs in folders, or --run NAME with or without --latest")
    shown = terminal()
    if run is not None:
        paths, lost = _of_record(shown, place, run, latest)
    else:
        wanted = [item for each in places or () for item in _wanted(shown, each, layout)]
        paths, lost = [item.path for item in good_or_unknown(shown, wanted)], 0
    detector = load_model(model, device)
    with shown.steps() as steps:
        found = detector.drift(paths, alpha, steps)
    for path, reason in detector.skipped[:NAMED_SKIPS]:
        shown.warn(f"left out {path}: {reason}")
    if len(detector.skipped) > NAMED_SKIPS:
        shown.warn(f"left out {len(detector.skipped) - NAMED_SKIPS:,} more files")
    from differnet.calibration import movement_words

    words = [movement_words(moved) for moved in found.moved]
    parts = len(paths) - len(detector.skipped)
    if as_json:
        shown.write_json(
            {
                "drifted": found.alarm,
                "p_value": found.p_value,
                "alpha": alpha,
                "parts": parts,
                "calibration_parts": detector.facts()["calibration"]["parts"],
                "words": words,
                "statistics": [asdict(each) for each in found.statistics],
                "skipped": len(detector.skipped) + lost,
            }
        )
    else:
        rows = [
            (each.name, f"{each.deviations:+.2f}", f"{each.spread:.2f}", f"{each.p_value:.4f}")
            for each in found.statistics
        ]
        columns = ("", "moved, deviations", "spread, times", "p")
        shown.write_table(plain_table(columns, rows, numbers=3))
        what = "has drifted" if found.alarm else "shows no drift"
        shown.tell(
            f"This batch of {parts:,} {what} (p = {found.p_value:.2g}, false alarms {100 * alpha:.3g} %)."
        )
        for sentence in words:
            shown.tell(f"  {sentence}")
    if found.alarm:
        shown.note("What is promised of good parts does not hold for such a batch. Look for the cause, or")
        shown.note(f"calibrate on parts as they are now: differnet calibrate {model} GOOD")
        raise typer.Exit(ExitCode.FAIL_ON)
    if detector.skipped or lost:
        raise typer.Exit(ExitCode.QUARANTINED)


def _wanted(shown: Terminal, place: Path, layout: str) -> list[Wanted]:
    if not (place / RUN_FACTS).is_file():
        return expand(shown, [place], layout)
    from differnet.reporting import RunFolder

    wanted = [Wanted(Path(record.path), record.label) for record in RunFolder.open(place).records]
    if absent := sum(not item.path.is_file() for item in wanted):
        raise PlaceError(
            expected=f"the pictures that {place} is of, where they were",
            found=f"{absent:,} of {len(wanted):,} that are not there",
            remedy="Run it where the pictures are, or name them instead of the run.",
        )
    return wanted


def _of_record(shown: Terminal, place: str, run: str, latest: int | None) -> tuple[list[Path], int]:
    """Find the pictures of a run of the record; return them, and how many are not there any more."""
    from differnet.reporting.drifting import pictures_of_run

    with open_record(place, known=True) as store:
        found = pictures_of_run(store, run, (Path(),), latest)
    if found.left_out:
        shown.note(f"{found.left_out:,} parts known as defects or wrong inputs are left out.")
    for words in found.lost[:NAMED_SKIPS]:
        shown.warn(f"left out {words}")
    if len(found.lost) > NAMED_SKIPS:
        shown.warn(f"left out {len(found.lost) - NAMED_SKIPS:,} more pictures that are not there")
    return list(found.paths), len(found.lost)


def good_or_unknown(shown: Terminal, wanted: Sequence[Wanted]) -> list[Wanted]:
    """Leave out parts that their folder calls defective: no batch of good parts resembles them.

    Raises:
        PlaceError: Nothing is left.
    """
    from differnet.reporting.drifting import may_be_good

    kept = [item for item in wanted if may_be_good(item.label)]
    if len(kept) < len(wanted):
        shown.note(f"{len(wanted) - len(kept):,} parts labelled as defects or wrong inputs are left out.")
    if not kept:
        raise PlaceError(
            expected="parts that may be good",
            found=f"{len(wanted):,} parts, all labelled as something else",
            remedy="Give a batch of the running line.",
        )
    return kept
