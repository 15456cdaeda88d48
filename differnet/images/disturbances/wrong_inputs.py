"""Pictures that no model of good parts knows, made from one that it does: no part, no light, a turned one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.disturbances.pictures import (
    DisturbanceError,
    Pixels,
    Plane,
    Scene,
    as_pixels,
    check_choice,
    check_picture,
    check_pictures,
    from_unit,
    look_at,
    to_unit,
)

DEFAULT_STRENGTHS = (0.3, 1.0)
"""Strengths that are drawn from, uniformly."""

# Exponent between stored values and light: the plain approximation of sRGB's curve (IEC 61966-2-1).
_GAMMA = 2.2


@dataclass(frozen=True)
class _Asked:
    """What a wrong input is made from.

    Attributes:
        scene: The picture and its background.
        others: Pictures of other products.
        strength: Above 0, up to 1.
    """

    scene: Scene
    others: Sequence[Pixels]
    strength: float

    def between(self, mild: float, severe: float) -> float:
        """Go from ``mild`` (strength 0) to ``severe`` (1) by equal factors."""
        return float(mild * (severe / mild) ** self.strength)


def simulate_wrong_input(
    pixels: Pixels,
    kind: str,
    generator: np.random.Generator,
    *,
    others: Sequence[Pixels] = (),
    strength: float | None = None,
) -> Pixels:
    """Turn the photograph of a good part into a picture that no verdict should be given on.

    ============= ========================================================== ==============================
    kind          what it is                                                 strength 0 to 1
    ============= ========================================================== ==============================
    black         no light: every value 0
    white         far too much: every value the maximum
    noise         normal noise of every pixel, no part
    blur          the whole picture smoothed by a Gaussian                   0.4 to 5 % of the side
    defocus       a lens out of focus: points of light become discs          radius 0.6 to 5 % of the side
    overexposure  light times a power of two, then cut off                   0.8 to 3.5 stops
    underexposure light divided by a power of two                            1 to 5 stops
    rotation_90   the part a quarter turned, to the left or right
    rotation_180  the part upside down
    rotation      the part turned by any angle, to the left or right         5 to 175 degrees
    mirror        the part's mirror image, left and right exchanged
    crop          the camera nearer, off the middle                          1.15 to 3 times
    colour_cast   another camera: other gains of the channels, a lifted black gains off by 5 to 35 %
    other_product a picture of ``others``, cut and scaled to the same shape
    ============= ========================================================== ==============================

    Lengths and factors go from one end to the other by equal factors, angles by equal steps. What a turned
    part leaves free is filled with the background's colour, or with the picture's reflection where there is
    no plain background. A picture may come back as it was: a symmetric part has no wrong side.

    Args:
        pixels: ``(height, width, 3)`` RGB, ``uint8`` or ``uint16``, at least ``LEAST_SIDE`` a side. They are
            left alone.
        kind: One of ``WRONG_INPUT_SIMULATIONS``.
        generator: The only source of randomness.
        others: Pictures of other products, for ``other_product``; of any size and depth.
        strength: Above 0 and up to 1, for the kinds in ``GRADED_WRONG_INPUTS``; without it, it is drawn from
            ``DEFAULT_STRENGTHS``.

    Returns:
        A new picture of the type and shape of ``pixels``.

    Raises:
        DisturbanceError: An argument is not as described, or a kind without strengths is given one.

    >>> good = np.full((32, 48, 3), 200, np.uint8)
    >>> int(simulate_wrong_input(good, "underexposure", np.random.default_rng(0), strength=1.0).max())
    41
    """
    check_choice(kind, WRONG_INPUT_SIMULATIONS, generator)
    check_picture(pixels)
    check_pictures(others, "others")
    _check_strength(kind, strength)
    if kind == "other_product" and not others:
        raise DisturbanceError(
            expected="pictures of other products as others",
            found="none",
            remedy="Give some, or choose another kind of wrong input.",
        )
    if strength is None:
        strength = generator.uniform(*DEFAULT_STRENGTHS)
    made = _MAKERS[kind](_Asked(look_at(pixels), others, float(strength)), generator)
    return as_pixels(np.ascontiguousarray(made), pixels)


def _check_strength(kind: str, strength: object) -> None:
    if strength is None:
        return
    if kind not in GRADED_WRONG_INPUTS:
        raise DisturbanceError(
            expected=f"no strength: {kind} has none",
            found=repr(strength)[:80],
            remedy=f"Leave it out, or choose one of {', '.join(GRADED_WRONG_INPUTS)}.",
        )
    if not (isinstance(strength, int | float | np.number) and 0.0 < strength <= 1.0):
        raise DisturbanceError(
            expected="a strength above 0 and up to 1",
            found=repr(strength)[:80],
            remedy=f"Leave it out for one drawn from {DEFAULT_STRENGTHS}.",
        )


def _black(asked: _Asked, generator: np.random.Generator) -> Pixels:
    return np.zeros_like(asked.scene.pixels)


def _white(asked: _Asked, generator: np.random.Generator) -> Pixels:
    pixels = asked.scene.pixels
    return np.full_like(pixels, np.iinfo(pixels.dtype).max)


def _noise(asked: _Asked, generator: np.random.Generator) -> Pixels:
    pixels = asked.scene.pixels
    shape = (*pixels.shape[:2], 1 if asked.scene.grey else 3)
    level, deviation = generator.uniform(0.3, 0.7), generator.uniform(0.12, 0.3)
    noise = level + deviation * generator.standard_normal(shape, np.float32)
    return from_unit(np.broadcast_to(noise, pixels.shape), pixels)


def _blur(asked: _Asked, generator: np.random.Generator) -> Pixels:
    pixels = asked.scene.pixels
    sigma = asked.between(0.004, 0.05) * asked.scene.side
    return from_unit(cv2.GaussianBlur(to_unit(pixels), (0, 0), sigma), pixels)


def _defocus(asked: _Asked, generator: np.random.Generator) -> Pixels:
    pixels = asked.scene.pixels
    radius = max(1.0, asked.between(0.006, 0.05) * asked.scene.side)
    reach = math.ceil(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0).astype(np.float32)
    # A lens adds light, not stored values: bright points grow into discs, which a Gaussian would not show.
    light = cv2.filter2D(to_unit(pixels) ** _GAMMA, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101)
    return from_unit(np.clip(light, 0.0, 1.0) ** (1 / _GAMMA), pixels)


def _overexposure(asked: _Asked, generator: np.random.Generator) -> Pixels:
    return _exposed(asked, asked.between(0.8, 3.5))


def _underexposure(asked: _Asked, generator: np.random.Generator) -> Pixels:
    return _exposed(asked, -asked.between(1.0, 5.0))


def _exposed(asked: _Asked, stops: float) -> Pixels:
    pixels = asked.scene.pixels
    return from_unit(to_unit(pixels) * 2.0 ** (stops / _GAMMA), pixels)


def _rotation_90(asked: _Asked, generator: np.random.Generator) -> Pixels:
    quarters = int(generator.choice((1, 3)))
    pixels = asked.scene.pixels
    if pixels.shape[0] == pixels.shape[1]:
        return as_pixels(np.rot90(pixels, quarters), pixels)
    return _turned(asked.scene, 90.0 * quarters)


def _rotation_180(asked: _Asked, generator: np.random.Generator) -> Pixels:
    return as_pixels(asked.scene.pixels[::-1, ::-1], asked.scene.pixels)


def _rotation(asked: _Asked, generator: np.random.Generator) -> Pixels:
    return _turned(asked.scene, float(generator.choice((-1.0, 1.0))) * (5.0 + 170.0 * asked.strength))


def _turned(scene: Scene, degrees: float) -> Pixels:
    """Turn the part about the picture's middle, to the left, in a frame that stays."""
    matrix = cv2.getRotationMatrix2D(((scene.width - 1) / 2, (scene.height - 1) / 2), degrees, 1.0)
    full = np.iinfo(scene.pixels.dtype).max
    made = cv2.warpAffine(
        scene.pixels,
        matrix,
        (scene.width, scene.height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT if scene.plain else cv2.BORDER_REFLECT_101,
        borderValue=[float(value) * full for value in scene.background],
    )
    return as_pixels(made, scene.pixels)


def _mirror(asked: _Asked, generator: np.random.Generator) -> Pixels:
    return as_pixels(asked.scene.pixels[:, ::-1], asked.scene.pixels)


def _crop(asked: _Asked, generator: np.random.Generator) -> Pixels:
    scene, zoom = asked.scene, asked.between(1.15, 3.0)
    height, width = max(1, round(scene.height / zoom)), max(1, round(scene.width / zoom))
    top = int(generator.integers(scene.height - height + 1))
    left = int(generator.integers(scene.width - width + 1))
    return _fitted(scene.pixels[top : top + height, left : left + width], scene.pixels)


def _colour_cast(asked: _Asked, generator: np.random.Generator) -> Pixels:
    pixels = asked.scene.pixels
    direction = generator.standard_normal(3)
    # Without its mean it is a cast, not an exposure.
    direction -= direction.mean()
    direction /= np.abs(direction).max()
    amount = asked.between(0.05, 0.35)
    lift = 0.1 * amount * generator.uniform(0.0, 1.0, 3)
    return from_unit(lift + to_unit(pixels) * (1.0 - lift) * (1.0 + amount * direction), pixels)


def _other_product(asked: _Asked, generator: np.random.Generator) -> Pixels:
    other = asked.others[int(generator.integers(len(asked.others)))]
    pixels = asked.scene.pixels
    # The largest cut from its middle that has the right proportions.
    scale = min(other.shape[0] / pixels.shape[0], other.shape[1] / pixels.shape[1])
    height, width = (max(1, round(scale * edge)) for edge in pixels.shape[:2])
    top, left = (other.shape[0] - height) // 2, (other.shape[1] - width) // 2
    return _fitted(other[top : top + height, left : left + width], pixels)


def _fitted(cut: NDArray[Any], like: Pixels) -> Pixels:
    """Scale a cut to another picture's shape and type."""
    smaller = cut.shape[0] > like.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    sized: Plane = np.asarray(cv2.resize(to_unit(cut), like.shape[1::-1], interpolation=how), np.float32)
    return from_unit(sized, like)


_GRADED: dict[str, Callable[[_Asked, np.random.Generator], Pixels]] = {
    "blur": _blur,
    "defocus": _defocus,
    "overexposure": _overexposure,
    "underexposure": _underexposure,
    "rotation": _rotation,
    "crop": _crop,
    "colour_cast": _colour_cast,
}
_MAKERS: dict[str, Callable[[_Asked, np.random.Generator], Pixels]] = {
    "black": _black,
    "white": _white,
    "noise": _noise,
    "rotation_90": _rotation_90,
    "rotation_180": _rotation_180,
    "mirror": _mirror,
    "other_product": _other_product,
    **_GRADED,
}

WRONG_INPUT_SIMULATIONS: tuple[str, ...] = tuple(_MAKERS)
"""Every kind of wrong input that :func:`simulate_wrong_input` makes."""

GRADED_WRONG_INPUTS: tuple[str, ...] = tuple(_GRADED)
"""Those of them that have a strength."""
