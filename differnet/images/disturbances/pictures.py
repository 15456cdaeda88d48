"""A picture as the simulations see it: its contrast, its background, and where the part is.

Colours are floats here, 0 (black) to 1 (the type's maximum), so that ``uint8`` and ``uint16`` are one case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.quality import measure_quality
from differnet.records import DiffernetError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Real = TypeVar("Real", float, NDArray[np.floating[Any]])

LEAST_SIDE = 32
"""Pixels of the shortest side that anything is simulated on: on less, a small defect is a single pixel."""

FAINTEST_CONTRAST = 8 / 255
"""Contrast that a picture is taken to have at least, as a share of full scale. Below it there is hardly more
than a camera's noise (1 to 3 of 255 levels), and a change of a share of that could not be seen."""

# Longest side that a picture is looked at for its background: parts are found, not measured.
_LOOKED_SIDE = 256
# Share of the shorter side that counts as the picture's border.
_BORDER = 0.02
# A background is plain if this share of the border has its colour: parts may reach over the rest.
_PLAIN_SHARE = 0.75
# Contrasts that a pixel may be off the background's colour and still belong to it.
_BACKGROUND_SPREAD = 0.6
# A part takes up this share of the picture or more, and leaves the same share of background.
_LEAST_SHARE = 0.02
# Levels of 255 that a monochrome picture's channels may differ by, as JPEG rounds them.
_GREY_SPREAD = 1 / 255


class DisturbanceError(DiffernetError):
    """A defect or wrong input that cannot be simulated as asked."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is known of it.

    Attributes:
        pixels: ``(height, width, 3)``, contiguous.
        contrast: Standard deviation of luminance as a share of full scale, at least ``FAINTEST_CONTRAST``.
        grey: Whether the picture is monochrome; what is simulated on it is then monochrome too.
        content: ``(rows, columns)`` of the reduced picture: where the part is. Everywhere, if the picture
            has no plain background.
        background: RGB of the border, the median.
        plain: Whether there is a plain background with a part before it.
    """

    pixels: Pixels
    contrast: float
    grey: bool
    content: Mask
    background: Plane
    plain: bool

    @property
    def height(self) -> int:
        """Rows of ``pixels``."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of ``pixels``."""
        return int(self.pixels.shape[1])

    @property
    def side(self) -> int:
        """The shorter side, which sizes are shares of."""
        return min(self.height, self.width)

    def to_full(self, row: Real, column: Real) -> tuple[Real, Real]:
        """Return ``(x, y)`` of ``pixels`` for places of ``content``."""
        rows, columns = self.content.shape
        return column * self.width / columns, row * self.height / rows


def look_at(pixels: Pixels) -> Scene:
    """Measure a picture and find its part.

    The border's median colour is the background if three quarters of the border have it; the part is what
    has another colour. Pictures of a texture have no such border, and are all part.
    """
    pixels = as_pixels(np.ascontiguousarray(pixels), pixels)
    contrast = max(measure_quality(pixels).contrast, FAINTEST_CONTRAST)
    small = to_unit(reduce(pixels, _LOOKED_SIDE))
    background = np.median(small[_border(small.shape[:2])], axis=0).astype(np.float32)
    off = most(np.abs(small - background)) > _BACKGROUND_SPREAD * contrast
    content = _without_holes(
        cv2.morphologyEx(off.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    )
    plain = bool(np.mean(off[_border(off.shape)]) <= 1.0 - _PLAIN_SHARE)
    plain = plain and bool(_LEAST_SHARE <= content.mean() <= 1.0 - _LEAST_SHARE)
    return Scene(
        pixels=pixels,
        contrast=contrast,
        grey=bool((most(small) + most(-small)).mean() < _GREY_SPREAD),
        content=content if plain else np.ones_like(content),
        background=background,
        plain=plain,
    )


def to_unit(pixels: Pixels) -> Plane:
    """Return colours from 0 to 1."""
    return np.asarray(pixels, np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def from_unit(colours: NDArray[Any], like: Pixels) -> Pixels:
    """Return colours as pixels of another picture's type, rounded; what is out of range saturates."""
    full = np.iinfo(like.dtype).max
    # In double precision: single precision would round some of 65,536 levels to a neighbour.
    return as_pixels(np.rint(np.clip(colours, 0.0, 1.0).astype(np.float64) * full), like)


def as_pixels(values: NDArray[Any], like: Pixels) -> Pixels:
    """Return values as an array of another picture's type, which OpenCV's results are not known to be."""
    if like.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    return values.astype(np.uint16, copy=False)


def most(colours: Plane) -> Plane:
    """Return each pixel's largest channel, ten times as fast as numpy's own along the last axis."""
    return np.maximum(np.maximum(colours[..., 0], colours[..., 1]), colours[..., 2])


def reduce(pixels: Pixels, side: int) -> Pixels:
    """Average a picture down to ``side`` pixels at its longest side; smaller ones stay as they are."""
    longest = max(pixels.shape[:2])
    if longest <= side:
        return pixels
    height, width = (max(1, round(edge * side / longest)) for edge in pixels.shape[:2])
    return as_pixels(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), pixels)


def check_picture(pixels: object, role: str = "the picture") -> None:
    """Refuse what is no RGB picture of 8 or 16 bits, or one that is too small."""
    array: NDArray[Any] = pixels if isinstance(pixels, np.ndarray) else np.empty(0)
    if not (array.dtype in (np.uint8, np.uint16) and array.ndim == 3 and array.shape[2] == 3):
        is_array = array is pixels
        raise DisturbanceError(
            expected=f"{role} as an array (height, width, 3) of uint8 or uint16",
            found=f"{array.dtype} of shape {array.shape}" if is_array else type(pixels).__name__,
            remedy="Read the file with differnet.read_image and hand over its pixels.",
        )
    if min(array.shape[:2]) < LEAST_SIDE:
        raise DisturbanceError(
            expected=f"{role} with at least {LEAST_SIDE} pixels a side",
            found=f"{array.shape[0]} x {array.shape[1]} (height x width)",
            remedy="Use the pictures as the camera takes them.",
        )


def check_pictures(pictures: Sequence[Pixels], role: str) -> None:
    """Refuse a collection that holds anything but pictures."""
    if isinstance(pictures, np.ndarray) and pictures.ndim == 3:
        raise DisturbanceError(
            expected=f"a list of pictures as {role}", found="one picture", remedy="Put it into a list."
        )
    for picture in pictures:
        check_picture(picture, f"each of {role}")


def check_choice(kind: str, kinds: tuple[str, ...], generator: object) -> None:
    """Refuse an unknown kind, and randomness that is not a generator's."""
    if kind not in kinds:
        raise DisturbanceError(
            expected=f"one of {', '.join(kinds)}", found=repr(kind)[:80], remedy="Choose one of those."
        )
    if not isinstance(generator, np.random.Generator):
        raise DisturbanceError(
            expected="a numpy random Generator",
            found=type(generator).__name__,
            remedy="Make one with numpy.random.default_rng(seed).",
        )


def _without_holes(content: NDArray[np.uint8]) -> Mask:
    """Count as part what the background reaches from no border: its own dark or bright faces, and bores."""
    _, labels = cv2.connectedComponents(1 - content, connectivity=4)
    around = np.asarray(labels)
    reached = np.unique(around[_border(around.shape)])
    return np.asarray(~np.isin(around, reached[reached > 0]), np.bool_)


def _border(shape: tuple[int, ...]) -> Mask:
    width = max(1, round(_BORDER * min(shape[:2])))
    border = np.ones(shape[:2], np.bool_)
    border[width:-width, width:-width] = False
    return border
