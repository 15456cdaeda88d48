"""Kinds of defect: the frequent ones have keys, and another name is one more word."""

from __future__ import annotations

import pytest

from differnet.reviewing import ReviewError, last_words
from differnet.reviewing.kinds import (
    QUICK,
    checked_kind,
    is_renaming,
    kind_counts,
    quick_kinds,
    rename_kinds,
)
from differnet.store import Asked, ReviewEntry, StoreError
from reviewing.conftest import Line
from reviewing.test_queueing import word


def said_kind(item_id: str, kind: str) -> ReviewEntry:
    return ReviewEntry("defect", "ada", kind, made_at=item_id)


def test_the_most_frequent_kinds_have_keys_and_labels_fill_up() -> None:
    said = [word(f"i{n}", "defect", "ada", entry=said_kind("1", kind)) for n, kind in enumerate("bbaacb")]
    said += [word("i9", "good", "ada"), word("i8", "defect", "ada")]
    assert quick_kinds(said, ["dent", "a", "good", "ok", None, "", "1", "wrong_input/blank"]) == [
        "b",
        "a",
        "c",
        "dent",
    ]
    many = [f"k{n}" for n in range(20)]
    assert quick_kinds(said, many) == ["b", "a", "c", *sorted(many)[: QUICK - 3]]


def test_only_the_last_word_on_an_item_counts() -> None:
    said = [word("a", "defect", "ada", entry=said_kind("1", "dent"))]
    assert kind_counts(said) == {"dent": 1}
    assert kind_counts([*said, word("a", "good", "bea")]) == {}


def line_with_kinds(line: Line) -> None:
    for run_id in ("one", "two"):
        line.run(run_id)
        for number, kind in enumerate(["ding", "dings", "scratch", ""]):
            record = line.inspect(run_id, f"{run_id}/{number}.png", f"{run_id}{number}".encode())
            line.store.review(run_id, record.item_id, ReviewEntry("defect", "ada", kind, "first"))


def test_kinds_are_merged_by_one_more_word_and_what_was_said_stays(line: Line) -> None:
    line_with_kinds(line)
    store = line.store
    before = store.said(Asked())
    assert rename_kinds(store, before, {"ding", "dings"}, " dent ", "lead") == 4
    after = store.said(Asked())
    assert after[: len(before)] == before
    assert kind_counts(after) == {"dent": 4, "scratch": 2}
    added = after[len(before) :]
    assert {entry.note for entry in (each.entry for each in added)} == {
        "kind renamed from ding",
        "kind renamed from dings",
    }
    assert all(is_renaming(each.entry) and each.entry.author == "lead" for each in added)
    assert sorted(w.entry.kind for w in last_words(store, Asked(run_id="one"))) == [
        "",
        "dent",
        "dent",
        "scratch",
    ]
    # Once more there is nothing left to rename.
    assert rename_kinds(store, after, {"ding", "dings"}, "dent", "lead") == 0


@pytest.mark.parametrize("name", ["", "  ", "good", "OK", "1", "a\nb"])
def test_a_name_that_is_no_kind_is_refused_and_nothing_is_said(line: Line, name: str) -> None:
    line_with_kinds(line)
    said = line.store.said(Asked())
    with pytest.raises(ReviewError):
        rename_kinds(line.store, said, {"ding"}, name, "lead")
    with pytest.raises(StoreError):
        rename_kinds(line.store, said, {"ding"}, "dent", " ")
    assert line.store.said(Asked()) == said


def test_a_kind_is_kept_without_spaces_around_it() -> None:
    assert checked_kind(" a  b ") == "a  b"
    with pytest.raises(ReviewError, match="kind of defect"):
        checked_kind("yes")
