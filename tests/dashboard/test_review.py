"""The review queue: one key a part, nothing lost, nobody in another's way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from differnet.records import Record, Verdict
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.tabled_run import TabledRun
from differnet.reviewing.queueing import Source, draw_sample
from differnet.store import Asked, ReviewEntry, Store

MakeRun = Callable[..., RunFolder]
OpenDashboard = Callable[..., AppTest]

LABELS: list[str | None] = [*["good"] * 60, *["scratch"] * 12, *["dent"] * 6, "unreadable", None]


@pytest.fixture
def run(make_run: MakeRun) -> RunFolder:
    return make_run(LABELS)


@pytest.fixture
def store(record_place: Path, run: RunFolder, open_dashboard: OpenDashboard) -> Store:
    open_dashboard()
    return Store.open(record_place)


def open_queue(open_dashboard: OpenDashboard, person: str = "ada", **query: str) -> AppTest:
    app = open_dashboard("review", **({"queue": "flagged"} | query))
    if person != app.session_state["person"]:
        app.text_input(key="person").set_value(person).run()
    assert not app.exception
    return app


def box(app: AppTest, name: str) -> Any:
    """Return a box for words, which is another one after every word."""
    return next(each for each in app.text_input if str(each.key).startswith(f"{name} "))


def press(app: AppTest, key: str) -> AppTest:
    """Press a button; which key presses it is shown with a browser."""
    button = app.button(key=key)
    assert not button.disabled, key
    button.click().run()
    assert not app.exception
    return app


def told(app: AppTest) -> str:
    return " ".join(
        [element.value for element in (*app.caption, *app.text, *app.markdown, *app.subheader)]
        + [element.proto.text for element in app.get("progress")]
    )


def here(app: AppTest) -> str:
    focus: str = app.session_state["queue"].here
    return focus


def rejected(run: RunFolder) -> list[Record]:
    """Rejected parts, the strangest first."""
    found = [record for record in run.records if record.verdict in (Verdict.DEFECT, Verdict.OOD)]
    return sorted(found, key=lambda record: -(record.strangeness or 0.0))


def test_every_word_is_kept_at_once_and_the_next_part_is_there(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    wanted = rejected(run)
    app = open_queue(open_dashboard)
    for item, key, judgement in zip(
        wanted,
        ["say_defect", "say_good", "say_unsure", "kind_1"],
        ["defect", "good", "unsure", "defect"],
        strict=False,
    ):
        assert here(app) == item.item_id
        press(app, key)
        (entry,) = store.reviews("run", item.item_id)
        assert (entry.judgement, entry.author) == (judgement, "ada")
        assert entry.kind == ("scratch" if key == "kind_1" else "")
    assert here(app) == wanted[4].item_id
    assert f"Part 5 of {len(wanted)}" in told(app)
    assert f"4 of {len(wanted)} have a word" in told(app)


def test_a_kind_and_a_note_go_with_the_next_word_alone(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    first, second = rejected(run)[:2]
    app = open_queue(open_dashboard)
    box(app, "queue_kind").set_value(" burr ")
    box(app, "queue_note").set_value("at the rim")
    press(app, "say_defect")
    press(app, "say_defect")
    assert [(e.kind, e.note) for e in store.reviews("run", first.item_id)] == [("burr", "at the rim")]
    assert [(e.kind, e.note) for e in store.reviews("run", second.item_id)] == [("", "")]


def test_a_word_that_is_no_kind_is_refused_in_place(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_queue(open_dashboard)
    before = here(app)
    box(app, "queue_kind").set_value("good")
    press(app, "say_defect")
    assert "kind of defect" in app.error[0].value
    assert here(app) == before
    assert store.said(Asked()) == []


def test_words_are_taken_back_one_after_the_other_and_kept(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    first, second = rejected(run)[:2]
    app = open_queue(open_dashboard)
    assert app.button(key="undo").disabled
    press(app, "say_defect")
    press(app, "say_good")
    press(app, "undo")
    assert here(app) == second.item_id
    press(app, "undo")
    assert here(app) == first.item_id
    assert app.button(key="undo").disabled
    assert store.said(Asked()) == []
    assert len(store.said(Asked(), withdrawn=True)) == 2
    press(app, "say_unsure")
    assert [e.judgement for e in store.reviews("run", first.item_id)] == ["unsure"]


def test_arrows_go_back_and_forth_and_a_part_can_be_judged_anew(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    first, second, third = rejected(run)[:3]
    app = open_queue(open_dashboard)
    assert app.button(key="back").disabled
    press(app, "say_defect")
    press(app, "forth")
    assert here(app) == third.item_id
    press(app, "back")
    press(app, "back")
    assert here(app) == first.item_id
    assert "You said ◆ defect" in told(app)
    press(app, "say_good")
    assert [e.judgement for e in store.reviews("run", first.item_id)] == ["defect", "good"]
    # On to the next that has no word, not to one that was passed by.
    assert here(app) == second.item_id


def test_what_another_has_just_judged_is_skipped(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    wanted = rejected(run)
    app = open_queue(open_dashboard)
    store.review("run", wanted[1].item_id, ReviewEntry("good", "bea"))
    press(app, "say_defect")
    assert here(app) == wanted[2].item_id
    assert f"2 of {len(wanted)} have a word" in told(app)
    press(app, "back")
    assert "bea said ● good" in told(app)


def test_a_word_that_another_said_meanwhile_is_told_and_both_are_kept(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    item = rejected(run)[0]
    app = open_queue(open_dashboard)
    store.review("run", item.item_id, ReviewEntry("good", "bea"))
    press(app, "say_defect")
    assert "bea said ● good of it a moment before\\; both are kept" in told(app)
    assert [e.author for e in store.reviews("run", item.item_id)] == ["bea", "ada"]


def test_the_end_says_so_and_looks_for_more(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    band = [record for record in run.records if record.verdict is Verdict.REVIEW]
    app = open_queue(open_dashboard, queue="band")
    for _ in band:
        press(app, "say_good")
    assert "Every part of this queue has been looked at" in told(app)
    assert app.button(key="say_good").disabled
    press(app, "back")
    assert here(app) in {record.item_id for record in band}
    press(app, "undo")
    press(app, "say_good")
    press(app, "anew")
    assert "Nothing is left to look at here" in app.success[0].value


def test_whoever_has_no_name_or_only_reads_can_say_nothing(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_queue(open_dashboard, person="")
    assert "Type your name" in app.info[0].value
    assert app.button(key="say_good").disabled
    app = open_dashboard("review", read_only=True, queue="flagged")
    assert not app.exception
    assert "only reads" in app.info[0].value
    for key in ("say_good", "say_defect", "say_unsure", "kind_1", "undo"):
        assert app.button(key=key).disabled
    assert not app.button(key="forth").disabled


def test_a_second_look_is_blind_and_at_what_others_judged(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    judged = rejected(run)[:6]
    for item in judged:
        store.review("run", item.item_id, ReviewEntry("defect", "bea", "burr", "see the rim"))
    app = open_queue(open_dashboard, queue="second")
    seen = []
    for number in range(6):
        seen.append(here(app))
        item = next(record for record in judged if record.item_id == here(app))
        words = told(app)
        for secret in (item.part_id, "DEFECT", "OOD", "bea", "burr", "rim", "strangeness", *item.reasons):
            assert secret not in words.replace(Source.SECOND.meaning, "")
        assert all(item.part_id not in picture.proto.imgs[0].alt for picture in app.get("imgs"))
        assert f"{number} of 6 have a word" in words
        press(app, "say_good")
    assert sorted(seen) == sorted(item.item_id for item in judged)
    assert {e.author for item in judged for e in store.reviews("run", item.item_id)} == {"ada", "bea"}


def test_a_sample_tells_what_it_says_of_all_parts(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_queue(open_dashboard, queue="sample")
    app.number_input(key="queue_passed").set_value(8)
    app.number_input(key="queue_rejected").set_value(4).run()
    sample = draw_sample(TabledRun(store, "run").table, 0, 8, 4)
    verdicts = {record.item_id: record.verdict for record in run.records}
    for _ in range(12):
        passed = verdicts[here(app)] is Verdict.PASS
        press(app, "say_good" if passed else "say_defect")
    words = told(app)
    assert "0 % of the passed parts are defects (0 of 8; 95 % interval 0 % to 36.9 %" in words.replace(
        "\xa0", " "
    )
    assert f"of {sample.rejected_of:,})" in words
    assert "skipped" not in words


def test_the_gallerys_choice_is_queued_from_its_link(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    app = open_queue(open_dashboard, queue="chosen", label="dent", order="file")
    dents = [record.item_id for record in run.records if record.label == "dent"]
    assert app.session_state["queue"].item_ids == dents
    assert "Part 1 of 6" in told(app)
    assert "dent" in told(app)


@pytest.mark.parametrize("query", [{"queue": "<b>"}, {"queue": "chosen", "t1": "x"}, {"queue": ""}])
def test_a_senseless_address_falls_back(
    open_dashboard: OpenDashboard, run: RunFolder, query: dict[str, str]
) -> None:
    app = open_dashboard("review", **query)
    assert not app.exception
    assert not app.error


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize(
    "labels",
    [
        ["good"],
        [None] * 4,
        ["unreadable"] * 2,
        ["scratch"] * 3,
        ["good"] * 20 + ["dent"] * 4 + ["unreadable"],
    ],
    ids=["one", "unlabelled", "unreadable", "defects", "mixed"],
)
def test_every_queue_of_every_kind_of_run_opens(
    open_dashboard: OpenDashboard, make_run: MakeRun, source: Source, labels: list[str | None]
) -> None:
    make_run(labels)
    app = open_queue(open_dashboard, queue=source.value)
    assert not app.error
    assert app.title[0].value == "Review"


def test_kinds_that_people_named_most_get_the_first_keys(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    for item in run.records[:2]:
        store.review("run", item.item_id, ReviewEntry("defect", "bea", "*burr*"))
    app = open_queue(open_dashboard)
    labels = [app.button(key=f"kind_{digit}").label for digit in (1, 2, 3)]
    assert labels == [r"\*burr\*", "scratch", "dent"]


def test_twenty_parts_take_twenty_presses_and_less_than_a_second_each(
    open_dashboard: OpenDashboard, make_run: MakeRun, record_place: Path
) -> None:
    make_run(["scratch"] * 24)
    app = open_queue(open_dashboard)
    begun = time.perf_counter()
    for number in range(20):
        press(app, ("say_defect", "say_good", "say_unsure", "kind_1")[number % 4])
    assert time.perf_counter() - begun < 20
    store = Store.open(record_place)
    assert len(store.reviewed(Asked(run_id="run"))) == 20
    store.close()


def test_a_box_lets_go_of_the_keyboard_when_its_words_are_kept(
    open_dashboard: OpenDashboard, run: RunFolder, store: Store
) -> None:
    item = rejected(run)[0]
    app = open_queue(open_dashboard)
    first = box(app, "queue_kind").key
    box(app, "queue_kind").set_value("burr").run()
    # Another box, with the same words: whatever had the keyboard is gone.
    assert box(app, "queue_kind").key != first
    assert box(app, "queue_kind").value == "burr"
    press(app, "say_defect")
    assert [e.kind for e in store.reviews("run", item.item_id)] == ["burr"]
    assert box(app, "queue_kind").value == ""
    third = box(app, "queue_kind").key
    press(app, "say_good")
    assert box(app, "queue_kind").key == third
