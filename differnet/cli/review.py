"""`differnet review`: what people say of inspected pictures, and how that goes back into training."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from differnet.cli.data import JsonOption
from differnet.cli.db import (
    USUAL_PLACE,
    LimitOption,
    PlaceOption,
    ProductOption,
    RunOption,
    SinceOption,
    UntilOption,
    moment,
    open_record,
)
from differnet.cli.exits import ExitCode
from differnet.cli.terminal import Terminal, plain_table, terminal
from differnet.cli.threshold import person

if TYPE_CHECKING:
    from collections.abc import Sequence

    from differnet.records import Record
    from differnet.reviewing import Agreement, LastWord, Lost
    from differnet.store import Asked, Store

# Pictures that cannot be used and are named; --json names all.
NAMED_LOST = 10
COLUMNS = ("said (UTC)", "by", "run", "part", "verdict", "is", "note")
# The others are shown where they tell rows apart.
ALWAYS = {"said (UTC)", "by", "part", "verdict", "is"}

ByOption = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who says so. Default: who is logged in.")
]
RootOption = Annotated[
    Path, typer.Option("--root", metavar="DIR", help="Where relative paths in the record begin.")
]

app = typer.Typer(no_args_is_help=True, help="Say what inspected parts really are, and use it.")


class Said(StrEnum):
    """What a person can say of a part."""

    GOOD = "good"
    DEFECT = "defect"
    UNSURE = "unsure"


@app.callback()
def _review() -> None:
    """Say what inspected parts really are, and use it.

    Judgements are kept in the record beside the verdicts. Nothing said is ever changed: the last word counts.
    """


@app.command("add")
def add(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run in the record.")],
    items: Annotated[
        list[str], typer.Argument(metavar="ITEM...", help="Item id, part id, or path as recorded.")
    ],
    said: Annotated[Said, typer.Option("--as", help="What it really is.")],
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="Of defect.")] = "",
    by: ByOption = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Whatever else.")] = "",
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Say what inspected parts are: good, a defect, or that you cannot tell. All of them, or none."""
    from differnet.reviewing import ReviewError, find_item, is_kind
    from differnet.store import ReviewEntry

    if kind and said is not Said.DEFECT:
        raise typer.BadParameter("--kind is of a defect: give --as defect")
    if kind and not is_kind(kind):
        raise ReviewError(
            expected="a kind of defect, such as scratch",
            found=repr(kind),
            remedy="Words for good parts, 0, 1, yes and no are none; leave --kind out if it has no name.",
        )
    shown = terminal()
    author = by or person("--by")
    entry = ReviewEntry(said.value, author, kind.strip(), note)
    told: list[dict[str, Any]] = []
    with open_record(place, known=True) as store:
        found = [find_item(store, run, item) for item in dict.fromkeys(items)]
        meant = {record.item_id: record for record in found}
        earlier = {item_id: store.reviews(run, item_id) for item_id in meant}
        store.review_all(run, list(meant), entry)
        for record in meant.values():
            before = earlier[record.item_id]
            told.append(
                {
                    "run": run,
                    "item": record.item_id,
                    "part": record.part_id,
                    "path": record.path,
                    "verdict": record.verdict.value,
                    "said": entry.judgement,
                    "kind": entry.kind,
                    "by": author,
                    "before": asdict(before[-1]) if before else None,
                }
            )
    if as_json:
        shown.write_json(told)
        return
    for each in told:
        words = f"{each['path']} ({each['verdict']}): {_said(each['said'], each['kind'])}, by {author}."
        if (earlier := each["before"]) is not None:
            words += f" Before: {_said(earlier['judgement'], earlier['kind'])}, by {earlier['author']}."
        shown.tell(words)


