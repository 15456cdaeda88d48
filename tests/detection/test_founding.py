"""The named methods: DifferNet by hand on small cases, where its heat maps lie, the Gaussian, the command."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor
from torch.nn import functional
from typer.testing import CliRunner

from differnet.cli import app
from differnet.cli.evaluate import Measured
from differnet.detection import (
    DifferNet,
    DifferNetSettings,
    Method,
    MethodError,
    MethodSettings,
    PooledGaussian,
)
from differnet.detection.founding import even_degrees, rotated
from differnet.evaluation import MetricError
from differnet.evaluation.benchmark import BenchmarkError
from differnet.evaluation.methods import (
    METHODS,
    evaluate_method,
    make_method,
    run_method_benchmark,
    run_method_benchmark_by_product,
)
from differnet.features import WeightsError, prepare_batch
from differnet.flows import AffineCoupling
from differnet.images.layouts import read_layout
from differnet.images.reading import ImageError, read_image
from differnet.images.synthetic import DEFECT_KINDS, make_sample_product

Pixels = NDArray[np.uint8]
Write = Callable[[list[Pixels]], list[Path]]

TINY = DifferNetSettings(
    image_size=64,
    device="cpu",
    training_rotations=2,
    rotations=3,
    map_rotations=2,
    blocks=1,
    hidden=8,
    epochs=6,
    batch=8,
)
FEW = 10


@dataclass(frozen=True)
class Quick(DifferNetSettings):
    """What the command is tested with: it has no option for these."""

    blocks: int = 1
    hidden: int = 8
    epochs: int = 2


@pytest.fixture(scope="module")
def differnet(good: list[Pixels]) -> DifferNet:
    """Fitted on a few parts; tests do not change it."""
    return DifferNet(TINY).fit(good[:FEW], seed=0)


@pytest.fixture(scope="module")
def gaussian(good: list[Pixels]) -> PooledGaussian:
    """Fitted on all parts; tests do not change it."""
    return PooledGaussian(MethodSettings(image_size=64, device="cpu")).fit(good)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample product in small."""
    folder = tmp_path_factory.mktemp("founding") / "product"
    return make_sample_product(folder, train=6, good_test=2, per_defect=1, per_wrong=0)


def test_quarter_turns_are_exact() -> None:
    pictures = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    turned = rotated(pictures, torch.tensor([90.0, 180.0, -90.0]))
    for picture, found, quarters in zip(pictures, turned, (-1, 2, 1), strict=True):
        # Interpolation at places that are off by float32's rounding of the angle.
        assert torch.allclose(found, torch.rot90(picture, quarters, (1, 2)), atol=1e-5)


@pytest.mark.parametrize("degrees", [17.0, 120.0, -72.5])
def test_a_turn_and_back_is_the_picture_itself(degrees: float) -> None:
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    picture = torch.exp(-20 * ((rows - 0.4).square() + (columns + 0.2).square()))[None, None]
    angle = torch.tensor([degrees])
    there = rotated(picture, angle)
    # Two bilinear passes, each off by at most h^2/8 of both second derivatives: 2/8 / 5.06^2 at the top.
    assert torch.allclose(rotated(there, -angle), picture, atol=0.02)
    assert not torch.allclose(rotated(there, angle), picture, atol=0.5)


def test_even_degrees_divide_the_turn() -> None:
    degrees = even_degrees(64)
    assert degrees[0] == 0
    assert torch.allclose(degrees.diff(), torch.full((63,), 360 / 64))


def vectors_by_hand(method: DifferNet, pixels: Pixels) -> Tensor:
    assert method._opened is not None
    backbone, preprocessing = method._opened
    whole = torch.from_numpy(preprocessing.prepare(pixels))[None]
    found = []
    for degrees in (0.0, 120.0, 240.0):
        view = rotated(whole, torch.tensor([degrees]))
        sizes = [functional.interpolate(view, size=side, mode="area") for side in (64, 32, 16)]
        with torch.no_grad():
            found.append(torch.cat([backbone.network(size)[-1].mean((2, 3)) for size in sizes], dim=1))
    return torch.cat(found)


