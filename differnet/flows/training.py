"""Maximum-likelihood training of a flow on smoothed vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from differnet.flows.density import Flow
from differnet.flows.transform import FlowError


@dataclass(frozen=True)
class TrainingPlan:
    """How a flow is trained. The number of steps is fixed beforehand: nothing is picked afterwards.

    Attributes:
        steps: Optimiser steps.
        batch: Vectors a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW, on weights and biases alike.
        context_noise: Standard deviation of noise on the context, in the context's unit: a context
            that names a training part exactly would let the flow remember that part.
        context_dropout: Share of vectors whose context is replaced by zeros.
        seed: Of batches and noise.

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

    def __post_init__(self) -> None:
        sound = self.steps >= 0 and self.batch >= 1 and self.learning_rate > 0 and self.weight_decay >= 0
        if not sound or not self.context_noise >= 0 or not 0 <= self.context_dropout <= 1:
            raise FlowError(
                expected="steps >= 0, batch >= 1, a positive rate, noise >= 0, a dropout in [0, 1]",
                found=f"{self}",
                remedy="Start from TrainingPlan() and change one number.",
            )


def fit_maximum_likelihood(
    flow: Flow,
    vectors: Tensor,
    context: Tensor | None = None,
    *,
    noise: Tensor | float = 0.0,
    plan: TrainingPlan | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Flow:
    """Train ``flow`` in place by maximum likelihood on ``vectors + noise * standard normal``.

    Adding noise is maximum likelihood on the data's density convolved with the noise: the smoothed
    density that detects (a plain fit spends its likelihood on directions that tell good parts
    apart, not good from bad).

    Args:
        flow: Its parameters are changed; its buffers are not.
        vectors: ``(n, features)``.
        context: ``(n, context_features)``, or ``None`` for an unconditional flow.
        noise: Standard deviation of the smoothing, a number or one a feature.
        plan: Steps, batch, rates and seed.
        progress: Called with (step, mean nll of that batch) after every step.

    Returns:
        The same flow, in evaluation mode.

    Raises:
        FlowError: Nothing to train on, numbers that are not finite, a context that does not belong
            to the vectors, or a loss that stopped being finite.

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
    _check_material(flow, vectors, context, noise)
    parameters = [p for p in flow.parameters() if p.requires_grad]
    if not parameters:
        return flow.eval()
    generator = torch.Generator(device="cpu").manual_seed(plan.seed)
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
    flow.train()
    for step in range(plan.steps):
        index = torch.randint(len(vectors), (plan.batch,), generator=generator)
        x = vectors[index]
        x = x + noise * torch.randn(x.shape, generator=generator).to(x)
        given = None if context is None else _blurred(context[index], plan, generator)
        loss = -flow.log_prob(x, given).mean()
        if not bool(torch.isfinite(loss)):
            raise _diverged(step, plan)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        # A norm of 5 nats a unit step: only the rare exploding batch is shortened by it.
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step, float(loss.detach()))
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        raise _diverged(plan.steps, plan)
    return flow.eval()


def _diverged(step: int, plan: TrainingPlan) -> FlowError:
    return FlowError(
        expected="a finite loss and finite weights throughout training",
        found=f"neither at step {step} of {plan.steps}",
        remedy="Lower the learning rate, or look for constant or extreme vectors.",
    )


def _check_material(flow: Flow, vectors: Tensor, context: Tensor | None, noise: Tensor | float) -> None:
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
    flow.transform.check(vectors, context)
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
