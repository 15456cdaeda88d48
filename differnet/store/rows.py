"""Rows of the tables, from what is kept and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, FromClause, Select, Table, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping

from differnet.records import Record, Region
from differnet.store import schema
from differnet.store.connecting import NoRunError, StoreError, now
from differnet.store.entries import CalibrationEntry, ModelEntry, ReviewEntry, RunEntry
from differnet.strict_json import from_mapping

Entry = TypeVar("Entry", ModelEntry, CalibrationEntry, RunEntry)

# Fields of a record that are lists: JSON text in their column.
_LISTS = ("reasons", "quality_flags")
# Rows of one question to the engine: SQLite takes at most 32,766 values.
_CHUNK = 500


def inserting(connection: Connection, table: Table) -> Any:
    """Return an insert that can leave out what is there: each engine has a statement of its own for it."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert rows that are not there yet, and return how many were not."""
    statement = inserting(connection, table).values(rows).on_conflict_do_nothing()
    return len(connection.execute(statement.returning(*table.primary_key.columns)).all())


def insert_item(connection: Connection, record: Record, number: int) -> int | None:
    """Insert a record with its regions, and return its row; ``None`` where the run holds it already."""
    once = ("run_id", "path", "sha256", "model_id", "calibration_id")
    found: int | None = connection.execute(
        inserting(connection, schema.items)
        .values(item_row(record) | {"number": number})
        .on_conflict_do_nothing(index_elements=list(once))
        .returning(schema.items.c.id)
    ).scalar()
    if found is not None:
        _insert_regions(connection, found, record.regions)
    return found


def insert_items(connection: Connection, records: Sequence[tuple[Record, int]]) -> None:
    """Insert records of new pictures, each with its place in its run, and their regions."""
    if not records:
        return
    rows = [item_row(record) | {"number": number} for record, number in records]
    inserted = schema.items.insert().returning(
        schema.items.c.id, schema.items.c.run_id, schema.items.c.item_id
    )
    places = {(row.run_id, row.item_id): row.id for row in connection.execute(inserted, rows)}
    regions = [
        {"item": places[record.run_id, record.item_id], "number": i, **asdict(region)}
        for record, _ in records
        for i, region in enumerate(record.regions)
    ]
    if regions:
        connection.execute(schema.regions.insert(), regions)


def replace_item(connection: Connection, row: int, record: Record) -> None:
    """Put another record in the place of one, which keeps its row, its number and its reviews."""
    connection.execute(schema.items.update().where(schema.items.c.id == row).values(item_row(record)))
    connection.execute(schema.regions.delete().where(schema.regions.c.item == row))
    _insert_regions(connection, row, record.regions)


def touch_runs(connection: Connection, run_ids: Iterable[str], *, words_alone: bool = False) -> None:
    """Say that something of runs was written; last in a transaction, for it holds up others of the run.

    Args:
        connection: Of the transaction.
        run_ids: Whose.
        words_alone: What people say, and nothing else.
    """
    columns = schema.runs.c
    for run_id in sorted(set(run_ids)):
        row = schema.runs.update().where(columns.run_id == run_id)
        connection.execute(row.values(changed=columns.changed + 1, said=columns.said + int(words_alone)))


def stands(reviews: FromClause) -> ColumnElement[bool]:
    """Ask of a word, a row of the reviews or of an alias of them, that its author has not taken it back."""
    columns = schema.withdrawals.c
    taken_back = exists().where(
        columns.item == reviews.c.item,
        columns.author == reviews.c.author,
        columns.said_at == reviews.c.made_at,
    )
    return ~taken_back


def next_number(connection: Connection, run_id: str) -> int:
    """Return the place after the last in a run."""
    last = select(func.max(schema.items.c.number)).where(schema.items.c.run_id == run_id)
    found = connection.execute(last).scalar()
    return 0 if found is None else int(found) + 1


def regions_of(connection: Connection, rows: Sequence[int]) -> dict[int, tuple[Region, ...]]:
    """Return the regions of items, by their rows."""
    found: dict[int, list[Region]] = {}
    for some in _chunks(rows):
        wanted = select(schema.regions).where(schema.regions.c.item.in_(some))
        for row in connection.execute(wanted.order_by(schema.regions.c.number)).mappings():
            region = Region(**{f.name: row[f.name] for f in fields(Region)})
            found.setdefault(row["item"], []).append(region)
    return {item: tuple(regions) for item, regions in found.items()}


def item_row(record: Record) -> dict[str, Any]:
    """Return the columns of a record."""
    row = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "regions"}
    row |= {name: json_text(list(row[name])) for name in _LISTS}
    return row | {"verdict": record.verdict.value, "processed_at": record.processed_at or now()}


def record_of(row: RowMapping, regions: Iterable[Region]) -> Record:
    """Return the record of a row."""
    known = {f.name: row[f.name] for f in fields(Record) if f.name != "regions"}
    known |= {name: json.loads(known[name]) for name in _LISTS}
    # The strict reader checks what another program may have put there.
    return from_mapping(Record, known | {"regions": [asdict(region) for region in regions]})


def entry_row(entry: Any) -> dict[str, Any]:
    """Return the columns of an entry; its facts are JSON text."""
    row = asdict(entry)
    return row | ({"facts": json_text(row["facts"])} if "facts" in row else {})


def run_of(row: RowMapping) -> RunEntry:
    """Return the run of a row."""
    return entry_of(RunEntry, row)


def entry_of(kind: type[Entry], row: RowMapping) -> Entry:
    """Return the entry of a row that has facts."""
    known = {f.name: row[f.name] for f in fields(kind)}
    return kind(**(known | {"facts": json.loads(known["facts"])}))


def review_of(row: Any) -> ReviewEntry:
    """Return the review of a row."""
    return ReviewEntry(**{f.name: row[f.name] for f in fields(ReviewEntry)})


def begin_run(connection: Connection, entry: RunEntry) -> None:
    """Insert a run, or make sure that it was begun as this one.

    Raises:
        StoreError: There is a run of that name by another model, calibration or thresholds.
    """
    row = entry_row(entry) | {"started_at": entry.started_at or now()}
    if insert_new(connection, schema.runs, [row]):
        return
    found = run_of(connection.execute(of_run(entry.run_id)).mappings().one())
    keys = ("product", "model_id", "calibration_id", "threshold_revision", "t_review", "t_defect")
    if (ours := {k: row[k] for k in keys}) != (theirs := {k: getattr(found, k) for k in keys}):
        differs = ", ".join(f"{k} {theirs[k]}, not {ours[k]}" for k in keys if ours[k] != theirs[k])
        raise StoreError(
            expected=f"run {entry.run_id} as it was begun",
            found=f"another: {differs}",
            remedy="Resume it with the model and thresholds that it was begun with, or name a new run.",
        )


def of_run(run_id: str) -> Select[Any]:
    """Ask for one run."""
    return select(schema.runs).where(schema.runs.c.run_id == run_id)


def no_run(run_id: str) -> NoRunError:
    """Say that there is no such run."""
    return NoRunError(
        expected=f"run {run_id} in the record",
        found="none of that name",
        remedy="List the runs: differnet db runs",
    )


def json_text(facts: Any) -> str:
    """Return the one text of facts."""
    return json.dumps(facts, sort_keys=True, allow_nan=False)


def _insert_regions(connection: Connection, row: int, regions: Sequence[Region]) -> None:
    if regions:
        rows = [{"item": row, "number": i, **asdict(region)} for i, region in enumerate(regions)]
        connection.execute(schema.regions.insert(), rows)


def _chunks(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]
