"""Variations of a good part: what else a second picture of the very same part might have shown.

From few parts little is known of how parts differ. What is known is how two pictures of one part differ: it
lies a little elsewhere, the light is not quite the same, the lens and the sensor add their own. Such
variations give the densities a scale where there are too few parts for one. They are no parts: from four
parts on the densities learn from them, and thresholds come from held-out parts alone; from one to three,
variations have to stand in for those too, nothing is promised, and a part of another shade than the ones that
were shown may be stranger than all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.records import Picture

# Pictures that few parts are made to, originals and variations together: enough for the folds, the couplings'
# trial and a tail, and a few seconds of the network. Fewer than four parts need a tail besides.
_PICTURES = 64
_PICTURES_OF_A_HANDFUL = 48
_HANDFUL = 3
# From about so many parts on variations add nothing (aliens, three seeds: image AUROC 99.2 from 43 parts
# with them, 99.4 from 44 without).
_ENOUGH = 32
# Variations are made of pictures of at most so many times the side that the network sees: it sees no more.
_OVERSAMPLING = 2


@dataclass(frozen=True)
class Strength:
    """How far variations go; every draw is uniform between minus and plus, unless said otherwise.

    Attributes:
        shift: Of the picture, share of its shorter side.
        turn: Degrees.
        zoom: Natural logarithm of the magnification.
        brightness: Added to every channel, white being 1.
        contrast: Logarithm of the factor about the picture's mean.
        gamma: Logarithm of the exponent.
        colour: Logarithm of each channel's own gain.
        blur: Largest standard deviation, share of the shorter side; from 0.
        noise: Largest standard deviation of a pixel, white being 1; from 0.
    """

    shift: float = 0.05
    turn: float = 6.0
    zoom: float = 0.06
    brightness: float = 0.06
    contrast: float = 0.15
    gamma: float = 0.15
    colour: float = 0.05
    blur: float = 0.004
    noise: float = 0.02


def strength_for(parts: int) -> Strength:
    """Return how far variations of so many different good parts go.

    Of one to three parts the variations are all that is known. From four on the parts show themselves how far
    they differ, and half is enough.
    """
    # Half ranked one part hardly better on the sample product and worse on aliens (three seeds, local density
    # without couplings: image AUROC 93.9 against 93.4 %, and 84.3 against 91.4 %); fewer good parts passed.
    full = Strength()
    if parts <= _HANDFUL:
        return full
    return Strength(**{name: far / 2 for name, far in asdict(full).items()})


def variations_for(parts: int) -> int:
    """Return how many variations join each of so few different good parts; 0 where there are enough.

    Example:
        >>> [variations_for(n) for n in (1, 2, 3, 4, 16, 31, 32)]
        [47, 23, 15, 15, 3, 1, 0]
    """
    if parts >= _ENOUGH:
        return 0
    return (_PICTURES_OF_A_HANDFUL if parts <= _HANDFUL else _PICTURES) // parts - 1


def fold_names(parts: Sequence[str], pictures: int) -> list[str]:
    """Return what each picture is dealt into folds by: of several parts the part, of one part the picture.

    A member that missed a whole part, variations included, shows how strange another part is; of one part
    only variations can be missed.

    Args:
        parts: Names of the different parts.
        pictures: Of each part, itself and its variations.

    Example:
        >>> fold_names(["a", "b"], 2), fold_names(["a"], 2)
        (['a', 'a', 'b', 'b'], ['a 0', 'a 1'])
    """
    if len(parts) == 1:
        return [f"{parts[0]} {number}" for number in range(pictures)]
    return [part for part in parts for _ in range(pictures)]


def vary(
    picture: Picture, number: int, seed: int, side: int, strength: Strength, *, move: bool = True
) -> Picture:
    """Return one variation of a picture, the same for the same picture, number and seed; 0 is itself.

    Args:
        picture: Of a good part.
        number: Of the variation.
        seed: Of all variations.
        side: Of the square that the network sees, pixels; larger pictures are reduced to twice as much.
        strength: How far, see `strength_for`.
        move: Also shift, turn and zoom, the border reflected. Not where regions of the picture are ignored:
            what they cover would come out beside them.

    Returns:
        Pixels of the same type without a path, under a hash of their own.
    """
    if number == 0:
        return picture
    key = hashlib.sha256(f"{seed}:{number}:{picture.sha256}".encode())
    draw = np.random.default_rng(np.frombuffer(key.digest(), dtype=np.uint32))
    white = float(np.iinfo(picture.pixels.dtype).max)
    seen = _reduced(picture.pixels, _OVERSAMPLING * side).astype(np.float32) / white
    if move:
        seen = _moved(seen, draw, strength)
    seen = _lit(seen, draw, strength)
    seen = _sensed(seen, draw, strength)
    pixels = np.rint(seen * white).astype(picture.pixels.dtype)
    return Picture(pixels, None, key.hexdigest(), picture.bit_depth)


def _reduced(pixels: NDArray[Any], most: int) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    scale = most / min(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _moved(seen: NDArray[np.float32], draw: np.random.Generator, far: Strength) -> NDArray[np.float32]:
    height, width = seen.shape[:2]
    turn, zoom = draw.uniform(-far.turn, far.turn), np.exp(draw.uniform(-far.zoom, far.zoom))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, zoom)
    matrix[:, 2] += min(height, width) * draw.uniform(-far.shift, far.shift, 2)
    return np.asarray(
        cv2.warpAffine(
            seen, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        ),
        dtype=np.float32,
    )


def _lit(seen: NDArray[np.float32], draw: np.random.Generator, far: Strength) -> NDArray[np.float32]:
    mean = seen.mean()
    contrast = np.exp(draw.uniform(-far.contrast, far.contrast))
    brightness = draw.uniform(-far.brightness, far.brightness)
    gain = np.exp(draw.uniform(-far.colour, far.colour, 3))
    gamma = np.exp(draw.uniform(-far.gamma, far.gamma))
    light = (mean + contrast * (seen - mean) + brightness) * gain
    return np.asarray(np.clip(light, 0, 1) ** gamma, dtype=np.float32)


def _sensed(seen: NDArray[np.float32], draw: np.random.Generator, far: Strength) -> NDArray[np.float32]:
    # A blur of less than a fifth of a pixel changes nothing.
    sigma = max(draw.uniform(0, far.blur) * min(seen.shape[:2]), 0.2)
    blurred = cv2.GaussianBlur(seen, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    noise = draw.uniform(0, far.noise) * draw.standard_normal(seen.shape, dtype=np.float32)
    return np.asarray(np.clip(blurred + noise, 0, 1), dtype=np.float32)
