"""All that people said, as tables, renamed by one more word, and written as a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from differnet.images.layouts import read_layout
from differnet.records import Record, Verdict
from differnet.reporting.run_folder import RunFolder
from differnet.store import Asked, ReviewEntry, Store

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]
OpenDashboard = Callable[..., AppTest]

LABELS: list[str | None] = [*["good"] * 20, *["scratch"] * 6, "dent", "unreadable", None]
SECTIONS = ["Words", "Against verdicts", "Kinds of defect", "People", "Without a word", "Export", "History"]


@pytest.fixture
def run(make_run: MakeRun) -> RunFolder:
    return make_run(LABELS)


@pytest.fixture
def store(record_place: Path, run: RunFolder, open_dashboard: OpenDashboard) -> Store:
    open_dashboard()
    return Store.open(record_place)


@pytest.fixture
def said(store: Store, run: RunFolder) -> Store:
    """Two people's words: alike on 20 good parts but for two, and on kinds of no one name."""
    for number, record in enumerate(run.records[:20]):
        store.review("run", record.item_id, ReviewEntry("good", "ada"))
        store.review("run", record.item_id, ReviewEntry("defect" if number < 2 else "good", "bea"))
    for record, kind in zip(run.records[20:24], ["ding", "dings", "ding", ""], strict=True):
        store.review("run", record.item_id, ReviewEntry("defect", "ada", kind, "at the rim"))
    return store


def open_section(open_dashboard: OpenDashboard, section: str, person: str = "cem", **options: Any) -> AppTest:
    app = open_dashboard("labels", **options)
    if person and app.session_state["person"] != person:
        app.text_input(key="person").set_value(person).run()
    app.segmented_control(key="labels_section").set_value(section).run()
    assert not app.exception
    return app


def told(app: AppTest) -> str:
    elements = (*app.caption, *app.text, *app.markdown, *app.info, *app.success, *app.warning)
    return " ".join(str(element.value) for element in elements).replace("\xa0", " ")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("scope", ["this run", "the whole product"])
def test_every_section_shows_nothing_said_and_something_said(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store, section: str, scope: str
) -> None:
    app = open_section(open_dashboard, section)
    app.segmented_control(key="labels_scope").set_value(scope).run()
    assert not app.exception
    assert not app.error
    assert "0 of 29 parts of this run have a word" in told(app)
    store.review("run", run.records[0].item_id, ReviewEntry("defect", "ada", "dent"))
    app.run()
    assert not app.exception
    assert not app.error
    assert "1 of 29 parts of this run have a word: 1 defect" in told(app)


def test_words_are_filtered(open_dashboard: OpenDashboard, said: Store) -> None:
    app = open_section(open_dashboard, "Words")
    assert len(app.dataframe[0].value) == 24
    app.pills(key="labels_disagrees").set_value(["people"]).run()
    assert list(app.dataframe[0].value["by"]) == ["bea", "bea"]
    app.pills(key="labels_disagrees").set_value([]).run()
    app.multiselect(key="labels_kinds").set_value(["ding", "no kind"])
    app.pills(key="labels_said").set_value(["defect"])
    app.text_input(key="labels_name").set_value("RIM").run()
    assert not app.exception
    assert sorted(app.dataframe[0].value["kind"]) == ["", "ding", "ding"]


def test_verdicts_are_counted_against_the_last_words(
    open_dashboard: OpenDashboard, said: Store, run: RunFolder
) -> None:
    app = open_section(open_dashboard, "Against verdicts")
    table = app.dataframe[0].value
    assert list(table.index) == ["good", "defect: no kind", "defect: ding", "defect: dings", "all"]
    assert table.loc["all", "all"] == 24
    passed = sum(record.verdict is Verdict.PASS for record in run.records[:2])
    assert str(app.table[0].value.loc["Escapes", "parts"]).startswith(f"{passed} of ")
    assert "Only a random sample" in told(app)


def test_kinds_are_merged_by_one_more_word(open_dashboard: OpenDashboard, said: Store) -> None:
    before = said.said(Asked())
    app = open_section(open_dashboard, "Kinds of defect")
    app.multiselect(key="kinds_old").set_value(["ding", "dings"])
    app.text_input(key="kinds_new").set_value("dent").run()
    app.button(key="kinds_rename").click().run()
    assert not app.exception
    assert "3 parts have the kind dent now" in told(app)
    assert app.dataframe[0].value.to_dict("list") == {"kind": ["dent"], "parts": [3]}
    after = said.said(Asked())
    assert after[: len(before)] == before
    assert {word.entry.author for word in after[len(before) :]} == {"cem"}
    # Who only renamed has judged nothing.
    app.segmented_control(key="labels_section").set_value("People").run()
    assert sorted(app.dataframe[0].value["person"]) == ["ada", "bea"]


def test_a_new_name_that_is_no_kind_is_refused_in_place(open_dashboard: OpenDashboard, said: Store) -> None:
    before = said.said(Asked())
    app = open_section(open_dashboard, "Kinds of defect")
    app.multiselect(key="kinds_old").set_value(["ding"])
    app.text_input(key="kinds_new").set_value("yes").run()
    app.button(key="kinds_rename").click().run()
    assert not app.exception
    assert "kind of defect" in app.error[0].value
    assert said.said(Asked()) == before


