"""Density tables read from generated files of the published shape: what is dropped, added, split, refused."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.tables.published import (
    DENSITY_TABLES,
    DensityTable,
    DensityTableError,
    read_density_table,
    split_sizes,
)

Rows = NDArray[np.float64]
ROWS = 1000


def power_rows() -> Rows:
    """Eight columns recorded in the meter's steps, as in the published array."""
    generator = np.random.default_rng(1)
    steps = np.array([0.001, 0.001, 0.01, 0.1, 1, 1, 1, 1])
    rows: Rows = np.round(generator.uniform(0, 40, (ROWS, 8)) / steps) * steps
    return rows


def gas_rows() -> Rows:
    """Sixteen sensors that say nine things: pairs (0, 1), (2, 3) ... (12, 13) and (10, 15) agree.

    Sensor 14 is the opposite of sensor 0, which is no reason to drop either.
    """
    generator = np.random.default_rng(2)
    causes = generator.normal(size=(ROWS, 7))
    rows = np.repeat(causes, 2, axis=1) + 0.05 * generator.normal(size=(ROWS, 14))
    rows = np.column_stack([rows, -rows[:, 0], causes[:, 5]])
    return 100 + 7 * rows + 0.1 * generator.normal(size=rows.shape)


def hepmass_rows(seed: int, extra: int) -> Rows:
    """A label, 27 features of which six take few values, and ``extra`` columns at the end."""
    generator = np.random.default_rng(seed)
    label = (generator.random(ROWS) < 0.5).astype(float)
    rows = generator.normal(3, 2, (ROWS, 27))
    rows[:, [5, 9, 10, 14, 18, 22]] = generator.integers(0, 3, (ROWS, 6))
    return np.column_stack([label, rows, np.zeros((ROWS, extra))])


def write_csv(path: Path, rows: Rows) -> None:
    names = ["# label", *(f"f{i}" for i in range(rows.shape[1] - 1))]
    np.savetxt(path, rows, delimiter=",", header=",".join(names), comments="", fmt="%.8e")


def write_power(folder: Path) -> None:
    np.save(folder / "data.npy", power_rows())


def write_gas(folder: Path) -> None:
    np.save(folder / "ethylene_CO.npy", gas_rows())


def write_hepmass(folder: Path) -> None:
    write_csv(folder / "1000_train.csv", hepmass_rows(3, 0))
    write_csv(folder / "1000_test.csv", hepmass_rows(4, 1))


def miniboone_rows() -> Rows:
    return np.random.default_rng(5).gamma(2.0, 3.0, (ROWS, 43))


def write_miniboone(folder: Path) -> None:
    np.save(folder / "data.npy", miniboone_rows())


def bsds_splits() -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(6)
    sizes = {"train": 200, "validation": 20, "test": 50}
    return {name: generator.normal(size=(n, 63)).astype(np.float32) for name, n in sizes.items()}


def write_bsds300(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "BSDS300.hdf5", "w") as file:
        for name, rows in bsds_splits().items():
            file[name] = rows


WRITERS: dict[str, Callable[[Path], None]] = {
    "POWER": write_power,
    "GAS": write_gas,
    "HEPMASS": write_hepmass,
    "MINIBOONE": write_miniboone,
    "BSDS300": write_bsds300,
}


def read(name: str, folder: Path) -> DensityTable:
    WRITERS[name](folder)
    return read_density_table(name, folder)


def refused(name: str, folder: Path, match: str) -> DensityTableError:
    with pytest.raises(DensityTableError, match=match) as caught:
        read_density_table(name, folder)
    return caught.value


def test_every_table_has_a_writer() -> None:
    assert list(WRITERS) == list(DENSITY_TABLES)


@pytest.mark.parametrize("name", WRITERS)
def test_splits_are_read_only_float32_of_one_width(name: str, tmp_path: Path) -> None:
    table = read(name, tmp_path)
    assert table.name == name
    for split in (table.train, table.held_out, table.test):
        assert split.dtype == np.float32
        assert split.shape == (len(split), table.features)
        assert np.isfinite(split).all()
        with pytest.raises(ValueError, match="read-only"):
            split[0, 0] = 0
    assert table.shift.shape == table.scale.shape == (table.features,)
    with pytest.raises(ValueError, match="read-only"):
        table.scale[0] = 2


