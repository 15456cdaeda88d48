"""The properties themselves: each raises AssertionError with the figure that broke.

The tests of this folder call them on the true classes, ``tests/mutants`` calls the same functions
on classes with a planted fault and expects at least one to raise.
"""

from __future__ import annotations

import copy
import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from torch import Tensor

from differnet.flows import (
    Compose,
    ElementwiseAffine,
    Flow,
    FlowError,
    HeldOutCheck,
    Inverse,
    LowRankWhitening,
    TrainingPlan,
    Transform,
    Whitening,
    fit_maximum_likelihood,
    fit_reverse_kl,
    real_nvp,
    shrinkage_whitening,
)
from flows.registry import BATCHES, Case, covariance, normal, orthonormal, randomise

# float64 leaves 1e-16 a step; 1e-9 allows for conditioning and stays far below the promised 1e-6. A case of
# the registry that needs more says so itself.
EXACT = 1e-9

Directions = tuple[tuple[str, Callable[..., tuple[Tensor, Tensor]]], ...]


def require(truth: bool, what: str) -> None:
    if not truth:
        raise AssertionError(what)


def agree(found: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """Raise unless shapes are equal and ``|found - wanted| <= tolerance * max(1, |wanted|)``."""
    require(found.shape == wanted.shape, f"{what}: shape {tuple(found.shape)}, not {tuple(wanted.shape)}")
    if found.numel():
        found, wanted = found.detach(), wanted.detach()
        gap = float(((found - wanted).abs() / wanted.abs().clamp_min(1)).max())
        require(gap <= tolerance, f"{what}: differs by {gap:.3g}, allowed {tolerance:g}")


def directions(transform: Transform) -> Directions:
    return (("forward", transform), ("inverse", transform.inverse))


def shapes_and_dtypes(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        transform = case.build(dtype)
        for batch in BATCHES:
            x, context = case.inputs(batch, dtype)
            for name, direction in directions(transform):
                mapped, log_det = direction(x, context)
                where = f"{name} of batch {batch}"
                require(isinstance(log_det, Tensor), f"{where}: log_det is {type(log_det).__name__}")
                require(mapped.shape == x.shape, f"{where}: vectors {tuple(mapped.shape)}")
                require(log_det.shape == batch, f"{where}: log_det {tuple(log_det.shape)}")
                require({mapped.dtype, log_det.dtype} == {dtype}, f"{where}: {mapped.dtype}, {log_det.dtype}")


def is_not_degenerate(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs((50,))
    transform.requires_grad_(False)
    for name, direction in directions(transform):
        mapped, log_det = direction(x, context)
        moved = float((mapped - x).abs().max())
        require((moved > 0.1) == case.moves, f"{name}: vectors moved by {moved:.3g}")
        fixed = None if context is None else context[:1]
        varies = float(direction(x, fixed)[1].std())
        require((varies > 1e-3) == case.log_det_varies, f"{name}: log_det varies by {varies:.3g}")
        require(bool(torch.isfinite(log_det).all()), f"{name}: log_det is not finite")


def context_matters(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs()
    if context is None:
        return
    transform.requires_grad_(False)
    for name, direction in directions(transform):
        (mapped, log_det), (other, other_log_det) = direction(x, context), direction(x, context.flip(0))
        # The largest change counts: where a layer does not bend at all, the context changes nothing.
        require(float((mapped - other).abs().max()) > 1e-4, f"{name}: vectors ignore the context")
        if case.log_det_conditional:
            changed = float((log_det - other_log_det).abs().max())
            require(changed > 1e-4, f"{name}: log_det ignores the context")


def round_trip(case: Case) -> None:
    for dtype, tolerance in ((torch.float64, case.tolerance), (torch.float32, case.single)):
        transform = case.build(dtype)
        x, context = case.inputs((4, 7), dtype)
        agree(transform.inverse(transform(x, context)[0], context)[0], x, tolerance, f"x after {dtype}")
        agree(transform(transform.inverse(x, context)[0], context)[0], x, tolerance, f"z after {dtype}")


def decodes_as_it_inverts(case: Case) -> None:
    transform = case.build()
    z, context = case.inputs((4, 7))
    agree(transform.decode(z, context), transform.inverse(z, context)[0], case.tolerance, "decode")


def _slogdet(direction: Callable[..., tuple[Tensor, Tensor]], x: Tensor, context: Tensor | None) -> Tensor:
    """Return ``log |det J|`` of one vector by autograd: the oracle."""
    x = x.clone().requires_grad_()
    mapped, _ = direction(x, context)
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in mapped]
    logabsdet: Tensor = torch.linalg.slogdet(torch.stack(rows)).logabsdet
    return logabsdet


def _jacobian_agrees(case: Case, which: int) -> None:
    transform = case.build()
    x, context = case.inputs((3,))
    name, direction = directions(transform)[which]
    for i, vector in enumerate(x):
        given = None if context is None else context[i]
        log_det = direction(vector, given)[1].detach()
        agree(log_det, _slogdet(direction, vector, given), case.tolerance, f"log_det of {name}")


def log_det_forward(case: Case) -> None:
    _jacobian_agrees(case, 0)


def log_det_inverse(case: Case) -> None:
    _jacobian_agrees(case, 1)


def log_dets_cancel(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs()
    z, there = transform(x, context)
    agree(
        there + transform.inverse(z, context)[1],
        torch.zeros_like(there),
        case.tolerance,
        "log_det there and back",
    )


def context_broadcasts(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs((4, 7))
    if context is None:
        return
    for narrow in (context[0, 0], context[0], context[:, :1], context[:1, :1]):
        for name, direction in directions(transform):
            found, wanted = direction(x, narrow), direction(x, narrow.expand(4, 7, -1))
            agree(found[0], wanted[0], case.tolerance, f"{name} with a context of {tuple(narrow.shape)}")
            agree(
                found[1],
                wanted[1],
                case.tolerance,
                f"log_det of {name} with a context of {tuple(narrow.shape)}",
            )


def errors_are_typed(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs()
    wide = torch.cat([x, x[..., :1]], dim=-1)
    wrong: list[tuple[str, Tensor, Tensor | None]] = [
        ("too wide", wide, context),
        ("too narrow", x[..., 1:], context),
        ("no axes", x.new_zeros(()), context),
        ("whole numbers", x.long(), context),
        ("a context without axes", x, x.new_zeros(())),
        ("a context of no features", x, x.new_zeros(7, 0)),
    ]
    if context is None:
        wrong += [("an unneeded context", x, x[..., :1])]
    else:
        wrong += [
            ("a missing context", x, None),
            ("a narrow context", x, context[..., 1:]),
            ("a context of another batch", x, context[:6]),
            ("a context with more axes", x, context.expand(4, 7, -1)),
        ]
    for name, direction in directions(transform):
        for what, values, given in wrong:
            try:
                direction(values, given)
            except FlowError as error:
                require(bool(error.expected and error.found and error.remedy), f"{what}: unexplained")
            except Exception as error:
                raise AssertionError(f"{name} of {what}: {type(error).__name__}, not FlowError") from error
            else:
                raise AssertionError(f"{name} accepts {what}")


def gradients_are_finite(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs()
    # Zero, one far vector and typical ones.
    x = torch.cat([x[:5], torch.zeros_like(x[:1]), 1e4 * x[:1]])
    untouched = {name for name, _ in transform.named_parameters()}
    for name, direction in directions(transform):
        transform.zero_grad()
        vectors = x.clone().requires_grad_()
        mapped, log_det = direction(vectors, context)
        torch.autograd.backward(mapped.square().sum() + log_det.sum())
        require(vectors.grad is not None, f"{name}: no gradient for x")
        gradients = {n: p.grad for n, p in transform.named_parameters() if p.grad is not None}
        untouched -= set(gradients)
        for what, gradient in [("x", vectors.grad), *gradients.items()]:
            require(gradient is not None and bool(gradient.isfinite().all()), f"{name}: gradient of {what}")
    require(not untouched, f"no gradient in either direction for {sorted(untouched)}")


def gradients_are_right(case: Case) -> None:
    """Derivatives of z and of log_det, each against a central difference along a random direction.

    1e-6 tolerates the difference's own error: a step of 3e-7 leaves the square, 1e-13, times a third
    derivative (1e6 for narrow bins of splines), and 1e-7 from rounding. What a solver integrates has
    larger errors than rounding, and takes the longer step.
    """
    step = 3e-7 if case.tolerance <= EXACT else 1e-5
    transform = case.build()
    x, context = case.inputs()
    generator = torch.Generator().manual_seed(6)
    points = [x, *transform.parameters()]
    ways = [normal(generator, *point.shape) for point in points]

    def moved(step: float, which: int, part: int) -> Tensor:
        with torch.no_grad():
            for point, way in zip(points, ways, strict=True):
                point.add_(step * way)
            value: Tensor = directions(transform)[which][1](x, context)[part].square().sum()
            for point, way in zip(points, ways, strict=True):
                point.sub_(step * way)
        return value

    for which, (name, direction) in enumerate(directions(transform)):
        for part, what in enumerate(("vectors", "log_det")):
            vectors = x.clone().requires_grad_()
            value = direction(vectors, context)[part].square().sum()
            slope = x.new_zeros(())
            if value.requires_grad:
                wanted = [vectors, *transform.parameters()]
                gradients = torch.autograd.grad(value, wanted, allow_unused=True)
                pairs = zip(gradients, ways, strict=True)
                slope = torch.stack([(g * way).sum() for g, way in pairs if g is not None] or [slope]).sum()
            difference = (moved(step, which, part) - moved(-step, which, part)) / (2 * step)
            agree(slope, difference, max(1e-6, 100 * case.tolerance), f"derivative of {what} in {name}")


def batching_changes_nothing(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs((7,))
    for name, direction in directions(transform):
        together = direction(x, context)
        singles = [direction(x[i], None if context is None else context[i]) for i in range(7)]
        for part in (0, 1):
            alone = torch.stack([single[part] for single in singles])
            agree(together[part], alone, case.tolerance, f"{name} of a batch against singles")


def state_dict_round_trip(case: Case) -> None:
    transform, other = case.build(), case.build(seed=1)
    x, context = case.inputs()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        torch.save(transform.state_dict(), path)
        other.load_state_dict(torch.load(path, weights_only=True))
    for (name, direction), (_, loaded) in zip(directions(transform), directions(other), strict=True):
        for part in (0, 1):
            wanted, found = direction(x, context)[part], loaded(x, context)[part]
            require(torch.equal(found, wanted), f"{name} differs after loading its state")


def deepcopy_is_independent(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs()
    z, log_det = transform(x, context)
    twin = copy.deepcopy(transform)
    agree(twin(x, context)[0], z, 0.0, "z of a copy")
    with torch.no_grad():
        for tensor in [*twin.parameters(), *twin.buffers()]:
            tensor.zero_()
    agree(transform(x, context)[0], z, 0.0, "z after the copy was changed")
    agree(transform(x, context)[1], log_det, 0.0, "log_det after the copy was changed")


def inverse_swaps(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs()
    swapped = Inverse(transform)
    for name, found, wanted in (
        ("forward", swapped(x, context), transform.inverse(x, context)),
        ("inverse", swapped.inverse(x, context), transform(x, context)),
    ):
        for part in (0, 1):
            agree(found[part], wanted[part], 0.0, f"{name} of Inverse")


def composes_in_order(case: Case) -> None:
    transform = case.build()
    x, context = case.inputs()
    ones = x.new_ones(transform.features)
    before = ElementwiseAffine(shift=3 * ones, scale=2 * ones)
    after = ElementwiseAffine(shift=-ones, scale=0.5 * ones)
    together = Compose([before, transform, after])
    # By hand, from the formulas: z = 2 (f((x - 3) / 2) + 1), x = 2 f^-1(z / 2 - 1) + 3.
    middle, step = transform((x - 3) / 2, context)
    z, log_det = together(x, context)
    agree(z, 2 * (middle + 1), case.tolerance, "Compose forward")
    agree(log_det, step, case.tolerance, "log_det of Compose forward")
    middle, step = transform.inverse(x / 2 - 1, context)
    back, log_det = together.inverse(x, context)
    agree(back, 2 * middle + 3, case.tolerance, "Compose inverse")
    agree(log_det, step, case.tolerance, "log_det of Compose inverse")


TRANSFORM_CHECKS: dict[str, Callable[[Case], None]] = {
    check.__name__: check
    for check in (
        shapes_and_dtypes,
        is_not_degenerate,
        context_matters,
        round_trip,
        decodes_as_it_inverts,
        log_det_forward,
        log_det_inverse,
        log_dets_cancel,
        context_broadcasts,
        errors_are_typed,
        gradients_are_finite,
        gradients_are_right,
        batching_changes_nothing,
        state_dict_round_trip,
        deepcopy_is_independent,
        inverse_swaps,
        composes_in_order,
    )
}


def random_flow(features: int, context_features: int = 0, *, seed: int = 0, gain: float = 1.5) -> Flow:
    """Return a small float64 Real NVP whose couplings are far from the identity."""
    flow = real_nvp(features, context_features, couplings=4, hidden=16, seed=seed).double()
    randomise(flow, torch.Generator().manual_seed(seed), gain)
    return flow


def some_context(flow: Flow, seed: int = 0) -> Tensor | None:
    """Return one context for the flow, ``None`` for an unconditional one."""
    width = flow.context_features
    return normal(torch.Generator().manual_seed(100 + seed), width) if width else None


def grid(flow: Flow, context: Tensor | None, points: int) -> tuple[Tensor, float]:
    """Return ``(points^features, features)`` nodes and the volume of a cell.

    The box is that of the image of ``[-5, 5]^features`` under the inverse: outside lies less than
    1e-5 of the mass.
    """
    axis = torch.linspace(-5, 5, 60, dtype=torch.float64)
    latent = torch.cartesian_prod(*[axis] * flow.features).reshape(-1, flow.features)
    with torch.no_grad():
        image = flow.transform.inverse(latent, context)[0]
    sides = [
        torch.linspace(float(low), float(high), points, dtype=torch.float64)
        for low, high in zip(image.amin(0), image.amax(0), strict=True)
    ]
    cell = math.prod(float(side[1] - side[0]) for side in sides)
    return torch.cartesian_prod(*sides).reshape(-1, flow.features), cell


def integrates_to_one(features: int, seed: int, context_features: int = 0) -> None:
    """Quadrature over a box; 0.5 % as promised, where the sum's own error is below 0.1 %."""
    flow = random_flow(features, context_features, seed=seed)
    context = some_context(flow, seed)
    nodes, cell = grid(flow, context, points=2000 if features == 1 else 200)
    with torch.no_grad():
        mass = float(flow.log_prob(nodes, context).exp().sum()) * cell
    require(abs(mass - 1) <= 0.005, f"{features}-D net {seed}: mass {mass:.4f}")


def integrates_in_one_dimension() -> None:
    for seed in range(10):
        integrates_to_one(1, seed, context_features=2 * (seed % 2))


def integrates_in_two_dimensions() -> None:
    for seed in range(10):
        integrates_to_one(2, seed, context_features=3 * (seed % 2))


def samples_follow_the_density() -> None:
    """Mean nll of samples is the entropy, their means are the means, within 4 standard errors."""
    for seed, context_features in ((0, 0), (1, 3)):
        flow = random_flow(2, context_features, seed=seed)
        context = some_context(flow, seed)
        nodes, cell = grid(flow, context, points=400)
        with torch.no_grad():
            log_prob = flow.log_prob(nodes, context)
            weight = log_prob.exp() * cell
            samples = flow.sample((4000,), context, generator=torch.Generator().manual_seed(seed))
            nll = -flow.log_prob(samples, context)
        for what, drawn, wanted in (
            ("nll", nll, -(weight * log_prob).sum()),
            ("first mean", samples[:, 0], (weight * nodes[:, 0]).sum()),
            ("second mean", samples[:, 1], (weight * nodes[:, 1]).sum()),
            ("product", samples.prod(-1), (weight * nodes.prod(-1)).sum()),
        ):
            gap, error = float((drawn.mean() - wanted).abs()), float(drawn.std()) / 4000**0.5
            require(gap <= 4 * error, f"{what} of samples: off by {gap:.3g}, standard error {error:.3g}")


def samples_come_with_their_density() -> None:
    """One seed, one sample, whichever method draws it; the density beside it is `log_prob`'s."""
    for context_features in (0, 2):
        flow = random_flow(3, context_features)
        context = some_context(flow)
        plain = flow.sample((4, 7), context, generator=torch.Generator().manual_seed(3))
        for name in ("sample_and_log_prob", "rsample_and_log_prob"):
            draw = getattr(flow, name)
            x, log_prob = draw((4, 7), context, generator=torch.Generator().manual_seed(3))
            agree(x, plain, EXACT, f"x of {name}")
            agree(log_prob, flow.log_prob(plain, context), EXACT, f"log_prob of {name}")
            alive = name.startswith("r")
            require(x.requires_grad == log_prob.requires_grad == alive, f"{name}: gradients, or none")
        again = flow.rsample((4, 7), context, generator=torch.Generator().manual_seed(3))
        agree(again, plain, EXACT, "x of rsample")
        require(not plain.requires_grad, "sample has gradients")


def samples_have_gradients() -> None:
    """Derivatives with respect to the weights, against a central difference along a random direction.

    1e-6 tolerates the difference's own error: a step of 1e-5 leaves 1e-10 times a third derivative, and
    1e-11 from rounding.
    """
    flow = random_flow(3, 2)
    context = some_context(flow)
    points = list(flow.parameters())
    generator = torch.Generator().manual_seed(6)
    ways = [normal(generator, *point.shape) for point in points]

    def values() -> tuple[Tensor, Tensor, Tensor]:
        alone = flow.rsample((50,), context, generator=torch.Generator().manual_seed(7))
        x, log_prob = flow.rsample_and_log_prob((50,), context, generator=torch.Generator().manual_seed(7))
        return alone.square().mean(), x.square().mean(), log_prob.mean()

    def moved(step: float) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            for point, way in zip(points, ways, strict=True):
                point.add_(step * way)
            found = values()
            for point, way in zip(points, ways, strict=True):
                point.sub_(step * way)
        return found

    slopes = []
    names = ("rsample", "x of rsample_and_log_prob", "log_prob of rsample_and_log_prob")
    for name, value in zip(names, values(), strict=True):
        require(value.requires_grad, f"{name} has no gradient")
        gradients = torch.autograd.grad(value, points, retain_graph=True, allow_unused=True)
        terms = [(g * way).sum() for g, way in zip(gradients, ways, strict=True) if g is not None]
        slopes.append(torch.stack(terms).sum())
    for name, slope, more, less in zip(names, slopes, moved(1e-5), moved(-1e-5), strict=True):
        require(float(slope.abs()) > 1e-3, f"{name} hardly depends on the weights")
        agree(slope, (more - less) / 2e-5, 1e-6, f"derivative of {name}")


def evidence_is_log_prob() -> None:
    for context_features in (0, 2):
        flow = random_flow(5, context_features)
        context = some_context(flow)
        x = normal(torch.Generator().manual_seed(5), 4, 7, 5)
        nll, typicality = flow.evidence(x, context)
        z, log_det = flow.transform(x, context)
        agree(nll, -flow.log_prob(x, context), EXACT, "nll against log_prob")
        agree(nll, (z.square() + math.log(2 * math.pi)).sum(-1) / 2 - log_det, EXACT, "nll by its formula")
        agree(typicality, (z.square().sum(-1) - 5) / 2, EXACT, "typicality by its formula")


def whitening_is_the_gaussian() -> None:
    """Densities of scipy, to 1e-9, of both whitenings."""
    generator = torch.Generator().manual_seed(0)
    for features, rank in ((1, None), (5, None), (5, 2), (5, 4), (3, 0)):
        mean = normal(generator, features)
        transform: Whitening | LowRankWhitening
        if rank is None:
            cov = covariance(generator, features)
            transform = Whitening(mean, cov)
        else:
            axes, variances = orthonormal(generator, features, rank), 1 + normal(generator, rank).exp()
            transform = LowRankWhitening(mean, axes, variances, 0.3)
            cov = axes @ torch.diag(variances - 0.3) @ axes.T + 0.3 * torch.eye(features, dtype=torch.float64)
        x = 3 * normal(generator, 50, features)
        wanted = multivariate_normal(mean.numpy(), cov.numpy()).logpdf(x.numpy())
        found = Flow(transform).log_prob(x)
        agree(found, torch.as_tensor(wanted), EXACT, f"log-density of {features} features, rank {rank}")


def covariance_of(whitened: Whitening | LowRankWhitening) -> Tensor:
    """Return ``A A^T`` of the inverse map ``x = A z + mean``."""
    unit = torch.eye(whitened.features, dtype=torch.float64)
    columns = whitened.inverse(unit)[0] - whitened.inverse(torch.zeros_like(unit))[0]
    return columns.T @ columns


def shrinkage_is_ledoit_wolf() -> None:
    """More and fewer vectors than features, with and without smoothing noise, against scikit-learn."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for n, features in ((200, 6), (12, 30), (30, 30), (2, 3), (40, 1)):
            generator = torch.Generator().manual_seed(n)
            vectors = 5 + normal(generator, n, features) @ normal(generator, features, features)
            wanted = torch.as_tensor(LedoitWolf().fit(vectors.numpy()).covariance_)
            for noise in (0.0, 0.7):
                found = covariance_of(shrinkage_whitening(vectors, noise=noise))
                smoothed = wanted + noise**2 * torch.eye(features)
                agree(found, smoothed, EXACT, f"covariance of {n} vectors of {features}, noise {noise}")
            mean = shrinkage_whitening(vectors).inverse(torch.zeros(features))[0]
            agree(mean, vectors.mean(0), EXACT, f"mean of {n} vectors")
            # A given intensity, by the formula.
            sample = torch.as_tensor(np.cov(vectors.numpy().T, bias=True)).reshape(features, features)
            level = sample.diagonal().mean()
            wanted_given = 0.75 * sample + 0.25 * level * torch.eye(features)
            found = covariance_of(shrinkage_whitening(vectors, shrinkage=0.25))
            agree(found, wanted_given, EXACT, f"covariance of {n} vectors, shrinkage 0.25")
    finally:
        torch.set_default_dtype(default)


def rough_preset(features: int, seed: int, *, whitened: bool = False) -> Flow:
    """Return a float32 preset with torch's usual random weights scaled by 3, far from trained ones."""
    generator = torch.Generator().manual_seed(seed)
    first = None
    if whitened:
        factor = torch.linalg.cholesky(covariance(generator, features))
        first = shrinkage_whitening(normal(generator, 500, features) @ factor.T + 3)
    flow = real_nvp(features, first=first, seed=seed)
    randomise(flow, generator, gain=3.0)
    return flow.requires_grad_(False)


def round_trip_error(flow: Flow, x: Tensor) -> Tensor:
    """Return the largest error of each vector relative to its largest feature (to 1 where that is less)."""
    z, _ = flow.transform(x)
    back, _ = flow.transform.inverse(z)
    return (back - x).abs().amax(-1) / x.abs().amax(-1).clamp_min(1)


def inverts_in_single_precision(features: int = 16, seed: int = 0, whitened: bool = False) -> None:
    """10,000 samples of a flow, and the same 100 times as far out, come back in float32."""
    flow = rough_preset(features, seed, whitened=whitened)
    x = flow.sample((10_000,), generator=torch.Generator().manual_seed(9))
    near = round_trip_error(flow, x)
    far = round_trip_error(flow, x.mean(0) + 100 * (x - x.mean(0)))
    require(float(near.median()) <= 1e-5, f"median error {float(near.median()):.2g}")
    require(float(near.max()) <= 1e-3, f"largest error {float(near.max()):.2g}")
    require(float(far.max()) <= 1e-2, f"largest error at 100 sigma {float(far.max()):.2g}")


FLOW_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        integrates_in_one_dimension,
        integrates_in_two_dimensions,
        samples_follow_the_density,
        samples_come_with_their_density,
        samples_have_gradients,
        evidence_is_log_prob,
        whitening_is_the_gaussian,
        shrinkage_is_ledoit_wolf,
        inverts_in_single_precision,
    )
}


def small_flow(features: int = 2, context_features: int = 0, seed: int = 0) -> Flow:
    return real_nvp(features, context_features, couplings=2, hidden=16, seed=seed)


def spread_of_fit(noise: float | Tensor) -> Tensor:
    """Return the sample deviations of a flow trained on deviations of 0.5 with smoothing ``noise``."""
    vectors = 0.5 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    plan = TrainingPlan(steps=120, batch=256, learning_rate=1e-2)
    flow = fit_maximum_likelihood(small_flow(), vectors, noise=noise, plan=plan)
    samples = flow.sample((4000,), generator=torch.Generator().manual_seed(2))
    return samples.std(0)


def smoothing_widens() -> None:
    """Variances add: 0.5^2 + noise^2. 8 % tolerates 120 steps and 2,000 vectors."""
    for noise in (0.5, torch.tensor([0.0, 1.0])):
        wanted = (0.25 + torch.as_tensor(noise).square()).sqrt().expand(2)
        found = spread_of_fit(noise)
        gap = float((found / wanted - 1).abs().max())
        require(gap <= 0.08, f"deviations with noise {noise}: {found.tolist()}, not {wanted.tolist()}")


def trained_weights(seed: int, **plan: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    vectors, context = torch.randn(300, 2, generator=generator), torch.randn(300, 3, generator=generator)
    settings = TrainingPlan(steps=12, batch=32, seed=seed, **plan)
    return fit_maximum_likelihood(small_flow(2, 3), vectors, context, noise=0.1, plan=settings).state_dict()


def seeds_decide_weights() -> None:
    """The same seed gives the same bits whatever torch's own generator holds, another seed others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = trained_weights(0, context_noise=0.3, context_dropout=0.2)
        torch.manual_seed(2)
        again = trained_weights(0, context_noise=0.3, context_dropout=0.2)
    other = trained_weights(1, context_noise=0.3, context_dropout=0.2)
    trained = [name for name in first if name.endswith(("weight", "bias"))]
    require(all(torch.equal(first[name], again[name]) for name in first), "same seed, other weights")
    require(all(not torch.equal(first[name], other[name]) for name in trained), "other seed, same weights")


def training_leaves_buffers() -> None:
    vectors = torch.randn(100, 3, generator=torch.Generator().manual_seed(3))
    flow = real_nvp(3, couplings=2, hidden=8, first=shrinkage_whitening(vectors))
    before = {name: buffer.clone() for name, buffer in flow.named_buffers()}
    fit_maximum_likelihood(flow, vectors, plan=TrainingPlan(steps=5, batch=16))
    for name, buffer in flow.named_buffers():
        require(torch.equal(buffer, before[name]), f"training changed {name}")


def context_settings_take_effect() -> None:
    plain = trained_weights(0)
    for what, other in (
        ("noise", trained_weights(0, context_noise=0.5)),
        ("dropout", trained_weights(0, context_dropout=0.5)),
    ):
        same = all(torch.equal(plain[name], other[name]) for name in plain)
        require(not same, f"context {what} changes nothing")


def learns_the_conditional_mean() -> None:
    """``x = c + 0.5 noise``: a flow that sees c has its entropy, one that does not has more by log sqrt 5."""
    generator = torch.Generator().manual_seed(4)
    context = torch.randn(2000, 1, generator=generator)
    vectors = context + 0.5 * torch.randn(2000, 1, generator=generator)
    plan = TrainingPlan(steps=150, batch=256, learning_rate=1e-2)
    # A single coupling: of two, the scale of the second would make a shift of the first's.
    flow = real_nvp(1, 1, couplings=1, hidden=16)
    fit_maximum_likelihood(flow, vectors, context, plan=plan)
    with torch.no_grad():
        nll = float(-flow.log_prob(vectors, context).mean())
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    require(abs(nll - entropy) <= 0.1, f"nll {nll:.3f}, entropy {entropy:.3f}")


class HeldOutFit(NamedTuple):
    """A flow trained on vectors few enough to be remembered, and what was seen on the way.

    Attributes:
        flow: As training left it.
        held: The vectors held out.
        looks: What training said at every look.
        measured: The mean nll of ``held`` at every look.
        losses: Of every step.
    """

    flow: Flow
    held: Tensor
    looks: list[HeldOutCheck]
    measured: list[float]
    losses: list[float]


def held_out_fit(*, aside: bool = True, **plan: Any) -> HeldOutFit:
    generator = torch.Generator().manual_seed(5)
    vectors, held = (torch.randn(n, 2, generator=generator) for n in (20, 500))
    flow = real_nvp(2, couplings=2, hidden=32)
    fit = HeldOutFit(flow, held, [], [], [])

    def nll() -> float:
        with torch.no_grad():
            return float(-flow.log_prob(held).double().mean())

    def look(check: HeldOutCheck) -> None:
        fit.looks.append(check)
        fit.measured.append(nll())

    fit_maximum_likelihood(
        flow,
        vectors,
        plan=TrainingPlan(batch=20, learning_rate=2e-2, check_every=10, **plan),
        held_out=(held, None) if aside else None,
        progress=lambda _, loss: fit.losses.append(loss),
        on_check=look,
    )
    fit.measured.append(nll())
    return fit


def keeps_the_best_held_out_weights() -> None:
    """The loss said at a look is the held-out one, and the flow ends with the weights of the smallest.

    1e-6 tolerates the order in which float32 sums are taken: same weights, same vectors.
    """
    fit = held_out_fit(steps=100, patience=100)
    said = [look.loss for look in fit.looks]
    require([look.step for look in fit.looks] == list(range(10, 101, 10)), "looks at other steps")
    best = min(said)
    for look, measured in zip(fit.looks, fit.measured, strict=False):
        gap = abs(look.loss - measured)
        require(gap <= 1e-6 * max(1, abs(measured)), f"step {look.step}: {look.loss}, not {measured}")
    require(said[-1] > best + 0.05, f"nothing to pick: {said[-1]:.3f} at the end, {best:.3f} at best")
    flags = [loss < min(said[:i], default=math.inf) for i, loss in enumerate(said)]
    require([look.best for look in fit.looks] == flags, "a look is not said to be the best")
    kept = fit.measured[-1]
    require(abs(kept - best) <= 1e-6 * max(1, best), f"kept {kept:.4f}, the best was {best:.4f}")


def patience_ends_training() -> None:
    """After the second look in a row without a better loss, and not before."""
    fit = held_out_fit(steps=200, patience=2)
    flags = [look.best for look in fit.looks]
    require(any(flags), "no look was the best")
    require(flags[-2:] == [False, False], f"ended after looks {flags}")
    require((False, False) not in itertools.pairwise(flags[:-1]), f"went on after looks {flags}")
    require(len(fit.losses) == fit.looks[-1].step < 200, f"{len(fit.losses)} steps taken")


def held_out_vectors_are_not_trained_on() -> None:
    """Every step's loss is the same, to the bit, with vectors held out and without."""
    with_held, without = held_out_fit(steps=25), held_out_fit(aside=False, steps=25)
    require(with_held.looks[-1].step == 25, "no look at the end")
    require(with_held.losses == without.losses, "holding vectors out changes the steps")


def reverse_kl_finds_the_gaussian() -> None:
    """The energy of ``N(2, 0.5^2)``: samples have its mean and deviation, and the loss falls to KL = 0.

    0.05 nats, 0.1 and 10 % tolerate 200 steps of 128 samples. Without entropy the deviation falls to the
    least that the coupling's bound allows, exp(-1) = 0.37; that of a target heated to half its energy is 0.7.
    """

    def energy(x: Tensor) -> Tensor:
        terms = ((x - 2) / 0.5).square() / 2 + math.log(0.5 * math.sqrt(2 * math.pi))
        return terms.sum(-1)

    losses: list[float] = []
    flow = fit_reverse_kl(
        real_nvp(1, couplings=1, hidden=8),
        energy,
        plan=TrainingPlan(steps=200, batch=128, learning_rate=3e-2),
        progress=lambda _, loss: losses.append(loss),
    )
    x = flow.sample((4000,), generator=torch.Generator().manual_seed(0))
    mean, deviation, kl = float(x.mean()), float(x.std()), sum(losses[-20:]) / 20
    require(abs(mean - 2) <= 0.1, f"mean {mean:.3f}, not 2")
    require(abs(deviation / 0.5 - 1) <= 0.1, f"deviation {deviation:.3f}, not 0.5")
    require(abs(kl) <= 0.05, f"divergence {kl:.3f}, not 0")


TRAINING_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        smoothing_widens,
        seeds_decide_weights,
        training_leaves_buffers,
        context_settings_take_effect,
        learns_the_conditional_mean,
        keeps_the_best_held_out_weights,
        patience_ends_training,
        held_out_vectors_are_not_trained_on,
        reverse_kl_finds_the_gaussian,
    )
}
