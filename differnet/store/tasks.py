"""Long work that somebody asked for, and how far the process is that does it.

A task waits, is taken by a process of its own, and ends: done, failed or stopped. While it runs its process
says every few seconds that it is there; one that has been silent for long is *lost*: nobody works on it, and
whoever looks is told so. Nothing here knows what a task does.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Select, Update, select
from sqlalchemy.engine import RowMapping

from differnet.store import schema
from differnet.store.connecting import StoreError, now, writing
from differnet.store.rows import json_text
from differnet.store.store import Store
from differnet.store.upgrading import plainly

State = Literal["waiting", "running", "done", "failed", "stopped", "lost"]

STATES: tuple[State, ...] = get_args(State)
"""The record knows all but the last, which is a running task that has been silent for `SILENCE`."""

SILENCE = timedelta(seconds=60)
"""How long nothing is heard of a running task before it is lost: many times what its process lets pass."""

_BEGINNING = timedelta(seconds=30)
"""How long a process that was started for a task has to take it, before another one is started."""

_MOST_STARTS = 3
"""Processes that ended before they took their task, after which it has failed: the fourth would as well."""

_KIND = re.compile(r"[a-z][a-z_]{0,31}")


@dataclass(frozen=True)
class TaskEntry:
    """A task as it stands.

    Attributes:
        task_id: Its name, made of its kind, the time, and chance.
        kind: What is to be done.
        title: In words, for a person; it may hold text from outside.
        wish: How exactly, JSON-able.
        author: Who asked for it.
        state: How it stands.
        stop_asked: Somebody wants it to end.
        made_at, started_at, seen_at, finished_at: UTC, ISO 8601.
        owner: Machine where it is to be done, and with ``:`` the process that does it.
        progress: How far it is, JSON-able.
        outcome: What came of it, JSON-able; of a failed one the error.
        reason: Why it failed or was stopped.
    """

    task_id: str
    kind: str
    title: str
    wish: dict[str, Any]
    author: str
    state: State
    stop_asked: bool = False
    made_at: str = ""
    started_at: str | None = None
    seen_at: str | None = None
    finished_at: str | None = None
    owner: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def machine(self) -> str:
        """Where it is to be done."""
        return self.owner.partition(":")[0]

    @property
    def active(self) -> bool:
        """Whether something is still to come of it."""
        return self.state in ("waiting", "running")


class Tasks:
    """The tasks of a record.

    Args:
        store: Where they are kept.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store.open(Path(folder) / "record.db")
        ...     tasks = Tasks(store)
        ...     asked = tasks.add("train", "Train flange", {"data": "/parts"}, "ada", "line3")
        ...     taken = tasks.take(asked.task_id, "line3:4711")
        ...     stop = tasks.tell(asked.task_id, "line3:4711", {"stage": "features"})
        ...     done = tasks.finish(asked.task_id, "line3:4711", {"model": "/models/flange"})
        ...     ended = tasks.get(asked.task_id)
        ...     store.close()
        ...     asked.state, taken.state, stop, ended.state, ended.outcome
        ('waiting', 'running', False, 'done', {'model': '/models/flange'})
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._engine = store.engine
        self._writing = writing(store.engine)

    def add(self, kind: str, title: str, wish: dict[str, Any], author: str, machine: str) -> TaskEntry:
        """Ask for something to be done.

        Args:
            kind: Small letters and underscores.
            title: For a person.
            wish: How exactly, JSON-able.
            author: Who asks.
            machine: Where it is to be done: paths in the wish are of that machine.

        Returns:
            The task, which waits.

        Raises:
            StoreError: Nobody asks, or the kind or the machine is no such word.
        """
        if _KIND.fullmatch(kind) is None or not machine or ":" in machine:
            raise StoreError(
                expected="a kind of small letters, and the name of a machine",
                found=f"{kind[:80]!r} on {machine[:80]!r}",
                remedy="Ask for one of the kinds of `differnet.tasks`.",
            )
        if not author.strip():
            raise StoreError(expected="who asks for it", found="nobody", remedy="Say who you are.")
        made_at = now()
        stamp = f"{datetime.fromisoformat(made_at):%Y%m%d-%H%M%S}"
        row: dict[str, Any] = {
            "task_id": f"{kind}-{stamp}-{secrets.token_hex(4)}",
            "kind": kind,
            "title": _kept(title),
            "wish": json_text(wish),
            "author": _kept(author.strip()),
            "state": "waiting",
            "stop_asked": 0,
            "made_at": made_at,
            "owner": machine,
            "progress": "{}",
            "outcome": "{}",
            "reason": "",
        }
        with self._write() as connection:
            connection.execute(schema.tasks.insert().values(row))
        return self.get(row["task_id"])

    def get(self, task_id: str) -> TaskEntry:
        """Return a task as it stands.

        Raises:
            StoreError: There is none of that name.
        """
        with self._read() as connection:
            row = connection.execute(_of(task_id)).mappings().one_or_none()
        if row is None:
            raise _no_task(task_id)
        return _entry(row)

    def latest(self, limit: int = 50, kinds: Collection[str] = ()) -> list[TaskEntry]:
        """Return the tasks that were asked for last, the newest first.

        Args:
            limit: How many at most.
            kinds: Of these; of all where none are given.
        """
        columns = schema.tasks.c
        wanted = select(schema.tasks).order_by(columns.made_at.desc(), columns.task_id.desc()).limit(limit)
        if kinds:
            wanted = wanted.where(columns.kind.in_(sorted(kinds)))
        with self._read() as connection:
            return [_entry(row) for row in connection.execute(wanted).mappings()]

    def active(self) -> list[TaskEntry]:
        """Return the tasks that wait or run, in the order in which they were asked for; lost ones are not."""
        columns = schema.tasks.c
        wanted = select(schema.tasks).where(columns.state.in_(("waiting", "running")))
        ordered = wanted.order_by(columns.made_at, columns.task_id)
        with self._read() as connection:
            found = [_entry(row) for row in connection.execute(ordered).mappings()]
        return [task for task in found if task.active]

    def begin(self, task_id: str) -> bool:
        """Claim the right to start a process for a waiting task; nobody else has it for half a minute.

        A task for which several processes were started that never took it has failed.

        Returns:
            Whether the right was given.
        """
        with self._write() as connection:
            row = connection.execute(_of(task_id).with_for_update()).mappings().one_or_none()
            if row is None or row["state"] != "waiting" or not _before(row["seen_at"], _BEGINNING):
                return False
            starts = int(json.loads(row["progress"]).get("starts", 0))
            if starts >= _MOST_STARTS:
                reason = f"{starts} processes were started for it, and none of them began to work"
                connection.execute(_ending(task_id, "failed", reason))
                return False
            told = {"seen_at": now(), "progress": json_text({"starts": starts + 1})}
            connection.execute(_changing(task_id).values(told))
        return True

    def refuse(self, task_id: str, reason: str) -> bool:
        """Say that a waiting task can never begin; return whether it waited."""
        waiting = _ending(task_id, "failed", reason).where(schema.tasks.c.state == "waiting")
        with self._write() as connection:
            return connection.execute(waiting).rowcount > 0

    def take(
        self, task_id: str, owner: str, beside: Collection[str] = (), at_once: int | None = None
    ) -> TaskEntry | None:
        """Take a waiting task, to work on it.

        Args:
            task_id: Which.
            owner: ``machine:process``, a name that no other process has.
            beside: Kinds that share the machine with it; those that were asked for earlier go first.
            at_once: How many of them may run at a time; ``None`` for any number.

        Returns:
            The task, now running; ``None`` where another process has it, it has ended, or it is not its turn.

        Raises:
            StoreError: There is none of that name.
        """
        columns, machine = schema.tasks.c, owner.partition(":")[0]
        with self._write() as connection:
            mine = connection.execute(_of(task_id)).mappings().one_or_none()
            if mine is None:
                raise _no_task(task_id)
            wanted = select(schema.tasks).where(columns.state.in_(("waiting", "running")))
            together = wanted.where(columns.kind.in_(sorted({*beside, mine["kind"]})))
            # Whoever takes one of these at the same time waits here, and then sees them as they are.
            ordered = together.order_by(columns.made_at, columns.task_id).with_for_update()
            rows = [_entry(row) for row in connection.execute(ordered).mappings()]
            active = [task for task in rows if task.active]
            mine_now = next((t for t in active if t.task_id == task_id and t.state == "waiting"), None)
            if mine_now is None or mine_now.machine != machine:
                return None
            if mine_now not in may_begin(active, machine, {mine_now.kind: (beside, at_once)}):
                connection.execute(_changing(task_id).values(seen_at=None, progress="{}"))
                return None
            taken = {"state": "running", "owner": owner, "started_at": now(), "seen_at": now()}
            connection.execute(_changing(task_id).values(taken | {"progress": "{}"}))
        return self.get(task_id)

    def tell(self, task_id: str, owner: str, progress: dict[str, Any] | None = None) -> bool:
        """Say that a task is being worked on, and how far it is.

        Args:
            task_id: Which.
            owner: Who took it.
            progress: JSON-able; ``None`` where nothing has changed.

        Returns:
            Whether its process shall end: somebody asked for that, or the task is no longer its own.
        """
        told = {"seen_at": now()} | ({} if progress is None else {"progress": json_text(progress)})
        with self._write() as connection:
            asked = connection.execute(
                _running(task_id, owner).values(told).returning(schema.tasks.c.stop_asked)
            ).scalar()
        return asked is None or bool(asked)

    def finish(self, task_id: str, owner: str, outcome: dict[str, Any]) -> bool:
        """Say that a task is done, and what came of it; return whether it was still its owner's."""
        return self._end(task_id, owner, "done", "", outcome)

    def stop(self, task_id: str, owner: str, reason: str, outcome: dict[str, Any] | None = None) -> bool:
        """Say that work on a task was ended before it was done; return whether it was still its owner's."""
        return self._end(task_id, owner, "stopped", reason, outcome)

    def fail(self, task_id: str, owner: str, reason: str, outcome: dict[str, Any] | None = None) -> bool:
        """Say that a task failed, and why; return whether it was still its owner's."""
        return self._end(task_id, owner, "failed", reason, outcome)

    def ask_to_stop(self, task_id: str, author: str) -> TaskEntry:
        """Ask a task to end: a waiting one does so at once, a running one at its next step.

        The audit trail keeps who asked.

        Raises:
            StoreError: There is none of that name, or nobody asks.
        """
        if not author.strip():
            raise StoreError(expected="who stops it", found="nobody", remedy="Say who you are.")
        with self._write() as connection:
            row = connection.execute(_of(task_id).with_for_update()).mappings().one_or_none()
            if row is None:
                raise _no_task(task_id)
            entry = _entry(row)
            if entry.state == "waiting":
                reason = f"{author.strip()} stopped it before it began"
                connection.execute(_ending(task_id, "stopped", reason))
            elif entry.state == "lost":
                connection.execute(_ending(task_id, "failed", "its process ended without a word"))
            elif entry.state == "running":
                connection.execute(_changing(task_id).values(stop_asked=1))
            if entry.state in ("waiting", "running", "lost"):
                told = {
                    "made_at": now(),
                    "actor": _kept(author.strip()),
                    "action": "stopped",
                    "subject": task_id,
                }
                connection.execute(schema.audit.insert().values(told | {"facts": json_text({})}))
        return self.get(task_id)

    def _end(self, task_id: str, owner: str, state: str, reason: str, outcome: dict[str, Any] | None) -> bool:
        ended = {"state": state, "finished_at": now(), "seen_at": now(), "reason": _kept(reason)}
        ended |= {"outcome": json_text(outcome or {})}
        with self._write() as connection:
            return connection.execute(_running(task_id, owner).values(ended)).rowcount > 0

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with plainly(self._engine), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with plainly(self._engine), self._engine.connect() as connection:
            yield connection


