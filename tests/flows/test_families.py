"""Every family: densities that integrate to one, samples that follow them, and what float32 leaves.

N2, N4 and N5 of the promises, for every preset. Weights are random and rougher than training leaves them.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch

from differnet.flows import Flow
from flows.checks import agree, grid, round_trip_error, some_context
from flows.families import FAMILIES, random_member

# What a solver integrates costs a hundred times more: coarser grids, and its own tests beside.
CONTINUOUS = "ffjord"
# Nodes along each axis, in one and two dimensions. A radial layer that opens makes rims a hundredth wide.
POINTS = {CONTINUOUS: (2000, 100), "radial_fast_sampling": (4000, 800)}


def mass(flow: Flow, context: torch.Tensor | None, points: int) -> float:
    nodes, cell = grid(flow, context, points)
    return float(flow.log_prob(nodes, context).exp().sum()) * cell


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("features", [1, 2])
def test_density_integrates_to_one(family: str, features: int) -> None:
    """Ten nets each, every other one conditional; 0.5 % as promised."""
    points = POINTS.get(family, (4000, 300))[features - 1]
    for seed in range(10):
        flow = random_member(family, features, 3 * (seed % 2), seed=seed)
        found = mass(flow, some_context(flow, seed), points)
        assert found == pytest.approx(1, abs=0.005), f"net {seed}"


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_follow_the_density(family: str) -> None:
    """Moments and mean nll of samples against those by quadrature, within 4 standard errors."""
    flow = random_member(family, 2, 3, seed=1)
    context = some_context(flow, 1)
    nodes, cell = grid(flow, context, 400 if family != CONTINUOUS else 100)
    log_prob = flow.log_prob(nodes, context)
    weight = log_prob.exp() * cell
    samples = flow.sample((4000,), context, generator=torch.Generator().manual_seed(0))
    for what, drawn, wanted in (
        ("nll", -flow.log_prob(samples, context), -(weight * log_prob).sum()),
        ("first mean", samples[:, 0], (weight * nodes[:, 0]).sum()),
        ("second square", samples[:, 1].square(), (weight * nodes[:, 1].square()).sum()),
        ("product", samples.prod(-1), (weight * nodes.prod(-1)).sum()),
    ):
        gap, error = float((drawn.mean() - wanted).abs()), float(drawn.std()) / 4000**0.5
        # The quadrature's own error is below 0.005 of any of these means.
        assert gap <= 4 * error + 0.005 * (1 + abs(float(wanted))), what


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_come_with_their_density_and_gradients(family: str) -> None:
    flow = random_member(family, 3, 2, seed=2).requires_grad_(True)
    context = some_context(flow, 2)

    def fixed() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    # A solver's two directions agree to its tolerance only.
    tolerance = 1e-9 if family != CONTINUOUS else 1e-4
    plain = flow.sample((4, 7), context, generator=fixed())
    again = flow.rsample((4, 7), context, generator=fixed())
    x, log_prob = flow.sample_and_log_prob((4, 7), context, generator=fixed())
    alive, alive_log_prob = flow.rsample_and_log_prob((4, 7), context, generator=fixed())
    assert not (plain.requires_grad)
    assert not (x.requires_grad)
    assert not (log_prob.requires_grad)
    assert again.requires_grad
    assert alive.requires_grad
    assert alive_log_prob.requires_grad
    for found in (again, x, alive):
        agree(found, plain, tolerance, "samples of one seed")
    for found in (log_prob, alive_log_prob):
        agree(found, flow.log_prob(plain, context), tolerance, "their log-density")
    torch.autograd.backward(alive_log_prob.mean() + alive.square().mean())
    gradients = [p.grad for p in flow.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert any(float(g.abs().max()) > 0 for g in gradients)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("features", [1, 2, 7, 16])
def test_round_trip_in_single_precision(family: str, features: int) -> None:
    """10,000 samples: median 1e-5, largest 1e-3, and 1e-2 a hundred sigma out."""
    flow = random_member(family, features, seed=features, gain=2.0).float()
    x = flow.sample((10_000,), generator=torch.Generator().manual_seed(9))
    near = round_trip_error(flow, x)
    far = round_trip_error(flow, x.mean(0) + 100 * (x - x.mean(0)))
    assert float(near.median()) <= 1e-5
    assert float(near.max()) <= 1e-3
    assert float(far.max()) <= 1e-2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("features", [1, 3, 16])
def test_nll_of_any_vector(family: str, features: int) -> None:
    """34,003 vectors of one net a width, 102,009 a family: finite, and float32 within 1e-3 of float64.

    Sizes are drawn evenly in their logarithm from 1e-6 to 1e6, coordinates uniformly up to the size on either
    side; three more vectors have every coordinate at 0, 1e6 or -1e6. A gap is relative to the float64 nll,
    absolute below 1 nat.
    """
    flow = random_member(family, features, seed=features, gain=2.0)
    generator = torch.Generator().manual_seed(11)
    n = 34_000
    sizes = 10 ** (12 * torch.rand(n, 1, generator=generator) - 6)
    x = (2 * torch.rand(n, features, generator=generator) - 1) * sizes
    x = torch.cat([x, torch.tensor([0.0, 1e6, -1e6])[:, None].expand(3, features)])
    single = -copy.deepcopy(flow).float().log_prob(x)
    double = -flow.log_prob(x.double())
    assert bool(single.isfinite().all())
    assert bool(double.isfinite().all())
    gap = (single - double).abs() / double.abs().clamp_min(1)
    assert float(gap.max()) <= 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_untrained_preset_is_nearly_the_standard_normal(family: str) -> None:
    flow = FAMILIES[family](3, 2)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    wanted = -0.5 * (x.square().sum(-1) + 3 * math.log(2 * math.pi))
    found = flow.log_prob(x, torch.ones(2)).detach()
    # A velocity must not start at exactly zero, or its inner layers would never learn; NICE see its preset.
    allowed = {"nice": 0.2, CONTINUOUS: 0.3}.get(family, 1e-4)
    assert float((found - wanted).abs().max()) <= allowed


@pytest.mark.parametrize("family", FAMILIES)
def test_preset_depends_on_its_seed_alone(family: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = FAMILIES[family](4, 2, seed=4).state_dict()
        drawn = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(drawn, torch.rand(1)), "building a preset used up torch's own randomness"
        again, other = (FAMILIES[family](4, 2, seed=s).state_dict() for s in (4, 5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