@pytest.mark.parametrize("name", WRITERS)
def test_reading_twice_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    first, second = read(name, tmp_path), read_density_table(name.lower(), tmp_path)
    for one, two in zip(
        (first.train, first.held_out, first.test), (second.train, second.held_out, second.test), strict=True
    ):
        assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        (2_049_280, (1_659_917, 184_435, 204_928)),
        (1_052_065, (852_174, 94_685, 105_206)),
        (36_488, (29_556, 3_284, 3_648)),
    ],
)
def test_split_sizes_are_those_of_the_paper(rows: int, sizes: tuple[int, int, int]) -> None:
    """Table of sizes in the supplement: POWER, GAS, MINIBOONE."""
    assert split_sizes(rows) == sizes


def test_power_drops_two_columns_and_adds_noise_within_the_steps(tmp_path: Path) -> None:
    table = read("POWER", tmp_path)
    assert table.columns == (0, 2, 4, 5, 6, 7)
    assert (len(table.train), len(table.held_out), len(table.test)) == (810, 90, 100)
    rows = np.concatenate([table.train, table.held_out, table.test]) * table.scale + table.shift
    # The published order of rows: numpy's legacy generator, seed 42, shuffling whole rows.
    order = np.random.RandomState(42).permutation(ROWS)
    noise = rows - power_rows()[order][:, table.columns]
    # Float32 leaves 4e-6 of values up to 40.
    rounding = 1e-5
    for column, step in enumerate((0.001, 0.01, 1.0, 1.0, 1.0, 0.0)):
        assert noise[:, column].min() >= -rounding
        assert noise[:, column].max() <= step + rounding
        # Uniform on [0, step]: mean step / 2, standard error step / sqrt(12 n).
        assert abs(noise[:, column].mean() - step / 2) <= 4 * step / (12 * ROWS) ** 0.5 + rounding


def test_power_noise_is_the_authors_stream(tmp_path: Path) -> None:
    """Voltage draws first, then active power, then the sub-meters row by row."""
    table = read("POWER", tmp_path)
    generator = np.random.RandomState(42)
    order = generator.permutation(ROWS)
    voltage, power, meters = generator.rand(ROWS), generator.rand(ROWS), generator.rand(ROWS, 3)
    wanted = power_rows()[order][:, [0, 2, 4, 5, 6, 7]]
    wanted += np.column_stack([0.001 * power, 0.01 * voltage, meters, np.zeros(ROWS)])
    seen = wanted[:900]
    wanted = (wanted - seen.mean(0)) / seen.std(0)
    assert np.allclose(np.concatenate([table.train, table.held_out, table.test]), wanted, atol=1e-6)


def test_gas_keeps_one_of_columns_that_agree(tmp_path: Path) -> None:
    table = read("GAS", tmp_path)
    # Of each pair the first goes; of (10, 11, 15) the first two; 14 mirrors 0 and stays.
    assert table.columns == (1, 3, 5, 7, 9, 13, 14, 15)
    correlation = np.corrcoef(np.concatenate([table.train, table.held_out, table.test]).T)
    assert (correlation - np.eye(8) <= 0.98).all()
    assert correlation[0, 6] < -0.98


def test_gas_is_standardised_by_all_rows_with_n_minus_one(tmp_path: Path) -> None:
    table = read("GAS", tmp_path)
    rows = gas_rows()[:, table.columns]
    wanted = (rows - rows.mean(0)) / rows.std(0, ddof=1)
    assert np.allclose(np.concatenate([table.train, table.held_out, table.test]), wanted, atol=1e-6)
    assert np.allclose(table.scale, rows.std(0, ddof=1), rtol=1e-12)


