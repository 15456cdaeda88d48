"""Continuous flows: the checks of their own, and what they refuse. The registry holds the contract's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from differnet.flows import Flow, FlowError, Permutation, real_nvp, shrinkage_whitening
from differnet.flows.augmentation import AugmentedFlow, augmented, augmented_bound
from differnet.flows.continuous import FIXED, ContinuousTransform, ffjord, rnode
from differnet.flows.objectives import flow_matching, regularised_nll
from differnet.flows.tolerances import tolerance_table
from differnet.flows.velocity import PerceptronVelocity, Velocity
from flows.continuous_checks import CONTINUOUS_CHECKS


@pytest.mark.parametrize("check", CONTINUOUS_CHECKS)
def test_property(check: str) -> None:
    CONTINUOUS_CHECKS[check]()


class Explosion(Velocity):
    """``dx/dt = x^2``: leaves every bound at ``t = 1 / x(0)``."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x.square()


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_a_path_that_explodes_is_refused(method: str) -> None:
    with pytest.raises(FlowError):
        ContinuousTransform(Explosion(1), method=method, steps=50).inverse(torch.tensor([2.0]))


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_vectors_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(FlowError):
        ffjord(2).log_prob(torch.tensor([0.0, number]))


def test_a_field_without_slopes_is_carried_exactly() -> None:
    class Wind(Velocity):
        def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
            return torch.ones_like(x)

    for trace in ("exact", "hutchinson"):
        x, log_det = ContinuousTransform(Wind(2), trace=trace).inverse(torch.zeros(3, 2))
        torch.testing.assert_close(x, torch.ones(3, 2))
        assert torch.equal(log_det, torch.zeros(3))


def test_presets_start_near_the_standard_normal() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    normal = Flow(Permutation.reverse(3)).log_prob(x)
    for flow in (ffjord(3), rnode(3)):
        # A hundredth of usual weights moves log-densities by a few hundredths.
        assert float((flow.log_prob(x) - normal).detach().abs().max()) < 0.2


def test_seeds_decide_weights() -> None:
    first, again, other = (ffjord(2, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_tolerances_stop_at_what_a_dtype_can_give() -> None:
    """In float32 a tolerance of 1e-12 costs what 10 units of the last place cost, and no more."""
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    velocity = PerceptronVelocity(2, hidden=8)
    least = 10 * torch.finfo(torch.float32).eps
    counts = []
    for tolerance in (1e-12, least, 1e-3):
        transform = ContinuousTransform(velocity, rtol=tolerance, atol=tolerance)
        transform(x)
        counts.append(transform.evaluations)
    assert counts[0] == counts[1] > counts[2]


def test_the_augmented_flow_has_no_log_prob() -> None:
    flow = augmented(3, 2, extra=2)
    assert not hasattr(flow, "log_prob")
    assert (flow.features, flow.context_features) == (3, 2)
    x, context = torch.zeros(4, 7, 3), torch.zeros(2)
    assert flow.lower_bound(x, context, draws=3).shape == (4, 7)
    assert flow.lower_bound(x[0, 0], context).shape == ()
    assert flow.sample((4, 7), context).shape == (4, 7, 3)
    flow.check(x, context)
    for wrong in (x[..., :2], torch.zeros(4, 5)):
        with pytest.raises(FlowError):
            flow.check(wrong, context)
    with pytest.raises(FlowError):
        flow.check(x, None)


def test_whitening_before_an_augmented_flow_leaves_the_noise_alone() -> None:
    vectors = 5 + 3 * torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    white = shrinkage_whitening(vectors)
    flow = augmented(2, extra=1, first=white)
    flow.start_from(vectors)
    bound = flow.lower_bound(vectors, generator=torch.Generator().manual_seed(1))
    # The untrained field moves log-densities by a few hundredths.
    assert float((bound - Flow(white).log_prob(vectors)).detach().abs().max()) < 0.5


def test_objectives_keep_the_batch_shape_and_broadcast_contexts() -> None:
    flow = ffjord(3, 2, hidden=8)
    x, context = torch.zeros(4, 7, 3), torch.zeros(2)
    for objective in (flow_matching(), regularised_nll()):
        for batch in ((), (7,), (4, 7), (0,)):
            loss = objective(flow, torch.zeros(*batch, 3), context, torch.Generator())
            assert loss.shape == batch
        assert bool(objective(flow, x, context, torch.Generator()).isfinite().all())


def trainable_before() -> Tensor:
    flow = ffjord(2, first=real_nvp(2).transform)
    return flow_matching()(flow, torch.zeros(3, 2), None, torch.Generator())


@pytest.mark.parametrize(
    "build",
    [
        lambda: PerceptronVelocity(0),
        lambda: PerceptronVelocity(2, -1),
        lambda: PerceptronVelocity(2, hidden=0),
        lambda: PerceptronVelocity(2, frequencies=0),
        lambda: ffjord(2, trace="approximate"),  # type: ignore[arg-type]
        lambda: ffjord(2, noise="uniform"),  # type: ignore[arg-type]
        lambda: ffjord(2, gradients="none"),  # type: ignore[arg-type]
        lambda: ffjord(2, method="leapfrog"),
        lambda: ffjord(2, method="rk4", steps=0),
        lambda: ffjord(2, rtol=0.0),
        lambda: ffjord(2, atol=-1.0),
        lambda: ContinuousTransform(PerceptronVelocity(2), probes=0),
        lambda: ffjord(2, first=real_nvp(3).transform),
        lambda: regularised_nll(kinetic=-1.0),
        lambda: regularised_nll(jacobian=float("nan")),
        lambda: regularised_nll()(real_nvp(2), torch.zeros(3, 2), None, torch.Generator()),
        lambda: flow_matching(sigma_min=1.0),
        lambda: flow_matching(sigma_min=-0.1),
        lambda: flow_matching()(real_nvp(2), torch.zeros(3, 2), None, torch.Generator()),
        trainable_before,
        lambda: augmented(2, extra=0),
        lambda: AugmentedFlow(ffjord(2), 2),
        lambda: augmented(2).lower_bound(torch.zeros(2), draws=0),
        lambda: augmented(2).lower_bound(torch.zeros(3)),
        lambda: augmented(2).joined(torch.zeros(2), torch.zeros(2)),
        lambda: augmented_bound(draws=0),
    ],
)
def test_meaningless_requests_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(FlowError):
        build()


@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps_have_no_table_of_tolerances(method: str) -> None:
    transform = ContinuousTransform(PerceptronVelocity(2), method=method, steps=4)
    with pytest.raises(FlowError, match=method) as caught:
        tolerance_table(transform, torch.zeros(3, 2))
    assert "dopri5" in caught.value.expected
    assert transform.method == method
