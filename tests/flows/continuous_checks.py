"""Properties of continuous flows beyond the registry's; each raises AssertionError with what broke."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn

from differnet.flows import Flow, shrinkage_whitening
from differnet.flows.augmentation import AugmentedFlow, augmented, augmented_bound
from differnet.flows.continuous import ContinuousTransform, Noise, ffjord, rnode
from differnet.flows.objectives import flow_matching, regularised_nll
from differnet.flows.tolerances import tolerance_table
from differnet.flows.velocity import PerceptronVelocity, Velocity
from flows.checks import agree, grid, require, round_trip_error, some_context
from flows.continuous_cases import OneLayer
from flows.registry import normal, randomise

NOISES: tuple[Noise, ...] = ("rademacher", "gaussian")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perceptron(
    features: int, context_features: int = 0, *, seed: int = 0, gain: float = 1.5
) -> PerceptronVelocity:
    velocity = PerceptronVelocity(features, context_features, hidden=16).double()
    randomise(velocity, seeded(seed), gain)
    return velocity


def random_continuous(features: int, context_features: int = 0, *, seed: int = 0) -> Flow:
    """Return a small float64 flow far from the identity, integrated to 1e-7."""
    flow = ffjord(features, context_features, hidden=16, rtol=1e-7, atol=1e-7).double()
    randomise(flow, seeded(seed), 1.5)
    return flow.requires_grad_(False)


def part(flow: Flow) -> ContinuousTransform:
    """Return the continuous transform of a flow."""
    return next(m for m in flow.modules() if isinstance(m, ContinuousTransform))


def within(found: Tensor, wanted: float, what: str) -> None:
    """Raise unless the mean of ``found`` is within 4 standard errors of ``wanted``, and it varies at all."""
    error = float(found.std()) / len(found) ** 0.5
    gap = abs(float(found.mean()) - wanted)
    require(error > 0, f"{what}: does not vary")
    require(gap <= 4 * error, f"{what}: off by {gap:.3g}, standard error {error:.3g}")


def _jacobians(velocity: Velocity, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
    """Return ``dv/dx`` of every vector, ``(n, features, features)``, by autograd: the oracle."""
    x = x.clone().requires_grad_()
    columns = velocity(t, x, context).sum(0)
    # Vectors move on their own: the slope of a sum over the batch is each vector's.
    return torch.stack([torch.autograd.grad(c, x, retain_graph=True)[0] for c in columns], dim=1)


def derivatives_are_exact() -> None:
    """Closed forms, and the general ones of the class above, against autograd's Jacobian, to 1e-10.

    1e-10: float64 leaves 1e-15 of sums over a few hundred products of numbers of order 1.
    """
    for features, context_features in ((1, 0), (3, 2), (6, 0)):
        velocity = perceptron(features, context_features, seed=features)
        x = normal(seeded(1), 5, features)
        e = normal(seeded(2), 5, features)
        context = normal(seeded(3), 5, context_features) if context_features else None
        for t in (torch.tensor(0.3, dtype=torch.float64), torch.linspace(0, 1, 5, dtype=torch.float64)):
            v = velocity(t, x, context)
            later = velocity((t + 0.2) % 1, x, context)
            require(float((later - v).detach().abs().min()) > 1e-4, "the field does not change with time")
            jacobian = _jacobians(velocity, t, x, context)
            trace, product = jacobian.diagonal(dim1=1, dim2=2).sum(-1), (jacobian @ e[..., None])[..., 0]
            require(float(trace.detach().abs().min()) > 1e-3, "the field hardly diverges")
            for kind in (PerceptronVelocity, Velocity):
                what = f"{kind.__name__}, {features} features"
                for found, wanted in (
                    (kind.divergence(velocity, t, x, context), (v, trace)),
                    (kind.jacobian_product(velocity, t, x, e, context), (v, product)),
                ):
                    agree(found[0], wanted[0], 1e-10, f"velocity of {what}")
                    agree(found[1], wanted[1], 1e-10, f"derivative of {what}")


def hutchinson_is_unbiased() -> None:
    """The mean of 4,000 estimates is the exact log_det, for both noises and directions."""
    x = normal(seeded(1), 3).expand(4000, 3)
    # Equal steps for both, so that the noise alone differs.
    exact = ContinuousTransform(perceptron(3), method="rk4", steps=8)
    spread = {}
    for noise in NOISES:
        estimate = ContinuousTransform(exact.velocity, trace="hutchinson", noise=noise, method="rk4", steps=8)
        for name in ("forward", "inverse"):
            with torch.no_grad():
                wanted = float(getattr(exact, name)(x[0])[1])
                z, found = getattr(estimate, name)(x)
                agree(z[0], getattr(exact, name)(x[0])[0], 1e-12, f"vectors of {name}")
            within(found, wanted, f"log_det of {name} with {noise} noise")
            require(float(found.std()) > 0.05, f"{noise} estimates do not vary")
            spread[noise] = float(found.std())
    require(spread["rademacher"] < spread["gaussian"], f"Rademacher noise varies more: {spread}")
    four = ContinuousTransform(exact.velocity, trace="hutchinson", probes=4, method="rk4", steps=8)
    with torch.no_grad():
        found = four.inverse(x)[1]
    within(found, wanted, "log_det with four probes")
    # Half the deviation, to the 10 % that 4,000 estimates leave to a ratio of deviations, four times over.
    ratio = float(found.std()) / spread["rademacher"]
    require(abs(ratio - 0.5) <= 0.05, f"four probes divide the deviation by {1 / ratio:.2f}, not 2")


def noise_is_reproducible() -> None:
    """The same call twice is the same; another seed, and another batch, have noise of their own."""
    x = normal(seeded(1), 50, 3)
    estimate = ContinuousTransform(perceptron(3), trace="hutchinson", method="rk4", steps=4)
    with torch.no_grad():
        first, again = estimate(x)[1], estimate(x)[1]
        longer = estimate(torch.cat([x, x[:1]]))[1][:50]
        estimate.seed = 1
        other = estimate(x)[1]
    require(torch.equal(first, again), "the same call, other noise")
    require(float((first - other).abs().max()) > 0.01, "the seed changes nothing")
    require(float((first - longer).abs().max()) > 0.01, "another batch, the same noise")


def adjoint_agrees_with_direct() -> None:
    """Gradients of weights, context and vectors by both methods.

    1e-5 tolerates errors of 1e-8 a step, summed over the batch's gradients; 1e-4 the error of rk4's 60
    steps, which the two methods make differently.
    """
    x, context = normal(seeded(1), 6, 3), normal(seeded(2), 6, 2)
    for method, tolerance in (("dopri5", 1e-5), ("rk4", 1e-4)):
        gradients = []
        for way in ("direct", "adjoint"):
            transform = ContinuousTransform(
                perceptron(3, 2), gradients=way, method=method, steps=60, rtol=1e-8, atol=1e-8
            )
            points = [x.clone().requires_grad_(), context.clone().requires_grad_(), *transform.parameters()]
            z, log_det = transform(*points[:2])
            value = (z.square().sum(-1) - log_det).sum()
            gradients.append(torch.autograd.grad(value, points))
        names = ["x", "context", *(name for name, _ in transform.named_parameters())]
        for name, direct, adjoint in zip(names, *gradients, strict=True):
            require(float(direct.abs().max()) > 1e-2, f"no gradient for {name}")
            agree(adjoint, direct, tolerance, f"gradient of {name} by {method}")


def integrates_to_one() -> None:
    """Quadrature over a box; 0.5 % as promised, where the sum's own error is below 0.1 %."""
    for features, context_features, seed in ((1, 0, 0), (1, 2, 1), (1, 0, 2), (2, 0, 3), (2, 3, 4)):
        flow = random_continuous(features, context_features, seed=seed)
        context = some_context(flow, seed)
        nodes, cell = grid(flow, context, points=1500 if features == 1 else 120)
        mass = float(flow.log_prob(nodes, context).exp().sum()) * cell
        require(abs(mass - 1) <= 0.005, f"{features}-D net {seed}: mass {mass:.4f}")


