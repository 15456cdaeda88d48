"""The ablation's own readings of evidence agree with the judge's, and each row says what it changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from differnet.calibration import together
from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.detection.evidence import RawEvidence
from differnet.evaluation.benchmark import BenchmarkError, run_benchmark
from differnet.images.layouts import Dataset, read_layout
from differnet.images.synthetic import make_sample_product

SMALL = DetectorSettings(
    image_size=64, folds=2, device="cpu", density=DensitySettings(steps=10, couplings=2, hidden=8)
)


@pytest.fixture(scope="module")
def ablation(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("ablation")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("ablation") / "flange"
    return read_layout(make_sample_product(folder, train=16, good_test=4, per_defect=1, per_wrong=0))


@pytest.fixture(scope="module")
def measured(ablation: ModuleType, product: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = ablation.measure(product, SMALL, 1)
    return found


def drawn(parts: int, seed: int, *, spoilt: int = 0) -> RawEvidence:
    """Evidence that depends on the kind of part; of the first ``spoilt`` it is larger."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(parts, 2))
    usual = 2 * np.sin(kinds[:, :1]) + 0.1 * rng.normal(size=(parts, 1))
    usual[:spoilt] += rng.uniform(0.2, 1, size=(spoilt, 1))
    local = usual + 0.1 * rng.normal(size=(parts, 2))
    nll = 3 + 0.5 * local
    maps = rng.normal(size=(parts, 4, 4)).astype(np.float32)
    extent, cells = np.exp(np.repeat(usual, 2, axis=1)), np.repeat(usual, 8, axis=1)
    return RawEvidence(usual, local, extent, cells, usual[:, 0], nll, kinds, (maps, maps), (maps,))


@pytest.fixture
def evidence(ablation: ModuleType) -> Any:
    return ablation.Evidence(drawn(80, 0), drawn(40, 1, spoilt=15), 0)


def test_own_surprises_add_up_to_the_order_of_the_judge(ablation: ModuleType, evidence: Any) -> None:
    said = ablation.surprises(evidence)
    # The whole, and patches at their strangest scale.
    assert len(said) == 2
    assert spearmanr(together(said), ablation.ABLATIONS["default"].read(evidence)).statistic > 1 - 1e-9
    strongest = ablation.ABLATIONS["strongest"].read(evidence)
    assert (strongest == np.max(said, axis=0)).all()


def test_without_kinds_what_depends_on_them_is_lost(ablation: ModuleType, evidence: Any) -> None:
    figures = {name: ablation.ABLATIONS[name].read(evidence) for name in ("default", "no_kinds", "local")}
    gap = {name: np.median(v[:15]) - np.median(v[15:]) for name, v in figures.items()}
    assert gap["default"] > gap["no_kinds"]
    alone = replace(evidence, held_out=replace(evidence.held_out, kinds=np.zeros((80, 0))))
    alone = replace(alone, test=replace(evidence.test, kinds=np.zeros((40, 0))))
    assert ablation.ABLATIONS["default"].read(alone) == pytest.approx(figures["no_kinds"])


def test_each_statistic_of_patches_is_read_alone(ablation: ModuleType, evidence: Any) -> None:
    rng = np.random.default_rng(2)

    def gaps(parts: RawEvidence) -> dict[str, float]:
        spoilt = replace(evidence, test=parts)
        read = {n: ablation.ABLATIONS[n].read(spoilt) for n in ("default", "typicality", "improbability")}
        return {name: float(np.median(v[15:25]) - np.median(v[25:])) for name, v in read.items()}

    fair = drawn(40, 3)
    # Parts whose volume alone is unusual, then parts whose latents alone are.
    rougher, stranger = fair.nll_local.copy(), fair.local.copy()
    rougher[15:25] += rng.uniform(2, 3, size=(10, 1))
    stranger[15:25] += rng.uniform(2, 3, size=(10, 1))
    rough, strange = gaps(replace(fair, nll_local=rougher)), gaps(replace(fair, local=stranger))
    assert abs(rough["typicality"]) < 0.5
    assert abs(strange["improbability"]) < 0.5
    for seen in (rough["improbability"], rough["default"], strange["typicality"], strange["default"]):
        assert seen > 2


