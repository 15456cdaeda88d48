"""Faults of continuous flows: their fields, solver, noise, penalties and objectives, and augmented flows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from flows import continuous_checks
from flows.continuous_checks import CONTINUOUS_CHECKS
from torch import Tensor

from differnet.flows import (
    AugmentedFlow,
    ContinuousTransform,
    Flow,
    PerceptronVelocity,
    Regularised,
    Velocity,
)
from differnet.flows.motion import Motion
from differnet.flows.training import Objective
from differnet.flows.velocity import Field, _PerceptronField
from mutants.faults import Fault, Pair, Plant, on_case, replace, wrap

# What is planted, and the check that has to notice: of a continuous flow, or of a case of the registry.
Planted = tuple[str, Plant, str, str | None]

Slopes = tuple[Tensor, Tensor, Tensor | None]
# From time, latent, vector and 1 - sigma_min to the place on the path and the velocity wanted there.
Path = Callable[[Tensor, Tensor, Tensor, float], Pair]

CONDITIONAL, OWN_FIELD = "continuous_context", "continuous_own_field_context"


def faults_of(part: str, planted: list[Planted]) -> list[Fault]:
    """Return faults on each of which the check that has to notice is run alone: most are dear."""
    return [
        Fault(
            f"{part}: {what}",
            plant,
            {by: CONTINUOUS_CHECKS[by]} if case is None else on_case(by, case),
            by,
        )
        for what, plant, by, case in planted
    ]


def field_faults() -> list[Fault]:
    """Return velocities that do not see everything, and wrong divergences."""

    def negated(true: Any, self: Field, t: Tensor, x: Tensor) -> Pair:
        v, divergence = true(self, t, x)
        return v, -divergence

    def halved(true: Any, self: Field, t: Tensor, x: Tensor) -> Pair:
        v, divergence = true(self, t, x)
        return v, divergence / 2

    def transposed(_: Any, self: _PerceptronField, t: Tensor, x: Tensor) -> Pair:
        first, second, v = self._layers(t, x)
        mixed = self.second * (self.third @ self.first).T
        return v, ((1 - second * second) * ((1 - first * first) @ mixed.T)).sum(-1)

    def without_share(true: Any, self: Velocity, *given: Any) -> Pair:
        v, divergence = true(self, *given)
        return v, divergence * (self.features - 1) / self.features

    def transposed_product(
        _: Any, self: Velocity, t: Tensor, x: Tensor, direction: Tensor, context: Tensor | None = None
    ) -> Pair:
        x = x.detach().requires_grad_()
        v: Tensor = self(t, x, context)
        (product,) = torch.autograd.grad((v * direction).sum(), x)
        return v.detach(), product

    def blind(_: Any, self: PerceptronVelocity, context: Tensor | None) -> Field:
        return _PerceptronField(self, None)

    def timeless(true: Any, self: _PerceptronField, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layers: tuple[Tensor, Tensor, Tensor] = true(self, torch.zeros_like(t), x)
        return layers

    field, divergence = _PerceptronField, ("divergence",)
    exact = "derivatives_are_exact"
    return faults_of(
        "PerceptronVelocity",
        [
            ("divergence flipped", wrap(field, divergence, negated), "log_det_forward", CONDITIONAL),
            ("divergence halved", wrap(field, divergence, halved), "log_det_inverse", CONDITIONAL),
            ("mixed matrix transposed", wrap(field, divergence, transposed), exact, None),
            (
                "context ignored",
                wrap(PerceptronVelocity, ("bound",), blind),
                "context_matters",
                CONDITIONAL,
            ),
            ("time ignored", wrap(field, ("_layers",), timeless), exact, None),
        ],
    ) + faults_of(
        "Velocity",
        [
            (
                "the divergence forgets a feature's share",
                wrap(Velocity, divergence, without_share),
                "log_det_forward",
                OWN_FIELD,
            ),
            (
                "the product is the transposed Jacobian's",
                wrap(Velocity, ("jacobian_product",), transposed_product),
                exact,
                None,
            ),
        ],
    )


def solver_faults() -> list[Fault]:
    """Return paths taken the wrong way, errors measured wrongly and gradients that miss something."""

    def one_way(true: Any, self: ContinuousTransform, *given: Any, backwards: bool, **settings: Any) -> Pair:
        pair: Pair = true(self, *given, backwards=False, **settings)
        return pair

    def clock(true: Any, self: Motion, s: Tensor, state: Tensor) -> Tensor:
        slope: Tensor = true(self, 1 - s if self.backwards else s, state)
        return slope

    def decoded(_: Any, self: ContinuousTransform, z: Tensor, context: Tensor | None = None) -> Tensor:
        x: Tensor = self(z, context)[0]
        return x

    def without_context(_: Any, self: Motion) -> tuple[Tensor, ...]:
        return tuple(self.velocity.parameters())

    def still_bound(_: Any, self: Motion, name: str, value: Any) -> None:
        object.__setattr__(self, name, False if name == "rebind" else value)

    def averaged(_: Any, self: Motion, error: Tensor, rtol: float, atol: float) -> Tensor:
        return error.square().mean().sqrt() / (atol + rtol * self.last.abs().mean())

    def tolerant(true: Any, self: Motion, error: Tensor, rtol: float, atol: float) -> Tensor:
        worst: Tensor = true(self, error, 1e-3, 1e-3)
        return worst

    adjoint = "adjoint_agrees_with_direct"
    return faults_of(
        "ContinuousTransform",
        [
            (
                "forward goes from 0 to 1",
                wrap(ContinuousTransform, ("_carried",), one_way),
                "round_trip",
                CONDITIONAL,
            ),
            (
                "forward's clock goes from 0 to 1",
                wrap(Motion, ("__call__",), clock),
                "round_trip",
                CONDITIONAL,
            ),
            (
                "decode goes forward",
                wrap(ContinuousTransform, ("decode",), decoded),
                "decodes_as_it_inverts",
                CONDITIONAL,
            ),
            ("the adjoint forgets the context", wrap(Motion, ("learned",), without_context), adjoint, None),
            ("the adjoint keeps the field bound", wrap(Motion, ("__setattr__",), still_bound), adjoint, None),
            (
                "errors averaged over the batch",
                wrap(Motion, ("worst",), averaged),
                "batch_hardly_matters",
                None,
            ),
            (
                "tolerance ignored",
                wrap(Motion, ("worst",), tolerant),
                "errors_fall_with_the_tolerance",
                None,
            ),
            (
                "evaluations of one step only",
                replace(ContinuousTransform, "evaluations", property(lambda self: 6)),
                "evaluations_are_counted",
                None,
            ),
        ],
    )


def noise_faults() -> list[Fault]:
    """Return noise without unit covariance, and noise that is not the seed's and the batch's."""

    def louder(true: Any, self: ContinuousTransform, *given: Any) -> Tensor:
        noise: Tensor = 1.2 * true(self, *given)
        return noise

    def one_number(true: Any, self: ContinuousTransform, *given: Any) -> Tensor:
        noise: Tensor = true(self, *given)
        return noise[..., :1].expand_as(noise)

    def one_vector(true: Any, self: ContinuousTransform, *given: Any) -> Tensor:
        noise: Tensor = true(self, *given)
        return noise[:, :1].expand_as(noise)

    def one_probe(true: Any, self: ContinuousTransform, *given: Any) -> Tensor:
        noise: Tensor = true(self, *given)
        return noise[:1].expand_as(noise)

    def from_anywhere(
        true: Any, self: ContinuousTransform, rows: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        drawn = torch.Generator().manual_seed(int(torch.randint(1 << 30, ())))
        noise: Tensor = true(self, rows, generator or drawn)
        return noise

    def unseeded(
        true: Any, self: ContinuousTransform, rows: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        noise: Tensor = true(self, rows, generator or torch.Generator().manual_seed(3))
        return noise

    unbiased, reproducible = "hutchinson_is_unbiased", "noise_is_reproducible"
    planted: list[tuple[str, Callable[..., Tensor], str]] = [
        ("not of unit variance", louder, unbiased),
        ("one number for all features", one_number, unbiased),
        ("one vector for all of the batch", one_vector, unbiased),
        ("all probes alike", one_probe, unbiased),
        ("from torch's own generator", from_anywhere, reproducible),
        ("the same for every seed and batch", unseeded, reproducible),
    ]
    return faults_of(
        "noise",
        [(what, wrap(ContinuousTransform, ("_draw",), faulty), by, None) for what, faulty, by in planted],
    )


def penalty_faults() -> list[Fault]:
    """Return kinetic energies and Jacobian norms that are not the integrals, or not in the objective."""

    def rooted(true: Any, self: Motion, *given: Any) -> Slopes:
        v, trace, size = true(self, *given)
        return v, trace, None if size is None else size.sqrt()

    def dropped(true: Any, self: Motion, *given: Any) -> Slopes:
        v, trace, size = true(self, *given)
        return v, trace, None if size is None else torch.zeros_like(size)

    def backwards(true: Any, self: Motion, *given: Any) -> Tensor:
        slope: Tensor = true(self, *given)
        return torch.cat([slope[:, :-2], -slope[:, -2:]], dim=-1) if self.extras == 3 else slope

    def as_the_crow_flies(
        true: Any, self: ContinuousTransform, x: Tensor, *given: Any, **settings: Any
    ) -> Any:
        path: Regularised = true(self, x, *given, **settings)
        return path._replace(kinetic=(path.z - x).square().sum(-1))

    def exchanged(true: Any, self: ContinuousTransform, *given: Any, **settings: Any) -> Any:
        path: Regularised = true(self, *given, **settings)
        return path._replace(kinetic=path.jacobian, jacobian=path.kinetic)

    def weights_exchanged(true: Any, *, kinetic: float, jacobian: float) -> Objective:
        objective: Objective = true(kinetic=jacobian, jacobian=kinetic)
        return objective

    def unpenalised(true: Any, **_: float) -> Objective:
        objective: Objective = true(kinetic=0.0, jacobian=0.0)
        return objective

    integrals, whole = "penalties_are_the_integrals", "regularised_nll_is_its_sum"
    regularised, objective = ("regularised",), ("regularised_nll",)
    return faults_of(
        "penalties",
        [
            ("Jacobian's norm not squared", wrap(Motion, ("_slopes",), rooted), integrals, None),
            ("Jacobian's norm dropped", wrap(Motion, ("_slopes",), dropped), integrals, None),
            ("both shrink along the path", wrap(Motion, ("__call__",), backwards), integrals, None),
            (
                "energy of the straight way",
                wrap(ContinuousTransform, regularised, as_the_crow_flies),
                integrals,
                None,
            ),
            ("each in the other's place", wrap(ContinuousTransform, regularised, exchanged), integrals, None),
            ("weights exchanged", wrap(continuous_checks, objective, weights_exchanged), whole, None),
            ("weights ignored", wrap(continuous_checks, objective, unpenalised), whole, None),
        ],
    )


def matching_faults() -> list[Fault]:
    """Return flow matching along other paths, or towards other velocities than those of its paths."""

    def along(path: Path) -> Callable[..., Objective]:
        def faulty(_: Any, *, sigma_min: float = 1e-4) -> Objective:
            def objective(
                flow: Flow, x: Tensor, context: Tensor | None, generator: torch.Generator
            ) -> Tensor:
                last = continuous_checks.part(flow)
                latent = torch.randn(x.shape, generator=generator).to(x)
                t = torch.rand(len(x), 1, generator=generator).to(x)
                at, wanted = path(t, latent, x, 1 - sigma_min)
                miss: Tensor = last.velocity(t[:, 0], at, context) - wanted
                return miss.square().mean(-1)

            return objective

        return faulty

    def from_data(t: Tensor, latent: Tensor, x: Tensor, narrowing: float) -> Pair:
        return t * latent + (1 - narrowing * t) * x, x - narrowing * latent

    def towards_latent(t: Tensor, latent: Tensor, x: Tensor, narrowing: float) -> Pair:
        return (1 - narrowing * t) * latent + t * x, narrowing * latent - x

    def without_sigma(t: Tensor, latent: Tensor, x: Tensor, narrowing: float) -> Pair:
        return (1 - narrowing * t) * latent + t * x, x - latent

    planted: list[tuple[str, Path]] = [
        ("time runs from data to latent", from_data),
        ("velocity towards the latent", towards_latent),
        ("velocity without sigma_min", without_sigma),
    ]
    by = "flow_matching_has_the_known_optimum"
    return faults_of(
        "flow_matching",
        [
            (what, wrap(continuous_checks, ("flow_matching",), along(path)), by, None)
            for what, path in planted
        ],
    )


def augmentation_faults() -> list[Fault]:
    """Return bounds that are none, and samples of the noise beside the vector."""

    def ratios(
        self: AugmentedFlow, x: Tensor, context: Tensor | None, draws: int, generator: torch.Generator | None
    ) -> Pair:
        noise = torch.randn((draws, *x.shape[:-1], self.extra), generator=generator).to(x)
        proposal = -0.5 * (noise.square().sum(-1) + self.extra * math.log(2 * math.pi))
        return self.flow.log_prob(self.joined(x, noise), context), proposal

    def bound(of: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        def faulty(
            _: Any,
            self: AugmentedFlow,
            x: Tensor,
            context: Tensor | None = None,
            *,
            draws: int = 1,
            generator: torch.Generator | None = None,
        ) -> Tensor:
            return of(*ratios(self, x, context, draws, generator))

        return faulty

    def of_zeros(
        _: Any, self: AugmentedFlow, x: Tensor, context: Tensor | None = None, **settings: Any
    ) -> Tensor:
        log_prob: Tensor = self.flow.log_prob(self.joined(x, x.new_zeros(*x.shape[:-1], self.extra)), context)
        return log_prob

    def extras(
        _: Any, self: AugmentedFlow, shape: tuple[int, ...] = (), context: Any = None, **settings: Any
    ) -> Tensor:
        return self.flow.sample(shape, context, **settings)[..., self.extra :]

    bounds: list[tuple[str, Callable[..., Tensor]]] = [
        (
            "without the density of the noise",
            bound(lambda joint, _: torch.logsumexp(joint, 0) - math.log(len(joint))),
        ),
        ("a sum over draws, no mean", bound(lambda joint, proposal: torch.logsumexp(joint - proposal, 0))),
        ("a mean of logarithms", bound(lambda joint, proposal: (joint - proposal).mean(0))),
        ("zeros beside the vector", of_zeros),
    ]
    below = "bound_lies_below_the_density"
    return faults_of(
        "AugmentedFlow",
        [
            *[
                (f"bound {what}", wrap(AugmentedFlow, ("lower_bound",), faulty), below, None)
                for what, faulty in bounds
            ],
            (
                "samples of the extra dimensions",
                wrap(AugmentedFlow, ("sample",), extras),
                "augmented_samples_follow_the_density",
                None,
            ),
        ],
    )


CONTINUOUS_FAULTS: tuple[Fault, ...] = (
    *field_faults(),
    *solver_faults(),
    *noise_faults(),
    *penalty_faults(),
    *matching_faults(),
    *augmentation_faults(),
)
