"""`differnet db`: the inspection record of all runs, and the questions that people ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from differnet.cli.data import JsonOption
from differnet.cli.exits import VerificationError
from differnet.cli.terminal import plain_table, terminal
from differnet.cli.train import PlaceError
from differnet.records import Record, Verdict

if TYPE_CHECKING:
    from differnet.store import Store

USUAL_PLACE = "record.db"

PlaceOption = Annotated[
    str,
    typer.Option(
        "--db",
        metavar="PLACE",
        envvar="DIFFERNET_DB",
        help="A file, made where there is none, or postgresql://user@host/database.",
    ),
]
RunOption = Annotated[str | None, typer.Option("--run", metavar="NAME", help="Of one run.")]
ProductOption = Annotated[
    str | None, typer.Option("--product", metavar="NAME", help="Judged as this product.")
]
RevisionOption = Annotated[
    int | None, typer.Option("--revision", metavar="NUMBER", min=0, help="Under these thresholds.")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Processed from this time on, UTC: 2026-11-23.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Processed before it, UTC.")]
LimitOption = Annotated[int, typer.Option("--limit", metavar="NUMBER", min=1, help="At most so many.")]

app = typer.Typer(no_args_is_help=True, help="Keep runs in a record, and ask it.")


@app.callback()
def _db() -> None:
    """Keep runs in a record, and ask it: what did we ship on Tuesday, and by which threshold?"""


@app.command("add")
def add(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `differnet inspect --out` wrote.")
    ],
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Keep runs in the record. What it holds already is left as it is, so that adding again is safe."""
    from differnet.reporting import RunFolder
    from differnet.reporting.keeping import keep_run

    shown = terminal()
    opened = [RunFolder.open(run) for run in runs]
    told = []
    with open_record(place) as store, shown.steps() as steps:
        for run in opened:
            added = keep_run(store, run, steps.named(f"keeping {run.path.name}"))
            told.append({"run": run.facts.run_id, "pictures": len(run.records), "added": added})
    if as_json:
        shown.write_json({"db": shown_place(place), "runs": told})
        return
    for each in told:
        shown.tell(f"{each['run']}: {each['added']:,} of {each['pictures']:,} pictures were new.")