def test_strangeness_is_half_the_squared_latent_averaged(differnet: DifferNet, fresh: list[Pixels]) -> None:
    assert differnet.flow_ is not None
    z, log_det = differnet.flow_.transform(vectors_by_hand(differnet, fresh[0]))
    assert z.shape == (3, 3 * 320)
    halves = z.square().sum(1) / 2
    full = halves + z.shape[1] / 2 * math.log(2 * math.pi) - log_det
    found = next(differnet.judge([fresh[0]]))
    # float32 sums of 960 squares, in batches of other sizes.
    assert found.strangeness == pytest.approx(float(halves.mean()), rel=1e-3)
    assert found.nll == pytest.approx(float(full.mean()), rel=1e-3)
    assert differnet.strangeness(fresh[:1])[0] == pytest.approx(found.strangeness, rel=1e-3)


def test_z_only_and_the_full_density_are_different_quantities(
    differnet: DifferNet, fresh: list[Pixels]
) -> None:
    judged = list(differnet.judge(fresh[:6], located=False))
    gaps = np.array([j.nll - j.strangeness for j in judged])
    # The log-determinant differs from picture to picture: no constant lies between them.
    assert np.ptp(gaps) > 1e-3


def test_the_gaussian_s_two_figures_differ_by_a_constant(
    gaussian: PooledGaussian, fresh: list[Pixels]
) -> None:
    judged = list(gaussian.judge(fresh[:6]))
    assert np.ptp([j.nll - j.strangeness for j in judged]) == pytest.approx(0, abs=1e-2)
    assert all(j.heat_map is None for j in judged)
    assert gaussian.heat_map(fresh[0]) is None


