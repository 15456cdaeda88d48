"""Planar and radial flows: each layer bends space along one plane, or around one point."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from differnet.flows.networks import ContextLinear
from differnet.flows.transform import FlowError, Transform

# The root search takes a bisection at least every third step, and a bracket of width |c| is halved about
# 50 times in float64 before its ends are neighbours.
_MOST_STEPS = 200

# Of radial layers that open, in deviations of standardised vectors. The least alpha bounds the slope within a
# hole: training on two moons made slopes of 44 with it and of 130 without. The start is the mean |alpha| that
# normflows starts with in two features; from 1 the same training ended 0.2 nats worse.
_LEAST_ALPHA = 0.01
_OPEN_START = 0.25


class Planar(Transform):
    """Push vectors along one direction, by an amount that depends on where they stand along another.

    With ``a = w . x + b``: forward ``z = x + u tanh(a)``, ``log_det = log(1 + (u . w)(1 - tanh(a)^2))``.
    The inverse has no closed form, but only along ``w``: with ``c = u . w`` and ``y = w . z + b``, ``a`` is
    the only root of ``a + c tanh(a) = y``; inverse ``x = z - u tanh(a)``, ``log_det = -log(1 + c (1 -
    tanh(a)^2))``.

    The paper's constraint for a map that can be inverted, ``c >= -1``, is kept with a margin: ``u`` is
    shifted along ``w`` so that ``c = -1 + least_slope + softplus(.)``. Volumes, and lengths along ``w``, thus
    never shrink more than ``1 / least_slope`` times. Across ``w`` the map is a shear, which has no bound.

    The root is found by Newton's method inside a bracket, ``[y - |c|, y + |c|]``, with bisections where
    Newton leaves it or is slow. It stops when a step is below 4 roundings of ``max(|a|, 1)``; that is the
    stated tolerance. Two further Newton steps give the root its derivatives.

    Starts as the identity. With a context, ``w``, ``u`` and ``b`` are linear functions of it.

    Args:
        features: Width of the vectors.
        context_features: Width of the context.
        least_slope: Smallest factor by which the map may shrink volumes, in (0, 1).
        seed: Of the starting direction.

    Raises:
        FlowError: ``least_slope`` is not between 0 and 1.

    Source: Rezende, Mohamed 2015, "Variational inference with normalizing flows", eq. 10 to 12 and appendix
    A.1.
    """

    def __init__(
        self, features: int, context_features: int = 0, *, least_slope: float = 0.05, seed: int = 0
    ) -> None:
        super().__init__(features, context_features)
        check_least_slope(least_slope)
        self.least_slope = least_slope
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(features, generator=generator)
        # u = k w / |w|^2 with softplus(k) = 1 - least_slope makes c = 0: the identity.
        start = math.log(math.expm1(1 - least_slope))
        u = start * w / w.square().sum().clamp_min(1e-6)
        self.said = ContextLinear(context_features, 2 * features + 1, torch.cat([w, u, torch.zeros(1)]))

    def _described(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w, u, b = self.said(context).split([self.features, self.features, 1], dim=-1)
        along = (w * u).sum(-1, keepdim=True)
        c = functional.softplus(along) - (1 - self.least_slope)
        size = w.square().sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
        u = u + (c - along) * (w / size)
        # Taken from the u that is used: where w is zero the plane has no side, and c is 0.
        return w, u, b, (w * u).sum(-1, keepdim=True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x + u tanh(a)`` and ``log(1 + c (1 - tanh(a)^2))``."""
        self.check(x, context)
        w, u, b, c = self._described(context)
        bent = torch.tanh((x * w).sum(-1, keepdim=True) + b)
        return torch.addcmul(x, bent, u), torch.log1p(c * (1 - bent.square())).squeeze(-1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``z - u tanh(a)`` and ``-log(1 + c (1 - tanh(a)^2))`` with ``a`` the root."""
        self.check(z, context)
        w, u, b, c = self._described(context)
        bent = torch.tanh(solve_planar((z * w).sum(-1, keepdim=True) + b, c))
        return torch.addcmul(z, bent, u, value=-1), -torch.log1p(c * (1 - bent.square())).squeeze(-1)


def solve_planar(y: Tensor, c: Tensor) -> Tensor:
    """Solve ``a + c tanh(a) = y`` for ``a`` to 4 roundings of ``max(|a|, 1)``.

    Args:
        y: Any shape; a value that is not finite gives one that is not finite.
        c: Broadcasts over ``y``; above -1.

    Returns:
        The root, with its first and second derivatives.

    Raises:
        FlowError: The search did not converge, which means that some ``c`` is not above -1.

    Example:
        >>> import torch
        >>> a = solve_planar(torch.tensor([0.3, 40.0]), torch.tensor([-0.9]))
        >>> [round(v, 4) for v in (a - 0.9 * torch.tanh(a)).tolist()]
        [0.3, 40.0]
    """
    with torch.no_grad():
        a = _root(y, c.expand(y.shape))
    # Two more Newton steps, which no longer move a. After the first its derivatives by y and c are those of
    # the root itself, after the second its second derivatives too.
    for _ in range(2):
        bent = torch.tanh(a)
        a = a - (a + c * bent - y) / (1 + c * (1 - bent.square()))
    return a


def _root(y: Tensor, c: Tensor) -> Tensor:
    low, high = y - c.abs(), y + c.abs()
    a = y - c * torch.tanh(y)
    tolerance = 4 * torch.finfo(y.dtype).eps
    for step in range(_MOST_STEPS):
        bent = torch.tanh(a)
        residual = a + c * bent - y
        low, high = torch.where(residual < 0, a, low), torch.where(residual > 0, a, high)
        newton = a - residual / (1 + c * (1 - bent.square()))
        # Outside the bracket, and at every third step in any case, halve it instead.
        safe = (newton >= low) & (newton <= high)
        nearer = torch.where(safe, newton, (low + high) / 2)
        if step % 3 == 2:
            far = (nearer - a).abs() > (high - low) / 4
            nearer = torch.where(far, (low + high) / 2, nearer)
        moved = (nearer - a).abs() > tolerance * a.abs().clamp_min(1)
        a = nearer
        if not bool((moved & (high > low)).any()):
            return a
    raise FlowError(
        expected="a planar layer that can be inverted: c = u . w above -1",
        found=f"least c {float(c.min()):.6g}, no root within {_MOST_STEPS} steps",
        remedy="Build the layer with a larger least_slope.",
    )


class Radial(Transform):
    """Push vectors away from one point, or towards it, by an amount that fades with the distance.

    With ``d = x - centre``, ``r = |d|`` and ``q = alpha b / (alpha + r)``: forward ``z = x + q d``,
    ``log_det = (features - 1) log(1 + q) + log(1 + q alpha / (alpha + r))``. The inverse has a closed form:
    the distance ``r'`` of ``z`` is that of ``x`` times ``1 + q``, which is a quadratic equation for ``r``,
    of which one root is not negative; inverse ``x = centre + (z - centre) / (1 + q)``, ``log_det`` the
    negative of the above.

    ``b = beta / alpha`` of the paper. Its constraint for a map that can be inverted, ``b >= -1``, is kept
    with a margin: ``b = -1 + least_slope + softplus(.)``. What is learned is ``log alpha``, which starts at
    0, and ``b``.

    A layer that ``opens`` learns ``alpha`` itself, as ``sqrt(0.01^2 + (.)^2)``, and the distance that it
    pushes, ``b = -1 + least_slope + softplus(.) / alpha``. A small ``alpha`` then takes nothing from the
    push: around the centre it opens a hole, as densities with gaps need it. In the form above the push fades
    with ``alpha``. By reverse KL on two moons the form that opens leaves half of the nats
    (``reports/flows.md``).

    Starts as the identity. With a context, what is learned are linear functions of it.

    Args:
        features: Width of the vectors.
        context_features: Width of the context.
        least_slope: Smallest factor by which the map may contract, in (0, 1).
        opens: Whether it learns to open holes, see above.
        seed: Of the starting centre, which is drawn from the standard normal: standardise the vectors first.

    Raises:
        FlowError: ``least_slope`` is not between 0 and 1.

    Source: Rezende, Mohamed 2015, "Variational inference with normalizing flows", eq. 14 and appendix A.2.
    The closed form of the inverse is our own derivation.
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        least_slope: float = 0.05,
        opens: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(features, context_features)
        check_least_slope(least_slope)
        self.least_slope = least_slope
        self.opens = opens
        generator = torch.Generator().manual_seed(seed)
        centre = torch.randn(features, generator=generator)
        # With this push b is 0, the identity.
        said, push = 0.0, 1 - least_slope
        if opens:
            said = math.sqrt(_OPEN_START**2 - _LEAST_ALPHA**2)
            push *= _OPEN_START
        start = torch.tensor([said, math.log(math.expm1(push))])
        self.said = ContextLinear(context_features, features + 2, torch.cat([centre, start]))

    def _described(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        centre, said, raw = self.said(context).split([self.features, 1, 1], dim=-1)
        push = functional.softplus(raw)
        if not self.opens:
            return centre, said.exp(), push - (1 - self.least_slope)
        alpha = (said.square() + _LEAST_ALPHA**2).sqrt()
        return centre, alpha, push / alpha - (1 - self.least_slope)

    def _log_det(self, q: Tensor, fading: Tensor) -> Tensor:
        log_det = torch.log1p(q * fading)
        if self.features > 1:
            log_det = log_det + (self.features - 1) * torch.log1p(q)
        return log_det.squeeze(-1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x + q d`` and its log-determinant."""
        self.check(x, context)
        centre, alpha, b = self._described(context)
        away = x - centre
        fading = alpha / (alpha + torch.linalg.vector_norm(away, dim=-1, keepdim=True))
        q = b * fading
        return torch.addcmul(x, q, away), self._log_det(q, fading)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``centre + (z - centre) / (1 + q)`` and its log-determinant."""
        self.check(z, context)
        centre, alpha, b = self._described(context)
        away = z - centre
        reach = torch.linalg.vector_norm(away, dim=-1, keepdim=True)
        # r^2 + (alpha (1 + b) - r') r - alpha r' = 0, each root in the form that does not cancel.
        half = (reach - alpha * (1 + b)) / 2
        root = (half.square() + alpha * reach).sqrt()
        near = half < 0
        r = torch.where(near, alpha * reach / torch.where(near, root - half, 1.0), half + root)
        fading = alpha / (alpha + r)
        q = b * fading
        return centre + away / (1 + q), -self._log_det(q, fading)


def check_least_slope(least_slope: float) -> None:
    """Check the margin of a planar or radial layer.

    Raises:
        FlowError: It is not between 0 and 1.
    """
    if not 0 < least_slope < 1:
        raise FlowError(
            expected="a least_slope between 0 and 1",
            found=f"{least_slope=}",
            remedy="Use the default, 0.05: a layer then shrinks volumes at most 20 times.",
        )
