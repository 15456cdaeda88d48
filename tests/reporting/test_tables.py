"""Tables carry every record, and no cell of them is a formula."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from differnet.records import Record, Region, Verdict
from differnet.reporting.run_folder import RunFolder
from differnet.reporting.tables import ExportError, export_run, legible, records_table, write_csv
from differnet.strict_json import from_json

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\N{FULLWIDTH EQUALS SIGN}1",
    '=HYPERLINK("x")',
]


def test_one_row_a_record_and_one_column_a_field(make_run: MakeRun) -> None:
    run = make_run(["good", "scratch", "unreadable"])
    table = records_table(run.records)
    assert list(table.columns) == [*(field.name for field in dataclasses.fields(Record)), "region_count"]
    assert table["verdict"].tolist() == [record.verdict.value for record in run.records]
    assert table["strangeness"].dtype == np.float64
    assert np.isnan(table["strangeness"].iloc[2])


def test_no_record_makes_an_empty_table_of_the_same_form(make_run: MakeRun) -> None:
    empty, full = records_table([]), records_table(make_run(["good"]).records)
    assert list(empty.columns) == list(full.columns)
    assert empty["strangeness"].dtype == full["strangeness"].dtype


def test_regions_are_readable_in_one_cell(make_record: MakeRecord) -> None:
    table = records_table([make_record(1, Verdict.DEFECT, regions=(Region(1, 2, 3, 4, 5, 6.5, 0.01),))])
    assert json.loads(table["regions"].iloc[0])[0]["peak"] == 6.5
    assert table["region_count"].iloc[0] == 1


@pytest.mark.parametrize("payload", FORMULAS)
def test_no_cell_is_a_formula(make_record: MakeRecord, tmp_path: Path, payload: str) -> None:
    record = make_record(1, Verdict.PASS, path=payload, label=payload, reasons=(payload,), strangeness=-1.5)
    write_csv(records_table([record]).rename(columns={"view_id": payload}), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    starts = ("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}")
    cells = [cell for row in rows for cell in row if cell.lstrip(" ").startswith(starts)]
    assert cells == ["-1.5"]


def test_formulas_in_raw_tables_are_escaped_too(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"a": FORMULAS}), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as stream:
        assert [row[0] for row in csv.reader(stream)][1:] == [f"'{payload}" for payload in FORMULAS]


def test_names_without_encoding_or_with_turned_direction_become_legible(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    name = b"p\xff".decode("utf-8", "surrogateescape") + "\u202egnp\0"
    assert legible(name).isprintable()
    write_csv(records_table([make_record(1, Verdict.PASS, path=name)]), tmp_path / "a.csv")
    assert "\\udcff\\u202egnp\\x00" in (tmp_path / "a.csv").read_text("utf-8")


def test_every_format_carries_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(["good", "scratch", None])
    table, columnar, lines = export_run(run, tmp_path / "out", ("csv", "parquet", "jsonl"))
    assert pd.read_csv(table)["item_id"].tolist() == [record.item_id for record in run.records]
    assert pd.read_parquet(columnar)["strangeness"].tolist() == [record.strangeness for record in run.records]
    assert [from_json(Record, line) for line in lines.read_bytes().splitlines()] == list(run.records)


def test_an_unknown_format_is_refused_before_anything_is_written(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="xlsx"):
        export_run(make_run(["good"]), tmp_path / "out", ("csv", "xlsx"))
    assert not (tmp_path / "out").exists()