def test_the_gaussian_is_ledoit_and_wolf_s(
    gaussian: PooledGaussian, good: list[Pixels], fresh: list[Pixels]
) -> None:
    assert gaussian._opened is not None
    backbone, preprocessing = gaussian._opened

    def statistics(pictures: list[Pixels]) -> NDArray[np.float64]:
        pixels = torch.stack([torch.from_numpy(preprocessing.prepare(p)) for p in pictures])
        maps = [m.double().numpy() for m in backbone(pixels)]
        pooled = [m.mean((2, 3)) for m in maps] + [m.std((2, 3)) for m in maps]
        return np.concatenate(pooled, axis=1)

    train, test = statistics(good), statistics(fresh)
    deviation = train.std(0)
    deviation = np.maximum(deviation, 1e-3 * np.sort(deviation)[(len(deviation) - 1) // 2])
    mean = train.mean(0)
    wanted = LedoitWolf().fit((train - mean) / deviation).mahalanobis((test - mean) / deviation) / 2
    # float32 features and whitening.
    assert gaussian.strangeness(fresh) == pytest.approx(wanted, rel=2e-3)
    assert test.shape[1] == 2 * (40 + 112 + 320)


def local_vectors(_: DifferNet, pixels: Tensor) -> Tensor:
    """Stand in for the network: each colour's mean square, whose gradient is large where it is bright."""
    return pixels.square().mean((2, 3))


@pytest.mark.parametrize("map_rotations", [1, 5, 9])
def test_heat_maps_of_rotations_are_laid_back_where_they_came_from(
    map_rotations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DifferNet, "_vectors", local_vectors)
    noise = np.random.default_rng(0)
    parts = [noise.integers(100, 150, (64, 64, 3), dtype=np.uint8) for _ in range(8)]
    settings = replace(TINY, rotations=9, map_rotations=map_rotations, epochs=1)
    method = DifferNet(settings).fit(parts)
    spotted = parts[0].copy()
    spotted[14:19, 38:43] = 255
    heat = method.heat_map(spotted)
    assert heat is not None
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    # The spot's middle is at (16, 40), and its top is flat: its own half width.
    assert abs(int(row) - 16) <= 2
    assert abs(int(column) - 40) <= 2
    # Nowhere else, in particular not at the places that the spot is turned to.
    far = heat.copy()
    far[8:25, 32:49] = 0
    assert far.max() < 0.5 * heat.max()


def test_the_network_is_alarmed_by_a_planted_spot_and_looks_at_it() -> None:
    noise = np.random.default_rng(1)

    def plate() -> Pixels:
        grain = cv2.GaussianBlur(noise.normal(128, 40, (96, 128, 3)).astype(np.float32), (0, 0), 1.5)
        return np.asarray(grain.clip(0, 255), dtype=np.uint8)

    settings = replace(TINY, image_size=128, rotations=6, map_rotations=6, training_rotations=4)
    method = DifferNet(settings).fit([plate() for _ in range(16)])
    spotted, clean = plate(), plate()
    disc = cv2.circle(np.zeros((96, 128), np.uint8), (96, 28), 10, 1, -1) > 0
    spotted[disc] = 255
    strangeness = method.strangeness([spotted, clean])
    assert strangeness[0] > 2 * strangeness[1]
    heat = method.heat_map(spotted)
    assert heat is not None
    assert heat.shape == (96, 128)
    assert heat.dtype == np.float32
    # Pooled features locate coarsely: the peak itself may lie elsewhere on a picture of one texture.
    assert heat[disc].mean() > 1.5 * heat[~disc].mean()


def test_a_heat_map_is_over_the_picture_and_never_negative(differnet: DifferNet, fresh: list[Pixels]) -> None:
    wide = np.ascontiguousarray(np.concatenate([fresh[0], fresh[0]], axis=1))
    heat = differnet.heat_map(wide)
    assert heat is not None
    assert heat.shape == wide.shape[:2]
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() > 0


def test_the_same_seed_learns_the_same(differnet: DifferNet, good: list[Pixels], fresh: list[Pixels]) -> None:
    first = differnet.strangeness(fresh[:3])
    assert np.array_equal(DifferNet(TINY).fit(good[:FEW], seed=0).strangeness(fresh[:3]), first)
    assert not np.allclose(DifferNet(TINY).fit(good[:FEW], seed=1).strangeness(fresh[:3]), first)


def test_blocks_are_two_couplings_and_epochs_see_every_part(good: list[Pixels]) -> None:
    told: list[tuple[str, int, int]] = []
    method = DifferNet(replace(TINY, blocks=3)).fit(good[:FEW], progress=lambda *step: told.append(step))
    assert method.flow_ is not None
    couplings = [m for m in method.flow_.modules() if isinstance(m, AffineCoupling)]
    assert [c.feature_map.bounds[0].item() for c in couplings] == [3.0] * 6
    # Ten parts are two batches of eight, six times over.
    assert told[0] == ("features", FEW, FEW)
    assert told[-1] == ("density", 12, 12)
    assert set(method.seconds) == {"features", "density"}


def test_the_seed_of_the_gaussian_changes_nothing(
    gaussian: PooledGaussian, good: list[Pixels], fresh: list[Pixels]
) -> None:
    again = PooledGaussian(gaussian.settings).fit(good, seed=7)
    assert np.array_equal(again.strangeness(fresh[:3]), gaussian.strangeness(fresh[:3]))


def test_files_pictures_and_arrays_are_judged_alike(
    differnet: DifferNet, fresh: list[Pixels], files: Write
) -> None:
    paths = files(fresh[:2])
    wanted = differnet.strangeness(fresh[:2])
    assert np.array_equal(differnet.strangeness(paths), wanted)
    assert np.array_equal(differnet.strangeness([str(p) for p in paths]), wanted)
    assert np.array_equal(differnet.strangeness([read_image(p) for p in paths]), wanted)
    assert differnet.strangeness([]).shape == (0,)


def test_jitter_changes_light_within_its_bounds(good: list[Pixels]) -> None:
    method = DifferNet(replace(TINY, jitter=0.2, epochs=1)).fit(good[:4])
    assert method._opened is not None
    _, preprocessing = method._opened
    pixels = prepare_batch([method._read(good[0])] * 200, preprocessing)
    jittered = method._jittered(pixels, torch.Generator().manual_seed(0))
    mean, std = preprocessing.mean[0], preprocessing.std[0]
    before, after = pixels * std + mean, jittered * std + mean
    assert -1e-6 <= float(after.min()) < float(after.max()) <= 1 + 1e-6
    ratio = after.mean((1, 2, 3)) / before.mean((1, 2, 3))
    # Clipping at white takes a little of the brightness.
    assert 0.79 < float(ratio.min()) < 0.85
    assert 1.1 < float(ratio.max()) < 1.21
    dull = (after.std((1, 2, 3)) / after.mean((1, 2, 3))) / (before.std((1, 2, 3)) / before.mean((1, 2, 3)))
    assert 0.79 < float(dull.min()) < 0.85


def test_too_few_parts_are_refused(good: list[Pixels], files: Write, tmp_path: Path) -> None:
    for method in (DifferNet(TINY), PooledGaussian(MethodSettings(image_size=64))):
        with pytest.raises(MethodError, match="at least 4 readable"):
            method.fit([])
        # The same part over and over is one part.
        with pytest.raises(MethodError, match="found 1"):
            method.fit([good[0]] * 6)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"cut")
    method = PooledGaussian(MethodSettings(image_size=64))
    with pytest.raises(MethodError, match=r"found 3 \(1 could not be read\)"):
        method.fit([*files(good[:3]), broken])
    assert method.fit([*files(good[:4]), broken]).skipped[0][0] == str(broken)


def test_a_picture_that_cannot_be_judged_is_an_error(gaussian: PooledGaussian, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"cut")
    with pytest.raises(ImageError):
        gaussian.strangeness([broken])
    with pytest.raises(MethodError, match="RGB pixels"):
        gaussian.strangeness([np.zeros((8, 8), np.uint8)])


def test_a_method_is_fitted_before_it_is_asked(good: list[Pixels]) -> None:
    for method in (DifferNet(TINY), PooledGaussian()):
        with pytest.raises(MethodError, match="Call fit first"):
            method.strangeness(good[:1])


@pytest.mark.parametrize(
    "wrong", [{"rotations": 0}, {"training_rotations": 0}, {"jitter": 1.0}, {"jitter": -0.1}, {"epochs": 0}]
)
def test_settings_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MethodError):
        DifferNetSettings(**wrong)