def test_gas_reads_a_quarter_of_the_original_text(tmp_path: Path) -> None:
    rows = gas_rows()
    stamped = np.column_stack([np.arange(ROWS) / 100, np.zeros((ROWS, 2)), rows])
    header = "Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)"
    np.savetxt(tmp_path / "ethylene_CO.txt", stamped, header=header, comments="", fmt="%.10g")
    table = read_density_table("GAS", tmp_path)
    found = np.concatenate([table.train, table.held_out, table.test]) * table.scale + table.shift
    assert len(found) == ROWS // 4
    # Each row found is one of the original's, each once, and not in the original's order.
    nearest = np.abs(found[:, None, 0] - rows[None, :, table.columns[0]]).argmin(1)
    assert np.allclose(found, rows[nearest][:, table.columns], atol=1e-4)
    assert len(set(nearest.tolist())) == len(found)
    assert np.any(np.diff(nearest) < 0)


def test_gas_never_loads_a_pickle(tmp_path: Path) -> None:
    with (tmp_path / "ethylene_CO.pickle").open("wb") as file:
        pickle.dump(_Trap(tmp_path / "sprung"), file)
    error = refused("GAS", tmp_path, "only ethylene_CO.pickle")
    assert "read_pickle" in error.remedy
    assert not (tmp_path / "sprung").exists()


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_arrays_of_objects_are_refused_unopened(tmp_path: Path) -> None:
    trapped = np.array([[_Trap(tmp_path / "sprung")] * 43], dtype=object)
    np.save(tmp_path / "data.npy", trapped, allow_pickle=True)
    refused("MINIBOONE", tmp_path, "as published")
    assert not (tmp_path / "sprung").exists()


def test_hepmass_keeps_signal_and_continuous_columns(tmp_path: Path) -> None:
    table = read("HEPMASS", tmp_path)
    assert table.columns == tuple(i for i in range(27) if i not in (5, 9, 10, 14, 18, 22))
    train, test = hepmass_rows(3, 0), hepmass_rows(4, 1)
    train, test = train[train[:, 0] == 1, 1:28], test[test[:, 0] == 1, 1:28]
    assert len(table.held_out) == len(train) // 10
    assert len(table.train) + len(table.held_out) == len(train)
    columns = list(table.columns)
    shift, scale = train[:, columns].mean(0), train[:, columns].std(0, ddof=1)
    # The files hold nine digits; float32 seven.
    found = np.concatenate([table.train, table.held_out])
    assert np.allclose(found, (train[:, columns] - shift) / scale, atol=1e-6)
    assert np.allclose(table.test, (test[:, columns] - shift) / scale, atol=1e-6)


def test_hepmass_counts_the_smallest_value(tmp_path: Path) -> None:
    """Five repetitions of a column's smallest value are let pass, six drop it: here one column too many."""
    for repeats, dropped in ((5, False), (6, True)):
        rows = hepmass_rows(3, 0)
        signal = np.flatnonzero(rows[:, 0] == 1)
        rows[signal[:repeats], 1] = -50.0
        write_csv(tmp_path / "1000_train.csv", rows)
        write_csv(tmp_path / "1000_test.csv", hepmass_rows(4, 1))
        if dropped:
            refused("HEPMASS", tmp_path, "expected 21 features .* found 20")
        else:
            assert 0 in read_density_table("HEPMASS", tmp_path).columns


def test_miniboone_is_standardised_by_training_and_held_out_rows(tmp_path: Path) -> None:
    table = read("MINIBOONE", tmp_path)
    rows = miniboone_rows()
    seen = rows[:900]
    assert (len(table.train), len(table.held_out), len(table.test)) == (810, 90, 100)
    wanted = (rows - seen.mean(0)) / seen.std(0)
    assert np.allclose(np.concatenate([table.train, table.held_out, table.test]), wanted, atol=1e-5)
    # Not by all rows: their mean is another.
    assert float(np.abs(wanted.mean(0)).max()) > 1e-3


def test_bsds300_is_taken_as_it_is(tmp_path: Path) -> None:
    table = read("BSDS300", tmp_path)
    splits = bsds_splits()
    assert np.array_equal(table.train, splits["train"])
    assert np.array_equal(table.held_out, splits["validation"])
    assert np.array_equal(table.test, splits["test"])
    assert np.array_equal(table.scale, np.ones(63))


def test_bsds300_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "differnet[tables]" in refused("BSDS300", tmp_path, "h5py").remedy


