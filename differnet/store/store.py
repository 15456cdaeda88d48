"""The inspection record: what was inspected, by which model and thresholds, and what people said of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping

from differnet.records import Record, Region, Verdict
from differnet.store import schema
from differnet.store.connecting import StoreError, connect, now, writing
from differnet.store.upgrading import form, plainly, require_current, upgrade
from differnet.strict_json import from_mapping

Judgement = Literal["good", "defect", "unsure"]
Order = Literal["kept", "strangest", "latest"]

# Fields of a record that are lists: JSON text in their column.
_LISTS = ("reasons", "quality_flags")
# Rows of one question to the engine: SQLite takes at most 32,766 values.
_CHUNK = 500
# Verdicts that thresholds decide; the others stay whatever the thresholds.
_DECIDED = (Verdict.PASS.value, Verdict.REVIEW.value, Verdict.DEFECT.value)


@dataclass(frozen=True)
class ModelEntry:
    """A model as the store knows it.

    Attributes:
        model_id: Of the densities.
        product: What it judges.
        folder: Where its bundle lies.
        facts: What else is known of it, JSON-able.
    """

    model_id: str
    product: str
    folder: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationEntry:
    """What verdicts of a model rest on.

    Attributes:
        model_id, calibration_id: Of the two.
        parts: Good parts that calibrated.
        scheme: How they were kept apart from training.
        facts: Rates and intervals, JSON-able.
    """

    model_id: str
    calibration_id: str
    parts: int
    scheme: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEntry:
    """One inspection of many pictures, or a line's shift.

    Attributes:
        run_id: Its name.
        product, model_id, calibration_id: What judged.
        threshold_revision: Number of the thresholds in force, 0 for the calibration's own.
        t_review, t_defect: T1 and T2 on strangeness.
        source: Where the pictures came from, for a person.
        folder: Where heat maps and previews lie.
        facts: What else a report says, JSON-able.
        started_at, finished_at: UTC, ISO 8601; a run that is not finished can be resumed.
    """

    run_id: str
    product: str
    model_id: str
    calibration_id: str
    t_review: float
    t_defect: float
    threshold_revision: int = 0
    source: str = ""
    folder: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    started_at: str = ""
    finished_at: str | None = None


@dataclass(frozen=True)
class ReviewEntry:
    """What a person said of an item. Nothing is ever changed: who changes their mind says so once more.

    Attributes:
        judgement: ``good``, ``defect`` or ``unsure``.
        kind: Of defect, else empty.
        author: Who.
        note: Whatever else.
        made_at: When, UTC, ISO 8601.
    """

    judgement: Judgement
    author: str
    kind: str = ""
    note: str = ""
    made_at: str = ""


@dataclass(frozen=True)
class Asked:
    """Which items are meant; what is ``None`` or empty does not matter.

    Attributes:
        run_id: Of one run.
        product, model_id, calibration_id: Judged as, and by.
        revision: Under which thresholds.
        verdicts: Any of these.
        label: Ground truth of the folder.
        since, until: Processed from, and before, UTC in ISO 8601; a date alone is its first moment.
        part_id, sha256: Of one part, of one picture.
    """

    run_id: str | None = None
    product: str | None = None
    model_id: str | None = None
    calibration_id: str | None = None
    revision: int | None = None
    verdicts: tuple[Verdict, ...] = ()
    label: str | None = None
    since: str | None = None
    until: str | None = None
    part_id: str | None = None
    sha256: str | None = None


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

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = writing(engine)

    @classmethod
    def open(cls, place: str | Path) -> Self:
        """Open a store; an empty file or database is given the form of today.

        Args:
            place: A file, made where there is none, or the URL of a PostgreSQL database.

        Raises:
            StoreError: It cannot be opened, is something else, or has to be upgraded first.
        """
        engine = connect(place)
        try:
            with plainly(engine), engine.connect() as connection:
                found = form(connection)
            if found is None:
                upgrade(engine)
            require_current(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Let go of the file or the connections."""
        self.engine.dispose()

    # Written once, and idempotent: who is not sure whether it was done does it again.

    def add_model(self, entry: ModelEntry) -> None:
        """Make a model and its product known; what is known already stays as it is."""
        with self._write() as connection:
            self._insert(connection, schema.products, [{"name": entry.product, "added_at": now()}])
            self._insert(connection, schema.models, [_row(entry) | {"added_at": now()}])

    def add_calibration(self, entry: CalibrationEntry) -> None:
        """Make a calibration known; what is known already stays as it is."""
        with self._write() as connection:
            self._insert(connection, schema.calibrations, [_row(entry) | {"added_at": now()}])

    def begin_run(self, entry: RunEntry) -> None:
        """Begin a run, or find it begun.

        Raises:
            StoreError: There is a run of that name by another model, calibration or thresholds, or its model
                or calibration is not known.
        """
        row = _row(entry) | {"started_at": entry.started_at or now()}
        with self._write() as connection:
            if self._insert(connection, schema.runs, [row]):
                return
            found = _run(connection.execute(_of_run(entry.run_id)).mappings().one())
        keys = ("product", "model_id", "calibration_id", "threshold_revision", "t_review", "t_defect")
        if (ours := {k: row[k] for k in keys}) != (theirs := {k: getattr(found, k) for k in keys}):
            differs = ", ".join(f"{k} {theirs[k]}, not {ours[k]}" for k in keys if ours[k] != theirs[k])
            raise StoreError(
                expected=f"run {entry.run_id} as it was begun",
                found=f"another: {differs}",
                remedy="Resume it with the model and thresholds that it was begun with, or name a new run.",
            )

    def finish_run(self, run_id: str) -> None:
        """Say that nothing more is to come.

        Raises:
            StoreError: There is no such run.
        """
        with self._write() as connection:
            done = connection.execute(
                schema.runs.update()
                .where(schema.runs.c.run_id == run_id)
                .values(finished_at=func.coalesce(schema.runs.c.finished_at, now()))
            )
            if not done.rowcount:
                raise _no_run(run_id)

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
            for record in records:
                row = _row_of(record)
                once = ("run_id", "path", "sha256", "model_id", "calibration_id")
                found = connection.execute(
                    self._statement(schema.items)
                    .values(row)
                    .on_conflict_do_nothing(index_elements=list(once))
                    .returning(schema.items.c.id)
                ).scalar()
                if found is None:
                    continue
                added += 1
                where = [{"item": found, "number": i, **asdict(r)} for i, r in enumerate(record.regions)]
                if where:
                    connection.execute(schema.regions.insert(), where)
        return added

    def review(self, run_id: str, item_id: str, entry: ReviewEntry) -> None:
        """Keep what a person says of an item, beside whatever was said before.

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
        with self._write() as connection:
            found = connection.execute(
                select(schema.items.c.id).where(
                    schema.items.c.run_id == run_id, schema.items.c.item_id == item_id
                )
            ).scalar()
            if found is None:
                raise StoreError(
                    expected=f"item {item_id} of run {run_id}",
                    found="none",
                    remedy="Look up its id in the run.",
                )
            row = _row(entry) | {"item": found, "made_at": entry.made_at or now()}
            connection.execute(schema.reviews.insert().values(row))

    def note(self, actor: str, action: str, subject: str, facts: dict[str, Any] | None = None) -> None:
        """Keep in the audit trail who did what to what."""
        row = {"made_at": now(), "actor": actor, "action": action, "subject": subject}
        with self._write() as connection:
            connection.execute(schema.audit.insert().values(row | {"facts": _json(facts or {})}))

    def run(self, run_id: str) -> RunEntry:
        """Return a run.

        Raises:
            StoreError: There is none of that name.
        """
        with self._read() as connection:
            found = connection.execute(_of_run(run_id)).mappings().one_or_none()
        if found is None:
            raise _no_run(run_id)
        return _run(found)

    def runs(self, product: str | None = None, limit: int = 100) -> list[RunEntry]:
        """Return the latest runs, the newest first."""
        wanted = select(schema.runs).order_by(schema.runs.c.started_at.desc()).limit(limit)
        if product is not None:
            wanted = wanted.where(schema.runs.c.product == product)
        with self._read() as connection:
            return [_run(row) for row in connection.execute(wanted).mappings()]

    def items(
        self, asked: Asked, order: Order = "kept", limit: int | None = None, offset: int = 0
    ) -> list[Record]:
        """Return records.

        Args:
            asked: Which.
            order: As they were kept, the strangest first (what has no strangeness last), or the latest first.
            limit: How many at most.
            offset: How many to leave out before.
        """
        columns = schema.items.c
        orders: dict[Order, list[ColumnElement[Any]]] = {
            "kept": [columns.id],
            "strangest": [columns.strangeness.desc().nulls_last(), columns.id],
            "latest": [columns.processed_at.desc(), columns.id.desc()],
        }
        wanted = select(schema.items).where(_meant(asked)).order_by(*orders[order])
        wanted = wanted.limit(limit).offset(offset) if limit is not None or offset else wanted
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
            regions = self._regions(connection, [row["id"] for row in rows])
        return [_record(row, regions.get(row["id"], ())) for row in rows]

    def named(self, run_id: str, name: str) -> list[Record]:
        """Return the items of a run that go by a name: an item id, a part id, or a path as recorded."""
        columns = schema.items.c
        either = or_(columns.item_id == name, columns.part_id == name, columns.path == name)
        wanted = select(schema.items).where(columns.run_id == run_id, either).order_by(columns.id)
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
            regions = self._regions(connection, [row["id"] for row in rows])
        return [_record(row, regions.get(row["id"], ())) for row in rows]

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
        wanted = (
            select(schema.items, other.label("other"))
            .where(_meant(asked), columns.verdict.in_(_DECIDED), columns.strangeness.is_not(None))
            .where(columns.verdict != other)
            .order_by(columns.strangeness.desc(), columns.id)
            .limit(limit)
        )
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
            regions = self._regions(connection, [row["id"] for row in rows])
        return [(_record(row, regions.get(row["id"], ())), Verdict(row["other"])) for row in rows]

    def reviews(self, run_id: str, item_id: str) -> list[ReviewEntry]:
        """Return what people said of an item, the first first."""
        wanted = (
            select(schema.reviews)
            .join(schema.items, schema.items.c.id == schema.reviews.c.item)
            .where(schema.items.c.run_id == run_id, schema.items.c.item_id == item_id)
            .order_by(schema.reviews.c.id)
        )
        with self._read() as connection:
            return [_review(row) for row in connection.execute(wanted).mappings()]

    def reviewed(self, asked: Asked) -> list[tuple[Record, ReviewEntry]]:
        """Return the items that somebody judged, each with the last word on it, in the order of the items."""
        last = select(func.max(schema.reviews.c.id)).group_by(schema.reviews.c.item)
        names = [column.label(f"review_{column.name}") for column in schema.reviews.c]
        wanted = (
            select(schema.items, *names)
            .join(schema.reviews, schema.items.c.id == schema.reviews.c.item)
            .where(_meant(asked), schema.reviews.c.id.in_(last))
            .order_by(schema.items.c.id)
        )
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
            regions = self._regions(connection, [row["id"] for row in rows])
        return [
            (
                _record(row, regions.get(row["id"], ())),
                _review({f.name: row[f"review_{f.name}"] for f in fields(ReviewEntry)}),
            )
            for row in rows
        ]

    def audit(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the latest of the audit trail, the newest first."""
        wanted = select(schema.audit).order_by(schema.audit.c.id.desc()).limit(limit)
        with self._read() as connection:
            rows = connection.execute(wanted).mappings().all()
        return [{**row, "facts": json.loads(row["facts"])} for row in rows]

    def _regions(self, connection: Connection, ids: Sequence[int]) -> dict[int, tuple[Region, ...]]:
        found: dict[int, list[Region]] = {}
        for some in _chunks(ids):
            wanted = select(schema.regions).where(schema.regions.c.item.in_(some))
            for row in connection.execute(wanted.order_by(schema.regions.c.number)).mappings():
                region = Region(**{f.name: row[f.name] for f in fields(Region)})
                found.setdefault(row["item"], []).append(region)
        return {item: tuple(regions) for item, regions in found.items()}

    def _insert(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
        """Insert rows that are not there yet, and return how many were not."""
        statement = self._statement(table).values(rows).on_conflict_do_nothing()
        return len(connection.execute(statement.returning(*table.primary_key.columns)).all())

    def _statement(self, table: Table) -> Any:
        # Both engines know the clause, by a statement of their own.
        dialect = sqlite if self.engine.dialect.name == "sqlite" else postgresql
        return dialect.insert(table)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with plainly(self.engine), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with plainly(self.engine), self.engine.connect() as connection:
            yield connection


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


def _row_of(record: Record) -> dict[str, Any]:
    row = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "regions"}
    row |= {name: _json(list(row[name])) for name in _LISTS}
    return row | {"verdict": record.verdict.value, "processed_at": record.processed_at or now()}


def _record(row: RowMapping, regions: Iterable[Region]) -> Record:
    known = {f.name: row[f.name] for f in fields(Record) if f.name != "regions"}
    known |= {name: json.loads(known[name]) for name in _LISTS}
    # The strict reader checks what another program may have put there.
    return from_mapping(Record, known | {"regions": [asdict(region) for region in regions]})


def _row(entry: Any) -> dict[str, Any]:
    row = asdict(entry)
    return row | ({"facts": _json(row["facts"])} if "facts" in row else {})


def _run(row: RowMapping) -> RunEntry:
    known = {f.name: row[f.name] for f in fields(RunEntry)}
    return RunEntry(**(known | {"facts": json.loads(known["facts"])}))


def _review(row: Any) -> ReviewEntry:
    return ReviewEntry(**{f.name: row[f.name] for f in fields(ReviewEntry)})


def _of_run(run_id: str) -> Select[Any]:
    return select(schema.runs).where(schema.runs.c.run_id == run_id)


def _no_run(run_id: str) -> StoreError:
    return StoreError(
        expected=f"run {run_id} in the record", found="none of that name", remedy="List the runs."
    )


def _json(facts: Any) -> str:
    return json.dumps(facts, sort_keys=True, allow_nan=False)


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]
