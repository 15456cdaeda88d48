"""A run whose records are kept in the inspection record, with the pictures that its folder shows of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from differnet.records import DiffernetError, Record, Verdict
from differnet.reporting.artefacts import Artefacts, heat_scale_of
from differnet.reporting.run import RunFacts
from differnet.strict_json import from_mapping

if TYPE_CHECKING:
    from differnet.store import ReviewEntry, RunEntry, Store

# Kept with the run, the calibration too: it promises other rates under other thresholds.
_KEPT = (
    *("versions", "seed", "commit", "details", "calibration", "thresholds_set"),
    *("heat_scale", "format_version"),
)


class RunFactsError(DiffernetError):
    """Raised for a run that does not say what judged it."""


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
        self.facts = _facts(store, entry, self.records)
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


def begin_run(store: Store, facts: RunFacts, folder: Path) -> None:
    """Make a run, its model and its calibration known to the record, or find them known.

    Args:
        store: The record.
        facts: Of the run.
        folder: Where its heat maps and previews lie.

    Raises:
        RunFactsError: The facts do not say which model and thresholds judge.
        StoreError: The record knows another run of that name, or the engine refused.
    """
    from differnet.store import CalibrationEntry, ModelEntry, RunEntry

    if facts.t_review is None or facts.t_defect is None or not facts.model_id:
        raise RunFactsError(
            expected="a run that says which model and thresholds judged it",
            found=f"{facts.run_id or folder}, which does not",
            remedy="Inspect its pictures again: differnet inspect MODEL IMAGES --out RUN.",
        )
    told = asdict(facts)
    calibration = told["calibration"] or {}
    store.add_model(ModelEntry(facts.model_id, facts.product, facts={"details": facts.details}))
    store.add_calibration(
        CalibrationEntry(
            facts.model_id,
            facts.calibration_id,
            parts=int(calibration.get("parts", 0)),
            scheme=str(calibration.get("scheme", "")),
            facts=calibration,
        )
    )
    store.begin_run(
        RunEntry(
            facts.run_id,
            facts.product,
            facts.model_id,
            facts.calibration_id,
            t_review=facts.t_review,
            t_defect=facts.t_defect,
            threshold_revision=facts.threshold_revision,
            source=facts.source,
            folder=str(folder.resolve()),
            facts={name: told[name] for name in _KEPT},
            started_at=facts.started_at or "",
        )
    )


def finish_run(store: Store, facts: RunFacts) -> None:
    """Say that a run of the record has ended, and keep what became known at its end.

    Args:
        store: The record.
        facts: Of the run; without ``finished_at`` it ends now.

    Raises:
        StoreError: There is no such run.
    """
    store.finish_run(facts.run_id, facts.finished_at, {"heat_scale": facts.heat_scale})


def _facts(store: Store, entry: RunEntry, records: tuple[Record, ...]) -> RunFacts:
    known: dict[str, Any] = {name: entry.facts[name] for name in _KEPT if name in entry.facts}
    # A run that somebody else began may say nothing of these; what the record knows of the model does then.
    if "details" not in known and (model := store.model(entry.model_id)) is not None:
        known["details"] = model.facts.get("details", {})
    if "calibration" not in known:
        calibration = store.calibration(entry.model_id, entry.calibration_id)
        known["calibration"] = calibration.facts if calibration is not None and calibration.facts else None
    if entry.finished_at is not None:
        tally = Counter(record.verdict for record in records)
        known["counts"] = {verdict.value: tally[verdict] for verdict in Verdict}
    same = ("run_id", "product", "model_id", "calibration_id", "t_review", "t_defect", "threshold_revision")
    known |= {name: getattr(entry, name) for name in (*same, "source", "started_at", "finished_at")}
    return from_mapping(RunFacts, known)
