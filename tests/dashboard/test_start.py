"""Start leads from an empty record to a report, one button a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from tasks.conftest import Shop

from dashboard.asked import asked_last, disabled, done, keys, press, said
from differnet.images.synthetic import make_sample_product
from differnet.tasks import SampleWish, TrainWish, machine
from differnet.tasks.kinds import read_wish

OpenDashboard = Callable[..., AppTest]
STEPS = ["ask-sample", "ask-train", "ask-inspect", "start-tune", "ask-report"]


def primary(app: AppTest) -> list[str]:
    return [
        str(button.key) for button in app.button if button.key in STEPS and button.proto.type == "primary"
    ]


def test_an_empty_record_begins_here(open_dashboard: OpenDashboard) -> None:
    app = open_dashboard()
    assert not app.exception
    assert app.title[0].value == "Start"
    assert primary(app) == ["ask-sample"]
    assert [disabled(app, key) for key in STEPS] == [False, True, True, True, True]
    words = said(app)
    assert "next" in words
    assert words.count("later") == 4


def test_the_sample_product_is_asked_for_with_its_usual_numbers(open_shop: OpenDashboard, shop: Shop) -> None:
    app = press(open_shop("start"), "ask-sample")
    assert not app.exception
    task = asked_last(shop)
    assert (task.kind, task.state) == ("sample", "waiting")
    assert read_wish(task.kind, task.wish) == SampleWish(str(shop.place))
    assert "Make the sample product flange" in said(app)
    assert "at work" in said(app)
    press(app, f"task-stop-{task.task_id}")
    assert shop.tasks.get(task.task_id).state == "stopped"


def test_from_a_folder_to_a_report(open_shop: OpenDashboard, shop: Shop, tmp_path: Path) -> None:
    folder = make_sample_product(tmp_path / "flange", train=4, good_test=2, per_defect=1, per_wrong=1)
    app = open_shop("start")
    # The shop has a model, and no run yet.
    assert primary(app) == ["ask-inspect"]
    app.text_input(key="start_folder").set_value(str(folder)).run()
    assert "4 good parts to learn from, 9 set aside for inspection, 7 kinds of defect" in said(app)
    press(app, "ask-scan")
    scan = done(shop, app)
    assert scan.state == "done"
    assert "Only 4 good parts to learn from" in said(app)
    assert not app.exception

    press(app, "ask-inspect")
    inspection = done(shop, app)
    assert inspection.state == "done"
    # Nine test parts, and the wrong inputs beside them.
    wrong = len([path for path in (folder / "wrong_inputs").rglob("*") if path.is_file()])
    assert inspection.outcome["done"] + inspection.outcome["quarantined"] == 9 + wrong
    assert primary(app) == ["start-tune"]
    assert not app.exception

    press(app, "ask-report")
    report = done(shop, app)
    assert report.state == "done"
    assert not app.exception
    labels = [button.label for button in app.download_button]
    assert labels == ["Download html", "Download csv"]
    assert "done" in said(app)


def test_training_is_asked_for_with_the_usual_settings(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("start")
    assert disabled(app, "ask-train")
    app.text_input(key="start_folder").set_value(str(shop.good)).run()
    press(app, "ask-train")
    task = asked_last(shop)
    # A model of that name is there, and stays.
    assert read_wish(task.kind, task.wish) == TrainWish(str(shop.place), str(shop.good), "plate-2")
    assert disabled(app, "ask-inspect") is False
    shop.tasks.ask_to_stop(task.task_id, "test")


@pytest.mark.parametrize("folder", ["relative", "/no/such/folder", "/a\0b", "~"])
def test_a_folder_that_does_not_serve_is_explained(open_shop: OpenDashboard, shop: Shop, folder: str) -> None:
    app = open_shop("start")
    app.text_input(key="start_folder").set_value(folder).run()
    assert not app.exception
    assert "the absolute path of a folder of pictures" in said(app)
    assert disabled(app, "ask-train")
    assert disabled(app, "ask-inspect")


def test_a_folder_is_found_step_by_step(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("start")
    app.selectbox(key="start_folder-root").set_value(str(shop.place)).run()
    assert app.text_input(key="start_folder").value == str(shop.place)
    here = f"start_folder-in-{shop.place}"
    assert "models" in app.selectbox(key=here).options
    app.selectbox(key=here).set_value("models").run()
    assert app.text_input(key="start_folder").value == str(shop.place / "models")
    press(app, "start_folder-up")
    assert app.text_input(key="start_folder").value == str(shop.place)
    assert not app.exception


def test_who_is_nobody_asks_for_nothing(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("start")
    app.text_input(key="person").set_value(" ").run()
    assert disabled(app, "ask-sample")
    assert disabled(app, "ask-inspect")
    assert "Say in the sidebar who you are" in app.button(key="ask-sample").help


def test_of_a_record_to_read_nothing_is_asked(open_shop: OpenDashboard, shop: Shop) -> None:
    app = open_shop("start", read_only=True)
    assert not app.exception
    assert {disabled(app, key) for key in ("ask-sample", "ask-train", "ask-inspect", "ask-report")} == {True}
    assert shop.tasks.latest() == []


def test_a_failed_step_says_what_to_do_and_starts_again(
    open_shop: OpenDashboard, shop: Shop, tmp_path: Path
) -> None:
    empty = tmp_path / "![x](y.png)"
    empty.mkdir()
    (empty / "part.png").write_bytes(b"no picture")
    app = open_shop("start")
    app.text_input(key="start_folder").set_value(str(empty)).run()
    press(app, "ask-scan")
    (empty / "part.png").unlink()
    failed = done(shop, app)
    assert failed.state == "failed"
    assert not app.exception
    assert "Expected" in said(app)
    for element in (*app.markdown, *app.caption, *app.error, *app.warning):
        assert "](y" not in element.value
    (empty / "part.png").write_bytes(b"no picture")
    press(app, f"task-again-{failed.task_id}")
    assert asked_last(shop).task_id != failed.task_id
    assert asked_last(shop).wish == failed.wish
    assert done(shop, app).state == "done"


def test_a_task_whose_process_died_is_shown_as_ended(open_shop: OpenDashboard, shop: Shop) -> None:
    app = press(open_shop("start"), "ask-sample")
    task = asked_last(shop)
    shop.tasks.take(task.task_id, f"{machine()}:1")
    shop.fall_silent(task.task_id)
    app.run()
    assert not app.exception
    assert "ended unexpectedly" in said(app)
    assert f"task-again-{task.task_id}" in keys(app)


def test_every_kind_of_run_leaves_the_page_whole(
    open_dashboard: OpenDashboard, make_run: Callable[..., object]
) -> None:
    make_run(["good", "scratch", "unreadable", None])
    app = open_dashboard("start")
    assert not app.exception
    assert app.title[0].value == "Start"
