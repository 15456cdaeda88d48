"""Ten ways a good part can be spoilt in its photograph, each with a mask of what changed.

Every kind paints a region of the picture. What is then kept, and called the defect, is decided by one rule
for all kinds, from the changed pixels alone: see :func:`simulate_defect`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.images.disturbances.painting import PAINTERS, Spot
from differnet.images.disturbances.pictures import (
    DisturbanceError,
    Mask,
    Pixels,
    Plane,
    Scene,
    check_choice,
    check_picture,
    check_pictures,
    from_unit,
    look_at,
    most,
    to_unit,
)
from differnet.images.disturbances.shapes import patch, soften

DEFAULT_SIZES = (0.06, 0.3)
"""Sizes that are drawn from, as shares of the shorter side: 15 to 77 of 256 pixels. That is about CutPaste's
range, whose scars are 10 to 25 of 256 pixels long and whose patches cover 2 to 15 % (squares of 14 to 39 % of
the side). Each factor is as likely as any other (log-uniform), so that small defects are not rare."""

LEAST_CHANGE = 0.15
"""Least mean change of a defect's pixels, each in its most changed channel, in contrasts of the picture."""

# Contrasts by which a pixel must have changed to belong to the mask. In a picture of middling contrast
# (0.2) that is 3 of 255 levels, as much as a camera's noise.
_SEEN = 0.06
# Soft margin around a mask, as a share of the shorter side, and its least width in pixels.
_MARGIN, _LEAST_MARGIN = 0.03, 2
# Pixels of the longest extent of the smallest region, and of the smallest mask.
_LEAST_EXTENT, _LEAST_AREA = 4.0, 4
# Share of the region that must show.
_LEAST_COVERAGE = 0.25
# Parts of a mask smaller than this share of its largest part are crumbs, and taken back.
_CRUMB = 0.1
# Diameter of the disc that closes gaps in a mask, as a share of the shorter side.
_GAP = 0.02
# Draws after which a defect counts as impossible at this picture.
_DRAWS = 24
# Contrasts that a region is shaded by if its own kind shows nowhere in the picture.
_FORCED = 0.8


def soft_margin(height: int, width: int) -> int:
    """Return the pixels around a mask over which a defect fades out; beyond, nothing has changed.

    >>> soft_margin(256, 320)
    8
    """
    return max(_LEAST_MARGIN, round(_MARGIN * min(height, width)))


