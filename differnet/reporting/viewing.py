"""What the viewer of a picture shows, as plain values that a page hands to the browser."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.records import Record
from differnet.reporting.artefacts import closeup_square, encode_jpeg, shrink
from differnet.reporting.figures import axis_ticks, colour_table, data_uri, region_mask
from differnet.reporting.tables import legible

LARGEST_SIDE = 1600
"""Longest side of a picture that is sent to the browser: sharp on a whole page, some hundred kilobytes."""

# Longest side that regions are found at: their outlines need no more.
_OUTLINED_SIDE = 512
# Shapes of one mask, the largest first. A mask of more is one of noise.
_MOST_SHAPES = 200
# Pixels, at that side, by which an outline may be simplified: less than is seen.
_SIMPLER = 0.7


@dataclass(frozen=True)
class Layer:
    """Figures over a picture, to be laid over it in colours.

    Attributes:
        name: In the list of layers.
        values: ``(rows, columns)`` over the whole picture, finite.
        scale: Values of the first and last colour, the same for all pictures of a run.
        words: What the colours mean, a sentence.
    """

    name: str
    values: NDArray[np.float32]
    scale: tuple[float, float]
    words: str


def rarity_words(heat: float) -> str:
    """Say how rare heat is on good parts.

    Args:
        heat: In the heat map's unit, ``-log10`` of a share of places.

    Example:
        >>> rarity_words(3.0), rarity_words(4.2), rarity_words(0.1), rarity_words(11.0)
        ('one place in 1,000', 'one place in 16,000', 'most places', 'less than one place in a million')
    """
    if heat < 0.3:
        return "most places"
    if heat > 6:
        return "less than one place in a million"
    share = 10**heat
    digits = 1 if share < 100 else 2
    unit = 10 ** (len(str(int(share))) - digits)
    return f"one place in {int(round(share / unit) * unit):,}"


def heat_layer(heat_map: NDArray[np.float32], scale: tuple[float, float]) -> Layer:
    """Make the layer of the verdict's own heat map."""
    low, high = scale
    words = (
        f"Colours begin at {low:.1f} ({rarity_words(low)} of good parts is as hot) and end at {high:.1f} "
        f"({rarity_words(high)})."
    )
    return Layer("Heat map", heat_map, scale, words)


def picture_data(pixels: NDArray[np.uint8], alt: str) -> dict[str, Any]:
    """Describe a picture for the browser: address, words and shape.

    Args:
        pixels: ``(height, width, 3)`` RGB; reduced to `LARGEST_SIDE`.
        alt: What is seen, for those who do not see it.
    """
    shown = shrink(pixels, LARGEST_SIDE)
    height, width = shown.shape[:2]
    return {"uri": str(data_uri(encode_jpeg(shown))), "alt": alt, "width": width, "height": height}


def layer_data(layer: Layer) -> dict[str, Any]:
    """Describe a layer for the browser: its values in 255 steps, two colour scales, and what they mean."""
    low, high = layer.scale
    least, most = float(layer.values.min()), float(layer.values.max())
    own = (least, max(most, least + 1e-3))
    top = max(high, most, 1e-6)
    steps = np.clip(np.round(layer.values * (255 / top)), 0, 255).astype(np.uint8)
    return {
        "name": layer.name,
        "rows": int(layer.values.shape[0]),
        "columns": int(layer.values.shape[1]),
        "values": base64.b64encode(steps.tobytes()).decode("ascii"),
        "top": top,
        "words": layer.words,
        "scales": {
            "run": {"low": low, "high": high, "ticks": _ticks(low, high)},
            "own": {"low": own[0], "high": own[1], "ticks": _ticks(*own)},
        },
    }


