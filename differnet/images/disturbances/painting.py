"""What each kind of defect paints into a window of the picture, strengths in contrasts of the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from differnet.images.disturbances.pictures import (
    FAINTEST_CONTRAST,
    Pixels,
    Plane,
    Scene,
    as_pixels,
    to_unit,
)
from differnet.images.disturbances.shapes import line, patch, smooth_noise, soften, strip, turned, wander

# Places tried before the one farthest away counts as elsewhere.
_TRIES = 16
# Pixels of the reduced picture that a part's shadow is taken to reach.
_SHADOW = 3
# Standard deviation of a Laplacian (1, 1, 1, 1, -4) of white noise of deviation 1, and of a normal
# distribution in median absolute deviations.
_LAPLACIAN, _NORMAL = math.sqrt(20.0), 1.4826


@dataclass(frozen=True)
class Spot:
    """A window of the picture, large enough for a defect, and where in it the defect goes.

    Attributes:
        scene: The whole picture.
        donors: Other pictures.
        rows, columns: The window.
        here: ``(height, width, 3)`` colours of the window, 0 to 1.
        centre: ``(x, y)`` in the window.
        extent: Pixels of the defect's longest extent.
    """

    scene: Scene
    donors: Sequence[Pixels]
    rows: slice
    columns: slice
    here: Plane
    centre: tuple[float, float]
    extent: float

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of the window."""
        return int(self.here.shape[0]), int(self.here.shape[1])

    @property
    def place(self) -> tuple[float, float]:
        """``(x, y)`` of the defect in the whole picture."""
        return self.centre[0] + self.columns.start, self.centre[1] + self.rows.start


# What a kind paints: the window's colours, and how much each pixel is meant to belong to the defect.
Painting = tuple[Plane, Plane]


def _scar(spot: Spot, generator: np.random.Generator) -> Painting:
    width = max(1.5, spot.extent * generator.uniform(0.06, 0.16))
    cover = strip(spot.shape, spot.centre, spot.extent, width, generator.uniform(0.0, math.pi))
    return _lay(spot, _elsewhere(spot, generator) + _light(spot, generator, 0.2, 0.7), cover)


def _paste(spot: Spot, generator: np.random.Generator) -> Painting:
    depth = patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.22)
    return _lay(spot, _elsewhere(spot, generator) + _light(spot, generator, 0.0, 0.3), soften(depth, 0.06))


def _texture(spot: Spot, generator: np.random.Generator) -> Painting:
    depth = patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.5)
    cover = soften(depth, 0.15) * _part(spot)
    base = _mean_colour(spot, cover) + _light(spot, generator, 0.0, 0.5)
    weave = _borrowed(spot, generator) * np.float32(generator.uniform(0.7, 1.3) * spot.scene.contrast)
    return _lay(spot, base + weave, cover * np.float32(generator.uniform(0.5, 1.0)), cover)


def _stain(spot: Spot, generator: np.random.Generator) -> Painting:
    depth = patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.2)
    cover = soften(depth, 0.1) * _part(spot)
    # What dries last is the rim, where the dirt gathers.
    rim = np.exp(-(((depth - 0.1) / 0.1) ** 2))
    uneven = 0.12 * smooth_noise(spot.shape, generator, spot.extent / 4)
    film = np.clip(0.7 + uneven + 0.3 * rim, 0.0, 1.0).astype(np.float32)
    tint = np.ones(3) if spot.scene.grey else generator.uniform(0.25, 1.0, 3)
    # Oil, rust and water marks darken; seven in ten.
    sign = -1.0 if generator.uniform() < 0.7 else 1.0
    change = sign * generator.uniform(0.5, 1.1) * spot.scene.contrast * tint / tint.max()
    return _lay(spot, spot.here + film[..., None] * change.astype(np.float32), cover)


