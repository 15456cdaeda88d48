"""Training of a flow: maximum likelihood on vectors, reverse KL on an energy."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from differnet.flows.by_hand import CouplingLikelihood
from differnet.flows.density import Density, Flow
from differnet.flows.transform import FlowError

# Steps whose batches are drawn together, and numbers that they may have.
_DRAWN, _MOST_DRAWN = 8, 1 << 22
_LONGEST = 5.0
"""A norm of 5 nats a unit step: only the rare exploding batch is shortened by it."""

AnyDensity = TypeVar("AnyDensity", bound=Density)
AnyFlow = TypeVar("AnyFlow", bound=Flow)

Objective = Callable[[Any, Tensor, Tensor | None, torch.Generator], Tensor]
"""What training makes small: from the flow, a batch and its context to the loss of each vector, ``(n,)``.

The generator is the only source of randomness that an objective may use.
"""

Energy = Callable[[Tensor], Tensor]
"""From ``(n, features)`` vectors to minus the logarithm of a density, up to a constant, ``(n,)``."""


@dataclass(frozen=True)
class TrainingPlan:
    """How a flow is trained.

    The number of steps is fixed beforehand and nothing is picked afterwards, unless vectors are held out
    for that.

    Attributes:
        steps: Optimiser steps; with vectors held out, at most.
        batch: Vectors a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW, on weights and biases alike.
        context_noise: Standard deviation of noise on the context, in the context's unit: a context
            that names a training part exactly would let the flow remember that part.
        context_dropout: Share of vectors whose context is replaced by zeros.
        seed: Of batches and noise.
        check_every: Steps between two looks at held-out vectors.
        patience: Looks without a better held-out loss after which training stops.

    Raises:
        FlowError: A number is outside its range.
    """

    steps: int = 1000
    batch: int = 512
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    context_noise: float = 0.0
    context_dropout: float = 0.0
    seed: int = 0
    check_every: int = 100
    patience: int = 10

    def __post_init__(self) -> None:
        sound = (
            self.steps >= 0
            and self.batch >= 1
            and 0 < self.learning_rate < math.inf
            and self.weight_decay >= 0
        )
        sound = sound and self.context_noise >= 0 and 0 <= self.context_dropout <= 1
        if not sound or min(self.check_every, self.patience) < 1:
            raise FlowError(
                expected=(
                    "steps >= 0, a positive batch, rate, check_every and patience, noise >= 0, "
                    "a dropout in [0, 1]"
                ),
                found=f"{self}",
                remedy="Start from TrainingPlan() and change one number.",
            )


class Material(Protocol):
    """Vectors to train on that are made as they are drawn: all of them at once may fill the memory."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return vectors and their context, ``(n, features)`` and ``(n, context_features)``, by number."""


@dataclass(frozen=True)
class HeldOutCheck:
    """One look at held-out vectors.

    Attributes:
        step: Steps taken so far.
        loss: Mean held-out loss, nats a vector: the nll, or what the objective says.
        best: Whether it is the smallest so far.
    """

    step: int
    loss: float
    best: bool


