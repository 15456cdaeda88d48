"""Training: what it learns, that it repeats bit for bit, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

from differnet.flows import (
    Flow,
    FlowError,
    Permutation,
    TrainingPlan,
    fit_maximum_likelihood,
    real_nvp,
    shrinkage_whitening,
)
from differnet.flows.training import shorten
from flows.checks import TRAINING_CHECKS, small_flow


@pytest.mark.parametrize("check", TRAINING_CHECKS)
def test_property(check: str) -> None:
    TRAINING_CHECKS[check]()


def held_out_nll(flow: Flow, vectors: Tensor) -> tuple[float, float]:
    """Return mean nll and its standard error."""
    with torch.no_grad():
        nll = -flow.log_prob(vectors)
    return float(nll.mean()), float(nll.std()) / len(nll) ** 0.5


def test_recovers_the_entropy_of_a_gaussian() -> None:
    factor = torch.tensor([[1.0, 0.0], [1.5, 0.5]])
    generator = torch.Generator().manual_seed(0)
    train, held = (torch.randn(4000, 2, generator=generator) @ factor.T + 2 for _ in range(2))
    flow = small_flow()
    before, _ = held_out_nll(flow, held)
    plan = TrainingPlan(steps=300, batch=256, learning_rate=1e-2)
    after, error = held_out_nll(fit_maximum_likelihood(flow, train, plan=plan), held)
    entropy = math.log(2 * math.pi * math.e) + math.log(0.5)
    assert before > entropy + 1, "the test starts where it should end"
    # 0.05 nats tolerate 300 steps; no model's expected nll is below the entropy.
    assert entropy - 4 * error <= after <= entropy + 0.05 + 4 * error


def moons(seed: int) -> Tensor:
    return torch.as_tensor(make_moons(3000, noise=0.08, random_state=seed)[0], dtype=torch.float32)


def test_beats_the_gaussian_on_two_moons() -> None:
    train, held = moons(0), moons(1)
    gaussian = Flow(shrinkage_whitening(train))
    flow = real_nvp(2, couplings=6, hidden=32, first=shrinkage_whitening(train))
    fit_maximum_likelihood(flow, train, plan=TrainingPlan(steps=300, batch=256, learning_rate=1e-2))
    # About 1.0 nat is reached; 0.8 is the margin asked for.
    assert held_out_nll(flow, held)[0] < held_out_nll(gaussian, held)[0] - 0.8


def test_reports_progress_and_returns_the_same_flow_in_evaluation_mode() -> None:
    seen: list[tuple[int, float]] = []
    flow = small_flow()
    plan = TrainingPlan(steps=5, batch=8)
    returned = fit_maximum_likelihood(
        flow, torch.ones(3, 2), plan=plan, progress=lambda step, nll: seen.append((step, nll))
    )
    assert returned is flow
    assert not flow.training
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4]
    # The first loss is that of the identity: the standard normal at (1, 1).
    assert seen[0][1] == pytest.approx(1 + math.log(2 * math.pi))


@pytest.mark.parametrize("every", [1, 3, 7, 10, 99])
def test_progress_now_and_then_tells_the_mean_loss_since_the_last_time(every: int) -> None:
    plan = TrainingPlan(steps=10, batch=8)
    vectors = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    losses: list[float] = []
    told: list[tuple[int, float]] = []
    fit_maximum_likelihood(small_flow(), vectors, plan=plan, progress=lambda _, loss: losses.append(loss))
    fit_maximum_likelihood(
        small_flow(),
        vectors,
        plan=plan,
        progress=lambda step, loss: told.append((step, loss)),
        progress_every=every,
    )
    assert len(losses) == 10
    assert [step for step, _ in told] == sorted({*range(every - 1, 10, every), 9})
    start = 0
    for step, loss in told:
        assert loss == pytest.approx(sum(losses[start : step + 1]) / (step + 1 - start))
        start = step + 1


def test_progress_cannot_be_told_more_often_than_a_step() -> None:
    with pytest.raises(FlowError, match="progress_every=0"):
        fit_maximum_likelihood(small_flow(), torch.ones(3, 2), progress_every=0)


def test_one_exploding_batch_is_shortened_and_not_more() -> None:
    short, long = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    short.grad, long.grad = torch.full((4,), 2.0), torch.full((4,), 30.0)
    before = short.grad.clone()
    for parameter in (short, long):
        shorten([parameter])
    assert torch.equal(short.grad, before)
    assert float(long.grad.norm()) == pytest.approx(5.0)
    # Of several it is the length of all together that counts.
    pair = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for parameter, slope in zip(pair, (30.0, 40.0), strict=True):
        parameter.grad = torch.tensor([slope])
    shorten(pair)
    assert [float(p.grad) for p in pair if p.grad is not None] == pytest.approx([3.0, 4.0])


@pytest.mark.parametrize("steps", [0, 1, 2, 19, 20, 21, 40])
def test_any_number_of_steps_is_trained(steps: int) -> None:
    count = 0

    def tick(step: int, nll: float) -> None:
        nonlocal count
        count += 1

    fit_maximum_likelihood(
        small_flow(), torch.ones(3, 2), plan=TrainingPlan(steps=steps, batch=4), progress=tick
    )
    assert count == steps


def test_a_flow_without_parameters_is_returned_as_it_is() -> None:
    flow = Flow(Permutation.reverse(2))
    assert fit_maximum_likelihood(flow, torch.ones(3, 2)) is flow


def test_fewer_vectors_than_a_batch_are_enough() -> None:
    flow = fit_maximum_likelihood(small_flow(), torch.ones(1, 2), plan=TrainingPlan(steps=3))
    assert bool(torch.isfinite(flow.log_prob(torch.ones(2))))


GOOD = torch.ones(4, 2)


@pytest.mark.parametrize(
    ("vectors", "context", "noise"),
    [
        (torch.ones(0, 2), None, 0.0),
        (torch.ones(2), None, 0.0),
        (torch.ones(4, 3), None, 0.0),
        (torch.tensor([[1.0, math.nan]]), None, 0.0),
        (torch.tensor([[1.0, math.inf]]), None, 0.0),
        (GOOD, torch.ones(4, 1), 0.0),
        (GOOD, None, -1.0),
        (GOOD, None, math.nan),
        (GOOD, None, torch.ones(3)),
    ],
)
def test_refuses_vectors_and_noise_without_meaning(
    vectors: Tensor, context: Tensor | None, noise: float | Tensor
) -> None:
    flow = small_flow()
    before = {name: weight.clone() for name, weight in flow.state_dict().items()}
    with pytest.raises(FlowError):
        fit_maximum_likelihood(flow, vectors, context, noise=noise, plan=TrainingPlan(steps=1))
    assert all(torch.equal(before[name], weight) for name, weight in flow.state_dict().items())


@pytest.mark.parametrize(
    "context", [None, torch.ones(4, 2), torch.ones(3, 1), torch.ones(1), torch.full((4, 1), math.nan)]
)
def test_refuses_a_context_that_does_not_belong_to_the_vectors(context: Tensor | None) -> None:
    with pytest.raises(FlowError):
        fit_maximum_likelihood(small_flow(2, 1), GOOD, context, plan=TrainingPlan(steps=1))


def test_a_loss_that_is_not_finite_stops_training() -> None:
    with pytest.raises(FlowError, match="step 0"):
        fit_maximum_likelihood(small_flow(), torch.full((4, 2), 1e30), plan=TrainingPlan(steps=3))


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"check_every": 0},
        {"patience": 0},
        {"weight_decay": -1.0},
        {"context_noise": -1.0},
        {"context_noise": math.nan},
        {"context_dropout": 1.5},
    ],
)
def test_a_plan_without_meaning_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(FlowError):
        TrainingPlan(**settings)


def test_held_out_vectors_that_are_never_finite_stop_training() -> None:
    with pytest.raises(FlowError, match="held-out"):
        fit_maximum_likelihood(
            small_flow(), GOOD, held_out=(torch.full((2, 2), 1e30), None), plan=TrainingPlan(steps=3)
        )


class Drawn:
    """Vectors that are made as they are drawn."""

    def __init__(self, vectors: Tensor, context: Tensor | None) -> None:
        self.vectors, self.context = vectors, context

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.vectors[index], None if self.context is None else self.context[index]


@pytest.mark.parametrize("width", [0, 3])
def test_vectors_that_are_made_as_they_are_drawn_train_alike(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(200, 2, generator=generator)
    context = torch.randn(200, width, generator=generator) if width else None
    plan = TrainingPlan(steps=20, batch=32, context_noise=0.1)
    flows = [real_nvp(2, width, couplings=2, hidden=8) for _ in range(2)]
    fit_maximum_likelihood(flows[0], vectors, context, noise=0.1, plan=plan)
    fit_maximum_likelihood(flows[1], Drawn(vectors, context), noise=0.1, plan=plan)
    for one, other in zip(flows[0].parameters(), flows[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_vectors_that_are_made_as_they_are_drawn_are_checked() -> None:
    flow, context = real_nvp(2, 3, couplings=2, hidden=8), torch.zeros(5, 3)
    for material, beside in (
        (Drawn(torch.zeros(0, 2), torch.zeros(0, 3)), None),
        (Drawn(torch.zeros(5, 2), context), context),
        (Drawn(torch.zeros(5, 2), None), None),
        (Drawn(torch.zeros(5, 4), context), None),
        (Drawn(torch.full((5, 2), math.nan), context), None),
    ):
        with pytest.raises(FlowError):
            fit_maximum_likelihood(flow, material, beside, plan=TrainingPlan(steps=1))
