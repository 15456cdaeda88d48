"""Maps of large pictures, stitched of tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from differnet.features import Backbone, BackboneError, Preprocessing, find_weights, prepare_batch, tiled_maps
from differnet.features.tiling import MARGIN, TILE
from differnet.images.synthetic import render_part
from differnet.records import Picture

SIZE = 1152
STRIDES = (8, 16, 32)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("tf_efficientnet_lite0", find_weights("tf_efficientnet_lite0"))


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """A part whose seam at 576 pixels runs through its middle."""
    part = Picture(render_part(3, size=SIZE // 2).pixels, None, "0" * 64)
    return prepare_batch([part], Preprocessing(SIZE, (127 / 255,) * 3, (128 / 255,) * 3))


@pytest.fixture(scope="module")
def untiled(backbone: Backbone, pixels: Tensor) -> list[Tensor]:
    maps: list[Tensor] = backbone(pixels)
    return maps


def differences(found: list[Tensor], wanted: list[Tensor]) -> list[tuple[float, float]]:
    """Return the largest and the mean difference of each map, in standard deviations of the map."""
    assert [f.shape for f in found] == [w.shape for w in wanted]
    gaps = [(f - w).abs() / w.std() for f, w in zip(found, wanted, strict=True)]
    return [(float(g.max()), float(g.mean())) for g in gaps]


# Float32 sums in another order move a value of a map by a few 1e-6 of its spread.
ROUNDING = 1e-4


def test_seams_do_not_show(backbone: Backbone, pixels: Tensor, untiled: list[Tensor]) -> None:
    """Exact at the strides that patches are made of; what is stated at 32, the coarsest."""
    fine, middle, (most, mean) = differences(tiled_maps(backbone, STRIDES, pixels), untiled)
    assert fine[0] < ROUNDING
    assert middle[0] < ROUNDING
    assert most < 0.3
    assert mean < 5e-3


def test_a_margin_of_the_receptive_field_is_exact_and_none_shows_seams(
    backbone: Backbone, pixels: Tensor, untiled: list[Tensor]
) -> None:
    exact = differences(tiled_maps(backbone, STRIDES, pixels, tile=1120, margin=512), untiled)
    assert max(most for most, _ in exact) < ROUNDING
    bare = differences(tiled_maps(backbone, STRIDES, pixels, margin=0), untiled)
    assert min(most for most, _ in bare) > 1


class Grid:
    """A network that says where each cell lies: the mean of its pixels."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        self.seen.append((pixels.shape[2], pixels.shape[3]))
        return [torch.nn.functional.avg_pool2d(pixels, stride) for stride in STRIDES]


@pytest.mark.parametrize(
    ("size", "tile", "margin"), [(96, 32, 32), (160, 64, 32), (224, 96, 64), (416, 128, 0)]
)
def test_cells_stay_where_they_are(size: int, tile: int, margin: int) -> None:
    network, pixels = Grid(), torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    stitched = tiled_maps(network, STRIDES, pixels, tile, margin)
    # One tile at a time: nothing is seen that is larger than a tile with its margins.
    assert max(max(shape) for shape in network.seen) <= tile + 2 * margin
    assert len(network.seen) == (-(-size // tile)) ** 2
    assert all(torch.equal(a, b) for a, b in zip(stitched, Grid()(pixels), strict=True))


def test_pictures_of_a_tile_take_one_pass() -> None:
    network = Grid()
    tiled_maps(network, STRIDES, torch.zeros(1, 3, TILE, TILE))
    tiled_maps(network, STRIDES, torch.zeros(1, 3, TILE + 32, TILE + 32))
    assert network.seen[0] == (TILE, TILE)
    assert len(network.seen) == 5
    assert max(max(shape) for shape in network.seen) <= TILE + MARGIN


@pytest.mark.parametrize(
    ("shape", "tile", "margin"),
    [((100, 100), 64, 32), ((96, 128), 64, 32), ((96, 96), 40, 32), ((96, 96), 0, 32), ((96, 96), 64, -32)],
)
def test_tiles_that_do_not_fit_the_grid_are_refused(shape: tuple[int, int], tile: int, margin: int) -> None:
    with pytest.raises(BackboneError, match="multiples of 32"):
        tiled_maps(Grid(), STRIDES, torch.zeros(1, 3, *shape), tile, margin)
