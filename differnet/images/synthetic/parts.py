"""One picture at a time: a good part, a part with a defect and its mask, or something that is neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.synthetic import geometry
from differnet.images.synthetic.defects import DEFECTS
from differnet.images.synthetic.geometry import Plane, Surface
from differnet.images.synthetic.rendering import Shot, develop, draw_noise, draw_shot, expose
from differnet.records import DiffernetError

Pixels = NDArray[np.uint8]

MASK_LEVEL = 6
"""A pixel belongs to a defect where a channel moved by more than this many of 255 levels. That is three
standard deviations of the sensor's noise in the dark and six in the light: less could not be seen."""

SPECK = 5
"""Changes of fewer connected pixels than this are undone: a defect is not a single pixel."""

SMALLEST_AREA = 40.0 / 320.0**2
"""Least area of a defect as a share of the picture; a smaller draw is repeated with more severity."""

FAINTEST = 12.0
"""Least mean change over a defect's mask, in levels of its most changed channel; a fainter draw is likewise
repeated. It is half of what a typical scratch changes (median of 20 seeds: 24)."""

DEFECT_KINDS: tuple[str, ...] = tuple(DEFECTS)
"""What ``render_part`` can do to a part."""


class SyntheticError(DiffernetError):
    """Something was asked of the sample product that it does not have."""


@dataclass(frozen=True)
class RenderedPart:
    """One picture of the sample product with its truth.

    Attributes:
        pixels: ``(size, size, 3)`` RGB.
        mask: ``(size, size)``; exactly the pixels that differ by more than ``MASK_LEVEL`` in any channel from
            the picture of the same part without its defect. All ``False`` for a good part.
        defect: One of ``DEFECT_KINDS``, or ``None``.
    """

    pixels: Pixels
    mask: NDArray[np.bool_]
    defect: str | None


def render_part(seed: int, *, defect: str | None = None, size: int = 320) -> RenderedPart:
    """Render one part of the sample product.

    The same seed gives the same part, light and noise whatever the defect, so that pictures with and without
    it can be compared pixel by pixel.

    Args:
        seed: Not negative; any size.
        defect: One of ``DEFECT_KINDS``; ``None`` renders a good part.
        size: Pixels along one edge, at least 64.

    Raises:
        SyntheticError: ``defect`` or ``size`` is not one that can be rendered.

    Example:
        >>> part = render_part(7, defect="scratch", size=128)
        >>> part.pixels.shape, part.mask.shape, bool(part.mask.any())
        ((128, 128, 3), (128, 128), True)
    """
    _check_kind(defect, (None, *DEFECT_KINDS), "a kind of defect")
    _check_size(size)
    shot = draw_shot(_stream(seed, 0))
    good_light = expose(_assemble(shot, size), shot, size)
    noise = draw_noise(good_light, shot.noise_gain, _stream(seed, 1))
    good = develop(good_light, noise)
    if defect is None:
        return RenderedPart(good, np.zeros((size, size), dtype=np.bool_), None)
    for attempt in range(8):
        rng = _stream(seed, 2, DEFECT_KINDS.index(defect), attempt)
        surface = _assemble(shot, size)
        DEFECTS[defect](surface, rng, min(float(rng.uniform()) + 0.15 * attempt, 1.0))
        pixels, mask = _compare(good, develop(expose(surface, shot, size), noise))
        if _is_visible(good, pixels, mask):
            break
    return RenderedPart(pixels, mask, defect)


def render_wrong_input(seed: int, kind: str, size: int = 320) -> Pixels:
    """Render a picture that an inspection must refuse rather than judge.

    Args:
        seed: Not negative; any size.
        kind: One of ``WRONG_INPUT_KINDS``.
        size: Pixels along one edge, at least 64.

    Returns:
        ``(size, size, 3)`` RGB.

    Raises:
        SyntheticError: ``kind`` or ``size`` is not one that can be rendered.
    """
    _check_kind(kind, WRONG_INPUT_KINDS, "a kind of wrong input")
    _check_size(size)
    rng = _stream(seed, 3, WRONG_INPUT_KINDS.index(kind))
    shot = draw_shot(_stream(seed, 0))
    light = _WRONG_INPUTS[kind](shot, rng, size)
    gain = shot.noise_gain * (24.0 if kind == "noise" else 1.0)
    return develop(light, draw_noise(light, gain, _stream(seed, 1)))


