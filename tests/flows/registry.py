"""One registry, name -> constructor, from which every transform gets every property test."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from differnet.flows import (
    AdditiveCoupling,
    AffineAutoregressive,
    AffineCoupling,
    Autoregressive,
    Compose,
    Coupling,
    ElementwiseAffine,
    Flow,
    Inverse,
    Leading,
    LowRankWhitening,
    Permutation,
    Planar,
    Radial,
    Scaling,
    SplineAutoregressive,
    SplineCoupling,
    SplineMap,
    Transform,
    Whitening,
    iaf,
    maf,
    nice,
    planar,
    radial,
    real_nvp,
    spline_autoregressive,
    spline_coupling,
)

BATCHES: tuple[tuple[int, ...], ...] = ((), (7,), (4, 7), (0,))

# The slopes of splines and planar layers go down to 1/20 within one layer: 1e-3, as promised, is asked.
STEEP = 1e-3

Maker = Callable[[torch.Generator], Transform]


@dataclass(frozen=True)
class Case:
    """A transform in one setting.

    Attributes:
        name: Unique; also seeds the weights.
        kind: The class under test.
        make: Builds it, drawing its fixed numbers from a generator.
        moves: Whether z differs from x.
        log_det_varies: Whether log_det depends on x.
        log_det_conditional: Whether log_det depends on the context, where there is one.
        tolerance: Of comparisons in float64. 64 bits leave 1e-16 a step; 1e-9 allows for conditioning
            and stays far below the promised 1e-6. Only what is integrated by a solver needs more.
        single: Of round trips in float32, which leaves 6e-8 a step; the transforms amplify that by up
            to a few hundred.
        gain: Of the random weights, see `randomise`. 2 reaches well into the bounds of scale and shift.
    """

    name: str
    kind: type[Transform]
    make: Maker
    moves: bool = True
    log_det_varies: bool = False
    log_det_conditional: bool = True
    tolerance: float = 1e-9
    single: float = 1e-4
    gain: float = 2.0

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Transform:
        """Return the transform with random weights: one seed, the same weights in both dtypes."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + seed)
        with torch.random.fork_rng(devices=[]):
            transform = self.make(generator).double()
        randomise(transform, generator, self.gain)
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
    """Move a transform far from the identity that it starts as.

    Every linear layer and convolution, a network's last included, gets torch's usual uniform weights times
    ``gain``; parameters that stand alone are moved by ``0.4 gain`` standard normals, matrices by as much less
    as makes their rows that long.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    within = {id(p) for layer in layers for p in layer.parameters()}
    with torch.no_grad():
        for layer in layers:
            bound = gain / layer.weight[0].numel() ** 0.5
            for parameter in layer.parameters():
                uniform = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_((2 * uniform - 1) * bound)
        for parameter in module.parameters():
            if id(parameter) not in within:
                width = parameter.shape[-1] if parameter.dim() > 1 else 1
                parameter.add_(0.4 * gain / width**0.5 * normal(generator, *parameter.shape))


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


def preset(family: Callable[..., Flow], features: int, context_features: int = 0, **sizes: int) -> Maker:
    return lambda _: family(features, context_features, **sizes, seed=3).transform


def layer(kind: Callable[..., Transform], features: int, context_features: int = 0, **sizes: int) -> Maker:
    return lambda _: kind(features, context_features, **sizes)


def nested(g: torch.Generator) -> Transform:
    return Compose(
        [elementwise(5)(g), Compose([coupling(5, 2)(g), Permutation.reverse(5)]), low_rank(5, 2)(g)]
    )


def spline_by_hand(_: torch.Generator) -> Transform:
    return Coupling(3, SplineMap(bins=2), hidden=8)


def masked_spline_by_hand(_: torch.Generator) -> Transform:
    return Autoregressive(3, SplineMap(bins=3), 1, hidden=8)


def layers(
    name: str,
    kind: type[Transform],
    *,
    keeps_volumes: bool = False,
    bends_alone: bool = False,
    single: float = 1e-4,
    gain: float = 2.0,
    **sizes: int,
) -> list[Case]:
    """Return a layer in its awkward settings: one feature, odd and even ones, no context and a wide one.

    Args:
        name: Of the family.
        kind: The layer's class.
        keeps_volumes: log_det is zero.
        bends_alone: log_det depends on x already with one feature.
        single: See `Case`.
        gain: See `Case`.
        sizes: Other arguments.
    """
    settings = {
        "one_feature": (1, 0),
        "one_feature_context": (1, 3),
        "two": (2, 0),
        "odd": (5, 0),
        "context": (6, 2),
        "wide_context": (3, 40),
    }
    return [
        Case(
            f"{name}_{setting}",
            kind,
            layer(kind, features, context_features, **sizes),
            log_det_varies=bends_alone or (features > 1 and not keeps_volumes),
            log_det_conditional=not keeps_volumes,
            single=single,
            gain=gain,
        )
        for setting, (features, context_features) in settings.items()
    ]


def presets(
    family: Callable[..., Flow], *, keeps_volumes: bool = False, single: float = 1e-4, **sizes: int
) -> list[Case]:
    """Return a preset's transform without and with a context."""
    return [
        Case(
            f"{family.__name__}_preset{'_context' if context_features else ''}",
            Compose,
            preset(family, features, context_features, **sizes),
            log_det_varies=not keeps_volumes,
            single=single,
        )
        for features, context_features in ((3, 0), (4, 3))
    ]


DISCRETE_CASES: tuple[Case, ...] = (
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
    Case("coupling_of_a_map", Coupling, spline_by_hand, log_det_varies=True),
    Case("autoregressive_of_a_map", Autoregressive, masked_spline_by_hand, log_det_varies=True),
    Case(
        "autoregressive_few_units",
        AffineAutoregressive,
        layer(AffineAutoregressive, 5, 2, hidden=3),
        True,
        True,
    ),
    Case("scaling_one", Scaling, layer(Scaling, 1)),
    Case("scaling_odd", Scaling, layer(Scaling, 5)),
    Case("scaling_context", Scaling, layer(Scaling, 4, 3)),
    *layers("additive_coupling", AdditiveCoupling, keeps_volumes=True, hidden=12),
    *layers("affine_autoregressive", AffineAutoregressive, hidden=12),
    *layers("spline_coupling", SplineCoupling, bends_alone=True, single=STEEP, hidden=12, bins=4),
    *layers("spline_autoregressive", SplineAutoregressive, bends_alone=True, single=STEEP, hidden=12, bins=4),
    *layers("planar", Planar, bends_alone=True, single=STEEP, gain=4.0),
    *layers("radial", Radial, bends_alone=True),
    *layers("radial_opens", Radial, bends_alone=True, gain=3.0, opens=True),
    *presets(nice, keeps_volumes=True, couplings=3, hidden=10),
    *presets(real_nvp, couplings=3, hidden=10),
    *presets(maf, layers=3, hidden=10),
    *presets(iaf, layers=3, hidden=10),
    *presets(spline_coupling, single=STEEP, couplings=3, hidden=10),
    *presets(spline_autoregressive, single=STEEP, layers=2, hidden=10),
    *presets(planar, layers=4),
    *presets(radial, layers=4),
    Case(
        "planar_fast_sampling",
        Compose,
        preset(planar, 3, 2, layers=3, fast_sampling=True),
        log_det_varies=True,
    ),
    Case(
        "radial_fast_sampling",
        Compose,
        preset(radial, 3, 2, layers=3, fast_sampling=True),
        log_det_varies=True,
    ),
)
