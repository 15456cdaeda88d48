"""Strange areas of a heat map: where they are, how strong, and which are kept."""

from __future__ import annotations

import numpy as np
import pytest

from differnet.detection.regions import strange_regions

PEAKS = np.arange(1.0, 20.0)


def test_regions_are_boxes_of_connected_cells_the_strongest_first() -> None:
    heat = np.zeros((20, 30), np.float32)
    heat[2:5, 3:9] = 6
    heat[3, 4] = 7.5
    heat[10:12, 20:22] = 30
    heat[12, 22] = 5
    first, second = strange_regions(heat, 5.0, PEAKS)
    assert (first.x, first.y, first.width, first.height, first.area) == (20, 10, 3, 3, 5)
    assert (first.peak, first.p_value) == (30, 1 / 20)
    assert (second.x, second.y, second.width, second.height, second.area) == (3, 2, 6, 3, 18)
    assert (second.peak, second.p_value) == (7.5, 13 / 20)


def test_threshold_itself_is_strange() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 3
    assert len(strange_regions(heat, 3.0, PEAKS)) == 1
    assert strange_regions(heat, np.nextafter(np.float32(3), np.float32(4)), PEAKS) == ()


def test_peak_of_a_region_is_its_own_and_not_a_neighbours_in_its_box() -> None:
    heat = np.zeros((9, 9), np.float32)
    heat[0, :] = heat[:, 0] = 5
    heat[4, 4] = 50
    regions = strange_regions(heat, 5.0, PEAKS)
    assert [r.peak for r in regions] == [50, 5]
    assert (regions[1].width, regions[1].height, regions[1].area) == (9, 9, 17)


@pytest.mark.parametrize("value", [0.0, np.nan, -np.inf])
def test_nothing_strange_is_no_region(value: float) -> None:
    assert strange_regions(np.full((5, 5), value, np.float32), 1.0, PEAKS) == ()


def test_a_picture_that_is_strange_everywhere_is_one_region() -> None:
    (region,) = strange_regions(np.full((6, 8), 9, np.float32), 1.0, PEAKS)
    assert (region.x, region.y, region.width, region.height, region.area) == (0, 0, 8, 6, 48)


def test_only_the_twenty_strongest_are_kept() -> None:
    heat = np.zeros((20, 20), np.float32)
    heat[::2, ::2] = np.arange(1, 101, dtype=np.float32).reshape(10, 10)
    assert [r.peak for r in strange_regions(heat, 1.0, PEAKS)] == list(range(100, 80, -1))
