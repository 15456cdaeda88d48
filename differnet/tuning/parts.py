"""Inspected parts as thresholds see them, from a run's columns or from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from differnet.records import Record
from differnet.reporting.counts import Columns, Truth, columns_of, columns_of_table, kind_of
from differnet.reporting.gallery_query import kinds_of_table

if TYPE_CHECKING:
    from differnet.store import RunTable

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """The parts of a run.

    Attributes:
        columns: Of ``n`` parts.
        kinds: Names of the kinds of defect and wrong input that occur, in alphabetical order.
        kind: ``(n,)`` place in ``kinds``, -1 of parts that are good or of which nobody said anything.
    """

    columns: Columns
    kinds: tuple[str, ...]
    kind: NDArray[np.int32]

    def strangeness_of(self, truth: Truth | None = None) -> Figures:
        """Return the finite strangeness of the parts of a group, or of all."""
        figures = self.columns.strangeness
        wanted = np.isfinite(figures)
        if truth is not None:
            wanted &= self.columns.truth == truth
        return figures[wanted]

    def p_values_of(self, truth: Truth) -> Figures:
        """Return the p-values of the parts of a group, of those that have one."""
        found: Figures = self.columns.p_value[self.columns.truth == truth]
        return found[np.isfinite(found)]

    def count(self, truth: Truth) -> int:
        """Count the parts of a group."""
        return int(np.count_nonzero(self.columns.truth == truth))

    @property
    def labelled(self) -> bool:
        """Whether anything is known of any part."""
        return bool((self.columns.truth != Truth.UNLABELLED).any())


def parts_of(table: RunTable, *, judged: bool = False) -> Parts:
    """Take the parts of a run out of its columns.

    Args:
        table: The run.
        judged: The last word of a person, good or defect, counts as the truth in place of the label.
    """
    columns = columns_of_table(table, judged=judged)
    if judged:
        return _of(columns, [kind or None for kind in kinds_of_table(table)])
    known = {label: kind_of(label, None, "") for label in set(table.label)}
    return _of(columns, [known[label] for label in table.label])


def parts_of_records(records: Sequence[Record]) -> Parts:
    """Take the parts of a run out of its records; labels alone count.

    Args:
        records: ``n`` records.
    """
    return _of(columns_of(records), [kind_of(record.label, None, "") for record in records])


def _of(columns: Columns, named: Iterable[str | None]) -> Parts:
    told = list(named)
    kinds = tuple(sorted({name for name in told if name is not None}))
    places: dict[str | None, int] = {name: i for i, name in enumerate(kinds)}
    return Parts(columns, kinds, np.array([places.get(name, -1) for name in told], dtype=np.int32))
