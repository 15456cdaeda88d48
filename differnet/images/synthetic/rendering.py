"""Light, camera and belt: from a surface to the picture that an inspection station would take.

Shading is a few lines of optics rather than a ray tracer. Machined metal carries parallel marks, so it throws
light back in a fan across them: the reflection is an elliptical Gaussian in the half vector's slopes, narrow
along the marks and wide across (Ward, *Measuring and modeling anisotropic reflection*, SIGGRAPH 1992, without
its normalisation). That is what makes the bright bow tie that turns with the lamp. Everything that follows,
vignetting, lens, tone curve, noise, acts on the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.synthetic.geometry import (
    FIELD,
    SUPERSAMPLING,
    Plane,
    Surface,
    blur,
    coordinates,
)

BELT_MARGIN = 1.5
"""The belt's texture is drawn this many times wider than the picture, so that its phase can move."""

SHADOW_REDUCTION = 8
"""Shadows are soft; they are computed on a grid this much coarser."""


@dataclass(frozen=True)
class Shot:
    """Everything that differs by nature between two good pictures, apart from noise.

    Attributes:
        shift: Of the part from the middle, units (x, y).
        turn: Of the part, radians.
        azimuth: Of the key light, radians, in the picture's plane.
        elevation: Of the key light above the belt, radians.
        strength: Of the key light.
        exposure: Factor on all light.
        warmth: RGB factors of the light's colour.
        batch_tint: RGB factors on the anodising's and metals' reflectance.
        screw_angles: How far each screw was turned, radians.
        screw_shine: Factor on the screws' reflectance.
        groove_seed: Draws the depth of the turning marks.
        brush_turn: Radians by which the fine brushing is turned.
        belt_phase: Where on the belt the part lies, fractions of the spare margin (x, y).
        dust: ``(n, 4)`` specks on the belt: x, y in units, radius in units, brightness.
        noise_gain: Factor on the sensor's noise.
        focus: Standard deviation of the lens blur, units.
    """

    shift: tuple[float, float]
    turn: float
    azimuth: float
    elevation: float
    strength: float
    exposure: float
    warmth: tuple[float, float, float]
    batch_tint: tuple[float, float, float]
    screw_angles: tuple[float, ...]
    screw_shine: float
    groove_seed: int
    brush_turn: float
    belt_phase: tuple[float, float]
    dust: NDArray[np.float64]
    noise_gain: float
    focus: float


def draw_shot(rng: np.random.Generator) -> Shot:
    """Draw the natural variation of one good picture."""

    def three(spread: float) -> tuple[float, float, float]:
        red, green, blue = (float(f) for f in 1.0 + spread * rng.uniform(-1, 1, 3))
        return red, green, blue

    shift_x, shift_y = (float(s) for s in np.clip(rng.normal(0.0, 1.6, 2), -4.0, 4.0))
    return Shot(
        shift=(shift_x, shift_y),
        turn=float(np.radians(rng.uniform(-3.0, 3.0))),
        azimuth=float(np.radians(-128.0 + rng.uniform(-9.0, 9.0))),
        elevation=float(np.radians(52.0 + rng.uniform(-4.0, 4.0))),
        strength=float(rng.uniform(0.92, 1.08)),
        exposure=float(np.exp(rng.uniform(-0.07, 0.07))),
        warmth=three(0.015),
        batch_tint=three(0.025),
        screw_angles=tuple(float(a) for a in rng.uniform(0.0, np.pi / 3, 6)),
        screw_shine=float(rng.uniform(0.85, 1.2)),
        groove_seed=int(rng.integers(2**31)),
        brush_turn=float(rng.uniform(0.0, 2 * np.pi)),
        belt_phase=(float(rng.uniform()), float(rng.uniform())),
        dust=_draw_dust(rng),
        noise_gain=float(rng.uniform(0.85, 1.15)),
        focus=float(rng.uniform(0.34, 0.46)),
    )


