"""What belongs to a network's input: sizes, strides of its maps, and the one preprocessing. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.records import DiffernetError

# Finer maps see texture rather than parts, coarser ones have too few patches to locate with.
STRIDES = (8, 16, 32)
"""Of the maps that are looked at by default, picture pixels."""
KNOWN_STRIDES = (4, *STRIDES)
# Below 64 the coarsest map has one cell, and no quadrants to pool.
SMALLEST_INPUT = 64
# One picture's input takes 0.8 GB there, and its maps half as much.
LARGEST_INPUT = 8192


class BackboneError(DiffernetError):
    """A network that cannot serve, or a device that is not there."""


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded picture becomes the network's input. Stored in every model.

    Pixels are resized to a square with OpenCV in their own bit depth (area averaging when both
    sides shrink, bilinear otherwise), divided by their full scale, and normalised.

    Attributes:
        size: Side of the square, pixels.
        mean, std: RGB, on a 0 to 1 scale.
        halving: Whether pictures of four times the size and more are halved first where their sides are even.
            That is several times as quick as averaging all of their pixels at once, and differs from it by a
            grey level or two: halves are rounded, and of two pixels that two cells of the square share both
            have as much. Models that do not say were trained without.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    halving: bool = False

    def __post_init__(self) -> None:
        if not SMALLEST_INPUT <= self.size <= LARGEST_INPUT or self.size % 32:
            raise BackboneError(
                expected=f"an image size of {SMALLEST_INPUT} to {LARGEST_INPUT} pixels, a multiple of 32",
                found=str(self.size),
                remedy="Use 256 unless the defects are smaller than about 1/50 of the picture.",
            )
        if not all(math.isfinite(m) for m in self.mean) or not all(0 < s < math.inf for s in self.std):
            raise BackboneError(
                expected="a finite mean and positive standard deviations",
                found=f"{self.mean} and {self.std}",
                remedy="Take them from the network's weights.",
            )

    def prepare(self, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
        """Turn ``(height, width, 3)`` RGB pixels into ``(3, size, size)`` network input, `cells` turned."""
        return self.cells(pixels).transpose(2, 0, 1)

    def cells(self, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
        """Turn ``(height, width, 3)`` RGB pixels into the same ``(size, size, 3)``, colours side by side.

        That is how pictures lie in memory, and how convolutions read them quickest.
        """
        full_scale = float(np.iinfo(pixels.dtype).max)
        shrinks = min(pixels.shape[:2]) > self.size
        if self.halving:
            pixels = _halved(pixels, 2 * self.size)
        resized = _averaged(pixels, self.size) if shrinks else cv2.resize(pixels, (self.size, self.size))
        scale = (1.0 / (full_scale * np.asarray(self.std))).astype(np.float32)
        offset = (np.asarray(self.mean) / np.asarray(self.std)).astype(np.float32)
        # Row by row with the three figures said as often as a row has pixels: numpy is slow at rows of three.
        rows: NDArray[np.float32] = resized.astype(np.float32).reshape(self.size, -1)
        rows *= np.tile(scale, self.size)
        rows -= np.tile(offset, self.size)
        return rows.reshape(self.size, self.size, 3)

    def to_json(self) -> dict[str, Any]:
        """Return plain fields."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the preprocessing that `to_json` described."""
        mean, std = ((float(a), float(b), float(c)) for a, b, c in (fields["mean"], fields["std"]))
        return cls(int(fields["size"]), mean, std, bool(fields.get("halving", False)))


def _averaged(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Average areas. Of a grey picture OpenCV would average three equal colours one by one."""
    row = pixels[len(pixels) // 2]
    if np.array_equal(row[:, 0], row[:, 2]):
        first = cv2.extractChannel(pixels, 0)
        if np.array_equal(cv2.merge([first] * 3), pixels):
            return np.asarray(cv2.merge([cv2.resize(first, (size, size), interpolation=cv2.INTER_AREA)] * 3))
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA))


def _halved(pixels: NDArray[Any], least: int) -> NDArray[Any]:
    """Halve a picture while its sides are even, and stay at least so long: pixels become means of four."""
    while min(pixels.shape[:2]) >= 2 * least and not any(length % 2 for length in pixels.shape[:2]):
        rows, columns = (length // 2 for length in pixels.shape[:2])
        pixels = np.asarray(cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA))
    return pixels
