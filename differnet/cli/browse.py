"""`differnet report` and `differnet dashboard`: what a person looks at afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differnet.cli.db import USUAL_PLACE, PlaceOption, shown_place
from differnet.cli.terminal import Terminal, terminal
from differnet.cli.train import PlaceError
from differnet.records import DiffernetError

if TYPE_CHECKING:
    from differnet.reporting import Run
    from differnet.store import Store

# Export's name of each format that --format knows.
TABLES = {"csv": "csv", "parquet": "parquet", "json": "jsonl"}
PAGES = ("html", "pdf")
FORMATS = ("html", *TABLES, "pdf")

FIRST_PORT = 8501
PORTS_TRIED = 20


class PortError(DiffernetError):
    """No port to listen on."""


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Folder that `differnet inspect --out` wrote, or a run's name in the record."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The .html or .pdf file, or a folder. Default: the run's folder, else this one.",
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAMES", help="Of html, csv, parquet, json, pdf; several with commas."
        ),
    ] = "html",
    place: PlaceOption = USUAL_PLACE,
) -> None:
    """Write a run as one self-contained HTML page, as PDF, or as tables. Prints the files."""
    names = _formats(formats)
    from differnet.reporting import export_run, write_reports

    shown = terminal()
    opened, usual = _open_run(run, place)
    if opened.facts.finished_at is None:
        shown.warn(
            f"{run} was not finished; this shows the {len(opened.records):,} pictures inspected so far."
        )
    to = out if out is not None else usual
    pages, tables = [n for n in names if n in PAGES], [TABLES[n] for n in names if n in TABLES]
    _require_fitting(to, pages, tables)
    if pages:
        with shown.steps() as steps:
            steps("writing the report", 0, 1)
            written = write_reports(opened, to, pages)
            steps("writing the report", 1, 1)
        for path in written:
            shown.write(str(path))
    for path in export_run(opened, to, tables) if tables else []:
        shown.write(str(path))


def _open_run(name: str, place: str) -> tuple[Run, Path]:
    """Open a run's folder or a run of the record, and say where its report goes by default."""
    from differnet.reporting import RunFolder, StoredRun
    from differnet.store import Store

    folder = Path(name)
    if (folder / "run.json").is_file():
        return RunFolder.open(folder), folder
    known = "://" in place or Path(place).is_file()
    if not known:
        raise PlaceError(
            expected="a run's folder, or the name of a run in the record",
            found=f"no run.json in {name}, and no record at {place}",
            remedy="Give the folder that `differnet inspect --out` wrote, or the record: --db PLACE.",
        )
    store = Store.open(place)
    try:
        # Who names the folder of a run that the record keeps means that run.
        found = store.run_in(folder) if folder.is_dir() else None
        run_id = _named(store, name) if found is None else found.run_id
        if run_id is None:
            raise PlaceError(
                expected="a run's folder, or the name of a run in the record",
                found=f"no run.json in {name}, and no run of that name in {place}",
                remedy="List the runs of the record: differnet db runs. Another record: --db PLACE.",
            )
        opened = StoredRun(store, run_id)
    finally:
        store.close()
    usual = opened.path if opened.path is not None and opened.path.is_dir() else Path()
    return opened, usual


def _named(store: Store, name: str) -> str | None:
    from differnet.store import NoRunError

    try:
        return store.run(name).run_id
    except (NoRunError, UnicodeEncodeError):
        # A name of bytes that are no text is the name of no run.
        return None


def _require_fitting(to: Path, pages: Sequence[str], tables: Sequence[str]) -> None:
    """Refuse one file's name for several files, or for a page of another format."""
    if not to.suffix or to.is_dir():
        return
    if tables or len(pages) > 1:
        raise PlaceError(
            expected="a folder in --out for tables, or for several formats",
            found=f"a file's name, {to.name}",
            remedy="Give a folder; the files in it are named report.html, records.csv and so on.",
        )
    if to.suffix.lower() in {f".{name}" for name in PAGES if name not in pages}:
        raise PlaceError(
            expected=f"a name that ends in .{pages[0]} in --out",
            found=to.name,
            remedy=f"Ask for that format: --format {to.suffix[1:].lower()}.",
        )