def expose(surface: Surface | None, shot: Shot, size: int) -> Plane:
    """Return the light that reaches the sensor, before noise and tone curve.

    Args:
        surface: The part, or ``None`` for an empty station.
        shot: The draws that belong to this picture.
        size: Pixels along one edge.

    Returns:
        ``(size, size, 3)`` linear light; 1 is the tone curve's shoulder.
    """
    side = SUPERSAMPLING * size
    light = _belt_view(shot, side)
    if surface is not None:
        gradient, tint = _place(surface, shot)
        cover = np.ascontiguousarray(gradient[..., 2])
        light *= _shadow(cover, shot)[..., None]
        part = _shade(surface.grain, gradient, tint, shot)
        light += (part - light) * cover[..., None]
    focused = cv2.GaussianBlur(light, (0, 0), shot.focus * side / FIELD)
    sensed = np.asarray(cv2.resize(focused, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)
    warmth = np.asarray(shot.warmth, dtype=np.float32) * np.float32(shot.exposure * shot.strength)
    sensed *= _vignette(size)[..., None]
    sensed *= warmth
    return sensed


def develop(light: Plane, noise: Plane) -> NDArray[np.uint8]:
    """Turn linear light and additive noise into an 8-bit picture.

    A shoulder ``1 - exp(-x)`` keeps highlights from clipping hard; the rest is the 2.2 display exponent.
    Noise is added after both, in 8-bit units.
    """
    tone = np.power(1.0 - np.exp(-np.maximum(light, 0.0)), 1.0 / 2.2, dtype=np.float32)
    return np.clip(np.rint(255.0 * tone + noise), 0, 255).astype(np.uint8)


def draw_noise(light: Plane, gain: float, rng: np.random.Generator) -> Plane:
    """Draw the sensor's noise, 8-bit units, softened as a camera's own processing does.

    Standard deviation 2.0 in the dark (read noise, spread by the display exponent) down to 1.0 in the light.
    """
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    shared = rng.standard_normal((*light.shape[:2], 1), dtype=np.float32)
    soft = cv2.GaussianBlur(0.6 * grain + shared, (3, 3), 0.5)
    spread = 1.3 + 1.4 / (1.0 + 6.0 * np.maximum(light, 0.0))
    return np.asarray(gain * spread * soft, dtype=np.float32)


def _draw_dust(rng: np.random.Generator) -> NDArray[np.float64]:
    count = int(rng.integers(0, 9))
    place = rng.uniform(-FIELD / 2, FIELD / 2, (count, 2))
    return np.column_stack([place, rng.uniform(0.5, 1.3, count), rng.uniform(0.08, 0.3, count)])


def _place(surface: Surface, shot: Shot) -> tuple[Plane, Plane]:
    """Turn and shift the part: ``(slope x, slope y, cover, polish)`` and ``(R, G, B, openness)`` planes."""
    side, density = surface.side, surface.density
    slope_x = cv2.Sobel(surface.height, cv2.CV_32F, 1, 0, ksize=3, scale=density / 8.0)
    slope_y = cv2.Sobel(surface.height, cv2.CV_32F, 0, 1, ksize=3, scale=density / 8.0)
    c, s = float(np.cos(shot.turn)), float(np.sin(shot.turn))
    turned_x, turned_y = c * slope_x - s * slope_y, s * slope_x + c * slope_y
    middle = (side - 1) / 2
    centre_x, centre_y = middle + shot.shift[0] * density, middle + shot.shift[1] * density
    matrix = np.array(
        [[c, -s, centre_x - c * middle + s * middle], [s, c, centre_y - s * middle - c * middle]],
        dtype=np.float64,
    )
    planes = cv2.merge([turned_x, turned_y, surface.cover, surface.polish])
    colours = cv2.merge([*cv2.split(surface.tint), surface.openness])
    gradient = cv2.warpAffine(planes, matrix, (side, side), flags=cv2.INTER_LINEAR)
    tint = cv2.warpAffine(colours, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(gradient, dtype=np.float32), np.asarray(tint, dtype=np.float32)


def _shade(grain: float | None, gradient: Plane, tint: Plane, shot: Shot) -> Plane:
    """Light a placed part. Returns ``(side, side, 3)`` linear light."""
    slope_x, slope_y, _, polish = (np.ascontiguousarray(gradient[..., i]) for i in range(4))
    openness = np.ascontiguousarray(tint[..., 3])
    across_x, across_y, marks = _marks(grain, shot, gradient.shape[0])
    steepness = 1.0 + slope_x * slope_x + slope_y * slope_y
    upright = np.asarray(1.0 / np.sqrt(steepness), dtype=np.float32)
    slope_across = slope_x * across_x + slope_y * across_y + marks
    slope_along = slope_y * across_x - slope_x * across_y
    key = _direction(shot.azimuth, shot.elevation)
    fill = _direction(shot.azimuth + 2.6, shot.elevation - 0.25)
    fan = _fan(key, across_x, across_y, slope_across, slope_along)
    fan += 0.33 * _fan(fill, across_x, across_y, slope_across, slope_along)
    glint = _glint(key, slope_x, slope_y, upright)
    facing = np.maximum((key[2] - key[0] * slope_x - key[1] * slope_y) * upright, 0.0)
    body = openness * (0.16 + 0.27 * facing + 2.0 * fan * polish)
    lit = tint[..., :3] * np.asarray(body, dtype=np.float32)[..., None]
    lit += (0.22 * glint * openness)[..., None]
    return np.asarray(lit, dtype=np.float32)


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    flat = float(np.cos(elevation))
    return flat * float(np.cos(azimuth)), flat * float(np.sin(azimuth)), float(np.sin(elevation))


def _half_slope(light: tuple[float, float, float]) -> tuple[float, float]:
    """Return the surface slope that would mirror the light straight into the camera."""
    return -light[0] / (1.0 + light[2]), -light[1] / (1.0 + light[2])


def _fan(
    light: tuple[float, float, float],
    across_x: Plane,
    across_y: Plane,
    slope_across: Plane,
    slope_along: Plane,
) -> Plane:
    """Reflect from parallel marks: narrow along them (0.15), wide across (0.40), both as slopes."""
    hx, hy = _half_slope(light)
    off_across = hx * across_x + hy * across_y - slope_across
    off_along = hy * across_x - hx * across_y - slope_along
    exponent = off_across * off_across * (-0.5 / 0.40**2) + off_along * off_along * (-0.5 / 0.15**2)
    return np.asarray(np.exp(exponent), dtype=np.float32)


def _glint(light: tuple[float, float, float], slope_x: Plane, slope_y: Plane, upright: Plane) -> Plane:
    hx, hy = _half_slope(light)
    off = (slope_x - hx) ** 2 + (slope_y - hy) ** 2
    return np.asarray(np.exp(off * (-0.5 / 0.22**2)) * upright, dtype=np.float32)


def _marks(grain: float | None, shot: Shot, side: int) -> tuple[Plane, Plane, Plane]:
    """Return the unit vector across the machining marks and the slope of the marks themselves."""
    x, y = coordinates(side)
    rng = np.random.default_rng(shot.groove_seed)
    if grain is None:
        dx, dy = x - np.float32(shot.shift[0]), y - np.float32(shot.shift[1])
        r = np.sqrt(dx * dx + dy * dy) + np.float32(1e-3)
        depth = _groove_profile(rng, side)
        marks = depth[np.minimum((r * (side / FIELD)).astype(np.int32), depth.size - 1)]
        return dx / r, dy / r, marks + 0.5 * _turned_brush(shot, side)
    angle = grain + shot.turn
    across_x = np.full((side, side), -np.sin(angle), dtype=np.float32)
    across_y = np.full((side, side), np.cos(angle), dtype=np.float32)
    lines = (x * np.float32(-np.sin(angle)) + y * np.float32(np.cos(angle)) + FIELD) * (side / FIELD)
    depth = np.tile(_groove_profile(rng, side), 3)
    return across_x, across_y, depth[lines.astype(np.int32)]


def _groove_profile(rng: np.random.Generator, side: int) -> Plane:
    """Draw slopes of turning marks against radius: the tool's fine feed and its slow wander."""
    length = side
    fine = cv2.GaussianBlur(rng.standard_normal((1, length)).astype(np.float32), (0, 0), 0.9)[0]
    broad = cv2.GaussianBlur(rng.standard_normal((1, length)).astype(np.float32), (0, 0), 7.0)[0]
    return np.asarray(0.10 * fine / fine.std() + 0.05 * broad / broad.std(), dtype=np.float32)


@lru_cache(maxsize=2)
def _brush(side: int) -> Plane:
    """Draw fine marks around the axis that begin and end: noise stretched along the turn."""
    rng = np.random.default_rng(20_240)
    turns, radii = 2048, side
    polar = rng.standard_normal((turns, radii)).astype(np.float32)
    wrapped = np.concatenate([polar[-256:], polar, polar[:256]])
    streaks = cv2.GaussianBlur(wrapped, (0, 0), sigmaX=0.8, sigmaY=38.0)[256:-256]
    streaks = streaks / streaks.std() * 0.11
    flat = cv2.warpPolar(
        streaks.astype(np.float32),
        (side, side),
        ((side - 1) / 2, (side - 1) / 2),
        side * 0.71,
        cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR,
    )
    return np.asarray(flat, dtype=np.float32)


def _turned_brush(shot: Shot, side: int) -> Plane:
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), float(np.degrees(shot.brush_turn)), 1.0)
    slide = np.array([[0.0, 0.0, shot.shift[0]], [0.0, 0.0, shot.shift[1]]]) * (side / FIELD)
    turned = cv2.warpAffine(
        _brush(side), np.asarray(matrix) + slide, (side, side), borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(turned, dtype=np.float32)


def _shadow(cover: Plane, shot: Shot) -> Plane:
    """Return how much light the belt still gets: a soft cast shadow and the dark under the rim."""
    side = cover.shape[0]
    small = cv2.resize(
        cover, None, fx=1 / SHADOW_REDUCTION, fy=1 / SHADOW_REDUCTION, interpolation=cv2.INTER_AREA
    )
    density = small.shape[0] / FIELD
    reach = 11.0 * density / float(np.tan(shot.elevation))
    matrix = np.array(
        [[1, 0, -reach * np.cos(shot.azimuth)], [0, 1, -reach * np.sin(shot.azimuth)]], dtype=np.float64
    )
    cast = cv2.GaussianBlur(cv2.warpAffine(small, matrix, small.shape[::-1]), (0, 0), 3.2 * density)
    contact = cv2.GaussianBlur(small, (0, 0), 9.0 * density)
    kept = (1.0 - 0.62 * cast) * (1.0 - 0.6 * contact)
    return np.asarray(cv2.resize(kept, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


@lru_cache(maxsize=2)
def _belt(side: int) -> Plane:
    """Draw the conveyor belt: a woven PVC cover, worn and a little uneven: ``(wide, wide, 3)``."""
    rng = np.random.default_rng(7_310)
    wide = int(side * BELT_MARGIN)
    density = side / FIELD
    axis = np.arange(wide, dtype=np.float32) / np.float32(density)
    x, y = np.meshgrid(axis, axis)
    wobble = blur(rng.standard_normal((wide, wide)).astype(np.float32), 9 * density)
    wobble = wobble / wobble.std() * 0.35
    u, v = (x + y + wobble) * (np.pi / 4.6), (x - y + wobble) * (np.pi / 4.6)
    weave = np.maximum(np.sin(u) * np.abs(np.cos(v / 2)), np.sin(v) * np.abs(np.cos(u / 2)))
    grit = rng.standard_normal((wide, wide)).astype(np.float32)
    grit = blur(grit, 0.8 * density)
    wear = blur(rng.standard_normal((wide, wide)).astype(np.float32), 22 * density)
    streak = cv2.GaussianBlur(
        rng.standard_normal((wide, wide)).astype(np.float32),
        (0, 0),
        sigmaX=60 * density,
        sigmaY=1.3 * density,
    )
    relief = 1.0 + 0.22 * weave + 0.11 * grit / grit.std() + 0.07 * wear / wear.std()
    relief += 0.05 * streak / streak.std()
    colour = np.asarray((0.050, 0.060, 0.058), dtype=np.float32)
    return np.asarray(np.clip(relief, 0.2, None)[..., None] * colour, dtype=np.float32)


def _belt_view(shot: Shot, side: int) -> Plane:
    belt = _belt(side)
    spare = belt.shape[0] - side
    row, column = int(shot.belt_phase[1] * spare), int(shot.belt_phase[0] * spare)
    view = belt[row : row + side, column : column + side].copy()
    density = side / FIELD
    for x, y, radius, brightness in shot.dust:
        centre = int((x + FIELD / 2) * density * 16), int((y + FIELD / 2) * density * 16)
        shade = tuple(float(brightness) * c for c in (0.95, 0.92, 0.85))
        cv2.circle(view, centre, max(int(radius * density * 16), 8), shade, -1, cv2.LINE_8, shift=4)
    return view


@lru_cache(maxsize=2)
def _vignette(side: int) -> Plane:
    """Return the lens's fall-off, ``cos^4`` of a field angle that reaches 24 degrees in the corners."""
    x, y = coordinates(side)
    r = np.hypot(x, y) / (FIELD / np.sqrt(2.0))
    return np.asarray((1.0 + (np.tan(np.radians(24.0)) * r) ** 2) ** -2, dtype=np.float32)
