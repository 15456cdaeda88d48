"""Gradients that are written out are those of automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from differnet.flows import (
    ActNorm,
    Compose,
    ElementwiseAffine,
    Flow,
    Leading,
    TrainingPlan,
    fit_maximum_likelihood,
    nice,
    real_nvp,
)
from differnet.flows.by_hand import CouplingLikelihood


def _flow(features: int, context: int, *, first: bool = True) -> Flow:
    generator = torch.Generator().manual_seed(features)
    scale = 0.5 + torch.rand(features, generator=generator)
    rescale = ElementwiseAffine(torch.randn(features, generator=generator), scale) if first else None
    flow = real_nvp(features, context, couplings=3, hidden=16, first=rescale, seed=1).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return flow


def _vectors(number: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Some of them lie beyond the bound on what a network sees, where its gradient is 0.
    return 6 * torch.randn(number, width, generator=generator, dtype=torch.float64)


def _written_out(flow: Flow) -> CouplingLikelihood:
    found = CouplingLikelihood.of(flow)
    assert found is not None
    return found


@pytest.mark.parametrize(("features", "context"), [(2, 0), (9, 5), (40, 26), (7, 1)])
def test_loss_and_gradients_are_those_of_automatic_differentiation(features: int, context: int) -> None:
    flow = _flow(features, context)
    x, given = _vectors(60, features, 0), _vectors(60, context, 1) if context else None
    expected = -flow.log_prob(x, given).mean()
    torch.autograd.backward(expected)
    gradients = [p.grad.clone() for p in flow.parameters() if p.grad is not None]

    by_hand = _written_out(flow)
    loss = by_hand.loss(x, given)
    assert by_hand.weights.grad is not None
    by_hand.weights.data.copy_(by_hand.weights.grad)
    by_hand.give()

    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    assert len(gradients) == len(list(flow.parameters()))
    for found, wanted in zip(flow.parameters(), gradients, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-9, atol=1e-12)


def test_weights_come_back_as_they_were() -> None:
    flow = _flow(9, 5)
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    by_hand = _written_out(flow)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    by_hand.give()
    for name, value in flow.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_training_is_that_of_automatic_differentiation(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, given = _vectors(300, 9, 2), _vectors(300, 5, 3) / 6
    plan = TrainingPlan(steps=40, batch=64, context_noise=0.1)
    flows, losses = [_flow(9, 5), _flow(9, 5)], [list[float](), list[float]()]
    fit_maximum_likelihood(
        flows[0], vectors, given, noise=0.1, plan=plan, progress=lambda _, loss: losses[0].append(loss)
    )
    monkeypatch.setattr(CouplingLikelihood, "of", lambda _: None)
    fit_maximum_likelihood(
        flows[1], vectors, given, noise=0.1, plan=plan, progress=lambda _, loss: losses[1].append(loss)
    )
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][-1] < losses[0][0] - 1
    for one, other in zip(flows[0].parameters(), flows[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_whoever_watches_a_training_sees_the_weights_of_the_step() -> None:
    flow = real_nvp(4, couplings=2, hidden=8)
    seen: list[float] = []
    weight = next(flow.parameters())
    vectors = _vectors(100, 4, 0).float()
    plan = TrainingPlan(steps=5, batch=16)
    fit_maximum_likelihood(
        flow, vectors, plan=plan, progress=lambda *_: seen.append(float(weight.detach().sum()))
    )
    assert len(set(seen)) > 1
    assert seen[-1] == float(weight.detach().sum())


def test_layers_that_are_not_written_out_are_left_to_automatic_differentiation() -> None:
    chain = real_nvp(4, couplings=2, hidden=8)
    frozen = real_nvp(4, couplings=2, hidden=8)
    next(frozen.parameters()).requires_grad_(False)
    for flow in (
        nice(4, couplings=2, hidden=8),
        real_nvp(1, 2, couplings=2, hidden=8),
        Flow(Leading(chain.transform, 6)),
        Flow(Compose([ActNorm(4), chain.transform])),
        Flow(ElementwiseAffine(torch.zeros(4), torch.ones(4))),
        frozen,
    ):
        assert CouplingLikelihood.of(flow) is None
    assert CouplingLikelihood.of(Flow(Compose([chain.transform, chain.transform]))) is None
