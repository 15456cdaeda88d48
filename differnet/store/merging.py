"""Several records into one: of every line's machine into the plant's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, and_, func, select
from sqlalchemy.engine import RowMapping

from differnet.store import schema
from differnet.store.connecting import StoreError, writing
from differnet.store.rows import begin_run, insert_new, run_of
from differnet.store.store import Store
from differnet.store.upgrading import plainly

_ROWS = 200


@dataclass(frozen=True)
class Merged:
    """What was new to a record."""

    runs: int = 0
    items: int = 0
    reviews: int = 0


def merge(into: Store, other: Store, told: Callable[[int, int], None] | None = None) -> Merged:
    """Put into one record what another one holds and it does not; nothing that is there is changed.

    A run with the same name, model and thresholds in both is one run, to which pictures are added. Cut off at
    any time it leaves whole transactions, and merging again adds the rest.

    Args:
        into: The record that grows.
        other: Is only read.
        told: Called with (pictures done, pictures in all).

    Returns:
        How much was new.

    Raises:
        StoreError: A run of the same name has another model, calibration or thresholds, or holds another
            picture of the same path. Runs before it, in the order of their names, are merged.
    """
    new = Merged()
    with plainly(other.engine), other.engine.connect() as source:
        for table in (schema.products, schema.models, schema.calibrations, schema.threshold_revisions):
            for rows in _pages(source, table):
                with plainly(into.engine), writing(into.engine).begin() as target:
                    insert_new(target, table, [dict(row) for row in rows])
        total, done = _count(source, schema.items), 0
        runs = source.execute(select(schema.runs).order_by(schema.runs.c.run_id)).mappings().all()
        for run in runs:
            with plainly(into.engine), writing(into.engine).begin() as target:
                there = select(schema.runs.c.run_id).where(schema.runs.c.run_id == run["run_id"])
                known = target.execute(there).first() is not None
                begin_run(target, run_of(run))
            items, reviews = 0, 0
            for rows in _pages(source, schema.items, schema.items.c.run_id == run["run_id"]):
                with plainly(into.engine), writing(into.engine).begin() as target:
                    added, said = _merge_items(source, target, rows)
                items, reviews, done = items + added, reviews + said, done + len(rows)
                if told is not None:
                    told(done, total)
            for rows in _pages(source, schema.queue, schema.queue.c.run_id == run["run_id"]):
                with plainly(into.engine), writing(into.engine).begin() as target:
                    _merge_queue(target, rows)
            new = Merged(new.runs + (not known), new.items + items, new.reviews + reviews)
    return new


def _merge_items(source: Connection, target: Connection, rows: list[RowMapping]) -> tuple[int, int]:
    """Add items that are new, with their regions, and reviews of all; return how many of either."""
    added, said = 0, 0
    for row in rows:
        columns = schema.items.c
        same = select(columns.id).where(
            columns.run_id == row["run_id"], columns.path == row["path"], columns.sha256 == row["sha256"]
        )
        found = target.execute(same).scalar()
        if found is None:
            _require_free(target, row)
            own = _without_id(row) | {"number": _free_number(target, schema.items, row)}
            inserted = schema.items.insert().values(own).returning(columns.id)
            found = target.execute(inserted).scalar_one()
            added += 1
            mine = select(schema.regions).where(schema.regions.c.item == row["id"])
            regions = [{**region, "item": found} for region in source.execute(mine).mappings()]
            if regions:
                target.execute(schema.regions.insert(), regions)
        for review in source.execute(
            select(schema.reviews).where(schema.reviews.c.item == row["id"]).order_by(schema.reviews.c.id)
        ).mappings():
            said += _merge_review(target, {**_without_id(review), "item": found})
    return added, said


def _require_free(target: Connection, row: RowMapping) -> None:
    columns = schema.items.c
    taken = select(columns.path).where(columns.run_id == row["run_id"], columns.item_id == row["item_id"])
    if target.execute(taken).first() is not None:
        raise StoreError(
            expected=f"one picture at {row['path']} in run {row['run_id']}",
            found="another one in the other record",
            remedy="Give the runs of different machines different names.",
        )


def _merge_queue(target: Connection, rows: list[RowMapping]) -> None:
    columns = schema.queue.c
    run_id = rows[0]["run_id"]
    paths = [row["path"] for row in rows]
    here = select(columns.path).where(columns.run_id == run_id, columns.path.in_(paths))
    known = set(target.execute(here).scalars())
    for row in rows:
        if row["path"] not in known:
            own = _without_id(row) | {"number": _free_number(target, schema.queue, row)}
            target.execute(schema.queue.insert().values(own))


def _free_number(target: Connection, table: Table, row: RowMapping) -> int:
    """Return the place of a row in its run, or the one after the last where another row has it."""
    columns = table.c
    mine = columns.run_id == row["run_id"]
    if row["number"] is not None:
        taken = select(columns.number).where(mine, columns.number == row["number"])
        if target.execute(taken).first() is None:
            return int(row["number"])
    last = target.execute(select(func.max(columns.number)).where(mine)).scalar()
    return 0 if last is None else int(last) + 1


def _merge_review(target: Connection, review: dict[str, Any]) -> int:
    columns = schema.reviews.c
    same = select(columns.id).where(and_(*(columns[name] == value for name, value in review.items())))
    if target.execute(same).first() is not None:
        return 0
    target.execute(schema.reviews.insert().values(review))
    return 1


def _pages(source: Connection, table: Table, which: Any = None) -> Iterator[list[RowMapping]]:
    """Read a table in pieces, in the order of its key."""
    keys = list(table.primary_key.columns)
    wanted = select(table).order_by(*keys)
    if which is not None:
        wanted = wanted.where(which)
    found = source.execution_options(yield_per=_ROWS).execute(wanted).mappings()
    for rows in found.partitions(_ROWS):
        yield list(rows)


def _count(source: Connection, table: Table) -> int:

    return int(source.execute(select(func.count()).select_from(table)).scalar_one())


def _without_id(row: RowMapping) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id"}
