"""Parts as surfaces: height, cover, tint and polish of a flange and of another product.

Lengths are *units*: 320 units span the picture whatever its size, the origin is the middle, x points right
and y down. Surfaces are drawn at ``SUPERSAMPLING`` times the picture's size and never change once built: a
renderer takes a copy, sets the screws into it and, where asked, damages it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

FIELD = 320.0
"""Units across the picture."""

SUPERSAMPLING = 2
"""Samples a pixel along each axis."""

RIM = 124.0
"""Radius of the flange."""

FLAT = 106.0
"""Distance from the axis to the flat that is cut at the lower side."""

BORE = 26.0
RING_INNER, RING_OUTER = 50.0, 72.5
SCREW_CIRCLE = 98.0
SCREW_COUNT = 6
HEAD = 8.6
COUNTERBORE = 10.8

ALUMINIUM = (0.60, 0.61, 0.63)
ANODISED_BLUE = (0.035, 0.13, 0.40)
BRASS = (0.66, 0.47, 0.20)
BLACK_OXIDE = (0.045, 0.046, 0.052)


@dataclass
class Surface:
    """What the camera would see of one part, lying straight and in the middle.

    Attributes:
        height: ``(side, side)`` above the flange's base, units.
        cover: ``(side, side)``; 1 where there is material, 0 where the belt shows.
        tint: ``(side, side, 3)`` linear RGB reflectance, 0 to 1.
        polish: ``(side, side)``; how much light the machining marks throw back in a direction, 0 to 1.
        openness: ``(side, side)``; how much of the sky a point sees, 0 to 1.
        grain: ``None`` for marks around the axis (turned), else the angle in radians of straight brushing.
    """

    height: Plane
    cover: Plane
    tint: Plane
    polish: Plane
    openness: Plane
    grain: float | None

    def copy(self) -> Surface:
        """Return a copy that may be written to."""
        planes = (self.height, self.cover, self.tint, self.polish, self.openness)
        height, cover, tint, polish, openness = (plane.copy() for plane in planes)
        return Surface(height, cover, tint, polish, openness, self.grain)

    @property
    def side(self) -> int:
        """Samples along one edge."""
        return int(self.height.shape[0])

    @property
    def density(self) -> float:
        """Samples a unit."""
        return self.side / FIELD


@lru_cache(maxsize=4)
def coordinates(side: int) -> tuple[Plane, Plane]:
    """Return x and y of every sample, units, each ``(side, side)``."""
    axis = ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5) * FIELD
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    x.flags.writeable = y.flags.writeable = False
    return x, y


def smoothstep(low: float, high: float, x: Plane) -> Plane:
    """Rise from 0 at ``low`` to 1 at ``high`` with no corner: ``3 t^2 - 2 t^3``."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def blend(plane: Plane, value: Plane | float | tuple[float, float, float], weight: Plane) -> None:
    """Move ``plane`` towards ``value`` by ``weight``, in place."""
    by = weight[..., None] if plane.ndim == weight.ndim + 1 else weight
    plane += (np.asarray(value, dtype=np.float32) - plane) * by


def blur(plane: Plane, sigma: float) -> Plane:
    """Return ``plane`` under a Gaussian of ``sigma`` samples."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), dtype=np.float32)


def screw_centres() -> list[tuple[float, float]]:
    """Return the middle of each of the flange's screws, units."""
    angles = np.arange(SCREW_COUNT) * (2 * np.pi / SCREW_COUNT)
    return [(SCREW_CIRCLE * float(np.cos(a)), SCREW_CIRCLE * float(np.sin(a))) for a in angles]


def inside_rim(x: Plane, y: Plane) -> Plane:
    """Return the distance to the flange's outline, units, positive inside."""
    notch = np.hypot(x + 0.87 * RIM, y + 0.52 * RIM) - 6.5
    distance: Plane = np.minimum(np.minimum(RIM - np.hypot(x, y), FLAT - y), notch).astype(np.float32)
    return distance