def test_each_scale_of_patches_is_read_alone(ablation: ModuleType, evidence: Any) -> None:
    rng = np.random.default_rng(2)
    fair = drawn(40, 3)
    names = ("default", "fine", "coarse", "mean_scale")
    for scale in (0, 1):
        stranger = fair.local.copy()
        stranger[15:25, scale] += rng.uniform(2, 3, size=10)
        spoilt = replace(evidence, test=replace(fair, local=stranger))
        read = {name: ablation.ABLATIONS[name].read(spoilt) for name in names}
        gaps = {name: float(np.median(v[15:25]) - np.median(v[25:])) for name, v in read.items()}
        assert gaps["default"] > 2
        assert gaps[("fine", "coarse")[scale]] > 2
        assert abs(gaps[("coarse", "fine")[scale]]) < 0.5
        # Half of it is diluted by the scale that sees nothing.
        assert 0.5 < gaps["mean_scale"] < gaps["default"]


def test_the_default_row_is_the_benchmark(
    ablation: ModuleType, product: Dataset, measured: dict[str, Any]
) -> None:
    rows = measured["rows"]
    assert list(rows) == list(ablation.ABLATIONS)
    assert rows["default"]["image_auroc"] == run_benchmark(product, SMALL, 1)["image_auroc"]
    assert rows["default"]["difference"] == 0
    for r in rows.values():
        assert r["difference"] == pytest.approx(r["image_auroc"] - rows["default"]["image_auroc"])
        assert r["low"] <= r["difference"] <= r["high"]
        assert set(r["by_defect"]) == set(product.kinds)
    assert measured["parts"] == {"good": 4, "defective": 7}


def test_only_what_training_depends_on_is_trained(
    ablation: ModuleType, product: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, seen = Detector.fit, []

    def counted(self: Detector, pictures: Any, progress: Any = None) -> Detector:
        seen.append(self.settings)
        return fit(self, pictures, progress)

    monkeypatch.setattr(Detector, "fit", counted)
    found = ablation.measure(product, replace(SMALL, keep_suspects=True), 1)
    assert found["suspects"] == [0]
    # The last one tells simulated defects.
    assert [s.density.couplings for s in seen] == [2, 0, 2, 2]
    apart = [(8,), (16,)]
    assert [[scale.strides for scale in s.scales] for s in seen] == [apart, apart, [(8, 16)], apart]


def test_the_table_has_a_row_an_ablation(
    ablation: ModuleType, measured: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "ablation-few.json").write_text(json.dumps(measured, allow_nan=False), encoding="utf-8")
    lines = ablation.table(ablation.read_results(tmp_path))
    assert len(lines) == 2 + len(ablation.ABLATIONS)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| few | as it is by default | 1 | ")
    # Nobody was suspected among sixteen good parts.
    assert measured["suspects"] == [0]
    assert "| suspects kept | 1 | " in lines[-1]
    assert "| 0.00 |  | the same | " in lines[-1]
    # What trains anew is not asked of simulated defects.
    assert lines[-1].endswith("|  |")
    assert lines[2].endswith(f"| {100 * measured['simulated']['rows']['default']['auroc']:.2f} |")


def test_simulated_defects_are_of_parts_that_nobody_trained_on(
    ablation: ModuleType, product: Dataset, measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, trained = Detector.fit, []

    def seen(self: Detector, pictures: Any, progress: Any = None) -> Detector:
        trained.append(set(pictures))
        return fit(self, pictures, progress)

    monkeypatch.setattr(Detector, "fit", seen)
    found = ablation.measure_simulated(product, SMALL, 1)
    good = {p.path for p in product.train_good}
    assert len(trained[0]) == len(good) - found["parts"]
    assert trained[0] < good
    # The same draws give the same figures.
    assert found == measured["simulated"]
    assert set(found["rows"]) < set(ablation.ABLATIONS)
    for row in found["rows"].values():
        assert row["auroc"] == pytest.approx(np.mean(list(row["by_kind"].values())))
    assert found["rows"]["default"]["auroc"] > 0.5
    with pytest.raises(BenchmarkError, match="at least 16 training parts"):
        ablation.measure_simulated(replace(product, parts=product.parts[:10]), SMALL, 1)


def test_parts_that_cannot_be_read_are_refused(ablation: ModuleType, product: Dataset) -> None:
    broken = replace(product.test[0], path=product.root / "nowhere.png")
    spoilt = replace(product, parts=(*product.parts, broken))
    with pytest.raises(BenchmarkError, match="1 that cannot"):
        ablation.measure(spoilt, SMALL, 1)
    with pytest.raises(BenchmarkError, match="at least one seed"):
        ablation.measure(product, SMALL, 0)
