"""Velocity fields of continuous flows, with the derivatives that their densities need."""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor, nn

from differnet.flows.transform import FlowError


class Field(abc.ABC):
    """A velocity with its context already put in: what one integration evaluates many times.

    Shapes: ``t`` is ``()`` or ``(n,)``; ``x`` and ``direction`` are ``(n, features)``.
    """

    @abc.abstractmethod
    def value(self, t: Tensor, x: Tensor) -> Tensor:
        """Return ``v(t, x)``, ``(n, features)``."""

    @abc.abstractmethod
    def divergence(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``v`` and the exact ``tr dv/dx``, ``(n,)``."""

    @abc.abstractmethod
    def jacobian_product(self, t: Tensor, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``v`` and ``(dv/dx) direction``, ``(n, features)``."""


class Velocity(nn.Module, abc.ABC):
    """A velocity field ``v(t, x, context)`` of vectors, each moved on its own.

    A subclass has to give `forward` alone. Divergence and Jacobian products then come from automatic
    differentiation: exact, and differentiable themselves, at the price of one backward pass a feature
    (divergence) or of two (product). A subclass with closed forms overrides them, and `bound` too
    where something can be computed once an integration.

    Args:
        features: Width of ``x``.
        context_features: Width of the context; 0 when there is none.

    Shapes:
        ``t``: ``()`` or ``(n,)``, from 0 (latent) to 1 (data). ``x``: ``(n, features)``.
        ``context``: ``(n, context_features)`` or ``None``.

    Raises:
        FlowError: A width is below its least.

    Example:
        >>> import torch
        >>> from differnet.flows.velocity import Velocity
        >>> class Decay(Velocity):
        ...     def forward(self, t, x, context=None):
        ...         return -x * (1 + t)
        >>> v, divergence = Decay(3).divergence(torch.tensor(1.0), torch.ones(2, 3))
        >>> divergence.tolist()
        [-6.0, -6.0]
    """

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        if features < 1 or context_features < 0:
            raise FlowError(
                expected="at least one feature, and a context of 0 features or more",
                found=f"{features=}, {context_features=}",
                remedy="Give the widths of the vectors and of the context.",
            )
        self.features = features
        self.context_features = context_features

    @abc.abstractmethod
    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``v(t, x, context)``, ``(n, features)``."""

    def divergence(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``v`` and ``sum_i dv_i/dx_i``, ``(n,)``, exact."""
        keep = self._differentiated(x, context)
        with torch.enable_grad():
            # A view of its own: the derivative with respect to x of this very call, nothing earlier.
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            v = self(t, x, context)
            slopes = [
                _derivative(v[:, i].sum(), x, create_graph=keep, retain_graph=True)[:, i]
                for i in range(self.features)
            ]
        return (v if keep else v.detach()), torch.stack(slopes).sum(0)

    def jacobian_product(
        self, t: Tensor, x: Tensor, direction: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return ``v`` and ``(dv/dx) direction``, ``(n, features)``.

        ``u^T (dv/dx)`` is one backward pass and linear in ``u``; its own derivative with respect to
        ``u`` along ``direction`` is the product.
        """
        keep = self._differentiated(x, context, direction)
        with torch.enable_grad():
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            v = self(t, x, context)
            weights = torch.zeros_like(v, requires_grad=True)
            pulled = _derivative((v * weights).sum(), x, create_graph=True, retain_graph=True)
            product = _derivative((pulled * direction).sum(), weights, create_graph=keep, retain_graph=keep)
        return (v if keep else v.detach()), product

    def _differentiated(self, *given: Tensor | None) -> bool:
        """Return whether anybody may ask for gradients of what is made of these and of the weights."""
        tensors = [*self.parameters(), *(t for t in given if t is not None)]
        return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)

    def bound(self, context: Tensor | None) -> Field:
        """Return this velocity with the context put in, for one integration."""
        return _Bound(self, context)


def _derivative(total: Tensor, point: Tensor, *, create_graph: bool, retain_graph: bool) -> Tensor:
    """Return ``d total / d point``; zero where the one does not depend on the other."""
    if not total.requires_grad:
        return torch.zeros_like(point)
    (slope,) = torch.autograd.grad(
        total, point, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True
    )
    return torch.zeros_like(point) if slope is None else slope


class _Bound(Field):
    """A velocity and its context, side by side."""

    def __init__(self, velocity: Velocity, context: Tensor | None) -> None:
        self.velocity = velocity
        self.context = context

    def value(self, t: Tensor, x: Tensor) -> Tensor:
        v: Tensor = self.velocity(t, x, self.context)
        return v

    def divergence(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.velocity.divergence(t, x, self.context)

    def jacobian_product(self, t: Tensor, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        return self.velocity.jacobian_product(t, x, direction, self.context)


class PerceptronVelocity(Velocity):
    """A perceptron with two hidden layers whose divergence costs one matrix product more.

    ``a_1 = tanh(W_1 x + U (context, waves(t)) + b_1)``, ``a_2 = tanh(W_2 a_1 + b_2)``,
    ``v = W_3 a_2 + b_3`` with ``waves(t) = (cos k pi t, sin k pi t)``, ``k = 1 ... frequencies``.

    With ``d_i = 1 - a_i^2`` the Jacobian is ``W_3 diag(d_2) W_2 diag(d_1) W_1``. Its trace is turned
    round until only the batch's own factors are left outside:

        tr dv/dx = d_2^T M d_1,    M = W_2 * (W_1 W_3)^T  (entry by entry).

    ``M`` has no batch axis and is made once an integration, so that the exact divergence costs what one
    hidden layer costs, however many features there are. Hutchinson's estimate is not cheaper here.

    tanh saturates: ``|v_i| <= |b_3| + sum |W_3|``, so that any vector's path is finite.

    Args:
        features: Width of the vectors.
        context_features: Width of the context.
        hidden: Width of the two hidden layers.
        frequencies: Number of waves that describe the time. The third goes from crest to zero in a
            sixth of the path.

    Raises:
        FlowError: A width is below its least.

    Example:
        >>> import torch
        >>> from differnet.flows.velocity import PerceptronVelocity
        >>> velocity = PerceptronVelocity(3, hidden=8)
        >>> v, divergence = velocity.divergence(torch.tensor(0.5), torch.zeros(4, 3))
        >>> v.shape, divergence.shape
        (torch.Size([4, 3]), torch.Size([4]))

    Source: Grathwohl et al. 2019, "FFJORD", section 3 (a perceptron as the field); the closed form of
    the trace is derived above.
    """

    waves: Tensor

    def __init__(
        self, features: int, context_features: int = 0, *, hidden: int = 64, frequencies: int = 3
    ) -> None:
        super().__init__(features, context_features)
        if hidden < 1 or frequencies < 1:
            raise FlowError(
                expected="hidden >= 1 and frequencies >= 1",
                found=f"{hidden=}, {frequencies=}",
                remedy="Use the defaults unless you know why not.",
            )
        self.enter = nn.Linear(features + context_features + 2 * frequencies, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, features)
        # A hundredth of the usual weights: a flow near the identity, whose other layers yet learn from
        # the first step on (with exact zeros their gradients would vanish).
        with torch.no_grad():
            self.leave.weight.mul_(0.01)
            self.leave.bias.zero_()
        waves = math.pi * torch.arange(1, frequencies + 1, dtype=torch.get_default_dtype())
        self.register_buffer("waves", waves, persistent=False)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``W_3 a_2 + b_3``."""
        return self.bound(context).value(t, x)

    def divergence(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``v`` and ``d_2^T M d_1``."""
        return self.bound(context).divergence(t, x)

    def jacobian_product(
        self, t: Tensor, x: Tensor, direction: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return ``v`` and ``W_3 (d_2 * W_2 (d_1 * W_1 direction))``."""
        return self.bound(context).jacobian_product(t, x, direction)

    def bound(self, context: Tensor | None) -> Field:
        """Return the field with the context's share of the first layer computed."""
        return _PerceptronField(self, context)


class _PerceptronField(Field):
    """The perceptron with everything that neither time nor ``x`` changes computed once."""

    def __init__(self, velocity: PerceptronVelocity, context: Tensor | None) -> None:
        features, seen = velocity.features, velocity.features + velocity.context_features
        weight = velocity.enter.weight
        self.waves = velocity.waves
        self.first = weight[:, :features].T
        self.time = weight[:, seen:].T
        self.start: Tensor = velocity.enter.bias
        if context is not None:
            self.start = torch.addmm(self.start, context, weight[:, features:seen].T)
        self.second, self.second_bias = velocity.middle.weight.T, velocity.middle.bias
        self.third, self.third_bias = velocity.leave.weight.T, velocity.leave.bias
        self._mixed: Tensor | None = None

    def _layers(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        angles = t.unsqueeze(-1) * self.waves
        shift = torch.cat([angles.cos(), angles.sin()], dim=-1) @ self.time + self.start
        first = torch.tanh(torch.addmm(shift, x, self.first))
        second = torch.tanh(torch.addmm(self.second_bias, first, self.second))
        return first, second, torch.addmm(self.third_bias, second, self.third)

    def value(self, t: Tensor, x: Tensor) -> Tensor:
        return self._layers(t, x)[2]

    def divergence(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second, v = self._layers(t, x)
        if self._mixed is None:
            # M^T, with the transposed weights at hand: W_2^T * (W_1 W_3).
            self._mixed = self.second * (self.third @ self.first).T
        traced = (1 - second * second) * ((1 - first * first) @ self._mixed)
        return v, traced.sum(-1)

    def jacobian_product(self, t: Tensor, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        first, second, v = self._layers(t, x)
        inner = (1 - first * first) * (direction @ self.first)
        return v, ((1 - second * second) * (inner @ self.second)) @ self.third
