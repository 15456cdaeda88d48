"""The targets of the benchmark: densities that integrate to 1, samplers that follow them, true entropies."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor

from differnet.flows import FlowError


def _load() -> ModuleType:
    """Import the benchmark from its path: benchmarks are programs, not a package."""
    path = Path(__file__).parents[2] / "benchmarks" / "flows_targets.py"
    spec = importlib.util.spec_from_file_location("flows_targets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


targets = _load()

NAMES = tuple(targets.TARGETS)
SMOOTH = ("two_moons", "rings", "eight_gaussians", "hills")
CONTEXT = torch.tensor([math.cos(0.7), math.sin(0.7), 0.5], dtype=torch.float64)


def drawn(target: Any, n: int = 20_000) -> tuple[Tensor, Tensor | None]:
    x, context = target.sample(n, torch.Generator().manual_seed(1))
    return x, context


def midpoints(step: float, reach: float) -> Tensor:
    axis = torch.arange(-reach + step / 2, reach, step, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_stated_shape(name: str) -> None:
    target = targets.TARGETS[name]()
    x, context = drawn(target, 500)
    assert target.name == name
    assert x.shape == (500, target.features)
    assert x.dtype == torch.float64
    assert (None if context is None else context.shape[-1]) == (target.context_features or None)
    log_prob = target.log_prob(x.float(), context)
    assert log_prob.shape == (500,)
    assert log_prob.dtype == torch.float64
    # A share of 1 % is far above the few in ten thousand that the tails hold.
    assert float((x.abs() > 4).any(-1).double().mean()) < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_entropy_is_the_mean_nll_of_samples(name: str) -> None:
    target = targets.TARGETS[name]()
    nll = -target.log_prob(*drawn(target))
    standard_error = float(nll.std()) / len(nll) ** 0.5
    # The checkerboard's nll is constant: rounding of its mean alone.
    assert abs(float(nll.mean()) - target.entropy) <= 4 * standard_error + 1e-12
    assert 0 < target.entropy_error <= 1e-6


@pytest.mark.parametrize("name", SMOOTH)
def test_density_integrates_to_one(name: str) -> None:
    # Steps of 0.05 are a third of the finest deviation: the rule's own error is below exp(-170) for
    # Gaussians, and 1e-9 for hills, whose second derivative jumps.
    step = 0.05
    total = targets.TARGETS[name]().log_prob(targets.grid_points(step, 6.0), None).exp().sum() * step**2
    assert abs(float(total) - 1) <= 1e-9


def test_checkerboard_integrates_to_one() -> None:
    # Midpoints of cells that no edge of the board cuts: the sum is exact but for rounding.
    density = targets.checkerboard().log_prob(midpoints(0.25, 5.0), None).exp()
    assert abs(float(density.sum()) * 0.25**2 - 1) <= 1e-12


def test_conditional_density_integrates_to_one_in_every_context() -> None:
    target = targets.turning_banana()
    points = targets.grid_points(0.03, 14.0)
    for context in (CONTEXT, torch.tensor([-1.0, 0.0, -1.0]), torch.tensor([0.0, 1.0, 1.0])):
        total = target.log_prob(points, context.expand(len(points), 3)).exp().sum() * 0.03**2
        # Beyond |u_1| = 6, where the widest banana leaves the grid, lies a mass of 2e-9.
        assert abs(float(total) - 1) <= 1e-8


def test_chain_integrates_to_one() -> None:
    # Two links take the same path through the code as eight, and can be laid on a grid.
    total = targets.chain(2).log_prob(targets.grid_points(0.02, 8.0), None).exp().sum() * 0.02**2
    assert abs(float(total) - 1) <= 1e-9


@pytest.mark.parametrize("name", [*SMOOTH, "checkerboard", "chain2"])
def test_samples_fill_cells_as_the_density_says(name: str) -> None:
    target = targets.chain(2) if name == "chain2" else targets.TARGETS[name]()
    x, _ = drawn(target)
    # 100 cells of side 1, each of 20 x 20 midpoints.
    points = midpoints(0.05, 5.0)
    mass = target.log_prob(points, None).exp() * 0.05**2
    cells = torch.zeros(100, dtype=torch.float64).index_add(0, _cell(points), mass)
    found = torch.bincount(_cell(x), minlength=100).double()
    wanted = cells * len(x)
    full = wanted >= 5  # below that the statistic is not chi-squared
    statistic = float(((found - wanted).square() / wanted)[full].sum())
    degrees = int(full.sum()) - 1
    assert degrees >= 20
    assert statistic <= degrees + 4 * (2 * degrees) ** 0.5


def _cell(x: Tensor) -> Tensor:
    place = (x.clamp(-4.999, 4.999) + 5).floor().long()
    return 10 * place[:, 0] + place[:, 1]


def test_moons_agree_with_adaptive_quadrature() -> None:
    """Near the arcs, between them and far out, to 1e-8 relative."""
    target = targets.two_moons()
    noise = 0.2
    points = torch.tensor(
        [[-1.0, 1.5], [1.0, -0.2], [0.0, 0.0], [-3.2, -1.5], [4.0, 4.0], [7.0, -3.0]]
    ).double()
    for point in points:
        total = 0.0
        for sign in (1, -1):
            place = sign * point.numpy()

            def integrand(theta: float, place: Any = place) -> float:
                gap = place - np.array([-1 + 2 * math.cos(theta), -0.5 + 2 * math.sin(theta)])
                return math.exp(-float(gap @ gap) / (2 * noise**2)) / (2 * math.pi * noise**2)

            peak = math.atan2(place[1] + 0.5, place[0] + 1)
            breaks = [min(max(peak, 0.0), math.pi)]
            value, _ = integrate.quad(integrand, 0, math.pi, points=breaks, limit=400, epsabs=0, epsrel=1e-12)
            total += value / (2 * math.pi)
        assert abs(float(target.log_prob(point, None)) - math.log(total)) <= 1e-8


def test_rings_agree_with_the_average_over_angles() -> None:
    x = torch.tensor([[0.9, 0.2], [2.5, 0.0], [0.0, -3.4]], dtype=torch.float64)
    theta = 2 * math.pi * torch.arange(4000, dtype=torch.float64) / 4000
    unit = torch.stack([theta.cos(), theta.sin()], dim=-1)
    density = torch.zeros(3, dtype=torch.float64)
    for radius in (1.0, 2.0, 3.0):
        squares = (x[:, None] - radius * unit).square().sum(-1)
        density += (-squares / (2 * 0.15**2)).exp().mean(1) / (3 * 2 * math.pi * 0.15**2)
    assert torch.allclose(targets.rings().log_prob(x, None), density.log(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["hills", "turning_banana"])
def test_closed_entropies_agree_with_quadrature(name: str) -> None:
    target = targets.TARGETS[name]()
    points = targets.grid_points(0.02, 12.0)
    context = CONTEXT.expand(len(points), 3) if target.context_features else None
    log_prob = target.log_prob(points, context)
    kept = log_prob.isfinite()
    found = -float((log_prob[kept].exp() * log_prob[kept]).sum()) * 0.02**2
    # The entropy in one context exceeds the mean over contexts by 0.8 k.
    wanted = target.entropy + (0.8 * float(CONTEXT[2]) if target.context_features else 0.0)
    # Hills end in a jump of the second derivative, where the rule errs by about the step cubed. Hills
    # that overlapped would differ from the closed form by far more.
    assert abs(found - wanted) <= 4e-6


def test_chain_is_standardised_and_no_longer_ordered() -> None:
    x, _ = drawn(targets.chain())
    deviation = x.std(0)
    # Columns of a rotation of standardised columns: exactly 1 only where those are uncorrelated.
    assert float((deviation - 1).abs().max()) < 0.1
    # Each feature depends on every column of the chain.
    gradient = torch.func.jacrev(lambda v: targets.chain().log_prob(v, None))(x[0])
    assert float(gradient.abs().min()) > 1e-4


def test_density_is_zero_outside_the_board() -> None:
    outside = torch.tensor([[4.5, 0.5], [-1.0, 1.0], [9.0, 9.0]])
    assert targets.checkerboard().log_prob(outside, None).tolist() == [-math.inf] * 3


def test_banana_needs_its_context() -> None:
    with pytest.raises(FlowError, match="context"):
        targets.turning_banana().log_prob(torch.zeros(1, 2), None)


def test_seed_decides_the_samples() -> None:
    for name in NAMES:
        target = targets.TARGETS[name]()
        assert torch.equal(drawn(target, 50)[0], drawn(target, 50)[0])