def may_begin(
    active: Sequence[TaskEntry], machine: str, beside: Mapping[str, tuple[Collection[str], int | None]]
) -> list[TaskEntry]:
    """Return the waiting tasks whose turn it is on a machine.

    Args:
        active: What waits and runs, in its order, see `Tasks.active`.
        machine: Which.
        beside: For a kind, which kinds share the machine with it, and how many of them run at a time; a kind
            that is not named has its turn at any time.
    """
    here = [task for task in active if task.machine == machine]
    found: list[TaskEntry] = []
    for task in here:
        kinds, at_once = beside.get(task.kind, ((), None))
        before = [other for other in here if other.kind in {*kinds, task.kind}]
        ahead = sum(other.state == "running" for other in before)
        ahead += sum(other.state == "waiting" for other in before[: before.index(task)])
        if task.state == "waiting" and (at_once is None or ahead < at_once):
            found.append(task)
    return found


def _entry(row: RowMapping) -> TaskEntry:
    known = dict(row) | {name: json.loads(row[name]) for name in ("wish", "progress", "outcome")}
    if known["state"] == "running" and _before(known["seen_at"], SILENCE):
        known["state"] = "lost"
    return TaskEntry(**known | {"stop_asked": bool(known["stop_asked"]), "owner": known["owner"] or ""})


def _before(time: str | None, since: timedelta) -> bool:
    """Tell whether a time, as the record writes it, lies further back than ``since``, or is not known."""
    return time is None or time < (datetime.now(UTC) - since).isoformat(timespec="milliseconds")


def _kept(text: str) -> str:
    """Return text as every engine keeps it: bytes that are no text, and NUL, become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


def _of(task_id: str) -> Select[Any]:
    return select(schema.tasks).where(schema.tasks.c.task_id == task_id)


def _changing(task_id: str) -> Update:
    return schema.tasks.update().where(schema.tasks.c.task_id == task_id)


def _running(task_id: str, owner: str) -> Update:
    return _changing(task_id).where(schema.tasks.c.owner == owner, schema.tasks.c.state == "running")


def _ending(task_id: str, state: str, reason: str) -> Update:
    return _changing(task_id).values(state=state, finished_at=now(), reason=_kept(reason))


def _no_task(task_id: str) -> StoreError:
    return StoreError(
        expected=f"task {task_id[:100]} in the record", found="none", remedy="Look up its name there."
    )
