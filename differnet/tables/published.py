"""The five tables that density estimators are compared on, prepared as Papamakarios et al. 2017 did.

Nothing is downloaded. The published files are at zenodo.org/records/1161203 and, as originals, in
the UCI repository; `read_density_table` reads them from a folder and prepares them:

| table | file | preparation | features |
|---|---|---|---|
| POWER | ``data.npy`` | shuffled; columns 1 and 3 dropped; uniform noise within the meter's steps | 6 |
| GAS | ``ethylene_CO.npy`` or ``.txt`` | of columns correlated above 0.98 one is kept | 8 |
| HEPMASS | ``1000_train.csv``, ``1000_test.csv`` | signal only; columns with recurring values dropped | 21 |
| MINIBOONE | ``data.npy`` | published with outliers and recurring values already taken out | 43 |
| BSDS300 | ``BSDS300.hdf5`` | published split and scaled; nothing is changed | 63 |

Figures are comparable with published ones only if the preparation is the same to the row. So this
module follows the authors' program where one would choose otherwise: GAS is standardised by all its
rows, the test rows included, and every other table but BSDS300 by training and held-out rows together.

The published ``ethylene_CO.pickle`` is not read: loading a pickle runs whatever code it holds. The
error that a folder with nothing else gives says how to turn it into ``ethylene_CO.npy`` once.

Source: Papamakarios, Pavlakou, Murray 2017, "Masked Autoregressive Flow for Density Estimation",
supplement D, and the authors' program for what the text leaves open.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from differnet.records import DiffernetError
from differnet.tables.reading import TableError, read_npy

Rows = NDArray[np.float64]

# Of the authors' program: it decides the published splits of POWER and the noise on them.
_SEED = 42

# The largest noise on each column of POWER, in its unit: one step of the meter. Active power and
# voltage are recorded to 0.001 kW and 0.01 V, the three sub-meters to 1 Wh; the time gets none.
_POWER_STEPS = np.array([0.001, 0.01, 1.0, 1.0, 1.0, 0.0])

# Two columns of GAS correlated above this say the same thing (the paper's figure).
_SAME = 0.98

# A column of HEPMASS whose smallest value stands in more rows than this is dropped (the program's figure).
_RECURRENCES = 5

_TO_NPY = (
    "python -c \"import numpy, pandas; t = pandas.read_pickle('ethylene_CO.pickle'); "
    "numpy.save('ethylene_CO.npy', t.drop(columns=['Time', 'Meth', 'Eth']).to_numpy())\""
)


class DensityTableError(DiffernetError):
    """A table's files are missing, incomplete, or not what was published."""


@dataclass(frozen=True, eq=False)
class DensityTable:
    """A table split in three and standardised: ``row = (original - shift) / scale``.

    Attributes:
        name: As in `DENSITY_TABLES`.
        train: ``(n, features)``, float32, read-only, as are the next two.
        held_out: Rows to stop training by.
        test: Rows to report.
        columns: Which columns of the file the features are, counted from 0 and without the label.
        shift: ``(features,)``, float64, read-only.
        scale: ``(features,)``, float64, read-only. A log-density of original rows is that of these
            rows less ``sum log scale``.
    """

    name: str
    train: NDArray[np.float32]
    held_out: NDArray[np.float32]
    test: NDArray[np.float32]
    columns: tuple[int, ...]
    shift: Rows
    scale: Rows

    @property
    def features(self) -> int:
        """Width of the rows."""
        return len(self.columns)


def read_density_table(name: str, folder: str | Path) -> DensityTable:
    """Read one of the five tables from its published files and prepare it as the paper did.

    Args:
        name: One of `DENSITY_TABLES`; upper or lower case.
        folder: Where the files of this table are.

    Returns:
        The three splits, standardised.

    Raises:
        DensityTableError: Another name, a missing or damaged file, columns that are not those
            published, numbers that are not finite, too few rows, or h5py is absent.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from differnet.tables.published import read_density_table
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "data.npy", np.random.default_rng(0).normal(5, 3, (200, 43)))
        ...     table = read_density_table("miniboone", folder)
        >>> len(table.train), len(table.held_out), len(table.test), table.features
        (162, 18, 20, 43)
    """
    reader = DENSITY_TABLES.get(name.upper())
    if reader is None:
        raise DensityTableError(
            expected=f"one of {', '.join(DENSITY_TABLES)}",
            found=repr(name),
            remedy="These are the tables whose preparation is known.",
        )
    return reader(Path(folder))


def split_sizes(rows: int) -> tuple[int, int, int]:
    """Return how many rows train, hold out and test: a tenth tests, a tenth of the rest is held out.

    Raises:
        DensityTableError: Too few rows to leave any in each.

    Example:
        >>> from differnet.tables.published import split_sizes
        >>> split_sizes(2_049_280)  # POWER, as in the paper's table of sizes
        (1659917, 184435, 204928)
    """
    test = rows // 10
    held_out = (rows - test) // 10
    if held_out < 1:
        raise DensityTableError(
            expected="at least 11 rows", found=f"{rows}", remedy="Give the whole published file."
        )
    return rows - test - held_out, held_out, test


