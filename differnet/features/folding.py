"""Batch normalisation and padding folded into convolutions, for networks that only look.

A convolution and the normalisation of what it gives are one convolution with other weights. Left apart, torch
writes and reads every map of the network once more: on 2 cores a picture of 256 pixels takes a quarter
longer. A map that is padded more on one side than on the other is copied before it is convolved, for which
the depthwise layers of EfficientNet-Lite0 that halve their map took about twice as long: see
`EvenConvolution`.
"""

from __future__ import annotations

import copy
import itertools
from typing import TypeGuard

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Side of the pictures on which a folded network has to prove itself, and by how much its maps may differ, of
# the largest figure: single precision leaves some 1e-5 over a deep network.
_PROBE, _TOLERANCE = 64, 1e-4


@torch.no_grad()
def folded(network: nn.Module) -> nn.Module | None:
    """Return a copy of a network in which normalisation and padding are part of the convolutions.

    Which layers follow each other is told from the order in which a module lists them, which is a guess; the
    copy is only given back if it maps noise to what the network maps it to.

    Args:
        network: In evaluation mode, of ``(batch, 3, size, size)`` pictures to a list of maps.

    Returns:
        The copy, or ``None`` where there is nothing to fold, or not in this way.
    """
    copied = copy.deepcopy(network)
    modules = list(copied.modules())
    count = sum(_fold_within(module) for module in modules)
    count += sum(_widen_within(module) for module in modules)
    return copied if count and _alike(network, copied) else None


def _fold_within(module: nn.Module) -> int:
    children = list(module.named_children())
    count = 0
    for (name, conv), (behind, norm) in itertools.pairwise(children):
        # A subclass convolves as its class does, or pads first; its own weights are where these are.
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        if norm.running_mean is None or conv.out_channels != norm.num_features:
            continue
        setattr(module, name, fuse_conv_bn_eval(conv, norm))
        # timm's normalisations drop and activate as well.
        rest = [
            getattr(norm, part)
            for part in ("drop", "act")
            if isinstance(getattr(norm, part, None), nn.Module)
        ]
        setattr(module, behind, nn.Sequential(*rest))
        count += 1
    return count


class EvenConvolution(nn.Module):
    """A depthwise convolution of every other cell that pads more behind a map than before it.

    A kernel with one further row and column, of zeros and in front, asks for as much padding on both sides,
    which a convolution does by itself: the map is not copied for it. Of a map with an odd side, which is
    padded alike on both anyway, nothing changes.

    Args:
        conv: That pads as TensorFlow does.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv
        self.wide = nn.Parameter(functional.pad(conv.weight.detach(), (1, 0, 1, 0)), requires_grad=False)
        self._padding = conv.kernel_size[0] // 2

    @staticmethod
    def suits(module: nn.Module) -> TypeGuard[Conv2dSame]:
        """Say whether a module is such a convolution."""
        return (
            isinstance(module, Conv2dSame)
            and module.groups == module.in_channels > 1
            and module.kernel_size in ((3, 3), (5, 5), (7, 7))
            and module.stride == (2, 2)
            and module.dilation == (1, 1)
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Return every other cell, ``(batch, channels, rows / 2, columns / 2)``."""
        if cells.shape[2] % 2 or cells.shape[3] % 2:
            found: Tensor = self.conv(cells)
            return found
        return functional.conv2d(
            cells, self.wide, self.conv.bias, stride=2, padding=self._padding, groups=self.conv.groups
        )


def _widen_within(module: nn.Module) -> int:
    suited = [(name, child) for name, child in module.named_children() if EvenConvolution.suits(child)]
    for name, conv in suited:
        setattr(module, name, EvenConvolution(conv))
    return len(suited)


def _alike(network: nn.Module, copied: nn.Module) -> bool:
    noise = torch.randn(1, 3, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0))
    try:
        wanted, found = network(noise), copied(noise)
    except Exception:  # a network that takes no pictures of this size, or reads what is no longer there
        return False
    return len(wanted) == len(found) and all(map(_close, wanted, found))


def _close(wanted: Tensor, found: Tensor) -> bool:
    if wanted.shape != found.shape:
        return False
    return bool((wanted - found).abs().max() <= _TOLERANCE * wanted.abs().max().clamp_min(1e-6))