def samples_follow_the_density() -> None:
    """Mean nll of samples is the entropy, their means are the means, within 4 standard errors."""
    for seed, context_features in ((0, 0), (1, 3)):
        flow = random_continuous(2, context_features, seed=seed)
        context = some_context(flow, seed)
        nodes, cell = grid(flow, context, points=100)
        log_prob = flow.log_prob(nodes, context)
        weight = log_prob.exp() * cell
        samples = flow.sample((4000,), context, generator=seeded(seed))
        within(-flow.log_prob(samples, context), -float((weight * log_prob).sum()), "nll of samples")
        within(samples[:, 0], float((weight * nodes[:, 0]).sum()), "first mean")
        within(samples.prod(-1), float((weight * nodes.prod(-1)).sum()), "product")


def _path_integrals(velocity: PerceptronVelocity, x: Tensor, steps: int = 200) -> tuple[float, float]:
    """Return ``int |v|^2 dt`` and ``int |J|_F^2 dt`` of the path ending in ``x``, by rk4 and midpoints."""

    def v(t: float, u: Tensor) -> Tensor:
        field: Tensor = velocity(torch.tensor(t, dtype=torch.float64), u[None])[0]
        return field

    kinetic = jacobian = 0.0
    h = 1 / (2 * steps)
    with torch.no_grad():
        for k in range(2 * steps):
            t = 1 - k * h
            if k % 2:
                kinetic += float(v(t, x).square().sum()) * 2 * h
                slopes = torch.func.jacrev(lambda u, t=t: v(t, u))(x)
                jacobian += float(slopes.square().sum()) * 2 * h
            k1 = v(t, x)
            k2 = v(t - h / 2, x - h / 2 * k1)
            k3 = v(t - h / 2, x - h / 2 * k2)
            x = x - h / 6 * (k1 + 2 * k2 + 2 * k3 + v(t - h, x - h * k3))
    return kinetic, jacobian


