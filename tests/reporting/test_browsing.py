"""What a person sees of a run, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from differnet.records import Record, Verdict
from differnet.reporting.browsing import (
    ORDERS,
    UNLABELLED,
    cross_table,
    evidence_table,
    histogram_table,
    label_names,
    markdown_safe,
    regions_table,
    select_records,
)
from differnet.reporting.counts import columns_of, histogram, recorded_counts
from differnet.reporting.run_folder import RunFolder

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]


def test_filters_keep_what_they_name(make_run: MakeRun) -> None:
    records = make_run(["good"] * 5 + ["scratch"] * 5 + [None, "unreadable"]).records
    assert len(select_records(records, (), (), "by file")) == 12
    kept = select_records(records, (Verdict.DEFECT,), ("scratch",), "by file")
    assert kept
    assert all(record.verdict is Verdict.DEFECT and record.label == "scratch" for record in kept)
    assert len(select_records(records, (), (UNLABELLED,), "by file")) == 2
    assert label_names(records) == ["good", "scratch", UNLABELLED]


@pytest.mark.parametrize("order", ["strangest first", "least strange first"])
def test_pictures_without_strangeness_come_last(make_run: MakeRun, order: str) -> None:
    records = make_run(["unreadable", "good", "scratch"]).records
    assert select_records(records, (), (), order)[-1].verdict is Verdict.INVALID


def test_orders_do_not_depend_on_the_order_before(make_run: MakeRun) -> None:
    records = make_run(["good"] * 9).records
    for order in ORDERS:
        assert select_records(records, (), (), order) == select_records(records[::-1], (), (), order)


def test_the_cross_table_adds_up(make_run: MakeRun) -> None:
    table = cross_table(recorded_counts(make_run(["good"] * 4 + ["dent", None]).records))
    assert list(table.index) == ["good", "defect", "unlabelled", "all"]
    assert table.loc["all", "all"] == 6


def test_the_histogram_table_holds_every_count(make_run: MakeRun) -> None:
    counted = histogram(columns_of(make_run(["good"] * 9 + ["dent"] * 2).records), 1.3, 2.0)
    table = histogram_table(counted)
    assert table["pictures"].sum() == 11
    assert (table["from"] < table["to"]).all()


def test_a_picture_without_figures_has_empty_tables(make_record: MakeRecord) -> None:
    record = make_record(1, Verdict.INVALID, t_review=None, t_defect=None)
    assert evidence_table(record).empty
    assert list(regions_table(record).columns) == ["x", "y", "width", "height", "area", "peak", "p_value"]


def test_markdown_in_names_is_disarmed() -> None:
    for mark in "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\":
        assert markdown_safe(f"a{mark}b") == f"a\\{mark}b"
