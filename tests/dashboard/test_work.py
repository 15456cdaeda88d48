"""Pages for long work on every kind of record, and what all of them share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store.conftest import known, record, run
from streamlit.testing.v1 import AppTest
from tasks.conftest import Shop

from dashboard.asked import press, said
from differnet.records import Inspection, Record, Verdict
from differnet.reporting.run import RunFacts
from differnet.reporting.run_folder import RunFolder
from differnet.store import Store, schema
from differnet.store.rows import item_row
from differnet.store.tasks import Tasks
from differnet.tasks import SampleWish, machine
from differnet.tasks.kinds import wish_tree

OpenDashboard = Callable[..., AppTest]
MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]

PAGES = ["start", "train", "inspection", "batches"]
RUNS = {
    "one row": ["good"],
    "unlabelled": [None] * 6,
    "good only": ["good"] * 8,
    "defects only": ["scratch"] * 5,
    "unreadable only": ["unreadable"] * 2,
    "all kinds": ["good"] * 20 + ["scratch"] * 5 + ["dent", "wrong_input/blank", "unreadable", None],
}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("page", PAGES)
def test_an_empty_record_is_shown(open_dashboard: OpenDashboard, page: str, read_only: bool) -> None:
    app = open_dashboard(page, read_only=read_only)
    assert not app.exception
    assert not app.error
    assert app.title


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("page", PAGES)
def test_every_kind_of_run_is_shown(
    open_dashboard: OpenDashboard, make_run: MakeRun, page: str, kind: str
) -> None:
    make_run(RUNS[kind])
    app = open_dashboard(page)
    assert not app.exception
    assert not app.error
    assert app.title


@pytest.mark.parametrize("page", PAGES)
def test_names_are_never_read_as_markdown(
    open_dashboard: OpenDashboard, make_record: MakeRecord, tmp_path: Path, record_place: Path, page: str
) -> None:
    name = "![x](http:example)<b>"
    facts = RunFacts(
        product=name, run_id=name, source=name, model_id="m", calibration_id="c", t_review=1.3, t_defect=2.0
    )
    made = RunFolder.create(tmp_path / "run", facts)
    made.append(Inspection(make_record(1, Verdict.INVALID, part_id=name, path=name, label=name)), None)
    made.close()
    store = Store.open(record_place)
    asked = Tasks(store).add("sample", name, wish_tree(SampleWish(str(tmp_path))), name, machine())
    Tasks(store).ask_to_stop(asked.task_id, name)
    store.close()
    app = open_dashboard(page)
    assert not app.exception
    for element in (
        *app.markdown,
        *app.caption,
        *app.title,
        *app.subheader,
        *app.info,
        *app.error,
        *app.success,
    ):
        assert "](http" not in element.value
        assert "<b>" not in element.value.replace("\\<", "")


def test_two_people_stop_and_see_the_same_task(open_shop: OpenDashboard, shop: Shop) -> None:
    first = press(open_shop("start"), "ask-sample")
    second = open_shop("batches")
    (task,) = shop.tasks.latest()
    assert "Make the sample product flange" in said(second)
    press(second, f"task-stop-{task.task_id}")
    first.run()
    assert not first.exception
    assert not second.exception
    assert "stopped it before it began" in said(first)


def test_a_stop_of_nobody_is_not_possible(open_shop: OpenDashboard, shop: Shop) -> None:
    app = press(open_shop("start"), "ask-sample")
    (task,) = shop.tasks.latest()
    app.text_input(key="person").set_value("").run()
    assert app.button(key=f"task-stop-{task.task_id}").proto.disabled
    assert not app.exception


@pytest.fixture
def large_record(record_place: Path) -> Path:
    """A hundred thousand items in twenty runs, sixty thousand of them in the latest."""
    store = known(Store.open(record_place))
    names = [f"run-{number:02d}" for number in range(19)]
    for number, name in enumerate(names):
        store.begin_run(run(name, started_at=f"2026-11-24T{number:02d}:00:00.000+00:00"))
    row = item_row(record(0, regions=()))
    with store.engine.begin() as connection:
        for start in range(0, 100_000, 5000):
            name = names[18 - max(0, start - 60_000) // 5000]
            rows = [
                row
                | {"run_id": name, "item_id": f"i{n}", "path": f"{n}.png", "sha256": f"{n:064x}", "number": n}
                for n in range(start, start + 5000)
            ]
            connection.execute(schema.items.insert(), rows)
    store.close()
    return record_place


@pytest.mark.parametrize("page", PAGES)
def test_a_page_over_a_hundred_thousand_records_takes_less_than_a_second(
    open_dashboard: OpenDashboard, large_record: Path, page: str
) -> None:
    app = open_dashboard(page)
    began = time.process_time()
    app.run()
    # Of this process alone: other programs of the machine do not count.
    assert time.process_time() - began < 1.0
    assert not app.exception
    if page == "batches":
        assert app.dataframe[0].value["pictures"].sum() == 100_000
