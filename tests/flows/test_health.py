"""The audit passes flows that invert and refuses those that do not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from differnet.flows import (
    AffineCoupling,
    Compose,
    ElementwiseAffine,
    Flow,
    FlowError,
    TrainingPlan,
    UnhealthyFlow,
    audit,
    ffjord,
    fit_maximum_likelihood,
    measure_health,
    real_nvp,
    round_trip_errors,
    shrinkage_whitening,
)
from flows.checks import small_flow
from flows.registry import randomise

VECTORS = 3 + 2 * torch.randn(300, 6, generator=torch.Generator().manual_seed(0))


def test_a_trained_flow_is_healthy() -> None:
    flow = real_nvp(6, hidden=16, couplings=4, first=shrinkage_whitening(VECTORS))
    fit_maximum_likelihood(flow, VECTORS, noise=0.1, plan=TrainingPlan(steps=30, batch=64))
    report = audit(flow, VECTORS)
    assert report.healthy
    assert report.vectors == 300
    assert report.not_finite == 0
    assert report.median_error <= report.largest_error < 1e-4
    # Near, the rounding of the vectors' mean hides what the flow itself rounds.
    assert 0 < report.far_error < 1e-4


def test_a_conditional_flow_is_audited_with_its_context() -> None:
    flow = small_flow(6, 2)
    assert audit(flow, VECTORS, torch.zeros(2)).healthy
    with pytest.raises(FlowError):
        audit(flow, VECTORS)


def test_errors_of_single_vectors_are_those_of_the_report() -> None:
    flow = small_flow(6, 2)
    context = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    errors = round_trip_errors(flow, VECTORS, context)
    report = measure_health(flow, VECTORS, context)
    assert errors.shape == (300,)
    assert float(errors.max()) == report.largest_error
    assert float(errors.median()) == report.median_error
    with pytest.raises(FlowError):
        round_trip_errors(flow, VECTORS)
    # One vector has no spread: its error is relative to itself.
    assert float(round_trip_errors(flow, VECTORS[:1], context[:1])) < 1e-4
    broken = Flow(Compose([Forgetful(6)]))
    assert float(round_trip_errors(broken, VECTORS).min()) > 1e-3


class Forgetful(AffineCoupling):
    def __init__(self, features: int, wrong: float = 0.1) -> None:
        super().__init__(features)
        self.wrong = wrong

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = super().inverse(z, context)
        return x + self.wrong, log_det


def test_a_broken_inverse_is_unhealthy() -> None:
    with pytest.raises(UnhealthyFlow) as caught:
        audit(Flow(Compose([Forgetful(6)])), VECTORS)
    report = caught.value.report
    assert not report.healthy
    assert report.median_error > 1e-3
    assert report.not_finite == 0


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_errors_are_measured_against_the_spread(offset: float) -> None:
    """Half a sigma at 1e5 is a small share of the vector, and all of what tells vectors apart."""
    vectors = offset + torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
    whitening = shrinkage_whitening(vectors)
    assert audit(Flow(Compose([whitening, AffineCoupling(6)])), vectors).healthy
    report = measure_health(Flow(Compose([whitening, Forgetful(6, wrong=0.5)])), vectors)
    assert not report.healthy
    assert report.median_error > 0.05


def test_an_exploding_inverse_is_unhealthy() -> None:
    flow = real_nvp(6, couplings=8, scale_bound=8.0)
    randomise(flow, torch.Generator().manual_seed(0), gain=6.0)
    with pytest.raises(UnhealthyFlow, match="round-trip"):
        audit(flow, VECTORS)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_unhealthy(poison: float) -> None:
    flow = small_flow(6)
    with torch.no_grad():
        next(flow.parameters())[0] = poison
    report = measure_health(flow, VECTORS)
    assert not report.healthy
    assert report.not_finite > 0
    with pytest.raises(UnhealthyFlow):
        audit(flow, VECTORS)


@pytest.mark.parametrize("vector", [0.0, 0.1, 3.0])
def test_identical_vectors_can_be_audited(vector: float) -> None:
    vectors = torch.full((5, 6), vector)
    assert audit(small_flow(6), vectors).healthy
    if vector:
        assert not measure_health(Flow(Forgetful(6, wrong=0.1)), vectors).healthy


@pytest.mark.parametrize(
    "vectors", [torch.zeros(0, 6), torch.zeros(6), torch.full((3, 6), torch.nan), torch.zeros(3, 5)]
)
def test_vectors_that_audit_nothing_are_refused(vectors: Tensor) -> None:
    with pytest.raises(FlowError) as caught:
        audit(small_flow(6), vectors)
    assert not isinstance(caught.value, UnhealthyFlow)


def test_stretches_are_the_singular_values_of_a_linear_flow() -> None:
    generator = torch.Generator().manual_seed(3)
    vectors = (torch.randn(200, 6, generator=generator) * torch.arange(1, 7)).double()
    whitening = shrinkage_whitening(vectors, shrinkage=0.1).double()
    report = measure_health(Flow(whitening), vectors)
    sigma = vectors.std(0, correction=0).max()
    scale = whitening.get_buffer("scale")
    next_largest = scale.sort().values[-2] / scale.max()
    assert 0.75 < float(next_largest) < 0.8
    # The estimate is a lower bound, within a percent where the next largest stretch is that much less.
    assert 0.99 <= report.forward_stretch / float(sigma / scale.min()) <= 1 + 1e-9
    assert 0.99 <= report.inverse_stretch / float(scale.max() / sigma) <= 1 + 1e-9


def test_a_flow_that_leaves_no_digit_of_a_direction_is_unhealthy() -> None:
    """Round-trip errors look at the largest feature; the stretch sees the one that is lost beside it."""
    vectors = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    narrow = ElementwiseAffine(torch.zeros(2), torch.tensor([1.0, 1e-7]))
    report = measure_health(Flow(narrow), vectors)
    assert report.largest_error <= 1e-5
    assert report.forward_stretch * report.inverse_stretch > report.stretch_limit
    with pytest.raises(UnhealthyFlow, match="stretches"):
        audit(Flow(narrow), vectors)


def test_an_audit_changes_nothing() -> None:
    flow = small_flow(6)
    before = {name: p.clone() for name, p in flow.named_parameters()}
    audit(flow, VECTORS)
    for name, parameter in flow.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_a_continuous_flow_that_cannot_be_integrated_is_unhealthy() -> None:
    flow = ffjord(6, hidden=8)
    with torch.no_grad():
        next(flow.parameters())[0, 0] = math.nan
    report = measure_health(flow, VECTORS)
    assert report.not_finite == 600
    with pytest.raises(UnhealthyFlow):
        audit(flow, VECTORS)
