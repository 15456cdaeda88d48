"""Batches and reports shows how far runs are, stops and resumes them, and hands out their reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from tasks.conftest import Shop

from dashboard.asked import asked_last, disabled, done, keys, press, said
from differnet.images.layouts import LayoutError
from differnet.records import Verdict
from differnet.store.queue import Progress, Queue
from differnet.tasks import InspectWish, ReportWish, machine
from differnet.tasks.kinds import read_wish, wish_tree
from differnet.tasks.working import work_on

OpenDashboard = Callable[..., AppTest]


def inspected(shop: Shop, number: int, *, stop: bool = False, broken: Path | None = None) -> str:
    """Inspect some pictures as monday's run, as a page's task."""
    pictures = [str(path) for path in sorted(shop.pictures.iterdir())[:number]]
    wish = shop.inspection(pictures=(*pictures, *([str(broken)] if broken is not None else [])))
    made = shop.tasks.add("inspect", wish.title, wish_tree(wish), "ada", machine())
    ended = threading.Event()
    if stop:
        ended.set()
    work_on(shop.store, made.task_id, ended)
    return made.task_id


def chosen(app: AppTest) -> str:
    return str(app.subheader[0].value).replace("\\", "")


def test_an_empty_record_leads_to_start(open_dashboard: OpenDashboard) -> None:
    app = open_dashboard("batches")
    assert not app.exception
    assert "Nothing was inspected yet" in said(app)


def test_a_finished_run_is_shown_with_its_verdicts(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 5)
    app = open_shop("batches")
    assert not app.exception
    table = app.dataframe[0].value
    assert table["run"].tolist() == ["monday"]
    assert table["state"].tolist() == ["finished"]
    assert table[[verdict.value for verdict in Verdict]].to_numpy().sum() == 5
    assert chosen(app) == "monday"
    assert "finished: 5 of 5 pictures" in app.progress[0].text
    assert not {"batch-resume", "batch-retry"} & keys(app)


def test_a_stopped_run_is_resumed(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 6, stop=True)
    app = open_shop("batches")
    assert app.dataframe[0].value["state"].tolist() == ["paused"]
    assert app.button(key="batch-resume").label == "Resume, 6 left"
    press(app, "batch-resume")
    task = asked_last(shop)
    assert read_wish(task.kind, task.wish) == InspectWish(str(shop.place), "monday")
    assert "batch-resume" not in keys(app)
    assert f"pause-{task.task_id}" in keys(app)
    assert done(shop, app).state == "done"
    assert Queue(shop.store, "monday").progress() == Progress(done=6)
    assert app.dataframe[0].value["state"].tolist() == ["finished"]
    assert not app.exception


def test_a_run_at_work_is_paused(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 6, stop=True)
    wish = InspectWish(str(shop.place), "monday")
    made = shop.tasks.add("inspect", wish.title, wish_tree(wish), "bo", machine())
    owner = f"{machine()}:1"
    shop.tasks.take(made.task_id, owner)
    shop.tasks.tell(
        made.task_id, owner, {"stage": "inspecting", "done": 2, "total": 6, "left": 30.0, "seconds": 15.0}
    )
    app = open_shop("batches")
    assert not app.exception
    assert app.dataframe[0].value["state"].tolist() == ["at work"]
    assert app.progress[0].text.replace("\\", "").startswith("inspecting: 2 of 6, about")
    press(app, f"pause-{made.task_id}")
    assert shop.tasks.get(made.task_id).stop_asked
    assert disabled(app, f"pause-{made.task_id}")
    assert app.dataframe[0].value["state"].tolist() == ["stopping"]


def test_a_killed_run_says_so_and_is_resumed(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 6, stop=True)
    wish = InspectWish(str(shop.place), "monday")
    made = shop.tasks.add("inspect", wish.title, wish_tree(wish), "bo", machine())
    shop.tasks.take(made.task_id, f"{machine()}:1")
    shop.fall_silent(made.task_id)
    app = open_shop("batches")
    assert app.dataframe[0].value["state"].tolist() == ["interrupted"]
    assert "ended unexpectedly" in said(app)
    assert "batch-resume" in keys(app)
    assert not app.exception


def test_what_was_put_aside_is_listed_and_tried_again(
    open_shop: OpenDashboard, shop: Shop, tmp_path: Path
) -> None:
    whole = sorted(shop.pictures.iterdir())[9].read_bytes()
    broken = tmp_path / "![x](y.png)"
    broken.write_bytes(whole[:-30])
    inspected(shop, 2, broken=broken)
    app = open_shop("batches")
    aside = next(frame.value for frame in app.dataframe if "why" in frame.value)
    assert aside["picture"].tolist() == [str(broken)]
    assert "ends inside" in aside["why"][0]
    assert app.button(key="batch-retry").label == "Try 1 again"
    broken.write_bytes(whole)
    press(app, "batch-retry")
    assert asked_last(shop).wish["retry"] is True
    assert done(shop, app).state == "done"
    assert Queue(shop.store, "monday").progress() == Progress(done=3)
    assert "batch-retry" not in keys(app)
    for element in (*app.markdown, *app.caption):
        assert "](y" not in element.value


def test_reports_are_written_and_handed_out(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 3)
    app = open_shop("batches")
    assert len(app.download_button) == 0
    app.pills(key="batch_formats").set_value(["html", "json"]).run()
    press(app, "batch-write")
    task = asked_last(shop)
    assert read_wish(task.kind, task.wish) == ReportWish(str(shop.place), "monday", ("html", "json"))
    assert done(shop, app).state == "done"
    assert not app.exception
    assert [button.label for button in app.download_button] == ["Download html", "Download json"]
    inspected(shop, 4)
    app.run()
    labels = [button.label for button in app.download_button]
    assert labels == ["Download html, older than the run", "Download json, older than the run"]
    app.pills(key="batch_formats").set_value([]).run()
    assert disabled(app, "batch-write")


@pytest.mark.parametrize("installed", [True, False])
def test_pdf_is_offered_where_it_can_be_made(
    open_shop: OpenDashboard, shop: Shop, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    inspected(shop, 1)
    monkeypatch.setattr("differnet.reporting.pdf.has_weasyprint", lambda: installed)
    app = open_shop("batches")
    assert not app.exception
    offered = [option.partition(":")[0] for option in app.pills(key="batch_formats").options]
    assert offered == ["html", *(["pdf"] if installed else []), "csv", "parquet", "json"]


def test_another_run_is_chosen_in_the_list(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 2)
    wish = shop.inspection(run="tuesday", pictures=(str(sorted(shop.pictures.iterdir())[5]),))
    made = shop.tasks.add("inspect", wish.title, wish_tree(wish), "ada", machine())
    work_on(shop.store, made.task_id)
    app = open_shop("batches")
    assert app.dataframe[0].value["run"].tolist() == ["tuesday", "monday"]
    assert chosen(app) == "tuesday"


def test_the_history_of_what_was_asked_for_is_listed(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 2)
    task_id = inspected(shop, 6, stop=True)
    app = open_shop("batches")
    assert "stopped, ada" in said(app)
    press(app, f"history-again-{task_id}")
    assert asked_last(shop).wish == shop.tasks.get(task_id).wish
    assert not app.exception


def test_runs_of_the_command_line_are_shown_too(
    open_dashboard: OpenDashboard, make_run: Callable[..., object]
) -> None:
    make_run(["good", "scratch", "unreadable", None])
    app = open_dashboard("batches")
    assert not app.exception
    table = app.dataframe[0].value
    assert table["state"].tolist() == ["finished"]
    assert table["pictures"].tolist() == [4]
    assert not {"batch-resume", "batch-retry"} & keys(app)


def test_of_a_record_to_read_nothing_is_asked(open_shop: OpenDashboard, shop: Shop) -> None:
    inspected(shop, 3, stop=True)
    app = open_shop("batches", read_only=True)
    assert not app.exception
    assert disabled(app, "batch-resume")
    assert disabled(app, "batch-write")


def test_a_task_that_failed_before_its_run_began_is_shown_where_it_was_asked_for(
    open_shop: OpenDashboard, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    wish = shop.inspection(pictures=(str(tmp_path / "empty"),))
    made = shop.tasks.add("inspect", wish.title, wish_tree(wish), "ada", machine())
    assert work_on(shop.store, made.task_id) == "failed"
    assert shop.tasks.get(made.task_id).outcome["error"]["kind"] == LayoutError.__name__
    app = open_shop("batches")
    assert not app.exception
    assert "failed, ada" in said(app)
    assert f"history-again-{made.task_id}" in keys(app)