@app.command("list")
def list_reviews(
    run: RunOption = None,
    product: ProductOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 1000,
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Show who said what of which part, against its verdict, and how often the two agree.

    One line a picture, its last word; the same picture in several runs is one.
    """
    shown = terminal()
    with open_record(place, known=True) as store:
        words = words_of(store, asked_of(store, run, product, since, until))
    from differnet.reviewing import agreement

    words.sort(key=lambda word: word.entry.made_at)
    found = agreement(words)
    if as_json:
        shown.write_json({"reviews": [_tree(word) for word in words], "agreement": asdict(found)})
        return
    if not words:
        shown.tell("Nobody has reviewed any of these parts: differnet review add RUN ITEM --as good")
        return
    rows = _rows(words[-limit:])
    # Columns that say nothing take the place of those that do.
    kept = [name for name in COLUMNS if name in ALWAYS or len({row[name] for row in rows}) > 1]
    shown.write_table(plain_table(kept, [[row[name] for name in kept] for row in rows]))
    shown.tell("")
    _tell_agreement(shown, found, len(words))
    if len(words) > limit:
        shown.note(f"The latest {limit:,} of {len(words):,} are shown; --limit shows more.")


@app.command("export")
def export_reviews(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, .csv or .jsonl.")],
    run: RunOption = None,
    product: ProductOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    hold_out: Annotated[
        bool,
        typer.Option(
            "--hold-out",
            help="Mark defects and every fourth good part (by the order of sha256) as test parts.",
        ),
    ] = False,
    root: RootOption = Path(),
    place: PlaceOption = USUAL_PLACE,
    as_json: JsonOption = False,
) -> None:
    """Write what people said as a manifest that train, calibrate and evaluate read. Prints the file.

    The last word on a picture counts, and each picture once, however many runs it was in. Pictures that are
    gone or changed are left out: exit code 4.
    """
    from differnet.reviewing import export, locate, unsure

    shown = terminal()
    with open_record(place, known=True) as store:
        words = words_of(store, asked_of(store, run, product, since, until))
        decided = [word for word in words if word.entry.judgement != "unsure"]
        found, lost = locate(store, decided, root)
    name_lost(shown, lost)
    written = export(found, file, hold_out=hold_out)
    doubted = unsure(words)
    shown.note(
        f"{written.good:,} good parts and {written.defects:,} defects"
        + (f"; {written.aside:,} good parts and every defect are marked as test parts" if hold_out else "")
        + "."
    )
    if doubted:
        shown.note(f"{doubted:,} that nobody could tell are left out.")
    if written.renamed_kinds:
        shown.warn(
            f"kinds of defect that a manifest would misread are written as defect: "
            f"{', '.join(map(repr, written.renamed_kinds))}"
        )
    if not written.good:
        shown.warn("no good part is in it; train and evaluate want some.")
    if as_json:
        shown.write_json(
            {"file": file, **asdict(written), "unsure": doubted, "lost": [asdict(one) for one in lost]}
        )
    else:
        shown.write(str(file))
    if lost:
        raise typer.Exit(ExitCode.QUARANTINED)


def asked_of(
    store: Store, run: str | None, product: str | None, since: str | None, until: str | None
) -> Asked:
    """Put filters of the command line into a question.

    Raises:
        StoreError: There is no such run.
    """
    from differnet.store import Asked

    if run is not None:
        store.run(run)
    return Asked(run_id=run, product=product, since=moment(since), until=moment(until))


def words_of(store: Store, asked: Asked) -> list[LastWord]:
    """Return the last word on every picture that is asked for."""
    from differnet.reviewing import last_words

    return last_words(store, asked)


def name_lost(shown: Terminal, lost: Sequence[Lost]) -> None:
    """Name on stderr the reviewed pictures that cannot be used."""
    for one in lost[:NAMED_LOST]:
        shown.warn(f"left out {one.path}: {one.reason}")
    if len(lost) > NAMED_LOST:
        shown.warn(f"left out {len(lost) - NAMED_LOST:,} more pictures")
    if any(not Path(one.path).is_absolute() for one in lost):
        shown.note("Relative paths begin where the pictures were inspected; --root names that folder.")


def _said(judgement: str, kind: str) -> str:
    return f"{judgement}, {kind}" if kind else judgement


def _tree(word: LastWord) -> dict[str, Any]:
    record, entry = word.record, word.entry
    return {
        "run": record.run_id,
        "item": record.item_id,
        "part": record.part_id,
        "path": record.path,
        "sha256": record.sha256,
        "verdict": record.verdict.value,
        "strangeness": record.strangeness,
        **asdict(entry),
    }


def _rows(words: Sequence[LastWord]) -> list[dict[str, str]]:
    names = _part_names([word.record for word in words])
    return [
        {
            # --json tells the minute.
            "said (UTC)": word.entry.made_at[:10],
            "by": word.entry.author,
            "run": word.record.run_id,
            "part": name,
            "verdict": word.record.verdict.value,
            "is": _said(word.entry.judgement, word.entry.kind),
            "note": word.entry.note,
        }
        for word, name in zip(words, names, strict=True)
    ]


def _part_names(records: Sequence[Record]) -> list[str]:
    """Name parts as shortly as tells them apart: part id, file in its folder, or whole path."""
    whole = [(record.run_id, record.path) for record in records]
    for shortened in (
        [record.part_id for record in records],
        ["/".join(Path(record.path).parts[-2:]) for record in records],
    ):
        told = {(run, short) for (run, _), short in zip(whole, shortened, strict=True)}
        if len(told) == len(set(whole)):
            return shortened
    return [path for _, path in whole]


def _tell_agreement(shown: Terminal, found: Agreement, words: int) -> None:
    rows = [(name, *(f"{n:,}" if n else "." for n in counts)) for name, counts in found.rows.items()]
    seen = [row for row in rows if set(row[1:]) != {"."}]
    shown.write_table(plain_table(("the program said", "people: good", "defect", "unsure"), seen, numbers=3))
    shown.tell("")
    rates = [
        (
            words_of_rate,
            "none" if of.share is None else f"{of.events:,} of {of.of:,}",
            "" if of.share is None else str(of),
        )
        for of, words_of_rate in (
            (found.overkill, "overkill: called good, but rejected"),
            (found.escape, "escapes: called defect, but passed"),
            (found.rejected_good, "of the rejected, called good"),
            (found.passed_defect, "of the passed, called defect"),
        )
    ]
    shown.write_table(plain_table(("", "", ""), rates))
    shown.tell(
        f"\nThese {words:,} parts are no random sample of what the line makes: people choose what they look "
        "at. The intervals (95 %) hold for parts chosen likewise."
    )
