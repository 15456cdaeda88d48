"""Whether a flow still inverts: what a model's self-test asks before it trusts a density."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from differnet.flows.density import Flow
from differnet.flows.transform import FlowError

# Limits on the relative round-trip error in float32, as promised of every flow (N2). 1e-5 is about a hundred
# roundings of 6e-8, what six couplings and a whitening leave of a typical vector; an unlucky one may lose a
# hundred times more. Far from the data the density need only stay ordered, hence 1e-2.
MEDIAN_LIMIT = 1e-5
LARGEST_LIMIT = 1e-3
FAR_LIMIT = 1e-2
FAR = 100.0
# Roundings, in eps of the mean, that are not held against a round trip: half of one for each time that the
# offset is added or taken off, with room for a dozen layers that leave it in.
_ROUNDINGS = 8
# Vectors whose Jacobians are looked at, and power iterations on each. The estimate is a lower bound; 8
# iterations come within a percent of the stretch where the next largest is at most four fifths of it.
_STRETCHED = 32
_ITERATIONS = 8


@dataclass(frozen=True)
class HealthReport:
    """How well a flow inverts on given vectors, and ``FAR`` times as far from their mean.

    The error of one vector is ``max_i |x'_i - x_i| / max(max_i |x_i - mean_i|, sigma)`` with ``x'`` the
    vector after forward and inverse, ``mean`` that of the vectors and ``sigma`` the largest standard
    deviation of a feature. What an offset costs in rounding, ``8 eps max_i |mean_i|``, is first taken off the
    numerator. Features that spread far less than the widest are tested less sharply than it is. Vectors that
    do not spread at all have errors relative to ``max_i |x_i|``.

    A local Lipschitz constant is the largest singular value of the Jacobian at a vector. That of forward
    times that of the inverse says how many times the map may magnify a relative error on the way there and
    back. It is estimated from below, by power iteration, at up to 32 of the vectors.

    Attributes:
        vectors: How many were tried, each once near and once far.
        not_finite: Of these ``2 * vectors``, those with a z, nll or round trip that is not finite. Their
            errors are left out of the figures below.
        median_error: Median round-trip error on the vectors themselves.
        largest_error: Largest round-trip error on the vectors themselves.
        far_error: Largest round-trip error at ``FAR`` times their distance from the mean.
        forward_stretch: Largest local Lipschitz constant of forward, latent units for one ``sigma``.
        inverse_stretch: Largest local Lipschitz constant of the inverse, ``sigma`` for one latent unit.
        stretch_limit: Largest product of the two at which a digit of the vectors' dtype is left:
            ``1 / (10 eps)``, 8e5 in float32.
    """

    vectors: int
    not_finite: int
    median_error: float
    largest_error: float
    far_error: float
    forward_stretch: float
    inverse_stretch: float
    stretch_limit: float

    @property
    def healthy(self) -> bool:
        """Whether everything is finite and every figure is within its limit."""
        return (
            self.not_finite == 0
            and self.median_error <= MEDIAN_LIMIT
            and self.largest_error <= LARGEST_LIMIT
            and self.far_error <= FAR_LIMIT
            and self.forward_stretch * self.inverse_stretch <= self.stretch_limit
        )


class UnhealthyFlow(FlowError):  # noqa: N818 (it names the finding; handlers catch FlowError)
    """A flow does not invert, or gives numbers that are not finite.

    Args:
        report: What was measured.
    """

    def __init__(self, report: HealthReport) -> None:
        self.report = report
        super().__init__(
            expected=(
                f"finite densities and round-trip errors of at most {MEDIAN_LIMIT:g} (median), "
                f"{LARGEST_LIMIT:g} (largest) and {FAR_LIMIT:g} ({FAR:g} sigma out), and stretches there and "
                f"back whose product is at most {report.stretch_limit:.2g}"
            ),
            found=(
                f"{report.not_finite} of {2 * report.vectors} not finite, errors {report.median_error:.2g}, "
                f"{report.largest_error:.2g} and {report.far_error:.2g}, "
                f"stretches {report.forward_stretch:.2g} and {report.inverse_stretch:.2g}"
            ),
            remedy="Do not use this model: train it again, with a smaller scale_bound or more shrinkage.",
        )


def measure_health(flow: Flow, vectors: Tensor, context: Tensor | None = None) -> HealthReport:
    """Measure how well ``flow`` inverts; never raises for an unhealthy flow.

    Args:
        flow: In the dtype in which it is going to be used.
        vectors: ``(n, features)``, finite; good parts that the flow knows.
        context: Broadcasts over ``n``; ``None`` for an unconditional flow.

    Raises:
        FlowError: No vectors, some that are not finite, or shapes that do not fit.
    """
    if vectors.dim() != 2 or len(vectors) == 0 or not bool(torch.isfinite(vectors).all()):
        raise FlowError(
            expected="(n, features) vectors, at least one, all finite",
            found=f"shape {tuple(vectors.shape)}, finite: {bool(torch.isfinite(vectors).all())}",
            remedy="Audit a flow on vectors of good parts.",
        )
    flow.check(vectors, context)
    mean = vectors.mean(0)
    sigma = float(vectors.std(0, correction=0).max())
    near = _round_trip_errors(flow, vectors, context, mean, sigma)
    far = _round_trip_errors(flow, mean + FAR * (vectors - mean), context, mean, sigma)
    finite_near, finite_far = near[near.isfinite()], far[far.isfinite()]
    there, back = _stretches(flow, vectors, context)
    unit = sigma or 1.0
    return HealthReport(
        vectors=len(vectors),
        not_finite=2 * len(vectors) - len(finite_near) - len(finite_far),
        median_error=float(finite_near.median()) if len(finite_near) else float("inf"),
        largest_error=float(finite_near.max()) if len(finite_near) else float("inf"),
        far_error=float(finite_far.max()) if len(finite_far) else float("inf"),
        forward_stretch=there * unit,
        inverse_stretch=back / unit,
        stretch_limit=0.1 / torch.finfo(vectors.dtype).eps,
    )


def audit(flow: Flow, vectors: Tensor, context: Tensor | None = None) -> HealthReport:
    """Measure how well ``flow`` inverts and refuse it when that is not well enough.

    Args:
        flow: In the dtype in which it is going to be used.
        vectors: ``(n, features)``, finite; good parts that the flow knows.
        context: Broadcasts over ``n``; ``None`` for an unconditional flow.

    Returns:
        The report of a healthy flow.

    Raises:
        UnhealthyFlow: A limit is broken; the error carries the report.
        FlowError: No vectors, some that are not finite, or shapes that do not fit.

    Example:
        >>> import torch
        >>> from differnet.flows import audit, real_nvp
        >>> vectors = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> audit(real_nvp(4), vectors).healthy
        True
    """
    report = measure_health(flow, vectors, context)
    if not report.healthy:
        raise UnhealthyFlow(report)
    return report


def round_trip_errors(flow: Flow, vectors: Tensor, context: Tensor | None = None) -> Tensor:
    """Return how well each vector comes back from ``x -> z -> x``: the errors that `HealthReport` defines.

    Args:
        flow: In the dtype in which it is used.
        vectors: ``(n, features)``, at least one. One alone has no spread: its error is relative to itself.
        context: Broadcasts over ``n``; ``None`` for an unconditional flow.

    Returns:
        ``(n,)`` relative errors; NaN where the vector, its z, its nll or its way back is not finite.

    Raises:
        FlowError: Shapes do not fit.

    Example:
        >>> import torch
        >>> from differnet.flows import Flow, Permutation, round_trip_errors
        >>> round_trip_errors(Flow(Permutation.reverse(2)), torch.tensor([[1.0, 2.0], [3.0, 5.0]])).tolist()
        [0.0, 0.0]
    """
    flow.check(vectors, context)
    mean = vectors.mean(0)
    return _round_trip_errors(flow, vectors, context, mean, float(vectors.std(0, correction=0).max()))


def _round_trip_errors(
    flow: Flow, vectors: Tensor, context: Tensor | None, mean: Tensor, sigma: float
) -> Tensor:
    """Return ``(n,)`` errors as `HealthReport` defines them, NaN where anything is not finite."""
    with torch.no_grad():
        try:
            z, _ = flow.transform(vectors, context)
            nll = flow.evidence(vectors, context).nll
            back, _ = flow.transform.inverse(z, context)
        except FlowError:
            # Shapes were checked before: a path that cannot be integrated, or a root that is not found.
            return vectors.new_full((len(vectors),), math.nan)
    numbers = torch.finfo(vectors.dtype)
    rounding = numbers.eps * float(mean.abs().max())
    allowed = _ROUNDINGS * rounding
    if sigma <= rounding:
        # A mean is rounded itself: identical vectors may seem to spread a little.
        mean, allowed = torch.zeros_like(mean), 0.0
    size = (vectors - mean).abs().amax(-1).clamp_min(max(sigma, numbers.tiny))
    error = ((back - vectors).abs().amax(-1) - allowed).clamp_min(0) / size
    finite = torch.isfinite(z).all(-1) & torch.isfinite(nll) & torch.isfinite(error)
    return torch.where(finite, error, torch.nan)


def _stretches(flow: Flow, vectors: Tensor, context: Tensor | None) -> tuple[float, float]:
    """Return the largest local Lipschitz constants of forward and of the inverse, at some of the vectors."""
    # Evenly spaced, so that vectors in some order are all represented.
    rows = torch.arange(0, len(vectors), max(1, math.ceil(len(vectors) / _STRETCHED)))
    points = vectors.detach()[rows]
    if context is not None:
        context = context.detach().expand(len(vectors), -1)[rows]
    frozen = [p for p in flow.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        there = _largest_stretch(lambda x: flow.transform(x, context)[0], points)
        with torch.no_grad():
            z, _ = flow.transform(points, context)
        back = _largest_stretch(lambda z: flow.transform.inverse(z, context)[0], z)
    except FlowError:
        # As for round trips: what cannot be evaluated has no stretch.
        return math.inf, math.inf
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return there, back


def _largest_stretch(direction: Callable[[Tensor], Tensor], points: Tensor) -> float:
    """Return the largest singular value of the Jacobians at ``(n, features)`` points.

    Infinity where one is not finite. Power iteration on ``J^T J``. ``J v`` is the derivative of ``J^T u``
    by ``u``, which is linear in it.
    """
    with torch.enable_grad():
        points = points.clone().requires_grad_()
        mapped = direction(points)
        probe = torch.zeros_like(mapped, requires_grad=True)
        (pulled,) = torch.autograd.grad(mapped, points, probe, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    way = torch.randn(points.shape, generator=generator).to(points)
    stretch = points.new_zeros(len(points))
    for _ in range(_ITERATIONS):
        way = way / way.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(way.dtype).tiny)
        (pushed,) = torch.autograd.grad(pulled, probe, way, retain_graph=True)
        stretch = pushed.norm(dim=-1)
        (way,) = torch.autograd.grad(mapped, points, pushed, retain_graph=True)
    return float(stretch.max()) if bool(stretch.isfinite().all()) else math.inf
