"""A flow as a density: a base distribution seen through a transform."""

from __future__ import annotations

import abc
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from differnet.flows.transform import Transform

_LOG_2PI = math.log(2 * math.pi)


class Evidence(NamedTuple):
    """What a flow says of vectors; each tensor has the batch's shape ``(*batch,)``.

    Attributes:
        nll: Negative log-density, nats. Higher is stranger.
        typicality: ``(|z|^2 - D) / 2``, nats: the z-only statistic of DifferNet, centred. It is nll with
            the log-determinant left out; over the flow's own samples it averages to 0.
    """

    nll: Tensor
    typicality: Tensor


class Density(nn.Module, abc.ABC):
    """What can be trained on vectors and sampled: `Flow`, which has a log-density, and `AugmentedFlow`."""

    @property
    @abc.abstractmethod
    def features(self) -> int:
        """Width of the vectors."""

    @property
    @abc.abstractmethod
    def context_features(self) -> int:
        """Width of the context; 0 when the density is unconditional."""

    @abc.abstractmethod
    def check(self, x: Tensor, context: Tensor | None) -> None:
        """Check that vectors and context fit, as `Transform.check` does.

        Raises:
            FlowError: They do not.
        """

    @abc.abstractmethod
    def start_from(self, x: Tensor, context: Tensor | None = None) -> None:
        """Choose starting weights by looking at a first batch; see `Transform.start_from`."""

    @abc.abstractmethod
    def sample(
        self,
        shape: tuple[int, ...] = (),
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw ``(*shape, features)`` vectors, without gradients; ``context`` broadcasts over ``shape``."""


class Flow(Density):
    """The density ``log p(x | context) = log N(z; 0, I) + log_det`` with ``z, log_det = transform(x)``.

    Args:
        transform: From data to latent.

    Example:
        >>> import torch
        >>> from differnet.flows import Flow, Permutation
        >>> flow = Flow(Permutation.reverse(2))
        >>> round(flow.log_prob(torch.zeros(2)).item(), 4)  # log of 1 / (2 pi)
        -1.8379
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    @property
    def features(self) -> int:
        """Width of the vectors."""
        return self.transform.features

    @property
    def context_features(self) -> int:
        """Width of the context; 0 when the density is unconditional."""
        return self.transform.context_features

    def check(self, x: Tensor, context: Tensor | None) -> None:
        """Check that vectors and context fit the transform."""
        self.transform.check(x, context)

    def start_from(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let the transform choose its starting weights; see `Transform.start_from`."""
        self.transform.start_from(x, context)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of ``x`` in nats, ``(*batch,)``.

        Args:
            x: ``(*batch, features)``.
            context: Broadcasts over ``batch``; ``None`` for an unconditional flow.

        Raises:
            FlowError: Shapes do not fit, or a context is missing or not expected.
        """
        z, log_det = self.transform(x, context)
        log_prob: Tensor = -0.5 * (z.square().sum(-1) + self.features * _LOG_2PI) + log_det
        return log_prob

    def evidence(self, x: Tensor, context: Tensor | None = None) -> Evidence:
        """Return nll and typicality of ``x`` from one pass; see `Evidence`."""
        z, log_det = self.transform(x, context)
        half_square = 0.5 * z.square().sum(-1)
        return Evidence(
            nll=half_square + 0.5 * self.features * _LOG_2PI - log_det,
            typicality=half_square - 0.5 * self.features,
        )

    def sample(
        self,
        shape: tuple[int, ...] = (),
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw ``(*shape, features)`` vectors, without gradients; ``context`` broadcasts over ``shape``.

        Args:
            shape: Of the batch.
            context: As for `log_prob`, with ``batch`` being ``shape``.
            generator: Source of randomness; torch's own when ``None``.

        Raises:
            FlowError: The flow is conditional and no context was given, or the other way round.

        Example:
            >>> import torch
            >>> from differnet.flows import real_nvp
            >>> flow = real_nvp(3, context_features=2)
            >>> flow.sample((5,), torch.zeros(2)).shape
            torch.Size([5, 3])
        """
        with torch.no_grad():
            return self.rsample(shape, context, generator=generator)

    def rsample(
        self,
        shape: tuple[int, ...] = (),
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw vectors as `sample` does, with gradients to the flow's weights and the context.

        The reparametrised sample ``x = f^-1(z)``, ``z ~ N(0, I)``.
        """
        return self.transform.decode(self._latent(shape, generator), context)

    def sample_and_log_prob(
        self,
        shape: tuple[int, ...] = (),
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw vectors as `sample` does, and return their log-densities ``(*shape,)`` from the same pass."""
        with torch.no_grad():
            return self.rsample_and_log_prob(shape, context, generator=generator)

    def rsample_and_log_prob(
        self,
        shape: tuple[int, ...] = (),
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw vectors as `rsample` does, and return their log-densities ``(*shape,)`` from the same pass.

        ``log p(x) = log N(z; 0, I) - log_det`` with the log-determinant of the inverse.
        """
        z = self._latent(shape, generator)
        x, log_det = self.transform.inverse(z, context)
        return x, -0.5 * (z.square().sum(-1) + self.features * _LOG_2PI) - log_det

    def _latent(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        like = next((t for t in [*self.parameters(), *self.buffers()] if t.is_floating_point()), None)
        dtype, device = (like.dtype, like.device) if like is not None else (torch.get_default_dtype(), "cpu")
        # Drawn where the generator is: one of the CPU serves a flow on another device too.
        source = device if generator is None else generator.device
        return torch.randn(*shape, self.features, generator=generator, dtype=dtype, device=source).to(device)
