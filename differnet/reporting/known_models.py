"""The models of a record: what each promises, its thresholds, where it lies and what it judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from differnet.evaluation.intervals import percent
from differnet.records import DiffernetError
from differnet.reporting.keeping import model_in
from differnet.reporting.report import no_promise
from differnet.store import CalibrationEntry, ModelEntry, RevisionEntry, RunEntry, Store

# Runs of a product that are looked through for those of a model.
_RUNS = 500


class ModelPlaceError(DiffernetError):
    """A model that does not lie where it should."""


@dataclass(frozen=True)
class KnownModel:
    """A model of the record.

    Attributes:
        entry: As the record keeps it.
        folder: Where it lies; ``None`` where it is lost.
        lost: Why, else empty.
        calibrations: Of it, the newest first.
        revisions: Thresholds that were set for it, with any of its calibrations, the newest first.
        runs: That it judged, the newest first, of the latest 500 of its product.
    """

    entry: ModelEntry
    folder: Path | None
    lost: str
    calibrations: tuple[CalibrationEntry, ...]
    revisions: tuple[RevisionEntry, ...]
    runs: tuple[RunEntry, ...]

    @property
    def in_force(self) -> str:
        """Say which thresholds judged last."""
        if not self.runs:
            return "it has judged nothing yet"
        last = self.runs[0]
        whose = f"revision {last.threshold_revision}" if last.threshold_revision else "the calibration's own"
        return f"{whose}: T1 {last.t_review:.3f}, T2 {last.t_defect:.3f}"


def known_models(store: Store) -> list[KnownModel]:
    """Return all models of a record, those that judged last first.

    Args:
        store: The record.
    """
    by_product: dict[str, list[RunEntry]] = {}
    found = []
    for entry in store.models():
        if entry.product not in by_product:
            by_product[entry.product] = store.runs(entry.product, _RUNS)
        calibrations = tuple(store.calibrations(entry.model_id))
        revisions = [r for c in calibrations for r in store.revisions(entry.model_id, c.calibration_id)]
        folder, lost = place_of_model(entry)
        runs = tuple(run for run in by_product[entry.product] if run.model_id == entry.model_id)
        newest = sorted(revisions, key=lambda each: (each.made_at, each.number), reverse=True)
        found.append(KnownModel(entry, folder, lost, calibrations, tuple(newest), runs))
    return sorted(found, key=lambda each: each.runs[0].started_at if each.runs else "", reverse=True)


def place_of_model(entry: ModelEntry) -> tuple[Path | None, str]:
    """Return where a model lies, or why it is not known.

    Args:
        entry: Of the model.

    Returns:
        Its folder and no words, or ``None`` and why. A manifest is only believed to name its model; who loads
        the bundle checks it.
    """
    if not entry.folder:
        return None, "the record does not know where it lies"
    folder = Path(entry.folder)
    named = model_in(folder)
    if not named:
        return None, f"there is no model at {folder} any more"
    if named != entry.model_id:
        return None, f"another model, {named}, stands at {folder}"
    return folder, ""


def require_place(store: Store, model_id: str) -> Path:
    """Return where a model lies.

    Raises:
        ModelPlaceError: The record does not know, or it is not there.
    """
    entry = store.model(model_id)
    folder, lost = (None, "the record does not know it") if entry is None else place_of_model(entry)
    if folder is None:
        raise ModelPlaceError(
            expected=f"model {model_id}",
            found=lost,
            remedy="Say on the page Models where it lies now, or put it back there.",
        )
    return folder


def put_model(store: Store, model_id: str, folder: Path) -> None:
    """Tell the record where a model lies.

    Args:
        store: The record.
        model_id: Of a model that it knows.
        folder: Whose manifest names that model.

    Raises:
        ModelPlaceError: Another model lies there, or none.
        StoreError: The engine refused.
    """
    found = model_in(folder)
    if found != model_id:
        raise ModelPlaceError(
            expected=f"model {model_id} at {folder}",
            found=f"model {found}" if found else "no model whose manifest can be read",
            remedy="Give the folder that differnet train wrote for this very model.",
        )
    store.place_model(model_id, folder)


def promise_words(calibration: CalibrationEntry) -> list[str]:
    """Say what a calibration promises of good parts, and what it gives in truth, given so many parts.

    Args:
        calibration: As the record keeps it.

    Returns:
        A sentence a threshold, or one that says why nothing is promised.

    Example:
        >>> facts = {"alpha_review": 0.05, "alpha_defect": 0.01, "interval_review": [0.03, 0.08]}
        >>> promise_words(CalibrationEntry("m", "c", 200, facts=facts))[0]
        'At most 5.0 % of good parts go beyond T1; 90 in 100 such calibrations give 3.0 % to 8.0 %.'
    """
    facts = calibration.facts
    if not facts:
        return ["The record does not know what it promises: its runs did not say."]
    if not facts.get("promised", True):
        return [f"N{no_promise(calibration.parts)[1:]}."]
    told = []
    for name, kind in (("T1", "review"), ("T2", "defect")):
        alpha, interval = facts.get(f"alpha_{kind}"), facts.get(f"interval_{kind}")
        if isinstance(alpha, float):
            told.append(f"At most {percent(alpha)} of good parts go beyond {name}{_interval(interval)}.")
    return told


def thresholds_table(model: KnownModel) -> pd.DataFrame:
    """Lay out every threshold that was set for a model, the newest first.

    The file beside the model tells all of them. Where the model is lost, the record tells those that it was
    told of.

    Args:
        model: Of the record.

    Returns:
        Columns ``number``, ``set`` (UTC), ``by``, ``T1``, ``T2``, ``reason``, ``how``, ``calibration``.

    Raises:
        RevisionError: The file beside the model is damaged.
    """
    rows = [
        (r.number, r.made_at, r.author, r.t_review, r.t_defect, r.reason, r.rule, r.calibration_id)
        for r in model.revisions
    ]
    if model.folder is not None:
        from differnet.detection import revisions_of

        kept = revisions_of(model.folder).history()
        own = [each for each in kept if each.model_id == model.entry.model_id]
        rows = [
            (r.number, r.time, r.author, r.review, r.defect, r.reason, r.rule, r.calibration_id)
            for r in reversed(own)
        ]
    columns = ["number", "set", "by", "T1", "T2", "reason", "how", "calibration"]
    table = pd.DataFrame(rows, columns=columns)
    table["set"] = table["set"].astype(str).str[:16].str.replace("T", " ")
    return table


def models_table(models: Sequence[KnownModel]) -> pd.DataFrame:
    """Lay out models, a row each.

    Args:
        models: From `known_models`.

    Returns:
        Columns ``model``, ``product``, ``calibrated on``, ``thresholds in force``, ``runs``, ``last run``
        (UTC), ``place``.
    """
    rows = [
        (
            model.entry.model_id,
            model.entry.product,
            _calibrated(model.calibrations),
            model.in_force,
            len(model.runs),
            model.runs[0].started_at[:16].replace("T", " ") if model.runs else "",
            model.lost or str(model.folder),
        )
        for model in models
    ]
    columns = [
        *("model", "product", "calibrated on", "thresholds in force", "runs", "last run", "place"),
    ]
    return pd.DataFrame(rows, columns=columns)


def promotions(store: Store, limit: int = 500) -> list[dict[str, Any]]:
    """Return who put which model in which one's place, the newest first, from the latest of the audit trail.

    Args:
        store: The record.
        limit: Entries of the trail that are looked through.
    """
    actions = ("promote", "return to previous model")
    return [entry for entry in store.audit(limit) if entry["action"] in actions]


def _calibrated(calibrations: Sequence[CalibrationEntry]) -> str:
    if not calibrations:
        return "nothing that the record knows of"
    last = calibrations[0]
    scheme = f", {last.scheme}" if last.scheme else ""
    earlier = f"; {len(calibrations) - 1} earlier" if len(calibrations) > 1 else ""
    return f"{last.parts:,} {'part' if last.parts == 1 else 'parts'}{scheme}{earlier}"


def _interval(interval: object) -> str:
    match interval:
        case [float(low), float(high)]:
            return f"; 90 in 100 such calibrations give {percent(low)} to {percent(high)}"
        case _:
            return ""