def penalties_are_the_integrals() -> None:
    """Both penalties against brute force; the Jacobian's, an estimate, within 4 standard errors.

    1e-3 relative tolerates the midpoint rule's 200 nodes and the transform's 20 steps.
    """
    velocity = perceptron(3, seed=5)
    x = normal(seeded(1), 3)
    kinetic, jacobian = _path_integrals(velocity, x)
    require(min(kinetic, jacobian) > 0.1, "nothing to penalise")
    for noise in NOISES:
        transform = ContinuousTransform(velocity, noise=noise, method="rk4", steps=20)
        with torch.no_grad():
            path = transform.regularised(x.expand(3000, 3), generator=seeded(2))
            z, log_det = transform(x)
        agree(path.z[0], z, 1e-12, "z with penalties")
        agree(path.log_det[0], log_det, 1e-12, "log_det with penalties")
        agree(path.kinetic / kinetic, torch.ones(3000, dtype=x.dtype), 1e-3, "kinetic energy")
        within(path.jacobian, jacobian, f"Jacobian's norm with {noise} noise")


class Counting(OneLayer):
    """Counts its calls."""

    calls = 0

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().forward(t, x, context)


def evaluations_are_counted() -> None:
    velocity = Counting(2).double()
    x = normal(seeded(1), 5, 2)
    for transform, wanted in (
        (ContinuousTransform(velocity), None),
        (ContinuousTransform(velocity, method="rk4", steps=7), 28),
    ):
        for direction in (transform, transform.inverse):
            velocity.calls = 0
            direction(x)
            require(transform.evaluations == velocity.calls, f"{transform.evaluations}, not {velocity.calls}")
            require(wanted in (None, velocity.calls), f"{velocity.calls} evaluations, not {wanted}")
        transform(x[:0])
        require(transform.evaluations == 0, "an empty batch was integrated")
    path = ContinuousTransform(perceptron(2), method="euler", steps=5).regularised(x)
    require(path.evaluations == 5, f"{path.evaluations} evaluations with penalties, not 5")


def regularised_nll_is_its_sum() -> None:
    """``nll + kinetic * K + jacobian * J`` of the whole chain, a whitening before included."""
    vectors = normal(seeded(1), 200, 3) * 3
    flow = rnode(3, 2, hidden=8, first=shrinkage_whitening(vectors)).double()
    randomise(flow, seeded(0), 1.5)
    x, context = vectors[:7], normal(seeded(2), 7, 2)
    white = shrinkage_whitening(vectors).double()(x)[0]
    path = part(flow).regularised(white, context, generator=seeded(3))
    require(float(path.kinetic.detach().min()) > 0.01, "no kinetic energy")
    found = regularised_nll(kinetic=0.3, jacobian=0.2)(flow, x, context, seeded(3))
    wanted = -flow.log_prob(x, context) + 0.3 * path.kinetic + 0.2 * path.jacobian
    # 1e-6: the whitening of the flow is float32's, cast.
    agree(found, wanted, 1e-6, "objective")


