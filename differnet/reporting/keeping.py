"""What the inspection record keeps of a run, beside its records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from differnet.records import DiffernetError
from differnet.reporting.run import RunFacts
from differnet.reporting.run_folder import RunFolder, list_runs
from differnet.store import Asked, CalibrationEntry, ModelEntry, RevisionEntry, RunEntry, Store

# Records that are written to the store in one transaction.
BATCH = 200
_MANIFEST = "manifest.json"
# A manifest is some kilobytes; a larger file is none.
_LARGEST_MANIFEST = 4 << 20


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


def keep_run(store: Store, run: RunFolder, told: Callable[[int, int], None] | None = None) -> int:
    """Keep a run's folder in the record.

    Args:
        store: The record.
        run: Finished or not; heat maps and previews stay in its folder.
        told: Called with (records done, records in all).

    Returns:
        How many pictures were new.

    Raises:
        RunFactsError: The run does not say which model and thresholds judged it.
        StoreError: The record knows another run of that name, or the engine refused.
    """
    facts = run.facts
    store.begin_run(make_known(store, facts, run.path))
    added = 0
    for start in range(0, len(run.records), BATCH):
        some = run.records[start : start + BATCH]
        added += store.add_items(some)
        if told is not None:
            told(start + len(some), len(run.records))
    if facts.finished_at is not None:
        store.finish_run(facts.run_id, facts.finished_at, {"heat_scale": facts.heat_scale})
    store.note(
        "differnet db add", "add run", facts.run_id, {"added": added, "folder": str(run.path.resolve())}
    )
    return added


def keep_runs(store: Store, folder: Path) -> list[tuple[Path, DiffernetError]]:
    """Keep every run's folder in a folder that the record does not hold in full yet.

    Args:
        store: The record.
        folder: With runs in it, or a run itself.

    Returns:
        What could not be kept, and why.
    """
    refused = []
    for path in list_runs(folder):
        try:
            run = RunFolder.open(path)
            known = store.run_in(path)
            held = 0
            if known is not None:
                held = sum(store.verdict_counts(Asked(run_id=known.run_id)).values())
            ended = known is not None and known.finished_at is not None
            if held < len(run.records) or known is None or (run.facts.finished_at is not None and not ended):
                keep_run(store, run)
        except DiffernetError as error:
            refused.append((path, error))
    return refused


def place_models(store: Store, folders: Iterable[Path]) -> int:
    """Tell the record where bundles of its models lie that it has no place of, or whose place is gone.

    Args:
        store: The record.
        folders: To look in: each may be a bundle, or hold bundles.

    Returns:
        How many were found. A manifest is only believed to name its model; who loads the bundle checks it.
    """
    lost = {
        model.model_id
        for model in store.models()
        if not model.folder or not (Path(model.folder) / _MANIFEST).is_file()
    }
    found = 0
    for folder in folders if lost else ():
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        for place in (folder, *inside):
            model_id = model_in(place)
            if model_id in lost:
                store.place_model(model_id, place)
                lost.remove(model_id)
                found += 1
    return found


def model_in(folder: Path) -> str:
    """Return which model a folder's manifest names; empty where there is none that can be read."""
    manifest = folder / _MANIFEST
    try:
        if not manifest.is_file() or manifest.stat().st_size > _LARGEST_MANIFEST:
            return ""
        told = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        # What cannot be read names no model.
        return ""
    return str(told.get("model_id", "")) if isinstance(told, dict) else ""


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
