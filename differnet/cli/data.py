"""`differnet data`: what a folder of pictures holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differnet.cli.exits import ExitCode
from differnet.cli.terminal import Terminal, plain_table, terminal

if TYPE_CHECKING:
    from differnet.images.scanning import ScanReport

# Files of a kind that are listed; --json lists all.
LISTED = 10
# Sizes or modes up to this number are all listed.
MIXED = 4

app = typer.Typer(no_args_is_help=True, help="Look at a folder of pictures before training on it.")

# Of `differnet.images.layouts.LAYOUTS`, which is not loaded for a page of help.
LAYOUT_NAMES = (
    "manifest",
    "mtd",
    "kolektorsdd",
    "kolektorsdd2",
    "real-iad",
    "mvtec-ad-2",
    "mvtec-loco",
    "btad",
    "mvtec",
    "visa",
    "folder",
)

LayoutOption = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="NAME",
        help=f"How the folder is laid out: auto finds out, or {', '.join(LAYOUT_NAMES)}.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.callback()
def _data() -> None:
    """Look at a folder of pictures before training on it."""


@app.command("scan")
def scan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="One product, or a folder of products.")],
    layout: LayoutOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Read every picture once: layout, counts, unreadable files, duplicates, leaks between splits.

    Ends with exit code 4 when files cannot be read.
    """
    from differnet.images.scanning import scan as scan_folder

    shown = terminal()
    with shown.steps() as steps:
        found = scan_folder(folder, layout, progress=steps.named("reading pictures"))
    if as_json:
        shown.write_json(found.to_json())
    else:
        show_scan(shown, found)
    if found.unreadable:
        raise typer.Exit(ExitCode.QUARANTINED)


def show_scan(shown: Terminal, found: ScanReport) -> None:
    """Show what was found, for a person, on stdout."""
    word = "product" if len(found.products) == 1 else "products"
    of_products = f", {word} {', '.join(found.products)}" if found.products else ""
    shown.tell(f"{found.root}: {found.layout} layout{of_products}\n")
    rows = [
        (split if place == 0 else "", label, f"{number:,}")
        for split, labels in found.counts.items()
        for place, (label, number) in enumerate(labels.items())
    ]
    shown.write_table(plain_table(("split", "label", "parts"), rows, numbers=1))
    masks = f", {found.masks:,} with a mask" if found.masks else ""
    shown.tell(f"\n{found.readable:,} pictures can be read{masks}.")
    shown.tell(f"sizes  {_mix(found.sizes)}")
    shown.tell(f"kinds  {_mix(found.modes)}; {_mix({f'{k} bit': n for k, n in found.depths.items()})}")
    _show_files(shown, found)
    if found.warnings:
        shown.tell("\nBefore you train, look at this:")
        shown.write_table(plain_table(("", ""), [("-", warning) for warning in found.warnings]))
    else:
        shown.tell("\nNothing stands out. Next: differnet train")


def _show_files(shown: Terminal, found: ScanReport) -> None:
    groups = {
        "unreadable": [(_short(found, file.path), file.message) for file in found.unreadable],
        "the same file": [
            (_short(found, group[0]), ", ".join(_short(found, path) for path in group[1:]))
            for group in found.duplicates
        ],
        "in train and in test": [
            (_short(found, leak.train), f"{_short(found, leak.test)} (same {leak.same})")
            for leak in found.leaks
        ],
        **{
            f"shows nothing ({flag})": [(_short(found, path), "") for path in paths]
            for flag, paths in found.flagged.items()
        },
    }
    for heading, rows in groups.items():
        if rows:
            more = f", the first {LISTED} of them" if len(rows) > LISTED else ""
            shown.tell(f"\n{heading}: {len(rows):,}{more}")
            shown.write_table(plain_table(("", ""), [(f"  {name}", words) for name, words in rows[:LISTED]]))


def _short(found: ScanReport, path: Path) -> str:
    return path.relative_to(found.root).as_posix() if path.is_relative_to(found.root) else str(path)


def _mix(counted: Mapping[str, int]) -> str:
    """List kinds with their numbers, the number only where there are several, the rest as a count."""
    pairs = list(counted.items())
    if len(pairs) == 1:
        return pairs[0][0]
    if len(pairs) > MIXED:
        return f"{len(pairs):,} different, most often {pairs[0][0]} ({pairs[0][1]:,} times)"
    return ", ".join(f"{name}: {number:,}" for name, number in pairs)
