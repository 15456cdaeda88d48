"""Features that are kept from one training to the next give the same model, and are not trusted blindly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.detection.kept_features import FeatureFolder
from differnet.features import Backbone
from differnet.images.synthetic import render_part

SETTINGS = DetectorSettings(
    image_size=64, folds=2, density=DensitySettings(steps=5, couplings=2, hidden=8), device="cpu"
)
SHAPES = (((3,), torch.float32), ((2, 2, 4), torch.float16))


@pytest.fixture(scope="module")
def parts() -> list[NDArray[np.uint8]]:
    return [render_part(seed, size=64).pixels for seed in range(36)]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pictures of each pass of the network."""
    passes: list[int] = []
    forward = Backbone.forward

    def counted(self: Backbone, pixels: torch.Tensor) -> list[torch.Tensor]:
        passes.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(Backbone, "forward", counted)
    return passes


def fitted(parts: list[NDArray[np.uint8]], features: Path | None, **chosen: Any) -> str:
    detector = Detector(replace(SETTINGS, features=features, **chosen)).fit(parts).calibrate()
    return f"{detector.model_id} {detector.facts()['calibration_id']}"


def test_training_again_needs_the_network_for_new_pictures_alone(
    parts: list[NDArray[np.uint8]], tmp_path: Path, looked: list[int]
) -> None:
    plain = fitted(parts, None)
    every = sum(looked)
    assert fitted(parts, tmp_path) == plain
    looked.clear()
    assert fitted(parts, tmp_path) == plain
    # One blank picture to know the shapes, and the spoilt pictures, which nobody keeps.
    assert sum(looked) == every - len(parts) + 1
    looked.clear()
    fitted([*parts[:32], *parts[:3], render_part(99, size=64).pixels], tmp_path)
    assert sum(looked) == every - len(parts) + 1 + 4


def test_whatever_features_depend_on_has_a_folder_of_its_own(
    parts: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    plain = fitted(parts, None, image_size=96)
    fitted(parts, tmp_path)
    assert fitted(parts, tmp_path, image_size=96) == plain
    assert len(list(tmp_path.iterdir())) == 2
    assert fitted(parts, tmp_path, strides=(8, 16)) == fitted(parts, None, strides=(8, 16))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_file_counts_as_not_there(parts: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    plain = fitted(parts, tmp_path)
    files = sorted(tmp_path.glob("*/*.safetensors"))
    assert len(files) == len(parts)
    files[0].write_bytes(b"no tensors")
    files[1].write_bytes(files[2].read_bytes()[:-8])
    files[3].unlink()
    whole = files[4].read_bytes()
    assert fitted(parts, tmp_path) == plain
    assert [f.name for f in sorted(tmp_path.glob("*/*"))] == [f.name for f in files]
    assert files[4].read_bytes() == whole


def tensors() -> list[torch.Tensor]:
    return [torch.arange(3.0), torch.ones(2, 2, 4).half()]


UNFIT: dict[str, Callable[[], list[torch.Tensor]]] = {
    "another shape": lambda: [torch.arange(4.0), tensors()[1]],
    "another type": lambda: [tensors()[0].double(), tensors()[1]],
    "no number": lambda: [torch.tensor([0.0, float("nan"), 1.0]), tensors()[1]],
}


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, {"network": "a"}, SHAPES)
    assert folder.get("0" * 64) is None
    folder.put("0" * 64, tensors())
    found = FeatureFolder(tmp_path, {"network": "a"}, SHAPES).get("0" * 64)
    assert found is not None
    assert all(torch.equal(one, other) for one, other in zip(found, tensors(), strict=True))
    assert FeatureFolder(tmp_path, {"network": "b"}, SHAPES).get("0" * 64) is None


@pytest.mark.parametrize("kind", UNFIT)
def test_tensors_that_do_not_fit_count_as_not_there(kind: str, tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, {}, SHAPES)
    folder.put("0" * 64, UNFIT[kind]())
    assert folder.get("0" * 64) is None


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FeatureFolder(tmp_path, {}, SHAPES)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        folder.put("0" * 64, tensors())
    assert not list(folder.folder.iterdir())