def negative_log_likelihood(
    flow: Density, x: Tensor, context: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Return ``-log p(x | context)``, the objective of maximum likelihood.

    Raises:
        FlowError: The density is none that can be evaluated.
    """
    if not isinstance(flow, Flow):
        raise FlowError(
            expected="a flow with a log-density",
            found=f"{type(flow).__name__}",
            remedy="Pass an objective that it has, such as augmented_bound().",
        )
    return -flow.log_prob(x, context)


def fit_maximum_likelihood(
    flow: AnyDensity,
    vectors: Tensor | Material,
    context: Tensor | None = None,
    *,
    noise: Tensor | float = 0.0,
    plan: TrainingPlan | None = None,
    objective: Objective = negative_log_likelihood,
    held_out: tuple[Tensor, Tensor | None] | None = None,
    progress: Callable[[int, float], None] | None = None,
    progress_every: int = 1,
    on_check: Callable[[HeldOutCheck], None] | None = None,
) -> AnyDensity:
    """Train ``flow`` in place by maximum likelihood on ``vectors + noise * standard normal``.

    Adding noise is maximum likelihood on the data's density convolved with the noise: the smoothed
    density that detects (a plain fit spends its likelihood on directions that tell good parts
    apart, not good from bad).

    With ``held_out``, the mean held-out loss is measured every ``plan.check_every`` steps. Training stops
    when it has not improved ``plan.patience`` times, and the weights of the best look are kept.

    Args:
        flow: Its parameters are changed; its buffers are only by a data-dependent start
            (`Transform.start_from`).
        vectors: ``(n, features)``, or what makes them and their context when they are drawn.
        context: ``(n, context_features)``, or ``None`` for an unconditional flow.
        noise: Standard deviation of the smoothing, a number or one a feature.
        plan: Steps, batch, rates, patience and seed.
        objective: What is made small; by default the negative log-likelihood. `flow_matching`,
            `regularised_nll` and `augmented_bound` make others.
        held_out: Vectors and their context (or ``None``) that are not trained on; neither noise nor
            blur is added to them.
        progress: Called with (step, mean loss of the batches since it was called last).
        progress_every: Steps between two calls of ``progress``; the last step has one too.
        on_check: Called after every look at the held-out vectors.

    Returns:
        The same flow, in evaluation mode.

    Raises:
        FlowError: Nothing to train on, numbers that are not finite, a context that does not belong
            to the vectors, no steps between two calls, or a loss that stopped being finite.

    Example:
        >>> import torch
        >>> from differnet.flows import TrainingPlan, fit_maximum_likelihood, real_nvp
        >>> vectors = 3 + torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> flow = real_nvp(2, couplings=2, hidden=8)
        >>> before = flow.log_prob(vectors).mean()
        >>> flow = fit_maximum_likelihood(flow, vectors, plan=TrainingPlan(steps=50, batch=64))
        >>> bool(flow.log_prob(vectors).mean() > before + 2)
        True
    """
    plan = plan or TrainingPlan()
    material: Material
    if isinstance(vectors, Tensor):
        _check_material(flow, vectors, context, noise)
        material = _Given(vectors, context)
    elif not len(vectors) or context is not None:
        raise FlowError(
            expected="at least one vector to train on, with its own context",
            found=f"{len(vectors)}" if context is None else "a context beside them",
            remedy="Give context with the vectors, or tensors of both.",
        )
    else:
        _check_material(flow, *vectors[torch.zeros(1, dtype=torch.long)], noise)
        material = vectors
    if held_out is not None:
        _check_material(flow, *held_out, 0.0)
    if progress_every < 1:
        raise FlowError(
            expected="at least one step between two calls of progress",
            found=f"{progress_every=}",
            remedy="Use the default, 1.",
        )
    generator = torch.Generator(device="cpu").manual_seed(plan.seed)

    waiting: list[tuple[Tensor, Tensor | None]] = []

    def drawn(step: int) -> tuple[Tensor, Tensor | None]:
        if not waiting:
            number = max(1, min(_DRAWN, _MOST_DRAWN // (plan.batch * flow.features)))
            waiting.extend(reversed(_batches(number, material, noise, plan, generator)))
        x, given = waiting.pop()
        if step == 0:
            flow.start_from(x, given)
        return x, given

    by_hand = CouplingLikelihood.of(flow) if objective is negative_log_likelihood else None
    slope: _Slope
    if by_hand is not None:
        slope = _ByHand(by_hand, drawn)
    else:

        def loss_of_batch(step: int) -> Tensor:
            x, given = drawn(step)
            return objective(flow, x, given, generator).mean()

        slope = _Automatic(flow, loss_of_batch)
    look = None
    if held_out is not None:
        look = functools.partial(_mean_loss, flow, *held_out, objective, plan)
    _descend(flow, slope, plan, progress, look, on_check, progress_every)
    return flow


def _batches(
    number: int, material: Material, noise: Tensor | float, plan: TrainingPlan, generator: torch.Generator
) -> list[tuple[Tensor, Tensor | None]]:
    """Draw the batches of the next steps, blurred."""
    # To draw a few hundred vectors takes as many operations as to draw some thousand, and these are of those
    # that take longer to begin than to do.
    x, given = material[torch.randint(len(material), (number * plan.batch,), generator=generator)]
    x = x + noise * torch.randn(x.shape, generator=generator).to(x)
    rows = torch.split(x, plan.batch)
    if given is None:
        return [(batch, None) for batch in rows]
    return list(zip(rows, torch.split(_blurred(given, plan, generator), plan.batch), strict=True))


class _Given:
    """Vectors and context that are all there."""

    def __init__(self, vectors: Tensor, context: Tensor | None) -> None:
        self._vectors, self._context = vectors, context

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._vectors[index], None if self._context is None else self._context[index]


def fit_reverse_kl(
    flow: AnyFlow,
    energy: Energy,
    context: Tensor | None = None,
    *,
    plan: TrainingPlan | None = None,
    warm_up: float = 0.5,
    progress: Callable[[int, float], None] | None = None,
) -> AnyFlow:
    """Train ``flow`` in place to have the density ``exp(-energy(x)) / Z``, of which only the energy is known.

    Makes ``E_{x ~ flow}[log p_flow(x) + energy(x)]`` small, which is ``KL(flow || target) - log Z``; with a
    normalised energy (``Z = 1``) the loss is the divergence itself. Samples must be cheap and
    differentiable: use flows with a fast inverse (`planar` and `radial` with ``fast_sampling=True``, `iaf`,
    `real_nvp`).

    Reverse KL leaves out modes that the flow does not find early. The energy is therefore heated at the
    beginning: it is multiplied by a number that grows from 0.01 to 1 over the first share ``warm_up`` of
    the steps.

    Args:
        flow: Its parameters are changed.
        energy: See `Energy`; differentiable.
        context: One context for all samples, ``(context_features,)``, or ``None``.
        plan: Steps, samples a step (``batch``), rates and seed.
        warm_up: Share of the steps in which the energy is heated, in [0, 1].
        progress: Called with (step, mean loss of that batch) after every step.

    Returns:
        The same flow, in evaluation mode.

    Raises:
        FlowError: An energy of the wrong shape, a share outside [0, 1], or a loss that stopped being finite.

    Example:
        >>> import torch
        >>> from differnet.flows import TrainingPlan, fit_reverse_kl, planar
        >>> flow = planar(1, layers=4, fast_sampling=True)
        >>> shifted = lambda x: 0.5 * (x - 2).square().sum(-1)
        >>> flow = fit_reverse_kl(flow, shifted, plan=TrainingPlan(steps=300, batch=128, learning_rate=2e-2))
        >>> mean = flow.sample((2000,), generator=torch.Generator().manual_seed(0)).mean()
        >>> bool(abs(mean - 2) < 0.2)
        True

    Source: Rezende, Mohamed 2015, "Variational inference with normalizing flows", eq. 15 and section 6.1.
    """
    plan = plan or TrainingPlan()
    if not 0 <= warm_up <= 1:
        raise FlowError(
            expected="a warm_up between 0 and 1", found=f"{warm_up=}", remedy="Use the default, 0.5."
        )
    generator = torch.Generator(device="cpu").manual_seed(plan.seed)
    heated = max(warm_up * plan.steps, 1.0)

    def loss_of_batch(step: int) -> Tensor:
        x, log_prob = flow.rsample_and_log_prob((plan.batch,), context, generator=generator)
        cold = energy(x)
        if cold.shape != log_prob.shape:
            raise FlowError(
                expected=f"an energy for each of {plan.batch} vectors",
                found=f"a tensor of shape {tuple(cold.shape)}",
                remedy="Sum the energy over the last axis.",
            )
        return (log_prob + min(1.0, 0.01 + step / heated) * cold).mean()

    _descend(flow, _Automatic(flow, loss_of_batch), plan, progress)
    return flow


class _Slope(Protocol):
    """A loss and its gradients.

    Attributes:
        parameters: What is learned.
    """

    parameters: list[nn.Parameter]

    def __call__(self, step: int) -> Tensor:
        """Return the loss of a step's batch, and leave its gradients at the parameters."""

    def settle(self) -> None:
        """See that the flow has the parameters as they are now."""


class _Automatic:
    """By automatic differentiation."""

    def __init__(self, flow: nn.Module, loss_of_batch: Callable[[int], Tensor]) -> None:
        self.parameters = [p for p in flow.parameters() if p.requires_grad]
        self._loss = loss_of_batch

    def __call__(self, step: int) -> Tensor:
        loss = self._loss(step)
        for parameter in self.parameters:
            parameter.grad = None
        if bool(torch.isfinite(loss)):
            torch.autograd.backward(loss)
        return loss.detach()

    def settle(self) -> None:
        """The flow's own parameters are what is learned."""


class _ByHand:
    """In closed form."""

    def __init__(
        self, likelihood: CouplingLikelihood, drawn: Callable[[int], tuple[Tensor, Tensor | None]]
    ) -> None:
        self.parameters = [likelihood.weights]
        self._likelihood, self._drawn = likelihood, drawn

    def __call__(self, step: int) -> Tensor:
        return self._likelihood.loss(*self._drawn(step))

    def settle(self) -> None:
        self._likelihood.give()


def _descend(
    flow: nn.Module,
    slope: _Slope,
    plan: TrainingPlan,
    progress: Callable[[int, float], None] | None = None,
    held_out_loss: Callable[[], float] | None = None,
    on_check: Callable[[HeldOutCheck], None] | None = None,
    progress_every: int = 1,
) -> None:
    """Take the plan's steps; end in evaluation mode, with the best weights where they are known."""
    flow.eval()
    parameters = slope.parameters
    if not parameters:
        return
    optimiser = torch.optim.AdamW(
        parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        plan.learning_rate,
        total_steps=max(plan.steps, 2),
        # A warm-up of exactly one step has no length for torch, which then divides by zero.
        pct_start=0.05 if plan.steps != 20 else 0.1,
    )
    best, best_state, since = math.inf, None, 0
    lost, told = 0.0, 0
    flow.train()
    for taken in range(1, plan.steps + 1):
        loss = float(slope(taken - 1))
        if not math.isfinite(loss):
            raise _diverged(taken - 1, plan)
        shorten(parameters)
        optimiser.step()
        schedule.step()
        lost += loss
        if progress is not None and (taken % progress_every == 0 or taken == plan.steps):
            slope.settle()
            progress(taken - 1, lost / (taken - told))
            lost, told = 0.0, taken
            # Whoever looks at the flow may have put it into another mode.
            flow.train()
        if held_out_loss is None or (taken % plan.check_every and taken < plan.steps):
            continue
        slope.settle()
        flow.eval()
        now = held_out_loss()
        better = now < best
        if on_check is not None:
            on_check(HeldOutCheck(taken, now, better))
        if better:
            best, best_state, since = now, copy.deepcopy(flow.state_dict()), 0
        else:
            since += 1
        if since >= plan.patience:
            break
        flow.train()
    slope.settle()
    flow.eval()
    if best_state is not None:
        flow.load_state_dict(best_state)
    elif held_out_loss is not None and plan.steps:
        raise FlowError(
            expected="a finite loss of the held-out vectors at least once",
            found=f"none in {plan.steps} steps",
            remedy="Look for extreme vectors among those held out.",
        )
    if not all(bool(torch.isfinite(p).all()) for p in flow.parameters()):
        raise _diverged(plan.steps, plan)


def shorten(parameters: Sequence[nn.Parameter]) -> None:
    """Shorten gradients that are too long, all together."""
    if len(parameters) > 1:
        torch.nn.utils.clip_grad_norm_(parameters, _LONGEST)
        return
    # The same of one row of numbers, without a dozen operations.
    gradient = parameters[0].grad
    if gradient is not None and (length := float(torch.linalg.vector_norm(gradient))) > _LONGEST:
        gradient.mul_(_LONGEST / (length + 1e-6))


def _mean_loss(
    flow: Density, vectors: Tensor, context: Tensor | None, objective: Objective, plan: TrainingPlan
) -> float:
    # Always the same randomness: two looks differ by the weights alone.
    generator = torch.Generator(device="cpu").manual_seed(plan.seed)
    total = 0.0
    size = max(plan.batch, 4096)
    with torch.no_grad():
        for start in range(0, len(vectors), size):
            given = None if context is None else context[start : start + size]
            loss = objective(flow, vectors[start : start + size], given, generator)
            total += float(loss.double().sum())
    return total / len(vectors)


def _diverged(step: int, plan: TrainingPlan) -> FlowError:
    return FlowError(
        expected="a finite loss and finite weights throughout training",
        found=f"neither at step {step} of {plan.steps}",
        remedy="Lower the learning rate, or look for constant or extreme vectors.",
    )


def _check_material(flow: Density, vectors: Tensor, context: Tensor | None, noise: Tensor | float) -> None:
    given = [vectors] if context is None else [vectors, context]
    finite = all(bool(torch.isfinite(t).all()) for t in given)
    if vectors.dim() != 2 or len(vectors) == 0 or not finite:
        raise FlowError(
            expected="(n, features) vectors, at least one, all finite, and as finite a context",
            found=f"shape {tuple(vectors.shape)}, {finite=}",
            remedy="Look for unreadable pictures among the good parts.",
        )
    if context is not None and context.shape[:-1] != vectors.shape[:-1]:
        raise FlowError(
            expected=f"one context for each of {len(vectors)} vectors",
            found=f"a context of shape {tuple(context.shape)}",
            remedy="Expand a shared context to (n, context_features).",
        )
    flow.check(vectors, context)
    spread = torch.as_tensor(noise)
    if spread.shape not in ((), (flow.features,)) or not bool(((spread >= 0) & spread.isfinite()).all()):
        raise FlowError(
            expected="a finite noise of 0 or more, one number or one a feature",
            found=f"shape {tuple(spread.shape)}, least {float(spread.min()):.3g}",
            remedy="Give the standard deviation in the unit of the vectors.",
        )


def _blurred(context: Tensor, plan: TrainingPlan, generator: torch.Generator) -> Tensor:
    context = context + plan.context_noise * torch.randn(context.shape, generator=generator).to(context)
    if plan.context_dropout > 0:
        kept = torch.rand(len(context), 1, generator=generator) >= plan.context_dropout
        context = context * kept.to(context)
    return context