def _formats(words: str) -> list[str]:
    names = [word.strip().lower() for word in words.split(",") if word.strip()]
    if not names or any(name not in FORMATS for name in names):
        raise typer.BadParameter(f"{words!r} is not of {', '.join(FORMATS)}", param_hint="--format")
    return names


def dashboard(
    ctx: typer.Context,
    runs: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUNS]",
            help="Folder of runs, or one run, that `differnet inspect --out` wrote: it is kept in the record "
            "first. Default: runs, where there is one.",
        ),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="PLACE",
            envvar="DIFFERNET_DB",
            help="The record: a file, made where there is none, or postgresql://user@host/database. "
            "Default: record.db here, or beside RUNS.",
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            metavar="DIR",
            help="Where pages put models, runs and uploads. Default: the folder of the record.",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder at which pages begin to look for pictures, beside the workspace and home. May be "
            "given several times.",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show the record, and change nothing in it.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="NUMBER", min=1, max=65535, help="Default: the first free one from 8501."
        ),
    ] = None,
) -> None:
    """Open the dashboard over the record of all runs, on this machine only. Ctrl-C ends it.

    On an empty record it begins with making a model: nothing else has to be typed.
    """
    shown = terminal()
    if runs is not None and not runs.is_dir():
        raise PlaceError(
            expected=f"a folder of runs at {runs}",
            found="no such folder",
            remedy="Leave it out to begin with an empty record, or make runs: differnet demo.",
        )
    found = runs if runs is not None else _usual_runs()
    record = place or str(_beside(runs) / USUAL_PLACE)
    home = workspace or (Path(record).absolute().parent if "://" not in record else Path.cwd())
    _keep_known(shown, record, home, found, read_only=read_only)
    chosen = _free_port(port)
    from differnet.reporting import dashboard_command, dashboard_environment

    origins = {
        "record": _origin(ctx, "place", "default: record.db, here or beside the runs"),
        "workspace": _origin(
            ctx, "workspace", "default: the folder of the record, else the one where it was started"
        ),
        "read_only": _origin(ctx, "read_only", "default"),
        "data": _origin(ctx, "data", "default"),
    }
    told = dashboard_environment(record, home, read_only=read_only, origins=origins, data=data or ())
    shown.note(
        f"Dashboard of {shown_place(record)}: open http://127.0.0.1:{chosen} in a browser. Ctrl-C ends it."
    )
    try:
        ended = subprocess.run(dashboard_command(chosen), check=False, env=os.environ | told)
    except KeyboardInterrupt:
        # The usual way to end it, no failure.
        return
    raise typer.Exit(1 if ended.returncode else 0)


def _origin(ctx: typer.Context, name: str, usual: str) -> str:
    """Say in words who gave a parameter its value."""
    parameter = next(each for each in ctx.command.params if each.name == name)
    source = ctx.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        return f"option {parameter.opts[0]}"
    if source is not None and source.name == "ENVIRONMENT":
        return f"environment variable {parameter.envvar}"
    return usual


def _keep_known(shown: Terminal, place: str, home: Path, runs: Path | None, *, read_only: bool) -> None:
    """Bring the record up to what lies in folders, or make sure that it can be read."""
    from differnet.reporting.keeping import keep_runs, place_models
    from differnet.store import Store

    store = Store.open(place, read_only=read_only)
    try:
        if read_only:
            return
        with shown.waiting("keeping runs in the record"):
            refused = keep_runs(store, runs) if runs is not None else []
            beside = () if runs is None else (_beside(runs),)
            place_models(store, (home, home / "models", *beside))
    finally:
        store.close()
    for path, error in refused:
        shown.warn(f"{path} is not shown: {error}")


def _beside(runs: Path | None) -> Path:
    """Return the folder that a folder of runs, or one run, lies in."""
    if runs is None:
        return Path()
    absolute = runs.resolve()
    alone = (absolute / "run.json").is_file()
    return absolute.parent.parent if alone else absolute.parent


def _usual_runs() -> Path | None:
    return Path("runs") if Path("runs").is_dir() else None


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