def simulate_defect(
    pixels: Pixels,
    kind: str,
    generator: np.random.Generator,
    *,
    donors: Sequence[Pixels] = (),
    size: float | tuple[float, float] = DEFAULT_SIZES,
) -> tuple[Pixels, Mask]:
    """Spoil the photograph of a good part.

    ``c`` is the picture's contrast: the standard deviation of its luminance, at least ``FAINTEST_CONTRAST``.

    ======== ====================================================================================== =========
    kind     what is painted, strengths in contrasts                                                extent
    ======== ====================================================================================== =========
    scar     a thin strip from elsewhere in the picture, turned, its light off by 0.2 c to 0.7 c    1.5 size
    paste    an irregular patch from elsewhere in the picture, turned, off by up to 0.3 c           size
    texture  another picture's texture at 0.7 c to 1.3 c, 50 to 100 % opaque, under smooth noise    size
    stain    a film of one colour with a denser rim, darker or brighter by 0.5 c to 1.1 c           size
    crack    a line that walks at random, sometimes forked, darker or brighter by 1 c to 1.8 c      2 size
    blur     a patch out of focus: Gaussian, 0.1 to 0.25 of the extent                              size
    warp     a patch whose middle is pushed aside by 0.15 to 0.3 of the extent                      size
    shade    wide uneven light, a factor on colours that moves middling ones by 0.5 c to 1 c        5 size
    chip     the background flows over an edge of the part                                          size
    grain    noise of 0.25 c to 0.6 c, its grains up to 0.8 % of the side                           size
    ======== ====================================================================================== =========

    Defects lie on the part if the picture has a plain background, anywhere if not; texture, stain, crack and
    grain end where the part ends. Where there is no part before a background, chips break out of the
    strongest edges and take the border's colour. Monochrome pictures get monochrome defects.

    **The mask is what changed**: pixels whose most changed channel moved by 0.06 c or more, with gaps of up
    to 2 % of the side closed and crumbs taken back. Over ``soft_margin`` pixels around it the change fades
    out, beyond them every pixel is as it was. A draw whose mask changed by less than ``LEAST_CHANGE`` in the
    mean, or shows less than a quarter of its region, is repeated. Where no draw will do, as when a constant
    picture is to be blurred, the last region is shaded by 0.8 c instead: no mask is empty.

    Sources: scar and paste are those of Li et al., CutPaste, CVPR 2021, with irregular patches for its
    rectangles; texture follows Zavrtanik et al., DRAEM, ICCV 2021.

    Args:
        pixels: ``(height, width, 3)`` RGB, ``uint8`` or ``uint16``, at least ``LEAST_SIDE`` a side. They are
            left alone.
        kind: One of ``DEFECT_SIMULATIONS``.
        generator: The only source of randomness: the same state gives the same defect.
        donors: Pictures that textures come from, of any size; without them, textures are woven.
        size: Share of the shorter side, or ``(least, largest)`` to draw from log-uniformly; the extent is at
            least 4 pixels.

    Returns:
        The spoilt picture, of the type and shape of ``pixels``, and the mask ``(height, width)``.

    Raises:
        DisturbanceError: An argument is not as described.

    >>> good = np.full((64, 64, 3), 120, np.uint8)
    >>> spoilt, mask = simulate_defect(good, "stain", np.random.default_rng(0), size=0.2)
    >>> spoilt.shape, bool(mask.any()), bool((spoilt[mask] != 120).any())
    ((64, 64, 3), True, True)
    """
    check_choice(kind, DEFECT_SIMULATIONS, generator)
    check_picture(pixels)
    check_pictures(donors, "donors")
    sizes = _check_size(size)
    scene = look_at(pixels)
    find = _on_edge if kind == "chip" else _on_part
    for _ in range(_DRAWS):
        share = math.exp(generator.uniform(math.log(sizes[0]), math.log(sizes[1])))
        extent = max(_LEAST_EXTENT, share * scene.side * _REACHES.get(kind, 1.0))
        spot = find(scene, donors, generator, extent)
        painted, region = PAINTERS[kind](spot, generator)
        spoilt, mask, change = _settle(spot, painted)
        if change >= LEAST_CHANGE and mask.sum() >= max(_LEAST_AREA, _LEAST_COVERAGE * (region > 0.5).sum()):
            return spoilt, mask
    return _force(spot, region, generator)


def _check_size(size: object) -> tuple[float, float]:
    ends = size if isinstance(size, tuple) else (size, size)
    sound = len(ends) == 2 and all(isinstance(end, int | float | np.number) for end in ends)
    if not (sound and 0.0 < ends[0] <= ends[1] <= 1.0):
        raise DisturbanceError(
            expected="a share of the shorter side above 0 and up to 1, or (least, largest)",
            found=repr(size)[:80],
            remedy=f"Leave size out for {DEFAULT_SIZES}.",
        )
    return float(ends[0]), float(ends[1])


# Where defects go.


def _on_part(scene: Scene, donors: Sequence[Pixels], generator: np.random.Generator, extent: float) -> Spot:
    rows, columns = np.nonzero(scene.content)
    i = int(generator.integers(len(rows)))
    row, column = rows[i] + generator.uniform(), columns[i] + generator.uniform()
    return _around(scene, donors, *scene.to_full(row, column), extent)


