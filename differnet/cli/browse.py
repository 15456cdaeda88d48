"""`differnet report` and `differnet dashboard`: what a person looks at afterwards."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from differnet.cli.terminal import terminal
from differnet.cli.train import PlaceError
from differnet.records import DiffernetError

# Export's name of each format that --format knows.
TABLES = {"csv": "csv", "parquet": "parquet", "json": "jsonl"}
FORMATS = ("html", *TABLES)

FIRST_PORT = 8501
PORTS_TRIED = 20


class PortError(DiffernetError):
    """No port to listen on."""


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `differnet inspect --out` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The .html file, or a folder. Default: the run."),
    ] = None,
    formats: Annotated[
        str,
        typer.Option("--format", metavar="NAMES", help="Of html, csv, parquet, json; several with commas."),
    ] = "html",
) -> None:
    """Write a run as one self-contained HTML page, or as tables. Prints the files."""
    names = _formats(formats)
    from differnet.reporting import RunFolder, export_run, write_report

    shown = terminal()
    opened = RunFolder.open(run)
    if opened.facts.finished_at is None:
        shown.warn(
            f"{run} was not finished; this shows the {len(opened.records):,} pictures inspected so far."
        )
    place = out if out is not None else run
    tables = [TABLES[name] for name in names if name in TABLES]
    if tables and place.suffix:
        raise PlaceError(
            expected="a folder in --out for tables",
            found=f"a file's name, {place.name}",
            remedy="Give a folder; the files in it are named records.csv and so on.",
        )
    if "html" in names:
        with shown.steps() as steps:
            steps("writing the report", 0, 1)
            written = write_report(opened, place)
            steps("writing the report", 1, 1)
        shown.write(str(written))
    for path in export_run(opened, place, tables) if tables else []:
        shown.write(str(path))


def _formats(words: str) -> list[str]:
    names = [word.strip().lower() for word in words.split(",") if word.strip()]
    if not names or any(name not in FORMATS for name in names):
        raise typer.BadParameter(f"{words!r} is not of {', '.join(FORMATS)}", param_hint="--format")
    return names


def dashboard(
    runs: Annotated[
        Path | None,
        typer.Argument(metavar="[RUNS]", help="Folder of runs, or one run. Default: runs or demo/runs."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="NUMBER", min=1, max=65535, help="Default: the first free one from 8501."
        ),
    ] = None,
) -> None:
    """Open the dashboard over one or more runs, on this machine only. Ctrl-C ends it."""
    from differnet.reporting import dashboard_command, list_runs

    folder = runs if runs is not None else _usual_runs()
    if not list_runs(folder):
        raise PlaceError(
            expected=f"one or more runs in {folder}",
            found="none" if folder.is_dir() else "no such folder",
            remedy="Make one: differnet demo, or differnet inspect MODEL IMAGES --out runs/first.",
        )
    chosen = _free_port(port)
    terminal().note(f"Dashboard of {folder}: open http://127.0.0.1:{chosen} in a browser. Ctrl-C ends it.")
    try:
        ended = subprocess.run(dashboard_command(folder.resolve(), chosen), check=False)
    except KeyboardInterrupt:
        # The usual way to end it, no failure.
        return
    raise typer.Exit(1 if ended.returncode else 0)


def _usual_runs() -> Path:
    places = (Path("runs"), Path("demo") / "runs")
    return next((place for place in places if place.is_dir()), places[0])


def _free_port(asked: int | None) -> int:
    candidates = [asked] if asked is not None else range(FIRST_PORT, FIRST_PORT + PORTS_TRIED)
    for port in candidates:
        if _is_free(port):
            return port
    raise PortError(
        expected=f"a free port at {', '.join(map(str, candidates[:1]))}" + ("" if asked else " or above"),
        found="another program listens there",
        remedy="Choose another with --port.",
    )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without it a port that a dashboard has just left looks taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
