"""Faults of Glow's layers, of flows of pictures, and of grey levels and bits."""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from flows.image_checks import IMAGE_CHECKS
from torch import Tensor

from differnet.flows import (
    ActNorm,
    Compose,
    ConvolutionalCoupling,
    Flow,
    InvertibleLinear,
    Leading,
    Logit,
    Permutation,
    Transform,
    dequantisation,
    multiscale,
)
from mutants.faults import BOTH, Fault, Method, Pair, Plant, edit, replace, transform_checks, wrap

# `differnet.flows.glow_layers` is the preset, which hides the module of its name.
GLOW_MODULE = importlib.import_module(ActNorm.__module__)

Shape = tuple[int, int, int]


def nothing(*_given: Any, **_settings: Any) -> None:
    """Stand in for a start that does not take place."""


def start_faults() -> list[Fault]:
    """Return starts that miss a moment, come too often, or never reach the layer."""

    def without_variance(true: Any, self: ActNorm, x: Tensor, context: Tensor | None = None) -> None:
        true(self, x, context)
        with torch.no_grad():
            self.log_scale.zero_()

    def without_mean(true: Any, self: ActNorm, x: Tensor, context: Tensor | None = None) -> None:
        true(self, x, context)
        with torch.no_grad():
            self.shift.zero_()

    def again(true: Any, self: ActNorm, x: Tensor, context: Tensor | None = None) -> None:
        self.started.fill_(False)
        true(self, x, context)

    def on_any_call(true: Method, self: ActNorm, x: Tensor, context: Tensor | None = None) -> Pair:
        if len(x) and x.dim() > 1:
            self.start_from(x, context)
        return true(self, x, context)

    def each_alone(_: Any, self: ActNorm, x: Tensor, context: Tensor | None = None) -> None:
        """Take moments of single positions, of which the last one's stay."""
        last = x.detach().reshape(-1, self.channels, self.positions)[..., -1]
        with torch.no_grad():
            self.shift.copy_(-last.mean(0))
            self.log_scale.copy_(-last.std(0, correction=0).log())
            self.started.fill_(True)

    def bessel(true: Any, self: ActNorm, x: Tensor, context: Tensor | None = None) -> None:
        true(self, x, context)
        count = x.numel() / self.channels
        with torch.no_grad():
            self.log_scale.sub_(0.5 * math.log(count / (count - 1)))

    def from_data_alone(_: Any, self: Compose, x: Tensor, context: Tensor | None = None) -> None:
        for transform in self._chain():
            transform.start_from(x, context if transform.context_features else None)

    start = ("start_from",)
    moments, deep = "actnorm_starts_with_zero_mean_and_unit_variance", "every_actnorm_starts_however_deep"
    once = "actnorm_starts_once_and_from_nothing_else"
    planted: list[tuple[str, Plant, str]] = [
        ("ActNorm: the start ignores the variance", wrap(ActNorm, start, without_variance), moments),
        ("ActNorm: the start ignores the mean", wrap(ActNorm, start, without_mean), moments),
        ("ActNorm: the start looks at the last position", wrap(ActNorm, start, each_alone), moments),
        ("ActNorm: the start divides by n - 1", wrap(ActNorm, start, bessel), moments),
        ("ActNorm: starts again", wrap(ActNorm, start, again), once),
        ("ActNorm: starts from any batch", wrap(ActNorm, ("forward",), on_any_call), once),
        (
            "ActNorm: nothing limits the scale",
            replace(GLOW_MODULE, "_LEAST_DEVIATION", 1e-12),
            "actnorm_does_not_blow_up_a_constant_channel",
        ),
        ("Leading: start not passed on", replace(Leading, "start_from", nothing), deep),
        ("Compose: start not passed on", replace(Compose, "start_from", nothing), deep),
        ("Compose: all start from the data", wrap(Compose, start, from_data_alone), deep),
        ("Flow: start not passed on", replace(Flow, "start_from", nothing), "training_starts_the_flow"),
    ]
    return [Fault(name, plant, {by: IMAGE_CHECKS[by]}, by) for name, plant, by in planted]