def region_data(record: Record, heat_map: NDArray[np.float32] | None) -> list[dict[str, Any]]:
    """Describe a record's regions for the browser, the hottest first: number, words, box and outline.

    Args:
        record: Of the picture.
        heat_map: Over the picture; without it the box stands for the outline.

    Returns:
        Of each ``number``, ``words``, ``box`` (x, y, width and height) and ``shapes``, in shares of the
        picture's width and height.
    """
    width, height = max(1, record.width), max(1, record.height)
    canvas = None
    if heat_map is not None:
        scale = min(1.0, _OUTLINED_SIDE / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = np.asarray(cv2.resize(heat_map, size, interpolation=cv2.INTER_LINEAR), np.float32)
    described = []
    for number, region in enumerate(sorted(record.regions, key=lambda r: -r.peak), 1):
        box = [region.x / width, region.y / height, region.width / width, region.height / height]
        shapes = (
            outlines(region_mask(canvas, region, canvas.shape[1] / width))
            if canvas is not None
            else [_corners(*box)]
        )
        # Unbroken, so that a number never stands without its unit.
        size_words = f"{region.width:,}\u00a0\N{MULTIPLICATION SIGN}\u00a0{region.height:,}\u00a0px"
        described.append(
            {
                "number": number,
                "words": f"p {region.p_value:.2g}, peak {region.peak:.1f}, {size_words}",
                "box": [round(share, 5) for share in box],
                "shapes": shapes,
            }
        )
    return described


def outlines(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return the outlines of a mask, so that they can be drawn sharply at any size.

    Args:
        mask: ``(height, width)``; reduced where it is large, so that what is small stays.

    Returns:
        Of each shape, holes included, ``x, y, x, y ...`` in shares of the mask's width and height; 200 at
        most, the largest first.

    Example:
        >>> outlines(np.eye(2, dtype=bool)[:1])
        [[0.125, 0.25, 0.125, 0.75, 0.375, 0.75, 0.375, 0.25]]
    """
    scale = min(1.0, _OUTLINED_SIDE / max(mask.shape))
    if scale < 1:
        size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
        # Any part of a marked pixel marks the one that it falls into: a hair must not vanish.
        mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    # Twice as large, so that an outline runs round pixels rather than through their middles.
    large = np.ascontiguousarray(mask.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8))
    found, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    height, width = large.shape
    shapes = []
    for contour in sorted(found, key=cv2.contourArea, reverse=True)[:_MOST_SHAPES]:
        simple = contour if len(contour) <= 4 else cv2.approxPolyDP(contour, 2 * _SIMPLER, closed=True)
        points = (simple.reshape(-1, 2) + 0.5) / [width, height]
        shapes.append([round(float(share), 5) for share in points.ravel()])
    return shapes


def view_data(
    record: Record,
    picture: dict[str, Any],
    layers: Sequence[Layer],
    *,
    heat_map: NDArray[np.float32] | None = None,
    closeup: NDArray[np.uint8] | None = None,
    truth: list[list[float]] | None = None,
    good: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Put together what the viewer shows of one picture.

    Args:
        record: Of the picture.
        picture: From `picture_data`.
        layers: To lay over it; the first is shown at once.
        heat_map: That regions are outlined on.
        closeup: Its strongest region at full sharpness, which is laid over the preview.
        truth: Ground truth, from `outlines`.
        good: From `picture_data`, the nearest good part.

    Returns:
        JSON-able.
    """
    square = closeup_square(record)
    sharp = None
    if closeup is not None and square is not None:
        left, top, side = square
        sharp = {
            "uri": str(data_uri(encode_jpeg(closeup))),
            "box": [
                left / record.width,
                top / record.height,
                side / record.width,
                side / record.height,
            ],
        }
    return {
        "item": record.item_id,
        "name": legible(record.part_id or record.item_id),
        "picture": picture,
        "pixels": [record.width, record.height],
        "closeup": sharp,
        "good": good,
        "layers": [layer_data(layer) for layer in layers],
        "regions": region_data(record, heat_map),
        "truth": truth,
        "colours": base64.b64encode(colour_table().tobytes()).decode("ascii"),
    }


def _ticks(low: float, high: float) -> list[float]:
    """Choose round values between the ends of a colour scale; the ends themselves are always told."""
    room = 0.12 * (high - low)
    return [tick for tick in axis_ticks(high, 5) if low + room <= tick <= high - room]


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    corners = (x, y, x + width, y, x + width, y + height, x, y + height)
    return [round(share, 5) for share in corners]