Draw = Callable[[int], tuple[Tensor, Tensor | None]]
Loss = Callable[[Tensor, Tensor | None, torch.Generator], Tensor]


def descend(module: nn.Module, loss: Loss, draw: Draw, steps: int, rate: float = 1e-2) -> None:
    """Minimise the mean of ``loss`` by Adam with a rate that falls to zero."""
    generator = seeded(0)
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 - step / steps)
        optimiser.zero_grad()
        torch.autograd.backward(loss(*draw(step), generator).mean())
        optimiser.step()


def moons(seed: int, n: int = 2000) -> Tensor:
    return torch.as_tensor(make_moons(n, noise=0.08, random_state=seed)[0], dtype=torch.float32)


def penalties_save_energy() -> None:
    """Trained with the kinetic penalty, paths take less energy, at the same data and steps."""
    energy = []
    data = moons(0) * 2
    for weight in (0.0, 0.5):
        flow = ffjord(2, hidden=16, method="rk4", steps=4)
        objective = regularised_nll(kinetic=weight, jacobian=0.0)
        descend(
            flow,
            functools.partial(objective, flow),
            lambda step: (data[(64 * step) % 1900 :][:64], None),
            steps=60,
        )
        with torch.no_grad():
            energy.append(float(part(flow).regularised(data[:500]).kinetic.mean()))
    require(energy[0] > 0.1, f"nothing was learnt: energy {energy[0]:.3g}")
    require(energy[1] < 0.9 * energy[0], f"energy {energy[1]:.3g} with the penalty, {energy[0]:.3g} without")


class GaussianVelocity(Velocity):
    """The minimiser of flow matching for data ``N(mean, deviation^2)``, by the Gaussian's conditional mean.

    ``E[u | x_t = x] = mean + (t s^2 - (1-m) a) / (a^2 + t^2 s^2) (x - t mean)``, ``a = 1 - (1-m) t``,
    for ``u = x_1 - (1-m) x_0``; times ``gain``, a number or one a vector.
    """

    def __init__(self, mean: float, deviation: float, sigma_min: float, gain: Tensor) -> None:
        super().__init__(1)
        self.mean, self.variance, self.narrowing = mean, deviation**2, 1 - sigma_min
        self.gain = nn.Parameter(gain)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        t = t.reshape(-1, 1)
        a = 1 - self.narrowing * t
        slope = (t * self.variance - self.narrowing * a) / (a.square() + t.square() * self.variance)
        return self.gain * (self.mean + slope * (x - t * self.mean))


def flow_matching_has_the_known_optimum() -> None:
    """Between Gaussians: the optimal field has the data's density, and there alone the loss is flat."""
    mean, deviation, sigma_min, n = 1.5, 0.4, 0.1, 20_000
    data = mean + deviation * normal(seeded(1), n, 1)
    objective = flow_matching(sigma_min=sigma_min)
    for gain, optimal in ((1.0, True), (0.9, False)):
        velocity = GaussianVelocity(mean, deviation, sigma_min, torch.full((n, 1), gain, dtype=torch.float64))
        flow = Flow(ContinuousTransform(velocity))
        loss = objective(flow, data, None, seeded(2)).sum()
        (slopes,) = torch.autograd.grad(loss, velocity.gain)
        error = float(slopes.std()) / n**0.5
        flat = abs(float(slopes.mean())) <= 4 * error
        require(
            flat == optimal, f"slope {float(slopes.mean()):.3g} at gain {gain}, standard error {error:.3g}"
        )
    velocity = GaussianVelocity(mean, deviation, sigma_min, torch.ones((), dtype=torch.float64))
    transform = ContinuousTransform(velocity, rtol=1e-8, atol=1e-8)
    x = torch.linspace(0, 3, 7, dtype=torch.float64)[:, None]
    spread = math.hypot(deviation, sigma_min)
    wanted = -0.5 * ((x[:, 0] - mean) / spread).square() - math.log(spread * math.sqrt(2 * math.pi))
    # 1e-6 tolerates errors of 1e-8 a step, times the density's slope.
    agree(Flow(transform).log_prob(x).detach(), wanted, 1e-6, "density of the optimal field")


