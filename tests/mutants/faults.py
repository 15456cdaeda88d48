"""The machinery of planted faults, and those that any transform can have.

A fault replaces a method or function through pytest's monkeypatch, so that everything which uses
the class, compositions included, has the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from flows.cases import BY_NAME
from flows.checks import TRANSFORM_CHECKS
from torch import Tensor

from differnet.flows import (
    ActNorm,
    AdditiveCoupling,
    AffineAutoregressive,
    AffineCoupling,
    Autoregressive,
    Compose,
    ContinuousTransform,
    ConvolutionalCoupling,
    Coupling,
    ElementwiseAffine,
    Inverse,
    InvertibleLinear,
    Leading,
    Logit,
    LowRankWhitening,
    Permutation,
    Planar,
    Radial,
    Scaling,
    SplineAutoregressive,
    SplineCoupling,
    Transform,
    Whitening,
)

Pair = tuple[Tensor, Tensor]
Method = Callable[..., Pair]
Plant = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[], None]

BOTH = ("forward", "inverse")

# Few cases keep the suite short: odd widths, and a context where the class may have one.
CASES: dict[type[Transform], tuple[str, ...]] = {
    Coupling: ("coupling_of_a_map",),
    AffineCoupling: ("coupling_odd", "coupling_context", "coupling_one_feature_context"),
    ElementwiseAffine: ("elementwise_odd", "elementwise_one"),
    Leading: ("leading", "leading_context"),
    Permutation: ("permutation_cycle", "compose"),
    Whitening: ("whitening_odd", "whitening_one"),
    LowRankWhitening: ("low_rank_two_of_five", "low_rank_all_but_one"),
    AdditiveCoupling: ("additive_coupling_odd", "additive_coupling_context"),
    SplineCoupling: ("spline_coupling_odd", "spline_coupling_context"),
    Autoregressive: ("autoregressive_of_a_map",),
    AffineAutoregressive: ("affine_autoregressive_odd", "affine_autoregressive_context"),
    SplineAutoregressive: ("spline_autoregressive_odd", "spline_autoregressive_context"),
    Scaling: ("scaling_odd", "scaling_context"),
    Planar: ("planar_odd", "planar_context"),
    Radial: ("radial_odd", "radial_context", "radial_opens_odd"),
    ActNorm: ("actnorm_odd", "actnorm_pictures"),
    InvertibleLinear: ("mixing_odd", "mixing_pictures"),
    ConvolutionalCoupling: ("convolution_odd", "convolution_context"),
    Logit: ("logit_odd",),
    ContinuousTransform: ("continuous_context",),
    Compose: ("compose", "compose_context"),
    Inverse: ("inverse_coupling", "inverse_compose_context", "coupling_odd"),
}

# Their log_det is zero, and half of it too.
KEEP_VOLUMES = (Permutation, AdditiveCoupling)

# A solver makes every call a hundred times as dear: where there is one, these checks alone are run.
OF_A_SOLVER = (
    "round_trip",
    "log_det_forward",
    "log_det_inverse",
    "log_dets_cancel",
    "context_matters",
    "is_not_degenerate",
)


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
    """Return the property checks of a class, run over the cases chosen for it."""

    def over_cases(name: str) -> Check:
        def run() -> None:
            for case in CASES[kind]:
                TRANSFORM_CHECKS[name](BY_NAME[case])

        return run

    names = OF_A_SOLVER if kind is ContinuousTransform else tuple(TRANSFORM_CHECKS)
    return {name: over_cases(name) for name in names}


def on_case(check: str, case: str) -> dict[str, Check]:
    """Return one property check of one case."""
    return {check: lambda: TRANSFORM_CHECKS[check](BY_NAME[case])}


def replace(owner: object, name: str, faulty: object) -> Plant:
    """Return what puts ``faulty`` in the place of the named attribute."""
    return lambda patch: patch.setattr(owner, name, faulty)


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
        if kind in KEEP_VOLUMES:
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


GENERAL_FAULTS: tuple[Fault, ...] = (*log_det_faults(), *inverse_faults(), *structural_faults())
