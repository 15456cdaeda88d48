"""A bundle's self-test is told check by check, up to the one that fails."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from differnet.detection import BundleError, Detector, examine_bundle
from differnet.detection.bundle import LOADING_CHECKS, load_bundle
from differnet.detection.manifest import sealed


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def seal_again(folder: Path, change: Callable[[dict[str, object]], None] = lambda told: None) -> None:
    """Write a manifest whose hashes are those of the files as they are now."""
    told = json.loads((folder / "manifest.json").read_bytes())
    told.pop("seal")
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.safetensors")}
    told["files"] = files
    change(told)
    (folder / "manifest.json").write_bytes(sealed(told))


def test_a_sound_model_passes_every_check_with_its_figures(saved: Path, detector: Detector) -> None:
    found = examine_bundle(saved, "cpu")
    assert found.sound
    assert found.error is None
    assert [(check.name, check.passed) for check in found.checks] == [(n, True) for n in LOADING_CHECKS]
    assert found.sound_detector.model_id == detector.model_id
    words = {check.name: check.found for check in found.checks}
    assert words["densities"].endswith(detector.model_id)
    number = len(detector._fitted().judging)
    assert words["round trip"].startswith(f"{number} densities invert")
    assert "of 3 pictures reproduced" in words["golden pictures"]


def cut(folder: Path) -> None:
    path = folder / "densities.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def flip(folder: Path) -> None:
    path = folder / "densities.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def unseal(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"flange", b"flangE") + b" ")


def another_model(folder: Path) -> None:
    seal_again(folder, lambda told: told.update(model_id="0" * 16))


def another_backbone(folder: Path) -> None:
    path = folder / "backbone.safetensors"
    tensors = load_file(path)
    name = next(n for n, t in tensors.items() if t.dtype == torch.float32 and t.dim() == 4)
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, path)
    seal_again(folder)


@pytest.mark.parametrize(
    ("damage", "failed"),
    [
        (unseal, "manifest"),
        (cut, "files"),
        (flip, "files"),
        (another_model, "densities"),
        (another_backbone, "golden pictures"),
    ],
)
def test_the_check_that_fails_is_named_and_those_behind_it_are_not_claimed(
    copy: Path, damage: Callable[[Path], None], failed: str
) -> None:
    damage(copy)
    found = examine_bundle(copy, "cpu")
    assert not found.sound
    assert isinstance(found.error, BundleError)
    place = LOADING_CHECKS.index(failed)
    states = [check.passed for check in found.checks]
    assert states == [True] * place + [False] + [None] * (len(LOADING_CHECKS) - place - 1)
    assert found.error.found in found.checks[place].found
    with pytest.raises(BundleError) as raised:
        assert found.sound_detector
    assert raised.value is found.error


def test_a_flow_that_does_not_invert_fails_the_round_trip(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differnet.flows.health.MEDIAN_LIMIT", 0.0)
    monkeypatch.setattr("differnet.flows.health.FAR_LIMIT", 0.0)
    found = examine_bundle(saved, "cpu")
    assert [check.passed for check in found.checks] == [True] * 4 + [False]
    assert "healthy flow" in found.checks[-1].found


def test_a_folder_without_a_model_fails_at_once(tmp_path: Path) -> None:
    found = examine_bundle(tmp_path / "nothing", "cpu")
    assert [check.passed for check in found.checks] == [False, None, None, None, None]
    with pytest.raises(BundleError):
        load_bundle(tmp_path / "nothing", "cpu")