def _read_power(folder: Path) -> DensityTable:
    rows = _read_array(folder / "data.npy", 8)
    # The authors' stream of random numbers, in its order: rows, voltage, power, sub-meters.
    generator = np.random.RandomState(_SEED)
    generator.shuffle(rows)
    columns = (0, 2, 4, 5, 6, 7)
    rows = rows[:, columns]
    unit = np.zeros_like(rows)
    for place in ([1], [0], [2, 3, 4]):
        unit[:, place] = generator.random_sample((len(rows), len(place)))
    rows += _POWER_STEPS * unit
    return _standardised_before_test("POWER", rows, columns)


def _read_gas(folder: Path) -> DensityTable:
    array, text = folder / "ethylene_CO.npy", folder / "ethylene_CO.txt"
    if array.is_file():
        rows = _read_array(array, 16)
    elif text.is_file():
        rows = _read_text(text, delimiter=None, columns=range(3, 19))
        # The published pickle holds 1,052,065 rows: a quarter of the original's, drawn without a seed.
        # This quarter is another one, so that figures differ from published ones by the draw.
        order = np.random.RandomState(_SEED).permutation(len(rows))
        rows = rows[order[: round(len(rows) / 4)]]
    else:
        pickled = (folder / "ethylene_CO.pickle").is_file()
        raise DensityTableError(
            expected="ethylene_CO.npy or UCI's ethylene_CO.txt",
            found=f"{'only ethylene_CO.pickle' if pickled else 'neither'} in {folder}",
            remedy="A pickle can run code and is never loaded here. If you trust it, convert it once, in "
            f"that folder: {_TO_NPY}",
        )
    train, held_out, _ = split_sizes(len(rows))
    shift, scale = _moments("GAS", rows, freedom=1)
    columns = list(range(rows.shape[1]))
    same = np.asarray(np.corrcoef(rows.T)) > _SAME
    while True:
        # Every column is the same as itself.
        doubled = np.flatnonzero(same[np.ix_(columns, columns)].sum(1) > 1)
        if not len(doubled):
            break
        del columns[int(doubled[0])]
    rows, shift, scale = (rows[:, columns] - shift[columns]) / scale[columns], shift[columns], scale[columns]
    parts = (rows[:train], rows[train : train + held_out], rows[train + held_out :])
    return _finished("GAS", parts, columns, shift, scale)


def _read_hepmass(folder: Path) -> DensityTable:
    paths = (folder / "1000_train.csv", folder / "1000_test.csv")
    names = [_header(path) for path in paths]
    # The published test file has one column more than the training file, at the end.
    if len(names[0]) < 2 or len(names[1]) - len(names[0]) not in (0, 1):
        raise DensityTableError(
            expected="a label and the same features in both files, the test file's one column more at most",
            found=f"{len(names[0])} and {len(names[1])} columns",
            remedy="Unpack 1000_train.csv and 1000_test.csv again.",
        )
    used = range(len(names[0]))
    train, test = (_signal(_read_text(path, delimiter=",", columns=used), path) for path in paths)
    count, held_out = len(train) - len(train) // 10, len(train) // 10
    if held_out < 1 or not len(test):
        raise DensityTableError(
            expected="at least 10 rows of signal to train with and one to test",
            found=f"{len(train)} and {len(test)}",
            remedy="Give the whole published files.",
        )
    # The paper drops columns in which values recur too often. The authors' program counts how often a
    # column's smallest value stands in it, not its most frequent one.
    recurring = (train == train.min(0)).sum(0) > _RECURRENCES
    columns = [int(i) for i in np.flatnonzero(~recurring)]
    train, test = train[:, columns], test[:, columns]
    shift, scale = _moments("HEPMASS", train, freedom=1)
    train, test = (train - shift) / scale, (test - shift) / scale
    return _finished("HEPMASS", (train[:count], train[count:], test), columns, shift, scale)


def _read_miniboone(folder: Path) -> DensityTable:
    rows = _read_array(folder / "data.npy", 43)
    return _standardised_before_test("MINIBOONE", rows, range(43))


def _read_bsds300(folder: Path) -> DensityTable:
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError:
        raise DensityTableError(
            expected="h5py, which reads BSDS300.hdf5",
            found="no such package",
            remedy="Install it: pip install 'differnet[tables]'.",
        ) from None
    path = folder / "BSDS300.hdf5"
    _present(path)
    parts = []
    try:
        with h5py.File(path, "r") as file:
            for split in ("train", "validation", "test"):
                # A link or an external block could name any file of this machine.
                link = file.get(split, getlink=True)
                stored = file[split] if isinstance(link, h5py.HardLink) else None
                if not isinstance(stored, h5py.Dataset) or stored.is_virtual or stored.external:
                    raise _damaged(path, f"no plain table named {split}")
                if stored.ndim != 2 or stored.shape[1] != 63 or stored.dtype.kind != "f" or not len(stored):
                    raise _damaged(path, f"{split} of shape {stored.shape} and type {stored.dtype}")
                parts.append(_finite(stored[:], path))
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise _damaged(path, str(error)) from error
    return _finished("BSDS300", parts, range(63), np.zeros(63), np.ones(63))