def test_methods_are_made_by_name() -> None:
    made = make_method("differnet", rotations=5, training_rotations=None)
    assert isinstance(made, DifferNet)
    assert (made.settings.rotations, made.settings.training_rotations) == (5, 16)
    assert isinstance(make_method("gaussian", image_size=128), PooledGaussian)
    with pytest.raises(MethodError, match="differnet, gaussian"):
        make_method("detector")
    with pytest.raises(MethodError, match="found rotations"):
        make_method("gaussian", rotations=5)
    assert [method.value for method in Measured] == ["detector", *METHODS]


def test_only_networks_with_weights_serve(good: list[Pixels]) -> None:
    with pytest.raises(WeightsError):
        PooledGaussian(MethodSettings(backbone="resnet18")).fit(good[:4])


def test_a_benchmark_has_the_detector_s_fields(product: Path) -> None:
    dataset = read_layout(product, "mvtec")
    measured = run_method_benchmark(dataset, DifferNet(TINY), 2)
    json.dumps(measured, allow_nan=False)
    assert measured["method"] == "differnet"
    assert [run["seed"] for run in measured["by_seed"]] == [0, 1]
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        assert measured[name] == pytest.approx(np.mean([run[name] for run in measured["by_seed"]]))
    assert set(measured["by_defect"]) == set(DEFECT_KINDS)
    assert measured["evidence"]["z_only"] == pytest.approx(measured["image_auroc"])
    assert {"features", "density", "inspection", "metrics", "total"} == set(measured["seconds"])
    assert measured["configuration"]["settings"]["rotations"] == 3
    assert measured["by_seed"][0]["training_vectors"] == 12


