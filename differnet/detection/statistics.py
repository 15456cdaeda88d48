"""What the densities see: pooled statistics of the part, and its patch vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from differnet.detection.settings import PatchScale


def pooled_statistics(maps: Sequence[Tensor], kept: Sequence[Tensor] | None = None) -> Tensor:
    """Pool feature maps into one vector a part.

    Per channel of every map: mean and standard deviation over the picture, and the mean of each
    quadrant, which tells where without tying the part to pixels.

    Args:
        maps: Each ``(batch, channels, rows, columns)``, rows and columns at least 2.
        kept: How much of each cell counts, from 0 to 1, ``(rows, columns)`` a map; ``None`` counts all. A
            quadrant of which nothing counts is 0.

    Returns:
        ``(batch, 6 * sum of channels)`` float32.
    """
    if kept is not None:
        return torch.cat([_pooled(m.float(), k.to(m.device)) for m, k in zip(maps, kept, strict=True)], dim=1)
    pooled: list[Tensor] = []
    for features in maps:
        features = features.float()
        rows, columns = features.shape[-2] // 2, features.shape[-1] // 2
        centre = features.mean((2, 3))
        # Written out: of maps whose features lie side by side torch's own `std` takes many times as long.
        variance = (features - centre[:, :, None, None]).square_().mean((2, 3))
        pooled += [centre, variance.sqrt_()]
        for vertical in (slice(None, rows), slice(rows, None)):
            for horizontal in (slice(None, columns), slice(columns, None)):
                pooled.append(features[:, :, vertical, horizontal].mean((2, 3)))
    return torch.cat(pooled, dim=1)


def _pooled(features: Tensor, kept: Tensor) -> Tensor:
    rows, columns = features.shape[-2] // 2, features.shape[-1] // 2

    def mean(of: Tensor, vertical: slice, horizontal: slice) -> Tensor:
        weight = kept[vertical, horizontal]
        total: Tensor = (of[:, :, vertical, horizontal] * weight).sum((2, 3))
        # Nothing is left of an ignored quadrant, and nothing is the same for every part.
        return total / weight.sum() if bool(weight.any()) else total

    every = slice(None)
    centre = mean(features, every, every)
    variance = mean((features - centre[:, :, None, None]).square(), every, every)
    quadrants = [
        mean(features, vertical, horizontal)
        for vertical in (slice(None, rows), slice(rows, None))
        for horizontal in (slice(None, columns), slice(columns, None))
    ]
    return torch.cat([centre, variance.sqrt(), *quadrants], dim=1)


def divide_among_cells(
    maps: Sequence[Tensor],
    pull: Tensor,
    usual: Tensor,
    kept: Sequence[Tensor] | None = None,
) -> Tensor:
    """Divide a figure that is linear in the pooled statistics among the cells they were pooled from.

    Every statistic is a mean over cells: of the features, of their squared distance from the picture's mean
    in units of its standard deviation, and of the features of a quadrant. A figure
    ``sum_k pull_k (statistic_k - usual_k)`` is therefore the mean over cells of what each cell adds to it.
    For the energy of a Gaussian, half its gradient as the pull makes the division exact.

    Args:
        maps: As for `pooled_statistics`.
        pull: ``(batch, statistics)`` weight of each statistic.
        usual: ``(batch, statistics)`` what is subtracted, times its weight: ``pull * usual``.
        kept: As for `pooled_statistics`.

    Returns:
        ``(batch, rows, columns)`` on the finest grid; coarser maps are interpolated. Its mean over all
        cells, of which those that do not count are 0, is the figure, up to that interpolation.

    Example:
        >>> maps = [torch.arange(16.0).reshape(1, 1, 4, 4)]
        >>> pull = torch.ones(1, 6)
        >>> cells = divide_among_cells(maps, pull, torch.zeros(1, 6))
        >>> bool(torch.isclose(cells.mean(), pooled_statistics(maps).sum()))
        True
    """
    grid = maps[0].shape[2:]
    total = torch.zeros(len(maps[0]), *grid)
    start = 0
    for i, features in enumerate(maps):
        features = features.float()
        channels, weight = features.shape[1], torch.ones(features.shape[2:])
        if kept is not None:
            weight = kept[i].to(features.device)
        pulls = pull[:, start : start + 6 * channels].reshape(-1, 6, channels)
        offsets = usual[:, start : start + 6 * channels].reshape(-1, 6, channels).sum(2)
        start += 6 * channels
        cells = _cells(features, pulls, offsets, weight)
        if cells.shape[1:] != grid:
            cells = functional.interpolate(
                cells[:, None], size=grid, mode="bilinear", align_corners=False
            ).squeeze(1)
        total += cells
    return total


def _cells(features: Tensor, pulls: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Return what each cell of one map adds, ``(batch, rows, columns)``, in units of the mean over cells."""
    every = weight.numel() / weight.sum() if bool(weight.any()) else torch.tensor(0.0)
    share = weight * every
    mean = (features * share).mean((2, 3), keepdim=True)
    squares = (features - mean).square()
    deviation = (squares * share).mean((2, 3), keepdim=True).sqrt().clamp_min(1e-6)
    cells = torch.einsum("bchw,bc->bhw", features, pulls[:, 0]) - offsets[:, 0, None, None]
    cells = cells + torch.einsum("bchw,bc->bhw", squares / deviation, pulls[:, 1])
    cells = (cells - offsets[:, 1, None, None]) * share
    rows, columns = features.shape[2] // 2, features.shape[3] // 2
    quadrant = 2
    for vertical in (slice(None, rows), slice(rows, None)):
        for horizontal in (slice(None, columns), slice(columns, None)):
            inside = weight[vertical, horizontal]
            if bool(inside.any()):
                part = torch.einsum("bchw,bc->bhw", features[:, :, vertical, horizontal], pulls[:, quadrant])
                part = part - offsets[:, quadrant, None, None]
                cells[:, vertical, horizontal] += part * inside * (weight.numel() / inside.sum())
            quadrant += 1
    return cells


def patch_vectors(maps: Sequence[Tensor], strides: Sequence[int], scale: PatchScale) -> Tensor:
    """Return the patch vectors of one scale.

    Args:
        maps: Each ``(batch, channels, rows, columns)``.
        strides: Of the maps, fine to coarse. Where the network has no map of a stride that is asked for, the
            nearest one serves.
        scale: Which maps, averaged over which window.

    Returns:
        ``(batch, rows, columns, channels)`` float32, contiguous; channels of all its maps side by side.
    """
    nearest = [min(range(len(strides)), key=lambda i: abs(math.log2(strides[i] / s))) for s in scale.strides]
    chosen = [maps[i].float() for i in dict.fromkeys(nearest)]
    grid = chosen[0].shape[2:]
    features = torch.cat(
        [
            m
            if m.shape[2:] == grid
            else functional.interpolate(m, size=grid, mode="bilinear", align_corners=False)
            for m in chosen
        ],
        dim=1,
    )
    if scale.window > 1:
        # Borders average what is inside the picture only.
        features = functional.avg_pool2d(
            features, scale.window, stride=1, padding=scale.window // 2, count_include_pad=False
        )
    return features.permute(0, 2, 3, 1).contiguous()
