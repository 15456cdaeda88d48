from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from differnet.tables import (
    FAMILIES,
    Column,
    Estimate,
    FitFigures,
    FlowChoice,
    TableDensity,
    TableError,
    fit_table,
)
from differnet.tables.density import few_values

QUICK = FlowChoice("real_nvp", layers=2, hidden=16)
NOTHING = Estimate(0.0, 0.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bent(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    """A column in thousands, and one of small numbers that follows its square with noise."""
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    return pd.DataFrame({"force": 5000 + 400 * noise[:, 0], "gap": 0.01 * (noise[:, 0] ** 2 + noise[:, 1])})


def untrained(choice: FlowChoice, columns: list[Column], context: list[Column]) -> TableDensity:
    figures = FitFigures(1, 1, 1, 0, 0, NOTHING, NOTHING, NOTHING)
    return TableDensity(choice.build(len(columns), len(context)), choice, columns, context, figures)


def test_density_is_in_the_tables_own_units() -> None:
    # An untrained Real NVP is the standard normal of the standardised columns.
    density = untrained(QUICK, [Column("force", 5000.0, 400.0), Column("gap", 0.01, 0.02)], [])
    table = bent()
    wanted = norm(5000, 400).logpdf(table["force"]) + norm(0.01, 0.02).logpdf(table["gap"])
    # 1e-10: float64 throughout.
    np.testing.assert_allclose(density.log_density(table), wanted, rtol=1e-10)


def test_samples_are_in_the_tables_own_units() -> None:
    density = untrained(QUICK, [Column("force", 5000.0, 400.0), Column("gap", 0.01, 0.02)], [])
    drawn = density.sample(4000, seed=1)
    for name, mean, spread in (("force", 5000, 400), ("gap", 0.01, 0.02)):
        # Four standard errors of a mean, and of a standard deviation of normal numbers.
        assert abs(drawn[name].mean() - mean) < 4 * spread / math.sqrt(4000)
        assert abs(drawn[name].std() - spread) < 4 * spread / math.sqrt(2 * 4000)
    pd.testing.assert_frame_equal(drawn, density.sample(4000, seed=1))
    assert not drawn.equals(density.sample(4000, seed=2))


def test_order_and_further_columns_of_a_table_do_not_matter() -> None:
    density = fit_table(bent(), choice=QUICK, steps=10)
    table = bent(20, seed=1)
    mixed = table[["gap", "force"]].assign(word="x")
    np.testing.assert_array_equal(density.log_density(mixed), density.log_density(table))


def test_the_gaussian_is_the_gaussian() -> None:
    # Correlated normal rows: the closed form's figure is near the entropy that is known.
    covariance = np.array([[4.0, 1.5], [1.5, 1.0]])
    rows = np.random.default_rng(0).multivariate_normal([0, 3], covariance, size=4000)
    table = pd.DataFrame(rows, columns=["a", "b"])
    figures = fit_table(table, choice=QUICK, steps=2).figures
    entropy = float(multivariate_normal([0, 3], covariance).entropy())
    assert (figures.trained, figures.stopping, figures.reported) == (3200, 400, 400)
    assert abs(figures.gaussian.mean + entropy) < 4 * figures.gaussian.error
    # The nll of a normal row has variance D / 2.
    assert figures.gaussian.error == pytest.approx(1 / math.sqrt(400), rel=4 / math.sqrt(2 * 400) * 2)


def test_the_gaussian_given_a_context_is_the_regression() -> None:
    random = np.random.default_rng(1)
    given = random.normal(size=4000)
    table = pd.DataFrame({"c": given, "x": 7 - 2 * given + 0.5 * random.normal(size=4000)})
    figures = fit_table(table, columns=["x"], context=["c"], choice=QUICK, steps=2).figures
    assert abs(figures.gaussian.mean + float(norm(scale=0.5).entropy())) < 4 * figures.gaussian.error


def test_a_flow_learns_what_a_gaussian_cannot() -> None:
    density = fit_table(bent(1500), choice=FlowChoice("real_nvp", layers=4, hidden=32), steps=300)
    figures = density.figures
    assert figures.gain.mean > 4 * figures.gain.error
    assert figures.gain.mean == pytest.approx(figures.flow.mean - figures.gaussian.mean)
    assert 0 < figures.kept <= figures.steps <= 300
    fresh = density.log_density(bent(1500, seed=9))
    error = math.hypot(figures.flow.error, fresh.std() / math.sqrt(1500))
    assert abs(fresh.mean() - figures.flow.mean) < 4 * error


def test_the_context_is_used_and_required() -> None:
    table = bent(800)
    density = fit_table(table, columns=["gap"], context=["force"], choice=QUICK, steps=150)
    middle = density.sample(500, given={"force": 5000})
    edge = density.sample(500, given={"force": 6000})
    assert list(middle.columns) == ["force", "gap"]
    assert set(edge["force"]) == {6000.0}
    # The square of 2.5 standard deviations against that of none, in units of 0.01.
    assert edge["gap"].mean() > middle["gap"].mean() + 0.02
    np.testing.assert_array_equal(density.log_density(edge).shape, (500,))
    for wrong in ({}, {"force": 1.0, "gap": 2.0}):
        with pytest.raises(TableError, match="force"):
            density.sample(2, given=wrong)


def test_the_seed_decides_everything() -> None:
    table = bent()
    first, again = (fit_table(table, choice=QUICK, steps=5).log_density(table) for _ in range(2))
    other = fit_table(table, choice=FlowChoice("real_nvp", layers=2, hidden=16, seed=1), steps=5)
    np.testing.assert_array_equal(first, again)
    assert (other.log_density(table) != first).all()


def test_copies_of_a_row_stay_on_one_side() -> None:
    from differnet.tables.density import _split

    rows = np.repeat(np.arange(60.0)[:, None], 5, axis=0)
    parts = _split(rows, 0.2, seed=0)
    values = [set(rows[part, 0]) for part in parts]
    assert sorted(np.concatenate(parts)) == list(range(300))
    assert not values[0] & values[1]
    assert not values[0] & values[2]
    assert not values[1] & values[2]
    assert min(len(part) for part in parts) >= 50


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (bent(20), "20 rows"),
        (bent().assign(still=3.0), "'still'"),
        (bent().assign(still=1e9 + bent()["gap"] * 1e-7), "'still'"),
        (bent().assign(double=lambda t: 3 - 2 * t["gap"]), "'double', 'gap'"),
    ],
    ids=["few rows", "constant", "hardly varies", "follows from another"],
)
def test_rows_without_a_density_are_refused(table: pd.DataFrame, said: str) -> None:
    with pytest.raises(TableError) as caught:
        fit_table(table, choice=QUICK, steps=1)
    found = caught.value.found
    assert all(word in found for word in said.split(", ")), found


