"""Runs of the record with how far they are, and who works on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from differnet.records import Verdict
from differnet.store import Asked, RunEntry, Store
from differnet.store.queue import Progress, Queue
from differnet.store.tasks import TaskEntry, Tasks

if TYPE_CHECKING:
    import pandas as pd

JobState = Literal["at work", "stopping", "waiting", "at work elsewhere", "paused", "interrupted", "finished"]

# Tasks that are looked through for those that worked on the runs.
_TASKS = 300


@dataclass(frozen=True)
class Job:
    """A run, and what is done with it.

    Attributes:
        run: As the record keeps it.
        progress: Of its queue; ``None`` for a run that was inspected in one go.
        counts: Items of each verdict.
        task: That works on it, or did last; ``None`` where no page asked for that.
    """

    run: RunEntry
    progress: Progress | None
    counts: Mapping[Verdict, int]
    task: TaskEntry | None = None

    @property
    def state(self) -> JobState:
        """How the run stands."""
        if self.task is not None and self.task.state == "running":
            return "stopping" if self.task.stop_asked else "at work"
        if self.task is not None and self.task.state == "waiting":
            return "waiting"
        if self.progress is None:
            return "finished" if self.run.finished_at else "interrupted"
        if not self.progress.left:
            return "finished"
        if self.progress.leased:
            return "at work elsewhere"
        return "interrupted" if self.task is not None and self.task.state == "lost" else "paused"

    @property
    def pictures(self) -> int:
        """Pictures of the run, judged or not."""
        return self.progress.total if self.progress is not None else sum(self.counts.values())

    @property
    def left(self) -> int:
        """Pictures that have no verdict yet."""
        return 0 if self.progress is None else self.progress.left

    @property
    def share_done(self) -> float:
        """Share of the pictures that have a verdict, from 0 to 1."""
        return 1.0 if not self.pictures else 1 - self.left / self.pictures

    @property
    def can_go_on(self) -> bool:
        """Whether somebody may resume it now."""
        return self.left > 0 and self.state in ("paused", "interrupted")

    @property
    def can_retry(self) -> bool:
        """Whether what was put aside may be tried once more now."""
        return bool(self.progress is not None and self.progress.quarantined) and self.state == "finished"


def list_jobs(store: Store, limit: int = 20) -> list[Job]:
    """Return the latest runs with how far they are, the newest first.

    Args:
        store: The record.
        limit: How many at most.
    """
    runs = store.runs(limit=limit)
    works = last_works(store)
    return [job_of(store, run, works.get(run.run_id)) for run in runs]


def job_of(store: Store, run: RunEntry, task: TaskEntry | None) -> Job:
    """Return a run with how far it is.

    Args:
        store: The record.
        run: Which.
        task: That works on it or did last.
    """
    progress = Queue(store, run.run_id).progress()
    counts = store.verdict_counts(Asked(run_id=run.run_id))
    return Job(run, progress if progress.total else None, counts, task)


def last_works(store: Store) -> dict[str, TaskEntry]:
    """Return for each run the inspection that works on it, or did last, among the latest 300."""
    found: dict[str, TaskEntry] = {}
    for task in Tasks(store).latest(_TASKS, kinds=("inspect",)):
        run_id = str(task.wish.get("run", ""))
        # The one at work counts, whatever was asked for since.
        if run_id not in found or (task.state == "running" and not found[run_id].active):
            found[run_id] = task
    return found


def jobs_table(jobs: Sequence[Job]) -> pd.DataFrame:
    """Lay out runs for a page.

    Returns:
        Columns ``run``, ``state``, ``began (UTC)`` (month, day, time), ``pictures``, ``done`` (share), and
        one a verdict.
    """
    import pandas as pd

    from differnet.reporting.tables import legible

    rows = [
        {
            "run": legible(job.run.run_id),
            "state": job.state,
            "began (UTC)": job.run.started_at[5:16].replace("T", " "),
            "pictures": job.pictures,
            "done": job.share_done,
            **{verdict.value: job.counts.get(verdict, 0) for verdict in Verdict},
        }
        for job in jobs
    ]
    columns = ["run", "state", "began (UTC)", "pictures", "done", *(v.value for v in Verdict)]
    return pd.DataFrame(rows, columns=columns)


def quarantine_table(store: Store, run_id: str, limit: int = 500) -> pd.DataFrame:
    """Lay out what a run has put aside.

    Returns:
        Columns ``picture`` and ``why``, in the order of the run.
    """
    import pandas as pd

    from differnet.reporting.tables import legible

    rows = [(legible(path), legible(reason)) for path, reason in Queue(store, run_id).quarantined(limit)]
    return pd.DataFrame(rows, columns=["picture", "why"])
