"""Tuning on the page: what moves, what is linked, what is applied, and what is said where little is known."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from differnet.calibration import Suggestion, by_overkill
from differnet.detection import DensitySettings, Detector, DetectorSettings, revisions_of
from differnet.evaluation.intervals import percent
from differnet.images.synthetic import render_part
from differnet.records import Verdict
from differnet.reporting.counts import VERDICTS, Truth, columns_of, verdict_counts
from differnet.reporting.gallery_query import find_places, read_query
from differnet.reporting.keeping import keep_run
from differnet.reporting.run import CalibrationFacts, ThresholdsSet
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.tables import unbroken
from differnet.store import ReviewEntry, Store
from differnet.tuning import parts_of, separation

MakeRun = Callable[..., RunFolder]
OpenDashboard = Callable[..., AppTest]

ALL_KINDS = ["good"] * 20 + ["scratch"] * 5 + ["dent", "wrong_input/blank", "unreadable", None]
TABS = ("Verdicts", "What flips", "Curves", "By kind", "Suggest", "Apply and history")
CURVES = ("ROC", "Precision and recall", "Detection error", "Cost", "p-values of good parts")
WISHES = (
    "no more overkill than",
    "no more escapes than",
    "the least cost",
    "what the reviewers can look at",
    "few good parts among the rejected",
    "the largest F1 on labelled parts",
    "thresholds without labelled defects",
)
LATER = "2027-01-01T00:00:00.000+00:00"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the sample product."""
    settings = DetectorSettings(image_size=96, device="cpu", density=DensitySettings(steps=20, hidden=16))
    detector = Detector(settings).fit([render_part(seed, size=96).pixels for seed in range(24)])
    return detector.calibrate().save(tmp_path_factory.mktemp("tune") / "model")


@pytest.fixture
def tuned(
    built: Path, make_run: MakeRun, record_place: Path, tmp_path: Path
) -> tuple[RunFolder, Path, Detector]:
    """A run by a model that lies beside it, and that the record knows the place of."""
    model = Path(shutil.copytree(built, tmp_path / "model"))
    detector = Detector.load(model, "cpu")
    facts = detector.facts()
    ids = {name: str(facts[name]) for name in ("model_id", "calibration_id")}
    run = make_run(ALL_KINDS, "run", t_review=facts["t_review"], t_defect=facts["t_defect"], **ids)
    store = Store.open(record_place)
    keep_run(store, run)
    store.place_model(ids["model_id"], model)
    store.close()
    return run, model, detector


def metric(app: AppTest, name: str) -> str:
    return next(item.value for item in app.metric if item.label == name)


def said(app: AppTest) -> str:
    """Everything that the page says in words."""
    items = [*app.markdown, *app.caption, *app.info, *app.success, *app.error, *app.title]
    return " ".join(str(item.value) for item in items).replace("\u00a0", " ").replace("\\", "")


def band(app: AppTest) -> tuple[float, float]:
    review, defect = app.number_input(key="t_review").value, app.number_input(key="t_defect").value
    assert review is not None
    assert defect is not None
    return review, defect


def put(app: AppTest, t_review: float, t_defect: float) -> AppTest:
    """Move both thresholds by the boxes."""
    app.number_input(key="t_review").set_value(t_review).run()
    app.number_input(key="t_defect").set_value(t_defect).run()
    return app.number_input(key="t_review").set_value(t_review).run()


def links(app: AppTest) -> list[dict[str, Any]]:
    """What every link of the page leads to."""
    return [
        {"label": link.proto.label, "to": parse_qs(link.proto.query_string), "off": link.proto.disabled}
        for link in app.get("page_link")
    ]


def matrix(app: AppTest) -> dict[tuple[str, str], int]:
    """The counts of the table of label by verdict, read off its links."""
    cells = [link for link in links(app) if "truth" in link["to"] and "verdict" in link["to"]]
    return {
        (cell["to"]["truth"][0], cell["to"]["verdict"][0]): int(cell["label"].replace(",", ""))
        for cell in cells
    }


