"""What the densities see: pooled statistics of the part, and its patch vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from differnet.records import DiffernetError


class ScaleError(DiffernetError):
    """A grid of patches that cannot be laid."""


def pooled_statistics(maps: Sequence[Tensor]) -> Tensor:
    """Pool feature maps into one vector a part.

    Per channel of every map: mean and standard deviation over the picture, and the mean of each
    quadrant, which tells where without tying the part to pixels.

    Args:
        maps: Each ``(batch, channels, rows, columns)``, rows and columns at least 2.

    Returns:
        ``(batch, 6 * sum of channels)`` float32.
    """
    pooled: list[Tensor] = []
    for features in maps:
        features = features.float()
        rows, columns = features.shape[-2] // 2, features.shape[-1] // 2
        pooled += [features.mean((2, 3)), features.std((2, 3), correction=0)]
        for vertical in (slice(None, rows), slice(rows, None)):
            for horizontal in (slice(None, columns), slice(columns, None)):
                pooled.append(features[:, :, vertical, horizontal].mean((2, 3)))
    return torch.cat(pooled, dim=1)


@dataclass(frozen=True)
class PatchScale:
    """One grid of patches on which a local density is learned.

    Attributes:
        name: Said in reasons and kept in the model.
        stride: Picture pixels between neighbouring patches; the network's map of that stride.
        window: Side of the neighbourhood whose features are averaged, in patches; odd.

    Raises:
        ScaleError: The window is even or the stride not positive.
    """

    name: str
    stride: int
    window: int = 1

    def __post_init__(self) -> None:
        if self.stride < 1 or self.window < 1 or self.window % 2 == 0:
            raise ScaleError(
                expected="a stride of 1 or more and an odd window",
                found=f"stride {self.stride}, window {self.window}",
                remedy="A window of 1 averages nothing.",
            )


def patch_vectors(maps: Sequence[Tensor], strides: Sequence[int], scale: PatchScale) -> Tensor:
    """Return the patch vectors of one scale.

    Args:
        maps: Each ``(batch, channels, rows, columns)``.
        strides: Of the maps, fine to coarse. Where the network has no map of the scale's stride, the nearest
            one serves.
        scale: Which map, averaged over which window.

    Returns:
        ``(batch, rows, columns, channels)`` float32, contiguous.
    """
    chosen = min(range(len(strides)), key=lambda i: abs(math.log2(strides[i] / scale.stride)))
    features = maps[chosen].float()
    if scale.window > 1:
        # Borders average what is inside the picture only.
        features = functional.avg_pool2d(
            features, scale.window, stride=1, padding=scale.window // 2, count_include_pad=False
        )
    return features.permute(0, 2, 3, 1).contiguous()
