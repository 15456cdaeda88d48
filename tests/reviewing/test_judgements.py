"""The last word on a picture, wherever it was said, and how often verdicts agree with it."""

from __future__ import annotations

import pytest

from differnet.evaluation import proportion_interval
from differnet.records import Verdict
from differnet.reviewing import ReviewError, agreement, find_item, last_words, locate
from differnet.store import Asked, StoreError
from reviewing.conftest import Line


def test_an_item_is_found_by_id_part_and_path(line: Line) -> None:
    record = line.inspect("monday", "left/7.png", b"seven")
    for named in (record.item_id, "7", "left/7.png"):
        assert find_item(line.store, "monday", named) == record
    # A name of bytes that are no text is a name, too.
    odd = line.inspect("monday", "left/\udcff.png", b"odd")
    assert find_item(line.store, "monday", "left/\udcff.png") == odd


def test_a_name_of_several_items_lists_them(line: Line) -> None:
    both = [line.inspect("monday", f"{side}/7.png", side.encode()) for side in ("left", "right")]
    with pytest.raises(ReviewError) as refused:
        find_item(line.store, "monday", "7")
    assert all(f"{r.item_id} ({r.path})" in refused.value.found for r in both)
    assert find_item(line.store, "monday", "right/7.png") == both[1]


@pytest.mark.parametrize("named", ["nothing", "\udcff.png", ""])
def test_a_name_of_nothing_is_refused(line: Line, named: str) -> None:
    line.inspect("monday", "7.png", b"seven")
    with pytest.raises(ReviewError):
        find_item(line.store, "monday", named)
    with pytest.raises(StoreError):
        find_item(line.store, "friday", "7.png")


def test_the_latest_word_on_a_picture_counts_across_runs(line: Line) -> None:
    monday = line.inspect("monday", "1.png", b"one")
    tuesday = line.inspect("tuesday", "1.png", b"one")
    line.say(tuesday, "good")
    line.say(monday, "defect", "dent")
    (word,) = last_words(line.store, Asked())
    assert (word.record.run_id, word.entry.judgement, word.entry.kind) == ("monday", "defect", "dent")
    line.say(tuesday, "unsure")
    (word,) = last_words(line.store, Asked())
    assert (word.record.run_id, word.entry.judgement) == ("tuesday", "unsure")


def test_a_filter_hides_no_later_word(line: Line) -> None:
    monday = line.inspect("monday", "1.png", b"one")
    tuesday = line.inspect("tuesday", "1.png", b"one")
    other = line.inspect("tuesday", "2.png", b"two")
    line.say(monday, "good")
    line.say(tuesday, "defect")
    line.say(other, "good")
    words = last_words(line.store, Asked(run_id="monday"))
    assert [(w.record.path, w.entry.judgement) for w in words] == [("1.png", "defect")]


def test_pictures_of_two_products_are_two(line: Line) -> None:
    line.run("nuts", "nut")
    line.say(line.inspect("monday", "1.png", b"one"), "good")
    line.say(line.inspect("nuts", "1.png", b"one", product="nut"), "defect")
    assert {w.record.product: w.entry.judgement for w in last_words(line.store, Asked())} == {
        "flange": "good",
        "nut": "defect",
    }


def test_what_is_gone_or_changed_is_lost_with_its_reason(line: Line) -> None:
    kept = line.inspect("monday", "kept.png", b"kept")
    gone = line.inspect("monday", "gone.png", b"gone", write=False)
    changed = line.inspect("monday", "changed.png", b"changed")
    unread = line.inspect("monday", "unread.png", b"unread", Verdict.INVALID, sha256="")
    for record in (kept, gone, changed, unread):
        line.say(record, "good")
    (line.root / "changed.png").write_bytes(b"another")
    found, lost = locate(line.store, last_words(line.store, Asked()), line.root)
    assert [one.path for one in found] == [line.root / "kept.png"]
    assert {one.path: one.reason.split()[0] for one in lost} == {
        "gone.png": "is",
        "changed.png": "is",
        "unread.png": "could",
    }
    reasons = {one.path: one.reason for one in lost}
    assert "not there" in reasons["gone.png"]
    assert "another picture" in reasons["changed.png"]


def test_a_picture_that_moved_is_found_where_a_later_run_saw_it(line: Line) -> None:
    record = line.inspect("monday", "old/1.png", b"one")
    line.say(record, "good")
    (line.root / "old/1.png").unlink()
    line.inspect("tuesday", "new/1.png", b"one")
    (found,), lost = locate(line.store, last_words(line.store, Asked()), line.root)
    assert found.path == line.root / "new/1.png"
    assert not lost


def test_agreement_counts_verdicts_against_people(line: Line) -> None:
    told = {
        Verdict.PASS: ["good"] * 5 + ["defect"] * 2 + ["unsure"],
        Verdict.REVIEW: ["good"] * 2 + ["defect"],
        Verdict.DEFECT: ["good"] * 3 + ["defect"] * 4,
        Verdict.OOD: ["defect"],
        Verdict.INVALID: ["good"],
    }
    for verdict, judgements in told.items():
        for number, judgement in enumerate(judgements):
            name = f"{verdict}-{number}"
            line.say(line.inspect("monday", f"{name}.png", name.encode(), verdict), judgement)
    found = agreement(last_words(line.store, Asked()))
    assert found.rows == {
        "passed": (5, 2, 1),
        "to review": (2, 1, 0),
        "rejected": (3, 5, 0),
        "invalid": (1, 0, 0),
    }
    for of, events, cases in (
        (found.overkill, 3, 10),
        (found.escape, 2, 8),
        (found.passed_defect, 2, 7),
        (found.rejected_good, 3, 8),
    ):
        assert (of.events, of.of) == (events, cases)
        assert (of.low, of.high) == proportion_interval(events, cases)


def test_agreement_of_nothing_has_no_rates() -> None:
    found = agreement([])
    assert found.overkill.share is None
    assert set(found.rows.values()) == {(0, 0, 0)}