def open_tab(app: AppTest, name: str) -> AppTest:
    app.session_state["tune_tab"] = name
    return app.run()


def button(app: AppTest, label: str) -> Any:
    return next(item for item in app.button if item.label == label)


def test_the_boxes_move_every_figure(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    run = make_run(ALL_KINDS)
    columns = columns_of(run.records)
    app = open_dashboard("tune")
    for pair in ((0.2, 0.6), (0.0, 0.0), (1.0, 5.0)):
        put(app, *pair)
        assert not app.exception
        assert band(app) == pair
        counts = verdict_counts(columns, *pair)
        for name, rate in (
            ("Overkill", counts.overkill),
            ("Escape", counts.escape),
            ("Review load", counts.review_load),
            ("First-pass yield", counts.passed),
        ):
            assert metric(app, name) == unbroken(percent(rate.share or 0.0))
            assert f"95 %: {percent(rate.low)} to {percent(rate.high)}" in said(app)
        for truth in Truth:
            for verdict, count in zip(VERDICTS, counts.table[truth].tolist(), strict=True):
                shown = matrix(app).get((truth.words.replace(" ", "-"), verdict.value), 0)
                assert shown == count


def test_every_cell_leads_to_the_pictures_that_it_counts(
    open_dashboard: OpenDashboard, make_run: MakeRun, record_place: Path
) -> None:
    make_run(ALL_KINDS)
    app = put(open_dashboard("tune"), 0.3, 0.9)
    store = Store.open(record_place)
    table = store.table("run")
    store.close()
    cells = [link for link in links(app) if "truth" in link["to"] and "verdict" in link["to"]]
    assert len(cells) == 4 * 5
    for cell in cells:
        query, refused = read_query(cell["to"])
        assert not refused
        assert (query.t_review, query.t_defect) == (0.3, 0.9)
        assert len(find_places(query, table)) == int(cell["label"])
        assert cell["off"] == (cell["label"] == "0")


def test_the_threshold_that_was_not_typed_gives_way(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    make_run(ALL_KINDS)
    app = open_dashboard("tune")
    assert band(app) == (1.301, 2.0)
    app.number_input(key="t_review").set_value(2.5).run()
    assert band(app) == (2.5, 2.5)
    app.number_input(key="t_defect").set_value(0.5).run()
    assert band(app) == (0.5, 0.5)
    button(app, "Reset").click().run()
    assert band(app) == (1.301, 2.0)


def test_what_the_browser_tells_of_a_drag_moves_the_boxes(
    open_dashboard: OpenDashboard, make_run: MakeRun
) -> None:
    """As the component's message would: the browser test drags, this one calls what the drag calls."""
    make_run(ALL_KINDS)
    app = open_dashboard("tune")
    component = app.get("bidi_component")[0].proto
    assert component.component_name == "review_band"
    data = json.loads(component.json)
    assert data["now"] == [1.301, 2.0] == data["active"]
    assert [row["name"] for row in data["rows"]] == ["good", "defect", "wrong input", "unlabelled"]
    assert [row["total"] for row in data["rows"]] == [20, 6, 1, 1]
    assert len({row["hatch"] for row in data["rows"]}) == 4
    put(app, 0.5, 1.5)
    again = json.loads(app.get("bidi_component")[0].proto.json)
    assert again["now"] == [0.5, 1.5]
    assert again["active"] == [1.301, 2.0]
    # The bars are painted once: only what names them decides that.
    assert again["version"] == data["version"]


def test_thresholds_stay_when_the_page_is_left(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    make_run(ALL_KINDS)
    app = put(open_dashboard("tune"), 0.4, 0.9)
    app.switch_page("gallery.py").run()
    app.switch_page("tune.py").run()
    assert band(app) == (0.4, 0.9)


def test_another_run_brings_its_own_thresholds(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    make_run(["good"], "first", t_review=0.5, t_defect=0.75, started_at=LATER)
    make_run(["good"], "second")
    app = open_dashboard("tune")
    assert band(app) == (0.5, 0.75)
    app.selectbox(key="run").set_value("second").run()
    assert not app.exception
    assert band(app) == (1.301, 2.0)


def test_one_review_is_seen_at_once_where_people_count(
    open_dashboard: OpenDashboard, make_run: MakeRun, record_place: Path
) -> None:
    run = make_run(["good"] * 50)
    app = open_dashboard("tune")
    assert {truth for truth, _ in matrix(app)} == {"good"}
    store = Store.open(record_place)
    store.review("run", run.records[17].item_id, ReviewEntry("defect", "ada", "dent"))
    store.close()
    app.run()
    assert {truth for truth, _ in matrix(app)} == {"good"}
    app.selectbox(key="truth").set_value("people over labels").run()
    assert not app.exception
    assert sum(count for (truth, _), count in matrix(app).items() if truth == "defect") == 1


@pytest.mark.parametrize(
    "labels",
    [ALL_KINDS, [None] * 6, ["good"] * 8, ["scratch"] * 5, ["unreadable"] * 2, ["good"]],
    ids=["all", "unlabelled", "good", "defects", "unreadable", "one"],
)
def test_every_tab_shows_every_kind_of_run(
    open_dashboard: OpenDashboard, make_run: MakeRun, labels: list[str | None]
) -> None:
    make_run(labels)
    app = put(open_dashboard("tune"), 0.2, 0.4)
    for tab in TABS:
        open_tab(app, tab)
        assert not app.exception, tab
        assert app.title[0].value == "Tune thresholds"


@pytest.mark.parametrize("curve", CURVES)
def test_every_curve_is_drawn_and_has_its_table(
    open_dashboard: OpenDashboard, make_run: MakeRun, record_place: Path, curve: str
) -> None:
    run = make_run(ALL_KINDS)
    app = open_dashboard("tune")
    # Good parts and defects are drawn far apart; people call two of each the other.
    store = Store.open(record_place)
    for place, judgement in ((0, "defect"), (1, "defect"), (20, "good"), (21, "good")):
        store.review("run", run.records[place].item_id, ReviewEntry(judgement, "ada"))  # type: ignore[arg-type]
    table = store.table("run")
    store.close()
    app.selectbox(key="truth").set_value("people over labels").run()
    open_tab(app, "Curves")
    app.segmented_control(key="curve").set_value(curve).run()
    assert not app.exception
    assert not app.error
    assert len(app.get("vega_lite_chart")) == 1
    shown = app.dataframe[0].value
    if curve == "ROC":
        parts = parts_of(table, judged=True)
        found = separation(parts.strangeness_of(Truth.GOOD), parts.strangeness_of(Truth.DEFECT))
        assert shown["overkill"].tolist() == found.roc.x.tolist()
        assert 0 < found.auroc.auroc < 1
        assert f"{found.auroc.auroc:.4f}" in said(app)


@pytest.mark.parametrize("wish", WISHES)
def test_every_wish_moves_the_band_where_it_says(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector], wish: str
) -> None:
    app = open_tab(open_dashboard("tune"), "Suggest")
    app.selectbox(key="wish").set_value(wish).run()
    if wish == "no more escapes than":
        # Six labelled defects bound no escape rate below 40 %.
        assert "at least 59 labelled defects" in said(app)
        app.number_input(key="wish_escape").set_value(60.0).run()
    if wish == "no more overkill than":
        # Twenty-four good parts cannot promise 1 %.
        assert "at least 99 good parts" in said(app)
        app.number_input(key="wish_overkill").set_value(5.0).run()
        app.number_input(key="wish_review").set_value(10.0).run()
    if wish == "what the reviewers can look at":
        app.number_input(key="wish_budget").set_value(10.0).run()
    assert not app.exception
    assert not app.error
    assert "Cannot be promised" in said(app)
    proposed = [item.value for item in app.metric if item.label.startswith(("T1", "T2"))]
    button(app, "Move the band there").click().run()
    assert not app.exception
    assert [f"{threshold:.3f}" for threshold in band(app)] == proposed


def test_a_suggestion_is_what_the_rule_gives_for_the_models_good_parts(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector]
) -> None:
    _, _, detector = tuned
    app = open_tab(open_dashboard("tune"), "Suggest")
    app.number_input(key="wish_overkill").set_value(8.0).run()
    app.number_input(key="wish_review").set_value(20.0).run()
    found = by_overkill(detector.good_strangeness, 0.2, 0.08)
    button(app, "Move the band there").click().run()
    assert band(app) == (found.review, found.defect)
    for sentence in (*found.promises, *found.cannot):
        assert sentence in said(app)


def test_what_flips_is_counted_and_shown(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    run = make_run(ALL_KINDS)
    app = open_tab(open_dashboard("tune"), "What flips")
    assert "No verdict changes" in said(app)
    put(app, 0.1, 0.2)
    assert not app.exception
    before, after = (verdict_counts(columns_of(run.records), *pair) for pair in ((1.301, 2.0), (0.1, 0.2)))
    assert before.table.tolist() != after.table.tolist()
    pairs = app.segmented_control(key="flip").options
    counted = sum(int(pair.split(": ")[1]) for pair in pairs)
    old = {r.item_id: r.verdict for r in run.records}
    changed = 0
    for record in run.records:
        if record.strangeness is None or old[record.item_id] in (Verdict.OOD, Verdict.INVALID):
            continue
        s = record.strangeness
        was = Verdict.DEFECT if s >= 2.0 else Verdict.REVIEW if s >= 1.301 else Verdict.PASS
        now = Verdict.DEFECT if s >= 0.2 else Verdict.REVIEW if s >= 0.1 else Verdict.PASS
        changed += was is not now
    assert counted == changed > 0
    shown = [link for link in links(app) if "item" in link["to"]]
    assert 0 < len(shown) <= 8
    gallery = next(link for link in links(app) if "flips" in link["to"])
    assert gallery["to"]["was"] == [pairs[0].split(" to ")[0]]


def test_kinds_are_listed_the_one_that_passes_first(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    make_run(ALL_KINDS)
    app = open_tab(open_dashboard("tune"), "By kind")
    largest = app.number_input(key="t_defect").max
    assert largest is not None
    put(app, largest, largest)
    table = app.dataframe[0].value
    assert set(table["kind"]) == {"scratch", "dent", "wrong_input/blank"}
    assert table["PASS"].is_monotonic_decreasing
    assert table["parts"].sum() == 7


def test_without_a_label_calibration_says_what_to_expect(
    open_dashboard: OpenDashboard, built: Path, make_run: MakeRun, record_place: Path, tmp_path: Path
) -> None:
    detector = Detector.load(built, "cpu")
    facts = detector.facts()
    ids = {name: str(facts[name]) for name in ("model_id", "calibration_id")}
    run = make_run([None] * 12, "run", t_review=facts["t_review"], t_defect=facts["t_defect"], **ids)
    store = Store.open(record_place)
    keep_run(store, run)
    store.place_model(ids["model_id"], built)
    store.close()
    app = put(open_dashboard("tune"), 0.3, 0.6)
    assert not app.exception
    names = {item.label for item in app.metric}
    assert {"Review load", "First-pass yield", "Good parts rejected", "Good among the flagged"} <= names
    assert not names & {"Overkill", "Escape", "Precision", "Recall"}
    rejected = float((detector.good_strangeness >= 0.6).mean())
    assert metric(app, "Good parts rejected") == unbroken(percent(rejected))
    assert "Any escape rate: no part of this run is labelled as a defect." in said(app)


def test_where_nothing_is_promised_the_page_says_so(open_dashboard: OpenDashboard, make_run: MakeRun) -> None:
    one = CalibrationFacts(1, 0.05, 0.02, 0.5, (0.0, 1.0), (0.0, 1.0), "variations", promised=False)
    make_run(["good"] * 6, calibration=one)
    app = open_dashboard("tune")
    assert not app.exception
    assert "No error rate can be promised from 1 part; thresholds are provisional" in said(app)
    assert "good part in" not in said(app)
    open_tab(app, "Suggest")
    assert "Nothing can be promised of this calibration" in said(app)


def test_few_good_parts_few_defects_and_a_lost_model_are_named(
    open_dashboard: OpenDashboard, make_run: MakeRun
) -> None:
    make_run(ALL_KINDS)
    app = open_dashboard("tune")
    largest = app.number_input(key="t_defect").max
    assert largest is not None
    put(app, largest, largest)
    words = said(app)
    assert "T2 lies beyond all 20 good parts" in words
    assert "only 6 labelled defects" in words
    assert "The record does not say where the model lies" in words
    assert "the 20 labelled good parts of this run" in words


def test_thresholds_are_applied_with_name_and_reason_and_taken_back(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector], record_place: Path
) -> None:
    _, model, detector = tuned
    app = open_tab(open_dashboard("tune"), "Apply and history")
    app.text_input(key="person").set_value("ada").run()
    assert "Nobody has set thresholds" in said(app)
    assert button(app, "Put in force").disabled
    put(app, 0.5, 1.25)
    assert button(app, "Put in force").disabled
    app.text_input(key="reason").set_value("more looks").run()
    button(app, "Put in force").click().run()
    assert not app.exception
    assert not app.error
    (first,) = revisions_of(model).history()
    assert (first.review, first.defect, first.author, first.reason) == (0.5, 1.25, "ada", "more looks")
    assert first.promises
    assert "Revision 1 is in force" in said(app)
    assert "In force: T1 0.50, T2 1.25, revision 1 by ada: more looks." in said(app)
    store = Store.open(record_place)
    known = store.revisions(detector.model_id, str(detector.facts()["calibration_id"]))
    verdicts = [record.verdict for record in store.records("run", [r.item_id for r in tuned[0].records])]
    store.close()
    assert [(r.number, r.author) for r in known] == [(1, "ada")]
    # What was given stays as it was given.
    assert verdicts == [record.verdict for record in tuned[0].records]
    put(app, 0.75, 1.5)
    app.text_input(key="reason").set_value("too many").run()
    button(app, "Put in force").click().run()
    app.text_input(key="back_reason").set_value("drowned").run()
    assert app.selectbox(key="back_to").value == 1
    button(app, "Roll back").click().run()
    assert not app.exception
    third = revisions_of(model).current()
    assert third is not None
    assert (third.number, third.rolled_back_to, third.review) == (3, 1, 0.5)
    assert band(app) == (0.5, 1.25)
    history = app.dataframe[0].value
    assert history["revision"].tolist() == [3, 2, 1]
    assert history["follows"].tolist()[:2] == history["sha256"].tolist()[1:]


def test_a_suggestion_keeps_its_promises_until_the_band_moves_on(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector]
) -> None:
    _, model, _ = tuned
    app = open_tab(open_dashboard("tune"), "Suggest")
    app.selectbox(key="wish").set_value("thresholds without labelled defects").run()
    button(app, "Move the band there").click().run()
    open_tab(app, "Apply and history")
    app.text_input(key="person").set_value("ada").run()
    app.text_input(key="reason").set_value("r").run()
    button(app, "Put in force").click().run()
    first = revisions_of(model).current()
    assert first is not None
    assert first.rule.startswith("without labelled defects")
    put(app, 0.1, 9.0)
    app.text_input(key="reason").set_value("by hand").run()
    button(app, "Put in force").click().run()
    second = revisions_of(model).current()
    assert second is not None
    assert (second.number, second.rule) == (2, "set by hand")


def test_of_two_at_once_the_second_is_told_and_sees_the_first(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector]
) -> None:
    _, model, detector = tuned
    app = open_tab(open_dashboard("tune"), "Apply and history")
    app.text_input(key="person").set_value("bob").run()
    put(app, 0.5, 1.0)
    app.text_input(key="reason").set_value("mine").run()
    revisions_of(model).append(
        Suggestion(0.25, 0.75, "by a rule", (), ()),
        author="ada",
        reason="first",
        model_id=detector.model_id,
        calibration_id=str(detector.facts()["calibration_id"]),
    )
    button(app, "Put in force").click().run()
    assert not app.exception
    assert "revision 1 by ada" in said(app)
    assert "In force: T1 0.25, T2 0.75, revision 1 by ada: first." in said(app)
    assert len(revisions_of(model).history()) == 1


def test_read_only_and_a_lost_model_apply_nothing_and_say_why(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector]
) -> None:
    _, model, _ = tuned
    open_dashboard()
    app = open_tab(open_dashboard("tune", read_only=True), "Apply and history")
    put(app, 0.5, 1.0)
    app.text_input(key="reason").set_value("r").run()
    assert button(app, "Put in force").disabled
    assert "open to read only" in said(app)
    shutil.rmtree(model)
    app = open_tab(open_dashboard("tune"), "Apply and history")
    put(app, 0.5, 1.0)
    app.text_input(key="reason").set_value("r").run()
    assert button(app, "Put in force").disabled
    assert "put the model back" in said(app)
    assert "labelled good parts of this run" in said(app)


