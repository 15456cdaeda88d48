"""Faults to plant in the true classes, each with the checks that have to notice.

A fault replaces a method or function through pytest's monkeypatch, so that everything which uses
the class, compositions included, has the fault.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from flows import checks
from flows.checks import FLOW_CHECKS, TRAINING_CHECKS, TRANSFORM_CHECKS
from flows.registry import BY_NAME
from torch import Tensor

from differnet.flows import (
    AffineCoupling,
    Compose,
    ElementwiseAffine,
    Evidence,
    Flow,
    Inverse,
    Leading,
    LowRankWhitening,
    Permutation,
    TrainingPlan,
    Transform,
    Whitening,
    coupling,
)

Pair = tuple[Tensor, Tensor]
Method = Callable[..., Pair]
Plant = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[], None]

BOTH = ("forward", "inverse")

# Few cases keep the suite short: odd widths, and a context where the class may have one.
CASES: dict[type[Transform], tuple[str, ...]] = {
    AffineCoupling: ("coupling_odd", "coupling_context", "coupling_one_feature_context"),
    ElementwiseAffine: ("elementwise_odd", "elementwise_one"),
    Leading: ("leading", "leading_context"),
    Permutation: ("permutation_cycle", "compose"),
    Whitening: ("whitening_odd", "whitening_one"),
    LowRankWhitening: ("low_rank_two_of_five", "low_rank_all_but_one"),
    Compose: ("compose", "compose_context"),
    Inverse: ("inverse_coupling", "inverse_compose_context", "coupling_odd"),
}


@dataclass(frozen=True)
class Fault:
    """A mistake somebody could make.

    Attributes:
        name: What is wrong.
        plant: Puts it into the code.
        checks: Those that are run on it.
        by: The check that must be among those that catch it: none is to be caught by accident only.
    """

    name: str
    plant: Plant
    checks: dict[str, Check]
    by: str


def transform_checks(kind: type[Transform]) -> dict[str, Check]:
    """Return every property check, run over the cases chosen for a class."""

    def over_cases(name: str) -> Check:
        def run() -> None:
            for case in CASES[kind]:
                TRANSFORM_CHECKS[name](BY_NAME[case])

        return run

    return {name: over_cases(name) for name in TRANSFORM_CHECKS}


def around(true: Callable[..., Any], faulty: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that hands the true one to ``faulty``."""
    return lambda *arguments, **settings: faulty(true, *arguments, **settings)


