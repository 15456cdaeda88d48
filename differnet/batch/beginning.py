"""Begin a run in the record, and come back to one with the model and thresholds that it was begun with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from differnet.detection import DetectorError, Inspector
from differnet.reporting.keeping import make_known
from differnet.reporting.run import RunFacts
from differnet.store import RunEntry, Store, StoreError
from differnet.store.queue import Queue, Wanted

_MODEL = "model_folder"


@dataclass(frozen=True)
class RunPlan:
    """What a run shall be.

    Attributes:
        facts: Of the run and its model; ``run_id`` is its name in the record.
        model: Folder of the model.
        folder: Where heat maps and previews go.
        pictures: What to inspect, in its order.
    """

    facts: RunFacts
    model: Path
    folder: Path
    pictures: Sequence[Wanted]


def begin(store: Store, detector: Inspector, plan: RunPlan) -> Queue:
    """Begin a run with all of its pictures; where it was begun, add what it does not have yet.

    Args:
        store: The record.
        detector: Its model, with the thresholds in force.
        plan: What the run shall be.

    Raises:
        DetectorError: Thresholds are in force of which the facts do not say who set them.
        StoreError: The record knows another run of that name.
    """
    number, told = detector.threshold_revision, plan.facts.thresholds_set
    if number and (told is None or told.number != number):
        raise DetectorError(
            expected=f"revision {number} among the thresholds beside {plan.model}",
            found="none of that number",
            remedy="Load the model anew, so that what is in force is what is kept.",
        )
    run = make_known(store, plan.facts, plan.folder)
    store.place_model(run.model_id, plan.model)
    run = RunEntry(**{**vars(run), "facts": run.facts | {_MODEL: str(plan.model.resolve())}})
    return Queue.begin(store, run, plan.pictures)


def whole_path(path: Path) -> str:
    """Return the one name of a file, however it was spelt; links keep theirs, which say what a part is."""
    return os.path.abspath(path)  # noqa: PTH100


def model_folder(run: RunEntry) -> Path:
    """Return where the model lay when the run was begun.

    Raises:
        StoreError: The run was not begun as a batch job.
    """
    if _MODEL not in run.facts:
        raise StoreError(
            expected=f"run {run.run_id} to be a batch job",
            found="one that was inspected in one go",
            remedy="Begin a job: differnet batch run MODEL IMAGES --name NAME.",
        )
    return Path(run.facts[_MODEL])


def resume(store: Store, run_id: str, detector: Inspector) -> Queue:
    """Come back to a run: its thresholds are put in force, whatever was set since.

    Args:
        store: The record.
        run_id: The run.
        detector: Its model, loaded.

    Raises:
        StoreError: There is no such run, or it was begun with another model or calibration.
    """
    run = store.run(run_id)
    model_folder(run)
    facts = detector.facts()
    theirs = (run.model_id, run.calibration_id)
    if theirs != (ours := (facts["model_id"], facts["calibration_id"])):
        raise StoreError(
            expected=f"model {theirs[0]} with calibration {theirs[1]}, which run {run_id} was begun with",
            found=f"model {ours[0]} with calibration {ours[1]}",
            remedy="Name the model that it was begun with: --model MODEL; or begin another run.",
        )
    if run.threshold_revision:
        detector.adopt_thresholds(run.t_review, run.t_defect, run.threshold_revision)
    found = detector.thresholds.review, detector.thresholds.defect
    if detector.threshold_revision != run.threshold_revision or found != (run.t_review, run.t_defect):
        raise StoreError(
            expected=f"thresholds {run.t_review:.6g} and {run.t_defect:.6g}, under which {run_id} was begun",
            found=f"{found[0]:.6g} and {found[1]:.6g} of revision {detector.threshold_revision}",
            remedy="Load the model without thresholds that were set since, or begin another run.",
        )
    return Queue(store, run_id)
