"""Continuous flows: vectors carried along a velocity field, densities by the field's divergence."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint

from differnet.flows.density import Flow
from differnet.flows.motion import Motion, adjoint_error
from differnet.flows.transform import Compose, FlowError, Transform
from differnet.flows.velocity import PerceptronVelocity, Velocity

Trace = Literal["exact", "hutchinson"]
Noise = Literal["rademacher", "gaussian"]
Gradients = Literal["direct", "adjoint"]

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "rk4")
# A smooth field takes 5 to 50 steps. A thousand times as many mean that the field is stiff.
MOST_STEPS = 20_000


class Regularised(NamedTuple):
    """What one integration with penalties returns; all but ``z`` and ``evaluations`` are ``(*batch,)``.

    Attributes:
        z: ``(*batch, features)``.
        log_det: As of ``forward``.
        kinetic: ``int |v|^2 dt`` along each vector's path.
        jacobian: ``int |J e|^2 dt`` with ``e`` fixed along the path: an unbiased estimate of
            ``int |J|_F^2 dt``.
        evaluations: As of `ContinuousTransform.evaluations`.
    """

    z: Tensor
    log_det: Tensor
    kinetic: Tensor
    jacobian: Tensor
    evaluations: int


class ContinuousTransform(Transform):
    """Carry vectors along ``dx/dt = v(t, x, context)`` from time 0 (latent) to time 1 (data).

    forward ``z = x - int_0^1 v(t, x(t)) dt`` with ``x(1) = x``,
    ``log_det = -int_0^1 tr J(t, x(t)) dt``, ``J = dv/dx``;
    inverse ``x = z + int_0^1 v(t, x(t)) dt`` with ``x(0) = z``, ``log_det = int_0^1 tr J dt``.

    **Error.** An adaptive solver keeps each step's error of every vector below
    ``atol + rtol * max_j |x_j|``: below the tolerance relative to that vector's own largest
    coordinate, for its ``log_det`` too. The step is the one that the batch's worst vector needs, so
    that no vector's error is averaged away and a result depends on its batch by less than the
    tolerance. What float32 or float64 cannot give is not asked for: both tolerances are taken to be 10
    units of the last place at least (1.2e-6 in float32). A fixed-step method has no error control.

    **Hutchinson's estimate.** With ``trace="hutchinson"`` the trace is ``e^T J e`` with noise ``e`` drawn
    once an integration. ``log_det`` and ``log_prob`` are then unbiased *estimates*, each vector with an
    error of its own: their mean over many vectors has a meaning, but they must not be compared vector
    with vector, and the two directions' do not cancel. The noise is a function of ``seed`` and of the
    batch, so that the same call gives the same numbers, and other batches other noise.
    With a `PerceptronVelocity` the exact trace is as cheap.

    Args:
        velocity: The field.
        trace: Exact, or Hutchinson's estimate for fields where the exact one is dear.
        noise: Of the estimate and of the Jacobian's penalty. Rademacher noise has the smaller variance.
        probes: Number of noise vectors that the estimate averages over.
        gradients: "direct" differentiates the solver's own steps: gradients exact for the numbers
            returned, memory proportional to the steps. "adjoint" integrates a second equation
            backwards: constant memory, gradients to within the tolerance, more evaluations.
        method: A solver of torchdiffeq, one of `ADAPTIVE` or `FIXED`.
        steps: Number of steps of a fixed-step method.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        seed: Of the noise.

    Raises:
        FlowError: An option is unknown, a tolerance not positive; or, on a call, the path cannot be
            integrated in `MOST_STEPS` steps or is not finite.

    Example:
        >>> import torch
        >>> from differnet.flows.continuous import ContinuousTransform
        >>> from differnet.flows.velocity import Velocity
        >>> class Growth(Velocity):
        ...     def forward(self, t, x, context=None):
        ...         return x
        >>> x, log_det = ContinuousTransform(Growth(2)).inverse(torch.ones(2))
        >>> [round(v, 3) for v in x.tolist()], round(log_det.item(), 3)  # e, and log e^2
        ([2.718, 2.718], 2.0)

    Source: Chen et al. 2018, "Neural ordinary differential equations", eq. 8; Grathwohl et al. 2019,
    "FFJORD", eq. 4 and 8; penalties: Finlay et al. 2020, "How to train your neural ODE", eq. 7 and 9.
    """

    def __init__(
        self,
        velocity: Velocity,
        *,
        trace: Trace = "exact",
        noise: Noise = "rademacher",
        probes: int = 1,
        gradients: Gradients = "direct",
        method: str = "dopri5",
        steps: int = 20,
        rtol: float = 3e-6,
        atol: float = 1e-6,
        seed: int = 0,
    ) -> None:
        super().__init__(velocity.features, velocity.context_features)
        _check_options(trace, noise, gradients, method)
        if probes < 1 or steps < 1 or not rtol > 0 or not atol > 0:
            raise FlowError(
                expected="probes >= 1, steps >= 1 and positive tolerances",
                found=f"{probes=}, {steps=}, {rtol=}, {atol=}",
                remedy="Use the defaults unless you know why not.",
            )
        self.velocity = velocity
        self.trace = trace
        self.noise = noise
        self.probes = probes
        self.gradients = gradients
        self.method = method
        self.steps = steps
        self.rtol = rtol
        self.atol = atol
        self.seed = seed
        self._evaluations = 0

    @property
    def evaluations(self) -> int:
        """How often the last call evaluated the equation's right-hand side; its backward pass is not counted.

        One evaluation calls the velocity once; once for every probe with Hutchinson's estimate, and once
        more where `regularised` takes the exact trace.
        """
        return self._evaluations

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x(0)`` of the path that ends in ``x``, and ``-int tr J dt``."""
        self.check(x, context)
        z, extra = self._carried(x, context, backwards=True, extras=1)
        return z, extra[..., 0]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x(1)`` of the path that starts in ``z``, and ``int tr J dt``."""
        self.check(z, context)
        x, extra = self._carried(z, context, backwards=False, extras=1)
        return x, extra[..., 0]

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``x(1)`` alone: the divergence is not evaluated. `inverse` to within the tolerance."""
        self.check(z, context)
        return self._carried(z, context, backwards=False, extras=0)[0]

    def regularised(
        self, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Regularised:
        """Return `forward` together with the two penalties of RNODE, from one integration.

        The penalties are integrated with the steps that ``z`` and ``log_det`` need: they steer training
        and do not have to be exact.

        Args:
            x: ``(*batch, features)``.
            context: Broadcasts over ``batch``.
            generator: Source of the noise ``e`` of the Jacobian's penalty and of Hutchinson's
                estimate; noise given by ``seed`` and the batch when ``None``.

        Raises:
            FlowError: As for ``forward``.
        """
        self.check(x, context)
        z, extra = self._carried(x, context, backwards=True, extras=3, generator=generator)
        return Regularised(z, extra[..., 0], extra[..., 1], extra[..., 2], self._evaluations)

    def _carried(
        self,
        start: Tensor,
        context: Tensor | None,
        *,
        backwards: bool,
        extras: int,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Integrate; return the end of every path and, last axis, log_det (1 extra) and the penalties (3)."""
        batch, width = start.shape[:-1], self.features
        rows = start.reshape(-1, width)
        if context is not None:
            context = context.expand(*batch, self.context_features)
            context = context.reshape(-1, self.context_features)
        state = torch.cat([rows, rows.new_zeros(len(rows), extras)], dim=-1)
        if len(rows):
            noisy = extras == 3 or (extras and self.trace == "hutchinson")
            noise = self._draw(rows, generator) if noisy else None
            exact = self.trace == "exact"
            motion = Motion(self.velocity, context, noise, backwards=backwards, exact=exact, extras=extras)
            state = self._solved(motion, state)
            self._evaluations = motion.evaluations
        else:
            self._evaluations = 0
        return state[:, :width].reshape(start.shape), state[:, width:].reshape(*batch, extras)

    def _draw(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return noise of unit covariance, ``(probes, n, features)``."""
        if generator is None:
            numbers = rows.detach().to("cpu", torch.float64).numpy().tobytes()
            digest = hashlib.blake2b(numbers, digest_size=7, key=str(self.seed).encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest))
        shape = (self.probes, *rows.shape)
        if self.noise == "gaussian":
            return torch.randn(shape, generator=generator).to(rows)
        return 2 * torch.randint(2, shape, generator=generator).to(rows) - 1

    def _solved(self, motion: Motion, state: Tensor) -> Tensor:
        least = 10 * torch.finfo(state.dtype).eps
        rtol, atol = max(self.rtol, least), max(self.atol, least)
        times = torch.tensor([0.0, 1.0], dtype=torch.float64, device=state.device)
        there = self._options(motion, rtol, atol, end=times[1:])
        try:
            if self.gradients == "direct" or not torch.is_grad_enabled():
                # The tolerance is in the norm, see Motion.worst.
                path = odeint(motion, state, times, rtol=0.0, atol=1.0, method=self.method, options=there)
            else:
                motion.rebind = True
                back = self._options(motion, rtol, atol, end=times[:1])
                if self.method in ADAPTIVE:
                    back["norm"] = adjoint_error
                path = odeint_adjoint(
                    motion,
                    state,
                    times,
                    rtol=0.0,
                    atol=1.0,
                    method=self.method,
                    options=there,
                    adjoint_rtol=rtol,
                    adjoint_atol=atol,
                    adjoint_options=back,
                    adjoint_params=motion.learned(),
                )
        except AssertionError as failure:
            # torchdiffeq asserts on steps that became too small or too many, and on numbers not finite.
            raise _not_integrated(str(failure)) from failure
        end: Tensor = path[-1]
        if not bool(torch.isfinite(end).all()):
            raise _not_integrated("numbers that are not finite")
        return end

    def _options(self, motion: Motion, rtol: float, atol: float, end: Tensor) -> dict[str, object]:
        """Return torchdiffeq's options: how steps are measured, begun and ended."""
        if self.method in FIXED:
            count = self.steps + 1

            def grid(_func: object, _state: Tensor, times: Tensor) -> Tensor:
                return torch.linspace(float(times[0]), float(times[-1]), count).to(times)

            return {"grid_constructor": grid}
        return {
            "norm": lambda error: motion.worst(error, rtol, atol),
            # The step whose error is the tolerance when an order-5 method's constant is 1. Not chosen
            # by torchdiffeq: that would cost an evaluation and a gradient through the step's length.
            "first_step": (rtol + atol) ** 0.2,
            # Without it the end would be interpolated, one order less exact than the steps.
            "step_t": end,
            "max_num_steps": MOST_STEPS,
        }


def _not_integrated(why: str) -> FlowError:
    return FlowError(
        expected=f"a path that {MOST_STEPS} steps follow to the tolerance, with finite numbers",
        found=why[:200],
        remedy="Look for numbers that are not finite, standardise the vectors, or loosen the tolerance.",
    )


def _check_options(trace: str, noise: str, gradients: str, method: str) -> None:
    for name, given, known in (
        ("trace", trace, ("exact", "hutchinson")),
        ("noise", noise, ("rademacher", "gaussian")),
        ("gradients", gradients, ("direct", "adjoint")),
        ("method", method, (*ADAPTIVE, *FIXED)),
    ):
        if given not in known:
            raise FlowError(
                expected=f"{name} to be one of {', '.join(known)}",
                found=f"{name}={given!r}",
                remedy="Choose one of them.",
            )


def ffjord(
    features: int,
    context_features: int = 0,
    *,
    hidden: int = 64,
    trace: Trace = "exact",
    noise: Noise = "rademacher",
    gradients: Gradients = "direct",
    method: str = "dopri5",
    steps: int = 20,
    rtol: float = 3e-6,
    atol: float = 1e-6,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) continuous flow: ``first``, then one `ContinuousTransform`.

    Trained by likelihood it is FFJORD, with `regularised_nll` it is RNODE, and with `flow_matching` the
    same flow is trained without simulation.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        hidden: See `PerceptronVelocity`.
        trace: See `ContinuousTransform`.
        noise: See `ContinuousTransform`.
        gradients: See `ContinuousTransform`.
        method: See `ContinuousTransform`.
        steps: See `ContinuousTransform`.
        rtol: See `ContinuousTransform`.
        atol: See `ContinuousTransform`.
        first: A transform before, such as `Whitening`. Vectors should have unit scale: the path has
            unit length in time.
        seed: Of weights and noise.

    Returns:
        A flow whose density is, until it is trained, nearly that of ``first`` alone.

    Raises:
        FlowError: A size or an option has no meaning, or ``first`` has another width.

    Example:
        >>> import torch
        >>> from differnet.flows.continuous import ffjord
        >>> abs(ffjord(2).log_prob(torch.zeros(2)).item() + 1.8379) < 0.1  # nearly the standard normal's
        True

    Source: Grathwohl et al. 2019, "FFJORD: free-form continuous dynamics for scalable reversible
    generative models".
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        velocity = PerceptronVelocity(features, context_features, hidden=hidden)
    transform = ContinuousTransform(
        velocity,
        trace=trace,
        noise=noise,
        gradients=gradients,
        method=method,
        steps=steps,
        rtol=rtol,
        atol=atol,
        seed=seed,
    )
    return Flow(Compose([transform] if first is None else [first, transform]))


def rnode(
    features: int,
    context_features: int = 0,
    *,
    hidden: int = 64,
    rtol: float = 3e-6,
    atol: float = 1e-6,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a continuous flow to be trained with `regularised_nll`.

    The network is `ffjord`'s: what makes a flow RNODE is the objective.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        hidden: See `PerceptronVelocity`.
        rtol: See `ContinuousTransform`.
        atol: See `ContinuousTransform`.
        first: See `ffjord`.
        seed: Of weights and noise.

    Raises:
        FlowError: As for `ffjord`.

    Source: Finlay et al. 2020, "How to train your neural ODE: the world of Jacobian and kinetic
    regularization".
    """
    return ffjord(features, context_features, hidden=hidden, rtol=rtol, atol=atol, first=first, seed=seed)
