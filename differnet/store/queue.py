"""What a batch job has still to do: a queue in the store, which several processes share.

A process claims pictures for a time, judges them, and settles them: records, regions and the end of the claim
are one transaction. Who dies holds claims that end by themselves; what it had settled stays, what it had not
another process claims. A claim that has ended gives no right to settle, so that nothing is kept twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, select
from sqlalchemy.engine import RowMapping

from differnet.records import Record, Verdict
from differnet.repeats import told_repeated
from differnet.store import schema
from differnet.store.connecting import StoreError, now, writing
from differnet.store.entries import RunEntry
from differnet.store.rows import (
    begin_run,
    insert_items,
    json_text,
    no_run,
    of_run,
    record_of,
    regions_of,
    replace_item,
    run_of,
    touch_runs,
)
from differnet.store.store import Store
from differnet.store.upgrading import plainly

LEASE = timedelta(seconds=30)
"""How long a claim holds, and how long a job waits for a dead one's: many times what a few pictures take."""

CAREFUL_CLAIMS = 3
"""Claims that ended without a word before a picture is claimed alone: it may be what kills the process."""

MOST_CLAIMS = 6
"""Claims that ended without a word before a picture is put aside."""

_ROWS = 1000
_KILLER = "the process that judged it ended without a word {claims} times"


@dataclass(frozen=True)
class Wanted:
    """A picture to inspect.

    Attributes:
        path: The file.
        label: What its folder says it shows, or ``None``.
    """

    path: str
    label: str | None = None


@dataclass(frozen=True)
class Claim:
    """A picture that a process has taken to judge.

    Attributes:
        id: Of the claim's row.
        number: Its place in the run, from 0.
        path, label: As it was asked for.
        claims: How often it was claimed, this time included.
    """

    id: int
    number: int
    path: str
    label: str | None
    claims: int


@dataclass(frozen=True)
class Progress:
    """How far a run is, in pictures."""

    waiting: int = 0
    leased: int = 0
    done: int = 0
    quarantined: int = 0

    @property
    def total(self) -> int:
        """All of the run."""
        return self.waiting + self.leased + self.done + self.quarantined

    @property
    def left(self) -> int:
        """Pictures that have no verdict yet."""
        return self.waiting + self.leased


