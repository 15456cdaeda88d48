"""Records as tables, for spreadsheets and notebooks."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from differnet.records import DiffernetError, Record
from differnet.reporting.artefacts import make_folder, write_atomically
from differnet.reporting.run import Run
from differnet.strict_json import to_json

EXPORT_FORMATS = ("csv", "parquet", "jsonl")

_FULLWIDTH_SIGNS = (
    "\N{FULLWIDTH EQUALS SIGN}",
    "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}",
    "\N{FULLWIDTH COMMERCIAL AT}",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", *_FULLWIDTH_SIGNS)
_PARTED_FORMULA = re.compile(rf"(;|(?<=.)\t)(?=[\s\"']*[{re.escape(''.join(_FORMULA_STARTS))}])")
_LISTS = {"reasons", "quality_flags"}


class ExportError(DiffernetError):
    """Raised when an export is asked for in a form that does not exist."""


def legible(text: str) -> str:
    r"""Make a name safe to show: what cannot be seen or encoded becomes its escape.

    File names may hold bytes that are no text, control characters, and marks that turn the
    reading direction, which let one name pose as another.

    Args:
        text: Anything that came from outside.

    Returns:
        Text that encodes to UTF-8 and shows every character that it holds.

    Example:
        >>> legible("part\u202egnp.exe")
        'part\\u202egnp.exe'
        >>> legible("Gehäuse 7.png")
        'Gehäuse 7.png'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def unbroken(text: str) -> str:
    r"""Keep a figure and its ``%`` on one line.

    Example:
        >>> unbroken("95 % of 20")
        '95\xa0% of 20'
    """
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)


def records_table(records: Iterable[Record]) -> pd.DataFrame:
    """Flatten records into one row each. The one place that does so.

    Args:
        records: Any number of records, none included.

    Returns:
        One column a field; figures that are absent are NaN, absent words ``None``; ``reasons`` and
        ``quality_flags`` joined by a bar, ``regions`` as JSON, and their number in ``region_count``.
    """
    columns = [field.name for field in fields(Record)]
    rows = [_row(record) for record in records]
    table = pd.DataFrame(rows, columns=[*columns, "region_count"])
    numeric = [field.name for field in fields(Record) if "float" in str(field.type)]
    whole = [field.name for field in fields(Record) if str(field.type) == "int"] + ["region_count"]
    return table.astype(dict.fromkeys(numeric, "float64") | dict.fromkeys(whole, "int64"))


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV that no spreadsheet takes for formulas.

    Args:
        table: Any table. Cells of text that begin with ``= + - @``, tab or line end get a leading apostrophe,
            and so does what follows a semicolon or tab within a cell; numbers stay numbers.
    """
    safe = table.map(_no_formula).rename(columns=_no_formula)
    # All text is quoted: a bare carriage return in a cell would begin a row, and that a formula.
    return str(safe.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as `csv_text`.

    Args:
        table: Any table.
        path: File to make or replace.
    """
    write_atomically(path, csv_text(table).encode("utf-8"))


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet.

    Args:
        table: Any table.
        path: File to make or replace.
    """
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())


def write_jsonl(records: Iterable[Record], path: Path) -> None:
    """Write records one a line, exactly as a run's folder keeps them.

    Args:
        records: Any number of records.
        path: File to make or replace.
    """
    write_atomically(path, "".join(f"{to_json(record)}\n" for record in records).encode("ascii"))


def export_run(run: Run, out: Path, formats: Sequence[str] = ("csv",)) -> list[Path]:
    """Write a run's records into a folder, in each of the formats.

    Args:
        run: The run.
        out: Folder for the files; made when absent.
        formats: Of ``csv``, ``parquet``, ``jsonl``.

    Returns:
        The files ``records.FORMAT``, in the order of ``formats``.

    Raises:
        ExportError: A format is not known.
        RunError: The disk refused.
    """
    if unknown := [name for name in formats if name not in EXPORT_FORMATS]:
        raise ExportError(
            expected=f"formats of {', '.join(EXPORT_FORMATS)}",
            found=", ".join(unknown),
            remedy="Name one of these.",
        )
    make_folder(out)
    paths = [out / f"records.{name}" for name in formats]
    for path, name in zip(paths, formats, strict=True):
        if name == "csv":
            write_csv(records_table(run.records), path)
        elif name == "parquet":
            write_parquet(records_table(run.records), path)
        else:
            write_jsonl(run.records, path)
    return paths


def _row(record: Record) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    row["verdict"] = record.verdict.value
    for name in _LISTS:
        row[name] = " | ".join(row[name])
    row["regions"] = json.dumps([asdict(region) for region in record.regions])
    row["region_count"] = len(record.regions)
    return {name: legible(value) if isinstance(value, str) else value for name, value in row.items()}


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # Where lists are parted by semicolons, a spreadsheet begins a cell at each, whatever is quoted.
    parted = _PARTED_FORMULA.sub(r"\1'", cell)
    return f"'{parted}" if parted.lstrip(" ").startswith(_FORMULA_STARTS) else parted
