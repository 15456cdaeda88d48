"""Faults of the presets: layers that are right, put together wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from flows.preset_checks import PRESET_CHECKS

from differnet.flows import Inverse, Permutation, Transform, presets
from mutants.faults import Fault, Plant, replace, wrap


def _unmoved(true: Any, layer: int, features: int, generator: torch.Generator) -> list[Transform]:
    return []


def _never_drawn(true: Any, layer: int, features: int, generator: torch.Generator) -> list[Transform]:
    moved: list[Transform] = true(1, features, generator)
    return moved if layer else []


def _first_last(
    true: Any, features: int, layer: Any, layers: int, first: Any, seed: int, last: Any = None
) -> Any:
    return true(features, layer, layers, None, seed, first if last is None else last)


def _without_last(true: Any, *given: Any, last: Any = None) -> Any:
    return true(*given)


def _deeper(true: Any, features: int, layer: Any, layers: int, *given: Any, **more: Any) -> Any:
    return true(features, layer, layers + 1, *given, **more)


class _Unswapped:
    """Stands where `Inverse` is called, and swaps nothing."""

    def __new__(cls, transform: Transform) -> Any:
        return transform


def _without(name: str) -> Callable[..., Any]:
    def build(true: Any, *given: Any, **settings: Any) -> Any:
        return true(*given, **{key: value for key, value in settings.items() if key != name})

    return build


PLANTED: tuple[tuple[str, Plant, str], ...] = (
    (
        "couplings always move the same half",
        wrap(presets, ("shuffle",), _unmoved),
        "every_feature_depends_on_every_other",
    ),
    (
        "features are never drawn anew",
        wrap(presets, ("shuffle",), _never_drawn),
        "couplings_pass_through_other_halves",
    ),
    (
        "the order is never reversed",
        wrap(Permutation, ("reverse",), lambda true, features: Permutation(torch.arange(features))),
        "every_feature_depends_on_every_other",
    ),
    ("first comes last", wrap(presets, ("stack",), _first_last), "first_is_first"),
    ("NICE without its scaling", wrap(presets, ("stack",), _without_last), "first_is_first"),
    ("one layer too many", wrap(presets, ("stack",), _deeper), "arguments_arrive"),
    (
        "scale_bound ignored",
        wrap(presets, ("AffineAutoregressive",), _without("scale_bound")),
        "arguments_arrive",
    ),
    ("hidden ignored", wrap(presets, ("AdditiveCoupling",), _without("hidden")), "arguments_arrive"),
    ("bins ignored", wrap(presets, ("SplineCoupling",), _without("bins")), "arguments_arrive"),
    ("edge ignored", wrap(presets, ("SplineAutoregressive",), _without("edge")), "arguments_arrive"),
    ("IAF is a MAF", replace(presets, "Inverse", _Unswapped), "iaf_is_the_inverse_of_maf"),
    (
        "MAF is an IAF",
        wrap(presets, ("AffineAutoregressive",), lambda true, *g, **s: Inverse(true(*g, **s))),
        "iaf_is_the_inverse_of_maf",
    ),
)

PRESET_FAULTS: tuple[Fault, ...] = tuple(
    Fault(f"presets: {name}", plant, {by: PRESET_CHECKS[by]}, by) for name, plant, by in PLANTED
)
