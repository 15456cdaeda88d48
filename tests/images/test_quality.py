from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.images.quality import QualityFigures, measure_quality, principal_figures, quality_flags


def textured(height: int = 240, width: int = 320, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (height // 8, width // 8, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(float)
    noisy: NDArray[np.float64] = picture + rng.normal(0, 8, picture.shape)
    return noisy.clip(1, 254).astype(np.uint8)


def test_brightness_and_contrast_of_two_tones() -> None:
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, 10:] = 255
    figures = measure_quality(pixels)
    assert figures.brightness == pytest.approx(0.5)
    assert figures.contrast == pytest.approx(0.5)
    assert (figures.black_share, figures.white_share) == (0.5, 0.5)
    assert figures.entropy == pytest.approx(1.0)
    assert figures.colour_cast == pytest.approx(0.0)


def test_colour_cast() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 255
    assert measure_quality(pixels).colour_cast == pytest.approx(1.0)
    # Pure red is neither black nor white.
    assert measure_quality(pixels).white_share == 0.0
    assert measure_quality(pixels).black_share == 0.0


def test_entropy_of_a_ramp_is_eight_bits() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert measure_quality(np.dstack([ramp] * 3)).entropy == pytest.approx(8.0)


def test_blur_lowers_sharpness_and_gain_does_not() -> None:
    sharp = textured()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2).astype(np.uint8)
    dim = (sharp.astype(float) * 0.4 + 30).astype(np.uint8)
    at = measure_quality(sharp).sharpness
    assert measure_quality(blurred).sharpness < 0.5 * at
    assert measure_quality(dim).sharpness == pytest.approx(at, rel=0.05)


def test_sharpness_of_white_noise_is_the_kernels_norm() -> None:
    noise = np.random.default_rng(1).normal(128, 20, (500, 500)).clip(0, 255).astype(np.uint8)
    # Weights 1, 1, 1, 1, -4 on independent pixels: sqrt(20) standard deviations.
    assert measure_quality(np.dstack([noise] * 3)).sharpness == pytest.approx(math.sqrt(20), rel=0.02)


def test_a_larger_scan_of_the_same_part_has_like_figures() -> None:
    small = cv2.GaussianBlur(textured(384, 512), (0, 0), 3).astype(np.uint8)
    large = cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    one, other = measure_quality(small), measure_quality(large)
    for name in ("brightness", "contrast", "sharpness", "entropy", "colour_cast"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=0.1, abs=0.005), name


def test_sixteen_bits_have_the_figures_of_eight() -> None:
    eight = textured()
    sixteen = eight.astype(np.uint16) * 257
    one, other = dataclasses.asdict(measure_quality(eight)), dataclasses.asdict(measure_quality(sixteen))
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=0.02, abs=0.01), name


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (700, 1, 3), (3, 2, 3), (1200, 900, 3)])
def test_figures_are_finite_at_every_size(kind: Any, shape: tuple[int, ...]) -> None:
    full = np.iinfo(kind).max
    pictures = [np.zeros(shape, kind), np.full(shape, full, kind), np.full(shape, full // 3, kind)]
    pictures.append(np.random.default_rng(0).integers(0, full, shape, endpoint=True).astype(kind))
    for pixels in pictures:
        assert all(math.isfinite(value) for value in dataclasses.asdict(measure_quality(pixels)).values())


def test_flags() -> None:
    grey = np.full((9, 9, 3), 77, np.uint8)
    assert quality_flags(measure_quality(grey)) == ("constant",)
    assert quality_flags(measure_quality(np.zeros((9, 9, 3), np.uint16))) == ("constant", "black")
    assert quality_flags(measure_quality(np.full((9, 9, 3), 255, np.uint8))) == ("constant", "white")
    assert quality_flags(measure_quality(textured())) == ()


def test_one_hot_pixel_does_not_make_a_part() -> None:
    dark = np.zeros((100, 100, 3), np.uint8)
    dark[50, 50] = 255
    assert quality_flags(measure_quality(dark)) == ("black",)


def test_a_large_picture_with_one_other_pixel_is_not_constant() -> None:
    pixels = np.full((2000, 2000, 3), 100, np.uint8)
    assert measure_quality(pixels).constant
    pixels[1999, 1998, 1] = 101
    assert not measure_quality(pixels).constant


def test_the_picture_is_left_alone() -> None:
    pixels = textured()
    before = pixels.copy()
    assert isinstance(measure_quality(pixels), QualityFigures)
    assert np.array_equal(pixels, before)


def test_measuring_is_cheap() -> None:
    pixels = textured(512, 512)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        measure_quality(pixels)
        times.append(time.perf_counter() - started)
    # Measured 1.5 ms on one idle core; a busy machine is not to fail this.
    assert min(times) < 0.012


@pytest.mark.parametrize("height", [240, 1300])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_principal_figures_are_those_of_the_whole_measurement(height: int, depth: type) -> None:
    pixels: NDArray[Any] = textured(height).astype(depth)
    figures = measure_quality(pixels)
    principal = principal_figures(pixels)
    assert len(principal) == 4
    assert principal == {name: getattr(figures, name) for name in principal}