@lru_cache(maxsize=2)
def flange(side: int) -> Surface:
    """Build the product without its screws: a turned flange with a brass bush and an anodised ring.

    A flat below, a notch, a keyway, a dowel hole and the marks leave it no symmetry.

    Args:
        side: Samples along one edge.
    """
    x, y = coordinates(side)
    r = np.hypot(x, y)
    edge = inside_rim(x, y)
    bore = np.minimum(r - BORE, np.maximum(np.abs(x) - 4.6, np.abs(y - 17.0) - 17.0)).astype(np.float32)
    profile_r = [0, 26, 28.5, 45, 46.5, 49, 50.5, 52, 70.5, 72.5, 73, 75.5, 76.5, 200]
    profile_h = [4, 8, 10, 10, 7, 7, 11, 12, 12, 10, 3.5, 3.5, 6, 6]
    height = np.interp(r, profile_r, profile_h).astype(np.float32)
    height -= 0.28 * np.clip(3.2 - edge, 0.0, 3.2) ** 2 + 0.45 * np.clip(2.2 - bore, 0.0, 2.2) ** 2
    tint = np.broadcast_to(np.asarray(ALUMINIUM, dtype=np.float32), (side, side, 3)).copy()
    polish = np.full((side, side), 0.85, dtype=np.float32)
    ring = smoothstep(49.6, 50.2, r) * (1.0 - smoothstep(72.3, 72.9, r))
    blend(tint, ANODISED_BLUE, ring)
    blend(polish, 0.62, ring)
    bush = 1.0 - smoothstep(46.3, 46.9, r)
    blend(tint, BRASS, bush)
    blend(polish, 1.0, bush)
    for low, high in ((46.5, 49.6), (72.9, 75.6)):
        gap = smoothstep(low - 0.4, low + 0.4, r) * (1.0 - smoothstep(high - 0.4, high + 0.4, r))
        blend(tint, (0.10, 0.10, 0.11), gap)
        blend(polish, 0.25, gap)
    surface = _finish(height, _edge_to_cover(np.minimum(edge, bore)), tint, polish, None)
    for cx, cy in screw_centres():
        _counterbore(surface, cx, cy)
    _dowel_hole(surface, *_on_circle(30.0, SCREW_CIRCLE))
    _mark_ring(surface, "DN40  PN16", -95.0, 61.0, 8.6, raised=False)
    _mark_ring(surface, "K7-204", 38.0, 61.0, 8.6, raised=False)
    _mark_ring(surface, "FLOW", -90.0, 98.0, 13.0, raised=True)
    _mark_arrow(surface, -150.0)
    return surface


@lru_cache(maxsize=2)
def cover_plate(side: int) -> Surface:
    """Build another product of the same factory: a brushed valve plate with two bores and a gold pocket."""
    x, y = coordinates(side)
    edge = -_rounded_box(x, y, 116.0, 84.0, 20.0)
    large, small = np.hypot(x + 42.0, y - 4.0), np.hypot(x - 56.0, y + 14.0)
    slot = _rounded_box(x - 52.0, y - 38.0, 26.0, 7.0, 7.0)
    pocket = -_rounded_box(x + 42.0, y - 2.0, 50.0, 48.0, 12.0)
    opening = np.minimum(np.minimum(large - 27.0, small - 15.0), slot).astype(np.float32)
    height = 9.0 - 0.28 * np.clip(3.5 - edge, 0.0, 3.5) ** 2 - 0.45 * np.clip(2.2 - opening, 0.0, 2.2) ** 2
    height -= 3.0 * smoothstep(0.0, 2.0, pocket)
    tint = np.broadcast_to(np.asarray(ALUMINIUM, dtype=np.float32), (side, side, 3)).copy()
    polish = np.full((side, side), 0.8, dtype=np.float32)
    floor = smoothstep(1.0, 2.2, pocket)
    blend(tint, (0.46, 0.25, 0.045), floor)
    blend(polish, 0.55, floor)
    cover = _edge_to_cover(np.minimum(edge, opening).astype(np.float32))
    surface = _finish(height.astype(np.float32), cover, tint, polish, 0.0)
    for cx, cy in plate_screw_centres():
        _counterbore(surface, cx, cy)
    _mark_straight(surface, "VB-11 / 3", 40.0, -58.0, 10.0)
    return surface


def plate_screw_centres() -> list[tuple[float, float]]:
    """Return the middle of each of the plate's screws, units."""
    return [(-99.0, -66.0), (99.0, -66.0), (-99.0, 66.0), (99.0, 66.0)]


