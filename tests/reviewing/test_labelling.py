"""Words as tables, and which of them are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from differnet.records import Verdict
from differnet.reviewing.labelling import (
    NO_KIND,
    LabelFilter,
    filter_labels,
    history_table,
    labels_table,
    said_share,
    unsaid_by_verdict,
    words_by_verdict,
)
from differnet.store import ReviewEntry, Said
from reviewing.test_queueing import DEFECT, PASS, REVIEW, table_of, word


def told(item: str, judgement: str, author: str, minute: int, **changes: Any) -> Said:
    kind, note = changes.pop("kind", ""), changes.pop("note", "")
    entry = ReviewEntry(judgement, author, kind, note, f"2026-11-23T06:{minute:02d}:00.000+00:00")  # type: ignore[arg-type]
    return word(item, judgement, author, entry=entry, **changes)


SAID = [
    told("a", "good", "ada", 1, label="dent", verdict=Verdict.DEFECT),
    told("b", "defect", "ada", 2, label="good", kind="dent", note="at the rim"),
    told("c", "defect", "bea", 3, kind="scratch", verdict=Verdict.DEFECT, label="scratch"),
    told("d", "unsure", "bea", 4, verdict=Verdict.REVIEW, strangeness=None),
    told("b", "defect", "bea", 5, label="good"),
    told("c", "good", "ada", 6, verdict=Verdict.DEFECT, label="scratch"),
]


def test_each_item_has_a_row_with_its_last_word_the_latest_first() -> None:
    table = labels_table(SAID)
    assert list(table["item"]) == ["c", "b", "d", "a"]
    rows = table.set_index("item").to_dict("index")
    assert [rows["b"][name] for name in ("is", "by", "kind", "words")] == ["defect", "bea", "", 2]
    assert {item: row["disagrees"] for item, row in rows.items()} == {
        "a": "label, verdict",
        "b": "label, verdict",
        "c": "label, verdict, people",
        "d": "",
    }
    assert np.isnan(rows["d"]["strangeness"])
    assert rows["a"]["said at (UTC)"] == "2026-11-23 06:01"


@pytest.mark.parametrize(
    ("wanted", "items"),
    [
        (LabelFilter(), ["c", "b", "d", "a"]),
        (LabelFilter(people=("ada",)), ["c", "a"]),
        (LabelFilter(judgements=("unsure", "defect")), ["b", "d"]),
        (LabelFilter(kinds=(NO_KIND,)), ["c", "b", "d", "a"]),
        (LabelFilter(kinds=("dent",)), []),
        (LabelFilter(verdicts=("REVIEW",)), ["d"]),
        (LabelFilter(disagrees=("people",)), ["c"]),
        (LabelFilter(disagrees=("people", "label")), ["c", "b", "a"]),
        (LabelFilter(name="DENT"), ["a"]),
        (LabelFilter(people=("ada",), name="scr"), ["c"]),
    ],
)
def test_filters_keep_what_they_name(wanted: LabelFilter, items: list[str]) -> None:
    assert list(filter_labels(labels_table(SAID), wanted)["item"]) == items


def test_a_table_of_nothing_has_its_columns() -> None:
    table = labels_table([])
    assert list(table.columns) == list(labels_table(SAID).columns)
    for wanted in (LabelFilter(), LabelFilter(people=("a",), disagrees=("label",), name="x")):
        assert len(filter_labels(table, wanted)) == 0
    assert words_by_verdict([]).loc["all", "all"] == 0
    assert len(history_table([])) == 0


def test_words_are_counted_against_verdicts() -> None:
    table = words_by_verdict([*SAID, told("e", "defect", "ada", 7, kind="dent")])
    assert list(table.index) == ["good", "defect: dent", "defect: no kind", "unsure", "all"]
    assert table.loc["good", "DEFECT"] == 2
    assert list(table.loc["all"]) == [2, 1, 2, 0, 0, 5]


def test_what_nobody_has_said_anything_of_is_counted() -> None:
    labels = np.array(["good", None, "dent", "dent"], dtype=object)
    verdict = np.array([PASS, PASS, DEFECT, REVIEW], dtype=np.int8)
    judgement = np.array([-1, -1, -1, 1], dtype=np.int8)
    table = table_of(4, label=labels, verdict=verdict, judgement=judgement)
    unsaid = unsaid_by_verdict(table)
    assert list(unsaid.index) == ["good", "defect", "unlabelled", "all"]
    assert list(unsaid.loc["all"]) == [2, 0, 1, 0, 0, 3]
    assert said_share(table) == (4, 0, 1, 0)


def test_names_are_made_legible() -> None:
    odd = told("a", "defect", "a\u202eda", 1, part_id="\udcff.png", kind="x\u200b", label="\x00", note="\n")
    row = labels_table([odd]).iloc[0]
    assert row[["part", "by", "kind", "label", "note"]].tolist() == [
        r"\udcff.png",
        r"a\u202eda",
        r"x\u200b",
        r"\x00",
        r"\n",
    ]


def test_the_history_tells_also_what_was_taken_back() -> None:
    gone = told("a", "good", "ada", 1, withdrawn_at="2026-11-23T07:00:00.000+00:00")
    table = history_table([gone, SAID[1]])
    assert table["taken back (UTC)"].tolist() == ["", "2026-11-23 07:00:00"]
