"""The small networks inside flows: they say how one feature is transformed given the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Solve = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def smooth_bound(values: Tensor, bound: float | Tensor) -> Tensor:
    """Squash ``values`` smoothly into ``(-bound, bound)``; the identity near zero.

    ``values / (1 + |values| / bound)``: slope 1 at 0, so that a bound does not slow the first steps, and
    continuously differentiable.

    Example:
        >>> import torch
        >>> [round(v, 3) for v in smooth_bound(torch.tensor([0.01, 2.0, 1e8]), 2.0).tolist()]
        [0.01, 1.0, 2.0]
    """
    # In place: two tensors of the batch's size less.
    return values / values.abs().div_(bound).add_(1)


class ContextLinear(nn.Module):
    """Numbers that are learned, and move linearly with the context where there is one.

    ``bias + weight context``; without a context only the bias is there. Both start at ``start``, the weight
    at 0.

    Args:
        context_features: Width of the context; 0 for none.
        outputs: How many numbers.
        start: Starting value of the bias, a number or one an output.
    """

    def __init__(self, context_features: int, outputs: int, start: float | Tensor = 0.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs) + start)
        self.weight = nn.Parameter(torch.zeros(outputs, context_features)) if context_features else None

    def forward(self, context: Tensor | None) -> Tensor:
        """Return ``(*context's batch, outputs)``; ``(outputs,)`` without a context."""
        if self.weight is None or context is None:
            return self.bias
        return functional.linear(context, self.weight, self.bias)


class Conditioner(nn.Module):
    """Two hidden layers that turn some features and the context into parameters of the others.

    ``out = W3 relu(W2 relu(W1 (bounded(seen), context)))``. The last layer starts at zero. What it sees is
    clamped to the bound: far outside of the data the network is constant, which keeps inverses stable
    (see `differnet.flows.AffineCoupling`).

    Args:
        inputs: Features seen; may be 0.
        context_features: Width of the context.
        outputs: Numbers said.
        hidden: Width of both hidden layers.
        input_bound: Bound on each feature seen.
    """

    def __init__(
        self, inputs: int, context_features: int, outputs: int, *, hidden: int, input_bound: float
    ) -> None:
        super().__init__()
        self.context_features = context_features
        self.input_bound = input_bound
        self.enter = nn.Linear(max(inputs + context_features, 1), hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, seen: Tensor, context: Tensor | None) -> Tensor:
        """Return ``(*batch, outputs)`` for ``(*batch, inputs)``."""
        shape = seen.shape[:-1]
        if seen.shape[-1] == 0:
            # Nothing is seen but the context; without one, all is constant, given by the biases.
            seen = seen.new_zeros(*shape, 1) if context is None else context.expand(*shape, -1)
        else:
            seen = seen.clamp(-self.input_bound, self.input_bound)
            if context is not None:
                seen = torch.cat([seen, context.expand(*shape, self.context_features)], dim=-1)
        hidden = functional.relu_(self.enter(seen))
        hidden = functional.relu_(self.middle(hidden))
        said: Tensor = self.leave(hidden)
        return said


class MaskedConditioner(nn.Module):
    """One network that says the parameters of every feature from the features before it, all at once.

    Feature ``i`` (counted from 0) gets its parameters from features ``0 ... i-1`` and the context. Every
    hidden unit has a degree ``m`` below ``features`` and sees features below ``m``, the hidden units
    of the next layer those of a degree not above theirs, and the parameters of feature ``i`` those with ``m
    <= i``. Units of degree 0 see the context alone.

    Units are sorted by degree. So the features can also be unrolled one after another (`unroll`) for the
    arithmetic of little more than one pass: a unit is computed when what it sees is known, and once.

    Args:
        features: Width of the vectors.
        context_features: Width of the context.
        parameters: Numbers said for each feature.
        hidden: Width of both hidden layers; at least ``features`` lets each feature see all before it.
        input_bound: Bound on each feature seen.

    Source: Germain et al. 2015, "MADE: Masked autoencoder for distribution estimation", section 3.
    """

    enter_mask: Tensor
    middle_mask: Tensor
    leave_mask: Tensor

    def __init__(
        self, features: int, context_features: int, parameters: int, *, hidden: int, input_bound: float
    ) -> None:
        super().__init__()
        self.features = features
        self.context_features = context_features
        self.parameters_each = parameters
        self.input_bound = input_bound
        self.enter = nn.Linear(features + context_features, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, features * parameters)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        # Without a context a unit of degree 0 would see nothing at all.
        least = 0 if context_features or features == 1 else 1
        degree = least + torch.arange(hidden) * (features - least) // hidden
        position = torch.arange(features)
        sees = degree[:, None] > position
        always = torch.ones(hidden, context_features, dtype=torch.bool)
        self._mask("enter_mask", torch.cat([sees, always], dim=1))
        self._mask("middle_mask", degree[:, None] >= degree)
        self._mask("leave_mask", position.repeat_interleave(parameters)[:, None] >= degree)
        # Hidden units that can be computed once the features before each position are known.
        self.ready = [int((degree <= i).sum()) for i in range(features)]

    def _mask(self, name: str, mask: Tensor) -> None:
        # Not a part of the state: masks follow from the sizes, and a file must not be able to change them.
        self.register_buffer(name, mask.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return ``(*batch, features, parameters)`` for ``(*batch, features)``."""
        seen = x.clamp(-self.input_bound, self.input_bound)
        if context is not None:
            seen = torch.cat([seen, context.expand(*x.shape[:-1], self.context_features)], dim=-1)
        hidden = functional.relu_(_masked(self.enter, self.enter_mask, seen))
        hidden = functional.relu_(_masked(self.middle, self.middle_mask, hidden))
        said = _masked(self.leave, self.leave_mask, hidden)
        return said.reshape(*x.shape, self.parameters_each)

    def unroll(self, z: Tensor, context: Tensor | None, solve: Solve) -> tuple[Tensor, Tensor]:
        """Find the features one after another, each from its parameters given those before it.

        Args:
            z: ``(*batch, features)``.
            context: Broadcasts over ``batch``.
            solve: From ``(*batch)`` values of ``z`` and their ``(*batch, parameters)`` to the feature and a
                logarithm, both ``(*batch)``.

        Returns:
            The features and the logarithms, both ``(*batch, features)``.
        """
        batch, features = z.shape[:-1], self.features
        weight, bias = self.enter.weight, self.enter.bias
        given = bias if context is None else functional.linear(context, weight[:, features:], bias)
        given = given.expand(*batch, -1)
        first, second = z.new_zeros(*batch, 0), z.new_zeros(*batch, 0)
        seen = z.new_zeros(*batch, 0)
        found, logarithms = [], []
        done = 0
        for i, ready in enumerate(self.ready):
            if ready > done:
                # All of these units have degree i: the masks are 1 in every block that is used here.
                rows = slice(done, ready)
                new = given[..., rows]
                if i:
                    new = new + functional.linear(seen, weight[rows, :i])
                first = torch.cat([first, functional.relu(new)], dim=-1)
                new = functional.linear(first, self.middle.weight[rows, :ready], self.middle.bias[rows])
                second = torch.cat([second, functional.relu_(new)], dim=-1)
                done = ready
            rows = slice(i * self.parameters_each, (i + 1) * self.parameters_each)
            said = functional.linear(second, self.leave.weight[rows, :done], self.leave.bias[rows])
            feature, logarithm = solve(z[..., i], said)
            found.append(feature)
            logarithms.append(logarithm)
            if i + 1 < features:
                bounded = feature.clamp(-self.input_bound, self.input_bound)
                seen = torch.cat([seen, bounded[..., None]], dim=-1)
        return torch.stack(found, dim=-1), torch.stack(logarithms, dim=-1)


def _masked(layer: nn.Linear, mask: Tensor, seen: Tensor) -> Tensor:
    return functional.linear(seen, layer.weight * mask, layer.bias)