def _stream(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one purpose: draws for one never move the draws for another."""
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))


def _assemble(shot: Shot, size: int) -> Surface:
    surface = geometry.flange(size * geometry.SUPERSAMPLING).copy()
    geometry.set_screws(surface, geometry.screw_centres(), shot.screw_angles, shot.screw_shine)
    metals = np.asarray(shot.batch_tint, dtype=np.float32)
    surface.tint *= metals
    return surface


def _compare(good: Pixels, spoilt: Pixels) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the spoilt picture, its specks undone, and the mask of what differs."""
    changed = cv2.absdiff(good, spoilt).max(axis=2) > MASK_LEVEL
    _, labels, stats, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8), connectivity=8)
    areas = np.asarray(stats)[:, cv2.CC_STAT_AREA]
    speck = changed & (areas[np.asarray(labels)] < SPECK)
    pixels = np.where(speck[..., None], good, spoilt)
    return pixels.astype(np.uint8), (changed & ~speck).astype(np.bool_)


def _is_visible(good: Pixels, pixels: Pixels, mask: NDArray[np.bool_]) -> bool:
    if mask.mean() < SMALLEST_AREA:
        return False
    return float(cv2.absdiff(good, pixels).max(axis=2)[mask].mean()) >= FAINTEST


def _other_product(shot: Shot, rng: np.random.Generator, size: int) -> Plane:
    surface = geometry.cover_plate(size * geometry.SUPERSAMPLING).copy()
    geometry.set_screws(surface, geometry.plate_screw_centres(), shot.screw_angles[:4], shot.screw_shine)
    return expose(surface, shot, size)


def _blank(shot: Shot, rng: np.random.Generator, size: int) -> Plane:
    """Show the belt without a part, or, less often, what a camera sees with its cap on."""
    if rng.uniform() < 0.65:
        return expose(None, shot, size)
    return np.full((size, size, 3), 0.0012, dtype=np.float32)


def _blurred(shot: Shot, rng: np.random.Generator, size: int) -> Plane:
    """Put the lens out of focus: a point becomes a disc, not a Gaussian."""
    light = expose(_assemble(shot, size), shot, size)
    radius = float(rng.uniform(5.0, 10.0)) * size / geometry.FIELD
    reach = int(radius) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0)
    blurred = cv2.filter2D(light, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, dtype=np.float32)


def _upside_down(shot: Shot, rng: np.random.Generator, size: int) -> Plane:
    """Lay the part the wrong way round under the same light."""
    return expose(_assemble(shot, size), replace(shot, turn=shot.turn + float(np.pi)), size)


def _over_exposed(shot: Shot, rng: np.random.Generator, size: int) -> Plane:
    """Leave the shutter open too long: the metal burns out and its light spills over."""
    light = expose(_assemble(shot, size), shot, size) * float(rng.uniform(5.0, 9.0))
    spill = cv2.GaussianBlur(np.maximum(light - 1.0, 0.0), (0, 0), 9.0 * size / geometry.FIELD)
    return np.asarray(light + 0.3 * spill, dtype=np.float32)


def _noise(shot: Shot, rng: np.random.Generator, size: int) -> Plane:
    """Starve the sensor: little light under much gain."""
    return expose(_assemble(shot, size), shot, size) * float(rng.uniform(0.35, 0.55))


_WRONG_INPUTS: dict[str, Callable[[Shot, np.random.Generator, int], Plane]] = {
    "other_product": _other_product,
    "blank": _blank,
    "blurred": _blurred,
    "upside_down": _upside_down,
    "over_exposed": _over_exposed,
    "noise": _noise,
}

WRONG_INPUT_KINDS: tuple[str, ...] = tuple(_WRONG_INPUTS)
"""What ``render_wrong_input`` can show."""


def _check_kind(kind: str | None, known: tuple[str | None, ...], what: str) -> None:
    if kind not in known:
        names = ", ".join(name for name in known if name is not None)
        raise SyntheticError(expected=f"{what} ({names})", found=repr(kind), remedy="Choose one of these.")


def _check_size(size: int) -> None:
    if size < 64:
        raise SyntheticError(
            expected="a size of at least 64 pixels", found=str(size), remedy="Ask for a larger picture."
        )