def test_agreement_is_told_with_its_interval_and_pictures(open_dashboard: OpenDashboard, said: Store) -> None:
    app = open_section(open_dashboard, "People")
    words = told(app)
    assert "Krippendorff's alpha" in words
    assert "18 of 20 pictures alike" in words
    pairs = app.dataframe[1].value
    assert pairs[["one", "other", "pictures", "alike"]].to_numpy().tolist() == [["ada", "bea", 20, 18]]
    assert "95 % interval" in pairs["Cohen's kappa"][0]
    assert "2 pictures of which people say different things" in words
    assert app.dataframe[2].value["words"][0] == "ada: ● good; bea: ◆ defect"


def test_what_nobody_said_anything_of_is_counted(open_dashboard: OpenDashboard, said: Store) -> None:
    app = open_section(open_dashboard, "Without a word")
    table = app.table[0].value
    assert table.loc["all", "all"] == 5
    assert table.loc["defect", "all"] == 3


def test_history_tells_what_was_taken_back(
    open_dashboard: OpenDashboard, said: Store, run: RunFolder
) -> None:
    entry = said.reviews("run", run.records[0].item_id)[1]
    said.withdraw("run", [run.records[0].item_id], "bea", entry.made_at)
    app = open_section(open_dashboard, "History")
    table = app.dataframe[0].value
    assert len(table) == 44
    assert (table["taken back (UTC)"] != "").sum() == 1
    assert "1 taken back" in told(app)


@pytest.fixture
def pictures(store: Store, make_record: MakeRecord, tmp_path: Path) -> Path:
    """A run of small files that are where it says."""
    from differnet.reviewing.judgements import file_sha256

    folder = tmp_path / "line" / "pictures"
    folder.mkdir(parents=True)
    entry = store.run("run")
    store.begin_run(replace(entry, run_id="files", folder="", started_at="2027-01-01T00:00:00.000+00:00"))
    same = {"model_id": entry.model_id, "calibration_id": entry.calibration_id, "run_id": "files"}
    for number, judgement in enumerate(["good", "good", "defect", "unsure"]):
        file = folder / f"{number}.png"
        file.write_bytes(f"picture {number}".encode())
        record = make_record(
            500 + number, Verdict.PASS, path=str(file), sha256=file_sha256(file), product="flange", **same
        )
        store.add_items([record])
        store.review("files", record.item_id, ReviewEntry(judgement, "ada"))  # type: ignore[arg-type]
    return folder


def test_a_manifest_is_written_that_training_reads(open_dashboard: OpenDashboard, pictures: Path) -> None:
    app = open_section(open_dashboard, "Export", run="files")
    app.button(key="export_write").click().run()
    assert not app.exception
    assert not app.error
    assert "2 good parts and 1 defect are written" in told(app)
    assert "1 part that nobody could tell is left out" in told(app)
    written = pictures / "reviewed.csv"
    assert app.code[0].value == str(written.resolve())
    layout = read_layout(written)
    assert sorted(part.path.name for part in layout.parts) == ["0.png", "1.png", "2.png"]
    # Nothing is overwritten.
    before = written.read_bytes()
    app.button(key="export_write").click().run()
    assert "nothing yet at" in app.error[0].value
    assert written.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["../x.csv", "/tmp/x.csv", "a/b.csv", ".hidden.csv", "x.exe", "", "..\\x.csv"]
)
def test_a_manifest_goes_nowhere_but_beside_the_pictures(
    open_dashboard: OpenDashboard, pictures: Path, tmp_path: Path, name: str
) -> None:
    app = open_section(open_dashboard, "Export", run="files")
    before = sorted(tmp_path.rglob("*"))
    app.text_input(key="export_name").set_value(name).run()
    app.button(key="export_write").click().run()
    assert not app.exception
    assert app.error
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_that_are_gone_or_changed_are_named(open_dashboard: OpenDashboard, pictures: Path) -> None:
    (pictures / "0.png").unlink()
    (pictures / "2.png").write_bytes(b"another")
    app = open_section(open_dashboard, "Export", run="files")
    app.button(key="export_write").click().run()
    assert not app.exception
    assert "2 pictures are left out" in told(app)
    assert "is not there" in told(app)
    assert "another picture now" in told(app)


def test_a_read_only_page_changes_nothing(open_dashboard: OpenDashboard, said: Store) -> None:
    app = open_section(open_dashboard, "Kinds of defect", read_only=True)
    assert app.button(key="kinds_rename").disabled
    app.segmented_control(key="labels_section").set_value("Export").run()
    assert not app.exception
    assert "it writes nothing" in told(app)
    assert not [button for button in app.button if button.key == "export_write"]
    app.segmented_control(key="labels_section").set_value("Words").run()
    for key in ("labels_good", "labels_defect", "labels_unsure"):
        assert app.button(key=key).disabled


def test_words_of_people_are_no_markdown(open_dashboard: OpenDashboard, store: Store, run: RunFolder) -> None:
    bad = "![x](http://example.invalid/a.png) :red[a]"
    for record, author in zip(run.records[:3], (bad, bad, "ada"), strict=True):
        store.review("run", record.item_id, ReviewEntry("defect", author, bad, bad))
    store.review("run", run.records[0].item_id, ReviewEntry("good", "ada", "", bad))
    for section in SECTIONS:
        app = open_section(open_dashboard, section, person=bad)
        elements = (*app.markdown, *app.caption, *app.info, *app.success, *app.title)
        for words in [str(element.value) for element in elements] + [b.label for b in app.button]:
            assert "](http" not in words
            assert ":red[a]" not in words
        # A table of Markdown cells holds nothing from outside.
        for table in app.table:
            assert "http" not in table.value.to_csv()
