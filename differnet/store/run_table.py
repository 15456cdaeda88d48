"""All items of a run at once, as columns: what charts, counts and filters are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

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


class _ReadLater(RunTable):
    """A table whose seldom asked for columns are read when they are.

    A hundred thousand items take a third of a second so, and nearly a whole one otherwise.
    """

    rows: NDArray[np.int64]

    def __init__(self, read: Callable[[Sequence[str]], list[NDArray[Any]]], known: dict[str, Any]) -> None:
        self.__dict__.update(known, _read=read)

    def __getattr__(self, name: str) -> Any:
        group = next((names for names in _LATER if name in names), None)
        if group is None:
            raise AttributeError(name)
        self.__dict__.update(zip(group, self._read(group), strict=True))
        return self.__dict__[name]

    def with_words(self, changed: int, judgement: NDArray[np.int8], kind: NDArray[np.object_]) -> RunTable:
        """Return the same items with what people say of them by now."""
        fresh = copy(self)
        fresh.__dict__.update(changed=changed, judgement=judgement, kind=kind)
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
        return known.with_words(counts[0], *_last_words(connection, run_id, known.rows))
    rows, *columns = _columns(connection, run_id, ("id", *_AT_ONCE))
    rows = rows.astype(np.int64)
    found: dict[str, Any] = dict(zip(_AT_ONCE, columns, strict=True))
    places = {verdict.value: i for i, verdict in enumerate(VERDICTS)}
    found["verdict"] = np.array([places[value] for value in found["verdict"]], dtype=np.int8)
    found["judgement"], found["kind"] = _last_words(connection, run_id, rows)

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


def _last_words(
    connection: Connection, run_id: str, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.object_]]:
    columns, items = schema.reviews.c, schema.items.c
    wanted = (
        select(columns.item, columns.judgement, columns.kind)
        .join(schema.items, items.id == columns.item)
        .where(items.run_id == run_id, stands(schema.reviews))
        # By when it was said: what was said earlier may have come here later, from another machine's record.
        .order_by(columns.made_at, columns.id)
    )
    judgement, kind = np.full(len(rows), -1, dtype=np.int8), np.full(len(rows), "", dtype=object)
    said = connection.execute(wanted).all()
    if said:
        sorter = np.argsort(rows)
        places = sorter[np.searchsorted(rows, [word.item for word in said], sorter=sorter)]
        for place, word in zip(places.tolist(), said, strict=True):
            judgement[place], kind[place] = JUDGEMENTS.index(word.judgement), word.kind
    return judgement, kind
