"""A run of the record as pages see it: columns at once, records when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.records import Record, Verdict
from differnet.reporting.artefacts import PREVIEW_SIDE, Artefacts, encode_jpeg, heat_scale_of
from differnet.reporting.figures import heat_overlay
from differnet.reporting.stored_run import facts_of
from differnet.store import RunTable, Store

# Pictures whose heat maps choose the colour scale: enough for a median and a decile, few enough to wait for.
_SCALED_BY = 60


class TabledRun:
    """A run as it stands in the record at one moment, for pages over a hundred thousand items.

    Args:
        store: The record.
        run_id: Name of the run.
        before: The run as it was read before. Where people have said something since, and nothing else was
            written, the rest is taken over from it.

    Attributes:
        entry: As the record keeps the run.
        table: All of its items.
        facts: What is true of the whole run.

    Raises:
        StoreError: There is no such run.
        RecordFormatError: Another program put something there that are no facts of a run.
    """

    def __init__(self, store: Store, run_id: str, before: TabledRun | None = None) -> None:
        self.table: RunTable = store.table(run_id, None if before is None else before.table)
        if before is not None and _same_items(before.table, self.table):
            self.__dict__ = before.__dict__ | {"table": self.table}
            return
        self._store = store
        self.entry = store.run(run_id)
        tally = np.bincount(self.table.verdict, minlength=len(Verdict))
        self.facts = facts_of(store, self.entry, dict(zip(Verdict, map(int, tally), strict=True)))
        folder = Path(self.entry.folder) if self.entry.folder else None
        self._artefacts = Artefacts(folder) if folder is not None and folder.is_dir() else None

    def __len__(self) -> int:
        """Count the items."""
        return len(self.table)

    @cached_property
    def place_of(self) -> dict[str, int]:
        """Place in the table of each item id."""
        return {item_id: place for place, item_id in enumerate(self.table.item_id)}

    @cached_property
    def heat_scale(self) -> tuple[float, float]:
        """Low and high end of the one colour scale for every picture of this run, see `heat_scale_of`.

        Where the run does not know its own yet, it is found from pictures spread over the run.
        """
        if self.facts.heat_scale is not None:
            return self.facts.heat_scale
        flagged = np.isin(self.table.verdict, [1, 2])
        chosen = [
            self.table.item_id[i]
            for mine in (self.table.verdict == 0, flagged)
            for i in _spread(np.flatnonzero(mine), _SCALED_BY)
        ]
        return heat_scale_of(self.records(chosen), self.heat_map)

    def records(self, item_ids: Sequence[str]) -> list[Record]:
        """Read records, in the order of their item ids; what is not there is left out."""
        return self._store.records(self.entry.run_id, item_ids)

    def record(self, item_id: str) -> Record | None:
        """Read one record, if there is one of that item id."""
        return next(iter(self.records([item_id])), None)

    def heat_map(self, record: Record) -> NDArray[np.float32] | None:
        """Read a record's heat map, see `Artefacts.heat_map`."""
        return None if self._artefacts is None else self._artefacts.heat_map(record)

    def preview(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the bounded preview, ``(height, width, 3)`` RGB, or ``None`` when there is none."""
        return None if self._artefacts is None else self._artefacts.preview(record)

    def closeup(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the strongest region at full sharpness, RGB, or ``None`` when there is none."""
        return None if self._artefacts is None else self._artefacts.closeup(record)


def drawn_picture(
    run: TabledRun, record: Record, side: int = PREVIEW_SIDE, opacity: float = 0.0, *, regions: bool = False
) -> bytes | None:
    """Draw a picture of a run as a JPEG file.

    Args:
        run: That the picture is of.
        record: Its row.
        side: Longest side in pixels, at most; a preview is not enlarged but where it is very small.
        opacity: Of the hottest colour over it, 0 to 1; at 0 the heat map is left away.
        regions: Outline what stands out.

    Returns:
        The file's bytes, or ``None`` where there is no preview.
    """
    preview = run.preview(record)
    if preview is None:
        return None
    height, width = preview.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        preview = np.asarray(cv2.resize(preview, size, interpolation=cv2.INTER_AREA), np.uint8)
    heat_map = run.heat_map(record) if opacity > 0 or regions else None
    return encode_jpeg(
        heat_overlay(preview, heat_map, run.heat_scale, record if regions else None, opacity)
        if heat_map is not None
        else preview
    )


def _same_items(known: RunTable, table: RunTable) -> bool:
    return (known.run_id, known.inspected) == (table.run_id, table.inspected)


def _spread(places: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Choose places spread evenly over all."""
    if len(places) <= number:
        return places
    chosen: NDArray[np.int64] = places[np.linspace(0, len(places) - 1, number).astype(np.int64)]
    return chosen
