"""Densities that are known exactly, to measure a learned density against.

Each target has a sampler, its log-density and its entropy ``H``. A flow ``q`` trained on samples has
``E[-log q] = H + KL(p, q)``, so that the held-out nll less ``H`` is the divergence itself, in nats.

Samples lie within [-4, 4] but for a few in ten thousand. Everything is float64; a flow in float32
takes ``x.float()``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import integrate
from torch import Tensor

from differnet.flows import FlowError

Sampler = Callable[[int, torch.Generator], tuple[Tensor, Tensor | None]]
LogDensity = Callable[[Tensor, Tensor | None], Tensor]

_LOG_2PI = math.log(2 * math.pi)

# Vectors whose densities are computed at once; with 2 x 256 nodes a vector that is 32 MB of float64.
_CHUNK = 8192


@dataclass(frozen=True)
class Target:
    """A density known exactly, and a sampler of it.

    Attributes:
        name: As in `TARGETS`.
        features: Width of the vectors.
        context_features: Width of the context; 0 where there is none.
        sample: ``(n, generator) -> (x, context)``: ``(n, features)`` and ``(n, context_features)`` or
            ``None``, float64.
        log_prob: ``(x, context) -> (n,)``, float64, nats; minus infinity where the density is zero.
        entropy: ``E[-log_prob]`` in nats, given the context where there is one.
        entropy_error: Bound on the error of ``entropy``: rounding for a closed form, the change on
            halving the grid for a quadrature.
    """

    name: str
    features: int
    context_features: int
    sample: Sampler
    log_prob: LogDensity
    entropy: float
    entropy_error: float


@cache
def two_moons() -> Target:
    """Build two half circles of radius 2 that reach into each other, with Gaussian noise of 0.2.

    ``p(x) = 1/2 sum_k 1/pi int N(x; centre_k + 2 e(theta), 0.2^2 I) dtheta`` over the half circle.
    The integral is Gauss and Legendre's with 256 nodes: seen from x within 8, the integrand is no
    narrower than 0.05 radians and the nodes lie 0.02 apart, closer at the ends of the arc.
    """
    noise, radius, count = 0.2, 2.0, 256
    nodes, node_weights = np.polynomial.legendre.leggauss(count)
    angles = torch.as_tensor(math.pi * (nodes + 1) / 2)
    log_weights = torch.as_tensor(np.log(node_weights / 2))
    arc = radius * torch.stack([angles.cos(), angles.sin()], dim=-1)
    offset = torch.tensor([-1.0, -0.5], dtype=torch.float64)

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, None]:
        theta = math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        upper = offset + radius * torch.stack([theta.cos(), theta.sin()], dim=-1)
        # The lower moon is the upper one turned by half a circle about the origin.
        x = torch.where(torch.rand(n, 1, generator=generator) < 0.5, upper, -upper)
        return x + noise * torch.randn(n, 2, generator=generator, dtype=torch.float64), None

    def arc_density(x: Tensor) -> Tensor:
        squares = (x[:, None, :] - (offset + arc)).square().sum(-1)
        return torch.logsumexp(log_weights - squares / (2 * noise**2), dim=1)

    def log_prob(x: Tensor, context: Tensor | None = None) -> Tensor:
        flat = x.double().reshape(-1, 2)
        parts = [flat[start : start + _CHUNK] for start in range(0, max(len(flat), 1), _CHUNK)]
        both = [torch.logaddexp(arc_density(part), arc_density(-part)) for part in parts]
        return (torch.cat(both) - math.log(2) - _LOG_2PI - 2 * math.log(noise)).reshape(x.shape[:-1])

    return _with_quadrature("two_moons", sample, log_prob, noise)


@cache
def rings() -> Target:
    """Build three circles of radius 1, 2 and 3, equally likely, with Gaussian noise of 0.15.

    Integrated over the angle, with ``r = |x|``:
    ``p(x) = 1/3 sum_R exp(-(r - R)^2 / 2 s^2) I0e(r R / s^2) / (2 pi s^2)``, where
    ``I0e(u) = exp(-u) I0(u)`` is the scaled Bessel function. The entropy is an integral over r.
    """
    noise = 0.15
    radii = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, None]:
        radius = radii[torch.randint(len(radii), (n,), generator=generator)]
        theta = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        x = radius[:, None] * torch.stack([theta.cos(), theta.sin()], dim=-1)
        return x + noise * torch.randn(n, 2, generator=generator, dtype=torch.float64), None

    def log_prob(x: Tensor, context: Tensor | None = None) -> Tensor:
        r = x.double().norm(dim=-1, keepdim=True)
        bessel = torch.special.i0e(r * radii / noise**2).log()
        inner = torch.logsumexp(bessel - (r - radii).square() / (2 * noise**2), dim=-1)
        return inner - math.log(len(radii)) - _LOG_2PI - 2 * math.log(noise)

    def integrand(r: float) -> float:
        logarithm = float(log_prob(torch.tensor([r, 0.0], dtype=torch.float64)))
        return -2 * math.pi * r * math.exp(logarithm) * logarithm

    # Beyond ten deviations lies less than 1e-22 of the mass.
    entropy, error = integrate.quad(
        integrand, 0, 3 + 10 * noise, points=[1, 2, 3], limit=400, epsabs=1e-11, epsrel=1e-11
    )
    return Target("rings", 2, 0, sample, log_prob, float(entropy), float(error))


@cache
def checkerboard() -> Target:
    """Build the uniform density on the eight dark squares, of side 2, of a board from -4 to 4.

    The area is 32 and the entropy ``log 32``. Outside the dark squares the density is zero, and no
    flow with a Gaussian base can be: its divergence from this target stays above zero.
    """
    entropy = math.log(32)

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, None]:
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        within = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return 2 * (torch.stack([column, row], dim=-1) + within) - 4, None

    def log_prob(x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x.double()
        dark = (x / 2).floor().sum(-1) % 2 == 0
        within = (x.abs() < 4).all(-1)
        zero = torch.full(x.shape[:-1], -math.inf, dtype=torch.float64)
        return torch.where(dark & within, torch.full_like(zero, -entropy), zero)

    return Target("checkerboard", 2, 0, sample, log_prob, entropy, math.ulp(entropy))


@cache
def eight_gaussians() -> Target:
    """Build eight round Gaussians of deviation 0.3, equally likely, on a circle of radius 3."""
    noise = 0.3
    turn = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    centres = 3 * torch.stack([turn.cos(), turn.sin()], dim=-1)

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, None]:
        x = centres[torch.randint(8, (n,), generator=generator)]
        return x + noise * torch.randn(n, 2, generator=generator, dtype=torch.float64), None

    def log_prob(x: Tensor, context: Tensor | None = None) -> Tensor:
        squares = (x.double()[..., None, :] - centres).square().sum(-1)
        inner = torch.logsumexp(-squares / (2 * noise**2), dim=-1)
        return inner - math.log(8) - _LOG_2PI - 2 * math.log(noise)

    return _with_quadrature("eight_gaussians", sample, log_prob, noise)


@cache
def hills() -> Target:
    """Build a mixture whose entropy has a closed form: five raised cosines that do not overlap.

    ``p(x) = sum_k w_k prod_j f((x_j - m_kj) / s_kj) / s_kj`` with ``f(u) = (1 + cos(pi u)) / 2`` on
    [-1, 1]. Disjoint supports make the entropy that of the weights plus the mean of the components':
    ``H = sum_k w_k (-log w_k + sum_j (log s_kj + log 4 - 1))``. The last term is f's own entropy:
    ``f = cos(v)^2`` with ``v = pi u / 2``, and ``int_0^{pi/2} cos(v)^2 log cos(v) dv
    = pi/8 (1 - log 4)``.
    """
    weight = torch.tensor([0.30, 0.25, 0.20, 0.15, 0.10], dtype=torch.float64)
    middle = torch.tensor([[-2.4, 1.5], [0.4, 2.4], [2.5, -0.5], [-0.6, -1.4], [-3.0, -2.4]]).double()
    reach = torch.tensor([[1.3, 1.4], [1.0, 1.0], [1.0, 2.6], [1.4, 1.4], [0.9, 1.2]]).double()

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, None]:
        k = torch.multinomial(weight, n, replacement=True, generator=generator)
        level = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        low, high = torch.full_like(level, -1.0), torch.full_like(level, 1.0)
        # Bisection of F(u) = (1 + u + sin(pi u) / pi) / 2: 54 halvings of 2 leave 1e-16.
        for _ in range(54):
            u = (low + high) / 2
            below = (1 + u + (math.pi * u).sin() / math.pi) / 2 < level
            low, high = torch.where(below, u, low), torch.where(below, high, u)
        return middle[k] + reach[k] * (low + high) / 2, None

    def log_prob(x: Tensor, context: Tensor | None = None) -> Tensor:
        u = (x.double()[..., None, :] - middle) / reach
        within = (u.abs() < 1).all(-1)
        # cos(pi u / 2)^2 equals f(u), and loses no digits where f is small.
        hill = 2 * (math.pi / 2 * u).cos().abs().log().sum(-1) - reach.log().sum(-1) + weight.log()
        return torch.where(within, hill, torch.full_like(hill, -math.inf)).logsumexp(-1)

    each = -weight.log() + reach.log().sum(-1) + 2 * (math.log(4) - 1)
    return Target("hills", 2, 0, sample, log_prob, float((weight * each).sum()), 1e-14)


def chain(features: int = 8) -> Target:
    """Build a table whose columns follow one another, standardised and turned.

    ``y_1 ~ N(0, 1)``, ``y_{i+1} | y_i ~ N(1.5 sin(2 y_i), exp(0.5 cos y_i)^2)``, then
    ``x = Q diag(1 / scale) (y - mean)`` with ``mean`` and ``scale`` those of each ``y_i`` and ``Q`` a
    fixed orthogonal matrix, so that no order of the features shows the chain.

    ``H(x) = features/2 log(2 pi e) + sum_{i < features} E[0.5 cos y_i] - sum log scale``. The
    marginals come from repeated quadrature of the transition on a grid.

    Args:
        features: Length of the chain, 1 or more.
    """
    mean, scale, log_spread, error = _chain_marginals(features)
    orthogonal, _ = np.linalg.qr(np.random.default_rng(8).standard_normal((features, features)))
    turn = torch.as_tensor(orthogonal)
    entropy = features / 2 * (_LOG_2PI + 1) + log_spread - float(scale.log().sum())

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, None]:
        noise = torch.randn(n, features, generator=generator, dtype=torch.float64)
        columns = [noise[:, 0]]
        for i in range(1, features):
            before = columns[-1]
            columns.append(1.5 * (2 * before).sin() + (0.5 * before.cos()).exp() * noise[:, i])
        return ((torch.stack(columns, dim=-1) - mean) / scale) @ turn.T, None

    def log_prob(x: Tensor, context: Tensor | None = None) -> Tensor:
        y = (x.double() @ turn) * scale + mean
        before, after = y[..., :-1], y[..., 1:]
        log_scale = 0.5 * before.cos()
        residual = (after - 1.5 * (2 * before).sin()) * (-log_scale).exp()
        squares = y[..., 0].square() + residual.square().sum(-1)
        inner = -0.5 * (squares + features * _LOG_2PI) - log_scale.sum(-1)
        return inner + scale.log().sum()

    return Target("chain", features, 0, sample, log_prob, entropy, error)


@cache
def turning_banana() -> Target:
    """Build a bent Gaussian that a context of three numbers turns and stretches.

    ``u_1 ~ N(0, 1)``, ``u_2 | u_1 ~ N(0.35 (u_1^2 - 1), 0.3^2)``, ``x = 0.7 exp(0.4 k) R(a) u`` with the
    context ``(cos a, sin a, k)``, ``a`` uniform on the circle, ``k`` uniform on [-1, 1]. Bending and
    turning keep volume, so that ``H(x | context) = log(2 pi e) + log 0.3 + 2 log 0.7 + 0.8 E[k]`` and
    ``E[k] = 0``.
    """
    bend, width, size, stretch = 0.35, 0.3, 0.7, 0.4

    def turned(x: Tensor, context: Tensor, direction: int) -> Tensor:
        cosine, sine = context[..., 0], direction * context[..., 1]
        first, second = x[..., 0], x[..., 1]
        return torch.stack([cosine * first - sine * second, sine * first + cosine * second], dim=-1)

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        k = 2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1
        context = torch.stack([angle.cos(), angle.sin(), k], dim=-1)
        first, second = torch.randn(2, n, generator=generator, dtype=torch.float64)
        u = torch.stack([first, bend * (first.square() - 1) + width * second], dim=-1)
        return size * (stretch * k).exp()[:, None] * turned(u, context, 1), context

    def log_prob(x: Tensor, context: Tensor | None) -> Tensor:
        if context is None:
            raise FlowError(
                expected="the context (cos a, sin a, k)",
                found="no context",
                remedy="Pass the context that sample returned with the vectors.",
            )
        context = context.double()
        log_size = math.log(size) + stretch * context[..., 2]
        u = turned(x.double(), context, -1) * (-log_size).exp()[..., None]
        residual = (u[..., 1] - bend * (u[..., 0].square() - 1)) / width
        squares = u[..., 0].square() + residual.square()
        return -0.5 * squares - _LOG_2PI - math.log(width) - 2 * log_size

    entropy = _LOG_2PI + 1 + math.log(width) + 2 * math.log(size)
    return Target("turning_banana", 2, 3, sample, log_prob, entropy, 1e-14)


TARGETS: dict[str, Callable[[], Target]] = {
    "two_moons": two_moons,
    "rings": rings,
    "checkerboard": checkerboard,
    "eight_gaussians": eight_gaussians,
    "hills": hills,
    "chain": chain,
    "turning_banana": turning_banana,
}


def grid_points(step: float, reach: float = 5.0) -> Tensor:
    """Return the points of a square grid of ``step`` over [-reach, reach] in both axes, ``(n, 2)``."""
    axis = torch.arange(-reach, reach + step / 2, step, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


def _with_quadrature(name: str, sample: Sampler, log_prob: LogDensity, noise: float) -> Target:
    """Complete a smooth 2-D target by its entropy.

    The trapezium rule on a density made of Gaussians of deviation s, with steps of h, errs by about
    ``exp(-2 (pi s / h)^2)``: 1e-34 for ``h = s / 2``. The logarithm is less smooth than the density,
    hence the step s / 4, and the change from s / 2 to s / 4 as the bound.
    """
    values = []
    for step in (noise / 2, noise / 4):
        logarithm = log_prob(grid_points(step), None)
        values.append(-(step**2) * float((logarithm.exp() * logarithm).sum()))
    return Target(name, 2, 0, sample, log_prob, values[1], max(abs(values[1] - values[0]), 1e-12))


@cache
def _chain_marginals(features: int) -> tuple[Tensor, Tensor, float, float]:
    """Return each column's mean and deviation, ``sum_{i < features} E[0.5 cos y_i]``, and its error.

    The densities are carried from column to column on a grid from -16 to 16: means stay within 1.5
    and deviations within exp(0.5) = 1.65, so that 8 deviations fit. The error is the change of the
    entropy on halving the grid.
    """
    found: list[tuple[Tensor, Tensor, float]] = []
    for points in (1025, 2049):
        y = torch.linspace(-16, 16, points, dtype=torch.float64)
        step = float(y[1] - y[0])
        log_scale = 0.5 * y.cos()
        residual = (y[:, None] - 1.5 * (2 * y).sin()) * (-log_scale).exp()
        transition = (-0.5 * (residual.square() + _LOG_2PI) - log_scale).exp() * step
        density = (-0.5 * (y.square() + _LOG_2PI)).exp()
        means, scales, log_spread = [], [], 0.0
        for i in range(features):
            mean = (density * y).sum() * step
            means.append(mean)
            scales.append(((density * (y - mean).square()).sum() * step).sqrt())
            if i < features - 1:
                log_spread += float((density * log_scale).sum()) * step
                density = transition @ density
        found.append((torch.stack(means), torch.stack(scales), log_spread))
    coarse, fine = (spread - float(scale.log().sum()) for _, scale, spread in found)
    return *found[1], max(abs(fine - coarse), 1e-12)
