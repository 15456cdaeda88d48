"""The frozen network and its one preprocessing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from differnet.features import (
    Backbone,
    BackboneError,
    Preprocessing,
    choose_device,
    find_weights,
    network_tensors,
    prepare_batch,
)
from differnet.features import preprocessing as preprocessing_room
from differnet.records import Picture

LITE = ((127 / 255,) * 3, (128 / 255,) * 3)


def made(name: str, folder: Path) -> Backbone:
    """Return a backbone with seeded random weights that went through a file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = timm.create_model(name, pretrained=False).state_dict()
    file = folder / "weights.safetensors"
    save_file(dict(state), file)
    return Backbone(name, find_weights(name, file))


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet18", (128, 256, 512), (8, 16, 32)),
        ("mobilenetv3_small_100", (24, 48, 576), (8, 16, 32)),
        ("convnext_atto", (80, 160, 320), (8, 16, 32)),
        ("efficientformerv2_s0", (48, 96, 176), (8, 16, 32)),
    ],
)
def test_network_is_asked_for_its_maps(
    name: str, channels: tuple[int, ...], strides: tuple[int, ...], tmp_path: Path
) -> None:
    backbone = made(name, tmp_path)
    assert backbone.channels == channels
    assert backbone.strides == strides
    size = 224 if name == "efficientformerv2_s0" else 64
    maps = backbone(torch.zeros(2, 3, size, size))
    assert [tuple(m.shape) for m in maps] == [
        (2, c, size // s, size // s) for c, s in zip(channels, strides, strict=True)
    ]


def test_features_are_those_of_the_whole_network(tmp_path: Path) -> None:
    """The last map of a classifier's own pass, against timm's full network with the same weights."""
    backbone = made("resnet18", tmp_path)
    whole = timm.create_model("resnet18", pretrained=False)
    whole.load_state_dict(find_weights("resnet18", tmp_path / "weights.safetensors").state)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = whole.eval().forward_features(pixels)
    assert torch.allclose(backbone(pixels)[-1], wanted, atol=1e-4)


def test_maps_with_channels_last_are_turned(tmp_path: Path) -> None:
    backbone = made("swinv2_cr_tiny_ns_224", tmp_path)
    maps = backbone(torch.randn(1, 3, 224, 224))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, 224 // s, 224 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)
    ]


