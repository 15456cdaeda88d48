"""Flows of pictures at several scales: squeezes, checkerboards, and halves that leave early."""

from __future__ import annotations

from itertools import count
from typing import TypedDict

import torch

from differnet.flows.density import Flow
from differnet.flows.elementwise import Leading
from differnet.flows.glow_layers import ActNorm, ConvolutionalCoupling, InvertibleLinear
from differnet.flows.linear import Permutation
from differnet.flows.transform import Compose, FlowError, Transform

Shape = tuple[int, int, int]


def squeezed_shape(shape: Shape) -> Shape:
    """Return ``(4 C, H / 2, W / 2)``, the shape after `squeeze`.

    Raises:
        FlowError: A size is not positive, or height or width is odd.
    """
    channels, height, width = shape
    if min(shape) < 1 or height % 2 or width % 2:
        raise FlowError(
            expected="a picture (C, H, W) of even height and width",
            found=f"{shape=}",
            remedy="Crop or pad the pictures.",
        )
    return 4 * channels, height // 2, width // 2


def squeeze(shape: Shape) -> Permutation:
    """Return the permutation that turns every block of 2x2 positions into four channels.

    The channels of a block stand in the order upper left, upper right, lower left, lower right, each
    with all ``C`` channels of the picture. The first half of the channels is thus the upper row of
    every block, which no checkerboard separates: a coupling by channels after one by checkerboard
    sees new neighbours (Dinh et al. 2017, section 3.6).

    Args:
        shape: ``(C, H, W)``; afterwards the picture has `squeezed_shape`.

    Raises:
        FlowError: A size is not positive, or height or width is odd.

    Example:
        >>> import torch
        >>> from differnet.flows.multiscale import squeeze
        >>> squeeze((1, 2, 4))(torch.arange(8.0))[0].reshape(4, 2).tolist()
        [[0.0, 2.0], [1.0, 3.0], [4.0, 6.0], [5.0, 7.0]]

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", section 3.6.
    """
    _, height, width = squeezed_shape(shape)
    blocks = _positions(shape).reshape(shape[0], height, 2, width, 2)
    return Permutation(blocks.permute(2, 4, 0, 1, 3).flatten())


