"""Tasks that make what others need: the sample product, a look at a folder, reports of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differnet.store import Store
from differnet.store.tasks import Tasks
from differnet.tasks.course import Course
from differnet.tasks.places import Workspace, existing, folder_of
from differnet.tasks.wishes import PAGES, TABLES, ReportWish, SampleWish, ScanWish

# Files of a kind that are named; all are counted.
NAMED = 200
# Tasks that are looked through for the last one that wrote a report.
_TASKS = 300

REPORT_FILES = {name: f"report.{name}" for name in PAGES} | {
    name: f"records.{ending}" for name, ending in TABLES.items()
}
"""What the file of each format is called."""


def make_sample(wish: SampleWish, store: Store, course: Course) -> dict[str, Any]:
    """Make the sample product, or find it made.

    Returns:
        ``folder``.
    """
    from differnet.images.synthetic import make_sample_product

    folder = Workspace.open(wish.workspace).samples / wish.name
    counts = {name: getattr(wish, name) for name in ("train", "good_test", "per_defect", "per_wrong")}
    made = make_sample_product(folder, **counts, seed=wish.seed, progress=course.named("rendering parts"))
    return {"folder": str(made)}


def scan(wish: ScanWish, store: Store, course: Course) -> dict[str, Any]:
    """Look at every picture of a folder.

    Returns:
        `ScanReport.to_json`, of long lists the first 200, with ``unreadable_count``, ``duplicates_count``,
        ``leaks_count`` and ``flagged_count``.
    """
    from differnet.images.scanning import scan as scan_folder

    data = existing(wish.data, "a folder of pictures")
    found = scan_folder(data, wish.layout, progress=course.named("reading pictures"))
    told = found.to_json()
    lists = ("unreadable", "duplicates", "leaks")
    told |= {f"{name}_count": len(told[name]) for name in lists}
    told |= {name: told[name][:NAMED] for name in lists}
    told["duplicates"] = [group[:NAMED] for group in told["duplicates"]]
    told["flagged_count"] = {flag: len(paths) for flag, paths in found.flagged.items()}
    told["flagged"] = {flag: paths[:NAMED] for flag, paths in told["flagged"].items()}
    return told


def write_reports(wish: ReportWish, store: Store, course: Course) -> dict[str, Any]:
    """Write reports and tables of a run as it stands.

    Returns:
        ``files`` by format, and ``changed``, the number that the run had then, see `Store.changed`.
    """
    from differnet.reporting import StoredRun, export_run
    from differnet.reporting import write_reports as write_pages

    out = report_folder(Workspace.open(wish.workspace), wish.run)
    steps = 1 + len(wish.formats)
    course("reading the run", 0, steps)
    # Before it is read: what changes meanwhile makes the report look older than it is, never newer.
    changed = store.changed(wish.run)
    run = StoredRun(store, wish.run)
    files: dict[str, str] = {}
    for number, name in enumerate(dict.fromkeys(wish.formats), 1):
        course(f"writing {name}", number, steps)
        out.mkdir(parents=True, exist_ok=True)
        (path,) = write_pages(run, out, (name,)) if name in PAGES else export_run(run, out, (TABLES[name],))
        files[name] = str(path)
    return {"files": files, "changed": changed, "run": wish.run}


@dataclass(frozen=True)
class Written:
    """A report or table of a run that was written.

    Attributes:
        name: Of its format.
        path: The file.
        current: Whether the run has not changed since.
    """

    name: str
    path: Path
    current: bool

    @property
    def file_name(self) -> str:
        """What to call it when it is taken elsewhere."""
        return f"{self.path.parent.name}-{self.path.name}"


def written_reports(store: Store, workspace: Workspace, run_id: str) -> list[Written]:
    """List the reports and tables of a run that lie in a workspace, in the order of formats.

    Raises:
        StoreError: There is no such run.
    """
    changed, folder = store.changed(run_id), report_folder(workspace, run_id)
    written = [task for task in Tasks(store).latest(_TASKS, kinds=("report",)) if task.state == "done"]
    found = []
    for name, file_name in REPORT_FILES.items():
        path = folder / file_name
        last = next(
            (t for t in written if t.wish.get("run") == run_id and name in t.outcome.get("files", {})), None
        )
        if path.is_file():
            found.append(Written(name, path, last is not None and last.outcome.get("changed") == changed))
    return found


def report_folder(workspace: Workspace, run_id: str) -> Path:
    """Return where the reports of a run go; runs of any names never share a folder."""
    return workspace.reports / folder_of(run_id)