def wrap(owner: object, names: tuple[str, ...], faulty: Callable[..., Any]) -> Plant:
    """Return what replaces each named method by ``faulty(true_method, *its arguments)``."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for name in names:
            patch.setattr(owner, name, around(getattr(owner, name), faulty))

    return plant


def edit(kind: type, names: tuple[str, ...], change: Callable[[Any, Tensor, Tensor], Any]) -> Plant:
    """Return what passes the pair that each named method returns through ``change``."""
    return wrap(kind, names, lambda true, self, *given: change(self, *true(self, *given)))


def negated(_: Transform, values: Tensor, log_det: Tensor) -> Pair:
    return values, -log_det


def halved(_: Transform, values: Tensor, log_det: Tensor) -> Pair:
    return values, log_det / 2


def dropped(_: Transform, values: Tensor, log_det: Tensor) -> Pair:
    return values, torch.zeros_like(log_det)


def averaged(transform: Transform, values: Tensor, log_det: Tensor) -> Pair:
    return values, log_det / transform.features


def log_det_faults() -> list[Fault]:
    """Return the wrong log-determinants, in every class that has one."""
    faults = []
    for kind in CASES:
        if kind is Permutation:
            continue
        kinds = transform_checks(kind)
        for what, change in (
            ("flipped", negated),
            ("halved", halved),
            ("dropped", dropped),
            ("averaged over features", averaged),
        ):
            name = f"{kind.__name__}: log_det {what}"
            faults.append(Fault(name, edit(kind, BOTH, change), kinds, "log_det_forward"))
        for direction in BOTH:
            for what, change in (("flipped", negated), ("dropped", dropped)):
                name = f"{kind.__name__}: log_det {what} in {direction} only"
                faults.append(Fault(name, edit(kind, (direction,), change), kinds, f"log_det_{direction}"))
    return faults


def inverse_faults() -> list[Fault]:
    """Return inverses that give zeros, and inverses that do nothing."""

    def zeros(_: Transform, x: Tensor, log_det: Tensor) -> Pair:
        return torch.zeros_like(x), log_det

    def nothing(_: Method, self: Transform, z: Tensor, context: Tensor | None = None) -> Pair:
        return z, z.new_zeros(z.shape[:-1])

    faults = []
    for kind in CASES:
        kinds = transform_checks(kind)
        for what, plant in (
            ("returns zeros", edit(kind, ("inverse",), zeros)),
            ("does nothing", wrap(kind, ("inverse",), nothing)),
        ):
            faults.append(Fault(f"{kind.__name__}: inverse {what}", plant, kinds, "round_trip"))
    return faults


def without_shift(_: Method, self: AffineCoupling, z: Tensor, context: Tensor | None = None) -> Pair:
    self.check(z, context)
    kept, moved = z[..., : self.kept], z[..., self.kept :]
    scale, _shift = self._scale_and_shift(kept, context)
    return torch.cat([kept, moved * (-scale).exp()], dim=-1), -scale.sum(-1)


def without_scale(_: Method, self: AffineCoupling, z: Tensor, context: Tensor | None = None) -> Pair:
    self.check(z, context)
    kept, moved = z[..., : self.kept], z[..., self.kept :]
    scale, shift = self._scale_and_shift(kept, context)
    return torch.cat([kept, moved - shift], dim=-1), -scale.sum(-1)


def blind(true: Method, self: AffineCoupling, values: Tensor, context: Tensor | None = None) -> Pair:
    return true(self, values, None if context is None else torch.zeros_like(context))


def shift_blind(true: Method, self: AffineCoupling, kept: Tensor, context: Tensor | None) -> Pair:
    return true(self, kept, context)[0], blind(true, self, kept, context)[1]


def leaking(true: Method, self: AffineCoupling, kept: Tensor, context: Tensor | None) -> Pair:
    scale, shift = true(self, kept, context)
    return (scale - scale.mean(0) if scale.dim() > 1 and len(scale) else scale), shift


def coupling_faults() -> list[Fault]:
    kind, kinds, net = AffineCoupling, transform_checks(AffineCoupling), ("_scale_and_shift",)
    planted: list[tuple[str, Plant, str]] = [
        ("inverse forgets the shift", wrap(kind, ("inverse",), without_shift), "round_trip"),
        ("inverse forgets the scale", wrap(kind, ("inverse",), without_scale), "round_trip"),
        ("context ignored", wrap(kind, BOTH, blind), "context_matters"),
        ("context ignored in the inverse", wrap(kind, ("inverse",), blind), "context_matters"),
        ("scale depends on the rest of the batch", wrap(kind, net, leaking), "batching_changes_nothing"),
        (
            "log_det averaged over the batch",
            edit(kind, BOTH, lambda _, v, d: (v, d.mean())),
            "shapes_and_dtypes",
        ),
        (
            "log_det with an axis too many",
            edit(kind, BOTH, lambda _, v, d: (v, d[..., None])),
            "shapes_and_dtypes",
        ),
        ("log_det a float", edit(kind, BOTH, lambda _, v, d: (v, 0.0)), "shapes_and_dtypes"),
        ("log_det in float32", edit(kind, BOTH, lambda _, v, d: (v, d.float())), "shapes_and_dtypes"),
        ("float32 inside", edit(kind, BOTH, lambda _, v, d: (v.float().to(v), d)), "round_trip"),
        (
            "gradient of log_det cut off",
            edit(kind, BOTH, lambda _, v, d: (v, d.detach())),
            "gradients_are_right",
        ),
        ("starts as the identity and stays it", wrap(kind, net, identity), "is_not_degenerate"),
    ]
    faults = [Fault(f"AffineCoupling: {name}", plant, kinds, by) for name, plant, by in planted]
    unbounded = wrap(coupling, ("smooth_bound",), lambda _, values, bound: values)
    exploding = {"inverts_in_single_precision": FLOW_CHECKS["inverts_in_single_precision"]}
    return [
        *faults,
        Fault("AffineCoupling: no bounds", unbounded, exploding, "inverts_in_single_precision"),
        Fault(
            "AffineCoupling: shift ignores the context",
            wrap(kind, net, shift_blind),
            TRAINING_CHECKS,
            "learns_the_conditional_mean",
        ),
    ]


def identity(true: Method, self: AffineCoupling, kept: Tensor, context: Tensor | None) -> Pair:
    scale, shift = true(self, kept, context)
    return 0 * scale, 0 * shift


def in_order(_: Method, self: Compose, z: Tensor, context: Tensor | None = None) -> Pair:
    self.check(z, context)
    log_det = z.new_zeros(z.shape[:-1])
    for transform in self._chain():
        z, step = transform.inverse(z, context if transform.context_features else None)
        log_det = log_det + step
    return z, log_det


def last_log_det(_: Method, self: Compose, x: Tensor, context: Tensor | None = None) -> Pair:
    self.check(x, context)
    step = x.new_zeros(x.shape[:-1])
    for transform in self._chain():
        x, step = transform(x, context if transform.context_features else None)
    return x, step


def own_direction(_: Method, self: Inverse, x: Tensor, context: Tensor | None = None) -> Pair:
    pair: Pair = self.transform(x, context)
    return pair


def tail_lost(self: Leading, values: Tensor, log_det: Tensor) -> Pair:
    head, tail = values[..., : self.transform.features], values[..., self.transform.features :]
    return torch.cat([head, 0 * tail], dim=-1), log_det


def no_width(true: Callable[..., None], self: Transform, values: Tensor, context: Tensor | None) -> None:
    if values.shape[-1:] == (self.features,):
        true(self, values, context)


def no_context(true: Callable[..., None], self: Transform, values: Tensor, context: Tensor | None) -> None:
    if context is not None or not self.context_features:
        true(self, values, context)


def structural_faults() -> list[Fault]:
    """Return chains in the wrong order, directions mixed up, forgotten means and missing checks."""
    planted: list[tuple[type[Transform], str, Plant, str]] = [
        (Compose, "inverse not reversed", wrap(Compose, ("inverse",), in_order), "round_trip"),
        (Compose, "the last log_det alone", wrap(Compose, ("forward",), last_log_det), "log_det_forward"),
        (Inverse, "forward not swapped", wrap(Inverse, ("forward",), own_direction), "inverse_swaps"),
        (Inverse, "neither direction swapped", swapped(Inverse), "inverse_swaps"),
        (Leading, "the other features lost", edit(Leading, BOTH, tail_lost), "round_trip"),
        (
            Permutation,
            "inverse permutes forward",
            wrap(Permutation, ("inverse",), lambda _, self, z, context=None: self.forward(z, context)),
            "round_trip",
        ),
        (
            Whitening,
            "inverse forgets the mean",
            edit(Whitening, ("inverse",), lambda self, x, d: (x - self.mean, d)),
            "round_trip",
        ),
        (
            LowRankWhitening,
            "inverse forgets the mean",
            edit(LowRankWhitening, ("inverse",), lambda self, x, d: (x - self.mean, d)),
            "round_trip",
        ),
        (
            LowRankWhitening,
            "reflection forgotten in the inverse",
            unreflected(LowRankWhitening),
            "round_trip",
        ),
        (AffineCoupling, "widths not checked", wrap(Transform, ("check",), no_width), "errors_are_typed"),
        (
            AffineCoupling,
            "a missing context not noticed",
            wrap(Transform, ("check",), no_context),
            "errors_are_typed",
        ),
    ]
    return [
        Fault(f"{kind.__name__}: {name}", plant, transform_checks(kind), by)
        for kind, name, plant, by in planted
    ]


def swapped(kind: type[Transform]) -> Plant:
    """Return what exchanges forward and inverse of a class."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        forward, inverse = kind.forward, kind.inverse
        patch.setattr(kind, "forward", inverse)
        patch.setattr(kind, "inverse", forward)

    return plant


