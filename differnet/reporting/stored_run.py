"""A run whose records are kept in the inspection record, with the pictures that its folder shows of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from differnet.records import Record, Verdict
from differnet.reporting.artefacts import Artefacts, heat_scale_of
from differnet.reporting.run import RunFacts
from differnet.strict_json import from_mapping

if TYPE_CHECKING:
    from differnet.store import ReviewEntry, RunEntry, Store


class StoredRun:
    """A run as the inspection record holds it.

    Records and reviews are read once, when it is made: all that is written from it shows the same pictures,
    also while a job goes on adding to the run. Heat maps and previews are looked for in the run's folder, and
    are absent where that is gone.

    Args:
        store: The record.
        run_id: Name of the run.

    Raises:
        StoreError: There is no such run.
        RecordFormatError: Another program put something there that is no record or no facts of a run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        from differnet.store import Asked

        entry = store.run(run_id)
        self.path: Path | None = Path(entry.folder) if entry.folder else None
        self.records: tuple[Record, ...] = tuple(store.items(Asked(run_id=run_id)))
        self.reviews: tuple[tuple[Record, ReviewEntry], ...] = tuple(store.reviewed(Asked(run_id=run_id)))
        self.facts = facts_of(store, entry, Counter(record.verdict for record in self.records))
        self._artefacts = Artefacts(self.path) if self.path is not None and self.path.is_dir() else None
        self._heat_scale = self.facts.heat_scale

    @property
    def heat_scale(self) -> tuple[float, float]:
        """Low and high end of the one colour scale for every picture of this run, see `heat_scale_of`."""
        if self._heat_scale is None:
            self._heat_scale = heat_scale_of(self.records, self.heat_map)
        return self._heat_scale

    def heat_map(self, record: Record) -> NDArray[np.float32] | None:
        """Read a record's heat map, see `Artefacts.heat_map`."""
        return None if self._artefacts is None else self._artefacts.heat_map(record)

    def preview(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the bounded preview, ``(height, width, 3)`` RGB, or ``None`` when there is none."""
        return None if self._artefacts is None else self._artefacts.preview(record)

    def closeup(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the strongest region at full sharpness, RGB, or ``None`` when there is none."""
        return None if self._artefacts is None else self._artefacts.closeup(record)


def facts_of(store: Store, entry: RunEntry, tally: Mapping[Verdict, int]) -> RunFacts:
    """Return what is true of a run that the record keeps.

    Args:
        store: The record.
        entry: Of the run.
        tally: How many of its items got each verdict.

    Raises:
        RecordFormatError: Another program put something there that are no facts of a run.
    """
    from differnet.reporting.keeping import KEPT

    known: dict[str, Any] = {name: entry.facts[name] for name in KEPT if name in entry.facts}
    # A run that somebody else began may say nothing of these; what the record knows of the model does then.
    if "details" not in known and (model := store.model(entry.model_id)) is not None:
        known["details"] = model.facts.get("details", {})
    if "calibration" not in known:
        calibration = store.calibration(entry.model_id, entry.calibration_id)
        known["calibration"] = calibration.facts if calibration is not None and calibration.facts else None
    if known.get("thresholds_set") is None:
        known["thresholds_set"] = _thresholds_set(store, entry)
    if entry.finished_at is not None:
        known["counts"] = {verdict.value: tally.get(verdict, 0) for verdict in Verdict}
    same = ("run_id", "product", "model_id", "calibration_id", "t_review", "t_defect", "threshold_revision")
    known |= {name: getattr(entry, name) for name in (*same, "source", "started_at", "finished_at")}
    return from_mapping(RunFacts, known)


def _thresholds_set(store: Store, entry: RunEntry) -> dict[str, Any] | None:
    found = store.revision(entry.model_id, entry.calibration_id, entry.threshold_revision)
    if found is None:
        return None
    same = {name: getattr(found, name) for name in ("number", "author", "reason", "rule")}
    return same | {"time": found.made_at}
