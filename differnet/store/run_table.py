"""All items of a run at once, as columns: what charts, counts and filters are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from differnet.records import Verdict
from differnet.store import schema
from differnet.store.rows import stands

VERDICTS = tuple(Verdict)
_PIECE = 500
JUDGEMENTS = ("good", "defect", "unsure")
"""What `RunTable.judgement` counts in."""

Connecting = Callable[[], AbstractContextManager[Connection]]

# Read at once: what thresholds, filters and names need. The others, in groups that are asked for together.
_AT_ONCE = ("item_id", "part_id", "label", "verdict", "strangeness", "p_value", "t_review")
_LATER = (
    ("path", "product", "captured_at", "processed_at"),
    ("p_value_global", "p_value_local", "p_value_ood"),
    ("nll_global", "nll_local", "typicality_global", "typicality_local"),
    ("t_defect", "decode_ms", "inference_ms"),
    ("sha256",),
)
_FIGURES = {"strangeness", "p_value", "t_review", *(name for group in _LATER[1:-1] for name in group)}


@dataclass(frozen=True)
class RunTable:
    """The items of a run in its order, ``n`` of each column.

    Attributes:
        run_id: Name of the run.
        changed: The run's count of changes when this was read.
        inspected: Of these, the changes of anything but what people said.
        item_id, part_id, path, sha256, label, product, captured_at, processed_at: Objects: text, or ``None``.
        verdict: int8, place in `differnet.records.Verdict`.
        strangeness, p_value, p_value_global, p_value_local, p_value_ood, nll_global, nll_local,
            typicality_global, typicality_local, t_review, t_defect, decode_ms, inference_ms: float64 as in
            the record, NaN where there is none.
        judgement: int8, the last word of a person, place in `JUDGEMENTS`; -1 where nobody said anything.
        kind: Objects: the kind of defect that a person named, else empty.
    """

    run_id: str
    changed: int
    inspected: int
    item_id: NDArray[np.object_]
    part_id: NDArray[np.object_]
    path: NDArray[np.object_]
    sha256: NDArray[np.object_]
    label: NDArray[np.object_]
    product: NDArray[np.object_]
    captured_at: NDArray[np.object_]
    processed_at: NDArray[np.object_]
    verdict: NDArray[np.int8]
    strangeness: NDArray[np.float64]
    p_value: NDArray[np.float64]
    p_value_global: NDArray[np.float64]
    p_value_local: NDArray[np.float64]
    p_value_ood: NDArray[np.float64]
    nll_global: NDArray[np.float64]
    nll_local: NDArray[np.float64]
    typicality_global: NDArray[np.float64]
    typicality_local: NDArray[np.float64]
    t_review: NDArray[np.float64]
    t_defect: NDArray[np.float64]
    decode_ms: NDArray[np.float64]
    inference_ms: NDArray[np.float64]
    judgement: NDArray[np.int8]
    kind: NDArray[np.object_]

    def __len__(self) -> int:
        """Count the items."""
        return len(self.item_id)


@dataclass(frozen=True)
class _Words:
    """The last word on every item, and the numbers of the last review and withdrawal that are in it."""

    judgement: NDArray[np.int8]
    kind: NDArray[np.object_]
    last_review: int
    last_withdrawal: int


class _ReadLater(RunTable):
    """A table whose seldom asked for columns are read when they are.

    A hundred thousand items take a third of a second so, and nearly a whole one otherwise.
    """

    rows: NDArray[np.int64]
    words: _Words

    def __init__(self, read: Callable[[Sequence[str]], list[NDArray[Any]]], known: dict[str, Any]) -> None:
        self.__dict__.update(known, _read=read)

    def __getattr__(self, name: str) -> Any:
        group = next((names for names in _LATER if name in names), None)
        if group is None:
            raise AttributeError(name)
        self.__dict__.update(zip(group, self._read(group), strict=True))
        return self.__dict__[name]

    def with_words(self, changed: int, words: _Words) -> RunTable:
        """Return the same items with what people say of them by now."""
        fresh = copy(self)
        fresh.__dict__.update(changed=changed, words=words, judgement=words.judgement, kind=words.kind)
        return fresh


def read_table(
    connection: Connection, run_id: str, counts: tuple[int, int], read: Connecting, known: RunTable | None
) -> RunTable:
    """Read a run's items.

    Args:
        connection: Of a store.
        run_id: Name of the run.
        counts: The run's changes, and those of anything but what people said; read in the same transaction.
        read: Makes another connection, for columns that are asked for later. They are of the same items, as
            these stand then.
        known: The run as it was read before. Where nothing but words was written since, words alone are
            read.
    """
    if isinstance(known, _ReadLater) and (known.run_id, known.inspected) == (run_id, counts[1]):
        if known.changed == counts[0]:
            return known
        return known.with_words(counts[0], _newer_words(connection, run_id, known.rows, known.words))
    rows, *columns = _columns(connection, run_id, ("id", *_AT_ONCE))
    rows = rows.astype(np.int64)
    found: dict[str, Any] = dict(zip(_AT_ONCE, columns, strict=True))
    places = {verdict.value: i for i, verdict in enumerate(VERDICTS)}
    found["verdict"] = np.array([places[value] for value in found["verdict"]], dtype=np.int8)
    words = _all_words(connection, run_id, rows)
    found |= {"words": words, "judgement": words.judgement, "kind": words.kind}

    def later(names: Sequence[str]) -> list[NDArray[Any]]:
        with read() as opened:
            there, *further = _columns(opened, run_id, ("id", *names))
        if np.array_equal(there, rows):
            return further
        # Items were added since, behind these or, by another machine's record, between them.
        place = {row: i for i, row in enumerate(there)}
        return [column[[place[row] for row in rows]] for column in further]

    changed, inspected = counts
    found |= {"run_id": run_id, "changed": changed, "inspected": inspected, "rows": rows}
    return _ReadLater(later, found)


def _columns(connection: Connection, run_id: str, names: Sequence[str]) -> list[NDArray[Any]]:
    columns = schema.items.c
    wanted = select(*(columns[name] for name in names)).where(columns.run_id == run_id)
    read: list[list[Any]] = [[] for _ in names]
    # In pieces, which are gone before Python's collector takes them for what stays and looks through all.
    for rows in connection.execute(wanted.order_by(columns.number, columns.id)).partitions(_PIECE):
        for values, more in zip(read, zip(*rows, strict=True), strict=True):
            values.extend(more)
    # As floats None is NaN.
    return [
        np.array(column, dtype=np.float64 if name in _FIGURES else object)
        for name, column in zip(names, read, strict=True)
    ]


def _all_words(connection: Connection, run_id: str, rows: NDArray[np.int64]) -> _Words:
    """Read the last word on every item of a run."""
    items, taken = schema.items.c, schema.withdrawals.c
    words = _Words(np.full(len(rows), -1, dtype=np.int8), np.full(len(rows), "", dtype=object), 0, 0)
    said = connection.execute(_standing().where(items.run_id == run_id)).all()
    last = select(func.max(taken.id)).join(schema.items, items.id == taken.item).where(items.run_id == run_id)
    withdrawal = connection.execute(last).scalar() or 0
    return _put(words, rows, said, max((word.id for word in said), default=0), withdrawal)


def _newer_words(connection: Connection, run_id: str, rows: NDArray[np.int64], known: _Words) -> _Words:
    """Read the words on the items of which anything was said, or taken back, since the known ones were read.

    Within a run numbers grow as words come to be seen: who says something waits for who says something.
    """
    items, reviews = schema.items.c, schema.reviews
    found = [
        connection.execute(select(table.c.id, table.c.item).where(table.c.id > last)).all()
        for table, last in ((reviews, known.last_review), (schema.withdrawals, known.last_withdrawal))
    ]
    new = {row.item for some in found for row in some}
    if len(new) > _PIECE:
        return _all_words(connection, run_id, rows)
    # Asked for by their rows: of a condition on the run an engine would read all of it.
    meant = select(items.id, items.run_id).where(items.id.in_(sorted(new)))
    touched = sorted(row.id for row in connection.execute(meant) if row.run_id == run_id)
    judgement, kind = known.judgement.copy(), known.kind.copy()
    places = _places(rows, touched)
    judgement[places], kind[places] = -1, ""
    fresh = _Words(judgement, kind, known.last_review, known.last_withdrawal)
    said = connection.execute(_standing().where(reviews.c.item.in_(touched))).all() if touched else []
    kept = set(touched)
    numbers = [max((row.id for row in some if row.item in kept), default=0) for some in found]
    return _put(fresh, rows, said, numbers[0], numbers[1])


def _standing() -> Select[Any]:
    columns, items = schema.reviews.c, schema.items.c
    return (
        select(columns.id, columns.item, columns.judgement, columns.kind)
        .join(schema.items, items.id == columns.item)
        .where(stands(schema.reviews))
        # By when it was said: what was said earlier may have come here later, from another machine's record.
        .order_by(columns.made_at, columns.id)
    )


def _put(
    words: _Words, rows: NDArray[np.int64], said: Sequence[Any], last_review: int, last_withdrawal: int
) -> _Words:
    """Put words, the last last, in the places of their items."""
    for place, word in zip(_places(rows, [word.item for word in said]).tolist(), said, strict=True):
        words.judgement[place], words.kind[place] = JUDGEMENTS.index(word.judgement), word.kind
    review, withdrawal = max(words.last_review, last_review), max(words.last_withdrawal, last_withdrawal)
    return replace(words, last_review=review, last_withdrawal=withdrawal)


def _places(rows: NDArray[np.int64], items: Sequence[int]) -> NDArray[np.int64]:
    """Find the places of items among a run's rows, which need not be in their order."""
    if not len(items):
        return np.zeros(0, dtype=np.int64)
    sorter = np.argsort(rows, kind="stable")
    found: NDArray[np.int64] = sorter[np.searchsorted(rows, items, sorter=sorter)]
    return found
