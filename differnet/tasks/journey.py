"""The five steps from nothing to a tuned threshold and a report, and how far somebody is on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from differnet.store import ModelEntry, RunEntry, Store
from differnet.store.tasks import TaskEntry, Tasks

StepState = Literal["done", "next", "at work", "later"]

# Looked through for what each step has come to.
_TASKS = 200
_KINDS = {
    "pictures": ("sample", "scan"),
    "model": ("train",),
    "inspection": ("inspect",),
    "report": ("report",),
}


@dataclass(frozen=True)
class Journey:
    """What there is so far.

    Attributes:
        states: Of each step: ``pictures``, ``model``, ``inspection``, ``thresholds``, ``report``.
        tasks: The task that a step waits for or that was its last one, by step.
        folder: Of the pictures that were chosen last; ``None`` where nobody has chosen any.
        model: The newest model whose bundle is there.
        run: The newest run.
        revised: Whether somebody has set thresholds for that run's model.
        report: The last report that was written.
    """

    states: Mapping[str, StepState]
    tasks: Mapping[str, TaskEntry]
    folder: str | None
    model: ModelEntry | None
    run: RunEntry | None
    revised: bool
    report: TaskEntry | None


def journey(store: Store) -> Journey:
    """Find out how far somebody is.

    Args:
        store: The record.
    """
    latest = Tasks(store).latest(_TASKS)
    tasks = {
        step: found
        for step, kinds in _KINDS.items()
        if (found := next((task for task in latest if task.kind in kinds), None)) is not None
    }
    model = next((m for m in store.models() if m.folder and Path(m.folder).is_dir()), None)
    run = next(iter(store.runs(limit=1)), None)
    revised = run is not None and bool(store.revisions(run.model_id, run.calibration_id))
    report = next((t for t in latest if t.kind == "report" and t.state == "done"), None)
    folder = _folder(latest)
    done = {
        "pictures": folder is not None or model is not None,
        "model": model is not None,
        "inspection": run is not None and run.finished_at is not None,
        "thresholds": revised,
        "report": report is not None,
    }
    return Journey(_states(done, tasks), tasks, folder, model, run, revised, report)


def _folder(latest: list[TaskEntry]) -> str | None:
    """Return the folder of the pictures that were made, looked at or learned from last."""
    for task in latest:
        if task.kind == "sample" and task.state == "done":
            return str(task.outcome.get("folder", ""))
        if task.kind in ("scan", "train") and task.state in ("done", "running", "waiting", "stopped"):
            return str(task.wish.get("data", ""))
    return None


def _states(done: Mapping[str, bool], tasks: Mapping[str, TaskEntry]) -> dict[str, StepState]:
    states: dict[str, StepState] = {}
    open_ = True
    for step, is_done in done.items():
        task = tasks.get(step)
        if task is not None and task.active:
            states[step] = "at work"
            open_ = False
        elif is_done:
            states[step] = "done"
        else:
            states[step] = "next" if open_ else "later"
            open_ = False
    return states
