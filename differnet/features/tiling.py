"""Feature maps of pictures too large for one pass: overlapping tiles, whose central parts are stitched.

A network pads a tile's borders with zeros where the whole picture goes on, which spoils the cells near
them. A tile is therefore seen with a margin whose cells are thrown away. Measured on
``tf_efficientnet_lite0`` with pictures of 1536 pixels in tiles of 512: the largest (mean) difference from
one pass over the whole, in standard deviations of the map, of a rendered part or of noise, whichever is
more:

====== ================= ================= =================
margin stride 8          stride 16         stride 32
====== ================= ================= =================
0      9.4    (4e-2)     7.9    (1e-1)     5.6    (3e-1)
32     7e-3   (4e-6)     3.4    (4e-2)     5.0    (2e-1)
64     exact             1.3    (1e-2)     3.1    (2e-1)
128    exact             6e-2   (3e-4)     1.6    (7e-2)
192    exact             exact             0.7    (2e-2)
256    exact             exact             0.2    (3e-3)
384    exact             exact             1e-3   (1e-5)
512    exact             exact             exact
====== ================= ================= =================

Networks that pool over the whole picture inside (squeeze and excitation, attention) see each tile as a
picture of its own: their maps differ from those of one pass, but good parts and inspected ones are still
seen alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from differnet.features.preprocessing import KNOWN_STRIDES, BackboneError

# Sides of a tile without its margin; pictures up to this size take one pass, as they are.
TILE = 1024
# Exact at strides 8 and 16, of which patches are made; at 32 the cells at a seam differ by 0.2 standard
# deviations at most, of which the pooled statistics see next to nothing. The next step up, 384, would cost
# 1.3 times as much in pictures of 4096 pixels.
MARGIN = 256
# A tile that starts on a cell of the coarsest map starts on a cell of every map.
_GRID = max(KNOWN_STRIDES)


def tiled_maps(
    network: Callable[[Tensor], list[Tensor]],
    strides: Sequence[int],
    pixels: Tensor,
    tile: int = TILE,
    margin: int = MARGIN,
) -> list[Tensor]:
    """Return a network's maps of large squares, computed one tile at a time.

    Tiles start on multiples of 32 pixels and are as equal as those allow. At the picture's own borders a tile
    has no margin, so that the network pads there what it would pad without tiles.

    Args:
        network: Gives one ``(batch, channels, rows, columns)`` map a stride.
        strides: Picture pixels a map's cell.
        pixels: ``(batch, 3, size, size)``, size a multiple of 32. Up to ``tile`` pixels they take one pass.
        tile: Largest side of a tile without its margin, pixels; a multiple of 32.
        margin: Seen around a tile and thrown away, pixels; a multiple of 32.

    Raises:
        BackboneError: The size, tile or margin does not fit the grid of cells.
    """
    size = pixels.shape[3]
    if (
        pixels.shape[2] != size
        or size % _GRID
        or tile < _GRID
        or tile % _GRID
        or margin < 0
        or margin % _GRID
    ):
        raise BackboneError(
            expected=f"squares, tiles and margins in multiples of {_GRID} pixels",
            found=f"{size} x {pixels.shape[2]} pixels, tiles of {tile}, a margin of {margin}",
            remedy="Round them.",
        )
    if size <= tile:
        return network(pixels)
    stitched: list[Tensor] = []
    for top, bottom in _spans(size, tile):
        for left, right in _spans(size, tile):
            above, before = max(0, top - margin), max(0, left - margin)
            seen = pixels[:, :, above : min(size, bottom + margin), before : min(size, right + margin)]
            maps = network(seen)
            if not stitched:
                cells = [size // stride for stride in strides]
                stitched = [
                    torch.empty((*m.shape[:2], n, n), dtype=m.dtype, device=m.device)
                    for m, n in zip(maps, cells, strict=True)
                ]
            for whole, part, stride in zip(stitched, maps, strides, strict=True):
                rows = slice((top - above) // stride, (bottom - above) // stride)
                columns = slice((left - before) // stride, (right - before) // stride)
                kept = part[:, :, rows, columns]
                whole[:, :, top // stride : bottom // stride, left // stride : right // stride] = kept
    return stitched


def _spans(size: int, tile: int) -> Iterator[tuple[int, int]]:
    cells = size // _GRID
    count = -(-size // tile)
    edges = [_GRID * (cells * i // count) for i in range(count + 1)]
    yield from itertools.pairwise(edges)
