"""Simulated defects and wrong inputs: masks are true, strengths follow the picture, seeds decide all."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.images.disturbances import (
    DEFAULT_SIZES,
    DEFECT_SIMULATIONS,
    FAINTEST_CONTRAST,
    GRADED_WRONG_INPUTS,
    LEAST_CHANGE,
    LEAST_SIDE,
    WRONG_INPUT_SIMULATIONS,
    DisturbanceError,
    simulate_defect,
    simulate_wrong_input,
    soft_margin,
)
from differnet.images.quality import measure_quality
from differnet.records import DiffernetError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.bool_]

SIDE = 96
DISC = 0.33
"""Radius of the part in :func:`part`, as a share of the side."""


def part(side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """A bright part with coloured rings and a bore, before a dark belt with noise."""
    y, x = np.ogrid[:side, :side]
    reach = np.hypot(x - side / 2 + 0.5, y - side / 2 + 0.5) / side
    colours = np.full((side, side, 3), 52.0)
    for radius, colour in (
        (DISC, (190, 188, 185)),
        (0.24, (60, 90, 160)),
        (0.16, (200, 170, 110)),
        (0.06, (50,) * 3),
    ):
        colours[reach < radius] = colour
    noisy = colours + np.random.default_rng(seed).normal(0.0, 2.0, (side, side, 1))
    return noisy.clip(0, 255).astype(np.uint8)


def texture(height: int = SIDE, width: int = SIDE, seed: int = 1, spread: float = 40.0) -> NDArray[np.uint8]:
    """A monochrome texture all over: no background."""
    coarse = np.random.default_rng(seed).normal(120.0, spread, (height // 4, width // 4))
    grey = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    return np.dstack([grey] * 3).astype(np.uint8)


def donor() -> NDArray[np.uint8]:
    """A picture with strong colours, of another size."""
    coarse = np.random.default_rng(5).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (150, 100), interpolation=cv2.INTER_NEAREST), np.uint8)


def deep(pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return pixels.astype(np.uint16) * np.uint16(257)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def change(before: Pixels, after: Pixels) -> NDArray[np.float64]:
    """Change of the most changed channel, as a share of full scale."""
    full = np.iinfo(before.dtype).max
    moved: NDArray[np.float64] = (
        np.abs(before.astype(np.float64) - after.astype(np.float64)).max(axis=2) / full
    )
    return moved


def contrast(pixels: Pixels) -> float:
    return max(measure_quality(pixels).contrast, FAINTEST_CONTRAST)


def grown(mask: Mask, by: int) -> Mask:
    """The mask and all within ``by`` pixels of it."""
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away <= by + 1e-3, np.bool_)


PICTURES: dict[str, Pixels] = {
    "part": part(),
    "part of 16 bits": deep(part()),
    "texture": texture(),
    "faint texture": texture(spread=4.0),
    "wide": texture(48, 150),
    "small": part(LEAST_SIDE),
    "small texture": texture(LEAST_SIDE, LEAST_SIDE + 8),
    "black": np.zeros((64, 80, 3), np.uint8),
    "white of 16 bits": np.full((80, 64, 3), 65_535, np.uint16),
    "grey": np.full((LEAST_SIDE, LEAST_SIDE, 3), 127, np.uint8),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("kind", DEFECT_SIMULATIONS)
def test_masks_are_what_changed(kind: str, picture: str) -> None:
    pixels = PICTURES[picture]
    before = pixels.copy()
    for seed in range(6):
        spoilt, mask = simulate_defect(pixels, kind, rng(seed), donors=[donor()] if seed % 2 else [])
        assert spoilt.dtype == pixels.dtype
        assert spoilt.shape == pixels.shape
        assert mask.dtype == np.bool_
        assert mask.shape == pixels.shape[:2]
        assert mask.any()
        assert not mask.all()
        moved = change(pixels, spoilt)
        assert not moved[~grown(mask, soft_margin(*mask.shape))].any()
        # Half a level of 255: the picture's own rounding.
        assert moved[mask].mean() >= LEAST_CHANGE * contrast(pixels) - 0.5 / 255
        # Gaps are closed, but no mask is drawn around what stayed as it was.
        assert (moved[mask] > 0).mean() > 0.5
        # What lies around a mask is fainter than what lies in it.
        assert moved[~mask].max() < moved[mask].max()
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("kind", ["texture", "blur", "warp", "grain"])
def test_masks_have_no_crumbs(kind: str) -> None:
    for seed in range(8):
        _, mask = simulate_defect(texture(160, 160), kind, rng(seed), donors=[donor()])
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        areas = np.asarray(stats)[1:, cv2.CC_STAT_AREA]
        assert areas.min() >= 0.1 * areas.max()


@pytest.mark.parametrize("side", [(LEAST_SIDE, LEAST_SIDE), (LEAST_SIDE, 400)])
@pytest.mark.parametrize("size", [1e-4, 1.0])
@pytest.mark.parametrize("kind", DEFECT_SIMULATIONS)
def test_the_smallest_and_largest_sizes(kind: str, size: float, side: tuple[int, int]) -> None:
    for pixels in (texture(*side), np.full((*side, 3), 127, np.uint8)):
        for seed in range(3):
            _, mask = simulate_defect(pixels, kind, rng(seed), size=size)
            assert mask.sum() >= 4


@pytest.mark.parametrize("kind", DEFECT_SIMULATIONS)
def test_the_same_generator_gives_the_same_defect(kind: str) -> None:
    first, mask = simulate_defect(part(), kind, rng(3), donors=[donor()])
    again, mask_again = simulate_defect(part(), kind, rng(3), donors=[donor()])
    other, _ = simulate_defect(part(), kind, rng(4), donors=[donor()])
    assert np.array_equal(first, again)
    assert np.array_equal(mask, mask_again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", DEFECT_SIMULATIONS)
def test_sixteen_bits_get_the_defect_of_eight(kind: str) -> None:
    pixels = part()
    for seed in range(4):
        eight, mask = simulate_defect(pixels, kind, rng(seed), donors=[donor()])
        sixteen, deep_mask = simulate_defect(deep(pixels), kind, rng(seed), donors=[donor()])
        # Pixels at the threshold may fall on either side of it, and drag a crumb with them.
        assert (mask & deep_mask).sum() >= 0.9 * (mask | deep_mask).sum()
        assert np.abs(sixteen / 257 - eight).mean() < 0.1


@pytest.mark.parametrize("kind", ["stain", "crack", "grain", "shade"])
def test_strength_follows_the_pictures_contrast(kind: str) -> None:
    strong = deep(texture(spread=30.0))
    middle = float(strong.mean())
    faint = (middle + (strong - middle) / 2).astype(np.uint16)
    ratios = []
    for seed in range(8):
        moved = []
        for pixels in (strong, faint):
            spoilt, mask = simulate_defect(pixels, kind, rng(seed))
            moved.append(change(pixels, spoilt)[mask].mean())
        ratios.append(moved[0] / moved[1])
    assert np.median(ratios) == pytest.approx(2.0, rel=0.15)


# The longest extent in sizes, with what an irregular outline and a soft edge may add.
EXTENTS = {"scar": 1.5, "crack": 2.0, "shade": 5.0}


@pytest.mark.parametrize("kind", DEFECT_SIMULATIONS)
def test_size_is_a_share_of_the_side(kind: str) -> None:
    areas = []
    for size in (0.08, 0.3):
        for seed in range(6):
            _, mask = simulate_defect(part(160), kind, rng(seed), size=size, donors=[donor()])
            (_, _), extents, _ = cv2.minAreaRect(np.argwhere(mask).astype(np.float32))
            # A forked crack reaches 1.6 of its length, patches of texture 1.5 of their diameter.
            assert max(extents) <= 1.6 * EXTENTS.get(kind, 1.0) * size * 160 + 6
            areas.append(mask.sum())
    assert np.mean(areas[6:]) > 2.0 * np.mean(areas[:6])


def test_sizes_are_log_uniform() -> None:
    side = 128
    pixels = np.full((side, side, 3), 120, np.uint8)
    lengths = []
    for seed in range(80):
        _, mask = simulate_defect(pixels, "scar", rng(seed))
        rows, columns = np.nonzero(mask)
        if min(rows.min(), columns.min()) > 0 and max(rows.max(), columns.max()) < side - 1:
            (_, _), extents, _ = cv2.minAreaRect(np.column_stack([rows, columns]).astype(np.float32))
            lengths.append(max(extents) / side / EXTENTS["scar"])
    assert min(lengths) >= 0.95 * DEFAULT_SIZES[0]
    assert max(lengths) <= 1.1 * DEFAULT_SIZES[1]
    # The middle of factors, not of steps (0.18); long scars are cut by the border a little more often.
    assert 0.09 < np.median(lengths) < 0.15


@pytest.mark.parametrize("kind", DEFECT_SIMULATIONS)
def test_monochrome_pictures_get_monochrome_defects(kind: str) -> None:
    for seed in range(4):
        spoilt, _ = simulate_defect(texture(), kind, rng(seed), donors=[donor()])
        assert np.ptp(spoilt.astype(int), axis=2).max() == 0


@pytest.mark.parametrize("kind", DEFECT_SIMULATIONS)
def test_defects_lie_on_the_part(kind: str) -> None:
    y, x = np.ogrid[:SIDE, :SIDE]
    on_part = np.hypot(x - SIDE / 2 + 0.5, y - SIDE / 2 + 0.5) < DISC * SIDE
    for seed in range(8):
        _, mask = simulate_defect(part(), kind, rng(seed), donors=[donor()])
        assert (mask & on_part).any()
        if kind in ("texture", "stain", "crack", "grain", "chip"):
            # Chips take the part's shadow with them.
            assert not (mask & ~grown(on_part, 5 if kind == "chip" else 2)).any()


def test_scars_are_thin_and_from_the_picture() -> None:
    for seed in range(6):
        _, mask = simulate_defect(texture(128, 128), "scar", rng(seed), size=0.25)
        (_, _), extents, _ = cv2.minAreaRect(np.argwhere(mask).astype(np.float32))
        assert max(extents) > 2.5 * min(extents)


def test_pastes_show_colours_of_the_picture() -> None:
    # Two colours, neither of them like the other or between.
    pixels = np.full((SIDE, SIDE, 3), 30, np.uint8)
    pixels[:, SIDE // 2 :] = (200, 90, 60)
    for seed in range(6):
        spoilt, mask = simulate_defect(pixels, "paste", rng(seed), size=0.25)
        inside = spoilt[cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0].astype(float)
        # Up to 0.3 of the contrast brighter or darker.
        room = 0.3 * contrast(pixels) * 255 + 2
        to_either = np.minimum(np.abs(inside - 30).max(axis=1), np.abs(inside - (200, 90, 60)).max(axis=1))
        assert (to_either <= room).mean() > 0.8


def test_textures_are_the_donors() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = 255
    spoilt, mask = simulate_defect(part(), "texture", rng(1), donors=[stripes], size=0.3)
    other, other_mask = simulate_defect(part(), "texture", rng(1), donors=[donor()], size=0.3)
    both = mask & other_mask
    assert change(spoilt, other)[both].mean() > 0.05
    # A flat donor has no texture to give.
    flat = np.full((SIDE, SIDE, 3), 9, np.uint8)
    woven, mask = simulate_defect(flat, "texture", rng(1), donors=[flat], size=0.3)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert np.ptp(woven[inner]) > 0.5 * FAINTEST_CONTRAST * 255


def test_cracks_are_lines() -> None:
    for seed in range(6):
        _, mask = simulate_defect(part(160), "crack", rng(seed), size=0.2)
        inner = cv2.erode(np.pad(mask, 1).astype(np.uint8), np.ones((7, 7), np.uint8))
        # No more than a crossing is seven pixels wide.
        assert inner.sum() <= 0.1 * mask.sum()


def detail(pixels: Pixels, mask: Mask) -> float:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[inner].mean())


def test_blurs_lose_detail_and_grain_adds_it() -> None:
    pixels = texture(128, 128)
    for seed in range(6):
        blurred, mask = simulate_defect(pixels, "blur", rng(seed), size=0.25)
        assert detail(blurred, mask) < 0.6 * detail(pixels, mask)
        grainy, mask = simulate_defect(pixels, "grain", rng(seed), size=0.25)
        assert detail(grainy, mask) > 1.5 * detail(pixels, mask)


def test_warps_move_colours_and_make_none() -> None:
    pixels = np.full((SIDE, SIDE, 3), 30, np.uint8)
    pixels[:, SIDE // 2 :] = 210
    for seed in range(6):
        spoilt, _ = simulate_defect(pixels, "warp", rng(seed), size=0.3)
        # Between two tones lies only the interpolated line of the edge.
        assert ((spoilt > 40) & (spoilt < 200)).mean() < 0.05
        assert spoilt.min() >= 30
        assert spoilt.max() <= 210


def test_shade_is_wide_and_without_an_edge() -> None:
    pixels = np.full((SIDE, SIDE, 3), 120, np.uint16) * 257
    pixels[: SIDE // 2] //= 2
    for seed in range(6):
        spoilt, mask = simulate_defect(pixels, "shade", rng(seed), size=0.2)
        assert mask.mean() > 0.1
        factor = (spoilt / pixels)[..., 0]
        steps = np.abs(np.diff(factor, axis=1)).max()
        assert steps < 0.25 * np.abs(factor - 1.0).max()
        # Light is a factor: the same on both sides of an edge between dark and bright.
        dark, bright = factor[SIDE // 2 - 1] - 1.0, factor[SIDE // 2] - 1.0
        assert np.abs(dark - bright).max() < 0.1 * np.abs(factor - 1.0).max()


def test_chips_bite_into_the_edge_and_show_background() -> None:
    for seed in range(8):
        spoilt, mask = simulate_defect(part(), "chip", rng(seed), size=0.2)
        assert np.median(np.abs(spoilt[mask].astype(int) - 52)) < 8
        # It reaches the part's edge from within: the belt lies at its rim.
        y, x = np.nonzero(mask)
        reach = np.hypot(x - SIDE / 2 + 0.5, y - SIDE / 2 + 0.5)
        assert reach.max() > DISC * SIDE - 3


def test_chips_without_a_background_take_the_borders_colour() -> None:
    pixels = np.full((SIDE, SIDE, 3), 60, np.uint8)
    pixels[: SIDE // 3] = 200
    for seed in range(6):
        spoilt, mask = simulate_defect(pixels, "chip", rng(seed), size=0.2)
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        # Pixels without noise get none.
        assert (spoilt[inner] == 60).mean() > 0.9


def test_stains_keep_the_texture_below() -> None:
    pixels = texture()
    for seed in range(6):
        spoilt, mask = simulate_defect(pixels, "stain", rng(seed), size=0.3)
        inner = cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        if inner.sum() > 50:
            below, seen = pixels[inner][:, 0].astype(float), spoilt[inner][:, 0].astype(float)
            assert np.corrcoef(below, seen)[0, 1] > 0.8


BAD_PICTURES: list[Any] = [
    np.zeros((64, 64), np.uint8),
    np.zeros((64, 64, 4), np.uint8),
    np.zeros((64, 64, 3), np.float32),
    np.zeros((LEAST_SIDE - 1, 64, 3), np.uint8),
    [[1, 2], [3, 4]],
    None,
]


@pytest.mark.parametrize("pixels", BAD_PICTURES)
def test_what_is_no_picture_is_refused(pixels: Any) -> None:
    for call in (
        lambda: simulate_defect(pixels, "stain", rng(0)),
        lambda: simulate_defect(part(), "texture", rng(0), donors=[pixels]),
        lambda: simulate_wrong_input(pixels, "mirror", rng(0)),
        lambda: simulate_wrong_input(part(), "other_product", rng(0), others=[pixels]),
    ):
        with pytest.raises(DisturbanceError) as caught:
            call()
        assert isinstance(caught.value, DiffernetError)
        assert caught.value.remedy


@pytest.mark.parametrize(
    "size", [0.0, -0.1, 1.1, float("nan"), (0.3, 0.1), (0.1,), (0.1, 2.0), "large", None]
)
def test_impossible_sizes_are_refused(size: Any) -> None:
    with pytest.raises(DisturbanceError, match="share of the shorter side"):
        simulate_defect(part(), "stain", rng(0), size=size)


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5, float("nan"), "much"])
def test_impossible_strengths_are_refused(strength: Any) -> None:
    with pytest.raises(DisturbanceError, match="strength above 0"):
        simulate_wrong_input(part(), "blur", rng(0), strength=strength)


def test_unknown_kinds_and_bad_generators_are_refused() -> None:
    seed: Any = 7
    with pytest.raises(DisturbanceError, match="'melted'"):
        simulate_defect(part(), "melted", rng(0))
    with pytest.raises(DisturbanceError, match="'melted'"):
        simulate_wrong_input(part(), "melted", rng(0))
    with pytest.raises(DisturbanceError, match="Generator"):
        simulate_defect(part(), "stain", seed)
    with pytest.raises(DisturbanceError, match="Generator"):
        simulate_wrong_input(part(), "mirror", seed)
    one: Any = donor()
    with pytest.raises(DisturbanceError, match="one picture"):
        simulate_defect(part(), "texture", rng(0), donors=one)
    with pytest.raises(DisturbanceError, match="others"):
        simulate_wrong_input(part(), "other_product", rng(0))


@pytest.mark.parametrize(
    "kind", [kind for kind in WRONG_INPUT_SIMULATIONS if kind not in GRADED_WRONG_INPUTS]
)
def test_kinds_without_strength_take_none(kind: str) -> None:
    with pytest.raises(DisturbanceError, match="has none"):
        simulate_wrong_input(part(), kind, rng(0), others=[donor()], strength=0.5)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("kind", WRONG_INPUT_SIMULATIONS)
def test_wrong_inputs_keep_shape_and_type(kind: str, picture: str) -> None:
    pixels = PICTURES[picture]
    before = pixels.copy()
    for seed in range(3):
        wrong = simulate_wrong_input(pixels, kind, rng(seed), others=[donor(), deep(donor())])
        again = simulate_wrong_input(pixels, kind, rng(seed), others=[donor(), deep(donor())])
        assert wrong.dtype == pixels.dtype
        assert wrong.shape == pixels.shape
        assert wrong.flags.c_contiguous
        assert np.array_equal(wrong, again)
        assert not np.shares_memory(wrong, pixels)
        if picture in ("part", "part of 16 bits"):
            assert change(pixels, wrong).mean() > 0.002
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("kind", [k for k in WRONG_INPUT_SIMULATIONS if k != "noise"])
def test_sixteen_bits_get_the_wrong_input_of_eight(kind: str) -> None:
    eight = simulate_wrong_input(part(), kind, rng(2), others=[donor()])
    sixteen = simulate_wrong_input(deep(part()), kind, rng(2), others=[donor()])
    # One level: rounding before and after a table or a filter.
    assert np.abs(sixteen / 257 - eight).max() <= 1.0


def test_blank_pictures_are_blank() -> None:
    for pixels in (part(), deep(part())):
        assert not simulate_wrong_input(pixels, "black", rng(0)).any()
        assert (simulate_wrong_input(pixels, "white", rng(0)) == np.iinfo(pixels.dtype).max).all()


def test_noise_knows_nothing_of_the_part() -> None:
    pixels = part()
    noise = simulate_wrong_input(pixels, "noise", rng(0))
    assert abs(np.corrcoef(noise[..., 0].ravel(), pixels[..., 0].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]) < 0.05
    assert np.ptp(simulate_wrong_input(texture(), "noise", rng(0)).astype(int), axis=2).max() == 0


@pytest.mark.parametrize("kind", ["blur", "defocus"])
def test_unsharp_pictures_lose_detail_with_strength(kind: str) -> None:
    pixels = part(160)
    everywhere = np.ones((160, 160), np.bool_)
    found = [
        detail(simulate_wrong_input(pixels, kind, rng(0), strength=s), everywhere) for s in (0.1, 0.5, 1.0)
    ]
    assert detail(pixels, everywhere) > found[0] > found[1] > found[2]
    assert found[2] < 0.3 * detail(pixels, everywhere)


def test_a_point_out_of_focus_is_a_disc() -> None:
    pixels = np.zeros((101, 101, 3), np.uint16)
    pixels[50, 50] = 30_000
    seen = simulate_wrong_input(pixels, "defocus", rng(0), strength=1.0)[..., 0]
    lit = np.argwhere(seen > seen.max() // 2)
    reach = np.hypot(*(lit - 50).T).max()
    assert reach == pytest.approx(0.05 * 101, abs=1.0)
    # A disc is lit evenly, a Gaussian is not.
    assert np.ptp(seen[48:53, 48:53].astype(int)) <= 1
    # And the light of the point is all there, in the disc.
    assert ((seen / 30_000) ** 2.2).sum() == pytest.approx(1.0, rel=0.01)


def test_exposure_is_in_stops_of_light() -> None:
    pixels = np.full((40, 40, 3), 100, np.uint8)
    over = simulate_wrong_input(pixels, "overexposure", rng(0), strength=1e-9)
    under = simulate_wrong_input(pixels, "underexposure", rng(0), strength=1.0)
    assert ((over[0, 0, 0] / 100) ** 2.2) == pytest.approx(2**0.8, rel=0.02)
    assert ((under[0, 0, 0] / 100) ** 2.2) == pytest.approx(2**-5, rel=0.1)
    brightness = [
        measure_quality(simulate_wrong_input(part(), "overexposure", rng(0), strength=s)).brightness
        for s in (0.2, 0.6, 1.0)
    ]
    assert measure_quality(part()).brightness < brightness[0] < brightness[1] < brightness[2]


def test_turned_and_mirrored_parts_can_be_turned_back() -> None:
    pixels = part()
    pixels[10:14, 20:40] = (255, 0, 0)
    assert np.array_equal(simulate_wrong_input(pixels, "rotation_180", rng(0))[::-1, ::-1], pixels)
    assert np.array_equal(simulate_wrong_input(pixels, "mirror", rng(0))[:, ::-1], pixels)
    quarters = {simulate_wrong_input(pixels, "rotation_90", rng(seed)).tobytes() for seed in range(12)}
    assert quarters == {np.rot90(pixels, 1).tobytes(), np.rot90(pixels, 3).tobytes()}


def test_a_turn_by_an_angle_fills_with_background() -> None:
    pixels = part()
    mark = (slice(46, 50), slice(20, 28))
    pixels[mark] = (255, 0, 0)
    for strength, degrees in ((0.5, 90.0), (1.0, 175.0)):
        for seed in range(4):
            wrong = simulate_wrong_input(pixels, "rotation", rng(seed), strength=strength)
            red = (wrong[..., 0] > 150) & (wrong[..., 1] < 60) & (wrong[..., 2] < 60)
            y, x = np.argwhere(red).mean(axis=0) - (SIDE - 1) / 2
            # The mark lies to the left of the middle, at 180 degrees.
            angle = abs((np.degrees(np.arctan2(y, x)) - 180.0 + 180.0) % 360.0 - 180.0)
            assert angle == pytest.approx(degrees, abs=3.0)
            assert np.abs(wrong[:6, :6].astype(int) - 52).max() < 15


def test_a_quarter_turn_of_a_wide_picture_stays_in_its_frame() -> None:
    pixels = np.full((60, 100, 3), 40, np.uint8)
    pixels[25:35, 30:70] = 200
    wrong = simulate_wrong_input(pixels, "rotation_90", rng(0))
    rows, columns = np.nonzero(wrong[..., 0] > 120)
    assert np.ptp(rows) == pytest.approx(39, abs=2)
    assert np.ptp(columns) == pytest.approx(9, abs=2)
    assert wrong[0, 0, 0] == 40


def test_crops_enlarge() -> None:
    pixels = np.full((90, 120, 3), 40, np.uint8)
    pixels[:, ::6] = 200
    lines = []
    for strength in (1e-9, 1.0):
        wrong = simulate_wrong_input(pixels, "crop", rng(0), strength=strength)
        lines.append(np.count_nonzero(np.diff((wrong[45, :, 0] > 120).astype(int)) == 1))
    assert lines[0] == pytest.approx(20 / 1.15, abs=1.5)
    assert lines[1] == pytest.approx(20 / 3, abs=1.5)


def test_casts_colour_without_changing_exposure() -> None:
    pixels = texture()
    for seed in range(6):
        found = []
        for strength in (0.1, 1.0):
            wrong = simulate_wrong_input(pixels, "colour_cast", rng(seed), strength=strength)
            found.append(measure_quality(wrong).colour_cast)
            assert wrong.mean() == pytest.approx(pixels.mean(), rel=0.1)
        assert 0.01 < found[0] < found[1]


def test_other_products_fill_the_frame() -> None:
    other = np.zeros((50, 200, 3), np.uint16)
    other[:, 75:125] = 65_535
    wrong = simulate_wrong_input(part(), "other_product", rng(0), others=[other])
    # The middle square of it is all white.
    assert (wrong == 255).all()
    wide = simulate_wrong_input(np.zeros((64, 256, 3), np.uint8), "other_product", rng(0), others=[other])
    assert (wide[:, 110:150] == 255).all()
    assert (wide[:, :90] == 0).all()
    assert (wide[:, -90:] == 0).all()


def test_names_are_what_they_are_called() -> None:
    assert DEFECT_SIMULATIONS == (
        "scar",
        "paste",
        "texture",
        "stain",
        "crack",
        "blur",
        "warp",
        "shade",
        "chip",
        "grain",
    )
    assert set(GRADED_WRONG_INPUTS) < set(WRONG_INPUT_SIMULATIONS)
    assert len(set(WRONG_INPUT_SIMULATIONS)) == 14