def _crack(spot: Spot, generator: np.random.Generator) -> Painting:
    heading = generator.uniform(0.0, 2 * math.pi)
    width = max(0.9, spot.scene.side * generator.uniform(0.003, 0.009))
    path = wander(generator, spot.extent, heading)
    path += np.asarray(spot.centre) - path.mean(axis=0)
    cover = line(spot.shape, path, width)
    if generator.uniform() < 0.4:
        root = path[int(generator.integers(len(path) // 4, 3 * len(path) // 4))]
        away = heading + generator.choice((-1.0, 1.0)) * generator.uniform(0.5, 1.0)
        branch = root + wander(generator, 0.4 * spot.extent, away)
        cover = np.maximum(cover, line(spot.shape, branch, 0.7 * width))
    cover *= _part(spot)
    # Gaps are dark; healed or lit ones bright, one in four.
    sign = 1.0 if generator.uniform() < 0.25 else -1.0
    colour = _mean_colour(spot, cover) + np.float32(sign * generator.uniform(1.0, 1.8) * spot.scene.contrast)
    return _lay(spot, np.broadcast_to(colour, spot.here.shape), cover * np.float32(0.9), cover)


def _blur(spot: Spot, generator: np.random.Generator) -> Painting:
    depth = patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.22)
    sigma = max(1.2, generator.uniform(0.1, 0.25) * spot.extent)
    return _lay(spot, cv2.GaussianBlur(spot.here, (0, 0), sigma), soften(depth, 0.3))


def _warp(spot: Spot, generator: np.random.Generator) -> Painting:
    cover = soften(patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.2), 0.9)
    # Less than the radius over which it fades, so that nothing is folded over.
    push = max(1.5, generator.uniform(0.15, 0.3) * spot.extent) * cover * cover * (3.0 - 2.0 * cover)
    angle = generator.uniform(0.0, 2 * math.pi)
    x, y = turned(spot.shape, (0.0, 0.0), 0.0)
    pushed = (x - push * math.cos(angle)).astype(np.float32), (y - push * math.sin(angle)).astype(np.float32)
    painted = cv2.remap(spot.here, *pushed, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(painted, np.float32), cover


def _shade(spot: Spot, generator: np.random.Generator) -> Painting:
    depth = patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.2)
    # A cosine's slopes, so that no edge of the light shows.
    cover = np.asarray(0.5 - 0.5 * np.cos(math.pi * soften(depth, 1.0)), np.float32)
    middling = max(float(spot.here.mean()), spot.scene.contrast)
    factor = generator.choice((-1.0, 1.0)) * generator.uniform(0.5, 1.0) * spot.scene.contrast / middling
    # Light is a factor on colours, and shade never takes all of it.
    return _lay(spot, spot.here * np.float32(1.0 + max(factor, -0.8)), cover)


def _chip(spot: Spot, generator: np.random.Generator) -> Painting:
    depth = patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.22)
    # With the part goes its shadow, which a part has beside it.
    return _lay(spot, _behind(spot, generator), soften(depth, 0.06) * _part(spot, beyond=_SHADOW))


def _grain(spot: Spot, generator: np.random.Generator) -> Painting:
    depth = patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.22)
    grains = generator.uniform(1.0, max(1.5, 0.008 * spot.scene.side))
    channels = 3 if not spot.scene.grey and generator.uniform() < 0.3 else 1
    noise = np.dstack([smooth_noise(spot.shape, generator, grains) for _ in range(channels)])
    noise *= np.float32(generator.uniform(0.25, 0.6) * spot.scene.contrast)
    return _lay(spot, spot.here + noise, soften(depth, 0.25) * _part(spot))


Painter = Callable[[Spot, np.random.Generator], Painting]
PAINTERS: dict[str, Painter] = {
    "scar": _scar,
    "paste": _paste,
    "texture": _texture,
    "stain": _stain,
    "crack": _crack,
    "blur": _blur,
    "warp": _warp,
    "shade": _shade,
    "chip": _chip,
    "grain": _grain,
}
"""Every kind of defect by its name."""


def _lay(spot: Spot, over: Plane, cover: Plane, region: Plane | None = None) -> Painting:
    """Lay colours over the window where ``cover`` is above 0; the region is the cover if not given."""
    share = cover[..., None]
    return spot.here * (1.0 - share) + over * share, cover if region is None else region


