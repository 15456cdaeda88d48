"""What is usual for a kind of part: learned where kinds tell something, and left alone where they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.calibration import CalibrationError, Expectation, Kernel, Spectra, expectation

Figures = NDArray[np.float64]


def varying(n: int, seed: int = 0, noise: float = 0.2) -> tuple[Figures, Figures]:
    """Return figures that depend on the first of two kinds, and the kinds."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(n, 2))
    return np.sin(1.5 * kinds[:, 0]) + noise * rng.normal(size=n), kinds


def test_kinds_that_tell_something_are_believed() -> None:
    figures, kinds = varying(200)
    usual = Expectation.fit(figures, kinds)
    assert usual.kernel.signal > 0
    fresh, fresh_kinds = varying(400, seed=1)
    left = fresh - usual.expected(fresh_kinds)
    assert float(left.std()) < 0.3 < 0.6 < float(fresh.std())
    assert float(usual.surplus(fresh, fresh_kinds).std()) == pytest.approx(1.0, abs=0.2)


def test_kinds_that_tell_nothing_are_hardly_ever_believed() -> None:
    believed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        believed += Expectation.fit(rng.normal(size=60), rng.normal(size=(60, 3))).kernel.signal > 0
    # Sixteen kernels at three standard errors: a few in a hundred by chance.
    assert believed <= 5


@pytest.mark.parametrize("kernel", [Kernel(1.0, 0.0), Kernel(1.0, 1.0), Kernel(4.0, 3.0)])
def test_held_out_residuals_are_those_of_leaving_each_part_out(kernel: Kernel) -> None:
    """Against fitting n times without one part, about the same mean."""
    figures, kinds = varying(30)
    centred = figures - figures.mean()
    usual = Expectation.fit(figures, kinds, kernel)
    for i in range(len(figures)):
        others = np.arange(len(figures)) != i
        distance = ((kinds[:, None] - kinds[None]) ** 2).sum(-1)
        likeness = kernel.signal * np.exp(-0.5 * distance / kernel.length**2)
        inner = likeness[np.ix_(others, others)] + np.eye(29)
        told = likeness[i, others] @ np.linalg.solve(inner, centred[others])
        wanted = centred[i] - (told if kernel.signal else centred[others].mean())
        assert usual.held_out[i] * usual.spread == pytest.approx(wanted, abs=1e-9)


def test_far_from_every_good_part_nothing_is_excused() -> None:
    figures, kinds = varying(150)
    usual = Expectation.fit(figures, kinds)
    assert usual.expected([[1e3, -1e3]])[0] == pytest.approx(usual.mean)
    assert usual.surplus([usual.mean + 50 * usual.spread], [[1e3, 0.0]])[0] == pytest.approx(50.0)


def test_many_parts_are_learned_from_some_of_them() -> None:
    figures, kinds = varying(1700)
    usual = Expectation.fit(figures, kinds, Kernel(1.0, 1.0))
    assert len(usual.kinds) == 1500
    assert usual.held_out.shape == (1700,)
    assert float(usual.held_out.std()) == pytest.approx(1.0, abs=0.05)


def test_no_kinds_few_parts_and_identical_parts_give_the_mean() -> None:
    for figures, kinds in (
        (np.arange(50.0), np.zeros((50, 0))),
        (np.arange(5.0), np.ones((5, 1))),
        (np.full(40, 3.0), np.random.default_rng(0).normal(size=(40, 2))),
    ):
        usual = Expectation.fit(figures, kinds)
        assert usual.kernel.signal == 0
        assert usual.expected(kinds).tolist() == [float(np.mean(figures))] * len(figures)
        assert math.isfinite(usual.spread)
        assert usual.spread > 0


@pytest.mark.parametrize(
    ("figures", "kinds"),
    [([1.0], [[1.0]]), ([1.0, math.nan], [[1.0], [2.0]]), ([1.0, 2.0], [[1.0]]), ([1.0, 2.0], [1.0, 2.0])],
)
def test_what_cannot_be_learned_from_is_refused(figures: list[float], kinds: list[list[float]]) -> None:
    with pytest.raises(CalibrationError):
        Expectation.fit(figures, kinds)


@pytest.mark.parametrize("curved", [False, True])
def test_the_kernel_is_the_one_that_leaving_each_part_out_finds_best(*, curved: bool) -> None:
    """By eigenvectors that all figures share, and by an inverse for every kernel."""
    rng = np.random.default_rng(int(curved))
    kinds = rng.normal(size=(120, 3))
    figures = rng.normal(size=120) + (2 * np.sin(kinds[:, 0]) if curved else 0.0)
    centred = figures - figures.mean()

    def densities(kernel: Kernel) -> NDArray[np.float64]:
        residuals, _ = expectation._leave_one_out(centred, kinds, kernel)
        return expectation._log_densities(residuals)

    tried = [Kernel(length, signal) for length in expectation._LENGTHS for signal in expectation._SIGNALS]
    best = max(tried, key=lambda kernel: float(densities(kernel).sum()))
    gain = densities(best) - densities(Kernel(1.0, 0.0))
    believed = gain.mean() > expectation._BELIEVED * gain.std(ddof=1) / np.sqrt(len(gain))
    assert believed == curved
    shared = Spectra(kinds)
    for found in (Expectation.fit(figures, kinds), Expectation.fit(figures, kinds, spectra=shared)):
        assert found.kernel == (best if believed else Kernel(1.0, 0.0))
