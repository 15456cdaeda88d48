"""What the densities see, and the condition that they see it under."""

from __future__ import annotations

import math

import pytest
import torch

from differnet.detection import PatchScale, patch_vectors, pooled_statistics
from differnet.detection.context import coordinates_for, patch_context, position_code
from differnet.detection.densities import PartDensity
from differnet.detection.settings import DensitySettings, ScaleError
from differnet.detection.statistics import divide_among_cells


def test_pooled_statistics_are_means_spreads_and_quadrants() -> None:
    first, second = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 2, 2)
    pooled = pooled_statistics([first, second])
    assert pooled.shape == (2, 6 * 8)
    assert torch.allclose(pooled[:, :3], first.mean((2, 3)))
    assert torch.allclose(pooled[:, 3:6], first.std((2, 3), correction=0))
    assert torch.allclose(pooled[:, 6:9], first[:, :, :2, :3].mean((2, 3)))
    assert torch.allclose(pooled[:, 9:12], first[:, :, :2, 3:].mean((2, 3)))
    assert torch.allclose(pooled[:, 15:18], first[:, :, 2:, 3:].mean((2, 3)))
    assert torch.allclose(pooled[:, -5:], second[:, :, 1, 1])


def test_pooled_statistics_of_odd_maps_are_finite_and_tell_sides_apart() -> None:
    features = torch.zeros(1, 1, 5, 3)
    features[..., 0] = 1
    pooled = pooled_statistics([features])[0]
    assert bool(torch.isfinite(pooled).all())
    top_left, top_right, bottom_left, bottom_right = pooled[2:].tolist()
    assert top_left == bottom_left == 1
    assert top_right == bottom_right == 0


def test_pooled_statistics_are_single_precision() -> None:
    assert pooled_statistics([torch.ones(1, 2, 2, 2, dtype=torch.float64)]).dtype == torch.float32


@pytest.mark.parametrize(("asked", "map_taken"), [(8, 0), (16, 1), (32, 2), (4, 0), (64, 2)])
def test_patches_come_from_the_nearest_map(asked: int, map_taken: int) -> None:
    maps = [torch.full((2, 3 + i, 8 >> i, 8 >> i), float(i)) for i in range(3)]
    patches = patch_vectors(maps, (8, 16, 32), PatchScale("p", (asked,)))
    assert patches.shape == (2, 8 >> map_taken, 8 >> map_taken, 3 + map_taken)
    assert float(patches.mean()) == map_taken
    assert patches.is_contiguous()


def test_patch_is_the_channels_of_its_cell() -> None:
    features = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    patches = patch_vectors([features], (16,), PatchScale("p", (16,)))
    assert torch.equal(patches[1, 2, 3], features[1, :, 2, 3])


def test_window_averages_neighbours_inside_the_picture_only() -> None:
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    patches = patch_vectors([features], (16,), PatchScale("p", (16,), window=3))
    assert patches.shape == (1, 4, 4, 1)
    assert patches[0, 1, 1, 0] == features[0, 0, :3, :3].mean()
    assert patches[0, 0, 0, 0] == features[0, 0, :2, :2].mean()


WRONG_GRIDS = [((16,), 2), ((16,), 0), ((16,), -1), ((0,), 1), ((-8,), 1), ((), 1), ((16, 8), 1), ((8, 8), 1)]


@pytest.mark.parametrize(("strides", "window"), WRONG_GRIDS)
def test_grids_that_cannot_be_laid_are_refused(strides: tuple[int, ...], window: int) -> None:
    with pytest.raises(ScaleError):
        PatchScale("p", strides, window)


def test_coarser_maps_are_interpolated_beside_the_finest() -> None:
    fine, coarse = torch.randn(2, 3, 8, 8), torch.arange(16.0).reshape(1, 1, 4, 4).repeat(2, 1, 1, 1)
    patches = patch_vectors([fine, coarse], (8, 16), PatchScale("p", (8, 16)))
    assert patches.shape == (2, 8, 8, 4)
    assert torch.equal(patches[..., :3], fine.permute(0, 2, 3, 1))
    # Cell 1 of the fine grid lies a quarter of a coarse cell right of, and below, the first one's centre.
    assert patches[0, 1, 1, 3] == pytest.approx(0.25 * 1 + 0.25 * 4)
    # A network without the second stride gives its nearest map once.
    assert patch_vectors([fine], (8,), PatchScale("p", (8, 16))).shape == (2, 8, 8, 3)