def flow_matching_learns_two_moons() -> None:
    """Better than the Gaussian by 0.5 nats on data it has not seen; 0.8 to 0.9 are reached."""
    train, held = moons(0), moons(1)
    white = shrinkage_whitening(train)
    flow = ffjord(2, first=white)
    objective = flow_matching()
    descend(
        flow,
        functools.partial(objective, flow),
        lambda step: (train[torch.randint(2000, (256,), generator=seeded(step))], None),
        steps=600,
    )
    with torch.no_grad():
        gap = float((flow.log_prob(held) - Flow(white).log_prob(held)).mean())
    require(gap > 0.5, f"{gap:.3f} nats better than the Gaussian")


def flow_matching_is_conditional() -> None:
    """``x = c + 0.5 noise``: the learnt density has the conditional entropy to 0.1 nats."""
    context = torch.randn(2000, 1, generator=seeded(4))
    vectors = context + 0.5 * torch.randn(2000, 1, generator=seeded(5))
    flow = ffjord(1, 1, hidden=32)
    objective = flow_matching()

    def draw(step: int) -> tuple[Tensor, Tensor]:
        index = torch.randint(2000, (256,), generator=seeded(step))
        return vectors[index], context[index]

    descend(flow, functools.partial(objective, flow), draw, steps=300)
    with torch.no_grad():
        nll = float(-flow.log_prob(vectors, context).mean())
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    require(abs(nll - entropy) <= 0.1, f"nll {nll:.3f}, entropy {entropy:.3f}")


def random_augmented() -> AugmentedFlow:
    flow = augmented(1, 1, extra=1, hidden=16).double()
    randomise(flow, seeded(6), 1.5)
    return flow.requires_grad_(False)


def bound_lies_below_the_density() -> None:
    """One feature and one extra: the bound's mean is below ``log p``, rises with draws, its exp is ``p``."""
    flow, context = random_augmented(), normal(seeded(1), 1)
    x = torch.tensor([0.3], dtype=torch.float64)
    extras = torch.linspace(-9, 9, 3000, dtype=torch.float64)[:, None]
    joint = flow.flow.log_prob(flow.joined(x, extras), context)
    log_prob = float(torch.logsumexp(joint, 0)) + math.log(18 / 2999)
    means, errors = [], []
    for draws in (1, 16):
        bound = flow.lower_bound(x.expand(2000, 1), context, draws=draws, generator=seeded(draws))
        within(bound.exp(), math.exp(log_prob), f"density from {draws} draws")
        means.append(float(bound.mean()))
        errors.append(float(bound.std()) / 2000**0.5)
        require(
            means[-1] <= log_prob + 4 * errors[-1], f"{draws} draws: {means[-1]:.4f} above {log_prob:.4f}"
        )
    require(means[1] > means[0] + 4 * math.hypot(*errors), f"bounds {means} of 1 and 16 draws")


def augmented_samples_follow_the_density() -> None:
    """First and second moment of samples against quadrature over both coordinates."""
    flow, context = random_augmented(), normal(seeded(1), 1)
    nodes, cell = grid(flow.flow, context, points=150)
    weight = flow.flow.log_prob(nodes, context).exp() * cell
    samples = flow.sample((4000,), context, generator=seeded(2))
    require(samples.shape == (4000, 1), f"samples of shape {tuple(samples.shape)}")
    for power in (1, 2):
        wanted = float((weight * nodes[:, 0] ** power).sum())
        within(samples[:, 0] ** power, wanted, f"moment {power}")


def augmented_bound_trains() -> None:
    """60 steps on two clusters raise the bound above the Gaussian's log-density."""
    train = 1.5 * torch.randn(2000, 1, generator=seeded(1)).sign() + 0.3 * torch.randn(
        2000, 1, generator=seeded(2)
    )
    flow = augmented(1, extra=1, hidden=16)
    transform = part(flow.flow)
    transform.method, transform.steps = "rk4", 5
    objective = augmented_bound(draws=2)
    descend(
        flow,
        functools.partial(objective, flow),
        lambda step: (train[(64 * step) % 1900 :][:64], None),
        steps=60,
        rate=3e-2,
    )
    with torch.no_grad():
        bound = float(flow.lower_bound(train, draws=8, generator=seeded(3)).mean())
    gaussian = -0.5 * math.log(2 * math.pi * math.e * float(train.var()))
    require(bound > gaussian + 0.1, f"bound {bound:.3f}, the Gaussian's {gaussian:.3f}")