def test_network_that_takes_no_pictures_of_this_size_says_so(tmp_path: Path) -> None:
    backbone = made("vit_tiny_patch16_224", tmp_path)
    with pytest.raises(BackboneError, match="64 x 64"):
        backbone(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("name", ["no_such_network", "hf-hub:somebody/network"])
def test_names_that_timm_does_not_know_are_refused(name: str) -> None:
    with pytest.raises(BackboneError, match="name of a timm network"):
        Backbone(name, find_weights("tf_efficientnet_lite0"))


def test_network_is_frozen_and_in_evaluation(tmp_path: Path) -> None:
    backbone = made("mobilenetv3_small_050", tmp_path)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    assert not any(module.training for module in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert not any(m.requires_grad for m in maps)
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


def test_building_a_network_twice_gives_the_same_features(tmp_path: Path) -> None:
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second = (made("mobilenetv3_small_050", tmp_path)(pixels) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_input_is_x_less_127_by_128() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    prepared = Preprocessing(64, *LITE).prepare(pixels)
    wanted = (pixels.astype(np.float64) - 127) / 128
    assert prepared.dtype == np.float32
    # One unit in the last place of float32 at 1 is 1.2e-7.
    assert np.abs(prepared - wanted.transpose(2, 0, 1)).max() < 5e-7


@pytest.mark.parametrize("shape", [(64, 64), (200, 300), (20, 500), (1, 1)])
def test_deep_pictures_are_as_bright_as_shallow_ones(shape: tuple[int, int]) -> None:
    preprocessing = Preprocessing(64, *LITE)
    grey = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    shallow, deep = preprocessing.prepare(grey), preprocessing.prepare(grey.astype(np.uint16) * 257)
    # OpenCV rounds 8-bit pixels after resizing: half a step, 1/2 of 1/128, and as much again in its weights.
    assert np.abs(shallow - deep).max() <= 1.1 / 128
    white = np.full((*shape, 3), 255, np.uint8)
    assert preprocessing.prepare(white) == pytest.approx(1.0, abs=5e-7)
    assert preprocessing.prepare(white.astype(np.uint16) * 257) == pytest.approx(1.0, abs=5e-7)


def test_channels_keep_their_order() -> None:
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[..., 2] = 255
    prepared = Preprocessing(64, (0.0, 0.0, 0.0), (1.0, 0.5, 0.25)).prepare(pixels)
    assert prepared.max(axis=(1, 2)).tolist() == [0.0, 0.0, 4.0]


def test_large_pictures_are_averaged_not_sampled() -> None:
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[::2] = 255
    prepared = Preprocessing(64, (0.0,) * 3, (1.0,) * 3).prepare(stripes)
    assert np.ptp(prepared) < 0.01
    assert prepared.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("shape", [(512, 640), (1030, 700), (256, 4000)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_halving_differs_from_averaging_by_a_grey_level_or_two(shape: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    part = 120 + 60 * np.sin(x / 9.0) * np.cos(y / 7.0)
    camera = np.clip(part[..., None] + rng.normal(0, 5, (*shape, 3)), 0, 255)
    pixels = (camera * (np.iinfo(dtype).max / 255)).astype(dtype)
    at_once, halved = (
        255 * Preprocessing(64, (0.0,) * 3, (1.0,) * 3, halving).prepare(pixels) for halving in (False, True)
    )
    assert np.abs(at_once - halved).max() <= 3.5
    assert np.abs(at_once - halved).mean() <= 0.6
    assert not np.array_equal(at_once, halved)


def test_halving_is_averaging_where_cells_share_no_pixel() -> None:
    pixels = np.random.default_rng(5).integers(0, 2**16, (512, 1024, 3), dtype=np.uint16)
    at_once, halved = (
        65535 * Preprocessing(64, (0.0,) * 3, (1.0,) * 3, halving).prepare(pixels)
        for halving in (False, True)
    )
    assert np.abs(at_once - halved).max() <= 1.01


@pytest.mark.parametrize(
    "shape", [(64, 64), (200, 300), (255, 255), (20, 500), (1, 1), (3000, 100), (513, 640), (640, 513)]
)
def test_what_is_small_or_odd_is_not_halved(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (*shape, 3), dtype=np.uint8)
    at_once, halved = (Preprocessing(64, *LITE, halving).prepare(pixels) for halving in (False, True))
    assert np.array_equal(at_once, halved)


@pytest.mark.parametrize("shape", [(65, 70), (100, 300), (250, 193), (511, 513), (640, 512), (1001, 777)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pictures_are_averaged_as_colour_is(
    shape: tuple[int, int], dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all three colours, to the same bits; a single pixel of colour is not lost."""
    grey = np.random.default_rng(6).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    pixels: NDArray[np.uint8] = np.repeat(grey[..., None], 3, axis=2)
    coloured = pixels.copy()
    coloured[1, 2] = (0, np.iinfo(dtype).max, 0)
    seen, resize = list[int](), cv2.resize

    def watched(given: NDArray[np.uint8], *words: Any, **others: Any) -> NDArray[np.uint8]:
        seen.append(given.ndim)
        return np.asarray(resize(given, *words, **others))

    monkeypatch.setattr(preprocessing_room, "cv2", SimpleNamespace(**{**vars(cv2), "resize": watched}))
    own = Preprocessing(64, *LITE)
    for given, dimensions in ((pixels, 2), (coloured, 3)):
        seen.clear()
        found = own.cells(given)
        assert seen == [dimensions]
        area = resize(given, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
        wanted = (area / np.iinfo(dtype).max - LITE[0]) / LITE[1]
        assert np.abs(found - wanted).max() < 1e-6
    assert not np.array_equal(own.cells(pixels), own.cells(coloured))


def test_preprocessing_travels_through_json() -> None:
    preprocessing = Preprocessing(96, (0.1, 1 / 3, 0.3), (0.4, 0.5, 2 / 3), halving=True)
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing
    older = {k: v for k, v in preprocessing.to_json().items() if k != "halving"}
    assert not Preprocessing.from_json(older).halving


@pytest.mark.parametrize("size", [0, -64, 31, 32, 63, 65, 100, 4100, 8224, 10**9])
def test_sizes_that_do_not_fit_are_refused(size: int) -> None:
    with pytest.raises(BackboneError, match="image size"):
        Preprocessing(size, *LITE)


@pytest.mark.parametrize("std", [0.0, -1.0, np.nan, np.inf])
def test_normalisation_must_be_positive(std: float) -> None:
    with pytest.raises(BackboneError, match="standard deviations"):
        Preprocessing(64, (0.5,) * 3, (0.5, std, 0.5))


def test_batch_is_one_row_a_picture() -> None:
    pictures = [Picture(np.full((10 + i, 20, 3), 50 * i, np.uint8), None, "0" * 64) for i in range(3)]
    batch = prepare_batch(pictures, Preprocessing(64, (0.0,) * 3, (1.0,) * 3))
    assert batch.shape == (3, 3, 64, 64)
    assert batch.mean((1, 2, 3)).tolist() == pytest.approx([0, 50 / 255, 100 / 255])


@pytest.mark.parametrize("name", ["", "gpu", "tpu"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(BackboneError):
        choose_device(name)


def test_absent_cuda_is_an_error_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(BackboneError, match="CUDA"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["resnet18", "xception41"])
def test_pictures_in_several_passes_and_threads_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    """One of the networks collects its maps in one place, by hooks."""
    backbone = made(name, tmp_path)
    # Of this size one goes through at a time.
    pixels = torch.randn(6, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = [backbone.traced(some) for some in torch.split(pixels, 1)]
    joined = backbone(pixels)
    with ThreadPoolExecutor(3) as pool:
        apart = list(pool.map(backbone, torch.split(pixels, 1)))
    for number, maps in enumerate(wanted):
        for stride, truth in enumerate(maps):
            for found in (joined[stride][number : number + 1], apart[number][stride]):
                assert float((found - truth).abs().max()) < 1e-4 * float(truth.abs().max())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18"])
def test_a_network_that_ends_sooner_shows_the_same_maps(name: str, tmp_path: Path) -> None:
    whole = made(name, tmp_path)
    sooner = Backbone(name, find_weights(name, tmp_path / "weights.safetensors"), (8, 16))
    assert sooner.strides == (8, 16)
    pixels = torch.rand(2, 3, 64, 64)
    maps = dict(zip(whole.strides, whole(pixels), strict=True))
    for stride, found in zip(sooner.strides, sooner(pixels), strict=True):
        assert torch.equal(found, maps[stride])
    sizes = [sum(t.numel() for t in backbone.network.parameters()) for backbone in (sooner, whole)]
    assert sizes[0] < 0.5 * sizes[1]
    assert set(network_tensors(name, (8, 16))) < set(network_tensors(name))
