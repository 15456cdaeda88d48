"""The gallery: what a link asks for is shown, can be kept, and reviewed many at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from differnet.records import Record, Verdict
from differnet.reporting.counts import Truth, columns_of, truth_of, verdict_counts
from differnet.reporting.gallery_query import GalleryQuery, Order, Reviewed, find_places
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.tabled_run import TabledRun
from differnet.store import Asked, ReviewEntry, Store

MakeRun = Callable[..., RunFolder]
OpenDashboard = Callable[..., AppTest]

LABELS: list[str | None] = [
    *["good"] * 40,
    *["scratch"] * 8,
    *["dent"] * 4,
    "wrong_input/blank",
    "unreadable",
    None,
]


@pytest.fixture
def run(make_run: MakeRun) -> RunFolder:
    return make_run(LABELS)


@pytest.fixture
def store(record_place: Path, run: RunFolder, open_dashboard: OpenDashboard) -> Store:
    open_dashboard()
    return Store.open(record_place)


def open_gallery(open_dashboard: OpenDashboard, query: GalleryQuery | None = None, **plain: str) -> AppTest:
    """Open the gallery by a link, as other pages write it."""
    params: dict[str, Any] = dict(plain) if query is None else query.link()
    app = open_dashboard("gallery", **params)
    assert not app.exception
    return app


def shown(app: AppTest) -> list[str]:
    """Return the item ids of the cards, in their order."""
    return [str(box.key).split()[1] for box in app.checkbox if str(box.key).startswith("card ")]


def found(app: AppTest) -> str:
    return next(caption.value for caption in app.caption if " pictures: " in caption.value)


def asked(app: AppTest) -> dict[str, list[str]]:
    told: dict[str, Any] = dict(app.query_params)
    return {key: [values] if isinstance(values, str) else list(values) for key, values in told.items()}


def box(app: AppTest, name: str) -> Any:
    """Return a box for words, which is another one after every word."""
    return next(each for each in app.text_input if str(each.key).startswith(f"{name} "))


def press(app: AppTest, key: str) -> AppTest:
    button = app.button(key=key)
    assert not button.disabled, key
    button.click().run()
    assert not app.exception
    return app


def test_a_cell_of_the_confusion_matrix_opens_exactly_its_pictures(
    open_dashboard: OpenDashboard, run: RunFolder
) -> None:
    counts = verdict_counts(columns_of(run.records), 2.5, 4.0)
    query = GalleryQuery(
        "run",
        (Verdict.REVIEW,),
        truths=(Truth.DEFECT,),
        t_review=2.5,
        t_defect=4.0,
        order=Order.LEAST_STRANGE,
    )
    app = open_gallery(open_dashboard, query)
    meant = [
        record
        for record in run.records
        if truth_of(record.label) is Truth.DEFECT and record.strangeness and 2.5 <= record.strangeness < 4.0
    ]
    assert len(meant) == counts.table[Truth.DEFECT, 1] > 0
    ordered = sorted(meant, key=lambda record: record.strangeness or 0.0)
    assert shown(app) == [record.item_id for record in ordered]
    assert found(app).startswith(
        f"{len(meant)} of {len(run.records)} pictures: defect\\; REVIEW\\; at T1 2\\.5"
    )
    # Thresholds change verdicts in sight: both are told.
    assert any("was" in element.value and "DEFECT" in element.value for element in app.markdown)
    assert asked(app) == query.link()


def test_filters_write_the_address_that_shows_the_same_again(
    open_dashboard: OpenDashboard, run: RunFolder
) -> None:
    app = open_gallery(open_dashboard)
    app.pills(key="verdicts").set_value([Verdict.DEFECT, Verdict.REVIEW])
    app.multiselect(key="labels").set_value(["scratch"])
    app.number_input(key="least").set_value(2.0)
    app.selectbox(key="order").set_value("near-t2").run()
    assert not app.exception
    first = shown(app)
    address = asked(app)
    assert address["label"] == ["scratch"]
    assert address["from"] == ["2"]
    again = open_dashboard("gallery", **address)
    assert shown(again) == first
    assert len(first) > 0
    assert again.number_input(key="least").value == 2.0


def test_a_link_with_peoples_words_as_truth_switches_to_them(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    good = next(record for record in run.records if record.label == "good")
    store.review("run", good.item_id, ReviewEntry("defect", "ada", "dent"))
    query = GalleryQuery("run", truths=(Truth.DEFECT,), was=(good.verdict,), judged=True)
    app = open_gallery(open_dashboard, query)
    assert app.selectbox(key="truth").value == "people over labels"
    assert good.item_id in shown(app)
    app.selectbox(key="truth").set_value("labels").run()
    assert not app.exception
    assert good.item_id not in shown(app)
    assert "judged" not in asked(app)


def test_nonsense_in_an_address_is_left_out_and_named(open_dashboard: OpenDashboard, run: RunFolder) -> None:
    app = open_gallery(
        open_dashboard, None, verdict="<script>", t1="9", t2="1", label="nothing such", order="file"
    )
    assert "verdict, t1, t2 could not be understood" in app.warning[0].value
    assert found(app).startswith("0 of ")
    assert "No picture matches" in app.info[0].value
    app.multiselect(key="labels").set_value([]).run()
    assert not app.exception
    assert found(app).startswith(f"{len(LABELS)} of {len(LABELS)}")
    assert not app.warning


def test_thresholds_that_make_no_sense_are_refused_in_place(
    open_dashboard: OpenDashboard, run: RunFolder
) -> None:
    app = open_gallery(open_dashboard)
    app.number_input(key="at_t1").set_value(3.0).run()
    assert "T1 and T2 together" in app.error[0].value
    app.number_input(key="at_t2").set_value(2.0).run()
    assert "T1 at most T2" in app.error[0].value
    app.number_input(key="at_t2").set_value(4.0).run()
    assert not app.error
    assert not app.exception


def test_many_are_reviewed_at_once_and_taken_back(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_gallery(open_dashboard, GalleryQuery("run", labels=("dent",), reviewed=(Reviewed.NONE,)))
    ids = shown(app)
    assert len(ids) == 4
    assert app.button(key="all_good").disabled
    next(box for box in app.checkbox if ids[0] in str(box.key)).check().run()
    next(box for box in app.checkbox if ids[2] in str(box.key)).check().run()
    assert any(caption.value.startswith("2 chosen") for caption in app.caption)
    box(app, "all_kind").set_value("burr")
    press(app, "all_defect")
    said = {record.item_id: entry for record, entry in store.reviewed(Asked(run_id="run"))}
    assert set(said) == {ids[0], ids[2]}
    assert {(e.judgement, e.kind, e.author) for e in said.values()} == {
        ("defect", "burr", app.session_state["person"])
    }
    # They have a word now, and are no longer asked for.
    assert shown(app) == [ids[1], ids[3]]
    press(app, "all_back")
    assert shown(app) == ids
    assert store.reviewed(Asked(run_id="run")) == []
    assert any(caption.value.startswith("2 chosen") for caption in app.caption)
    press(app, "choose_none")
    press(app, "choose_all")
    press(app, "all_unsure")
    assert len(store.reviewed(Asked(run_id="run"))) == 4


def test_a_kind_that_is_none_is_refused_and_nothing_is_said(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_gallery(open_dashboard)
    press(app, "choose_all")
    box(app, "all_kind").set_value("ok")
    press(app, "all_defect")
    assert "kind of defect" in app.error[0].value
    assert store.said(Asked()) == []


def test_what_others_say_is_on_the_cards_at_once(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_gallery(open_dashboard, GalleryQuery("run", labels=("dent",)))
    item_id = shown(app)[1]
    store.review("run", item_id, ReviewEntry("defect", "bea", "bu*rr"))
    app.run()
    assert any("called ◆ defect\\, bu\\*rr" in caption.value for caption in app.caption)


def test_filters_are_kept_under_a_name_and_forgotten(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    query = GalleryQuery("run", (Verdict.DEFECT,), labels=("scratch",), order=Order.FILE)
    app = open_gallery(open_dashboard, query)
    before = shown(app)
    app.text_input(key="view_name").set_value("scratches <b>")
    press(app, "keep_view")
    assert list(store.views("gallery")) == ["scratches <b>"]
    press(app, "forget")
    assert len(shown(app)) > len(before)
    app.selectbox(key="view").set_value("scratches <b>").run()
    assert not app.exception
    assert shown(app) == before
    assert app.pills(key="verdicts").value == [Verdict.DEFECT]
    app.selectbox(key="view_gone").set_value("scratches <b>")
    press(app, "drop_view")
    assert store.views("gallery") == {}
    app.text_input(key="view_name").set_value("  ")
    press(app, "keep_view")
    assert "a name for the view" in app.error[0].value


def test_pages_are_turned_over_and_sizes_changed(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_gallery(open_dashboard, GalleryQuery("run", order=Order.STRANGEST))
    table = TabledRun(store, "run").table
    every = [table.item_id[place] for place in find_places(GalleryQuery(), table)]
    assert shown(app) == every[:20]
    press(app, "page_after")
    assert shown(app) == every[20:40]
    app.number_input(key="page").set_value(3).run()
    assert shown(app) == every[40:]
    assert app.button(key="page_after").disabled
    app.segmented_control(key="size").set_value("large").run()
    assert not app.exception
    assert shown(app) == every[18:27]
    app.pills(key="verdicts").set_value([Verdict.DEFECT]).run()
    assert app.number_input(key="page").value == 1


def test_a_read_only_gallery_chooses_and_says_nothing(open_dashboard: OpenDashboard, run: RunFolder) -> None:
    app = open_dashboard("gallery", read_only=True)
    assert not app.exception
    press(app, "choose_all")
    for key in ("all_good", "all_defect", "all_unsure", "all_back"):
        assert app.button(key=key).disabled
    assert any("only reads" in caption.value for caption in app.caption)


def test_names_of_parts_are_no_markdown_on_cards(
    open_dashboard: OpenDashboard, make_record: Callable[..., Record], store: Store
) -> None:
    name = "![x](http://example.invalid/a.png) :red[a]"
    odd = make_record(999, Verdict.DEFECT, part_id=name, label=name, run_id="run", strangeness=99.0)
    entry = store.run("run")
    store.add_items(
        [Record(**{**vars(odd), "model_id": entry.model_id, "calibration_id": entry.calibration_id})]
    )
    app = open_gallery(open_dashboard)
    for element in (*app.markdown, *app.caption, *app.checkbox):
        words = element.label if hasattr(element, "label") else element.value
        assert "](http" not in str(words)
        assert ":red[a]" not in str(words)