def checkerboard(shape: Shape) -> Permutation:
    """Return the permutation that parts black squares from white ones.

    The picture becomes one of shape ``(2 C, H, W / 2)``: first the squares where row + column is even,
    then the others, every row closed up. The four neighbours of a square lie within the 3x3 squares of
    the other half around its new place, so that a convolution there sees what it would have seen.

    Args:
        shape: ``(C, H, W)``.

    Raises:
        FlowError: A size is not positive, or the width is odd.

    Example:
        >>> import torch
        >>> from differnet.flows.multiscale import checkerboard
        >>> checkerboard((1, 2, 4))(torch.arange(8.0))[0].reshape(2, 2, 2).tolist()
        [[[0.0, 2.0], [5.0, 7.0]], [[1.0, 3.0], [4.0, 6.0]]]

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", section 3.4, whose
    mask this expresses as a permutation.
    """
    channels, height, width = shape
    if min(shape) < 1 or width % 2:
        raise FlowError(
            expected="a picture (C, H, W) of even width",
            found=f"{shape=}",
            remedy="Crop or pad the pictures.",
        )
    pairs = _positions(shape).reshape(channels, height, width // 2, 2).clone()
    # The even square of a pair is its first one in even rows, its second one in odd rows.
    pairs[:, 1::2] = pairs[:, 1::2].flip(-1)
    return Permutation(pairs.permute(3, 0, 1, 2).flatten())


def glow_image(
    shape: Shape,
    context_features: int = 0,
    *,
    levels: int = 2,
    steps: int = 4,
    hidden: int = 32,
    scale_bound: float = 1.0,
    shift_bound: float = 8.0,
    input_bound: float = 8.0,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) Glow of pictures.

    Every level squeezes, takes ``steps`` steps of `ActNorm`, `InvertibleLinear` and
    `ConvolutionalCoupling`, and, but for the last, lets half of the channels leave as latent. A last
    coupling of the leaving half given the other is Glow's learned prior of that half, written as a
    transform: a Gaussian whose mean and deviation are given is a standard one, shifted and scaled.

    Args:
        shape: ``(C, H, W)``, height and width divisible by ``2^levels``; the vectors are the flat
            pictures, channel after channel.
        context_features: Width of the context; 0 for an unconditional density.
        levels: Number of scales.
        steps: Steps of each level.
        hidden: Channels of each coupling's hidden layers.
        scale_bound: See `ConvolutionalCoupling`.
        shift_bound: See `ConvolutionalCoupling`.
        input_bound: See `ConvolutionalCoupling`.
        first: A transform before all others; for grey levels in [0, 1], `Logit`.
        seed: Of mixings and weights.

    Returns:
        A flow whose density is that of ``first`` alone until it is started or trained.

    Raises:
        FlowError: A size or bound is not positive, the picture is not divisible, or ``first`` has another
            width.

    Example:
        >>> import torch
        >>> from differnet.flows.multiscale import glow_image
        >>> flow = glow_image((1, 4, 4), levels=2, steps=1, hidden=4)
        >>> round(flow.log_prob(torch.zeros(16)).item(), 4)  # the standard normal's
        -14.703

    Source: Kingma, Dhariwal 2018, "Glow: generative flow with invertible 1x1 convolutions", figure 2.
    """
    _check_levels(levels, steps)
    settings = _Settings(
        context_features=context_features,
        hidden=hidden,
        scale_bound=scale_bound,
        shift_bound=shift_bound,
        input_bound=input_bound,
    )
    # 1000: seeds next to each other share no mixing.
    mixings = count(1000 * seed)

    def level(shape: Shape, left: int) -> list[Transform]:
        wide = squeezed_shape(shape)
        channels, height, width = wide
        chain: list[Transform] = [squeeze(shape)]
        for _ in range(steps):
            chain += [
                ActNorm(channels, height * width),
                InvertibleLinear(channels, height * width, seed=next(mixings)),
                ConvolutionalCoupling(wide, **settings),
            ]
        if left > 1:
            # Zero mean and unit deviation again, for the bounds of the last coupling to be in their unit.
            chain += [
                ActNorm(channels, height * width),
                ConvolutionalCoupling(wide, **settings),
                _inner(level((channels // 2, height, width), left - 1), channels * height * width),
            ]
        return chain

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chain = level(shape, levels)
    return Flow(Compose([first, *chain] if first is not None else chain))


def real_nvp_image(
    shape: Shape,
    context_features: int = 0,
    *,
    levels: int = 2,
    steps: int = 3,
    hidden: int = 32,
    scale_bound: float = 1.0,
    shift_bound: float = 8.0,
    input_bound: float = 8.0,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) multi-scale Real NVP of pictures.

    Every level but the last takes ``steps`` couplings by alternating checkerboards, squeezes, takes
    ``steps`` couplings by alternating halves of the channels, and lets half of the channels leave as
    latent; the last takes ``steps + 1`` couplings by checkerboards. Two things differ from the paper:
    `ActNorm` before every coupling stands where it has batch normalisation, which would make the
    density of a picture depend on its batch, and the couplings' networks are those of Glow.

    Args:
        shape: ``(C, H, W)``, the height divisible by ``2^(levels - 1)``, the width by ``2^levels``; the
            vectors are the flat pictures, channel after channel.
        context_features: Width of the context; 0 for an unconditional density.
        levels: Number of scales.
        steps: Couplings by checkerboards and couplings by channels of each level.
        hidden: Channels of each coupling's hidden layers.
        scale_bound: See `ConvolutionalCoupling`.
        shift_bound: See `ConvolutionalCoupling`.
        input_bound: See `ConvolutionalCoupling`.
        first: A transform before all others; for grey levels in [0, 1], `Logit`.
        seed: Of the weights.

    Returns:
        A flow whose density is that of ``first`` alone until it is started or trained.

    Raises:
        FlowError: A size or bound is not positive, the picture is not divisible, or ``first`` has another
            width.

    Example:
        >>> import torch
        >>> from differnet.flows.multiscale import real_nvp_image
        >>> flow = real_nvp_image((1, 4, 4), levels=2, steps=1, hidden=4)
        >>> round(flow.log_prob(torch.zeros(16)).item(), 4)  # the standard normal's
        -14.703

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP", section 3.6.
    """
    _check_levels(levels, steps)
    settings = _Settings(
        context_features=context_features,
        hidden=hidden,
        scale_bound=scale_bound,
        shift_bound=shift_bound,
        input_bound=input_bound,
    )

    def level(shape: Shape, left: int) -> list[Transform]:
        channels, height, width = shape
        board = checkerboard(shape)
        squares = _alternating((2 * channels, height, width // 2), steps + (left == 1), settings)
        chain = [board, *squares, Permutation(board.back)]
        if left > 1:
            wide = squeezed_shape(shape)
            inner = level((wide[0] // 2, wide[1], wide[2]), left - 1)
            chain += [squeeze(shape), *_alternating(wide, steps, settings)]
            chain.append(_inner(inner, channels * height * width))
        return chain

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chain = level(shape, levels)
    return Flow(Compose([first, *chain] if first is not None else chain))


class _Settings(TypedDict):
    """Of every coupling of a flow."""

    context_features: int
    hidden: int
    scale_bound: float
    shift_bound: float
    input_bound: float


def _alternating(shape: Shape, couplings: int, settings: _Settings) -> list[Transform]:
    """Return couplings between which the halves of the channels change places; they end as they began."""
    channels, height, width = shape
    features = channels * height * width
    swap = torch.arange(features).roll(features // 2)
    chain: list[Transform] = []
    for _ in range(couplings):
        chain += [
            ActNorm(channels, height * width),
            ConvolutionalCoupling(shape, **settings),
            Permutation(swap),
        ]
    return chain if couplings % 2 == 0 else [*chain, Permutation(swap)]


def _inner(chain: list[Transform], features: int) -> Leading:
    return Leading(Compose(chain), features)


def _positions(shape: Shape) -> torch.Tensor:
    return torch.arange(shape[0] * shape[1] * shape[2])


def _check_levels(levels: int, steps: int) -> None:
    if levels < 1 or steps < 1:
        raise FlowError(
            expected="at least one level of at least one step",
            found=f"{levels=}, {steps=}",
            remedy="Use two levels for pictures of 8x8, one more for every doubling.",
        )