def unreflected(kind: type[LowRankWhitening]) -> Plant:
    def inverse(true: Method, self: LowRankWhitening, z: Tensor, context: Tensor | None = None) -> Pair:
        x, log_det = true(self, z, context)
        return self._reflect(x - self.mean) + self.mean, log_det

    return wrap(kind, ("inverse",), inverse)


def flow_faults() -> list[Fault]:
    """Return densities without a term, samples that are none, and evidence by the wrong formula."""

    def z_only(_: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        z: Tensor = self.transform(x, context)[0]
        return -0.5 * (z.square().sum(-1) + self.features * math.log(2 * math.pi))

    def one_constant(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        log_prob: Tensor = true(self, x, context) + 0.5 * (self.features - 1) * math.log(2 * math.pi)
        return log_prob

    def no_constant(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        log_prob: Tensor = true(self, x, context) + 0.5 * self.features * math.log(2 * math.pi)
        return log_prob

    def sign(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        log_prob: Tensor = true(self, x, context) - 2 * self.transform(x, context)[1]
        return log_prob

    def evidence_z_only(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Evidence:
        evidence: Evidence = true(self, x, context)
        return evidence._replace(nll=evidence.nll + self.transform(x, context)[1])

    def latent(_: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any) -> Tensor:
        return torch.randn(*shape, self.features, dtype=torch.float64, **given)

    def wrong_way(
        _: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any
    ) -> Tensor:
        x: Tensor = self.transform(latent(_, self, shape, context, **given), context)[0]
        return x

    def no_condition(
        true: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any
    ) -> Any:
        return true(self, shape, None if context is None else torch.zeros_like(context), **given)

    def uncentred(true: Any, self: Flow, *given: Any) -> Evidence:
        evidence: Evidence = true(self, *given)
        return evidence._replace(typicality=evidence.typicality + self.features / 2)

    def nll_twice(true: Any, self: Flow, *given: Any) -> Evidence:
        nll = true(self, *given).nll
        return Evidence(nll, nll)

    # The evidence is not integrated and the densities are not sampled: the suite stays short.
    of_evidence = {name: FLOW_CHECKS[name] for name in ("evidence_is_log_prob", "whitening_is_the_gaussian")}
    of_density = {
        name: check for name, check in FLOW_CHECKS.items() if name.startswith(("integrates", "samples"))
    }
    in_one, in_two = "integrates_in_one_dimension", "integrates_in_two_dimensions"
    planted: list[tuple[str, str, Callable[..., Any], str]] = [
        ("log_prob of z alone", "log_prob", z_only, in_two),
        ("log_prob subtracts log_det", "log_prob", sign, in_two),
        ("log_prob with one constant for all features", "log_prob", one_constant, in_two),
        ("log_prob without a constant", "log_prob", no_constant, in_one),
        ("nll of z alone", "evidence", evidence_z_only, "evidence_is_log_prob"),
        ("typicality not centred", "evidence", uncentred, "evidence_is_log_prob"),
        ("typicality is nll", "evidence", nll_twice, "evidence_is_log_prob"),
        ("samples are latent", "sample", latent, "samples_follow_the_density"),
        ("samples mapped the wrong way", "sample", wrong_way, "samples_follow_the_density"),
        ("samples ignore the context", "sample", no_condition, "samples_follow_the_density"),
    ]
    return [
        Fault(
            f"Flow: {what}",
            wrap(Flow, (name,), faulty),
            of_evidence if name == "evidence" else of_density,
            by,
        )
        for what, name, faulty, by in planted
    ]


def estimation_faults() -> list[Fault]:
    """Return wrong estimates of a shrunk covariance."""

    def bessel(true: Any, vectors: Tensor, **given: Any) -> Any:
        grown = vectors.mean(0) + (vectors - vectors.mean(0)) * (len(vectors) / (len(vectors) - 1)) ** 0.5
        return true(grown, **given)

    def with_noise(noise: Callable[[float], float]) -> Callable[..., Any]:
        return lambda true, vectors, **given: true(
            vectors, **given | {"noise": noise(given.get("noise", 0.0))}
        )

    planted: dict[str, Callable[..., Any]] = {
        "smoothing noise ignored": with_noise(lambda noise: 0.0),
        "noise is taken for a variance": with_noise(lambda noise: noise**0.5),
        "never shrunk": lambda true, vectors, **given: true(vectors, **{"shrinkage": 0.0} | given),
        "given shrinkage ignored": lambda true, vectors, **given: true(
            vectors, **given | {"shrinkage": None}
        ),
        "divided by n - 1": bessel,
    }
    by = "shrinkage_is_ledoit_wolf"
    return [
        Fault(
            f"shrinkage_whitening: {what}",
            wrap(checks, ("shrinkage_whitening",), faulty),
            {by: FLOW_CHECKS[by]},
            by,
        )
        for what, faulty in planted.items()
    ]


def training_faults() -> list[Fault]:
    """Return trainings without noise, seed, context or effect."""

    def replanned(change: Callable[[TrainingPlan], dict[str, Any]]) -> Callable[..., Any]:
        def faulty(true: Any, *given: Any, plan: TrainingPlan, **settings: Any) -> Flow:
            flow: Flow = true(*given, plan=dataclasses.replace(plan, **change(plan)), **settings)
            return flow

        return faulty

    def blurred(change: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda true, *given, noise=0.0, **settings: true(*given, noise=change(noise), **settings)

    def untrained(_: Any, flow: Flow, *given: Any, **settings: Any) -> Flow:
        return flow.eval()

    def moves_buffers(true: Any, flow: Flow, *given: Any, **settings: Any) -> Flow:
        trained: Flow = true(flow, *given, **settings)
        for buffer in trained.buffers():
            if buffer.is_floating_point():
                buffer.add_(1e-6)
        return trained

    def without_context(true: Any, flow: Flow, vectors: Tensor, *context: Tensor, **settings: Any) -> Flow:
        trained: Flow = true(flow, vectors, *[torch.zeros_like(given) for given in context], **settings)
        return trained

    planted: list[tuple[str, Callable[..., Any], str]] = [
        ("smoothing noise ignored", blurred(lambda noise: 0.0), "smoothing_widens"),
        (
            "noise is taken for a variance",
            blurred(lambda noise: torch.as_tensor(noise).sqrt()),
            "smoothing_widens",
        ),
        (
            "one noise for all features",
            blurred(lambda noise: float(torch.as_tensor(noise).mean())),
            "smoothing_widens",
        ),
        ("seed ignored", replanned(lambda plan: {"seed": 0}), "seeds_decide_weights"),
        (
            "seed from torch's own generator",
            replanned(lambda plan: {"seed": int(torch.randint(1 << 30, ()))}),
            "seeds_decide_weights",
        ),
        (
            "context noise ignored",
            replanned(lambda plan: {"context_noise": 0.0}),
            "context_settings_take_effect",
        ),
        (
            "context dropout ignored",
            replanned(lambda plan: {"context_dropout": 0.0}),
            "context_settings_take_effect",
        ),
        ("context not shown", without_context, "learns_the_conditional_mean"),
        ("nothing trained", untrained, "learns_the_conditional_mean"),
        ("buffers trained too", moves_buffers, "training_leaves_buffers"),
    ]
    return [
        Fault(
            f"fit_maximum_likelihood: {what}",
            wrap(checks, ("fit_maximum_likelihood",), faulty),
            TRAINING_CHECKS,
            by,
        )
        for what, faulty, by in planted
    ]


FAULTS: tuple[Fault, ...] = (
    *log_det_faults(),
    *inverse_faults(),
    *coupling_faults(),
    *structural_faults(),
    *flow_faults(),
    *estimation_faults(),
    *training_faults(),
)