def test_bsds300_refuses_what_is_not_a_plain_table(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "BSDS300.hdf5"
    (tmp_path / "elsewhere").mkdir()
    write_bsds300(tmp_path / "elsewhere")
    with h5py.File(path, "w") as file:
        file["train"] = h5py.ExternalLink(str(tmp_path / "elsewhere" / "BSDS300.hdf5"), "train")
    refused("BSDS300", tmp_path, "no plain table named train")
    with h5py.File(path, "w") as file:
        file["train"] = np.zeros((5, 64))
    refused("BSDS300", tmp_path, r"shape \(5, 64\)")
    with h5py.File(path, "w") as file:
        file["train"] = np.full((5, 63), np.nan)
    refused("BSDS300", tmp_path, "5 rows with numbers that are not finite")
    write_bsds300(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    refused("BSDS300", tmp_path, "as published")


@pytest.mark.parametrize("name", ["POWER", "GAS", "HEPMASS", "MINIBOONE", "BSDS300"])
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    if name == "BSDS300":
        pytest.importorskip("h5py")
    wanted = {"GAS": "ethylene_CO", "HEPMASS": "1000_train.csv", "BSDS300": "BSDS300.hdf5"}
    assert wanted.get(name, "data.npy") in str(refused(name, tmp_path, "expected"))


def test_unknown_tables_are_refused(tmp_path: Path) -> None:
    assert "MINIBOONE" in refused("mnist", tmp_path, "'mnist'").expected


@pytest.mark.parametrize("name", ["POWER", "MINIBOONE", "GAS"])
@pytest.mark.parametrize("damage", ["truncated", "narrow", "nan", "infinite", "flat", "text", "short", "zip"])
def test_damaged_arrays_are_refused(name: str, damage: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    path = next(tmp_path.glob("*.npy"))
    rows = np.load(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "zip":
        with path.open("wb") as file:
            np.savez(file, rows)
    else:
        changed = rows.copy()
        changed[3, 2] = {"nan": np.nan, "infinite": np.inf}.get(damage, changed[3, 2])
        spoilt = {
            "narrow": changed[:, :-1],
            "flat": changed.ravel(),
            "text": changed.astype(str),
            "short": changed[:9],
        }.get(damage, changed)
        np.save(path, spoilt)
    refused(name, tmp_path, "at least 11 rows" if damage == "short" else "as published")


def test_constant_columns_are_refused(tmp_path: Path) -> None:
    rows = miniboone_rows()
    rows[:, 7] = 4.0
    np.save(tmp_path / "data.npy", rows)
    refused("MINIBOONE", tmp_path, "the first at place 7")


def test_gas_of_other_sensors_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "ethylene_CO.npy", np.random.default_rng(0).normal(size=(ROWS, 16)))
    refused("GAS", tmp_path, "expected 8 features .* found 16")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        ("cut", "as published"),
        ("word", "as published"),
        ("nan", "1 rows with numbers"),
        ("label", "labels"),
        ("empty", "no rows"),
        ("noise", "rows of signal"),
    ],
)
def test_damaged_text_is_refused(damage: str, match: str, tmp_path: Path) -> None:
    write_hepmass(tmp_path)
    path = tmp_path / "1000_train.csv"
    lines = path.read_text("utf-8").splitlines()
    header, first = lines[0], lines[1].split(",")
    spoilt = {
        "cut": [*lines[:-1], lines[-1][:100]],
        "word": [*lines[:-1], ",".join([*first[:-1], "none"])],
        "nan": [*lines[:-1], ",".join([*first[:-1], "nan"])],
        "label": [*lines[:-1], ",".join(["2", *first[1:]])],
        "empty": [header],
        "noise": [header, *(",".join(["0", *first[1:]]) for _ in range(20))],
    }[damage]
    path.write_text("\n".join(spoilt) + "\n", "utf-8")
    refused("HEPMASS", tmp_path, match)


def test_hepmass_files_must_belong_together(tmp_path: Path) -> None:
    write_hepmass(tmp_path)
    write_csv(tmp_path / "1000_test.csv", hepmass_rows(4, 3))
    refused("HEPMASS", tmp_path, "28 and 31 columns")
