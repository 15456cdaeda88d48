"""Augmented flows: extra dimensions for the flow to move in, and the bound that is left of the density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from differnet.flows.continuous import ffjord
from differnet.flows.density import Density, Flow
from differnet.flows.elementwise import Leading
from differnet.flows.training import Objective
from differnet.flows.transform import FlowError, Transform

_LOG_2PI = math.log(2 * math.pi)


class AugmentedFlow(Density):
    """A flow over ``(x, e)`` with ``extra`` dimensions ``e`` of noise beside the vector.

    A continuous flow cannot carry one ball out of another's inside: paths do not cross. With room beside
    the data they pass each other.

    The price is the density. ``p(x) = int p(x, e) de`` has no closed form, so there is **no** ``log_prob``;
    with ``e_k ~ q = N(0, I)`` there is

        lower_bound(x) = log 1/K sum_k p(x, e_k) / q(e_k),

    whose expectation is at most ``log p(x)`` and rises with ``K = draws`` towards it (Burda et al. 2016,
    theorem 1). A single value may lie above ``log p(x)``; the negative bound is no exact nll.

    Zeros instead of noise, as in the augmented neural ODE for regression, leave no density at all: the
    joint vectors then lie on a plane without volume.

    Args:
        flow: Over ``features + extra`` numbers, the vector's first.
        extra: How many of them are noise.

    Raises:
        FlowError: ``extra`` is not between 1 and ``flow.features - 1``.

    Example:
        >>> import torch
        >>> from differnet.flows.augmentation import augmented
        >>> flow = augmented(2, extra=1)
        >>> flow.lower_bound(torch.zeros(5, 2), draws=8).shape, flow.sample((3,)).shape
        (torch.Size([5]), torch.Size([3, 2]))

    Source: Dupont et al. 2019, "Augmented neural ODEs"; density: Huang et al. 2020, "Augmented
    normalizing flows", eq. 5, Chen et al. 2020, "VFlow", eq. 6 and 11 (with a learned ``q``).
    """

    def __init__(self, flow: Flow, extra: int) -> None:
        super().__init__()
        if not 1 <= extra < flow.features:
            raise FlowError(
                expected=f"1 to {flow.features - 1} extra dimensions among the flow's {flow.features}",
                found=f"{extra=}",
                remedy="Build the flow over features + extra, or use it without augmentation.",
            )
        self.flow = flow
        self.extra = extra

    @property
    def features(self) -> int:
        """Width of the vectors, without the extra dimensions."""
        return self.flow.features - self.extra

    @property
    def context_features(self) -> int:
        """Width of the context; 0 when the density is unconditional."""
        return self.flow.context_features

    def check(self, x: Tensor, context: Tensor | None) -> None:
        """Check that vectors and context fit, as `Transform.check` does.

        Raises:
            FlowError: They do not.
        """
        self.flow.transform.check(self.joined(x, x.new_zeros(*x.shape[:-1], self.extra)), context)

    def start_from(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let the flow choose its starting weights from ``x`` beside noise; see `Transform.start_from`."""
        noise = torch.randn(*x.shape[:-1], self.extra, generator=torch.Generator().manual_seed(0))
        self.flow.transform.start_from(self.joined(x, noise.to(x)), context)

    def joined(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return ``(x, noise)``; ``noise`` may have axes before those of ``x``.

        Raises:
            FlowError: A width is wrong.
        """
        if x.shape[-1:] != (self.features,) or noise.shape[-1:] != (self.extra,):
            raise FlowError(
                expected=f"vectors of {self.features} features and noise of {self.extra}",
                found=f"shapes {tuple(x.shape)} and {tuple(noise.shape)}",
                remedy="Pass vectors without the extra dimensions.",
            )
        return torch.cat([x.expand(*noise.shape[:-1], self.features), noise], dim=-1)

    def lower_bound(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return ``log 1/K sum_k p(x, e_k) / q(e_k)`` in nats, ``(*batch,)``: at most ``log p`` on average.

        Args:
            x: ``(*batch, features)``.
            context: Broadcasts over ``batch``.
            draws: ``K``; the gap narrows as it grows.
            generator: Source of the noise; torch's own when ``None``.

        Raises:
            FlowError: ``draws`` is not positive, or vectors or context do not fit.
        """
        if draws < 1:
            raise FlowError(expected="draws >= 1", found=f"{draws=}", remedy="One is enough to train.")
        shape = (draws, *x.shape[:-1], self.extra)
        noise = torch.randn(shape, generator=generator).to(x)
        proposal = -0.5 * (noise.square().sum(-1) + self.extra * _LOG_2PI)
        ratios = self.flow.log_prob(self.joined(x, noise), context) - proposal
        return torch.logsumexp(ratios, dim=0) - math.log(draws)

    def sample(
        self,
        shape: tuple[int, ...] = (),
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw ``(*shape, features)`` vectors exactly: joint samples without their extra dimensions.

        Args:
            shape: Of the batch.
            context: Broadcasts over ``shape``.
            generator: Source of randomness; torch's own when ``None``.

        Raises:
            FlowError: A context is missing or not expected.
        """
        return self.flow.sample(shape, context, generator=generator)[..., : self.features]


def augmented_bound(*, draws: int = 1) -> Objective:
    """Return the objective ``-lower_bound(x)``, an upper bound of the nll in expectation.

    Args:
        draws: See `AugmentedFlow.lower_bound`.

    Returns:
        An objective for `fit_maximum_likelihood`.

    Raises:
        FlowError: ``draws`` is not positive.
    """
    if draws < 1:
        raise FlowError(expected="draws >= 1", found=f"{draws=}", remedy="One is enough to train.")

    def objective(
        flow: AugmentedFlow, x: Tensor, context: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        return -flow.lower_bound(x, context, draws=draws, generator=generator)

    return objective


def augmented(
    features: int,
    context_features: int = 0,
    *,
    extra: int = 1,
    hidden: int = 64,
    rtol: float = 3e-6,
    atol: float = 1e-6,
    first: Transform | None = None,
    seed: int = 0,
) -> AugmentedFlow:
    """Build an augmented continuous flow; train it with `augmented_bound`.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        extra: Dimensions of noise beside the vector.
        hidden: See `PerceptronVelocity`.
        rtol: See `ContinuousTransform`.
        atol: See `ContinuousTransform`.
        first: A transform of the vectors before, such as `Whitening`; the noise passes it by.
        seed: Of the weights.

    Raises:
        FlowError: A size has no meaning, or ``first`` has another width.

    Source: See `AugmentedFlow`.
    """
    joint = features + max(extra, 0)
    before = None if first is None else Leading(first, joint)
    flow = ffjord(joint, context_features, hidden=hidden, rtol=rtol, atol=atol, first=before, seed=seed)
    return AugmentedFlow(flow, extra)
