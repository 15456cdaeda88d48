"""What a model is measured against is its whole network, however little of it the model looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detection.conftest import SMALL

from differnet.cli.bench import bare_in_words
from differnet.detection import Detector
from differnet.features import TO_THE_END, Backbone, WeightsError, find_weights
from differnet.images.reading import write_png
from differnet.images.synthetic import render_part
from differnet.runtime import bench
from differnet.runtime.bench import measure

SIDE = 64


@pytest.fixture(scope="module")
def sooner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose network ends before its coarsest map."""
    settings = replace(SMALL, image_size=SIDE, folds=2, strides=(8, 16))
    detector = Detector(settings).fit([render_part(seed, size=SIDE).pixels for seed in range(8)]).calibrate()
    return detector.save(tmp_path_factory.mktemp("sooner") / "model")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "part.png"
    write_png(path, render_part(90, size=SIDE).pixels)
    return path


def size_of(network: Backbone) -> int:
    return sum(parameter.numel() for parameter in network.network.parameters())


def lacking(*_: object, **__: object) -> None:
    raise WeightsError(expected="weights", found="none", remedy="Install them.")


def test_the_network_is_taken_to_its_end(sooner: Path, picture: Path) -> None:
    detector = Detector.load(sooner, "cpu")
    network, whole = bench._whole_network(detector)
    assert whole
    assert network.strides == TO_THE_END
    true = Backbone(network.name, find_weights(network.name), TO_THE_END)
    assert size_of(network) == size_of(true) > 2 * size_of(detector._network())
    pixels = torch.rand(1, 3, SIDE, SIDE)
    assert all(torch.equal(a, b) for a, b in zip(network(pixels), true(pixels), strict=True))
    (speed,) = measure(sooner, [picture], ["torch"], rounds=3, cold=False)
    assert speed.whole
    assert bare_in_words([speed]) == "the whole network"


def test_without_its_weights_it_is_said_how_far_it_goes(
    sooner: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "find_weights", lacking)
    (speed,) = measure(sooner, [picture], ["torch"], rounds=3, cold=False)
    assert not speed.whole
    assert "as far as the model looks" in bare_in_words([speed])


def test_other_weights_of_that_name_are_not_taken(sooner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load(sooner, "cpu")
    others = replace(find_weights(detector.settings.backbone), sha256="0" * 64)
    monkeypatch.setattr(bench, "find_weights", lambda _: others)
    assert bench._whole_network(detector) == (detector._network(), False)


def test_a_model_that_looks_at_all_needs_no_weights(plain: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "find_weights", lacking)
    assert bench._whole_network(plain) == (plain._network(), True)