def layer_faults() -> list[Fault]:
    """Return log-determinants without positions, matrices mixed up, and networks that do not see."""

    def one_position(self: Any, values: Tensor, log_det: Tensor) -> Pair:
        return values, log_det / self.positions

    def unsigned(true: Any, self: InvertibleLinear) -> Pair:
        lower, upper = true(self)
        return lower, upper.triu(1) + torch.diag(upper.diagonal().abs())

    def unordered(_: Any, self: InvertibleLinear) -> Tensor:
        lower, upper = self._triangles()
        return lower @ upper

    def transposed(_: Any, self: InvertibleLinear) -> Tensor:
        return self.weight().T

    def scale_without_log(_: Any, self: InvertibleLinear) -> Tensor:
        return self.positions * self.factors.diagonal().exp().sum()

    def unscaled(_: Method, self: ActNorm, z: Tensor, context: Tensor | None = None) -> Pair:
        """Subtract the shift before the scale is undone."""
        channels = z.reshape(*z.shape[:-1], self.channels, self.positions)
        x = (channels - self.shift[:, None]) * (-self.log_scale).exp()[:, None]
        return x.flatten(-2), -self._log_det().expand(z.shape[:-1])

    def context_unseen(_: Any, self: ConvolutionalCoupling, context: Any, batch: Any) -> Any:
        return 0.0, 0.0

    def sees_what_moves(
        true: Method, self: ConvolutionalCoupling, x: Tensor, context: Tensor | None = None
    ) -> Pair:
        z, log_det = true(self, x.roll(self.features // 2, -1), context)
        return z.roll(-(self.features // 2), -1), log_det

    def without_alpha(self: Logit, values: Tensor, log_det: Tensor) -> Pair:
        return values, log_det - self.features * math.log(1 - 2 * self.alpha)

    def clipped(true: Method, self: Logit, x: Tensor, context: Tensor | None = None) -> Pair:
        return true(self, x.clamp(0, 1), context)

    def tangent_forgotten(true: Method, self: Logit, x: Tensor, context: Tensor | None = None) -> Pair:
        """Give the log-determinant beyond the ends as if the curve went on."""
        z, log_det = true(self, x, context)
        beyond = (x - x.clamp(0, 1)).abs().sum(-1)
        return z, log_det + beyond

    forward, inverse = ("forward",), ("inverse",)
    planted: list[tuple[type[Transform], str, Plant, str]] = [
        (ActNorm, "log_det without positions", edit(ActNorm, BOTH, one_position), "log_det_forward"),
        (ActNorm, "inverse in forward's order", wrap(ActNorm, inverse, unscaled), "round_trip"),
        (
            InvertibleLinear,
            "log_det without positions",
            edit(InvertibleLinear, BOTH, one_position),
            "log_det_forward",
        ),
        (
            InvertibleLinear,
            "log_det of s instead of log s",
            wrap(InvertibleLinear, ("_log_det",), scale_without_log),
            "log_det_forward",
        ),
        (
            InvertibleLinear,
            "permutation forgotten forward",
            wrap(InvertibleLinear, ("weight",), unordered),
            "round_trip",
        ),
        (
            InvertibleLinear,
            "inverse transposed",
            wrap(InvertibleLinear, ("inverse_weight",), transposed),
            "round_trip",
        ),
        (
            ConvolutionalCoupling,
            "context ignored",
            wrap(ConvolutionalCoupling, ("_offsets",), context_unseen),
            "context_matters",
        ),
        (
            ConvolutionalCoupling,
            "the other half moves forward",
            wrap(ConvolutionalCoupling, forward, sees_what_moves),
            "round_trip",
        ),
        (Logit, "log_det without alpha", edit(Logit, BOTH, without_alpha), "log_det_forward"),
        (Logit, "clipped instead of continued", wrap(Logit, forward, clipped), "round_trip"),
        (Logit, "log_det beyond the ends", wrap(Logit, forward, tangent_forgotten), "log_det_forward"),
    ]
    by = "mixing_starts_as_the_orthogonal_matrix_of_its_seed"
    return [
        *[
            Fault(f"{kind.__name__}: {what}", plant, transform_checks(kind), by)
            for kind, what, plant, by in planted
        ],
        Fault(
            "InvertibleLinear: sign of s lost",
            wrap(InvertibleLinear, ("_triangles",), unsigned),
            {by: IMAGE_CHECKS[by]},
            by,
        ),
    ]


def picture_faults() -> list[Fault]:
    """Return pictures torn apart, halves mixed up and couplings forgotten."""

    def as_it_stands(shape: Shape) -> Permutation:
        return Permutation(torch.arange(math.prod(shape)))

    def by_strips(shape: Shape) -> Permutation:
        """Take blocks of 1x4 instead of 2x2, where the width allows."""
        channels, height, width = shape
        places = torch.arange(math.prod(shape)).reshape(channels, height * width // 4, 4)
        return Permutation(places.permute(2, 0, 1).flatten())

    def channels_first(true: Any, shape: Shape) -> Permutation:
        channels, height, width = shape
        blocks = torch.arange(math.prod(shape)).reshape(channels, height // 2, 2, width // 2, 2)
        return Permutation(blocks.permute(0, 2, 4, 1, 3).flatten())

    def columns(shape: Shape) -> Permutation:
        channels, height, width = shape
        places = torch.arange(math.prod(shape)).reshape(channels, height, width // 2, 2)
        return Permutation(places.permute(3, 0, 1, 2).flatten())

    def without_swaps(true: Any, *given: Any) -> list[Transform]:
        return [layer for layer in true(*given) if not isinstance(layer, Permutation)]

    def without_last_swap(true: Any, *given: Any) -> list[Transform]:
        chain: list[Transform] = true(*given)
        return chain[:-1]

    def second_half_goes_on(true: Any, chain: list[Transform], features: int) -> Transform:
        swap = Permutation(torch.arange(features).roll(features // 2))
        return Compose([swap, true(chain, features), swap])

    def without_priors(chain: list[Transform]) -> Compose:
        """Drop the coupling right before a half leaves."""
        kept = [
            layer
            for layer, after in zip(chain, [*chain[1:], None], strict=True)
            if not (isinstance(layer, ConvolutionalCoupling) and isinstance(after, Leading))
        ]
        return Compose(kept)

    def of_the_other_half(chain: list[Transform]) -> Compose:
        """Let the half that goes on be moved, given the one that leaves."""
        turned: list[Transform] = []
        for layer, after in zip(chain, [*chain[1:], None], strict=True):
            if isinstance(layer, ConvolutionalCoupling) and isinstance(after, Leading):
                swap = Permutation(torch.arange(layer.features).roll(layer.features // 2))
                turned += [swap, layer, swap]
            else:
                turned.append(layer)
        return Compose(turned)

    neighbours, prior = "squeeze_keeps_neighbourhoods_together", "leaving_half_is_given_the_other"
    board, squares = (
        "checkerboard_parts_black_from_white_and_keeps_neighbours",
        "alternating_halves_move_every_square",
    )
    leave, alternating = "halves_leave_and_are_left_alone", ("_alternating",)
    planted: list[tuple[str, Plant, str]] = [
        ("squeeze: nothing moves", replace(multiscale, "squeeze", as_it_stands), neighbours),
        ("squeeze: blocks of 1x4", replace(multiscale, "squeeze", by_strips), neighbours),
        ("squeeze: channels before places", wrap(multiscale, ("squeeze",), channels_first), neighbours),
        ("checkerboard: columns", replace(multiscale, "checkerboard", columns), board),
        ("checkerboard: nothing moves", replace(multiscale, "checkerboard", as_it_stands), board),
        ("real_nvp_image: halves never swap", wrap(multiscale, alternating, without_swaps), squares),
        ("real_nvp_image: last swap forgotten", wrap(multiscale, alternating, without_last_swap), squares),
        ("multiscale: the wrong half leaves", wrap(multiscale, ("_inner",), second_half_goes_on), leave),
        ("glow_image: prior forgotten", replace(multiscale, "Compose", without_priors), prior),
        ("glow_image: prior of the other half", replace(multiscale, "Compose", of_the_other_half), prior),
    ]
    return [Fault(name, plant, {by: IMAGE_CHECKS[by]}, by) for name, plant, by in planted]


def grey_faults() -> list[Fault]:
    """Return grey levels spread wrongly, and bits that are none."""

    def without_noise(_: Any, grey: Tensor, levels: int, generator: Any = None) -> Tensor:
        return (grey + 0.5) / levels

    def half_a_cell(true: Any, grey: Tensor, levels: int, generator: Any = None) -> Tensor:
        middle = (grey + 0.5) / levels
        spread: Tensor = middle + (true(grey, levels, generator) - middle) / 2
        return spread

    def centred(true: Any, grey: Tensor, levels: int, generator: Any = None) -> Tensor:
        x: Tensor = true(grey, levels, generator)
        return x - 0.5 / levels

    def unseeded(true: Any, grey: Tensor, levels: int, generator: Any = None) -> Tensor:
        x: Tensor = true(grey, levels, torch.Generator().manual_seed(0))
        return x

    def rounded(_: Any, x: Tensor, levels: int) -> Tensor:
        return (x * levels).round().clamp(0, levels - 1).long()

    def unclamped(_: Any, x: Tensor, levels: int) -> Tensor:
        return (x * levels).floor().long()

    def without_levels(_: Any, log_prob: Tensor, features: int, levels: int) -> Tensor:
        return -log_prob / features / math.log(2)

    def nats(_: Any, log_prob: Tensor, features: int, levels: int) -> Tensor:
        return math.log(levels) - log_prob / features

    def of_the_picture(_: Any, log_prob: Tensor, features: int, levels: int) -> Tensor:
        return (math.log(levels) - log_prob) / math.log(2)

    def rewarded(_: Any, log_prob: Tensor, features: int, levels: int) -> Tensor:
        return (math.log(levels) + log_prob / features) / math.log(2)

    def raw(_: Any, levels: int) -> Any:
        return lambda flow, grey, context, generator: -flow.log_prob(grey / levels, context)

    uniform, undone = "noise_is_uniform_over_the_cell", "quantise_undoes_dequantise"
    histogram, bits = "histogram_needs_exactly_its_entropy", "bits_per_dimension"
    planted: list[tuple[str, str, Any, str]] = [
        ("dequantise", "no noise", without_noise, uniform),
        ("dequantise", "noise of half a cell", half_a_cell, uniform),
        ("dequantise", "noise around the level", centred, undone),
        ("dequantise", "generator ignored", unseeded, uniform),
        ("quantise", "rounded to the nearest", rounded, undone),
        ("quantise", "beyond the ends", unclamped, "samples_beyond_the_ends_get_the_nearest_level"),
        (bits, "without log(levels)", without_levels, "uniform_density_needs_all_bits"),
        (bits, "in nats", nats, histogram),
        (bits, "of the picture, not of a feature", of_the_picture, histogram),
        (bits, "fall with the likelihood's sign", rewarded, histogram),
        (
            "dequantised_likelihood",
            "nothing spread",
            raw,
            "objective_is_the_likelihood_of_spread_levels",
        ),
    ]
    return [
        Fault(f"{owner}: {what}", wrap(dequantisation, (owner,), faulty), {by: IMAGE_CHECKS[by]}, by)
        for owner, what, faulty, by in planted
    ]


IMAGE_FAULTS: tuple[Fault, ...] = (*start_faults(), *layer_faults(), *picture_faults(), *grey_faults())
