"""The inspection record: what was inspected, by which model and thresholds, and what people said of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Self, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    true,
)

from differnet.records import Record, Verdict
from differnet.store import schema
from differnet.store.connecting import StoreError, connect, now, writing
from differnet.store.entries import (
    Asked,
    CalibrationEntry,
    Judgement,
    ModelEntry,
    Order,
    ReviewEntry,
    RevisionEntry,
    RunEntry,
    Said,
)
from differnet.store.rows import (
    begin_run,
    entry_of,
    entry_row,
    insert_item,
    insert_new,
    json_text,
    next_number,
    no_run,
    of_run,
    record_of,
    regions_of,
    review_of,
    run_of,
    stands,
    touch_runs,
)
from differnet.store.run_table import RunTable, read_table
from differnet.store.upgrading import form, plainly, require_current, upgrade

# Items of one question: SQLite takes at most 32,766 values.
_ASKED_AT_ONCE = 500
# Verdicts that thresholds decide; the others stay whatever the thresholds.
_DECIDED = (Verdict.PASS.value, Verdict.REVIEW.value, Verdict.DEFECT.value)


class Store:
    """The inspection record in a database.

    Every question that a page, a report or a command asks is a method here. What a method that writes has
    returned from is on the disk.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store.open(Path(folder) / "record.db")
        ...     store.add_model(ModelEntry("m1", "flange"))
        ...     store.add_calibration(CalibrationEntry("m1", "c1", parts=99))
        ...     store.begin_run(RunEntry("monday", "flange", "m1", "c1", 1.3, 2.0))
        ...     part = Record("monday", "i1", "p1", "", "p1.png", "e3b0", Verdict.PASS, ("usual",),
        ...                   strangeness=0.4, model_id="m1", calibration_id="c1")
        ...     added = store.add_items([part]), store.add_items([part])
        ...     counts = store.verdict_counts(Asked(run_id="monday"))
        ...     store.close()
        ...     (added, dict(counts))
        ((1, 0), {<Verdict.PASS: 'PASS'>: 1})
    """

    def __init__(self, engine: Engine, *, read_only: bool = False) -> None:
        self.engine = engine
        self.read_only = read_only
        self._writing = writing(engine)

    @classmethod
    def open(cls, place: str | Path, *, read_only: bool = False) -> Self:
        """Open a store; an empty file or database is given the form of today.

        Args:
            place: A file, made where there is none, or the URL of a PostgreSQL database.
            read_only: The engine refuses to write; the store must be there already.

        Raises:
            StoreError: It cannot be opened, is something else, or has to be upgraded first.
        """
        engine = connect(place, read_only=read_only)
        try:
            with plainly(engine), engine.connect() as connection:
                found = form(connection)
            if found is None and not read_only:
                upgrade(engine)
            require_current(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, read_only=read_only)

    def close(self) -> None:
        """Let go of the file or the connections."""
        self.engine.dispose()

    # Written once, and idempotent: who is not sure whether it was done does it again.

    def add_model(self, entry: ModelEntry) -> None:
        """Make a model and its product known; what is known already stays as it is."""
        with self._write() as connection:
            insert_new(connection, schema.products, [{"name": entry.product, "added_at": now()}])
            insert_new(connection, schema.models, [entry_row(entry) | {"added_at": now()}])

    def place_model(self, model_id: str, folder: Path) -> None:
        """Say where a model's bundle lies now.

        Args:
            model_id: Of a model that is known.
            folder: Of its bundle.
        """
        row = schema.models.update().where(schema.models.c.model_id == model_id)
        with self._write() as connection:
            connection.execute(row.values(folder=str(folder.resolve())))

    def add_calibration(self, entry: CalibrationEntry) -> None:
        """Make a calibration known; what is known already stays as it is."""
        with self._write() as connection:
            insert_new(connection, schema.calibrations, [entry_row(entry) | {"added_at": now()}])

    def begin_run(self, entry: RunEntry) -> None:
        """Begin a run, or find it begun.

        Raises:
            StoreError: There is a run of that name by another model, calibration or thresholds, or its model
                or calibration is not known.
        """
        with self._write() as connection:
            begin_run(connection, entry)

    def add_revision(self, entry: RevisionEntry) -> None:
        """Make thresholds known, with who set them and why; what is known already stays as it is."""
        with self._write() as connection:
            insert_new(connection, schema.threshold_revisions, [entry_row(entry)])

    def finish_run(
        self, run_id: str, finished_at: str | None = None, facts: dict[str, Any] | None = None
    ) -> None:
        """Say that nothing more is to come; of a run that is finished nothing changes.

        Args:
            run_id: Which.
            finished_at: When, UTC in ISO 8601; now if it is not said.
            facts: What became known at the end, added to the facts of the run.

        Raises:
            StoreError: There is no such run.
        """
        with self._write() as connection:
            row = connection.execute(of_run(run_id)).mappings().one_or_none()
            if row is None:
                raise no_run(run_id)
            if row["finished_at"] is None:
                told = json_text(json.loads(row["facts"]) | (facts or {}))
                connection.execute(
                    schema.runs.update()
                    .where(schema.runs.c.run_id == run_id, schema.runs.c.finished_at.is_(None))
                    .values(finished_at=finished_at or now(), facts=told, changed=schema.runs.c.changed + 1)
                )

    def add_items(self, records: Sequence[Record]) -> int:
        """Keep inspected pictures, all of them or none.

        A picture that the run holds already, judged by the same model and calibration, is left as it is: a
        job that was cut off may send its last ones again.

        Args:
            records: Of begun runs; item ids are the run's own.

        Returns:
            How many were new.

        Raises:
            StoreError: A run is not known, or an item id of the run names another picture.
        """
        added = 0
        with self._write() as connection:
            numbers = {run_id: next_number(connection, run_id) for run_id in {r.run_id for r in records}}
            for record in records:
                if insert_item(connection, record, numbers[record.run_id]) is not None:
                    numbers[record.run_id] += 1
                    added += 1
            touch_runs(connection, numbers)
        return added

    def review(self, run_id: str, item_id: str, entry: ReviewEntry) -> ReviewEntry:
        """Keep what a person says of an item, beside whatever was said before; see `review_all`."""
        return self.review_all(run_id, [item_id], entry)

    def review_all(self, run_id: str, item_ids: Sequence[str], entry: ReviewEntry) -> ReviewEntry:
        """Keep what a person says of several items, beside whatever was said before: of all or of none.

        Returns:
            What is kept, with the time.

        Raises:
            StoreError: There is no such item, nobody says it, or a kind of something that is no defect.
        """
        if entry.judgement not in get_args(Judgement) or not entry.author.strip():
            raise StoreError(
                expected="good, defect or unsure, said by somebody",
                found=f"{entry.judgement!r} by {entry.author!r}",
                remedy="Give a judgement and a name.",
            )
        if entry.kind and entry.judgement != "defect":
            raise StoreError(
                expected="a kind of defect beside the judgement defect alone",
                found=f"{entry.kind!r} beside {entry.judgement}",
                remedy="Leave the kind out.",
            )
        row = entry_row(entry) | {"made_at": entry.made_at or now()}
        columns = schema.items.c
        with self._write() as connection:
            # First, so that words of a run are numbered in the order in which they come to be seen.
            touch_runs(connection, [run_id], words_alone=True)
            for item_id in item_ids:
                meant = select(columns.id).where(columns.run_id == run_id, columns.item_id == item_id)
                found = connection.execute(meant).scalar()
                if found is None:
                    raise StoreError(
                        expected=f"item {item_id} of run {run_id}",
                        found="none",
                        remedy="Look up its id in the run.",
                    )
                connection.execute(schema.reviews.insert().values(row | {"item": found}))
        return ReviewEntry(**row)

    def withdraw(self, run_id: str, item_ids: Sequence[str], author: str, said_at: str) -> int:
        """Take back what a person said of items at one time; what was said before counts again.

        Nothing is removed. Only who said it takes it back.

        Args:
            run_id: Of the items.
            item_ids: Of which it was said.
            author: Who said it.
            said_at: When, as `review_all` returned it.

        Returns:
            Of how many items it stood until now; those of which it is taken back already are left as they
            are.

        Raises:
            StoreError: Of one of the items the author said nothing then; nothing is taken back.
        """
        items, reviews = schema.items.c, schema.reviews.c
        meant = (
            select(reviews.item, items.item_id)
            .join(schema.items, items.id == reviews.item)
            .where(items.run_id == run_id, items.item_id.in_(item_ids))
            .where(reviews.author == author, reviews.made_at == said_at)
        )
        with self._write() as connection:
            # First, as words are said.
            touch_runs(connection, [run_id], words_alone=True)
            found = {row.item: row.item_id for row in connection.execute(meant)}
            if missing := sorted(set(item_ids) - set(found.values())):
                raise StoreError(
                    expected=f"what {author} said at {said_at} of item {missing[0]} of run {run_id}",
                    found="nothing",
                    remedy="Only who said it takes it back: differnet review list tells what was said.",
                )
            row = {"author": author, "said_at": said_at, "made_at": now()}
            rows = [row | {"item": item} for item in found]
            return insert_new(connection, schema.withdrawals, rows) if rows else 0

    def keep_view(self, page: str, name: str, query: dict[str, Any], author: str) -> None:
        """Keep filters of a page under a name; what went by that name before is replaced.

        Raises:
            StoreError: The name is empty.
        """
        if not name.strip():
            raise StoreError(expected="a name for the view", found="none", remedy="Type one.")
        row = {"page": page, "name": name.strip(), "author": author, "made_at": now()}
        with self._write() as connection:
            connection.execute(_of_view(schema.views.delete(), page, name.strip()))
            connection.execute(schema.views.insert().values(row | {"query": json_text(query)}))

    def drop_view(self, page: str, name: str) -> None:
        """Forget filters that were kept under a name."""
        with self._write() as connection:
            connection.execute(_of_view(schema.views.delete(), page, name))

    def views(self, page: str) -> dict[str, dict[str, Any]]:
        """Return the kept filters of a page, by their names in alphabetical order."""
        columns = schema.views.c
        wanted = select(columns.name, columns.query).where(columns.page == page).order_by(columns.name)
        with self._read() as connection:
            return {name: json.loads(query) for name, query in connection.execute(wanted)}

    def note(self, actor: str, action: str, subject: str, facts: dict[str, Any] | None = None) -> None:
        """Keep in the audit trail who did what to what."""
        row = {"made_at": now(), "actor": actor, "action": action, "subject": subject}
        with self._write() as connection:
            connection.execute(schema.audit.insert().values(row | {"facts": json_text(facts or {})}))

    def run(self, run_id: str) -> RunEntry:
        """Return a run.

        Raises:
            StoreError: There is none of that name.
        """
        with self._read() as connection:
            found = connection.execute(of_run(run_id)).mappings().one_or_none()
        if found is None:
            raise no_run(run_id)
        return run_of(found)

    def run_in(self, folder: Path) -> RunEntry | None:
        """Return the latest run whose heat maps and previews lie in a folder, if there is one."""
        wanted = select(schema.runs).where(schema.runs.c.folder == str(folder.resolve()))
        with self._read() as connection:
            found = connection.execute(wanted.order_by(schema.runs.c.started_at.desc())).mappings().first()
        return None if found is None else run_of(found)

    def model(self, model_id: str) -> ModelEntry | None:
        """Return what is known of a model, if anything."""
        wanted = select(schema.models).where(schema.models.c.model_id == model_id)
        with self._read() as connection:
            found = connection.execute(wanted).mappings().one_or_none()
        return None if found is None else entry_of(ModelEntry, found)

    def models(self, product: str | None = None) -> list[ModelEntry]:
        """Return the models that are known, the newest first.

        Args:
            product: That they judge; of all where it is not said.
        """
        columns = schema.models.c
        wanted = select(schema.models).order_by(columns.added_at.desc(), columns.model_id)
        if product is not None:
            wanted = wanted.where(columns.product == product)
        with self._read() as connection:
            return [entry_of(ModelEntry, row) for row in connection.execute(wanted).mappings()]

    def calibrations(self, model_id: str) -> list[CalibrationEntry]:
        """Return the calibrations of a model that are known, the newest first."""
        columns = schema.calibrations.c
        wanted = select(schema.calibrations).where(columns.model_id == model_id)
        ordered = wanted.order_by(columns.added_at.desc(), columns.calibration_id)
        with self._read() as connection:
            return [entry_of(CalibrationEntry, row) for row in connection.execute(ordered).mappings()]

    def calibration(self, model_id: str, calibration_id: str) -> CalibrationEntry | None:
        """Return what is known of a calibration, if anything."""
        columns = schema.calibrations.c
        wanted = select(schema.calibrations).where(
            columns.model_id == model_id, columns.calibration_id == calibration_id
        )
        with self._read() as connection:
            found = connection.execute(wanted).mappings().one_or_none()
        return None if found is None else entry_of(CalibrationEntry, found)

    def products(self) -> list[str]:
        """Return the products that are known, in alphabetical order."""
        wanted = select(schema.products.c.name).order_by(schema.products.c.name)
        with self._read() as connection:
            return list(connection.execute(wanted).scalars())

    def runs(
        self,
        product: str | None = None,
        limit: int = 100,
        *,
        jobs: bool = False,
        before: str | None = None,
    ) -> list[RunEntry]:
        """Return the latest runs, the newest first.

        Args:
            product: Judged as it.
            limit: How many at most.
            jobs: Batch jobs alone.
            before: Begun before it, UTC in ISO 8601.
        """
        wanted = select(schema.runs).order_by(schema.runs.c.started_at.desc()).limit(limit)
        if product is not None:
            wanted = wanted.where(schema.runs.c.product == product)
        if before is not None:
            wanted = wanted.where(schema.runs.c.started_at < before)
        if jobs:
            wanted = wanted.where(exists().where(schema.queue.c.run_id == schema.runs.c.run_id))
        with self._read() as connection:
            return [run_of(row) for row in connection.execute(wanted).mappings()]

    def items(
        self, asked: Asked, order: Order = "kept", limit: int | None = None, offset: int = 0
    ) -> list[Record]:
        """Return records.

        Args:
            asked: Which.
            order: As they came (in their run's order where one run is asked for), the strangest first (what
                has no strangeness last), or the latest first.
            limit: How many at most.
            offset: How many to leave out before.
        """
        columns = schema.items.c
        orders: dict[Order, list[ColumnElement[Any]]] = {
            "kept": [columns.number, columns.id] if asked.run_id is not None else [columns.id],
            "strangest": [columns.strangeness.desc().nulls_last(), columns.id],
            "latest": [columns.processed_at.desc(), columns.id.desc()],
        }
        meant = select(columns.id).where(_meant(asked)).order_by(*orders[order])
        wanted = select(schema.items).order_by(*orders[order])
        if limit is None and not offset:
            wanted = wanted.where(_meant(asked))
        else:
            # Rows are wide, and their indexes are not: a page's rows are looked up when it is known which.
            wanted = wanted.where(columns.id.in_(meant.limit(limit).offset(offset)))
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
            regions = regions_of(connection, [row["id"] for row in rows])
        return [record_of(row, regions.get(row["id"], ())) for row in rows]

    def revision(self, model_id: str, calibration_id: str, number: int) -> RevisionEntry | None:
        """Return thresholds that somebody set, or ``None`` where none of that number are known."""
        columns = schema.threshold_revisions.c
        wanted = select(schema.threshold_revisions).where(
            columns.model_id == model_id,
            columns.calibration_id == calibration_id,
            columns.number == number,
        )
        with self._read() as connection:
            found = connection.execute(wanted).mappings().one_or_none()
        return None if found is None else RevisionEntry(**found)

    def revisions(self, model_id: str, calibration_id: str) -> list[RevisionEntry]:
        """Return the thresholds that were set for a model and its calibration, the newest first."""
        columns = schema.threshold_revisions.c
        wanted = (
            select(schema.threshold_revisions)
            .where(columns.model_id == model_id, columns.calibration_id == calibration_id)
            .order_by(columns.number.desc())
        )
        with self._read() as connection:
            return [RevisionEntry(**row) for row in connection.execute(wanted).mappings()]

    def changed(self, run_id: str) -> int:
        """Return a number that grows with whatever is written of a run: its items, reviews and end.

        Raises:
            StoreError: There is no such run.
        """
        with self._read() as connection:
            return _counts(connection, run_id)[0]

    def sizes(self) -> dict[str, int]:
        """Count what the record holds: products, models, runs, items, reviews."""
        tables = (schema.products, schema.models, schema.runs, schema.items, schema.reviews)
        with self._read() as connection:
            return {
                table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
                for table in tables
            }

    def changes(self) -> int:
        """Return a number that grows with whatever is written of any run."""
        wanted = select(func.count() + func.coalesce(func.sum(schema.runs.c.changed), 0))
        with self._read() as connection:
            return int(connection.execute(wanted.select_from(schema.runs)).scalar_one())

    def table(self, run_id: str, known: RunTable | None = None) -> RunTable:
        """Return all items of a run as columns, as they stand at one moment; see `RunTable`.

        Args:
            run_id: Of the run.
            known: As it was read before, which saves time where people have said something since, and
                nothing else was written.

        Raises:
            StoreError: There is no such run.
        """
        with self._read() as connection:
            return read_table(connection, run_id, _counts(connection, run_id), self._read, known)

    def records(self, run_id: str, item_ids: Sequence[str]) -> list[Record]:
        """Return items of a run by their ids, in the order of these; what is not there is left out."""
        columns = schema.items.c
        found: dict[str, Record] = {}
        with self._read() as connection:
            for start in range(0, len(item_ids), _ASKED_AT_ONCE):
                some = list(item_ids[start : start + _ASKED_AT_ONCE])
                meant = select(schema.items).where(columns.run_id == run_id, columns.item_id.in_(some))
                rows = connection.execute(meant).mappings().all()
                regions = regions_of(connection, [row["id"] for row in rows])
                found |= {row["item_id"]: record_of(row, regions.get(row["id"], ())) for row in rows}
        return [found[item_id] for item_id in item_ids if item_id in found]

    def named(self, run_id: str, name: str) -> list[Record]:
        """Return the items of a run that go by a name: an item id, a part id, or a path as recorded."""
        columns = schema.items.c
        # Names of files need not be text, and ids are compared with the same name.
        known_as = literal(name, schema.FileText())
        either = or_(columns.item_id == known_as, columns.part_id == known_as, columns.path == known_as)
        wanted = select(schema.items).where(columns.run_id == run_id, either).order_by(columns.id)
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
            regions = regions_of(connection, [row["id"] for row in rows])
        return [record_of(row, regions.get(row["id"], ())) for row in rows]

    def verdict_counts(self, asked: Asked) -> Counter[Verdict]:
        """Count the items of each verdict."""
        columns = schema.items.c
        wanted = select(columns.verdict, func.count()).where(_meant(asked)).group_by(columns.verdict)
        with self._read() as connection:
            return Counter({Verdict(name): count for name, count in connection.execute(wanted)})

    def counts_by_label(self, asked: Asked) -> dict[str | None, Counter[Verdict]]:
        """Count the items of each verdict, by ground truth of the folder."""
        columns = schema.items.c
        wanted = (
            select(columns.label, columns.verdict, func.count())
            .where(_meant(asked))
            .group_by(columns.label, columns.verdict)
        )
        found: dict[str | None, Counter[Verdict]] = {}
        with self._read() as connection:
            for label, verdict, count in connection.execute(wanted):
                found.setdefault(label, Counter())[Verdict(verdict)] = count
        return found

    def counts_by_run(self, run_ids: Collection[str]) -> dict[str, Counter[Verdict]]:
        """Count the items of each verdict in each of some runs; a run that has none has empty counts."""
        columns = schema.items.c
        counted = select(columns.run_id, columns.verdict, func.count())
        found: dict[str, Counter[Verdict]] = {run_id: Counter() for run_id in run_ids}
        with self._read() as connection:
            for start in range(0, len(run_ids), _ASKED_AT_ONCE):
                some = list(run_ids)[start : start + _ASKED_AT_ONCE]
                wanted = counted.where(columns.run_id.in_(some)).group_by(columns.run_id, columns.verdict)
                for run_id, verdict, count in connection.execute(wanted):
                    found[run_id][Verdict(verdict)] = count
        return found

    def counts_by_time(self, asked: Asked, digits: int) -> Counter[tuple[str, str | None, Verdict]]:
        """Count items by when they were processed, ground truth and verdict.

        Args:
            asked: Which.
            digits: Of the time, which is UTC in ISO 8601: 10 for a day, 13 for an hour.
        """
        columns = schema.items.c
        time = func.substr(columns.processed_at, 1, digits).label("time")
        wanted = select(time, columns.label, columns.verdict, func.count()).where(_meant(asked))
        # By its name: an expression that is bound twice is not the same to every engine.
        grouped = wanted.group_by(text("time"), columns.label, columns.verdict)
        with self._read() as connection:
            return Counter({(t, label, Verdict(v)): n for t, label, v, n in connection.execute(grouped)})

    def counts_by_judgement(self, asked: Asked) -> Counter[tuple[str | None, Verdict, str, str]]:
        """Count reviewed items by ground truth, verdict, and the last word's judgement and kind."""
        items, reviews = schema.items.c, schema.reviews.c
        named = (items.label, items.verdict, reviews.judgement, reviews.kind)
        wanted = (
            select(*named, func.count())
            .join(schema.reviews, items.id == reviews.item)
            .where(items.id.in_(select(reviews.item)), _meant(asked))
            .where(stands(schema.reviews), ~_contradicted())
            .group_by(*named)
        )
        with self._read() as connection:
            rows = connection.execute(wanted).all()
        return Counter({(label, Verdict(v), said, kind): n for label, v, said, kind, n in rows})

    def counts_by_reasons(self, asked: Asked) -> Counter[tuple[str, ...]]:
        """Count items by the reasons that are given for their verdict, word for word."""
        columns = schema.items.c
        # Found by their indexes, and looked up when it is known which.
        meant = select(columns.id).where(_meant(asked))
        wanted = select(columns.reasons, func.count()).where(columns.id.in_(meant)).group_by(columns.reasons)
        with self._read() as connection:
            return Counter({tuple(json.loads(told)): n for told, n in connection.execute(wanted)})

    def times(self, asked: Asked, limit: int) -> list[tuple[float, float]]:
        """Return what the latest items took to decode and to judge, milliseconds, the latest first.

        Args:
            asked: Of which items.
            limit: How many at most.
        """
        columns = schema.items.c
        order = columns.processed_at.desc(), columns.id.desc()
        meant = select(columns.id).where(_meant(asked)).order_by(*order).limit(limit)
        wanted = select(columns.decode_ms, columns.inference_ms).where(columns.id.in_(meant)).order_by(*order)
        with self._read() as connection:
            return [(decode, judge) for decode, judge in connection.execute(wanted)]

    def flips(
        self, asked: Asked, review: float, defect: float, limit: int = 1000
    ) -> list[tuple[Record, Verdict]]:
        """Return the items whose verdict other thresholds would change, and to which; OOD and INVALID stay.

        Args:
            asked: Which items.
            review: T1 instead.
            defect: T2 instead.
            limit: How many at most, the strangest first.
        """
        columns = schema.items.c
        doubted = and_(columns.verdict == Verdict.REVIEW.value, columns.strangeness < columns.t_review)
        other = case(
            (columns.strangeness >= defect, literal(Verdict.DEFECT.value)),
            (or_(columns.strangeness >= review, doubted), literal(Verdict.REVIEW.value)),
            else_=literal(Verdict.PASS.value),
        )
        order = columns.strangeness.desc(), columns.id
        meant = (
            select(columns.id)
            .where(_meant(asked), columns.verdict.in_(_DECIDED), columns.strangeness.is_not(None))
            .where(columns.verdict != other)
            .order_by(*order)
            .limit(limit)
        )
        wanted = select(schema.items, other.label("other")).where(columns.id.in_(meant)).order_by(*order)
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
            regions = regions_of(connection, [row["id"] for row in rows])
        return [(record_of(row, regions.get(row["id"], ())), Verdict(row["other"])) for row in rows]

    def reviews(self, run_id: str, item_id: str) -> list[ReviewEntry]:
        """Return what people said of an item and did not take back, the first first."""
        wanted = (
            select(schema.reviews)
            .join(schema.items, schema.items.c.id == schema.reviews.c.item)
            .where(schema.items.c.run_id == run_id, schema.items.c.item_id == item_id)
            .where(stands(schema.reviews))
            .order_by(schema.reviews.c.made_at, schema.reviews.c.id)
        )
        with self._read() as connection:
            return [review_of(row) for row in connection.execute(wanted).mappings()]

    def reviewed(self, asked: Asked) -> list[tuple[Record, ReviewEntry]]:
        """Return the items that somebody judged, each with the last word on it, in the order of the items."""
        columns = schema.reviews.c
        names = [column.label(f"review_{column.name}") for column in schema.reviews.c]
        wanted = (
            select(schema.items, *names)
            .join(schema.reviews, schema.items.c.id == schema.reviews.c.item)
            # Said twice, and sorted below, so that no engine reads all items for the few that are reviewed.
            .where(schema.items.c.id.in_(select(columns.item)), _meant(asked))
            .where(stands(schema.reviews), ~_contradicted())
        )
        with self._read() as connection:
            rows = sorted(connection.execute(wanted).mappings(), key=lambda row: row["id"])
            regions = regions_of(connection, [row["id"] for row in rows])
        return [
            (
                record_of(row, regions.get(row["id"], ())),
                review_of({f.name: row[f"review_{f.name}"] for f in fields(ReviewEntry)}),
            )
            for row in rows
        ]

    def said(self, asked: Asked, *, by: str | None = None, withdrawn: bool = False) -> list[Said]:
        """Return every word of people on items, in the order in which they were said.

        Args:
            asked: On which items.
            by: Of one person.
            withdrawn: Also what was taken back.
        """
        items, reviews, taken = schema.items.c, schema.reviews.c, schema.withdrawals
        same = and_(
            taken.c.item == reviews.item,
            taken.c.author == reviews.author,
            taken.c.said_at == reviews.made_at,
        )
        of_item = [items[f.name] for f in fields(Said) if f.name in items]
        of_word = [reviews[f.name].label(f"review_{f.name}") for f in fields(ReviewEntry)]
        wanted = (
            select(*of_item, *of_word, func.coalesce(taken.c.made_at, "").label("withdrawn_at"))
            .join(schema.reviews, items.id == reviews.item)
            .outerjoin(taken, same)
            .where(items.id.in_(select(reviews.item)), _meant(asked))
            .order_by(reviews.made_at, reviews.id)
        )
        if by is not None:
            wanted = wanted.where(reviews.author == by)
        if not withdrawn:
            wanted = wanted.where(taken.c.id.is_(None))
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
        return [
            Said(
                **{column.name: row[column.name] for column in of_item}
                | {"verdict": Verdict(row["verdict"])},
                entry=review_of({f.name: row[f"review_{f.name}"] for f in fields(ReviewEntry)}),
                withdrawn_at=row["withdrawn_at"],
            )
            for row in rows
        ]

    def audit(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the latest of the audit trail, the newest first."""
        wanted = select(schema.audit).order_by(schema.audit.c.id.desc()).limit(limit)
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
        return [{**row, "facts": json.loads(row["facts"])} for row in rows]

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with plainly(self.engine), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with plainly(self.engine), self.engine.connect() as connection:
            yield connection


def _counts(connection: Connection, run_id: str) -> tuple[int, int]:
    """Count what was written of a run, and what of it was more than words."""
    columns = schema.runs.c
    wanted = select(columns.changed, columns.said).where(columns.run_id == run_id)
    found = connection.execute(wanted).first()
    if found is None:
        raise no_run(run_id)
    return found.changed, found.changed - found.said


def _contradicted() -> ColumnElement[bool]:
    """Tell whether a review that stands was followed by another one that does."""
    columns, later = schema.reviews.c, schema.reviews.alias("later")
    # By when it was said: what was said earlier may have come here later, from another machine's record.
    after = or_(
        later.c.made_at > columns.made_at,
        and_(later.c.made_at == columns.made_at, later.c.id > columns.id),
    )
    return exists().where(later.c.item == columns.item, after, stands(later))


def _of_view(statement: Delete, page: str, name: str) -> Delete:
    return statement.where(schema.views.c.page == page, schema.views.c.name == name)


def _meant(asked: Asked) -> Any:
    columns = schema.items.c
    exact = ("run_id", "product", "model_id", "calibration_id", "label", "part_id", "sha256")
    wanted = [columns[name] == getattr(asked, name) for name in exact if getattr(asked, name) is not None]
    if asked.revision is not None:
        wanted.append(columns.threshold_revision == asked.revision)
    if asked.verdicts:
        wanted.append(columns.verdict.in_([verdict.value for verdict in asked.verdicts]))
    if asked.since is not None:
        wanted.append(columns.processed_at >= asked.since)
    if asked.until is not None:
        wanted.append(columns.processed_at < asked.until)
    return and_(true(), *wanted)
