"""`differnet calibrate`: let further good parts say what is usual."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from differnet.cli.data import JsonOption, LayoutOption
from differnet.cli.exits import ExitCode
from differnet.cli.terminal import Terminal, terminal
from differnet.cli.train import (
    NAMED_SKIPS,
    DeviceOption,
    PlaceError,
    load_model,
    require_unused,
    show_model,
    thresholds_table,
    warn_of_few_parts,
)

if TYPE_CHECKING:
    pass


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `differnet train` wrote.")],
    good: Annotated[
        list[Path],
        typer.Argument(
            metavar="GOOD...", help="Good parts that were not trained on, folders of them, or manifests."
        ),
    ],
    alpha_review: Annotated[
        float | None,
        typer.Option(
            "--alpha-review",
            metavar="SHARE",
            min=1e-6,
            max=1,
            help="Share of good parts that may go to review. Default: as before.",
        ),
    ] = None,
    alpha_defect: Annotated[
        float | None,
        typer.Option(
            "--alpha-defect",
            metavar="SHARE",
            min=1e-6,
            max=1,
            help="Share of good parts that may fail. Default: as before.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="MODEL", help="Folder to write into. Default: replaces the model."),
    ] = None,
    layout: LayoutOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Calibrate a model on further good parts: new thresholds, the same densities.

    Of a folder its good parts are taken that were not trained on. Named pictures that were trained on are
    refused. Thresholds that were set before are for the former calibration, and end.
    """
    shown = terminal()
    if out is not None:
        require_unused(out)
    detector = load_model(model, device)
    before = detector.facts()
    parts = further_parts(shown, good, layout, detector.trained_on)
    from differnet.detection.rates import rates_for

    review, defect = rates_for(detector, alpha_review, alpha_defect)
    detector.settings = replace(detector.settings, alpha_review=review, alpha_defect=defect)
    shown.note(f"Calibrating on {len(parts):,} good parts.")
    with shown.steps() as steps:
        detector.calibrate(parts, progress=steps)
    for path, reason in detector.skipped[:NAMED_SKIPS]:
        shown.warn(f"left out {path}: {reason}")
    if len(detector.skipped) > NAMED_SKIPS:
        shown.warn(f"left out {len(detector.skipped) - NAMED_SKIPS:,} more files")
    after, place = detector.facts(), model if out is None else out
    detector.save(place)
    shown.blank()
    shown.note("Before:")
    shown.show(thresholds_table(before))
    show_model(shown, after)
    warn_of_few_parts(shown, detector.settings, after)
    if before["threshold_revision"] and out is None:
        shown.warn(
            f"revision {before['threshold_revision']} of the thresholds was for the former calibration; it "
            "no longer holds, and those of the new one are in force."
        )
    if as_json:
        shown.write_json(
            {
                "model": place,
                "skipped": len(detector.skipped),
                "before": _thresholds(before),
                "after": _thresholds(after),
            }
        )
    else:
        shown.write(str(place))
    if detector.skipped:
        raise typer.Exit(ExitCode.QUARANTINED)


def further_parts(
    shown: Terminal, places: Sequence[Path], layout: str, trained_on: Collection[str]
) -> list[Path]:
    """Find the good parts to calibrate on.

    Args:
        shown: Where it says what was left out.
        places: Pictures, which are all meant, and folders or manifests, of which good parts are.
        layout: How folders are laid out.
        trained_on: sha256 of the training parts.

    Returns:
        The pictures, each content once: copies of a part are no further parts.

    Raises:
        PlaceError: A named picture was trained on, or nothing is left.
    """
    from differnet.features import sha256_of
    from differnet.images.layouts.manifest import MANIFEST_SUFFIXES

    found: dict[str, Path] = {}
    named = known = copies = 0
    for place in places:
        several = place.is_dir() or place.suffix.lower() in MANIFEST_SUFFIXES
        listed = _good_of(place, layout, trained_on) if several else [place]
        for path in listed:
            # What is not there is left to the reader, which says so.
            sha256 = sha256_of(path) if path.is_file() else str(path)
            if not several:
                named += 1
                known += sha256 in trained_on
            copies += sha256 in found
            found.setdefault(sha256, path)
    if known:
        raise PlaceError(
            expected="good parts that were not trained on",
            found=f"{known:,} of {named:,} pictures that were",
            remedy="Leave them out: a model finds what it has learned less strange than fresh parts.",
        )
    if copies:
        shown.note(f"{copies:,} copies of pictures are left out: they are no further parts.")
    if not found:
        raise PlaceError(
            expected="good parts that were not trained on",
            found="none",
            remedy="Give pictures of further good parts, or a folder with them.",
        )
    return list(found.values())


def _good_of(folder: Path, layout: str, trained_on: Collection[str]) -> list[Path]:
    from differnet.features import sha256_of
    from differnet.images.layouts import LayoutError, list_pictures, read_layout

    try:
        dataset = read_layout(folder, layout)
    except LayoutError:
        if layout != "auto" or not folder.is_dir():
            raise
        return [path for path in list_pictures(folder) if sha256_of(path) not in trained_on]
    fresh = [part for part in dataset.good if sha256_of(part.path) not in trained_on]
    if len(fresh) == len(dataset.good):
        return [part.path for part in fresh]
    # The folder that was trained on: what training left out is unreadable, or probably not good.
    return [part.path for part in fresh if part.split == "test"]


def _thresholds(facts: dict[str, Any]) -> dict[str, Any]:
    names = ("model_id", "calibration_id", "t_review", "t_defect", "threshold_revision", "calibration")
    return {name: facts[name] for name in names}