def set_screws(
    surface: Surface, centres: Sequence[tuple[float, float]], angles: Sequence[float], shine: float
) -> None:
    """Set a socket-head screw into each counterbore, in place.

    Args:
        surface: A part that may be written to.
        centres: Middle of each screw, units.
        angles: How far each was turned, radians: a fitter leaves them anywhere.
        shine: Factor on the heads' reflectance, near 1.
    """
    for (cx, cy), angle in zip(centres, angles, strict=True):
        rows, columns = window(surface.side, cx, cy, COUNTERBORE)
        x, y = coordinates(surface.side)
        dx, dy = x[rows, columns] - cx, y[rows, columns] - cy
        r = np.hypot(dx, dy)
        head = 1.0 - smoothstep(HEAD - 0.4, HEAD + 0.2, r)
        hexagon = _hexagon(dx, dy, angle)
        socket = 1.0 - smoothstep(4.1, 4.7, hexagon)
        top = 7.6 - 1.3 * smoothstep(HEAD - 2.0, HEAD, r) - 3.6 * socket
        knurl = 0.16 * np.cos(30.0 * np.arctan2(dy, dx) + angle) * smoothstep(6.6, 7.6, r)
        blend(surface.height[rows, columns], (top + knurl).astype(np.float32), head)
        colour = np.asarray(BLACK_OXIDE, dtype=np.float32) * shine * (1.0 - 0.75 * socket[..., None])
        blend(surface.tint[rows, columns], colour, head)
        blend(surface.polish[rows, columns], 0.5 * (1.0 - socket), head)
        blend(surface.openness[rows, columns], 1.0 - 0.65 * socket, head)


def window(side: int, cx: float, cy: float, radius: float) -> tuple[slice, slice]:
    """Return the rows and columns within ``radius`` units of a point, cut at the border."""
    density = side / FIELD
    column, row, reach = (cx + FIELD / 2) * density, (cy + FIELD / 2) * density, radius * density + 2
    return (
        slice(max(int(row - reach), 0), min(int(row + reach) + 1, side)),
        slice(max(int(column - reach), 0), min(int(column + reach) + 1, side)),
    )


def _finish(height: Plane, cover: Plane, tint: Plane, polish: Plane, grain: float | None) -> Surface:
    density = height.shape[0] / FIELD
    surroundings = blur(height, 4.0 * density)
    openness = np.clip(1.0 - 0.11 * np.clip(surroundings - height, 0.0, None), 0.25, 1.0).astype(np.float32)
    return Surface(height, cover, tint, polish, openness, grain)


def _edge_to_cover(distance: Plane) -> Plane:
    return smoothstep(-0.35, 0.35, distance)


def _on_circle(degrees: float, radius: float) -> tuple[float, float]:
    return radius * float(np.cos(np.radians(degrees))), radius * float(np.sin(np.radians(degrees)))


def _rounded_box(x: Plane, y: Plane, half_width: float, half_height: float, corner: float) -> Plane:
    dx, dy = np.abs(x) - (half_width - corner), np.abs(y) - (half_height - corner)
    outside = np.hypot(np.maximum(dx, 0.0), np.maximum(dy, 0.0))
    return (outside + np.minimum(np.maximum(dx, dy), 0.0) - corner).astype(np.float32)


def _hexagon(dx: Plane, dy: Plane, angle: float) -> Plane:
    faces = angle + np.arange(3) * (np.pi / 3)
    distances = [np.abs(dx * float(np.cos(a)) + dy * float(np.sin(a))) for a in faces]
    return np.maximum(np.maximum(distances[0], distances[1]), distances[2]).astype(np.float32)


def _counterbore(surface: Surface, cx: float, cy: float) -> None:
    rows, columns = window(surface.side, cx, cy, COUNTERBORE + 2.0)
    x, y = coordinates(surface.side)
    r = np.hypot(x[rows, columns] - cx, y[rows, columns] - cy)
    sunk = 1.0 - smoothstep(COUNTERBORE - 0.6, COUNTERBORE + 0.6, r)
    hole = 1.0 - smoothstep(5.0, 5.8, r)
    blend(surface.height[rows, columns], (1.0 - 6.0 * hole).astype(np.float32), sunk)
    blend(surface.openness[rows, columns], (0.5 - 0.4 * hole).astype(np.float32), sunk)
    blend(surface.tint[rows, columns], (0.34, 0.34, 0.35), sunk)
    blend(surface.tint[rows, columns], (0.02, 0.02, 0.02), hole)
    blend(surface.polish[rows, columns], (0.4 * (1.0 - hole)).astype(np.float32), sunk)