def test_a_damaged_history_is_shown_and_not_trusted(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector]
) -> None:
    _, model, _ = tuned
    revisions_of(model).path.write_text("{}\n")
    app = open_dashboard("tune")
    assert not app.exception
    assert "unbroken chain" in said(app)


def test_a_history_that_lost_the_runs_own_line_is_not_trusted(
    open_dashboard: OpenDashboard, built: Path, make_run: MakeRun, record_place: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(built, tmp_path / "model"))
    facts = Detector.load(model, "cpu").facts()
    ids: dict[str, Any] = {name: str(facts[name]) for name in ("model_id", "calibration_id")}
    kept = revisions_of(model).append(Suggestion(0.5, 1.0, "r", (), ()), author="ada", reason="r", **ids)
    who = ThresholdsSet(1, "ada", "r", kept.time, "r", kept.sha256)
    run = make_run(["good"] * 3, "run", t_review=0.5, t_defect=1.0, thresholds_set=who, **ids)
    store = Store.open(record_place)
    keep_run(store, run)
    store.place_model(ids["model_id"], model)
    store.close()
    app = open_tab(open_dashboard("tune"), "Apply and history")
    assert app.dataframe[0].value["revision"].tolist() == [1]
    # Written anew, with another reason: a whole chain, but not the one that judged this run.
    revisions_of(model).path.unlink()
    revisions_of(model).append(Suggestion(0.5, 1.0, "r", (), ()), author="ada", reason="other", **ids)
    app.run()
    assert not app.exception
    assert "cut off or written anew" in said(app)


def test_names_and_reasons_from_outside_are_shown_as_they_are(
    open_dashboard: OpenDashboard, tuned: tuple[RunFolder, Path, Detector]
) -> None:
    _, model, detector = tuned
    hostile = "![x](http://example.invalid/a.png)<script>alert(1)</script>"
    revisions_of(model).append(
        Suggestion(0.5, 1.0, hostile, (hostile,), (hostile,)),
        author=hostile,
        reason=hostile,
        model_id=detector.model_id,
        calibration_id=str(detector.facts()["calibration_id"]),
    )
    app = open_tab(open_dashboard("tune"), "Apply and history")
    assert not app.exception
    for element in (*app.markdown, *app.caption, *app.title, *app.info, *app.error, *app.success):
        assert "](http" not in element.value
        assert not re.search(r"(?<!\\)<script", element.value)
