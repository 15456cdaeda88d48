"""Every page on every kind of run, and what moving a threshold does."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from differnet.records import Inspection, Record, Verdict
from differnet.reporting.run import RunFacts
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.serving import dashboard_app
from differnet.strict_json import to_json

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]
OpenDashboard = Callable[..., AppTest]

PAGES = ["tune", "gallery", "picture", "review", "labels"]
RUNS = {
    "one row": ["good"],
    "unlabelled": [None] * 6,
    "good only": ["good"] * 8,
    "defects only": ["scratch"] * 5,
    "unreadable only": ["unreadable"] * 2,
    "all kinds": ["good"] * 20 + ["scratch"] * 5 + ["dent", "wrong_input/blank", "unreadable", None],
}


LATER = "2027-01-01T00:00:00.000+00:00"


def run_facts(**changes: object) -> RunFacts:
    told: dict[str, Any] = {"model_id": "m", "calibration_id": "c", "t_review": 1.301, "t_defect": 2.0}
    return RunFacts(**(told | changes))


def metric(app: AppTest, name: str) -> str:
    return next(item.value for item in app.metric if item.label == name)


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_every_kind_of_run(
    open_dashboard: OpenDashboard, make_run: MakeRun, page: str, kind: str
) -> None:
    make_run(RUNS[kind])
    app = open_dashboard(page)
    assert not app.exception
    assert not app.error
    assert app.title


@pytest.fixture
def large_run(make_record: MakeRecord, tmp_path: Path) -> RunFolder:
    """Write 5,000 rows at once: appending them one by one would measure the disk."""
    rng = np.random.default_rng(0)
    run = RunFolder.create(tmp_path / "large", run_facts())
    lines = []
    for number, strangeness in enumerate(rng.exponential(0.434, 5000)):
        verdict = (
            Verdict.DEFECT if strangeness >= 2 else Verdict.REVIEW if strangeness >= 1.301 else Verdict.PASS
        )
        label = ("good", None, "dent")[number % 3]
        figures = {"label": label, "strangeness": float(strangeness), "run_id": "large"}
        lines.append(to_json(make_record(number, verdict, **figures)))
    (run.path / "records.jsonl").write_text("\n".join(lines) + "\n")
    return RunFolder.open(run.path)


@pytest.mark.parametrize("page", PAGES)
def test_five_thousand_rows(open_dashboard: OpenDashboard, large_run: RunFolder, page: str) -> None:
    app = open_dashboard(page)
    assert not app.exception
    if page == "gallery":
        assert "5,000 of 5,000" in " ".join(caption.value for caption in app.caption)
        app.number_input(key="page").set_value(200).run()
        assert not app.exception


def test_the_address_chooses_run_and_picture(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    run = make_run(["good", "scratch"], "older")
    make_run(["good"], "newer", started_at=LATER)
    wanted = run.records[0]
    app = open_dashboard("picture", run="older", item=wanted.item_id)
    assert app.selectbox(key="run").value == "older"
    assert app.selectbox(key="item").value == wanted.item_id


@pytest.mark.parametrize(
    "query", [{"run": "../../etc"}, {"item": "nothing"}, {"run": "<script>", "item": "'"}]
)
def test_a_senseless_address_falls_back(
    open_dashboard: OpenDashboard, make_run: MakeRun, query: dict[str, str]
) -> None:
    make_run(["good"])
    app = open_dashboard("picture", **query)
    assert not app.exception
    assert app.selectbox(key="run").value == "run"


def test_the_gallery_filters(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    run = make_run(RUNS["all kinds"])
    app = open_dashboard("gallery")
    app.pills(key="verdicts").set_value([Verdict.INVALID]).run()
    assert f"1 of {len(run.records)} pictures: INVALID" in [caption.value for caption in app.caption]
    app.multiselect(key="labels").set_value(["good"]).run()
    assert not app.exception
    assert "No picture matches" in app.info[0].value


def test_next_and_previous_walk_from_strange_to_less(
    open_dashboard: OpenDashboard, make_run: MakeRun
) -> None:
    run = make_run(["scratch"] * 3)
    order = [
        r.item_id for r in sorted(run.records, key=lambda record: record.strangeness or 0.0, reverse=True)
    ]
    app = open_dashboard("picture")
    seen = [app.selectbox(key="item").value]
    for _ in range(2):
        next(button for button in app.button if button.label == "Next").click().run()
        seen.append(app.selectbox(key="item").value)
    assert seen == order


def test_names_are_never_read_as_markdown(
    open_dashboard: OpenDashboard, make_record: MakeRecord, tmp_path: Path
) -> None:
    name = "![x](http://example.invalid/a.png)<b>"
    run = RunFolder.create(tmp_path / "run", run_facts(product=name))
    record = make_record(
        1, Verdict.DEFECT, part_id=name, path=name, label=name, reasons=(name,), strangeness=3.0
    )
    run.append(Inspection(record), np.zeros((9, 9, 3), np.uint8))
    run.close()
    for page in PAGES:
        app = open_dashboard(page)
        assert not app.exception
        for element in (*app.markdown, *app.caption, *app.title, *app.info, *app.error):
            assert "](http" not in element.value


def test_only_the_pages_know_streamlit_and_they_know_no_numpy() -> None:
    imported: dict[str, set[str]] = {}
    for file in (
        *dashboard_app().parent.glob("*.py"),
        *Path(RunFolder.create.__globals__["__file__"]).parent.glob("*.py"),
    ):
        names = imported.setdefault(file.parent.name, set())
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).split(".")[0])
    assert not imported["dashboard"] & {"numpy", "scipy", "math", "cv2", "sklearn"}
    assert not imported["reporting"] & {"streamlit", "torch", "timm"}


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_record_explains_itself(open_dashboard: OpenDashboard, page: str) -> None:
    app = open_dashboard(page)
    assert not app.exception
    assert app.title[0].value == "No runs yet"


@pytest.mark.parametrize("page", PAGES)
def test_a_run_without_pictures_explains_itself(
    open_dashboard: OpenDashboard, make_run: MakeRun, page: str
) -> None:
    make_run([])
    app = open_dashboard(page)
    assert not app.exception
    assert app.title[0].value == "Nothing inspected yet"


def test_a_record_that_cannot_be_opened_says_why(
    open_dashboard: OpenDashboard, record_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_dashboard()
    other = record_place.with_name("other.db")
    other.write_bytes(b"no database" * 100)
    monkeypatch.setenv("DIFFERNET_DB", str(other))
    app = AppTest.from_file(str(dashboard_app()), default_timeout=60).run()
    assert not app.exception
    assert app.title[0].value == "The record cannot be opened"
    assert "not a database" in app.error[0].value


def test_read_only_is_said(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    make_run(["good"] * 3)
    open_dashboard()
    app = open_dashboard("tune", read_only=True)
    assert not app.exception
    assert any("Read only" in caption.value for caption in app.caption)
