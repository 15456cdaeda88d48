"""One registry, name -> constructor, from which every transform gets every property test."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from differnet.flows import (
    AffineCoupling,
    Compose,
    ElementwiseAffine,
    Inverse,
    Leading,
    LowRankWhitening,
    Permutation,
    Transform,
    Whitening,
    real_nvp,
)

BATCHES: tuple[tuple[int, ...], ...] = ((), (7,), (4, 7), (0,))

Maker = Callable[[torch.Generator], Transform]


@dataclass(frozen=True)
class Case:
    """A transform in one setting.

    Attributes:
        name: Unique; also seeds the weights.
        kind: The class under test.
        make: Builds it, drawing its fixed numbers from a generator.
        moves: Whether z differs from x.
        log_det_varies: Whether log_det depends on x (on the context it depends wherever there is one).
    """

    name: str
    kind: type[Transform]
    make: Maker
    moves: bool = True
    log_det_varies: bool = False

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Transform:
        """Return the transform with random weights: one seed, the same weights in both dtypes."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + seed)
        with torch.random.fork_rng(devices=[]):
            transform = self.make(generator).double()
        # Twice the usual weights reach well into the bounds of scale and shift.
        randomise(transform, generator, gain=2.0)
        return transform.to(dtype)

    def inputs(
        self, batch: tuple[int, ...] = (7,), dtype: torch.dtype = torch.float64, seed: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """Return ``x`` and a context (``None`` where there is none), both of the batch's shape."""
        features, context_features = self._widths
        generator = torch.Generator().manual_seed(seed)
        x = normal(generator, *batch, features)
        context = normal(generator, *batch, context_features)
        return x.to(dtype), context.to(dtype) if context_features else None

    @cached_property
    def _widths(self) -> tuple[int, int]:
        transform = self.build()
        return transform.features, transform.context_features


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Return standard normal numbers in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def randomise(module: nn.Module, generator: torch.Generator, gain: float) -> None:
    """Give every linear layer, a coupling's last included, torch's usual uniform weights times ``gain``."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = gain / layer.in_features**0.5
            for parameter in (layer.weight, layer.bias):
                uniform = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                with torch.no_grad():
                    parameter.copy_((2 * uniform - 1) * bound)


def covariance(generator: torch.Generator, features: int) -> Tensor:
    """Return a random covariance with eigenvalues of 0.1 and more."""
    factor = normal(generator, features, features)
    return factor @ factor.T / 2 + 0.1 * torch.eye(features, dtype=torch.float64)


def orthonormal(generator: torch.Generator, features: int, rank: int) -> Tensor:
    """Return ``(features, rank)`` orthonormal columns."""
    columns: Tensor = torch.linalg.qr(normal(generator, features, features)).Q
    return columns[:, :rank]


def coupling(features: int, context_features: int = 0) -> Maker:
    return lambda _: AffineCoupling(features, context_features, hidden=12)


def elementwise(features: int) -> Maker:
    return lambda g: ElementwiseAffine(normal(g, features), normal(g, features).exp())


def whitening(features: int) -> Maker:
    return lambda g: Whitening(normal(g, features), covariance(g, features))


def whitening_from_axes(g: torch.Generator) -> Transform:
    return Whitening.from_axes(normal(g, 4), orthonormal(g, 4, 4), normal(g, 4).exp())


def low_rank(features: int, rank: int) -> Maker:
    return lambda g: LowRankWhitening(
        normal(g, features), orthonormal(g, features, rank), 1 + normal(g, rank).exp(), 0.3
    )


def low_rank_swapped(g: torch.Generator) -> Transform:
    """Axes that exchange two coordinates: a reflection built on ``U - E`` alone is singular here."""
    return LowRankWhitening(
        normal(g, 4), torch.eye(4, dtype=torch.float64)[:, [1, 0]], torch.tensor([3.0, 2.0]), 0.5
    )


def chain(features: int, context_features: int = 0) -> Maker:
    return lambda g: Compose(
        [
            whitening(features)(g),
            Permutation.random(features, g),
            coupling(features, context_features)(g),
            elementwise(features)(g),
            Permutation.reverse(features),
            coupling(features, context_features)(g),
        ]
    )


def preset(features: int, context_features: int = 0) -> Maker:
    return lambda _: real_nvp(features, context_features, couplings=3, hidden=10, seed=3).transform


def nested(g: torch.Generator) -> Transform:
    return Compose(
        [elementwise(5)(g), Compose([coupling(5, 2)(g), Permutation.reverse(5)]), low_rank(5, 2)(g)]
    )


CASES: tuple[Case, ...] = (
    Case("coupling_one_feature", AffineCoupling, coupling(1)),
    Case("coupling_one_feature_context", AffineCoupling, coupling(1, 3)),
    Case("coupling_two", AffineCoupling, coupling(2), log_det_varies=True),
    Case("coupling_odd", AffineCoupling, coupling(5), log_det_varies=True),
    Case("coupling_context", AffineCoupling, coupling(6, 2), log_det_varies=True),
    Case("coupling_wide_context", AffineCoupling, coupling(3, 40), log_det_varies=True),
    Case("elementwise_one", ElementwiseAffine, elementwise(1)),
    Case("elementwise_odd", ElementwiseAffine, elementwise(5)),
    Case("leading", Leading, lambda g: Leading(coupling(3)(g), 5), log_det_varies=True),
    Case("leading_context", Leading, lambda g: Leading(coupling(2, 3)(g), 5), log_det_varies=True),
    Case("leading_all", Leading, lambda g: Leading(coupling(3)(g), 3), log_det_varies=True),
    Case("leading_one", Leading, lambda g: Leading(elementwise(1)(g), 2)),
    Case("permutation_one", Permutation, lambda _: Permutation.reverse(1), moves=False),
    Case("permutation_reverse", Permutation, lambda _: Permutation.reverse(5)),
    Case("permutation_cycle", Permutation, lambda _: Permutation(torch.tensor([2, 0, 3, 1]))),
    Case("whitening_one", Whitening, whitening(1)),
    Case("whitening_odd", Whitening, whitening(5)),
    Case("whitening_from_axes", Whitening, whitening_from_axes),
    Case("low_rank_one_feature", LowRankWhitening, low_rank(1, 0)),
    Case("low_rank_none", LowRankWhitening, low_rank(3, 0)),
    Case("low_rank_two_of_five", LowRankWhitening, low_rank(5, 2)),
    Case("low_rank_all_but_one", LowRankWhitening, low_rank(5, 4)),
    Case("low_rank_swapped", LowRankWhitening, low_rank_swapped),
    Case("compose", Compose, chain(5), log_det_varies=True),
    Case("compose_one_feature", Compose, chain(1)),
    Case("compose_context", Compose, chain(4, 2), log_det_varies=True),
    Case("compose_nested", Compose, nested, log_det_varies=True),
    Case("inverse_coupling", Inverse, lambda g: Inverse(coupling(4)(g)), log_det_varies=True),
    Case("inverse_compose_context", Inverse, lambda g: Inverse(chain(3, 2)(g)), log_det_varies=True),
    Case("inverse_whitening", Inverse, lambda g: Inverse(whitening(3)(g))),
    Case("real_nvp", Compose, preset(3), log_det_varies=True),
    Case("real_nvp_context", Compose, preset(4, 3), log_det_varies=True),
)
BY_NAME = {case.name: case for case in CASES}
