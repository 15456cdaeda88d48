"""The rivals of the benchmark: distances, coresets and weights against references; all of it on few parts."""

from __future__ import annotations

import doctest
import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.covariance import LedoitWolf
from torch import Tensor

from differnet.evaluation.metrics import MetricError, image_auroc
from differnet.evaluation.per_part import stacked
from differnet.images.layouts import Dataset, read_layout
from differnet.images.synthetic import make_sample_product


def _load() -> ModuleType:
    """Import the benchmark from its path: benchmarks are programs, not a package."""
    path = Path(__file__).parents[2] / "benchmarks" / "rivals.py"
    spec = importlib.util.spec_from_file_location("rivals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


rivals = _load()

SIZE = 64


def made(parts: int, seed: int, channels: Sequence[int] = (3, 4, 5)) -> list[Tensor]:
    """Return maps of correlated features whose level depends on the position."""
    generator = torch.Generator().manual_seed(seed)
    # The mixture and the levels are those of the product, not of the parts.
    product = torch.Generator().manual_seed(99)
    maps = []
    for width, side in zip(channels, (8, 4, 2), strict=True):
        mix = torch.randn(width, width, generator=product)
        level = torch.randn(width, side, side, generator=product)
        noise = torch.randn(parts, width, side, side, generator=generator)
        maps.append(torch.einsum("ij,njrc->nirc", mix, noise) + level)
    return maps


def gridded(maps: Sequence[Tensor]) -> NDArray[np.float64]:
    """Repeat coarse cells on the finest grid by numpy, ``(parts, rows, columns, features)``."""
    repeated = []
    for features in maps:
        times = maps[0].shape[2] // features.shape[2]
        repeated.append(features.double().numpy().repeat(times, axis=2).repeat(times, axis=3))
    return np.concatenate(repeated, axis=1).transpose(0, 2, 3, 1)


def test_docstring_examples() -> None:
    found = doctest.testmod(rivals)
    assert found.attempted >= 2
    assert found.failed == 0


@pytest.mark.parametrize("parts", [40, 6])
def test_padim_is_the_mahalanobis_distance_at_each_position(parts: int) -> None:
    # 6 parts of 12 features: without the ridge there would be no inverse.
    train, test = made(parts, 0), made(4, 1)
    found = rivals.PaDiM(SIZE, None, 0).fit(train).distances(test).numpy()
    good, fresh = gridded(train), gridded(test)
    assert found.shape == (4, 8, 8)
    for row, column in np.ndindex(8, 8):
        here = good[:, row, column]
        inverse = np.linalg.inv(np.cov(here, rowvar=False) + 0.01 * np.eye(12))
        wanted = [mahalanobis(vector, here.mean(0), inverse) for vector in fresh[:, row, column]]
        # float32 vectors and whitening.
        assert found[:, row, column] == pytest.approx(wanted, rel=1e-4)


def test_padim_draws_features_by_its_seed() -> None:
    train, test = made(40, 0), made(4, 1)
    drawn = [rivals.PaDiM(SIZE, 5, seed).fit(train).distances(test) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    every, more = (rivals.PaDiM(SIZE, n, 0).fit(train).distances(test) for n in (None, 500))
    assert torch.equal(every, more)
    # A distance can only grow with further features; float32 rounds it.
    assert bool((every > (1 - 1e-4) * drawn[0]).all())


def test_padim_finds_the_odd_part_and_its_place() -> None:
    train, test = made(60, 0), made(8, 1)
    test[0][3, :, 2, 5] += 30
    strangeness, heat = rivals.PaDiM(SIZE, None, 0).fit(train).score(test)
    assert int(strangeness.argmax()) == 3
    assert heat.shape == (8, SIZE, SIZE)
    assert heat.dtype == np.float32
    # Cells of 8 pixels: row 2 is 16 to 23, column 5 is 40 to 47. The blur may move a peak by a cell.
    row, column = np.unravel_index(heat[3].argmax(), heat[3].shape)
    assert abs(int(row) - 19.5) <= 8
    assert abs(int(column) - 43.5) <= 8
    assert strangeness == pytest.approx(heat.reshape(8, -1).max(1))


def greedy_by_hand(vectors: NDArray[np.float64], count: int, start: int) -> tuple[list[int], float]:
    distances, chosen = cdist(vectors, vectors), [start]
    while len(chosen) < count:
        left = [i for i in range(len(vectors)) if i not in chosen]
        chosen.append(max(left, key=lambda i: distances[i, chosen].min()))
    return chosen, float(distances[:, chosen].min(1).max())


@pytest.mark.parametrize("start", [0, 17])
def test_greedy_centres_are_those_of_brute_force(start: int) -> None:
    vectors = torch.randn(150, 6, generator=torch.Generator().manual_seed(start), dtype=torch.float64)
    chosen, radius = rivals.k_center_greedy(vectors, 30, start)
    wanted, wanted_radius = greedy_by_hand(vectors.numpy(), 30, start)
    assert chosen.tolist() == wanted
    assert radius == pytest.approx(wanted_radius, rel=1e-9)


def test_greedy_centres_cover_everything_and_lie_apart() -> None:
    vectors = torch.randn(400, 8, generator=torch.Generator().manual_seed(3))
    chosen, radius = rivals.k_center_greedy(vectors, 40, 0)
    # float32 squared norms of about 8.
    slack = 1e-4
    assert float(torch.cdist(vectors, vectors[chosen]).min(1).values.max()) <= radius + slack
    assert float(torch.pdist(vectors[chosen]).min()) >= radius - slack
    radii = [rivals.k_center_greedy(vectors, count, 0)[1] for count in (1, 2, 5, 20, 40)]
    assert radii == sorted(radii, reverse=True)


def test_greedy_radius_is_at_most_twice_the_best() -> None:
    vectors = torch.randn(14, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    distances = cdist(vectors.numpy(), vectors.numpy())
    best = min(distances[:, list(some)].min(1).max() for some in combinations(range(14), 3))
    for start in range(14):
        assert best <= rivals.k_center_greedy(vectors, 3, start)[1] * (1 + 1e-9)
        assert rivals.k_center_greedy(vectors, 3, start)[1] <= 2 * best


def test_greedy_never_takes_a_vector_twice() -> None:
    chosen, radius = rivals.k_center_greedy(torch.ones(5, 3), 9, 2)
    assert sorted(chosen.tolist()) == [0, 1, 2, 3, 4]
    assert radius == 0


def test_nearest_distance_is_that_of_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, memory = torch.randn(1500, 7, generator=generator), torch.randn(60, 7, generator=generator)
    wanted = cdist(vectors.numpy(), memory.numpy()).min(1)
    # A distance of 0.1 between norms of 3 keeps four digits in float32.
    assert rivals.nearest_distance(vectors, memory).numpy() == pytest.approx(wanted, abs=1e-4)


def test_reweighting_by_hand() -> None:
    # The patch is 3 from m* = (0, 0); near m* are (0, 0), (0, 4) and (-6, 0), at 3, 5 and 9 of the patch.
    memory = torch.tensor([[0.0, 4.0], [40.0, 0.0], [0.0, 0.0], [-6.0, 0.0], [0.0, 50.0]])
    patch = torch.tensor([3.0, 0.0])
    weight = 1 - math.exp(3) / (math.exp(3) + math.exp(5) + math.exp(9))
    assert rivals.reweighted(patch, memory, neighbours=3) == pytest.approx(3 * weight, rel=1e-6)
    # Asking for more neighbours than there are takes all; distances of 37 and 50.09 overflow nothing.
    assert rivals.reweighted(1000 * patch, 1000 * memory) == pytest.approx(3000)


def test_reweighting_of_copies_and_of_a_memory_of_one() -> None:
    patch = torch.tensor([2.0])
    assert rivals.reweighted(patch, torch.zeros(1, 1)) == 2
    # Three copies of the nearest: each has a third of the sum.
    assert rivals.reweighted(patch, torch.zeros(3, 1)) == pytest.approx(2 * (1 - 1 / 3))


def test_patchcore_knows_its_own_patches_and_finds_the_odd_one() -> None:
    train, test = made(20, 0), made(8, 1)
    whole = rivals.PatchCore(SIZE, 1.0, 0).fit(train)
    assert whole.facts()["memory"] == whole.facts()["of"] == 20 * 64
    # Distances of zero, up to the rounding of squared norms of about 20.
    assert whole.score(train)[0].max() < 0.02
    test[0][5, :, 6, 1] += 30
    few = rivals.PatchCore(SIZE, 0.1, 0).fit(train)
    assert few.facts()["memory"] == 128
    strangeness, heat = few.score(test)
    assert int(strangeness.argmax()) == 5
    row, column = np.unravel_index(heat[5].argmax(), heat[5].shape)
    # Averaged over 3 x 3 cells of 8 pixels.
    assert abs(int(row) - 51.5) <= 12
    assert abs(int(column) - 11.5) <= 12


def test_patchcore_cuts_what_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "MOST_PAIRS", 20 * 64 * 30)
    facts = rivals.PatchCore(SIZE, 0.1, 0).fit(made(20, 0)).facts()
    assert facts["memory"] == 30
    assert facts["share"] == pytest.approx(30 / 1280)


def test_projection_keeps_distances_within_a_quarter() -> None:
    vectors = torch.randn(60, 400, generator=torch.Generator().manual_seed(0))
    projected = rivals._projected(vectors, torch.Generator().manual_seed(1))
    assert projected.shape == (60, 128)
    ratio = torch.pdist(projected) / torch.pdist(vectors)
    # A length over 128 Gaussian combinations deviates by 1 / sqrt(256) = 6 %: four of them for 1,770 pairs.
    assert 0.75 < float(ratio.min()) < float(ratio.max()) < 1.25
    assert rivals._projected(vectors[:, :50], torch.Generator()).shape == (60, 50)


def test_gaussians_are_those_of_scikit_learn() -> None:
    train, test = made(30, 0), made(6, 1)

    def pooled(maps: Sequence[Tensor]) -> NDArray[np.float64]:
        arrays = [m.double().numpy() for m in maps]
        return np.concatenate([a.mean((2, 3)) for a in arrays] + [a.std((2, 3)) for a in arrays], axis=1)

    level, spread = pooled(train).mean(0), pooled(train).std(0)
    reference = LedoitWolf().fit((pooled(train) - level) / spread)
    whole, nothing = rivals.WholeGaussian().fit(train).score(test)
    assert nothing is None
    assert whole == pytest.approx(reference.mahalanobis((pooled(test) - level) / spread), rel=1e-6)

    def patches(maps: Sequence[Tensor]) -> NDArray[np.float64]:
        return maps[1].double().numpy().transpose(0, 2, 3, 1).reshape(-1, 4)

    reference = LedoitWolf().fit(patches(train))
    squared = np.sort(reference.mahalanobis(patches(test)).reshape(6, 16), axis=1)
    strangeness, heat = rivals.PatchGaussian(SIZE, 16).fit(train).score(test)
    assert strangeness == pytest.approx(squared[:, -10:].mean(1), rel=1e-6)
    assert heat.shape == (6, SIZE, SIZE)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few parts of the sample product."""
    folder = tmp_path_factory.mktemp("rivals") / "product"
    return read_layout(make_sample_product(folder, train=12, good_test=4, per_defect=1, per_wrong=0))


def test_every_method_is_measured(product: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results: dict[str, Any] = rivals.measure(product, list(rivals.METHODS), seeds=2, size=SIZE)
    assert list(results) == list(rivals.METHODS)
    for name, r in results.items():
        assert len(r["by_seed"]) == (2 if rivals.METHODS[name].random else 1)
        assert r["by_seed"][0]["parts"] == {"good": 4, "defective": 7}
        assert sorted(r["by_defect"]) == list(product.kinds)
        strangeness, defective, names = stacked(r["by_seed"])
        assert {name.split("/")[1] for name in names} == {"good", *product.kinds}
        assert image_auroc(strangeness[0], defective) == pytest.approx(r["by_seed"][0]["image_auroc"])
        # Of one defect a kind the mean over kinds is the figure over all.
        assert np.mean(list(r["by_defect"].values())) == pytest.approx(r["image_auroc"])
        assert (r["pixel_auroc"] is None) == (name == "gaussian_whole")
        assert all(seconds >= 0 for seconds in r["seconds"].values())
        assert r["configuration"]["settings"]["preprocessing"]["size"] == SIZE
        assert {"commit", "versions", "sha256"} <= set(r["configuration"])
    # 12 parts at 64 pixels are little to learn from; masks are large enough to be found all the same.
    assert results["patchcore_10"]["pixel_auroc"] > 0.7
    assert results["padim_all"]["pixel_auroc"] > 0.7

    (tmp_path / "rivals-few.json").write_text(json.dumps(results, allow_nan=False), encoding="utf-8")
    stored = rivals.read_results(tmp_path)
    assert stored == {"few": results}
    lines = rivals.table(stored)
    assert len(lines) == 2 + len(rivals.METHODS)
    assert len({line.count("|") for line in lines}) == 1
    assert "| few | PaDiM, all features | not random |" in lines[2 + list(rivals.METHODS).index("padim_all")]
    kinds = rivals.by_defect_table(stored)
    assert len(kinds) == 2 + len(product.kinds)
    assert len({line.count("|") for line in kinds}) == 1


def test_own_figures_lead_each_product() -> None:
    run = {"image_auroc": 0.99, "parts": {"good": 4, "defective": 6}}
    shared = {"image_auroc": 0.99, "pixel_auroc": None, "aupro": None, "by_defect": {"crack": 0.98}}
    stages = {"features": 3.0, "densities": 90.0, "calibration": 1.0, "inspection": 2.0}
    own = {"few": {**shared, "by_seed": [run, {**run, "image_auroc": 0.97}], "seconds": stages}}
    facts = {"share": 0.0117, "share_asked": 0.1}
    stages = {"features": 3.0, "fit": 9.0, "features_a_picture": 0.1, "scoring_a_picture": 0.05}
    cut = {**shared, "title": "PatchCore 10 %", "random": True, "by_seed": [{**run, "facts": facts}]}
    results = {"few": {"patchcore_10": {**cut, "seconds": stages}}}
    lines = rivals.table(results, own)
    assert lines[2].startswith("| few | **differnet** | 2 | 99.00 (97.00 to 99.00) |")
    assert lines[2].endswith("| none | none | 94 | 200 |")
    assert lines[3].startswith("| few | PatchCore 10 % (cut to 1.2 %) | 1 | 99.00 |")
    assert lines[3].endswith("| none | none | 12 | 150 |")
    assert rivals.by_defect_table(results, own)[2:] == ["| few | crack | 98.00 | 98.00 |"]


def test_differences_are_paired_by_part() -> None:
    def run(values: Sequence[float], names: str = "abcdef") -> dict[str, Any]:
        pairs = zip(names, values, strict=True)
        return {"scores": {n: {"label": "good" if n in "abc" else "dent", "total": v} for n, v in pairs}}

    own = {"few": {"by_seed": [run([1, 2, 3, 4, 5, 6]), run([1, 2, 4, 3, 5, 6])]}}
    shared = {"title": "PaDiM", "random": False}
    results = {
        "few": {
            # The same parts in another order.
            "padim_all": {**shared, "by_seed": [run([6, 5, 4, 1, 2, 3], "fedabc")]},
            "padim_100": {**shared, "title": "blind", "by_seed": [run([1, 1, 1, 1, 1, 1])]},
            "patchcore_1": {**shared, "by_seed": [run([1, 2, 3, 4, 5, 6], "abcdeg")]},
            "patchcore_10": {**shared, "by_seed": [{}]},
        },
        "other": {"padim_all": {**shared, "by_seed": [run([1, 2, 3, 4, 5, 6])]}},
    }
    lines = rivals.differences_table(results, own)
    assert len(lines) == 4
    # One of nine pairs the wrong way in one run of two.
    assert lines[2].startswith("| few | PaDiM | 2, 1 | -5.56 | ")
    assert lines[2].endswith(" | tie |")
    assert lines[3].startswith("| few | blind | 2, 1 | +44.44 | ")
    assert lines[3].endswith(" | above |")
    assert rivals.differences_table({"other": results["other"]}, own) == []


def test_a_product_without_defects_is_refused_before_work(product: Dataset) -> None:
    good = Dataset(product.root, product.layout, product.good)
    with pytest.raises(MetricError, match="good and defective"):
        rivals.measure(good, ["padim_100"], seeds=1)
