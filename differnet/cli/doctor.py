"""`differnet doctor`: whether this machine can do the work, and what it has."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from differnet.cli.data import JsonOption
from differnet.cli.exits import ExitCode
from differnet.cli.terminal import Terminal, legible, terminal

if TYPE_CHECKING:
    from differnet.reporting.machine import Check

STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}


def doctor(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where runs and models will be written.")
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Check this machine: versions, processor and GPU, OpenCV, disk, telemetry, weights.

    Ends with exit code 1 when something stands in the way.
    """
    from differnet.reporting.machine import State, library_versions, machine_checks

    shown = terminal()
    with shown.steps(transient=True) as steps:
        checks = machine_checks(folder, steps)
    healthy = all(check.state is not State.PROBLEM for check in checks)
    if as_json:
        versions = library_versions()
        shown.write_json({"healthy": healthy, "checks": [asdict(c) for c in checks], "versions": versions})
    else:
        show_checks(shown, checks)
    raise typer.Exit(ExitCode.OK if healthy else ExitCode.ERROR)


def show_checks(shown: Terminal, checks: list[Check]) -> None:
    """Show the checks on stdout for a person."""
    from differnet.reporting.machine import State, summary

    table = Table.grid(padding=(0, 2))
    for check in checks:
        words = Text(legible(check.found), overflow="fold")
        if check.remedy:
            words.append(f"\n{check.remedy}", style="bold")
        table.add_row(Text(check.state.value, style=STYLES[check.state.value]), Text(check.name), words)
    shown.write_table(table)
    well = all(check.state in (State.OK, State.NOTE) for check in checks)
    shown.tell(f"\n{summary(checks)}{' Try it: differnet demo' if well else ''}")
