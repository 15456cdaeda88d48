"""OpenVINO looks at pictures in torch's place while a model is trained: the same maps, and the same model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detection.conftest import SIZE, SMALL
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet.detection import DensitySettings, Detector
from differnet.detection.sources import as_picture
from differnet.features import Backbone
from differnet.images.synthetic import render_part
from differnet.runtime import quick_maps, quickened
from differnet.runtime.engines import OpenVino
from differnet.runtime.quickened import QuickMaps

pytest.importorskip("openvino", reason="pip install 'differnet[openvino]'")


@pytest.fixture(scope="module")
def backbone(plain: Detector) -> Backbone:
    return plain._network()


@pytest.fixture(scope="module")
def quick(backbone: Backbone) -> QuickMaps:
    found = quick_maps(backbone, (SIZE, 2 * SIZE))
    assert found is not None
    return found


def noise(number: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def alike(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
@pytest.mark.parametrize("number", [1, 3])
def test_maps_are_those_of_torch(quick: QuickMaps, backbone: Backbone, number: int, size: int) -> None:
    pixels = noise(number, size)
    assert alike(quick(pixels), backbone(pixels))
    # Whichever way pixels lie in memory.
    assert alike(quick(pixels.contiguous(memory_format=torch.channels_last)), backbone(pixels))


def test_pictures_of_other_sizes_are_left_to_torch(quick: QuickMaps, backbone: Backbone) -> None:
    for pixels in (noise(1, 128), noise(1, 2 * SIZE)[:, :, :SIZE]):
        for found, wanted in zip(quick(pixels), backbone(pixels), strict=True):
            assert torch.equal(found, wanted)


def test_threads_do_not_mix_up_their_pictures(quick: QuickMaps) -> None:
    pictures = [noise(2, SIZE, seed) for seed in range(24)]
    alone = [quick(each) for each in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(quick, pictures))
    for found, wanted in zip(together, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_torch_looks_where_there_is_no_openvino(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVino, "installed", classmethod(lambda cls: False))
    assert quick_maps(backbone, (SIZE,)) is None


def test_pictures_that_are_seen_in_tiles_are_left_to_torch(backbone: Backbone) -> None:
    assert quick_maps(backbone, (2048,)) is None


def test_a_look_that_shows_something_else_is_not_taken(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = quickened._maps

    def wrong(request: object, cells: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [1.001 * m for m in true(request, cells)]

    monkeypatch.setattr(quickened, "_maps", wrong)
    assert quick_maps(backbone, (SIZE,)) is None


class Unknown(nn.Module):
    """A network with an operation that OpenVINO has not."""

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return [torch.linalg.matrix_exp(pixels[:, :, :8, :8])]


def test_layers_that_openvino_does_not_know_are_left_to_torch(backbone: Backbone) -> None:
    strange = copy.copy(backbone)
    strange._modules = backbone._modules | {"network": Unknown()}
    with pytest.raises(Exception, match="matrix_exp"):
        QuickMaps(strange, (SIZE,))
    assert quick_maps(strange, (SIZE,)) is None


@pytest.fixture(scope="module")
def parts() -> list[NDArray[np.uint8]]:
    return [render_part(seed, size=SIZE).pixels for seed in range(100)]


SHORT = replace(SMALL, density=DensitySettings(steps=20, hidden=16))


def test_a_model_learns_from_the_same_maps_but_for_rounding(parts: list[NDArray[np.uint8]]) -> None:
    asked: list[object] = []

    def watched(backbone: Backbone, sizes: Sequence[int]) -> QuickMaps | None:
        asked.append(sizes)
        return quick_maps(backbone, sizes)

    plain = Detector(SHORT).fit(parts).calibrate()
    fast = Detector(SHORT).fit(parts, quicken=watched).calibrate()
    assert asked == [SHORT.sizes]
    assert "openvino" in fast.facts()["versions"]
    assert "openvino" not in plain.facts()["versions"]
    one, other = plain.calibration_, fast.calibration_
    assert one is not None
    assert other is not None
    assert not np.array_equal(one.whole, other.whole)
    for name in ("whole", "local", "nll_local"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert np.abs(mine - theirs).max() < 1e-2 * mine.std(), name
    again = Detector(SHORT).fit(parts, quicken=quick_maps).calibrate()
    assert again.model_id == fast.model_id


def test_a_trained_model_is_asked_with_torch(parts: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    fitted = Detector(SHORT).fit(parts, quicken=quick_maps).calibrate()
    loaded = Detector.load(fitted.save(tmp_path / "model"), "cpu")
    pictures = [as_picture(render_part(seed, size=SIZE).pixels, SHORT.reading) for seed in (900, 901)]
    mine, theirs = fitted._evidence(pictures), loaded._evidence(pictures)
    for name, figures in mine.figures.items():
        assert np.array_equal(figures, theirs.figures[name]), name


def test_nobody_is_asked_for_a_quicker_look_at_few_pictures() -> None:
    def never(*_: object) -> QuickMaps | None:
        raise AssertionError("a few pictures take less than making ready for them")

    settings = replace(SMALL, density=DensitySettings(steps=1, hidden=8))
    Detector(settings).fit([render_part(seed, size=SIZE).pixels for seed in range(12)], quicken=never)