def test_names_that_cannot_be_are_refused() -> None:
    for columns, context in ((["gap", "gap"], []), (["gap"], ["gap"]), ([], ["gap", "force"])):
        with pytest.raises(TableError, match="columns"):
            fit_table(bent(), columns=columns, context=context, choice=QUICK, steps=1)
    with pytest.raises(TableError, match="real_nvp"):
        FlowChoice("no_such")
    for choice in ({"family": "planar", "hidden": 8}, {"family": "ffjord", "layers": 2}):
        with pytest.raises(TableError, match="has none"):
            FlowChoice(**choice)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_fits(family: str) -> None:
    hidden = 8 if FAMILIES[family].wide else None
    layers = 2 if FAMILIES[family].depth else None
    density = fit_table(
        bent(100), columns=["gap"], context=["force"], choice=FlowChoice(family, layers, hidden), steps=2
    )
    assert np.isfinite(density.log_density(bent(10, seed=1))).all()
    assert density.sample(3, given={"force": 5000}).notna().all(axis=None)


def test_progress_counts_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    fit_table(bent(), choice=QUICK, steps=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4), (4, 4)]


def test_columns_of_few_values_are_named() -> None:
    table = bent().assign(grade=np.arange(300) % 3)
    density = fit_table(table, choice=QUICK, steps=2)
    assert few_values(table, density) == ["grade"]


@pytest.mark.parametrize("layers", [0, -2])
def test_a_flow_without_layers_is_refused(layers: int) -> None:
    with pytest.raises(TableError, match="layers"):
        FlowChoice("real_nvp", layers=layers)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"held_out": float("nan")}, {"held_out": 0.5}])
def test_settings_that_train_nothing_are_refused(settings: dict[str, Any]) -> None:
    table = pd.DataFrame({"x": range(200), "y": [value % 7 for value in range(200)]}, dtype=float)
    with pytest.raises(TableError):
        fit_table(table, **settings)