@app.command("runs")
def runs(
    product: ProductOption = None,
    limit: LimitOption = 20,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """List runs, the latest first, with how many pictures got each verdict."""
    from differnet.store import Asked

    shown = terminal()
    with open_record(place, known=True) as store:
        found = store.runs(product, limit)
        counts = [store.verdict_counts(Asked(run_id=run.run_id)) for run in found]
    if as_json:
        shown.write_json(
            [
                asdict(run) | {"counts": {v.value: counted[v] for v in Verdict}}
                for run, counted in zip(found, counts, strict=True)
            ]
        )
        return
    rows = [
        (
            *(run.started_at[:16].replace("T", " "), run.run_id, run.product, str(run.threshold_revision)),
            *(f"{counted[v]:,}" for v in Verdict),
        )
        for run, counted in zip(found, counts, strict=True)
    ]
    columns = ("began (UTC)", "run", "product", "revision", *(v.value for v in Verdict))
    shown.write_table(plain_table(columns, rows, numbers=6))


@app.command("items")
def items(
    run: RunOption = None,
    product: ProductOption = None,
    revision: RevisionOption = None,
    verdict: Annotated[
        list[str] | None,
        typer.Option("--verdict", metavar="VERDICT", help="pass, review, defect, ood or invalid; several."),
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="LABEL", help="Its truth.")] = None,
    part: Annotated[str | None, typer.Option("--part", metavar="ID", help="Of one part.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 1000,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table for a spreadsheet instead.")] = False,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Show inspected pictures, the latest first: everything of last week under revision 3, say.

    One line a picture; with --json its whole record.
    """
    from differnet.store import Asked

    shown = terminal()
    asked = Asked(
        run_id=run,
        product=product,
        revision=revision,
        verdicts=_verdicts(verdict or []),
        label=label,
        since=moment(since),
        until=moment(until),
        part_id=part,
    )
    with open_record(place, known=True) as store:
        found, counts = store.items(asked, "latest", limit), store.verdict_counts(asked)
    if as_json:
        from differnet.strict_json import to_json

        for record in found:
            shown.write(to_json(record))
    elif as_csv:
        from differnet.reporting.tables import csv_text, records_table

        for line in csv_text(records_table(found)).splitlines():
            shown.write(line)
    else:
        shown.write_table(plain_table(_COLUMNS, [_cells(record) for record in found]))
    total = sum(counts.values())
    words = ", ".join(f"{counts[v]:,} {v.value}" for v in Verdict if counts[v])
    shown.note(f"{total:,} pictures{': ' if words else ''}{words}.")
    if total > len(found):
        shown.note(f"The latest {len(found):,} are shown; --limit shows more.")


@app.command("flips")
def flips(
    review: Annotated[float, typer.Option("--review", metavar="T1", help="Strangeness to review from.")],
    defect: Annotated[float, typer.Option("--defect", metavar="T2", help="Strangeness to reject from.")],
    run: RunOption = None,
    product: ProductOption = None,
    revision: RevisionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 1000,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Show the pictures whose verdict other thresholds would change, the strangest first.

    OOD and INVALID stay, whatever the thresholds. Strangeness is comparable within one model and calibration:
    name a run, or a revision.
    """
    from differnet.store import Asked

    if not 0 <= review <= defect < float("inf"):
        raise PlaceError(
            expected="0 <= T1 <= T2", found=f"T1 {review:g}, T2 {defect:g}", remedy="Exchange them."
        )
    shown = terminal()
    asked = Asked(run_id=run, product=product, revision=revision, since=moment(since), until=moment(until))
    with open_record(place, known=True) as store:
        found = store.flips(asked, review, defect, limit)
    if as_json:
        shown.write_json(
            [
                {
                    "run": record.run_id,
                    "item": record.item_id,
                    "path": record.path,
                    "strangeness": record.strangeness,
                    "from": record.verdict.value,
                    "to": other.value,
                }
                for record, other in found
            ]
        )
        return
    rows = [(*_cells(record)[:-1], f"{record.verdict.value} -> {other.value}") for record, other in found]
    shown.write_table(plain_table((*_COLUMNS[:-1], "flips"), rows))
    shown.note(f"{len(found):,} pictures flip{'' if len(found) < limit else ', or more: --limit'}.")


@app.command("upgrade")
def upgrade(place: PlaceOption = USUAL_PLACE) -> None:
    """Bring the record to the form that this version writes. Prints the form."""
    from differnet.store import connect
    from differnet.store import upgrade as upgraded

    engine = connect(place)
    try:
        terminal().write(upgraded(engine))
    finally:
        engine.dispose()


@app.command("check")
def check(place: PlaceOption = USUAL_PLACE, as_json: JsonOption = False) -> None:
    """Ask whether the record is sound: pages, rows, tables. Exit code 5 where it is not."""
    from differnet.store import StoreError, connect
    from differnet.store import check as wrong_with

    _require_known(place)
    shown = terminal()
    engine = connect(place)
    try:
        wrong = wrong_with(engine)
    finally:
        engine.dispose()
    if as_json:
        shown.write_json({"db": shown_place(place), "sound": not wrong, "wrong": wrong})
    elif not wrong:
        shown.tell(f"{shown_place(place)} is sound.")
    if wrong:
        raise VerificationError(
            StoreError(
                expected=f"a sound record at {shown_place(place)}",
                found="; ".join(wrong[:3]) + (f"; {len(wrong) - 3} more" if len(wrong) > 3 else ""),
                remedy="Restore a backup, and add the runs since then again: differnet db add RUN.",
            )
        )


@app.command("backup")
def backup(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    place: PlaceOption = USUAL_PLACE,
) -> None:
    """Copy a record in a file while it is in use. Prints the copy."""
    from differnet.store import backup as copied

    with open_record(place, known=True) as store:
        terminal().write(str(copied(store.engine, to)))


def shown_place(place: str) -> str:
    """Return the place of a record without its password."""
    from differnet.store import shown_place as shown

    return shown(place)


@contextmanager
def open_record(place: str, *, known: bool = False) -> Iterator[Store]:
    """Open a record for a command.

    Args:
        place: A file, or the URL of a database.
        known: Refuse to make an empty one only to say that it holds nothing.
    """
    from differnet.store import Store

    if known:
        _require_known(place)
    store = Store.open(place)
    try:
        yield store
    finally:
        store.close()


def _require_known(place: str) -> None:
    """Refuse to make an empty record only to say that it holds nothing."""
    if "://" not in place and not Path(place).is_file():
        raise PlaceError(
            expected=f"a record at {place}",
            found="no such file",
            remedy="Keep runs in it first: differnet db add RUN. Or name another: --db PLACE.",
        )


def _verdicts(names: Sequence[str]) -> tuple[Verdict, ...]:
    known = {verdict.value.lower(): verdict for verdict in Verdict}
    for name in names:
        if name.lower() not in known:
            raise PlaceError(expected=f"one of {', '.join(known)}", found=name, remedy="Choose one of them.")
    return tuple(known[name.lower()] for name in names)


def moment(words: str | None) -> str | None:
    """Return a moment as records write it, so that it compares as text.

    Raises:
        PlaceError: It is no time.
    """
    from datetime import UTC, datetime

    if words is None:
        return None
    try:
        given = datetime.fromisoformat(words)
    except ValueError as error:
        raise PlaceError(
            expected="a time such as 2026-11-23 or 2026-11-23T14:30",
            found=words,
            remedy="Times are UTC unless they say otherwise: 2026-11-23T14:30+01:00.",
        ) from error
    aware = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds")


_COLUMNS = ("processed (UTC)", "run", "part", "label", "revision", "strangeness", "verdict")


def _cells(record: Record) -> tuple[str, ...]:
    strangeness = "" if record.strangeness is None else f"{record.strangeness:.2f}"
    return (
        str(record.processed_at or "")[:16].replace("T", " "),
        record.run_id,
        record.part_id,
        record.label or "",
        str(record.threshold_revision),
        strangeness,
        record.verdict.value,
    )