def test_unreadable_test_parts_are_the_strangest(product: Path, tmp_path: Path) -> None:
    dataset = read_layout(product, "mvtec")
    method = PooledGaussian(MethodSettings(image_size=64)).fit([p.path for p in dataset.train_good])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"cut")

    def measured(good: bool) -> dict[str, Any]:
        spoilt = next(p for p in dataset.test if (p.label == "good") is good)
        parts = [replace(p, path=broken) if p is spoilt else p for p in dataset.parts]
        return evaluate_method(method, replace(dataset, parts=tuple(parts)))

    assert measured(good=True)["image_auroc"] <= 0.5
    assert measured(good=False)["by_defect"][sorted(DEFECT_KINDS)[0]] == 1.0


def test_what_cannot_be_measured_is_refused_before_fitting(
    product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Method, "fit", lambda *_: pytest.fail("fitted for nothing"))
    dataset, method = read_layout(product, "mvtec"), PooledGaussian()
    with pytest.raises(BenchmarkError, match="at least one seed"):
        run_method_benchmark(dataset, method, 0)
    only_good = replace(dataset, parts=tuple(p for p in dataset.parts if p.label == "good"))
    with pytest.raises(MetricError, match="good and defective"):
        run_method_benchmark(only_good, method, 1)
    halves = tuple(replace(p, product="ab"[i % 2]) for i, p in enumerate(dataset.parts))
    with pytest.raises(BenchmarkError, match="one product; found a, b"):
        run_method_benchmark(replace(dataset, parts=halves), method, 1)


def test_each_product_is_measured_by_itself(product: Path) -> None:
    dataset = read_layout(product, "mvtec")
    twice = tuple(replace(p, product=name) for name in ("a", "b") for p in dataset.parts)
    method = PooledGaussian(MethodSettings(image_size=64))
    told: list[str] = []
    together = run_method_benchmark_by_product(
        replace(dataset, parts=twice), method, 1, finished=lambda name, _: told.append(name)
    )
    assert told == list(together["by_product"]) == ["a", "b"]
    assert together["image_auroc"] == together["by_product"]["a"]["image_auroc"]
    assert together["method"] == "gaussian"


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_measures_the_paper_s_method(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "differnet", (DifferNet, Quick))
    words = ["benchmark", product, "--layout", "mvtec", "--image-size", 64, "--method", "differnet"]
    shown = run(*words, "--rotations", 2, "--training-rotations", 2, "--json")
    assert shown.exit_code == 0, shown.stderr
    figures = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert figures["method"] == "differnet"
    assert figures["pixel_auroc"] is not None
    assert figures["aupro"] is not None
    settings = figures["configuration"]["settings"]
    assert (settings["rotations"], settings["training_rotations"]) == (2, 2)


def test_the_command_measures_the_gaussian(product: Path) -> None:
    words = ["benchmark", product, "--layout", "mvtec", "--image-size", 64, "--method", "gaussian"]
    figures = json.loads(run(*words, "--json").stdout, parse_constant=pytest.fail)
    assert figures["pixel_auroc"] is None
    shown = run(*words)
    assert shown.exit_code == 0, shown.stderr
    assert f"{figures['image_auroc']:.4f}" in shown.stdout
    assert "not measured" in shown.stdout


def test_rotations_belong_to_the_paper_s_method(product: Path) -> None:
    shown = run("benchmark", product, "--rotations", 4)
    assert shown.exit_code == 2
    assert "--method differnet" in shown.stderr
    assert run("benchmark", product, "--method", "none").exit_code == 2
