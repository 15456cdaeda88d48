"""One small detector of the sample product for the whole folder; tests do not change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.images.reading import write_png
from differnet.images.synthetic import render_part

Pixels = NDArray[np.uint8]

SIZE = 96
SMALL = DetectorSettings(image_size=SIZE, device="cpu", density=DensitySettings(steps=60, hidden=32))


@pytest.fixture(scope="session")
def good() -> list[Pixels]:
    """32 good parts to train on."""
    return [render_part(seed, size=SIZE).pixels for seed in range(32)]


@pytest.fixture(scope="session")
def fresh() -> list[Pixels]:
    """24 good parts that nobody trains on."""
    return [render_part(seed, size=SIZE).pixels for seed in range(500, 524)]


@pytest.fixture(scope="session")
def detector(good: list[Pixels]) -> Detector:
    """Fitted and calibrated on ``good``."""
    return Detector(SMALL).fit(good).calibrate()


@pytest.fixture(scope="session")
def saved(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector's bundle; tests copy it before they change it."""
    return detector.save(tmp_path_factory.mktemp("bundle") / "model")


@pytest.fixture
def files(tmp_path: Path) -> Callable[[list[Pixels]], list[Path]]:
    """Write pictures as PNG files and return their paths."""

    def write(pictures: list[Pixels]) -> list[Path]:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{i:03}.png" for i in range(len(pictures))]
        for path, pixels in zip(paths, pictures, strict=True):
            write_png(path, pixels)
        return paths

    return write