def _on_edge(scene: Scene, donors: Sequence[Pixels], generator: np.random.Generator, extent: float) -> Spot:
    small = cv2.resize(scene.pixels, scene.content.shape[::-1], interpolation=cv2.INTER_AREA)
    inside = scene.content.astype(np.uint8)
    edges = (inside - cv2.erode(inside, np.ones((3, 3), np.uint8))) > 0
    if not scene.plain:
        smooth = cv2.GaussianBlur(to_unit(small).mean(axis=2), (0, 0), 1.5)
        steep = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        # The steepest fiftieth, of which a picture always has some.
        edges = steep >= np.quantile(steep, 0.98)
    rows, columns = np.nonzero(edges)
    i = int(generator.integers(len(rows)))
    return _around(scene, donors, *scene.to_full(rows[i] + 0.5, columns[i] + 0.5), extent)


def _around(scene: Scene, donors: Sequence[Pixels], x: float, y: float, extent: float) -> Spot:
    # Patches reach 1.6 radii, forked cracks 0.8 of their length; beyond is the margin.
    reach = math.ceil(0.8 * extent + soft_margin(scene.height, scene.width)) + 4
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    rows = slice(top, min(scene.height, int(y) + reach + 1))
    columns = slice(left, min(scene.width, int(x) + reach + 1))
    here = to_unit(scene.pixels[rows, columns])
    return Spot(scene, donors, rows, columns, here, (x - left, y - top), extent)


# Extents in sizes: thin defects are longer than patches that are as plain to see, and light is wide.
_REACHES = {"scar": 1.5, "crack": 2.0, "shade": 5.0}

DEFECT_SIMULATIONS: tuple[str, ...] = tuple(PAINTERS)
"""Every kind of defect that :func:`simulate_defect` makes."""


# What is kept.


def _settle(spot: Spot, painted: Plane) -> tuple[Pixels, Mask, float]:
    """Keep what has visibly changed, and fade the rest out.

    Returns:
        The whole picture, its mask, and the mean change over the mask in contrasts, 0 if it is empty.
    """
    scene = spot.scene
    change = np.clip(painted, 0.0, 1.0) - spot.here
    visible = (most(np.abs(change)) >= _SEEN * scene.contrast).astype(np.uint8)
    # Where old and new colours agree by chance, the defect is none the less.
    gap = 2 * round(_GAP * scene.side / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap))
    seen = _without_crumbs(cv2.morphologyEx(visible, cv2.MORPH_CLOSE, disc))
    if not seen.any():
        return scene.pixels.copy(), np.zeros(scene.pixels.shape[:2], np.bool_), 0.0
    margin = soft_margin(scene.height, scene.width)
    away = cv2.distanceTransform((~seen).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    change *= np.clip(1.0 - away / margin, 0.0, 1.0).astype(np.float32)[..., None]
    spoilt, mask = scene.pixels.copy(), np.zeros(scene.pixels.shape[:2], np.bool_)
    window = spoilt[spot.rows, spot.columns]
    window[...] = np.where(change == 0.0, window, from_unit(spot.here + change, spoilt))
    mask[spot.rows, spot.columns] = seen
    moved = most(np.abs(to_unit(window) - spot.here))
    return spoilt, mask, float(moved[seen].mean()) / scene.contrast


def _without_crumbs(seen: NDArray[Any]) -> Mask:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=8)
    areas = np.asarray(stats)[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = areas >= max(1.0, _CRUMB * areas.max(initial=0))
    return np.asarray(kept[np.asarray(labels)], np.bool_)


def _force(spot: Spot, region: Plane, generator: np.random.Generator) -> tuple[Pixels, Mask]:
    """Shade a region of a picture in which its kind of defect cannot show."""
    if region.max() <= 0.5:
        region = soften(patch(spot.shape, generator, spot.centre, spot.extent, ragged=0.0), 0.25)
    cover = region[..., None] / region.max()
    # Towards the end of the scale that is farther away, where there is room.
    change = np.where(spot.here > 0.5, -1.0, 1.0) * (_FORCED * spot.scene.contrast) * cover
    spoilt, mask, _ = _settle(spot, np.asarray(spot.here + change, np.float32))
    return spoilt, mask
