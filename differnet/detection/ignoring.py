"""Regions of a product's pictures that count for nothing: a label, a conveyor, a clamp. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from differnet.detection.manifest import CELL
from differnet.detection.settings import DetectorError
from differnet.images.reading import ImageError, ReadingRule, read_image

# What is left of a picture beyond that is no part that could be judged.
MOST_IGNORED = 0.95


@dataclass(frozen=True)
class IgnoreMask:
    """Which cells of every picture are ignored, on one grid over the picture.

    What is ignored is painted over before the picture is resized, with the colour that the network's input
    calls zero. Patches beside the region therefore see the same there in every picture, and nothing of what
    is ignored reaches them, neither by interpolation nor through the network's receptive field.

    Attributes:
        cells: ``(side, side)`` bool; true is ignored.

    Raises:
        DetectorError: More than 95 % is ignored.
    """

    cells: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.share <= MOST_IGNORED:
            raise DetectorError(
                expected=f"a mask that ignores at most {MOST_IGNORED:.0%} of the picture",
                found=f"one that ignores {'everything' if self.share == 1 else f'{self.share:.1%}'}",
                remedy="Its pixels above 0 are ignored; invert it if it shows what is to be inspected.",
            )

    @property
    def share(self) -> float:
        """How much of the picture is ignored, 0 to 1."""
        return float(self.cells.mean())

    @classmethod
    def read(cls, path: Path, sizes: Sequence[int], rule: ReadingRule) -> Self:
        """Read a mask that lies over every picture of the product, whatever size it has.

        A cell is ignored where any pixel of it is above 0.

        Args:
            path: The mask's file.
            sizes: Sides of the network's inputs, pixels.
            rule: How files are read.

        Raises:
            DetectorError: The file cannot be read, or it ignores more than 95 %.
        """
        try:
            # What is transparent in a mask marks nothing.
            pixels = read_image(path, replace(rule, background=(0, 0, 0))).pixels
        except ImageError as error:
            raise DetectorError(
                expected=f"a mask at {path}", found=str(error), remedy="Give a picture of what to ignore."
            ) from error
        side = max(sizes) // CELL
        return cls(_touched(np.asarray(pixels.max(axis=2) > 0), side, side))

    def over(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return which of ``(height, width)`` pixels over the whole picture touch an ignored cell."""
        return _touched(self.cells, height, width)

    def kept_share(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Return how much of each cell of a coarser grid is kept, ``(rows, columns)`` from 0 to 1."""
        down, across = averages(self.cells.shape[0], rows), averages(self.cells.shape[1], columns)
        return (down @ ~self.cells @ across.T).astype(np.float32)

    def kept(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """Return the cells of a grid of which more than half is kept, ``(rows, columns)`` bool.

        Raises:
            DetectorError: There are none.
        """
        kept = self.kept_share(rows, columns) > 0.5
        if not kept.any():
            raise DetectorError(
                expected="a mask that leaves a patch of every scale",
                found=f"one that leaves none of {rows} x {columns}",
                remedy="Ignore less, or choose a larger image size or a finer scale.",
            )
        return kept

    def paint(self, pixels: NDArray[Any], colour: Sequence[float]) -> NDArray[Any]:
        """Return a copy of ``(height, width, 3)`` pixels with what is ignored in one colour.

        Args:
            pixels: RGB, whole numbers.
            colour: On a 0 to 1 scale.
        """
        painted = pixels.copy()
        shade = np.round(np.asarray(colour) * np.iinfo(pixels.dtype).max).astype(pixels.dtype)
        painted[self.over(*pixels.shape[:2])] = shade
        return painted


def averages(length: int, cells: int) -> NDArray[np.float64]:
    """Return ``(cells, length)`` weights that average a row into cells, which may overlap."""
    found = np.zeros((cells, length))
    for cell in range(cells):
        first, behind = cell * length // cells, -(-(cell + 1) * length // cells)
        found[cell, first:behind] = 1 / (behind - first)
    return found


def _touched(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Lay a grid over a mask: true where a cell touches a true pixel, be it larger or smaller than one."""
    for axis, count in ((0, height), (1, width)):
        had = mask.shape[axis]
        index = np.arange(count)
        first, behind = index * had // count, -(-(index + 1) * had // count)
        if count >= had:
            # No cell touches more than two pixels.
            mask = mask.take(first, axis) | mask.take(behind - 1, axis)
            continue
        before = np.concatenate(
            [np.zeros_like(mask.take([0], axis), np.int32), mask.cumsum(axis, dtype=np.int32)], axis
        )
        mask = before.take(behind, axis) > before.take(first, axis)
    return mask
