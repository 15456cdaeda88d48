"""The registry's cases of Glow's layers, of the image presets and of the logit, in awkward settings."""

from __future__ import annotations

import torch

from differnet.flows import Compose, Inverse, Leading, Permutation, Transform
from differnet.flows.dequantisation import Logit
from differnet.flows.glow_layers import ActNorm, ConvolutionalCoupling, InvertibleLinear, glow
from differnet.flows.multiscale import checkerboard, glow_image, real_nvp_image, squeeze
from flows.registry import Case, Maker

Shape = tuple[int, int, int]


def mixing(channels: int, positions: int = 1) -> Maker:
    return lambda _: InvertibleLinear(channels, positions, seed=channels)


def convolution(shape: Shape, context_features: int = 0) -> Maker:
    return lambda _: ConvolutionalCoupling(shape, context_features, hidden=6)


def additive(shape: Shape, context_features: int = 0) -> Maker:
    return lambda _: ConvolutionalCoupling(shape, context_features, hidden=6, kind="additive")


def one_channel(_: torch.Generator) -> Transform:
    """A picture of one channel: checkerboard, coupling, and back."""
    board = checkerboard((1, 3, 4))
    return Compose([board, ConvolutionalCoupling((2, 3, 2), 2, hidden=6), Inverse(board)])


def glow_vectors(features: int, context_features: int = 0) -> Maker:
    return lambda _: glow(features, context_features, steps=2, hidden=10, seed=1).transform


def glow_pictures(shape: Shape, context_features: int = 0, *, levels: int, first: bool = False) -> Maker:
    features = shape[0] * shape[1] * shape[2]
    return lambda _: (
        glow_image(
            shape,
            context_features,
            levels=levels,
            steps=1,
            hidden=5,
            first=Logit(features) if first else None,
            seed=1,
        ).transform
    )


def real_nvp_pictures(shape: Shape, context_features: int = 0, *, levels: int, first: bool = False) -> Maker:
    features = shape[0] * shape[1] * shape[2]
    return lambda _: (
        real_nvp_image(
            shape,
            context_features,
            levels=levels,
            steps=1,
            hidden=5,
            first=Logit(features) if first else None,
            seed=1,
        ).transform
    )


IMAGE_CASES: tuple[Case, ...] = (
    Case("actnorm_one", ActNorm, lambda _: ActNorm(1)),
    Case("actnorm_odd", ActNorm, lambda _: ActNorm(5)),
    Case("actnorm_pictures", ActNorm, lambda _: ActNorm(2, 3)),
    Case("actnorm_one_channel", ActNorm, lambda _: ActNorm(1, 4)),
    Case("mixing_one", InvertibleLinear, mixing(1)),
    Case("mixing_odd", InvertibleLinear, mixing(5)),
    Case("mixing_pictures", InvertibleLinear, mixing(3, 4)),
    Case("mixing_one_channel", InvertibleLinear, mixing(1, 4)),
    Case("mixing_many", InvertibleLinear, mixing(12, 2)),
    Case("convolution", ConvolutionalCoupling, convolution((2, 2, 2)), log_det_varies=True),
    Case("convolution_odd", ConvolutionalCoupling, convolution((3, 3, 1)), log_det_varies=True),
    Case("convolution_one_position", ConvolutionalCoupling, convolution((4, 1, 1)), log_det_varies=True),
    Case("convolution_context", ConvolutionalCoupling, convolution((2, 2, 2), 3), log_det_varies=True),
    Case("convolution_wide_context", ConvolutionalCoupling, convolution((3, 2, 2), 40), log_det_varies=True),
    Case("additive", ConvolutionalCoupling, additive((2, 2, 2))),
    Case("additive_context", ConvolutionalCoupling, additive((3, 2, 2), 2), log_det_conditional=False),
    Case("one_channel_context", Compose, one_channel, log_det_varies=True),
    Case("squeeze", Permutation, lambda _: squeeze((2, 2, 4))),
    Case("checkerboard", Permutation, lambda _: checkerboard((2, 3, 2))),
    Case("logit_one", Logit, lambda _: Logit(1), log_det_varies=True),
    Case("logit_odd", Logit, lambda _: Logit(5, alpha=0.2), log_det_varies=True),
    Case("glow_one_feature", Compose, glow_vectors(1)),
    Case("glow_odd", Compose, glow_vectors(5), log_det_varies=True),
    Case("glow_context", Compose, glow_vectors(4, 3), log_det_varies=True),
    Case("glow_image", Compose, glow_pictures((1, 2, 2), levels=1), log_det_varies=True),
    Case("glow_image_channels", Compose, glow_pictures((2, 2, 4), levels=1), log_det_varies=True),
    # Random ActNorms and mixings at two scales amplify the rounding of float32 by a few thousand.
    Case(
        "glow_image_levels",
        Compose,
        glow_pictures((1, 4, 4), 3, levels=2),
        log_det_varies=True,
        single=1e-3,
    ),
    Case("glow_image_logit", Compose, glow_pictures((1, 2, 2), levels=1, first=True), log_det_varies=True),
    Case("real_nvp_image", Compose, real_nvp_pictures((1, 2, 2), levels=1), log_det_varies=True),
    Case("real_nvp_image_channels", Compose, real_nvp_pictures((3, 1, 2), levels=1), log_det_varies=True),
    Case("real_nvp_image_levels", Compose, real_nvp_pictures((1, 2, 4), 3, levels=2), log_det_varies=True),
    Case(
        "real_nvp_image_logit",
        Compose,
        real_nvp_pictures((1, 4, 4), levels=2, first=True),
        log_det_varies=True,
        single=1e-3,
    ),
    Case("leading_actnorm_pictures", Leading, lambda _: Leading(ActNorm(2, 2), 6)),
)
