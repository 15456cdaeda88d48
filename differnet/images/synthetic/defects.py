"""Seven ways to spoil a part. Each function damages a surface that may be written to, in place.

A defect changes height, tint or polish, never pixels: the light then shows it as it would show the real
thing, and what changed in the picture is found by rendering the part twice. Severity runs from 0 (a careful
inspector sees it) to 1 (nobody overlooks it); a defect that a line would not care about is not made.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.synthetic.geometry import (
    BORE,
    COUNTERBORE,
    FIELD,
    FLAT,
    RIM,
    RING_INNER,
    RING_OUTER,
    Plane,
    Surface,
    blend,
    blur,
    coordinates,
    flange,
    inside_rim,
    screw_centres,
    smoothstep,
    window,
)

FRESH_METAL = (1.15, 1.16, 1.18)
"""A fresh furrow sends light to the camera from any lamp: brighter than a matt white of 1."""

Points = NDArray[np.float64]
Spoil = Callable[[Surface, np.random.Generator, float], None]


def scratch(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Draw one to three bowed scratches: a furrow with raised lips, the anodising gone where it runs."""
    start = _place_on_face(rng)
    heading = rng.uniform(0.0, 2 * np.pi)
    length = _between(26.0, 80.0, severity) * rng.uniform(0.85, 1.15)
    bow = rng.uniform(-0.14, 0.14)
    for _ in range(int(rng.integers(1, 2 + round(2 * severity)))):
        drawn = length * rng.uniform(0.55, 1.0)
        path = _bow(start, heading + rng.normal(0.0, 0.05), drawn, bow * drawn)
        furrow = _stroke(surface, path, _between(0.85, 1.5, severity), taper=True)
        lips = blur(furrow, 0.7 * surface.density)
        surface.height += (_between(0.35, 0.8, severity) * (lips - 1.25 * furrow)).astype(np.float32)
        fresh = furrow * _between(0.6, 0.95, severity)
        blend(surface.tint, FRESH_METAL, fresh)
        blend(surface.polish, 0.45, fresh)
        start = (start[0] + rng.normal(0.0, 6.0), start[1] + rng.normal(0.0, 6.0))


