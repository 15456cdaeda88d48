"""Densities: they integrate to one, their samples follow them, and they agree with other people's code."""

from __future__ import annotations

import math

import pytest
import torch

from differnet.flows import (
    AffineCoupling,
    Flow,
    FlowError,
    LowRankWhitening,
    Permutation,
    Whitening,
    leave_one_out,
    leave_one_out_energies,
    real_nvp,
    shrinkage_whitening,
)
from flows.cases import BY_NAME
from flows.checks import EXACT, FLOW_CHECKS, agree, covariance_of, random_flow, some_context
from flows.registry import normal


@pytest.mark.parametrize("check", FLOW_CHECKS)
def test_property(check: str) -> None:
    FLOW_CHECKS[check]()


@pytest.mark.parametrize("name", ["coupling_two", "coupling_odd"])
def test_coupling_density_is_that_of_zuko(name: str) -> None:
    zuko = pytest.importorskip("zuko", reason="zuko is a development dependency")
    coupling = BY_NAME[name].build()
    assert isinstance(coupling, AffineCoupling)
    features, kept = coupling.features, coupling.kept

    def conditioner(a: torch.Tensor) -> object:
        """Read scale and shift off our coupling: at b = 0 it returns t, at b = 1 it returns exp(s) + t."""
        at = [
            coupling(torch.cat([a, value.expand(*a.shape[:-1], features - kept)], -1))[0][..., kept:]
            for value in (a.new_zeros(1), a.new_ones(1))
        ]
        affine = torch.distributions.AffineTransform(at[0], at[1] - at[0])
        return zuko.transforms.DependentTransform(affine, 1)

    transform = zuko.transforms.CouplingTransform(conditioner, torch.arange(features) < kept)
    base = zuko.distributions.DiagNormal(
        torch.zeros(features, dtype=torch.float64), torch.ones(features, dtype=torch.float64)
    )
    x = normal(torch.Generator().manual_seed(0), 20, features)
    wanted = zuko.distributions.NormalizingFlow(transform, base).log_prob(x)
    agree(Flow(coupling).log_prob(x), wanted, EXACT, "log-density")


def test_flow_of_a_permutation_is_the_standard_normal() -> None:
    x = torch.tensor([1.0, 2.0])
    assert Flow(Permutation.reverse(2)).log_prob(x).item() == pytest.approx(-2.5 - math.log(2 * math.pi))


def test_untrained_preset_has_the_density_of_its_first_transform() -> None:
    vectors = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 5)
    gaussian = shrinkage_whitening(vectors)
    found, wanted = real_nvp(4, first=gaussian).log_prob(vectors), Flow(gaussian).log_prob(vectors)
    torch.testing.assert_close(found, wanted)


def test_preset_without_layers_is_the_standard_normal() -> None:
    assert real_nvp(3, couplings=0).log_prob(torch.zeros(3)).item() == pytest.approx(
        -1.5 * math.log(2 * math.pi)
    )


def test_preset_depends_on_its_seed_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = real_nvp(5, 2, seed=4).state_dict()
        drawn = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(drawn, torch.rand(1)), "building a preset used up torch's own randomness"
        again, other = real_nvp(5, 2, seed=4).state_dict(), real_nvp(5, 2, seed=5).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_samples_have_the_asked_shape_dtype_and_seed() -> None:
    for dtype in (torch.float32, torch.float64):
        flow = random_flow(3, 2).to(dtype)
        context = torch.ones(2, dtype=dtype)
        assert flow.sample(context=context).shape == (3,)
        assert flow.sample((0,), context).shape == (0, 3)
        first = flow.sample((4, 7), context.expand(7, 2), generator=torch.Generator().manual_seed(0))
        again = flow.sample((4, 7), context, generator=torch.Generator().manual_seed(0))
        assert first.shape == (4, 7, 3)
        assert first.dtype == dtype
        assert not first.requires_grad
        torch.testing.assert_close(first, again)


def test_sampling_and_density_refuse_a_wrong_context() -> None:
    conditional, plain = random_flow(3, 2), random_flow(3)
    x = torch.zeros(5, 3, dtype=torch.float64)
    for call in (
        lambda: conditional.sample((5,)),
        lambda: conditional.sample((), torch.zeros(5, 2, dtype=torch.float64)),
        lambda: plain.sample((5,), torch.zeros(2, dtype=torch.float64)),
        lambda: conditional.log_prob(x),
        lambda: conditional.evidence(x),
        lambda: plain.log_prob(x, x),
    ):
        with pytest.raises(FlowError):
            call()


def test_evidence_has_the_batch_shape_exactly() -> None:
    flow = random_flow(3, 2)
    context = some_context(flow)
    for batch in ((), (7,), (4, 7), (0,)):
        nll, typicality = flow.evidence(torch.zeros(*batch, 3, dtype=torch.float64), context)
        assert nll.shape == typicality.shape == batch