# Readers by name. Each gives the number of features that `_FEATURES` states.
DENSITY_TABLES: dict[str, Callable[[Path], DensityTable]] = {
    "POWER": _read_power,
    "GAS": _read_gas,
    "HEPMASS": _read_hepmass,
    "MINIBOONE": _read_miniboone,
    "BSDS300": _read_bsds300,
}

# The dimensions of the paper's table of sizes.
_FEATURES = {"POWER": 6, "GAS": 8, "HEPMASS": 21, "MINIBOONE": 43, "BSDS300": 63}


def _standardised_before_test(name: str, rows: Rows, columns: Sequence[int]) -> DensityTable:
    """Split off the test and held-out rows at the end; standardise by all rows but the test's."""
    train, held_out, _ = split_sizes(len(rows))
    seen = train + held_out
    shift, scale = _moments(name, rows[:seen], freedom=0)
    rows = (rows - shift) / scale
    return _finished(name, (rows[:train], rows[train:seen], rows[seen:]), columns, shift, scale)


def _moments(name: str, rows: Rows, *, freedom: int) -> tuple[Rows, Rows]:
    """Return mean and deviation of each column, the latter with ``n - freedom`` in its denominator."""
    shift, scale = rows.mean(0), rows.std(0, ddof=freedom)
    constant = np.flatnonzero(np.ptp(rows, axis=0) == 0)
    if len(constant):
        raise DensityTableError(
            expected=f"columns of {name} that vary",
            found=f"{len(constant)} that do not, the first at place {constant[0]}",
            remedy="A constant column has no density. Give the published file.",
        )
    return shift, scale


def _finished(
    name: str, parts: Sequence[Rows], columns: Sequence[int], shift: Rows, scale: Rows
) -> DensityTable:
    if len(columns) != _FEATURES[name]:
        raise DensityTableError(
            expected=f"{_FEATURES[name]} features of {name} after preparation",
            found=f"{len(columns)}",
            remedy="The file is not the published one, or it is cut short.",
        )
    train, held_out, test = (np.array(part, dtype=np.float32) for part in parts)
    for split in (train, held_out, test):
        split.flags.writeable = False
    for statistic in (shift, scale):
        statistic.flags.writeable = False
    return DensityTable(name, train, held_out, test, tuple(columns), shift, scale)


def _read_array(path: Path, width: int) -> Rows:
    """Return the file's numbers as a fresh float64 array, ``(n, width)``."""
    _present(path)
    try:
        stored = read_npy(path)
    except TableError as error:
        raise _damaged(path, error.found) from error
    if stored.shape[1] != width:
        raise _damaged(path, f"shape {stored.shape}, not (rows, {width})")
    return np.array(_finite(stored, path), dtype=np.float64)


def _read_text(path: Path, *, delimiter: str | None, columns: range) -> Rows:
    """Return the chosen columns below the header line, ``(n, len(columns))``."""
    _present(path)
    try:
        with path.open(encoding="utf-8") as file:
            next(file, None)
            first = next(file, "")
            if not first.strip():
                raise _damaged(path, "no rows")
            lines = itertools.chain([first], file)
            rows = np.loadtxt(lines, delimiter=delimiter, usecols=list(columns), ndmin=2, comments=None)
    except (OSError, ValueError, IndexError) as error:
        raise _damaged(path, str(error)) from error
    return _finite(rows, path)


def _header(path: Path) -> list[str]:
    _present(path)
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().strip().split(",")
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _signal(rows: Rows, path: Path) -> Rows:
    """Return the rows labelled 1, without the label."""
    label = rows[:, 0]
    if not np.isin(label, (0, 1)).all():
        raise _damaged(path, "labels in the first column other than 0 and 1")
    return rows[label == 1, 1:]


def _finite(rows: NDArray[Any], path: Path) -> NDArray[Any]:
    bad = int((~np.isfinite(rows)).any(1).sum())
    if bad:
        raise _damaged(path, f"{bad} rows with numbers that are not finite")
    return rows


def _present(path: Path) -> None:
    if not path.is_file():
        raise DensityTableError(
            expected=f"the file {path.name}",
            found=f"nothing of that name in {path.parent}",
            remedy="Unpack the published files (zenodo.org/records/1161203) and name the table's own folder.",
        )


def _damaged(path: Path, what: str) -> DensityTableError:
    return DensityTableError(
        expected=f"{path.name} as published",
        found=what,
        remedy="Download the file again and compare its size.",
    )
