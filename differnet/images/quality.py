"""Cheap figures of a picture: light, contrast, sharpness. They say *what kind* of picture it is.

Whether a figure is unusual is for calibration to say, which knows the good parts; only facts that
hold for any part (a constant picture shows nothing) become flags here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Longest side that figures are measured at: a network sees the part at about this size, and it makes
# sharpness comparable between cameras of different resolution.
_MEASURED_SIDE = 512
# Pixels that shares are counted on; their standard error is then below 0.1 points.
_COUNTED_PIXELS = 300_000
# A picture with so few other pixels shows no part: 1 in 1,000 may be hot pixels.
_NEARLY_ALL = 0.999


@dataclass(frozen=True)
class QualityFigures:
    """What a picture is like. All but entropy are between 0 and 1 or without unit.

    Attributes:
        brightness: Mean luminance, 0 (black) to 1 (white).
        contrast: Standard deviation of luminance, 0 to 0.5.
        black_share: Share of pixels whose three channels are all at 0.
        white_share: Share of pixels whose three channels are all at the maximum.
        sharpness: Standard deviation of the Laplacian divided by ``contrast``, at most 512 pixels
            a side: 0 (no detail) to about 4.5 (white noise); 0 for a constant picture.
        entropy: Of the luminance histogram of 256 steps, bits: 0 to 8.
        colour_cast: Largest less smallest channel mean, 0 (neutral) to 1.
        constant: Whether all pixels are exactly equal.
    """

    brightness: float
    contrast: float
    black_share: float
    white_share: float
    sharpness: float
    entropy: float
    colour_cast: float
    constant: bool


def measure_quality(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> QualityFigures:
    """Measure a picture.

    Args:
        pixels: ``(height, width, 3)`` RGB, ``uint8`` or ``uint16``.

    Returns:
        Finite figures, also for a single pixel.

    >>> measure_quality(np.full((8, 8, 3), 51, np.uint8)).brightness
    0.2
    """
    full = float(np.iinfo(pixels.dtype).max)
    small = _reduced(pixels)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    black, white = _saturated_shares(pixels, int(full))
    return QualityFigures(
        **_principal(small, grey, full),
        black_share=black,
        white_share=white,
        entropy=_entropy(grey),
        constant=_is_constant(pixels),
    )


def principal_figures(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[str, float]:
    """Measure brightness, contrast, sharpness and colour cast as `measure_quality` does, by their names.

    >>> principal_figures(np.full((8, 8, 3), 51, np.uint8))["brightness"]
    0.2
    """
    full = float(np.iinfo(pixels.dtype).max)
    small = _reduced(pixels)
    return _principal(small, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), full)


def _principal(small: NDArray[Any], grey: NDArray[Any], full: float) -> dict[str, float]:
    mean, deviation = (float(value[0, 0]) / full for value in cv2.meanStdDev(grey))
    channels = [float(value) / full for value in cv2.mean(small)[:3]]
    return {
        "brightness": mean,
        "contrast": deviation,
        "sharpness": _sharpness(grey, deviation * full),
        "colour_cast": max(channels) - min(channels),
    }


def quality_flags(figures: QualityFigures) -> tuple[str, ...]:
    """Name what is wrong with a picture of any part: ``constant``, ``black``, ``white``.

    >>> quality_flags(measure_quality(np.zeros((8, 8, 3), np.uint8)))
    ('constant', 'black')
    """
    return _flags(figures.black_share, figures.white_share, constant=figures.constant)


def picture_flags(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> tuple[str, ...]:
    """Return the `quality_flags` of a picture, without measuring what they do not depend on.

    >>> picture_flags(np.full((8, 8, 3), 255, np.uint8))
    ('constant', 'white')
    """
    black, white = _saturated_shares(pixels, int(np.iinfo(pixels.dtype).max))
    return _flags(black, white, constant=_is_constant(pixels))


def _flags(black: float, white: float, *, constant: bool) -> tuple[str, ...]:
    facts = {"constant": constant, "black": black >= _NEARLY_ALL, "white": white >= _NEARLY_ALL}
    return tuple(name for name, holds in facts.items() if holds)


def _reduced(pixels: NDArray[Any]) -> NDArray[Any]:
    longest = max(pixels.shape[:2])
    if longest <= _MEASURED_SIDE:
        return np.ascontiguousarray(pixels)
    height, width = (max(1, round(side * _MEASURED_SIDE / longest)) for side in pixels.shape[:2])
    step = min(longest // _MEASURED_SIDE, *pixels.shape[:2])
    rows, columns = (side // step for side in pixels.shape[:2])
    # Area averaging: dropping pixels instead would turn fine texture into false sharpness. Whole
    # steps first, because they are four times as fast; the last incomplete step is left out.
    whole = pixels[: rows * step, : columns * step]
    stepped = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(stepped, (width, height), interpolation=cv2.INTER_AREA))


def _saturated_shares(pixels: NDArray[Any], full: int) -> tuple[float, float]:
    height, width = pixels.shape[:2]
    step = max(1, math.isqrt(height * width // _COUNTED_PIXELS))
    # On original values: an average of black and white neighbours is neither.
    chosen = np.ascontiguousarray(pixels[::step, ::step])
    count = chosen.shape[0] * chosen.shape[1]
    black = cv2.countNonZero(cv2.inRange(chosen, (0, 0, 0), (0, 0, 0)))
    white = cv2.countNonZero(cv2.inRange(chosen, (full,) * 3, (full,) * 3))
    return black / count, white / count


def _sharpness(grey: NDArray[Any], deviation: float) -> float:
    if deviation <= 0.0:
        return 0.0
    laplacian = cv2.Laplacian(grey, cv2.CV_32F)
    return float(cv2.meanStdDev(laplacian)[1][0, 0]) / deviation


def _entropy(grey: NDArray[Any]) -> float:
    steps = grey if grey.dtype == np.uint8 else (grey >> 8).astype(np.uint8)
    shares = np.bincount(steps.ravel(), minlength=256) / steps.size
    shares = shares[shares > 0]
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def _is_constant(pixels: NDArray[Any]) -> bool:
    first = pixels[0, 0]
    # The first row settles it for nearly every real picture.
    return bool((pixels[0] == first).all() and (pixels == first).all())