def test_position_code_is_coordinates_and_waves() -> None:
    code = position_code(3, 5)
    assert code.shape == (3, 5, 10)
    assert code[:, 0, 0].tolist() == [-1, 0, 1]
    assert code[0, :, 1].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert torch.allclose(code[..., 2], torch.sin(math.pi * code[..., 0]), atol=1e-6)
    assert torch.allclose(code[..., 9], torch.cos(2 * math.pi * code[..., 1]), atol=1e-6)
    assert bool((code.abs() <= 1).all())
    cells = code.reshape(-1, 10)
    assert torch.unique(cells, dim=0).shape == cells.shape


def test_single_cells_have_a_position() -> None:
    assert bool(torch.isfinite(position_code(1, 1)).all())


@pytest.mark.parametrize(
    ("parts", "coordinates"), [(0, 1), (3, 1), (31, 1), (32, 2), (255, 15), (256, 16), (9999, 16)]
)
def test_coordinates_are_one_for_sixteen_parts(parts: int, coordinates: int) -> None:
    assert coordinates_for(parts) == coordinates


def test_context_joins_position_and_bounded_coordinates() -> None:
    coordinates = torch.tensor([[0.1, -2.0], [1e6, -1e6]])
    context = patch_context(coordinates, 3, 4)
    assert context.shape == (2, 3, 4, 12)
    assert torch.equal(context[0, ..., :10], position_code(3, 4))
    assert torch.equal(context[1, ..., :10], position_code(3, 4))
    assert context[1, 2, 3, 10:].tolist() == [4, -4]
    assert context[0, 0, 0, 10:].tolist() == pytest.approx([0.1, -2.0], rel=0.1)
    assert torch.equal(context[:, 0, 0, 10:], context[:, 2, 3, 10:])


@pytest.mark.parametrize("ignoring", [False, True])
@pytest.mark.parametrize("parts", [12, 200])
def test_the_energy_of_the_whole_is_divided_among_cells_exactly(parts: int, *, ignoring: bool) -> None:
    """More and fewer parts than statistics; with cells that count for nothing, and for a half."""
    generator = torch.Generator().manual_seed(parts)
    maps = [
        torch.randn(parts, 4, 16, 16, generator=generator),
        torch.rand(parts, 6, 8, 8, generator=generator),
    ]
    maps[0] += torch.randn(parts, 4, 1, 1, generator=generator)
    kept = None
    if ignoring:
        kept = [torch.ones(16, 16), torch.ones(8, 8)]
        kept[0][:9, :10], kept[0][9, :10] = 0, 0.5
        kept[1][:4, :5] = 0
    statistics = pooled_statistics(maps, kept)
    whole = PartDensity.fit(statistics, DensitySettings(couplings=0), seed=0)
    pull = whole.pull(statistics)
    usual = pull * whole.mean
    energy = whole.energy(statistics)[0]
    torch.testing.assert_close((pull * statistics - usual).sum(1), energy, rtol=1e-3, atol=1e-4)
    cells = divide_among_cells(maps, pull, usual, kept)
    assert cells.shape == (parts, 16, 16)
    if ignoring:
        # Half of what a coarse cell adds is interpolated into its ignored neighbour.
        assert float(cells[:, :7, :8].abs().max()) == 0
    torch.testing.assert_close(cells.mean((1, 2)), energy, rtol=1e-2, atol=1e-3)


def test_what_is_odd_in_one_place_is_found_there() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(60, 8, 16, 16, generator=generator)]
    whole = PartDensity.fit(pooled_statistics(maps), DensitySettings(couplings=0), seed=0)
    maps[0][0, :, 10:13, 4:7] += 6
    statistics = pooled_statistics(maps)[:1]
    pull = whole.pull(statistics)
    cells = divide_among_cells([maps[0][:1]], pull, pull * whole.mean)[0]
    inside = cells[10:13, 4:7].sum()
    assert float(inside / cells.sum()) > 0.6
