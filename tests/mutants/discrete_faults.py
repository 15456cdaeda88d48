"""Faults of couplings, autoregressive layers, splines, and planar and radial layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from flows.checks import FLOW_CHECKS, TRAINING_CHECKS
from torch import Tensor

from differnet.flows import (
    AdditiveCoupling,
    AffineAutoregressive,
    AffineCoupling,
    AffineMap,
    Planar,
    Radial,
    Scaling,
    SplineAutoregressive,
    SplineCoupling,
    Transform,
    maps,
    planar_radial,
)
from differnet.flows.networks import Conditioner, MaskedConditioner
from mutants.faults import BOTH, Fault, Method, Pair, Plant, edit, transform_checks, wrap


def without_shift(_: Method, self: AffineMap, values: Tensor, said: Tensor) -> Pair:
    scale, _shift = self.scale_and_shift(said)
    return values * (-scale).exp(), -scale


def without_scale(_: Method, self: AffineMap, values: Tensor, said: Tensor) -> Pair:
    scale, shift = self.scale_and_shift(said)
    return values - shift, -scale


def blind(
    true: Callable[..., Any], self: Any, values: Tensor, context: Tensor | None = None, *more: Any
) -> Any:
    return true(self, values, None if context is None else torch.zeros_like(context), *more)


def shift_blind(
    true: Callable[..., Tensor], self: Conditioner, kept: Tensor, context: Tensor | None
) -> Tensor:
    seeing, ignorant = true(self, kept, context), blind(true, self, kept, context)
    return torch.stack([seeing[..., ::2], ignorant[..., 1::2]], dim=-1).flatten(-2)


def leaking(true: Callable[..., Tensor], self: Conditioner, kept: Tensor, context: Tensor | None) -> Tensor:
    said = true(self, kept, context)
    return said - said.mean(0) if said.dim() > 1 and len(said) else said


def coupling_faults() -> list[Fault]:
    kind, kinds = AffineCoupling, transform_checks(AffineCoupling)
    planted: list[tuple[str, Plant, str]] = [
        ("inverse forgets the shift", wrap(AffineMap, ("inverse",), without_shift), "round_trip"),
        ("inverse forgets the scale", wrap(AffineMap, ("inverse",), without_scale), "round_trip"),
        ("context ignored", wrap(Conditioner, ("forward",), blind), "context_matters"),
        ("context ignored in the inverse", wrap(kind, ("inverse",), blind), "context_matters"),
        (
            "scale depends on the rest of the batch",
            wrap(Conditioner, ("forward",), leaking),
            "batching_changes_nothing",
        ),
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
        (
            "starts as the identity and stays it",
            wrap(Conditioner, ("forward",), lambda true, self, *given: 0 * true(self, *given)),
            "is_not_degenerate",
        ),
    ]
    faults = [Fault(f"AffineCoupling: {name}", plant, kinds, by) for name, plant, by in planted]
    unbounded = wrap(maps, ("smooth_bound",), lambda _, values, bound: values)
    exploding = {"inverts_in_single_precision": FLOW_CHECKS["inverts_in_single_precision"]}
    return [
        *faults,
        Fault("AffineCoupling: no bounds", unbounded, exploding, "inverts_in_single_precision"),
        Fault(
            "AffineCoupling: shift ignores the context",
            wrap(Conditioner, ("forward",), shift_blind),
            {"learns_the_conditional_mean": TRAINING_CHECKS["learns_the_conditional_mean"]},
            "learns_the_conditional_mean",
        ),
    ]


def family_faults() -> list[Fault]:
    """Return what goes wrong in one family only."""

    def unmasked(kind: type[Transform], mask: str) -> tuple[type[Transform], str, Plant, str]:
        """Let a feature see itself and those after it."""

        def plant(patch: pytest.MonkeyPatch) -> None:
            true = MaskedConditioner.__init__

            def faulty(self: MaskedConditioner, *given: Any, **settings: Any) -> None:
                true(self, *given, **settings)
                getattr(self, mask).fill_(1)

            patch.setattr(MaskedConditioner, "__init__", faulty)

        return kind, f"{mask} open", plant, "log_det_forward"

    def late(true: Any, self: MaskedConditioner, z: Tensor, context: Tensor | None, solve: Any) -> Pair:
        x, logarithms = true(self, z, context, solve)
        again, _ = true(self, x, context, solve)
        return torch.cat([x[..., :-1], again[..., -1:]], dim=-1), logarithms

    def frozen(true: Any, self: MaskedConditioner, z: Tensor, context: Tensor | None, solve: Any) -> Pair:
        pair: Pair = true(self, z, blind_context(context), solve)
        return pair

    def blind_context(context: Tensor | None) -> Tensor | None:
        return None if context is None else torch.zeros_like(context)

    def outside(true: Any, values: Tensor, said: Tensor, **settings: Any) -> Pair:
        mapped, log_slope = true(values, said, **settings)
        return mapped, torch.where(values.abs() < 0.3, torch.zeros_like(log_slope), log_slope)

    def other_root(true: Any, self: Radial, z: Tensor, context: Tensor | None = None) -> Pair:
        x, log_det = true(self, z, context)
        return 2 * self._described(context)[0] - x, log_det

    def unsolved(true: Any, y: Tensor, c: Tensor) -> Tensor:
        return y - c * torch.tanh(y)

    def untaught(true: Any, y: Tensor, c: Tensor) -> Tensor:
        root: Tensor = true(y, c)
        return root.detach()

    def plain_trace(true: Any, self: Radial, q: Tensor, fading: Tensor) -> Tensor:
        return self.features * torch.log1p(q * fading).squeeze(-1)

    def backwards(true: Any, values: Tensor, said: Tensor, *, inverse: bool = False, **settings: Any) -> Pair:
        mapped, log_slope = true(values, said, inverse=inverse, **settings)
        return mapped, -log_slope if inverse else log_slope

    planted: list[tuple[type[Transform], str, Plant, str]] = [
        unmasked(AffineAutoregressive, "enter_mask"),
        unmasked(AffineAutoregressive, "leave_mask"),
        unmasked(SplineAutoregressive, "middle_mask"),
        (
            AffineAutoregressive,
            "the inverse unrolls the last feature twice",
            wrap(MaskedConditioner, ("unroll",), late),
            "round_trip",
        ),
        (
            AffineAutoregressive,
            "the inverse ignores the context",
            wrap(MaskedConditioner, ("unroll",), frozen),
            "context_matters",
        ),
        (
            SplineCoupling,
            "log-slope of the inverse has the sign of the other direction",
            wrap(maps, ("rational_quadratic",), backwards),
            "log_det_inverse",
        ),
        (
            SplineCoupling,
            "no log-slope near zero",
            wrap(maps, ("rational_quadratic",), outside),
            "log_det_forward",
        ),
        (
            Radial,
            "inverse takes the point opposite",
            wrap(Radial, ("inverse",), other_root),
            "round_trip",
        ),
        (
            Radial,
            "one stretch for all directions",
            wrap(Radial, ("_log_det",), plain_trace),
            "log_det_forward",
        ),
        (Planar, "the root is only begun", wrap(planar_radial, ("solve_planar",), unsolved), "round_trip"),
        (
            Planar,
            "the root has no gradient",
            wrap(planar_radial, ("solve_planar",), untaught),
            "gradients_are_right",
        ),
        (
            AdditiveCoupling,
            "a log_det where volumes are kept",
            edit(AdditiveCoupling, BOTH, lambda _, v, d: (v, d + v.sum(-1))),
            "log_det_forward",
        ),
        (
            Scaling,
            "the inverse scales the same way",
            wrap(Scaling, ("inverse",), lambda _, self, z, context=None: self.forward(z, context)),
            "round_trip",
        ),
    ]
    return [
        Fault(f"{kind.__name__}: {name}", plant, transform_checks(kind), by)
        for kind, name, plant, by in planted
    ]


DISCRETE_FAULTS: tuple[Fault, ...] = (*coupling_faults(), *family_faults())