class Queue:
    """The pictures of one run.

    Args:
        store: Where it is kept.
        run_id: Of the run.
        lease: How long claims hold.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from differnet.store import CalibrationEntry, ModelEntry
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store.open(Path(folder) / "record.db")
        ...     store.add_model(ModelEntry("m1", "flange"))
        ...     store.add_calibration(CalibrationEntry("m1", "c1", parts=99))
        ...     run = RunEntry("monday", "flange", "m1", "c1", 1.3, 2.0)
        ...     queue = Queue.begin(store, run, [Wanted("a.png"), Wanted("b.png")])
        ...     mine, others = queue.claim("me", 1), queue.claim("you", 5)
        ...     store.close()
        ...     [claim.path for claim in mine], [claim.path for claim in others]
        (['a.png'], ['b.png'])
    """

    def __init__(self, store: Store, run_id: str, lease: timedelta = LEASE) -> None:
        self.store = store
        self.run_id = run_id
        self.lease = lease
        self._engine = store.engine
        self._writing = writing(store.engine)

    @classmethod
    def begin(cls, store: Store, entry: RunEntry, wanted: Sequence[Wanted]) -> Queue:
        """Begin a run with all of its pictures, or none at all; where it was begun, add what is new.

        A run takes a path once. A run that was finished is open again where something was added.

        Args:
            store: Its model and calibration must be known.
            entry: The run.
            wanted: Pictures, in their order.

        Raises:
            StoreError: There is a run of that name by another model, calibration or thresholds, or one that
                was inspected in one go.
        """
        queue = cls(store, entry.run_id)
        with queue._write() as connection:
            begin_run(connection, entry)
            # One after another: of two that add at once each sees what the other has added.
            connection.execute(of_run(entry.run_id).with_for_update(key_share=True))
            last = select(func.max(schema.queue.c.number)).where(schema.queue.c.run_id == entry.run_id)
            paths = select(schema.queue.c.path).where(schema.queue.c.run_id == entry.run_id)
            known = set(connection.execute(paths).scalars())
            if not known:
                _require_unused(connection, entry.run_id)
            found = connection.execute(last).scalar()
            number = 0 if found is None else int(found) + 1
            rows: list[dict[str, Any]] = []
            for each in wanted:
                if each.path not in known:
                    known.add(each.path)
                    rows.append(_waiting(entry.run_id, number + len(rows), each))
            for start in range(0, len(rows), _ROWS):
                connection.execute(schema.queue.insert(), rows[start : start + _ROWS])
            if rows:
                reopened = schema.runs.update().where(schema.runs.c.run_id == entry.run_id)
                connection.execute(reopened.values(finished_at=None))
                touch_runs(connection, [entry.run_id])
        return queue

    def claim(self, owner: str, count: int) -> list[Claim]:
        """Take pictures to judge, the first that nobody holds.

        Claims that ended without a word are taken up when nothing else waits. A picture that lost its claim
        `CAREFUL_CLAIMS` times is all that its owner holds; after `MOST_CLAIMS` it is put aside, INVALID.

        Args:
            owner: Who takes them; every process has a name of its own.
            count: How many at most.

        Returns:
            Claims, which hold for the lease; none where others hold all that is left.
        """
        columns = schema.queue.c
        with self._write() as connection:
            self._put_aside(connection)
            mine = select(func.count(), func.max(columns.claims)).where(
                columns.run_id == self.run_id, columns.owner == owner, ~_lapsed()
            )
            held, most = connection.execute(mine).one()
            if held and most > CAREFUL_CLAIMS:
                return []
            rows = connection.execute(self._free(columns.state == "waiting", count)).mappings().all()
            if len(rows) < count:
                lapsed = connection.execute(self._free(_lapsed(), count - len(rows))).mappings().all()
                careful = next((i for i, row in enumerate(lapsed) if row["claims"] >= CAREFUL_CLAIMS), None)
                if careful is not None:
                    lapsed = lapsed[: careful or (0 if rows or held else 1)]
                rows = [*rows, *lapsed]
            if not rows:
                return []
            connection.execute(
                schema.queue.update()
                .where(columns.id.in_([row["id"] for row in rows]))
                .values(state="leased", owner=owner, leased_until=self._later(), claims=columns.claims + 1)
            )
        return [Claim(row["id"], row["number"], row["path"], row["label"], row["claims"] + 1) for row in rows]

    def renew(self, owner: str) -> int:
        """Hold on to what an owner has claimed; return how many claims it still has."""
        mine = and_(schema.queue.c.run_id == self.run_id, schema.queue.c.owner == owner)
        with self._write() as connection:
            # In the order in which they are settled, so that neither waits for the other for ever.
            held = select(schema.queue.c.id).where(mine).order_by(schema.queue.c.id).with_for_update()
            ids = connection.execute(held).scalars().all()
            holding = schema.queue.update().where(schema.queue.c.id.in_(ids))
            return connection.execute(holding.values(leased_until=self._later())).rowcount

    def release(self, owner: str) -> int:
        """Give back what an owner has claimed and not settled: that is no failure of these pictures."""
        mine = and_(schema.queue.c.run_id == self.run_id, schema.queue.c.owner == owner)
        with self._write() as connection:
            return connection.execute(
                schema.queue.update()
                .where(mine)
                .values(state="waiting", owner=None, leased_until=None, claims=schema.queue.c.claims - 1)
            ).rowcount

    def settle(self, owner: str, settled: Sequence[tuple[Claim, Record]]) -> list[Claim]:
        """Keep verdicts, and end their claims, in one transaction.

        A verdict of INVALID puts its picture aside, with its first reason. Of pictures that are the same bit
        for bit all but the first of the run go to REVIEW, in whichever order they were judged.

        Args:
            owner: Who claimed them.
            settled: Claims with their records, whose run is this one.

        Returns:
            The claims that were still the owner's, whose records are kept; of others nothing is.

        Raises:
            StoreError: The engine refused; nothing is kept.
        """
        columns = schema.queue.c
        with self._write() as connection:
            # One after another, so that of two that repeat each other one is seen by the other.
            connection.execute(of_run(self.run_id).with_for_update(key_share=True))
            held = set(
                connection.execute(
                    select(columns.id)
                    .where(columns.id.in_([c.id for c, _ in settled]), columns.owner == owner)
                    .order_by(columns.id)
                    .with_for_update()
                ).scalars()
            )
            kept = [(claim, record) for claim, record in settled if claim.id in held]
            self._keep(connection, kept)
            tell_repeats(connection, self.run_id, {record.sha256 for _, record in kept if record.sha256})
            for state, invalid in (("quarantined", True), ("done", False)):
                some = [(c, r) for c, r in kept if (r.verdict is Verdict.INVALID) is invalid]
                if some:
                    reasons = {c.id: (r.reasons or ("",))[0] if invalid else "" for c, r in some}
                    connection.execute(
                        schema.queue.update()
                        .where(columns.id.in_(list(reasons)))
                        .values(
                            state=state,
                            owner=None,
                            leased_until=None,
                            reason=case(reasons, value=columns.id),
                        )
                    )
        return [claim for claim, _ in kept]

    def progress(self) -> Progress:
        """Count the pictures of each state; what a dead process has left behind waits.

        Raises:
            StoreError: There is no such run.
        """
        columns = schema.queue.c
        wanted = (
            select(columns.state, func.count()).where(columns.run_id == self.run_id).group_by(columns.state)
        )
        with self._read() as connection:
            if connection.execute(of_run(self.run_id)).first() is None:
                raise no_run(self.run_id)
            counted = {row[0]: row[1] for row in connection.execute(wanted)}
            left_behind = select(func.count()).where(columns.run_id == self.run_id, _lapsed())
            lapsed = connection.execute(left_behind).scalar_one() if counted.get("leased") else 0
        found = Progress(**counted)
        return replace(found, waiting=found.waiting + lapsed, leased=found.leased - lapsed)

    def quarantined(self, limit: int | None = None) -> list[tuple[str, str]]:
        """Return path and reason of what was put aside, in the order of the run."""
        columns = schema.queue.c
        wanted = (
            select(columns.path, columns.reason)
            .where(columns.run_id == self.run_id, columns.state == "quarantined")
            .order_by(columns.number)
            .limit(limit)
        )
        with self._read() as connection:
            return [(path, reason) for path, reason in connection.execute(wanted)]

    def retry(self) -> int:
        """Let everything that was put aside be tried once more, and return how many that are.

        What was recorded of it stands until something better takes its place; the audit trail keeps it then.
        """
        columns = schema.queue.c
        aside = and_(columns.run_id == self.run_id, columns.state == "quarantined")
        with self._write() as connection:
            count = connection.execute(
                schema.queue.update().where(aside).values(state="waiting", claims=0, reason="")
            ).rowcount
            if count:
                reopened = schema.runs.update().where(schema.runs.c.run_id == self.run_id)
                connection.execute(reopened.values(finished_at=None))
                touch_runs(connection, [self.run_id])
        return count

    def finish(self) -> bool:
        """Say that the run is finished where nothing is left of it, and return whether that is so."""
        columns = schema.queue.c
        with self._write() as connection:
            connection.execute(of_run(self.run_id).with_for_update(key_share=True))
            left = select(func.count()).where(
                columns.run_id == self.run_id, columns.state.in_(("waiting", "leased"))
            )
            if connection.execute(left).scalar():
                return False
            connection.execute(
                schema.runs.update()
                .where(schema.runs.c.run_id == self.run_id, schema.runs.c.finished_at.is_(None))
                .values(finished_at=now(), changed=schema.runs.c.changed + 1)
            )
        return True

    def _free(self, state: Any, count: int) -> Select[Any]:
        columns = schema.queue.c
        free = select(schema.queue).where(columns.run_id == self.run_id, state)
        # Another process passes over the rows that this one is about to take.
        return free.order_by(columns.number).limit(count).with_for_update(skip_locked=True)

    def _put_aside(self, connection: Connection) -> None:
        columns = schema.queue.c
        killers = self._free(and_(_lapsed(), columns.claims >= MOST_CLAIMS), _ROWS)
        rows = connection.execute(killers).mappings().all()
        if not rows:
            return
        run = run_of(connection.execute(of_run(self.run_id)).mappings().one())
        reason = _KILLER.format(claims=MOST_CLAIMS)
        aside: list[tuple[Claim, Record]] = []
        for row in rows:
            record = Record(
                run_id=run.run_id,
                item_id=item_id_of(row["path"]),
                part_id=Path(row["path"]).stem,
                view_id="",
                path=row["path"],
                sha256="",
                verdict=Verdict.INVALID,
                reasons=(reason,),
                label=row["label"],
                product=run.product,
                processed_at=now(),
                t_review=run.t_review,
                t_defect=run.t_defect,
                threshold_revision=run.threshold_revision,
                model_id=run.model_id,
                calibration_id=run.calibration_id,
            )
            aside.append((_claim_of(row), record))
        self._keep(connection, aside)
        connection.execute(
            schema.queue.update()
            .where(columns.id.in_([row["id"] for row in rows]))
            .values(state="quarantined", owner=None, leased_until=None, reason=reason)
        )

    def _keep(self, connection: Connection, kept: Sequence[tuple[Claim, Record]]) -> None:
        """Insert records, or put them in the place of what a picture was put aside with."""
        columns = schema.items.c
        for _, record in kept:
            if record.run_id != self.run_id:
                raise StoreError(
                    expected=f"records of run {self.run_id}",
                    found=f"one of {record.run_id!r}",
                    remedy="Give each record the run's name.",
                )
        there = select(columns.id, columns.path, columns.item_id, columns.verdict, columns.reasons).where(
            columns.run_id == self.run_id, columns.path.in_([record.path for _, record in kept])
        )
        earlier = {row["path"]: row for row in connection.execute(there).mappings()}
        insert_items(connection, [(r, c.number) for c, r in kept if r.path not in earlier])
        for _, record in kept:
            # What has a verdict keeps it: the same picture gives the same.
            if record.path in earlier and earlier[record.path]["verdict"] == Verdict.INVALID.value:
                self._replace(connection, earlier[record.path], record)
        touch_runs(connection, [self.run_id] if kept else [])

    def _replace(self, connection: Connection, earlier: RowMapping, record: Record) -> None:
        replace_item(connection, earlier["id"], record)
        facts = {"was": earlier["verdict"], "reasons": earlier["reasons"], "item": earlier["item_id"]}
        row = {"made_at": now(), "actor": "differnet batch", "action": "retried", "subject": self.run_id}
        connection.execute(schema.audit.insert().values(row | {"facts": json_text(facts)}))

    def _later(self) -> str:
        return (datetime.now(UTC) + self.lease).isoformat(timespec="milliseconds")

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with plainly(self._engine), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with plainly(self._engine), self._engine.connect() as connection:
            yield connection


