"""Several records into one: of every line's machine into the plant's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, Table, and_, func, select
from sqlalchemy.engine import RowMapping

from differnet.records import Verdict
from differnet.store import schema
from differnet.store.connecting import StoreError, now, writing
from differnet.store.queue import tell_repeats
from differnet.store.rows import begin_run, insert_new, json_text, run_of, touch_runs
from differnet.store.store import Store
from differnet.store.upgrading import plainly

_ROWS = 200


@dataclass(frozen=True)
class Merged:
    """What a merge did to a record: what was new to it, and pictures whose verdict the other knew better."""

    runs: int = 0
    items: int = 0
    reviews: int = 0
    changed: int = 0


def merge(into: Store, other: Store, told: Callable[[int, int], None] | None = None) -> Merged:
    """Put into one record what another one holds and it does not.

    A run with the same name, model and thresholds in both is one run, to which pictures are added. What has
    moved on in the other since it was merged last moves on here: a picture that was tried again and has a
    verdict now, one that was found to repeat another, the job's progress and end. Only what was INVALID may
    become PASS. Cut off at any time it leaves whole transactions, and merging again does the rest.

    Args:
        into: The record that grows.
        other: Is only read, as it stands when this begins.
        told: Called with (pictures done, pictures in all).

    Returns:
        How much was new.

    Raises:
        StoreError: A run of the same name has another model, calibration or thresholds, or holds another
            picture of the same path. Runs before it, in the order of their names, are merged.
    """
    new = Merged()
    with plainly(other.engine), _snapshot(other.engine) as source:
        for table in (schema.products, schema.models, schema.calibrations, schema.threshold_revisions):
            for rows in _pages(source, table):
                with _writing(into) as target:
                    insert_new(target, table, [dict(row) for row in rows])
        total, done = _count(source, schema.items), 0
        runs = source.execute(select(schema.runs).order_by(schema.runs.c.run_id)).mappings().all()
        for run in runs:
            with _writing(into) as target:
                there = select(schema.runs.c.run_id).where(schema.runs.c.run_id == run["run_id"])
                new = replace(new, runs=new.runs + (target.execute(there).first() is None))
                # It ends when all of it is here.
                begin_run(target, replace(run_of(run), finished_at=None))
            for rows in _pages(source, schema.items, schema.items.c.run_id == run["run_id"]):
                with _writing(into) as target:
                    new = _merge_items(source, target, rows, new)
                done += len(rows)
                if told is not None:
                    told(done, total)
            for rows in _pages(source, schema.queue, schema.queue.c.run_id == run["run_id"]):
                with _writing(into) as target:
                    _merge_queue(target, rows)
            with _writing(into) as target:
                _finish(target, run)
        for rows in _pages(source, schema.audit):
            with _writing(into) as target:
                for row in rows:
                    _insert_once(target, schema.audit, _without_id(row))
    return new


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """Read a record as it stands now, however long it takes."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # SQLite reads so by itself.
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


@contextmanager
def _writing(into: Store) -> Iterator[Connection]:
    with plainly(into.engine), writing(into.engine).begin() as target:
        yield target


def _merge_items(source: Connection, target: Connection, rows: list[RowMapping], new: Merged) -> Merged:
    """Add items that are new, with their regions and reviews, and bring up to date what has moved on."""
    columns = schema.items.c
    for row in rows:
        same = select(columns.id, columns.sha256, columns.verdict).where(
            columns.run_id == row["run_id"], columns.path == row["path"]
        )
        found = target.execute(same).mappings().first()
        if found is None:
            _require_free(target, row)
            own = _without_id(row) | {"number": _free_number(target, schema.items, row)}
            inserted = schema.items.insert().values(own).returning(columns.id)
            place = int(target.execute(inserted).scalar_one())
            _copy_regions(source, target, row["id"], place)
            new = replace(new, items=new.items + 1)
        else:
            place = int(found["id"])
            if _knows_better(row, found):
                _take_over(source, target, row, found)
                new = replace(new, changed=new.changed + 1)
        said = select(schema.reviews).where(schema.reviews.c.item == row["id"]).order_by(schema.reviews.c.id)
        for review in source.execute(said).mappings():
            once = _insert_once(target, schema.reviews, {**_without_id(review), "item": place})
            new = replace(new, reviews=new.reviews + once)
        gone = select(schema.withdrawals).where(schema.withdrawals.c.item == row["id"])
        taken_back = [{**_without_id(word), "item": place} for word in source.execute(gone).mappings()]
        if taken_back:
            insert_new(target, schema.withdrawals, taken_back)
    repeated = tell_repeats(target, rows[0]["run_id"], {row["sha256"] for row in rows if row["sha256"]})
    touch_runs(target, [rows[0]["run_id"]])
    return replace(new, changed=new.changed + repeated)