def _part(spot: Spot, beyond: int = 0) -> Plane:
    """Return where in the window the part is, 0 to 1, and ``beyond`` reduced pixels around it."""
    scene = spot.scene
    rows, columns = scene.content.shape
    # From the window's pixels to those of the reduced picture, middle to middle.
    down, across = rows / scene.height, columns / scene.width
    matrix = np.array(
        [
            [across, 0.0, (spot.columns.start + 0.5) * across - 0.5],
            [0.0, down, (spot.rows.start + 0.5) * down - 0.5],
        ]
    )
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    around = np.ones((2 * beyond + 1, 2 * beyond + 1), np.uint8)
    content = cv2.dilate(scene.content.astype(np.float32), around)
    part = cv2.warpAffine(content, matrix, spot.shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(part, np.float32)


def _light(spot: Spot, generator: np.random.Generator, least: float, largest: float) -> np.float32:
    """Draw a change of light of ``least`` to ``largest`` contrasts, up or down."""
    return np.float32(generator.choice((-1.0, 1.0)) * generator.uniform(least, largest) * spot.scene.contrast)


def _mean_colour(spot: Spot, cover: Plane) -> Plane:
    weight = cover / max(float(cover.sum()), 1e-6)
    return np.asarray((spot.here * weight[..., None]).sum(axis=(0, 1)), np.float32)


def _elsewhere(spot: Spot, generator: np.random.Generator) -> Plane:
    """Show another part of the same picture in the window, turned: at least the defect's extent away."""
    scene = spot.scene
    places = generator.uniform((0.0, 0.0), (scene.width, scene.height), (_TRIES, 2))
    away = np.hypot(*(places - spot.place).T)
    chosen = places[int(np.argmax(np.minimum(away, spot.extent)))]
    return _view(scene.pixels, (chosen[0], chosen[1]), generator.uniform(0.0, 2 * math.pi), 1.0, spot)


def _view(pixels: Pixels, place: tuple[float, float], angle: float, zoom: float, spot: Spot) -> Plane:
    """Show ``pixels`` in the window, ``place`` at the spot's centre, a window's pixel ``zoom`` of theirs."""
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    x, y = spot.centre
    matrix = np.array([[c, -s, place[0] - c * x + s * y], [s, c, place[1] - s * x - c * y]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(
        np.ascontiguousarray(pixels), matrix, spot.shape[::-1], flags=how, borderMode=cv2.BORDER_REFLECT_101
    )
    return to_unit(as_pixels(seen, pixels))


def _borrowed(spot: Spot, generator: np.random.Generator) -> Plane:
    """Return a donor's texture of mean 0 and deviation 1; woven where there is no donor, or a flat one."""
    if spot.donors:
        donor = spot.donors[int(generator.integers(len(spot.donors)))]
        place = generator.uniform((0.0, 0.0), (donor.shape[1], donor.shape[0]))
        # As if the donor had been scaled to the picture first, then by half to double.
        zoom = min(donor.shape[:2]) / spot.scene.side * 2.0 ** generator.uniform(-1.0, 1.0)
        angle = generator.uniform(0.0, 2 * math.pi)
        seen = _view(donor, (place[0], place[1]), angle, zoom, spot)
        seen = seen.mean(axis=2, keepdims=True) if spot.scene.grey else seen
        deviation = float(seen.mean(axis=2).std())
        if deviation > FAINTEST_CONTRAST / 2:
            return np.asarray((seen - seen.mean(axis=(0, 1))) / deviation, np.float32)
    return _woven(spot, generator)


def _woven(spot: Spot, generator: np.random.Generator) -> Plane:
    """Weave two waves across each other, a little uneven."""
    along, across = turned(spot.shape, spot.centre, generator.uniform(0.0, math.pi))
    period = np.maximum(3.0, generator.uniform(0.08, 0.25, 2) * spot.extent)
    uneven = smooth_noise(spot.shape, generator, spot.extent / 2)
    turns = along / period[0], across / period[1]
    waves = np.add(*(np.sin(2 * math.pi * turn + uneven) for turn in turns))
    # Two waves of variance 1/2 each have variance 1 together.
    return np.asarray(waves[..., None], np.float32)


def _behind(spot: Spot, generator: np.random.Generator) -> Plane:
    """Show the background in the window: the nearest patch of it that is large enough, or its colour."""
    scene = spot.scene
    if scene.plain:
        clear = cv2.distanceTransform((~scene.content).astype(np.uint8), cv2.DIST_L2, 3)
        rows, columns = np.nonzero(clear >= 0.7 * spot.extent * scene.content.shape[1] / scene.width)
        if len(rows):
            x, y = scene.to_full(rows + 0.5, columns + 0.5)
            nearest = int(np.argmin(np.hypot(x - spot.place[0], y - spot.place[1])))
            return _view(scene.pixels, (float(x[nearest]), float(y[nearest])), 0.0, 1.0, spot)
    # A flat colour would give the chip away: it gets the window's noise, of which texture is no part.
    rough = cv2.Laplacian(spot.here.mean(axis=2), cv2.CV_32F)
    noise = min(_NORMAL * float(np.median(np.abs(rough))) / _LAPLACIAN, FAINTEST_CONTRAST / 2)
    return scene.background + generator.normal(0.0, noise, (*spot.shape, 1)).astype(np.float32)