def tell_repeats(connection: Connection, run_id: str, hashes: Collection[str]) -> int:
    """Let all but the first of the pictures that are the same bit for bit go to REVIEW.

    Args:
        connection: That writes.
        run_id: Of the run.
        hashes: sha256 of the pictures that may have twins in it.

    Returns:
        How many records were changed.
    """
    columns = schema.items.c
    mine = and_(columns.run_id == run_id, columns.sha256.in_(sorted(hashes)))
    several = select(columns.sha256).where(mine).group_by(columns.sha256).having(func.count() > 1)
    changed = 0
    for sha256 in connection.execute(several).scalars().all():
        twins = select(schema.items).where(columns.run_id == run_id, columns.sha256 == sha256)
        rows = connection.execute(twins.order_by(columns.number)).mappings().all()
        regions = regions_of(connection, [row["id"] for row in rows])
        for row in rows[1:]:
            record = record_of(row, regions.get(row["id"], ()))
            told = told_repeated(record, rows[0]["path"])
            if told != record:
                replace_item(connection, row["id"], told)
                changed += 1
    return changed


def item_id_of(path: str) -> str:
    """Name a picture within a run of a queue, which takes every path once.

    Example:
        >>> item_id_of("parts/7.png")
        '60c7724e963c07df'
    """
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _require_unused(connection: Connection, run_id: str) -> None:
    found = select(schema.items.c.id).where(schema.items.c.run_id == run_id).limit(1)
    if connection.execute(found).first() is not None:
        raise StoreError(
            expected=f"run {run_id} to be new, or a batch job",
            found="one that was inspected in one go",
            remedy="Name another run: --name NAME.",
        )


def _lapsed() -> Any:
    return and_(schema.queue.c.state == "leased", schema.queue.c.leased_until < now())


def _claim_of(row: RowMapping) -> Claim:
    return Claim(row["id"], row["number"], row["path"], row["label"], row["claims"])


def _waiting(run_id: str, number: int, wanted: Wanted) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "number": number,
        "path": wanted.path,
        "label": wanted.label,
        "state": "waiting",
        "claims": 0,
        "reason": "",
    }