def _knows_better(row: RowMapping, found: RowMapping) -> bool:
    """Tell whether the other record's verdict on a picture is the later one."""
    invalid = Verdict.INVALID.value
    if found["verdict"] == invalid or row["verdict"] == invalid:
        # Tried again since; or here, and not yet there.
        return bool(found["verdict"] == invalid != row["verdict"])
    if row["sha256"] != found["sha256"]:
        raise StoreError(
            expected=f"one picture at {row['path']} in run {row['run_id']}",
            found="another one in the other record",
            remedy="Give the runs of different machines different names.",
        )
    return bool(found["verdict"] == Verdict.PASS.value != row["verdict"])


def _take_over(source: Connection, target: Connection, row: RowMapping, found: RowMapping) -> None:
    kept = {name: v for name, v in _without_id(row).items() if name not in ("run_id", "item_id", "number")}
    target.execute(schema.items.update().where(schema.items.c.id == found["id"]).values(kept))
    target.execute(schema.regions.delete().where(schema.regions.c.item == found["id"]))
    _copy_regions(source, target, row["id"], found["id"])
    facts = {"was": found["verdict"], "is": row["verdict"], "item": row["item_id"]}
    noted = {
        "made_at": now(),
        "actor": "differnet batch merge",
        "action": "moved on",
        "subject": row["run_id"],
    }
    target.execute(schema.audit.insert().values(noted | {"facts": json_text(facts)}))


def _copy_regions(source: Connection, target: Connection, of: int, place: int) -> None:
    mine = select(schema.regions).where(schema.regions.c.item == of)
    regions = [{**region, "item": place} for region in source.execute(mine).mappings()]
    if regions:
        target.execute(schema.regions.insert(), regions)


def _finish(target: Connection, run: RowMapping) -> None:
    """End a run that has ended in the other record, where nothing of it is left here."""
    columns = schema.queue.c
    left = select(func.count()).where(
        columns.run_id == run["run_id"], columns.state.in_(("waiting", "leased"))
    )
    if run["finished_at"] is not None and not target.execute(left).scalar():
        open_ = and_(schema.runs.c.run_id == run["run_id"], schema.runs.c.finished_at.is_(None))
        # What became known at its end is among its facts.
        ended = {"finished_at": run["finished_at"], "facts": run["facts"]}
        target.execute(schema.runs.update().where(open_).values(ended))
        touch_runs(target, [run["run_id"]])


def _insert_once(target: Connection, table: Table, row: dict[str, Any]) -> int:
    same = select(table.c.id).where(and_(*(table.c[name] == value for name, value in row.items())))
    if target.execute(same).first() is not None:
        return 0
    target.execute(table.insert().values(row))
    return 1


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
    here = select(columns.id, columns.path, columns.state).where(
        columns.run_id == run_id, columns.path.in_([row["path"] for row in rows])
    )
    known = {row["path"]: row for row in target.execute(here).mappings()}
    for row in rows:
        # Whoever holds it there holds nothing here.
        state = "waiting" if row["state"] == "leased" else row["state"]
        moved = {"state": state, "owner": None, "leased_until": None, "reason": row["reason"]}
        found = known.get(row["path"])
        if found is None:
            own = _without_id(row) | moved | {"number": _free_number(target, schema.queue, row)}
            target.execute(schema.queue.insert().values(own))
        elif state == "done" != found["state"] or (state == "quarantined" and found["state"] != "done"):
            target.execute(schema.queue.update().where(columns.id == found["id"]).values(moved))


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
