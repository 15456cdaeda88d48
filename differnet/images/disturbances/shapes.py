"""Outlines of defects: patches with irregular edges, thin strips, lines that wander.

All are planes of a window's ``(height, width)``; places and lengths are in its pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.disturbances.pictures import Plane

Points = NDArray[np.float64]
Shape = tuple[int, int]
Place = tuple[float, float]

# Lines are drawn this much larger and averaged, so that they may be thinner than a pixel.
_FINE = 4
# Steps of a wandering line; a step is then at most a few pixels, and turns look smooth.
_STEPS = 24


def smooth_noise(shape: Shape, generator: np.random.Generator, spacing: float) -> Plane:
    """Draw smooth noise of about unit variance whose hills are ``spacing`` pixels apart.

    Normal values on a lattice, interpolated by cubics: value noise, which serves as Perlin's (1985) does.
    """
    rows, columns = (max(2, math.ceil(edge / max(spacing, 1.0)) + 1) for edge in shape)
    lattice = generator.standard_normal((rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(lattice, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def patch(
    shape: Shape, generator: np.random.Generator, centre: Place, diameter: float, *, ragged: float
) -> Plane:
    """Draw an irregular patch as depth below its rim: 0 at the rim, about 1 in the middle, negative outside.

    Args:
        shape: Of the window.
        generator: Draws turn, aspect (0.55 to 1) and outline.
        centre: ``(x, y)``.
        diameter: Of the longer axis.
        ragged: How far the outline strays, as a share of the radius, below 1; the patch ends within
            ``1 + ragged`` radii.
    """
    along, across = turned(shape, centre, generator.uniform(0.0, math.pi))
    aspect = generator.uniform(0.55, 1.0)
    radii = np.hypot(along, across / aspect) / (diameter / 2)
    bumps = smooth_noise(shape, generator, diameter / generator.uniform(2.0, 4.0))
    return np.asarray(1.0 - radii + ragged * np.clip(bumps, -1.0, 1.0), np.float32)


def soften(depth: Plane, edge: float) -> Plane:
    """Turn depth into cover, 0 to 1, that rises over the outer share ``edge`` of the radius."""
    return np.asarray(np.clip(depth / max(edge, 1e-3), 0.0, 1.0), np.float32)


def strip(shape: Shape, centre: Place, length: float, width: float, angle: float) -> Plane:
    """Draw a rectangle as cover, 0 to 1, its edges one pixel soft."""
    along, across = turned(shape, centre, angle)
    ends = np.clip(length / 2 - np.abs(along) + 0.5, 0.0, 1.0)
    sides = np.clip(width / 2 - np.abs(across) + 0.5, 0.0, 1.0)
    return np.asarray(ends * sides, np.float32)


def wander(generator: np.random.Generator, length: float, heading: float) -> Points:
    """Walk ``length`` pixels from (0, 0): single steps stray much, the heading little, like a crack."""
    stray = generator.normal(0.0, 0.35, _STEPS) + np.cumsum(generator.normal(0.0, 0.16, _STEPS))
    angles = heading + stray
    steps = np.column_stack([np.cos(angles), np.sin(angles)]) * (length / _STEPS)
    return np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])


def line(shape: Shape, path: Points, width: float) -> Plane:
    """Draw a path as cover, 0 to 1, that thins out towards its ends."""
    canvas = np.zeros((shape[0] * _FINE, shape[1] * _FINE), np.uint8)
    # OpenCV counts from the middle of pixels, and takes 16ths of them.
    points = np.rint(((path + 0.5) * _FINE - 0.5) * 16).astype(np.int32)
    for i in range(len(points) - 1):
        share = math.sin(math.pi * (i + 1) / len(points)) ** 0.5
        thick = max(1, round(width * _FINE * share))
        ends = (int(points[i, 0]), int(points[i, 1])), (int(points[i + 1, 0]), int(points[i + 1, 1]))
        cv2.line(canvas, *ends, 255, thick, cv2.LINE_AA, shift=4)
    small = cv2.resize(canvas, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def turned(shape: Shape, centre: Place, angle: float) -> tuple[Plane, Plane]:
    """Return coordinates along and across a direction, from ``centre``."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    right = (x - centre[0]).astype(np.float32)
    down = (y - centre[1]).astype(np.float32)
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return c * right + s * down, c * down - s * right