def _dowel_hole(surface: Surface, cx: float, cy: float) -> None:
    rows, columns = window(surface.side, cx, cy, 8.0)
    x, y = coordinates(surface.side)
    r = np.hypot(x[rows, columns] - cx, y[rows, columns] - cy)
    surface.height[rows, columns] -= 2.0 * (1.0 - smoothstep(4.0, 5.6, r))
    hole = 1.0 - smoothstep(3.8, 4.5, r)
    blend(surface.tint[rows, columns], (0.025, 0.025, 0.025), hole)
    blend(surface.polish[rows, columns], 0.0, hole)
    blend(surface.openness[rows, columns], 0.15, hole)


def _stencil(text: str, cap_height: float, density: float) -> Plane:
    """Draw ``text`` in one stroke, as an engraver's cutter does, and cut the picture to it."""
    fine = 4.0 * density
    scale = cap_height * fine / 21.0
    thickness = max(round(1.35 * fine), 1)
    (width, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    canvas = np.zeros((tall + below + 2 * thickness, width + 2 * thickness), dtype=np.uint8)
    origin = (thickness, tall + thickness)
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)
    small = cv2.resize(canvas, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    rows = np.flatnonzero(small.any(axis=1))
    return np.asarray(small[rows[0] : rows[-1] + 1], dtype=np.float32) / 255.0


def _mark_ring(
    surface: Surface, text: str, degrees: float, radius: float, cap_height: float, *, raised: bool
) -> None:
    """Put ``text`` on an arc, its middle at ``degrees`` (0 right, 90 below), readable from the outside."""
    stencil = _stencil(text, cap_height, surface.density)
    x, y = coordinates(surface.side)
    turn = np.arctan2(y, x) - np.radians(degrees)
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    across = turn * radius * surface.density + stencil.shape[1] / 2
    down = (radius - np.hypot(x, y)) * surface.density + stencil.shape[0] / 2
    ink = cv2.remap(
        stencil,
        across.astype(np.float32),
        down.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    _apply_mark(surface, np.asarray(ink, dtype=np.float32), engraved=raised)


def _mark_straight(surface: Surface, text: str, cx: float, cy: float, cap_height: float) -> None:
    stencil = _stencil(text, cap_height, surface.density)
    ink = np.zeros((surface.side, surface.side), dtype=np.float32)
    row = int((cy + FIELD / 2) * surface.density - stencil.shape[0] / 2)
    column = int((cx + FIELD / 2) * surface.density - stencil.shape[1] / 2)
    ink[row : row + stencil.shape[0], column : column + stencil.shape[1]] = stencil
    _apply_mark(surface, ink, engraved=True)


def _mark_arrow(surface: Surface, degrees: float) -> None:
    """Engrave an arrow that points around the flange at the screws' circle."""
    cx, cy = _on_circle(degrees, SCREW_CIRCLE)
    along = np.radians(degrees + 90.0)
    shape = np.array([(-15, -2), (3, -2), (3, -6.5), (15, 0), (3, 6.5), (3, 2), (-15, 2)], dtype=np.float64)
    turn = np.array([[np.cos(along), np.sin(along)], [-np.sin(along), np.cos(along)]])
    points = (shape @ turn + (cx, cy) + FIELD / 2) * surface.density - 0.5
    canvas = np.zeros((surface.side, surface.side), dtype=np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    _apply_mark(surface, canvas.astype(np.float32) / 255.0, engraved=True)


def _apply_mark(surface: Surface, ink: Plane, *, engraved: bool) -> None:
    """Cut ``ink`` into bare metal (dark, sunk), or burn it through the anodising (bright, flat)."""
    if engraved:
        surface.height -= 0.55 * ink
        blend(surface.tint, (0.15, 0.15, 0.16), 0.85 * ink)
        blend(surface.polish, 0.15, 0.9 * ink)
    else:
        blend(surface.tint, (0.62, 0.64, 0.66), 0.92 * ink)
        blend(surface.polish, 0.35, 0.9 * ink)
