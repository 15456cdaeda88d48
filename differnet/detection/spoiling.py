"""Good parts spoilt in every way: what a boundary between defects and wrong inputs is learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.disturbances import (
    DEFAULT_SIZES,
    DEFECT_SIMULATIONS,
    LEAST_SIDE,
    WRONG_INPUT_SIMULATIONS,
    simulate_defect,
    simulate_wrong_input,
)
from differnet.records import Picture

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

# Real defects are now and then as large as the part: a break, a wash of the wrong colour.
_SIZES = (DEFAULT_SIZES, (DEFAULT_SIZES[1], 0.7))
# A picture of another product would have to be given.
_WRONG_INPUTS = tuple(kind for kind in WRONG_INPUT_SIMULATIONS if kind != "other_product")


def reduced(picture: Picture, side: int) -> Picture:
    """Return a picture whose shorter side has at most ``side`` pixels, and enough to be spoilt.

    Spoiling a photograph of many megapixels takes seconds, and the network sees little of them.
    """
    shorter = min(picture.pixels.shape[:2])
    scale = min(1.0, side / shorter) if shorter >= LEAST_SIDE else LEAST_SIDE / shorter
    if scale == 1.0:
        return picture
    height, width = (max(LEAST_SIDE, round(scale * edge)) for edge in picture.pixels.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return replace(picture, pixels=cv2.resize(picture.pixels, (width, height), interpolation=how))


def broken_parts(part: Picture, donor: Picture, rng: np.random.Generator) -> list[Picture]:
    """Return a good part with each kind of simulated defect, every other one large.

    Args:
        part: The part.
        donor: Another, for textures.
        rng: The only source of randomness.
    """
    broken = [
        simulate_defect(part.pixels, kind, rng, donors=[donor.pixels], size=sizes)[0]
        for kind, sizes in zip(DEFECT_SIMULATIONS, _sizes(rng), strict=True)
    ]
    return [_picture(pixels, part) for pixels in broken]


def wrong_inputs(part: Picture, rng: np.random.Generator) -> dict[str, Picture]:
    """Return each kind of wrong input that a photograph of a good part can be turned into, by its name.

    Args:
        part: The part.
        rng: The only source of randomness.
    """
    return {kind: _picture(simulate_wrong_input(part.pixels, kind, rng), part) for kind in _WRONG_INPUTS}


def _sizes(rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Yield a size a kind, half of them small; which half differs between parts."""
    first = int(rng.integers(2))
    for number in range(len(DEFECT_SIMULATIONS)):
        yield _SIZES[(first + number) % 2]


def _picture(pixels: Pixels, like: Picture) -> Picture:
    return Picture(pixels, None, hashlib.sha256(pixels.tobytes()).hexdigest(), bit_depth=like.bit_depth)
