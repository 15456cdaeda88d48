"""The right-hand side of a continuous flow's equation, and how a step's error is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from differnet.flows.velocity import Field, Velocity


class Motion:
    """The right-hand side that torchdiffeq integrates from 0 to 1, in the direction wanted.

    The state is ``(n, features + extras)``: vectors, log_det and, with penalties, their two integrals; with
    no extras the vectors alone.
    ``last`` is the state that was evaluated last; a solver evaluates before it asks for an error.
    """

    last: Tensor

    def __init__(
        self,
        velocity: Velocity,
        context: Tensor | None,
        noise: Tensor | None,
        *,
        backwards: bool,
        exact: bool,
        extras: int,
    ) -> None:
        self.velocity = velocity
        self.context = context
        self.noise = noise
        self.backwards = backwards
        self.exact = exact
        self.extras = extras
        self.evaluations = 0
        # The adjoint method differentiates single evaluations: what they share has to be made in each.
        self.rebind = False
        self.field: Field = velocity.bound(context)

    def learned(self) -> tuple[Tensor, ...]:
        """Return everything beside the state that gradients may be asked for."""
        given = () if self.context is None else (self.context,)
        return tuple(t for t in (*self.velocity.parameters(), *given) if t.requires_grad)

    def __call__(self, s: Tensor, state: Tensor) -> Tensor:
        """Return the state's slope at ``s``, which runs from 0 to 1 in either direction."""
        self.evaluations += 1
        self.last = state
        if self.rebind:
            self.field = self.velocity.bound(self.context)
        if not self.extras:
            v = self.field.value(1 - s if self.backwards else s, state)
            return -v if self.backwards else v
        x = state[:, : state.shape[1] - self.extras]
        v, trace, product = self._slopes(1 - s if self.backwards else s, x)
        columns = [v, trace.unsqueeze(-1)]
        if self.backwards:
            columns = [-column for column in columns]
        if product is not None:
            # The penalties grow along the path whichever way it is taken.
            columns += [v.square().sum(-1, keepdim=True), product.unsqueeze(-1)]
        return torch.cat(columns, dim=-1)

    def _slopes(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the velocity, its divergence or the estimate, and ``|J e|^2`` where it is wanted."""
        if self.noise is None:
            return (*self.field.divergence(t, x), None)
        pairs = [self.field.jacobian_product(t, x, direction) for direction in self.noise]
        products = torch.stack([product for _, product in pairs])
        size = products.square().sum(-1).mean(0) if self.extras > 1 else None
        if self.exact:
            return (*self.field.divergence(t, x), size)
        return pairs[0][0], (self.noise * products).sum(-1).mean(0), size

    @torch.no_grad()
    def worst(self, error: Tensor, rtol: float, atol: float) -> Tensor:
        """Return the largest error of a vector or its log_det, as a share of what that vector is allowed."""
        width = error.shape[1] - self.extras
        allowed = atol + rtol * self.last[:, :width].abs().amax(-1)
        return (error[:, : width + 1].abs().amax(-1) / allowed).max()


def adjoint_error(parts: tuple[Tensor, ...]) -> Tensor:
    """Return the norm of an adjoint step's error: the worst of states and costates, the mean of weights."""
    _, state, costate, *weights = parts
    means = [weight.square().mean().sqrt() for weight in weights]
    return torch.stack([state.abs().max(), costate.abs().max(), *means]).max()
