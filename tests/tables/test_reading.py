from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from differnet.tables import TableError, read_table
from differnet.tables.reading import numbers

TABLE = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [3, 1, 2], "word": ["x", "y", "z"]})


def write(folder: Path, kind: str) -> Path:
    path = folder / f"table{kind}"
    if kind == ".csv":
        TABLE.to_csv(path, index=False)
    elif kind == ".parquet":
        TABLE.to_parquet(path)
    else:
        np.save(path, TABLE[["a", "b"]].to_numpy())
    return path


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".npy"])
def test_the_same_numbers_come_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    read = read_table(write(tmp_path, kind))
    names = ["0", "1"] if kind == ".npy" else ["a", "b"]
    assert list(read.columns[:2]) == names
    assert numbers(read, names[::-1]).tolist() == [[3, 1], [1, 2], [2, 4]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.csv", None, "nothing there"),
        ("table.xlsx", b"x", "table.xlsx"),
        ("table.csv", b"", "No columns"),
        ("table.csv", b"a,b\n", "0 rows"),
        ("table.csv", b"1.5,2\n3,4\n", "begins with the numbers"),
        ("table.csv", b"a\n\xff\xfe\n", "table.csv"),
        ("table.csv", b"a,b\n1,2,3\n4,5,6\n", "Length of header"),
        ("table.csv", b"a,b\n1,2\n4,5,6\n", "line 3"),
        ("table.parquet", b"PAR1 no PAR1", "table.parquet"),
        ("table.npy", b"\x93NUMPY", "table.npy"),
    ],
)
def test_files_that_are_no_tables_are_refused(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError) as caught:
        read_table(tmp_path / name)
    assert said in caught.value.found


def test_an_array_of_objects_is_no_table(tmp_path: Path) -> None:
    # Objects lie in the file as a pickle, which could run code.
    np.save(tmp_path / "objects.npy", np.array([[{}], [{}]], dtype=object), allow_pickle=True)
    with pytest.raises(TableError, match=r"objects\.npy"):
        read_table(tmp_path / "objects.npy")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    with pytest.raises(TableError, match="shape"):
        read_table(tmp_path / "cube.npy")


def test_an_array_that_claims_more_rows_than_memory_holds_is_no_table(tmp_path: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**50, 2)}
    with (tmp_path / "claims.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(TableError, match=r"claims\.npy"):
        read_table(tmp_path / "claims.npy")


def test_what_is_not_a_finite_number_is_named() -> None:
    with pytest.raises(TableError) as caught:
        numbers(TABLE, ["a", "word"])
    assert "'word'" in caught.value.found
    assert "--columns a" in caught.value.remedy
    with pytest.raises(TableError, match="'c'"):
        numbers(TABLE, ["c"])
    for gap in (np.nan, np.inf):
        with pytest.raises(TableError, match="row 2, column 'b'"):
            numbers(TABLE.assign(b=[1.0, gap, 2.0]), ["a", "b"])
    with pytest.raises(TableError, match="row 3, column 'b'"):
        numbers(TABLE.assign(b=pd.array([1, 2, None], dtype="Int64")), ["a", "b"])
    with pytest.raises(TableError, match="other kinds"):
        numbers(TABLE.assign(b=[True, False, True]), ["b"])