def dent(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Press in a dent: a hollow with a low raised lip, its floor bruised."""
    cx, cy = _place_on_face(rng)
    radius = _between(5.0, 12.0, severity) * rng.uniform(0.9, 1.1)
    x, y = _turned(surface, cx, cy, rng.uniform(0.0, np.pi))
    flatness = rng.uniform(1.0, 1.6)
    lumps = 0.05 * np.sin(3.0 * np.arctan2(y, x) + rng.uniform(0.0, 6.3))
    r = np.hypot(x, y * flatness) / radius + lumps
    bowl = np.exp(-1.5 * np.abs(r) ** 2.6)
    lip = np.exp(-(((r - 1.22) / 0.22) ** 2))
    depth = _between(0.24, 0.46, severity) * radius
    surface.height += (depth * (0.14 * lip - bowl)).astype(np.float32)
    bruise = (bowl * _between(0.28, 0.45, severity)).astype(np.float32)
    blend(surface.tint, surface.tint * 0.72, bruise)
    blend(surface.polish, surface.polish * 0.55, bruise)


def stain(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Leave a dried splash: a thin film with a darker rim and a few satellites."""
    cx, cy = _place_on_face(rng)
    radius = _between(9.0, 21.0, severity) * rng.uniform(0.9, 1.1)
    film = np.zeros_like(surface.height)
    for size, reach in ((1.0, 0.0), (0.24, 1.25), (0.17, 1.45), (0.13, 1.2)):
        angle = rng.uniform(0.0, 2 * np.pi)
        away = reach * radius
        drop = _drop(surface, rng, cx + away * np.cos(angle), cy + away * np.sin(angle), size * radius)
        film = np.maximum(film, drop)
    film *= _between(0.62, 0.9, severity)
    oil, coolant, rust = (0.36, 0.27, 0.13), (0.42, 0.50, 0.40), (0.50, 0.24, 0.08)
    colour = np.asarray((oil, coolant, rust)[int(rng.integers(3))], dtype=np.float32)
    blend(surface.tint, surface.tint * colour + 0.02, film)
    blend(surface.polish, surface.polish * 0.45, film)


def crack(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Run a crack outwards from the bore or a screw, or inwards from the rim, forking where it is bad."""
    length = _between(22.0, 62.0, severity) * rng.uniform(0.9, 1.1)
    start, heading = _crack_origin(rng)
    path = _jagged(rng, start, heading, length)
    branches = [path]
    for _ in range(round(2.4 * severity)):
        root = path[int(rng.integers(len(path) // 4, 3 * len(path) // 4))]
        fork = heading + float(rng.choice((-1.0, 1.0))) * rng.uniform(0.5, 0.9)
        branches.append(_jagged(rng, (float(root[0]), float(root[1])), fork, 0.4 * length))
    gap = np.zeros_like(surface.height)
    for branch in branches:
        gap = np.maximum(gap, _stroke(surface, branch, _between(0.8, 1.45, severity), taper=False))
    gap *= surface.cover
    edge = blur(gap, 0.9 * surface.density)
    surface.height -= (1.2 * edge).astype(np.float32)
    dark = gap * _between(0.75, 0.97, severity)
    blend(surface.tint, (0.012, 0.012, 0.013), dark)
    blend(surface.polish, 0.05, dark)


def missing_piece(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Leave out a screw, or break a piece out of the rim."""
    if rng.uniform() < 0.45:
        _leave_out_screw(surface, rng)
    else:
        _chip_rim(surface, rng, severity)


def wrong_colour(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Anodise the ring, or a part of it, in another colour."""
    violet, teal, bare, red = (
        (0.13, 0.055, 0.34),
        (0.02, 0.19, 0.24),
        (0.42, 0.43, 0.45),
        (0.34, 0.035, 0.035),
    )
    colour = (violet, teal, bare, red)[int(rng.integers(4))]
    x, y = coordinates(surface.side)
    r, middle = np.hypot(x, y), rng.uniform(-np.pi, np.pi)
    away = np.abs((np.arctan2(y, x) - middle + np.pi) % (2 * np.pi) - np.pi)
    half = np.radians(_between(22.0, 110.0, severity)) if rng.uniform() < 0.6 else 4.0
    ragged = blur(rng.standard_normal(surface.height.shape).astype(np.float32), 5 * surface.density)
    edge = (away + 0.06 * ragged / ragged.std() - half).astype(np.float32)
    within = 1.0 - smoothstep(-0.06, 0.06, edge)
    ring = smoothstep(RING_INNER - 0.4, RING_INNER + 0.2, r) * (
        1 - smoothstep(RING_OUTER - 0.2, RING_OUTER + 0.4, r)
    )
    letters = smoothstep(0.25, 0.5, np.ascontiguousarray(surface.tint[..., 0]))
    blend(surface.tint, colour, ring * within * (1.0 - letters) * _between(0.6, 0.95, severity))


def contamination(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Leave a fibre, or a curl of swarf from the lathe, on the part."""
    start = _place_on_face(rng)
    swarf = rng.uniform() < 0.4
    length = _between(32.0, 84.0, severity) * rng.uniform(0.9, 1.1)
    path = _curl(rng, start, length, tight=swarf)
    thickness = _between(1.6, 2.6, severity) if swarf else _between(0.85, 1.5, severity)
    strand = _stroke(surface, path, thickness, taper=False)
    shade = _stroke(surface, path + np.array([0.9, 1.1]) * thickness, 1.6 * thickness, taper=False)
    shade = blur(shade, 0.6 * surface.density) * 0.55
    surface.openness *= 1.0 - shade
    white, black, red = (0.85, 0.84, 0.80), (0.02, 0.02, 0.025), (0.48, 0.04, 0.05)
    colour = (0.95, 0.96, 0.98) if swarf else (white, black, red)[int(rng.integers(3))]
    blend(surface.tint, colour, strand)
    blend(surface.polish, 0.5 if swarf else 0.0, strand)
    blend(surface.openness, 1.0, strand)
    surface.height += (blur(strand, 0.5 * surface.density) * 1.1 * thickness).astype(np.float32)
    np.maximum(surface.cover, strand, out=surface.cover)


DEFECTS: dict[str, Spoil] = {
    "scratch": scratch,
    "dent": dent,
    "stain": stain,
    "crack": crack,
    "missing_piece": missing_piece,
    "wrong_colour": wrong_colour,
    "contamination": contamination,
}
"""Every kind of defect by its name."""


def _between(mild: float, severe: float, severity: float) -> float:
    """Go from ``mild`` to ``severe`` by equal factors: defects' sizes spread over factors, not steps."""
    return float(mild * (severe / mild) ** severity)


def _place_on_face(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a place on the flange's face, ring or bush, evenly by area, clear of screws and outline."""
    while True:
        x, y = (float(c) for c in rng.uniform(-RIM, RIM, 2))
        clear_of_screws = all(np.hypot(x - cx, y - cy) > COUNTERBORE + 5.0 for cx, cy in screw_centres())
        if BORE + 7.0 < np.hypot(x, y) < RIM - 9.0 and y < FLAT - 9.0 and clear_of_screws:
            return x, y


def _turned(surface: Surface, cx: float, cy: float, angle: float) -> tuple[Plane, Plane]:
    x, y = coordinates(surface.side)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * (x - cx) + s * (y - cy), c * (y - cy) - s * (x - cx)


def _bow(start: tuple[float, float], heading: float, length: float, bow: float) -> Points:
    """Return a parabola's arc whose middle is ``start``; ``bow`` units off its chord at the apex."""
    t = np.linspace(-0.5, 0.5, 40)
    along, off = t * length, bow * (1.0 - 4.0 * t * t)
    c, s = np.cos(heading), np.sin(heading)
    return np.column_stack([start[0] + along * c - off * s, start[1] + along * s + off * c])


def _jagged(rng: np.random.Generator, start: tuple[float, float], heading: float, length: float) -> Points:
    """Walk in short steps whose direction strays and returns: a brittle crack's path."""
    steps = max(int(length / 2.2), 5)
    stray = rng.normal(0.0, 0.42, steps) + 0.25 * np.cumsum(rng.normal(0.0, 0.35, steps))
    angles = heading + stray
    strides = np.column_stack([np.cos(angles), np.sin(angles)]) * (length / steps)
    return np.vstack([np.asarray(start), np.asarray(start) + np.cumsum(strides, axis=0)])


def _curl(rng: np.random.Generator, start: tuple[float, float], length: float, *, tight: bool) -> Points:
    """Walk smoothly: a lying fibre bends slowly to and fro, swarf winds one way."""
    steps = 60
    turn = float(rng.choice((-1.0, 1.0))) * 2.0 * np.pi / steps * rng.uniform(0.6, 1.3) if tight else 0.0
    wander = np.cumsum(rng.normal(0.0, 0.016, steps))
    angles = rng.uniform(0.0, 2 * np.pi) + np.cumsum(turn + wander)
    path = np.cumsum(np.column_stack([np.cos(angles), np.sin(angles)]) * (length / steps), axis=0)
    centred: Points = path - path.mean(axis=0) + np.asarray(start)
    return centred


def _stroke(surface: Surface, path: Points, width: float, *, taper: bool) -> Plane:
    """Draw a line ``width`` units wide along ``path``; with ``taper`` it thins out towards its ends."""
    fine = 2
    points = ((path + FIELD / 2) * surface.density * fine - 0.5) * 16
    canvas = np.zeros((surface.side * fine, surface.side * fine), dtype=np.uint8)
    pixels = np.round(points).astype(np.int32)
    thick = max(round(width * surface.density * fine), 1)
    for i in range(len(pixels) - 1):
        place = i / max(len(pixels) - 2, 1)
        share = np.sin(np.pi * min(max(place, 0.08), 0.92)) ** 0.5 if taper else 1.0
        ends = (int(pixels[i, 0]), int(pixels[i, 1])), (int(pixels[i + 1, 0]), int(pixels[i + 1, 1]))
        cv2.line(canvas, *ends, 255, max(round(thick * float(share)), 1), cv2.LINE_AA, shift=4)
    small = cv2.resize(canvas, (surface.side, surface.side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32) / 255.0


def _drop(surface: Surface, rng: np.random.Generator, cx: float, cy: float, radius: float) -> Plane:
    """Return a drop's film: 1 in the rim where the dirt dried, about half within, 0 outside."""
    x, y = coordinates(surface.side)
    angle = np.arctan2(y - cy, x - cx)
    outline = np.ones_like(angle)
    for order in (2, 3, 5, 8):
        outline += rng.normal(0.0, 0.16 / order**0.7) * np.cos(order * angle + rng.uniform(0.0, 6.3))
    r = np.hypot(x - cx, y - cy) / (radius * outline)
    inside = 1.0 - smoothstep(0.93, 1.04, r.astype(np.float32))
    uneven = blur(rng.standard_normal(x.shape).astype(np.float32), 3.0 * surface.density)
    body = 0.62 + 0.10 * uneven / uneven.std() + 0.38 * smoothstep(0.72, 0.97, r.astype(np.float32))
    return np.asarray(np.clip(body, 0.0, 1.0) * inside, dtype=np.float32)


def _crack_origin(rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    """Draw where a crack starts and where it heads: edges and holes are where stress gathers."""
    kind = int(rng.integers(3))
    angle = float(rng.uniform(-np.pi, np.pi))
    if kind == 0:
        return ((BORE * float(np.cos(angle)), BORE * float(np.sin(angle))), angle + rng.normal(0.0, 0.3))
    if kind == 1:
        cx, cy = screw_centres()[int(rng.integers(len(screw_centres())))]
        start = (cx + COUNTERBORE * float(np.cos(angle)), cy + COUNTERBORE * float(np.sin(angle)))
        return start, float(np.arctan2(-start[1], -start[0]) + rng.normal(0.0, 0.5))
    start = _on_outline(angle)
    return start, float(np.arctan2(-start[1], -start[0]) + rng.normal(0.0, 0.35))


def _on_outline(angle: float) -> tuple[float, float]:
    reach = min(RIM, FLAT / float(np.sin(angle))) if np.sin(angle) > 0 else RIM
    return reach * float(np.cos(angle)), reach * float(np.sin(angle))


def _leave_out_screw(surface: Surface, rng: np.random.Generator) -> None:
    centres = screw_centres()
    rows, columns = window(surface.side, *centres[int(rng.integers(len(centres)))], COUNTERBORE + 1.0)
    bare = flange(surface.side)
    for name in ("height", "cover", "tint", "polish", "openness"):
        getattr(surface, name)[rows, columns] = getattr(bare, name)[rows, columns]


def _chip_rim(surface: Surface, rng: np.random.Generator, severity: float) -> None:
    """Break a piece off: a ragged bite with a fresh, dull, sloping fracture along it."""
    cx, cy = _on_outline(float(rng.uniform(-np.pi, np.pi)))
    radius = _between(6.0, 19.0, severity)
    x, y = _turned(surface, cx, cy, float(np.arctan2(cy, cx)))
    angle = np.arctan2(y, x)
    outline = np.ones_like(angle)
    for order in (2, 3, 5, 9):
        outline += rng.normal(0.0, 0.26 / order**0.9) * np.cos(order * angle + rng.uniform(0.0, 6.3))
    outline = np.clip(outline, 0.6, 1.5)
    distance = (np.hypot(x, y * 0.72) - radius * outline).astype(np.float32)
    near = distance < 8.0
    bevel = _between(1.8, 4.0, severity)
    fracture = (1.0 - smoothstep(bevel * 0.85, bevel, distance)) * surface.cover
    grit = blur(rng.standard_normal(x.shape).astype(np.float32), 0.9 * surface.density)
    drop = np.clip(bevel - distance, 0.0, 6.0) * 0.9 + 0.5 * grit / grit.std()
    surface.height -= np.where(near, fracture * drop, 0.0).astype(np.float32)
    blend(surface.tint, (0.40, 0.40, 0.41), fracture)
    blend(surface.polish, 0.0, fracture)
    surface.cover *= smoothstep(-0.4, 0.4, distance)
    surface.cover *= (inside_rim(*coordinates(surface.side)) > -2.0).astype(np.float32)