def errors_fall_with_the_tolerance() -> None:
    """Each hundredth of the tolerance at least divides both errors by 5 and costs more evaluations."""
    for features in (2, 8):
        x = normal(seeded(1), 100, features)
        velocity = perceptron(features, seed=features)
        rows = tolerance_table(ContinuousTransform(velocity), x, tolerances=(1e-3, 1e-5, 1e-7, 1e-9))
        for coarse, fine in itertools.pairwise(rows):
            require(fine.evaluations > coarse.evaluations, f"{coarse}, {fine}")
            require(5 * fine.vector_error < coarse.vector_error, f"{coarse}, {fine}")
            require(5 * fine.log_det_error < coarse.log_det_error, f"{coarse}, {fine}")
        # The sum over the steps, with what the field makes of it: 30 times the tolerance of one.
        worst = max(max(row.vector_error, row.log_det_error) / row.tolerance for row in rows)
        require(worst <= 30, f"errors of {worst:.1f} times the tolerance")


def rough(features: int, dtype: torch.dtype) -> Flow:
    flow = ffjord(features).to(dtype)
    randomise(flow, seeded(features), 2.0)
    return flow.requires_grad_(False)


def far_vectors_are_finite() -> None:
    """Up to 1e6 the nll is finite and float32's is float64's to 1e-3 relative (1e-3 nats below 1)."""
    for features in (1, 4):
        direction = torch.randn(1000, features, generator=seeded(1))
        x = direction / direction.norm(dim=-1, keepdim=True)
        x = x * torch.logspace(-2, 6, 1000)[:, None]
        single = -rough(features, torch.float32).log_prob(x)
        double = -rough(features, torch.float64).log_prob(x.double())
        require(bool(single.isfinite().all() and double.isfinite().all()), "nll is not finite")
        agree(single.double(), double, 1e-3, f"nll of {features} features in float32")


def inverts_in_single_precision() -> None:
    """Samples of a flow, and the same 100 times as far out, come back in float32 at default tolerance."""
    for features in (2, 16):
        flow = rough(features, torch.float32)
        x = flow.sample((2000,), generator=seeded(9))
        near = round_trip_error(flow, x)
        far = round_trip_error(flow, x.mean(0) + 100 * (x - x.mean(0)))
        require(float(near.median()) <= 1e-5, f"median error {float(near.median()):.2g}")
        require(float(near.max()) <= 1e-3, f"largest error {float(near.max()):.2g}")
        require(float(far.max()) <= 1e-2, f"largest error at 100 sigma {float(far.max()):.2g}")


def batch_hardly_matters() -> None:
    """A vector alone, and beside 49 others one of which is far out, to 1e-4.

    1e-4 tolerates about ten times the default tolerance of a vector of length 3: the steps' errors add up.
    """
    flow = rough(3, torch.float64)
    x = normal(seeded(1), 50, 3)
    x[0] = 1e4
    together = flow.log_prob(x)
    alone = torch.stack([flow.log_prob(vector) for vector in x[1:6]])
    agree(together[1:6], alone, 1e-4, "log_prob of a batch against singles")


CONTINUOUS_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        derivatives_are_exact,
        hutchinson_is_unbiased,
        noise_is_reproducible,
        adjoint_agrees_with_direct,
        integrates_to_one,
        samples_follow_the_density,
        penalties_are_the_integrals,
        evaluations_are_counted,
        regularised_nll_is_its_sum,
        penalties_save_energy,
        flow_matching_has_the_known_optimum,
        flow_matching_learns_two_moons,
        flow_matching_is_conditional,
        bound_lies_below_the_density,
        augmented_samples_follow_the_density,
        augmented_bound_trains,
        errors_fall_with_the_tolerance,
        far_vectors_are_finite,
        inverts_in_single_precision,
        batch_hardly_matters,
    )
}