def test_typicality_averages_to_zero_on_the_flow_s_own_samples() -> None:
    flow = random_flow(6)
    samples = flow.sample((4000,), generator=torch.Generator().manual_seed(0))
    typicality = flow.evidence(samples).typicality
    assert abs(float(typicality.mean().detach())) <= 4 * float(typicality.detach().std()) / 4000**0.5


@pytest.mark.parametrize(("n", "kind"), [(200, Whitening), (20, LowRankWhitening), (30, LowRankWhitening)])
def test_shrinkage_whitening_chooses_the_cheap_form(n: int, kind: type) -> None:
    vectors = torch.randn(n, 30, generator=torch.Generator().manual_seed(0))
    assert type(shrinkage_whitening(vectors)) is kind


@pytest.mark.parametrize("n", [3, 50])
def test_vectors_that_never_vary_still_get_a_density(n: int) -> None:
    whitening = shrinkage_whitening(torch.full((n, 4), 2.0))
    at, beside = Flow(whitening).log_prob(torch.tensor([[2.0] * 4, [2.1] * 4])).tolist()
    assert math.isfinite(at)
    assert math.isfinite(beside)
    assert at > beside + 100


def test_whitened_vectors_have_at_most_unit_covariance() -> None:
    vectors = torch.randn(400, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)
    z, _ = shrinkage_whitening(vectors, shrinkage=0.0)(vectors)
    torch.testing.assert_close(torch.cov(z.T, correction=0), torch.eye(8), atol=1e-5, rtol=0)


def test_full_shrinkage_is_a_sphere() -> None:
    vectors = normal(torch.Generator().manual_seed(0), 50, 3)
    whitening = shrinkage_whitening(vectors, shrinkage=1.0).double()
    level = vectors.var(0, correction=0).mean()
    torch.testing.assert_close(
        covariance_of(whitening), level * torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("vectors", "settings"),
    [
        (torch.zeros(1, 3), {}),
        (torch.zeros(0, 3), {}),
        (torch.zeros(3), {}),
        (torch.tensor([[0.0], [torch.nan]]), {}),
        (torch.tensor([[0.0], [torch.inf]]), {}),
        (torch.eye(3), {"shrinkage": -0.1}),
        (torch.eye(3), {"shrinkage": 1.1}),
        (torch.eye(3), {"shrinkage": math.nan}),
        (torch.eye(3), {"noise": -1.0}),
        (torch.eye(3), {"noise": math.nan}),
    ],
)
def test_estimation_refuses_what_has_no_meaning(vectors: torch.Tensor, settings: dict[str, float]) -> None:
    with pytest.raises(FlowError):
        shrinkage_whitening(vectors, **settings)


@pytest.mark.parametrize(("n", "features", "shrinkage"), [(40, 10, 0.1), (12, 30, 0.1), (25, 4, 0.02)])
def test_leave_one_out_energies_are_those_of_the_others_gaussian(
    n: int, features: int, shrinkage: float
) -> None:
    generator = torch.Generator().manual_seed(n)
    mixing = torch.randn(features, features, generator=generator, dtype=torch.float64)
    vectors = 3 + torch.randn(n, features, generator=generator, dtype=torch.float64) @ mixing
    level = vectors.var(0, correction=0).mean()
    wanted = []
    for i in range(n):
        others = torch.cat([vectors[:i], vectors[i + 1 :]])
        distance, spread = vectors[i] - others.mean(0), others - others.mean(0)
        covariance = (1 - shrinkage) * spread.T @ spread / (n - 1)
        covariance += shrinkage * level * torch.eye(features, dtype=torch.float64)
        wanted.append(distance @ torch.linalg.solve(covariance, distance) / features)
    found = leave_one_out_energies(vectors, shrinkage=shrinkage)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("n", "features"), [(40, 10), (12, 30)])
def test_leading_coordinates_beside_energies_are_those_of_the_whitening(n: int, features: int) -> None:
    vectors = torch.randn(n, features, generator=torch.Generator().manual_seed(n)) * torch.arange(
        1, features + 1
    )
    energies, leading = leave_one_out(vectors, 4)
    assert torch.equal(energies, leave_one_out_energies(vectors))
    wanted = shrinkage_whitening(vectors)(vectors)[0][:, :4].double()
    signs = (leading * wanted).sum(0).sign()
    torch.testing.assert_close(leading * signs, wanted, rtol=0, atol=1e-4)


def test_a_vector_alone_in_its_direction_is_strange_and_finite() -> None:
    vectors = torch.zeros(10, 3)
    vectors[:9, 0] = torch.linspace(-1, 1, 9)
    vectors[9, 2] = 5
    energies = leave_one_out_energies(vectors)
    assert bool(torch.isfinite(energies).all())
    assert int(energies.argmax()) == 9
    with pytest.raises(FlowError):
        leave_one_out_energies(vectors[:2])
