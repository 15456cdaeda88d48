"""Files to tables, and tables to the numbers that a density is fitted to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from differnet.records import DiffernetError

TABLE_KINDS = (".csv", ".parquet", ".npy")
# Columns that are named in an error; all are counted.
_NAMED = 8


class TableError(DiffernetError):
    """A table cannot be read, or its rows have no density."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table by what its name ends with.

    Args:
        path: A CSV with a header line, a Parquet file, or an NPY file of one ``(rows, columns)`` array,
            whose columns are named ``0``, ``1`` and so on.

    Returns:
        The table, at least one row, its columns named by text.

    Raises:
        TableError: The file is absent, of another kind, damaged, or without rows.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        raise TableError(
            expected=f"a table at {path}",
            found="a folder" if path.is_dir() else "nothing there",
            remedy="Name a file that ends in .csv, .parquet or .npy.",
        )
    if kind not in TABLE_KINDS:
        raise TableError(
            expected=f"a table that ends in {', '.join(TABLE_KINDS)}",
            found=path.name,
            remedy="Save it as one of these; a CSV separates by commas.",
        )
    try:
        table = _READERS[kind](path)
    except (ValueError, EOFError, OSError, pd.errors.ParserWarning) as error:
        # pandas and pyarrow raise kinds of ValueError and OSError for whatever is no such file.
        raise _unsound(path, kind, error) from error
    table.columns = pd.Index([str(name) for name in table.columns])
    if table.empty:
        raise TableError(
            expected=f"rows and columns in {path.name}",
            found=f"{len(table)} rows, {table.shape[1]} columns",
            remedy="Save the table again.",
        )
    return table


def read_npy(path: Path) -> NDArray[Any]:
    """Read the one array of an NPY file, whatever its name ends with; it can hold no code.

    Returns:
        ``(rows, columns)`` of whole or floating-point numbers, in the file's own type.

    Raises:
        TableError: The file is absent or damaged, an archive, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            # Not numpy.load, which would open an archive as well. Objects would be pickles.
            stored = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise _unsound(path, ".npy", error) from error
    if stored.ndim != 2 or stored.dtype.kind not in "fiu":
        raise TableError(
            expected="one array of numbers, (rows, columns)",
            found=f"{path.name} of shape {stored.shape} and type {stored.dtype}",
            remedy="Save a two-dimensional array of numbers.",
        )
    return np.asarray(stored)


def numbers(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the named columns as ``(rows, columns)`` finite numbers.

    Args:
        table: With these columns, and others.
        names: Of the columns, in order.

    Raises:
        TableError: A column is absent or twice there, is no column of numbers, or has gaps.
    """
    present = [str(name) for name in table.columns]
    if absent := [name for name in names if present.count(name) != 1]:
        raise TableError(
            expected=f"a column {absent[0]!r}, once",
            found=f"columns {_listed(present)}",
            remedy="Name columns of the table; letters are upper or lower case as there.",
        )
    places = [present.index(name) for name in names]
    words = [name for name, place in zip(names, places, strict=True) if not _is_number(table.iloc[:, place])]
    if words:
        kept = [name for name in names if name not in words]
        choose = (
            f"Name the columns of numbers: --columns {','.join(kept)}."
            if kept
            else "Turn words into numbers."
        )
        raise TableError(
            expected="columns of numbers",
            found=f"{_listed(words)} of other kinds, such as {table.iloc[0, present.index(words[0])]!r}",
            remedy=choose,
        )
    rows = table.iloc[:, places].to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(rows)
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        raise TableError(
            expected="a finite number in every cell",
            found=f"{int(bad.any(1).sum()):,} of {len(rows):,} rows with gaps or infinities, "
            f"the first in row {row + 1}, column {names[column]!r}",
            remedy="Leave these rows out, or fill them.",
        )
    return rows


def _unsound(path: Path, kind: str, error: Exception) -> TableError:
    return TableError(
        expected=f"a sound {kind} file",
        found=f"{path.name}: {next(iter(str(error).splitlines()), type(error).__name__)}",
        remedy="Save the table again.",
    )


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_integer_dtype(column.dtype) or pd.api.types.is_float_dtype(column.dtype)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED:,} more"


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Of rows longer than the header pandas would drop the rest; or, without index_col, take the first
        # column for names of rows.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(path, compression=None, index_col=False)
    if all(_reads_as_number(name) for name in table.columns):
        raise TableError(
            expected="a header line with the columns' names",
            found=f"{path.name} begins with the numbers {_listed([str(name) for name in table.columns])}",
            remedy="Add a header line: without it the first row would be lost.",
        )
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


def _read_npy(path: Path) -> pd.DataFrame:
    return pd.DataFrame(read_npy(path))


_READERS = {".csv": _read_csv, ".parquet": _read_parquet, ".npy": _read_npy}


def _reads_as_number(name: object) -> bool:
    try:
        float(str(name))
    except ValueError:
        return False
    return True
