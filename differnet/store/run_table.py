"""All items of a run at once, as columns: what charts, counts and filters are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from differnet.records import Verdict
from differnet.store import schema

VERDICTS = tuple(Verdict)
JUDGEMENTS = ("good", "defect", "unsure")
"""What `RunTable.judgement` counts in."""

_NAMES = ("item_id", "part_id", "label", "product", "captured_at", "processed_at")
_FIGURES = (
    *("strangeness", "p_value", "p_value_global", "p_value_local", "p_value_ood"),
    *("nll_global", "nll_local", "typicality_global", "typicality_local"),
    *("t_review", "t_defect", "decode_ms", "inference_ms"),
)


@dataclass(frozen=True)
class RunTable:
    """The items of a run in its order, ``n`` of each column.

    Attributes:
        run_id: Name of the run.
        changed: The run's count of changes when this was read.
        item_id, part_id, label, product, captured_at, processed_at: Objects: text, or ``None``.
        verdict: int8, place in `differnet.records.Verdict`.
        strangeness, p_value, p_value_global, p_value_local, p_value_ood, nll_global, nll_local,
            typicality_global, typicality_local, t_review, t_defect, decode_ms, inference_ms: float64 as in
            the record, NaN where there is none.
        judgement: int8, the last word of a person, place in `JUDGEMENTS`; -1 where nobody said anything.
        kind: Objects: the kind of defect that a person named, else empty.
    """

    run_id: str
    changed: int
    item_id: NDArray[np.object_]
    part_id: NDArray[np.object_]
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


def read_table(connection: Connection, run_id: str, changed: int) -> RunTable:
    """Read a run's items.

    Args:
        connection: Of a store.
        run_id: Name of the run.
        changed: The run's count of changes, read in the same transaction.
    """
    columns = schema.items.c
    named = [columns[name] for name in ("id", "verdict", *_NAMES, *_FIGURES)]
    wanted = select(*named).where(columns.run_id == run_id).order_by(columns.number, columns.id)
    rows = connection.execute(wanted).all()
    read = [np.array(column, dtype=object) for column in zip(*rows, strict=True)]
    if not rows:
        read = [np.array([], dtype=object) for _ in named]
    places = {verdict.value: i for i, verdict in enumerate(VERDICTS)}
    judgement, kind = _last_words(connection, run_id, read[0])
    filled: dict[str, Any] = dict(zip((*_NAMES, *_FIGURES), read[2:], strict=True))
    # None becomes NaN.
    filled |= {name: filled[name].astype(np.float64) for name in _FIGURES}
    verdicts = np.array([places[value] for value in read[1]], dtype=np.int8)
    return RunTable(run_id, changed, verdict=verdicts, judgement=judgement, kind=kind, **filled)


def _last_words(
    connection: Connection, run_id: str, rows: NDArray[np.object_]
) -> tuple[NDArray[np.int8], NDArray[np.object_]]:
    columns, items = schema.reviews.c, schema.items.c
    wanted = (
        select(columns.item, columns.judgement, columns.kind)
        .join(schema.items, items.id == columns.item)
        .where(items.run_id == run_id)
        # By when it was said: what was said earlier may have come here later, from another machine's record.
        .order_by(columns.made_at, columns.id)
    )
    judgement, kind = np.full(len(rows), -1, dtype=np.int8), np.full(len(rows), "", dtype=object)
    said = connection.execute(wanted).all()
    if said:
        places = {row: i for i, row in enumerate(rows)}
        for item, judged, named in said:
            judgement[places[item]], kind[places[item]] = JUDGEMENTS.index(judged), named
    return judgement, kind
