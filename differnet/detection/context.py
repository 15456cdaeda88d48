"""The condition of the local density: where a patch lies, and what kind of part it lies on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Half waves across the picture: enough to tell rim from middle and left from right, too few to
# pin a part that moves about to the pixel.
_WAVES = (1, 2)
# Principal coordinates are standard deviations; beyond 4 they only say "unknown kind of part".
_COORDINATE_BOUND = 4.0


def position_code(rows: int, columns: int) -> Tensor:
    """Return ``(rows, columns, 10)``: the two coordinates in -1 to 1 and sines and cosines of them."""
    vertical, horizontal = torch.meshgrid(
        torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij"
    )
    code = [vertical, horizontal]
    for wave in _WAVES:
        for coordinate in (vertical, horizontal):
            code += [torch.sin(wave * math.pi * coordinate), torch.cos(wave * math.pi * coordinate)]
    return torch.stack(code, dim=-1)


def coordinates_for(parts: int) -> int:
    """Return how many principal coordinates of the part may condition its patches.

    One for every 16 parts, at most 16: a condition of more numbers than the parts support would
    name each training part instead of describing kinds of parts.
    """
    return max(1, min(16, parts // 16))


def kinds_for(parts: int) -> int:
    """Return how many principal coordinates tell what kind of part it is, for calibration.

    One for every 16 parts, at most 4: neighbours have to be found among the good parts.
    """
    return min(4, parts // 16)


def patch_context(coordinates: Tensor, rows: int, columns: int) -> Tensor:
    """Join position and the part's principal coordinates into a condition for every patch.

    Args:
        coordinates: ``(batch, k)`` leading whitened coordinates of the part's statistics.
        rows: Of the grid of patches.
        columns: Of the grid of patches.

    Returns:
        ``(batch, rows, columns, 10 + k)``; coordinates are squashed smoothly into +-4.
    """
    batch, width = coordinates.shape
    spread = squashed(coordinates)[:, None, None, :].expand(batch, rows, columns, width)
    place = position_code(rows, columns).to(coordinates).expand(batch, rows, columns, -1)
    return torch.cat([place, spread], dim=-1)


def squashed(coordinates: Tensor) -> Tensor:
    """Return coordinates squashed smoothly into +-4."""
    return _COORDINATE_BOUND * torch.tanh(coordinates / _COORDINATE_BOUND)
