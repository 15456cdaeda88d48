"""Batch normalisation folded into the convolutions before it, for networks that only look.

A convolution and the normalisation of what it gives are one convolution with other weights. Left apart, torch
writes and reads every map of the network once more: on 2 cores a picture of 256 pixels takes a quarter
longer.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Side of the pictures on which a folded network has to prove itself, and by how much its maps may differ, of
# the largest figure: single precision leaves some 1e-5 over a deep network.
_PROBE, _TOLERANCE = 64, 1e-4


@torch.no_grad()
def folded(network: nn.Module) -> nn.Module | None:
    """Return a copy of a network in which normalisation is part of the convolutions.

    Which layers follow each other is told from the order in which a module lists them, which is a guess; the
    copy is only given back if it maps noise to what the network maps it to.

    Args:
        network: In evaluation mode, of ``(batch, 3, size, size)`` pictures to a list of maps.

    Returns:
        The copy, or ``None`` where there is nothing to fold, or not in this way.
    """
    copied = copy.deepcopy(network)
    count = sum(_fold_within(module) for module in list(copied.modules()))
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
