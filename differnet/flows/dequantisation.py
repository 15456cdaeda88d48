"""Densities of pictures with whole grey levels: dequantisation, logits, and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from differnet.flows.density import Flow
from differnet.flows.transform import FlowError, Transform


class Logit(Transform):
    """Map grey levels in [0, 1] to the whole line, where a Gaussian can describe them.

    With ``y = alpha + (1 - 2 alpha) x``, every feature alone:
    forward ``z = log(y / (1 - y))``, ``log_det = sum log((1 - 2 alpha) / (y (1 - y)))``;
    inverse ``x = (sigmoid(z) - alpha) / (1 - 2 alpha)``, ``log_det`` the negative of that at ``x``.

    Outside of [0, 1] the map goes on along its tangents, with slope ``(1 - 2 alpha) / (alpha (1 - alpha))``.
    A logit ends at ``y = 0`` and ``y = 1``: a vector beyond, which no picture is but a reader of
    something else may send, would be NaN, and no latent would lead there. With the tangents the map is
    a bijection of the whole line with a continuous derivative, and on [0, 1], where pictures lie, it is
    the usual one.

    Args:
        features: Width of the vectors.
        alpha: How far the ends are kept from 0 and 1, in (0, 0.5).

    Raises:
        FlowError: ``alpha`` is not between 0 and 0.5.

    Example:
        >>> import torch
        >>> from differnet.flows.dequantisation import Logit
        >>> z, log_det = Logit(1)(torch.tensor([0.5]))
        >>> z.item(), round(log_det.item(), 4)  # the slope there is 0.9 / 0.25
        (0.0, 1.2809)

    Source: Papamakarios, Pavlakou, Murray 2017, "Masked autoregressive flow for density estimation",
    section 4.3; Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", section 4.1, whose
    ``alpha`` is 0.05.
    """

    def __init__(self, features: int, alpha: float = 0.05) -> None:
        super().__init__(features)
        if not 0 < alpha < 0.5:
            raise FlowError(
                expected="alpha between 0 and 0.5", found=f"{alpha=}", remedy="Use 0.05, as the paper does."
            )
        self.alpha = alpha
        self.end = math.log((1 - alpha) / alpha)
        self.slope = (1 - 2 * alpha) / (alpha * (1 - alpha))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``log(y / (1 - y))`` and the sum of ``log((1 - 2 alpha) / (y (1 - y)))``."""
        self.check(x, context)
        inside = x.clamp(0, 1)
        # logit y = log y - log(1 - y), and 1 - y is alpha + (1 - 2 alpha)(1 - x).
        above = torch.log(self.alpha + (1 - 2 * self.alpha) * inside)
        below = torch.log(self.alpha + (1 - 2 * self.alpha) * (1 - inside))
        z = above - below + self.slope * (x - inside)
        return z, (math.log(1 - 2 * self.alpha) - above - below).sum(-1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``(sigmoid(z) - alpha) / (1 - 2 alpha)`` and its log-determinant."""
        self.check(z, context)
        inside = z.clamp(-self.end, self.end)
        x = (torch.sigmoid(inside) - self.alpha) / (1 - 2 * self.alpha) + (z - inside) / self.slope
        # log y = -softplus(-z), log(1 - y) = -softplus(z).
        log_slope = math.log(1 - 2 * self.alpha) + functional.softplus(inside) + functional.softplus(-inside)
        return x, -log_slope.sum(-1)


def dequantise(grey: Tensor, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """Spread every whole grey level evenly over its cell: ``x = (grey + u) / levels``, ``u ~ U(0, 1)``.

    A density of whole numbers has no bound: it can put a spike on each. The density of ``x`` is a lower
    bound on the probability of the whole levels (see `bits_per_dimension`).

    Args:
        grey: Whole numbers of ``0 ... levels - 1``, of any shape and kind of number.
        levels: Number of grey levels, 256 for 8 bits.
        generator: Source of randomness; torch's own when ``None``.

    Returns:
        ``x`` in (0, 1), in torch's default dtype unless ``grey`` is of floating point. `quantise`
        returns ``grey`` from it exactly.

    Raises:
        FlowError: A number is not whole or outside its range, or there are more levels than the dtype
            can tell apart.

    Example:
        >>> import torch
        >>> from differnet.flows.dequantisation import dequantise, quantise
        >>> x = dequantise(torch.tensor([0, 16]), levels=17)
        >>> quantise(x, levels=17).tolist()
        [0, 16]

    Source: Theis, van den Oord, Bethge 2016, "A note on the evaluation of generative models",
    section 3.1.
    """
    dtype = grey.dtype if grey.is_floating_point() else torch.get_default_dtype()
    # Rounding of grey + u, of the division and of the product in `quantise` each move the cell's
    # place by at most levels * eps / 2: this far from its ends the cell is never left.
    margin = 2 * levels * torch.finfo(dtype).eps
    whole = bool(((grey == grey.long()) & (grey >= 0) & (grey < levels)).all())
    # 1 % of a cell: more would be no uniform noise any longer. float32 then holds 16 bits barely not.
    if levels < 2 or margin > 0.01 or not whole:
        raise FlowError(
            expected=f"whole numbers of 0 to {levels - 1}, at least two levels that {dtype} can tell apart",
            found=f"{levels} levels, numbers of {_range(grey)}",
            remedy="Give the picture before any scaling; use float64 beyond 15 bits.",
        )
    # Drawn where the generator is: one of the CPU serves pictures on another device too.
    source = grey.device if generator is None else generator.device
    noise = torch.rand(grey.shape, generator=generator, dtype=dtype, device=source).to(grey.device)
    return (grey.to(dtype) + margin + (1 - 2 * margin) * noise) / levels


def quantise(x: Tensor, levels: int) -> Tensor:
    """Return the whole grey levels ``floor(x * levels)``, those outside of [0, 1) as the nearest level.

    Args:
        x: Numbers of any shape; samples of a flow may lie outside of [0, 1).
        levels: Number of grey levels.

    Raises:
        FlowError: Fewer than two levels, or numbers that are NaN.
    """
    if levels < 2 or bool(x.isnan().any()):
        raise FlowError(
            expected="at least two levels, and numbers",
            found=f"{levels} levels, {int(x.isnan().sum())} NaN",
            remedy="Look where the flow lost them: see differnet.flows.health.",
        )
    return (x * levels).floor().clamp(0, levels - 1).long()


def bits_per_dimension(log_prob: Tensor, features: int, levels: int) -> Tensor:
    """Return the bits a feature that a flow needs for pictures of whole grey levels.

    ``bpd = (log levels - log p(x) / D) / log 2`` with ``x = (g + u) / levels``. The probability that the
    flow gives to the picture ``g`` is the mass of its cell, ``P(g) = E_u p((g + u) / levels) /
    levels^D``, and by Jensen ``E_u log p(x) - D log levels <= log P(g)``: in the mean over ``u``, the
    figure is never below ``-log2 P(g) / D``, and over pictures never below their entropy.

    Args:
        log_prob: Of dequantised pictures in [0, 1), in nats, any shape.
        features: ``D``, the numbers of a picture.
        levels: Number of grey levels.

    Returns:
        Bits, of the shape of ``log_prob``.

    Raises:
        FlowError: No features, or fewer than two levels.

    Example:
        >>> import torch
        >>> from differnet.flows.dequantisation import bits_per_dimension
        >>> bits_per_dimension(torch.tensor(0.0), features=64, levels=256).item()  # uniform on [0, 1]
        8.0

    Source: Theis, van den Oord, Bethge 2016, "A note on the evaluation of generative models", eq. 3
    to 6.
    """
    if features < 1 or levels < 2:
        raise FlowError(
            expected="at least one feature and two levels",
            found=f"{features=}, {levels=}",
            remedy="Give C * H * W and the number of grey levels, 256 for 8 bits.",
        )
    return (math.log(levels) - log_prob / features) / math.log(2)


def dequantised_likelihood(
    levels: int,
) -> Callable[[Flow, Tensor, Tensor | None, torch.Generator], Tensor]:
    """Return the objective ``-log p((g + u) / levels)`` of whole grey levels, with fresh noise at every step.

    For `fit_maximum_likelihood`. The flow's data-dependent start, which training gives the first batch
    as it is, should be taken beforehand from dequantised pictures:
    ``flow.transform.start_from(dequantise(grey, levels, generator))``.

    Args:
        levels: Number of grey levels.
    """

    def nll(flow: Flow, grey: Tensor, context: Tensor | None, generator: torch.Generator) -> Tensor:
        return -flow.log_prob(dequantise(grey, levels, generator), context)

    return nll


def _range(grey: Tensor) -> str:
    return f"{float(grey.min()):g} to {float(grey.max()):g}" if grey.numel() else "no"
