"""What the inspection record keeps of a run, beside its records."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from differnet.records import DiffernetError
from differnet.reporting.run import RunFacts
from differnet.store import CalibrationEntry, ModelEntry, RevisionEntry, RunEntry, Store


class RunFactsError(DiffernetError):
    """Raised for a run that does not say what judged it."""


def make_known(store: Store, facts: RunFacts, folder: Path) -> RunEntry:
    """Make the model, the calibration and the thresholds of a run known to the record.

    Args:
        store: The record.
        facts: Of the run.
        folder: Where its heat maps and previews lie.

    Returns:
        The run, which is still to be begun.

    Raises:
        RunFactsError: The facts do not say which model and thresholds judge.
        StoreError: The engine refused.
    """
    model, calibration, run = entries_of(facts, folder)
    store.add_model(model)
    store.add_calibration(calibration)
    if (revision := facts.thresholds_set) is not None:
        store.add_revision(
            RevisionEntry(
                run.model_id,
                run.calibration_id,
                revision.number,
                run.t_review,
                run.t_defect,
                revision.author,
                revision.reason,
                revision.rule,
                revision.time,
            )
        )
    return run


def entries_of(facts: RunFacts, folder: Path) -> tuple[ModelEntry, CalibrationEntry, RunEntry]:
    """Put the facts of a run into the rows that the record keeps of it.

    Args:
        facts: Of the run.
        folder: Where its heat maps and previews lie.

    Raises:
        RunFactsError: The facts do not say which model and thresholds judge.
    """
    if facts.t_review is None or facts.t_defect is None or not facts.model_id:
        raise RunFactsError(
            expected="a run that says which model and thresholds judged it",
            found=f"{facts.run_id or folder}, which does not",
            remedy="Inspect its pictures again: differnet inspect MODEL IMAGES --out RUN.",
        )
    told = asdict(facts)
    calibration = told["calibration"] or {}
    return (
        ModelEntry(facts.model_id, facts.product, facts={"details": facts.details}),
        CalibrationEntry(
            facts.model_id,
            facts.calibration_id,
            parts=int(calibration.get("parts", 0)),
            scheme=str(calibration.get("scheme", "")),
            facts=calibration,
        ),
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
            facts={name: told[name] for name in KEPT},
            started_at=facts.started_at or "",
        ),
    )


# Kept with the run, the calibration too: it promises other rates under other thresholds.
KEPT = (
    *("versions", "seed", "commit", "details", "calibration", "thresholds_set"),
    *("heat_scale", "format_version"),
)
