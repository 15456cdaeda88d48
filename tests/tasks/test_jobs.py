"""Runs with how far they are and who works on them, and the steps of somebody who begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from differnet.images.layouts import LayoutError
from differnet.records import Verdict
from differnet.store import RunEntry, Store
from differnet.store.queue import Progress
from differnet.store.tasks import TaskEntry
from differnet.tasks import ReportWish, ScanWish
from differnet.tasks.choosing import model_name, run_name, summary_of, to_inspect
from differnet.tasks.jobs import Job, jobs_table, list_jobs, quarantine_table
from differnet.tasks.journey import journey
from differnet.tasks.kinds import wish_tree
from differnet.tasks.making import written_reports
from differnet.tasks.places import WishError, Workspace
from differnet.tasks.starting import machine
from differnet.tasks.working import work_on
from tasks.conftest import SHIFT, Shop

RUN = RunEntry("monday", "plate", "m", "c", 1.3, 2.0, started_at="2026-11-23T06:00:00.000+00:00")
ENDED = "2026-11-23T07:00:00.000+00:00"


def work(state: str, **changes: Any) -> TaskEntry:
    return TaskEntry("t", "inspect", "Inspect", {"run": "monday"}, "ada", state, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("progress", "finished", "task", "state", "goes_on"),
    [
        (Progress(done=9), True, None, "finished", False),
        (Progress(done=9), True, "done", "finished", False),
        (Progress(waiting=4, done=5), False, None, "paused", True),
        (Progress(waiting=4, done=5), False, "stopped", "paused", True),
        (Progress(waiting=4, done=5), False, "failed", "paused", True),
        (Progress(waiting=4, done=5), False, "lost", "interrupted", True),
        (Progress(waiting=2, leased=2, done=5), False, "running", "at work", False),
        (Progress(waiting=2, leased=2, done=5), False, None, "at work elsewhere", False),
        (Progress(waiting=4, done=5), False, "waiting", "waiting", False),
        (None, True, None, "finished", False),
        (None, False, None, "interrupted", False),
    ],
)
def test_a_run_stands_as_its_queue_and_its_task_say(
    progress: Progress | None, finished: bool, task: str | None, state: str, goes_on: bool
) -> None:
    run = RunEntry(**{**vars(RUN), "finished_at": ENDED if finished else None})
    job = Job(run, progress, {Verdict.PASS: 5}, None if task is None else work(task))
    assert job.state == state
    assert job.can_go_on is goes_on
    assert job.pictures == (5 if progress is None else 9)


def test_stopping_and_retrying() -> None:
    stopping = Job(RUN, Progress(waiting=4, done=5), {}, work("running", stop_asked=True))
    assert stopping.state == "stopping"
    assert Job(RUN, Progress(done=8, quarantined=1), {}).can_retry
    assert not Job(RUN, Progress(waiting=1, quarantined=1), {}).can_retry
    assert not Job(RUN, Progress(done=9), {}).can_retry
    assert Job(RUN, Progress(waiting=3, done=1), {}).share_done == 0.25
    assert Job(RUN, None, {}).share_done == 1.0


def done(shop: Shop, kind: str, wish: Any) -> str:
    made = shop.tasks.add(kind, wish.title, wish_tree(wish), "ada", machine())
    assert work_on(shop.store, made.task_id) == "done"
    return made.task_id


def test_runs_are_listed_with_what_was_put_aside(shop: Shop, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(sorted(shop.pictures.iterdir())[0].read_bytes()[:-30])
    pictures = (str(sorted(shop.pictures.iterdir())[1]), str(torn))
    task_id = done(shop, "inspect", shop.inspection(pictures=pictures))
    (job,) = list_jobs(shop.store)
    assert (job.state, job.pictures, job.left, job.can_retry) == ("finished", 2, 0, True)
    assert job.task is not None
    assert job.task.task_id == task_id
    table = jobs_table([job])
    names = ("run", "state", "pictures", "done", "INVALID")
    assert [table[name][0] for name in names] == ["monday", "finished", 2, 1.0, 1]
    aside = quarantine_table(shop.store, "monday")
    assert aside["picture"].tolist() == [str(torn)]
    assert "ends inside" in aside["why"][0]
    assert quarantine_table(shop.store, "monday", 0).empty


def test_a_report_is_current_until_the_run_changes(shop: Shop) -> None:
    workspace = Workspace(shop.place)
    pictures = (str(sorted(shop.pictures.iterdir())[1]),)
    done(shop, "inspect", shop.inspection(pictures=pictures))
    assert written_reports(shop.store, workspace, "monday") == []
    done(shop, "report", ReportWish(str(shop.place), "monday", ("html", "csv")))
    written = written_reports(shop.store, workspace, "monday")
    assert [(file.name, file.current) for file in written] == [("html", True), ("csv", True)]
    assert written[0].file_name == "monday-report.html"
    more = (str(sorted(shop.pictures.iterdir())[2]),)
    done(shop, "inspect", shop.inspection(pictures=more))
    assert [file.current for file in written_reports(shop.store, workspace, "monday")] == [False, False]
    done(shop, "report", ReportWish(str(shop.place), "monday", ("csv",)))
    assert [file.current for file in written_reports(shop.store, workspace, "monday")] == [False, True]


def test_the_five_steps_follow_what_there_is(shop: Shop, tmp_path: Path) -> None:
    found = journey(shop.store)
    # The shop has a model, and nothing else.
    assert found.states == {
        "pictures": "done",
        "model": "done",
        "inspection": "next",
        "thresholds": "later",
        "report": "later",
    }
    assert (found.folder, found.run, found.report) == (None, None, None)
    assert found.model is not None
    scan = ScanWish(str(shop.place), str(shop.good))
    waiting = shop.tasks.add("scan", scan.title, wish_tree(scan), "ada", machine())
    found = journey(shop.store)
    assert (found.states["pictures"], found.states["inspection"]) == ("at work", "later")
    assert work_on(shop.store, waiting.task_id) == "done"
    assert journey(shop.store).folder == str(shop.good)
    done(shop, "inspect", shop.inspection(pictures=(str(sorted(shop.pictures.iterdir())[1]),)))
    found = journey(shop.store)
    assert (found.states["inspection"], found.states["thresholds"]) == ("done", "next")
    assert found.run is not None
    assert found.run.run_id == "monday"
    done(shop, "report", ReportWish(str(shop.place), "monday", ("csv",)))
    found = journey(shop.store)
    assert (found.states["thresholds"], found.states["report"]) == ("next", "done")
    (shop.place / "models" / "plate").rename(tmp_path / "gone")
    assert journey(shop.store).model is None


def test_an_empty_record_begins_with_pictures(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "record.db")
    found = journey(store)
    store.close()
    assert list(found.states.values()) == ["next", "later", "later", "later", "later"]
    assert found.tasks == {}


def test_a_folder_is_summed_up_by_its_names(shop: Shop, tmp_path: Path) -> None:
    summary = summary_of(str(shop.good))
    assert (summary.train_good, summary.test, summary.wrong_inputs) == (34, 0, 0)
    assert summary.words.endswith("layout: 34 good parts to learn from, 0 set aside for inspection.")
    with pytest.raises(WishError, match="a folder of pictures"):
        summary_of("no/such/folder")


def test_what_of_a_folder_would_be_inspected_is_said(shop: Shop, tmp_path: Path) -> None:
    flat = to_inspect(str(shop.pictures))
    assert (flat.pictures, flat.labelled, flat.left_out) == (SHIFT, 0, 0)
    assert flat.words == f"{SHIFT} pictures to inspect, 0 of them with a label."
    content = sorted(shop.pictures.iterdir())[0].read_bytes()
    for name in ("train/good", "test/good", "test/dent", "wrong_inputs/blank"):
        (tmp_path / "parts" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "parts" / name / f"{number}.png").write_bytes(content)
    found = to_inspect(str(tmp_path / "parts"))
    assert found.words == (
        "6 pictures to inspect, 6 of them with a label; 3 wrong inputs beside them; 3 parts that are set "
        "aside for training are left out."
    )
    assert to_inspect(str(tmp_path / "parts" / "test" / "good" / "0.png")).pictures == 1
    with pytest.raises(LayoutError, match="pictures in"):
        to_inspect(str(shop.place / "models"))


def test_proposed_names_are_plain_and_free(shop: Shop) -> None:
    workspace = Workspace(shop.place)
    assert model_name(workspace, "/data/../plate") == "plate-2"
    assert model_name(workspace, "/data/\u00e4", "flange 40 mm") == "flange-40-mm"
    first, second = run_name("flange 40 mm"), run_name("../..")
    assert first.startswith("flange-40-mm-2")
    assert second.startswith("run-2")
    assert run_name("x") != run_name("x")
