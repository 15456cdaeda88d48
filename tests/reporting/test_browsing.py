"""What a person sees of a run, and in which order."""

from __future__ import annotations

from collections.abc import Callable

from differnet.records import Record, Verdict
from differnet.reporting.browsing import (
    evidence_table,
    histogram_table,
    markdown_safe,
    regions_table,
)
from differnet.reporting.counts import columns_of, histogram
from differnet.reporting.run_folder import RunFolder

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]


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
