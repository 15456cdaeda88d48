"""The first page, on every kind of run and over spans of time: what it says is what its functions say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from differnet.evaluation.intervals import percent
from differnet.records import Record, Verdict
from differnet.reporting.overview import SPANS, overview_of_span
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.tables import unbroken
from differnet.store import Asked, CalibrationEntry, ModelEntry, ReviewEntry, RunEntry, Store

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]
OpenDashboard = Callable[..., AppTest]

RUNS = {
    "one row": ["good"],
    "unlabelled": [None] * 6,
    "good only": ["good"] * 8,
    "defects only": ["scratch"] * 5,
    "unreadable only": ["unreadable"] * 2,
    "all kinds": ["good"] * 20 + ["scratch"] * 5 + ["dent", "wrong_input/blank", "unreadable", None],
}
NAME = "![x](http://example.invalid/a.png)<b>"


def metric(app: AppTest, name: str) -> str:
    return next(item.value for item in app.metric if name in item.label)


def words(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.text, *app.info)
    return " ".join(str(item.value) for item in shown).replace("\u00a0", " ")


@pytest.mark.parametrize("kind", RUNS)
def test_the_first_page_shows_every_kind_of_run(
    open_dashboard: OpenDashboard, make_run: MakeRun, kind: str
) -> None:
    run = make_run(RUNS[kind])
    app = open_dashboard()
    assert app.title[0].value == "Overview"
    for span in ("this run", *SPANS):
        app.segmented_control(key="span").set_value(span).run()
        assert not app.exception
        assert not app.error
    app.segmented_control(key="span").set_value("this run").run()
    for verdict in Verdict:
        number = sum(record.verdict is verdict for record in run.records)
        assert metric(app, verdict.value) == f"{number:,}"


def test_an_empty_record_and_an_empty_run_explain_themselves(
    open_dashboard: OpenDashboard, make_run: MakeRun
) -> None:
    app = open_dashboard("overview")
    assert app.title[0].value == "No runs yet"
    make_run([])
    app = open_dashboard("overview")
    assert not app.exception
    assert app.title[0].value == "Nothing inspected yet"


def test_rates_and_intervals_are_those_of_the_run(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    run = make_run(["good"] * 60 + ["scratch"] * 12)
    good = [r for r in run.records if r.label == "good"]
    rejected = sum(r.verdict is Verdict.DEFECT for r in good)
    app = open_dashboard()
    assert metric(app, "Overkill") == unbroken(percent(rejected / 60))
    assert f"{rejected} of 60 good parts judged DEFECT or OOD; 95 % interval" in words(app)
    reviewed = sum(r.verdict is Verdict.REVIEW for r in run.records)
    assert metric(app, "Waiting") == str(reviewed)
    lasted = sorted(r.inference_ms for r in run.records)
    assert lasted[0] <= float(metric(app, "Time").split()[0]) <= lasted[-1]


@pytest.fixture
def lines(record_place: Path, make_record: MakeRecord) -> Store:
    """Two days of two products; on the second day a lot stands out."""
    store = Store.open(record_place)
    now = datetime.now(UTC)
    for product in ("flange", "valve"):
        store.add_model(ModelEntry(f"m-{product}", product))
        store.add_calibration(CalibrationEntry(f"m-{product}", "c", 200))
        for days, run_id in ((3, "old"), (0, "new")):
            begun = now - timedelta(days=days, minutes=6 * 80)
            told = {"started_at": begun.isoformat(timespec="milliseconds"), "folder": ""}
            store.begin_run(RunEntry(f"{run_id} {product}", product, f"m-{product}", "c", 1.3, 2.0, **told))  # type: ignore[arg-type]
            store.add_items(
                [
                    make_record(
                        i,
                        Verdict.DEFECT if i % 16 == 0 or (not days and 150 < i < 180) else Verdict.PASS,
                        run_id=f"{run_id} {product}",
                        product=product,
                        label=None if i % 2 else "good",
                        processed_at=(begun + timedelta(minutes=2 * i)).isoformat(timespec="milliseconds"),
                        path=f"shots/{run_id} {product} {i}.png",
                        sha256=f"{product} {run_id} {i}",
                        model_id=f"m-{product}",
                        calibration_id="c",
                    )
                    for i in range(240)
                ]
            )
    return store


def test_a_span_is_of_all_runs_of_a_product(open_dashboard: OpenDashboard, lines: Store) -> None:
    app = open_dashboard(run="new valve")
    app.segmented_control(key="span").set_value("7 days").run()
    assert not app.exception
    assert app.selectbox(key="span_product").value == "valve"
    assert metric(app, "PASS") == str(overview_of_span(lines, "valve", None).counts.of_verdict(Verdict.PASS))
    app.selectbox(key="span_product").set_value("all products").run()
    assert metric(app, "PASS") == str(overview_of_span(lines, None, None).counts.of_verdict(Verdict.PASS))
    # An address chooses as well.
    app = open_dashboard(run="new valve", span="all")
    assert app.segmented_control(key="span").value == "all"
    assert metric(app, "DEFECT") == str(
        overview_of_span(lines, "valve", None).counts.of_verdict(Verdict.DEFECT)
    )
    lines.close()


def test_a_lot_that_stands_out_is_said_and_a_run_has_one_before(
    open_dashboard: OpenDashboard, lines: Store
) -> None:
    app = open_dashboard(run="new flange")
    assert "above the limit of" in words(app).replace("\\", "")
    assert "The yield differs by more than chance explains" in words(app)
    table = next(t.value for t in app.table if "before" in t.value)
    assert list(table["differs"]) == ["no", "no", "no", "no", "yes"]
    next(b for b in app.button if b.label == "Open the run before").click().run()
    assert not app.exception
    assert app.selectbox(key="run").value == "old flange"
    assert "There is no earlier run of this product." in words(app)
    assert "the limit of" not in words(app).replace("\\", "")
    lines.close()


def test_a_run_of_the_list_opens(open_dashboard: OpenDashboard, lines: Store) -> None:
    app = open_dashboard(run="new valve")
    app.segmented_control(key="span").set_value("all").run()
    app.button(key="open old valve").click().run()
    assert not app.exception
    assert app.selectbox(key="run").value == "old valve"
    assert app.segmented_control(key="span").value == "this run"
    assert metric(app, "PASS") == "225"
    lines.close()


def test_a_span_is_counted_anew_when_the_record_has_changed(
    open_dashboard: OpenDashboard, lines: Store
) -> None:
    app = open_dashboard(run="new valve")
    app.segmented_control(key="span").set_value("all").run()
    app.selectbox(key="truth").set_value("people over labels").run()
    assert metric(app, "Escape") == "none"
    passed = lines.items(Asked(run_id="new valve", verdicts=(Verdict.PASS,)), limit=1)[0]
    lines.review("new valve", passed.item_id, ReviewEntry("defect", "ada", "dent"))
    app.run()
    assert not app.exception
    assert metric(app, "Escape") == "100\u00a0%"
    assert "1 of 1 known defects judged PASS" in words(app)
    lines.close()


def test_where_nothing_was_inspected_the_span_says_so(
    open_dashboard: OpenDashboard, make_record: MakeRecord, record_place: Path
) -> None:
    store = Store.open(record_place)
    store.add_model(ModelEntry("m", "flange"))
    store.add_calibration(CalibrationEntry("m", "c", 200))
    long_ago = "2024-02-29T06:00:00.000+00:00"
    store.begin_run(RunEntry("old", "flange", "m", "c", 1.3, 2.0, started_at=long_ago))
    store.add_items(
        [make_record(1, Verdict.PASS, run_id="old", processed_at=long_ago, model_id="m", calibration_id="c")]
    )
    store.close()
    app = open_dashboard(span="30 days")
    assert not app.exception
    assert [info.value for info in app.info if "Nothing was" in info.value]
    assert not app.metric


def test_names_are_never_read_as_markdown(
    open_dashboard: OpenDashboard, make_record: MakeRecord, record_place: Path
) -> None:
    store = Store.open(record_place)
    store.add_model(ModelEntry("m", NAME))
    store.add_calibration(CalibrationEntry("m", "c", 9))
    store.begin_run(RunEntry(NAME, NAME, "m", "c", 1.3, 2.0, started_at=datetime.now(UTC).isoformat()))
    store.add_items(
        [
            make_record(
                i,
                list(Verdict)[i % 5],
                run_id=NAME,
                product=NAME,
                label=NAME,
                path=f"{NAME}-{i % 3}/{i}.png",
                reasons=(NAME,),
                model_id="m",
                calibration_id="c",
                processed_at=datetime.now(UTC).isoformat(),
            )
            for i in range(60)
        ]
    )
    store.close()
    app = open_dashboard()
    for span in ("this run", "all"):
        app.segmented_control(key="span").set_value(span).run()
        assert not app.exception
        for element in (*app.markdown, *app.caption, *app.title, *app.info, *app.error, *app.button):
            assert "](http" not in str(element.label if element in app.button else element.value)
        for table in app.table:
            assert "](http" not in table.value.to_csv()
