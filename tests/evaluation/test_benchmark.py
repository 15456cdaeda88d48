"""The benchmark's one object: its keys, its figures, and what becomes of missing masks and bad files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.evaluation import MetricError, image_auroc
from differnet.evaluation.benchmark import (
    BenchmarkError,
    Trial,
    configuration_of,
    evaluate_detector,
    run_benchmark,
    run_benchmark_by_product,
)
from differnet.evaluation.per_part import stacked
from differnet.images.layouts import Dataset, Part, read_layout
from differnet.images.reading import read_mask, write_png
from differnet.images.synthetic import render_part

SETTINGS = DetectorSettings(
    image_size=64, folds=2, device="cpu", density=DensitySettings(steps=10, couplings=2, hidden=8)
)
KINDS = ("missing_piece", "wrong_colour")
ALIENS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "aliens"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MVTec tree of 12 training and 4 good parts, and 2 of each of two defects, with masks."""
    root = tmp_path_factory.mktemp("benchmark") / "flange"
    for folder, seeds in (("train/good", range(12)), ("test/good", range(100, 104))):
        (root / folder).mkdir(parents=True)
        for seed in seeds:
            write_png(root / folder / f"{seed:03}.png", render_part(seed, size=64).pixels)
    for kind in KINDS:
        (root / "test" / kind).mkdir()
        (root / "ground_truth" / kind).mkdir(parents=True)
        for seed in (200, 201):
            part = render_part(seed, defect=kind, size=64)
            write_png(root / "test" / kind / f"{seed}.png", part.pixels)
            write_png(root / "ground_truth" / kind / f"{seed}_mask.png", part.mask)
    return root


@pytest.fixture
def dataset(product: Path) -> Dataset:
    return read_layout(product, "mvtec")


@pytest.fixture(scope="module")
def measured(product: Path) -> dict[str, Any]:
    """Two seeds."""
    return run_benchmark(read_layout(product, "mvtec"), SETTINGS, 2)


def test_benchmark_is_one_strict_json_object(measured: dict[str, Any]) -> None:
    again = json.loads(json.dumps(measured, allow_nan=False))
    assert set(again) == {
        *("image_auroc", "image_auroc_spread", "pixel_auroc", "aupro", "by_defect", "evidence"),
        *("by_seed", "seconds", "configuration"),
    }


def test_means_are_over_seeds(measured: dict[str, Any]) -> None:
    runs = measured["by_seed"]
    assert [run["seed"] for run in runs] == [0, 1]
    assert runs[0]["model_id"] != runs[1]["model_id"]
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        assert measured[name] == pytest.approx(np.mean([run[name] for run in runs]))
        assert 0 <= measured[name] <= 1
    assert measured["image_auroc_spread"] == pytest.approx(np.ptp([run["image_auroc"] for run in runs]))
    assert set(measured["by_defect"]) == set(KINDS)
    for kind in KINDS:
        assert measured["by_defect"][kind] == pytest.approx(np.mean([r["by_defect"][kind] for r in runs]))
    assert set(measured["evidence"]) == {
        *("nll_global", "nll_local", "typicality_global", "typicality_local")
    }


def test_rates_count_parts(measured: dict[str, Any]) -> None:
    for run in measured["by_seed"]:
        assert run["parts"] == {"good": 4, "defective": 4}
        for name in ("overkill", "review", "escape"):
            rate = run[name]
            assert rate["of"] == 4
            assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1
        assert set(run["couplings_kept"]) == {"whole", "fine", "coarse", "of"}


def test_each_part_keeps_its_figures(measured: dict[str, Any]) -> None:
    for run in measured["by_seed"]:
        kept = run["scores"]
        assert set(kept) == {f"test/good/{seed}.png" for seed in range(100, 104)} | {
            f"test/{kind}/{seed}.png" for kind in KINDS for seed in (200, 201)
        }
        figures, defective, _ = stacked([run])
        # Rounded to 4 decimals: no two of eight parts come as near.
        assert image_auroc(figures[0], defective) == run["image_auroc"]
        for name, one in kept.items():
            assert name.split("/")[1] == one["label"]
            assert {"total", "whole", "local", "p_whole", "p_local"} <= set(one)
            assert ("defect_pixels" in one) == (one["label"] in KINDS)
            if "defect_pixels" in one:
                assert one["defect_pixels"] > 0
                assert one["heat_at_defect"] <= one["heat"]


def test_seconds_are_by_stage(measured: dict[str, Any]) -> None:
    seconds = measured["seconds"]
    stages = {"features", "densities", "calibration", "references", "inspection", "metrics"}
    assert set(seconds) == stages | {"total"}
    assert seconds["total"] == pytest.approx(sum(seconds[stage] for stage in stages), abs=0.05)


def test_configuration_is_enough_to_run_it_again(measured: dict[str, Any]) -> None:
    configuration = measured["configuration"]
    assert configuration["layout"] == "mvtec"
    assert configuration["seeds"] == 2
    chosen = configuration["settings"]
    assert chosen["image_size"] == 64
    assert chosen["density"]["steps"] == 10
    assert [(s["name"], s["strides"]) for s in chosen["scales"]] == [("fine", (8,)), ("coarse", (16,))]
    assert "max_pixels" in chosen["reading"]


def test_a_trial_names_another_configuration(product: Path) -> None:
    dataset = read_layout(product, "mvtec")

    def name(trial: Trial | None) -> Any:
        return configuration_of(dataset, SETTINGS, 1, trial)["sha256"]

    names = [name(Trial()), name(Trial(parts=4)), name(Trial(parts=5)), name(Trial(contamination=0.1))]
    assert len(set(names)) == 4
    assert name(None) == names[0]
    assert configuration_of(dataset, SETTINGS, 1, Trial(parts=4))["trial"]["parts"] == 4


def test_same_seeds_measure_the_same(product: Path, measured: dict[str, Any]) -> None:
    again = run_benchmark(read_layout(product, "mvtec"), SETTINGS, 1)
    first = measured["by_seed"][0]
    timeless = {name: value for name, value in again["by_seed"][0].items() if name != "seconds"}
    assert timeless == {name: value for name, value in first.items() if name != "seconds"}


def test_without_masks_pixel_figures_are_null(product: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(product, tmp_path / "flange"))
    shutil.rmtree(bare / "ground_truth")
    measured = run_benchmark(read_layout(bare, "mvtec"), SETTINGS, 1)
    assert measured["pixel_auroc"] is None
    assert measured["aupro"] is None
    assert measured["by_seed"][0]["aupro"] is None
    assert measured["image_auroc"] is not None
    json.dumps(measured, allow_nan=False)


def test_unreadable_test_parts_count_as_rejected(product: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(product, tmp_path / "flange"))
    (broken / "test" / "good" / "100.png").write_bytes(b"cut")
    (broken / "test" / KINDS[0] / "200.png").write_bytes(b"cut")
    (broken / "train" / "good" / "003.png").write_bytes(b"cut")
    run = run_benchmark(read_layout(broken, "mvtec"), SETTINGS, 1)["by_seed"][0]
    assert run["parts"] == {"good": 4, "defective": 4}
    assert run["overkill"]["events"] >= 1
    assert run["escape"]["events"] <= 3
    assert np.isfinite(run["image_auroc"])


def test_evaluation_of_a_detector_has_an_interval(product: Path) -> None:
    dataset = read_layout(product, "mvtec")
    detector = Detector(SETTINGS).fit([part.path for part in dataset.train_good]).calibrate()
    told: list[tuple[str, int, int]] = []
    measured = evaluate_detector(detector, dataset, lambda *given: told.append(given))
    low, high = measured["image_auroc_interval"]
    assert low <= measured["image_auroc"] <= high
    assert told[-1] == ("inspect", 8, 8)
    assert set(measured["seconds"]) == {"inspection", "metrics"}


def test_several_masks_of_a_picture_count_as_their_union(product: Path, tmp_path: Path) -> None:
    dataset = read_layout(product, "mvtec")
    detector = Detector(SETTINGS).fit([part.path for part in dataset.train_good]).calibrate()

    def figures(keep: int) -> list[float]:
        parts = tuple(replace(part, mask_paths=halves(part)[:keep]) for part in dataset.parts)
        measured = evaluate_detector(detector, replace(dataset, parts=parts))
        return [measured["pixel_auroc"], measured["aupro"]]

    def halves(part: Part) -> tuple[Path, ...]:
        cut: list[Path] = []
        for path in part.mask_paths:
            mask = read_mask(path)
            before = mask.cumsum().reshape(mask.shape) <= mask.sum() // 2
            for half in (mask & before, mask & ~before):
                assert half.any()
                cut.append(tmp_path / f"{path.parent.name}-{path.stem}-{len(cut)}.png")
                write_png(cut[-1], half)
        return tuple(cut)

    whole = evaluate_detector(detector, dataset)
    assert figures(2) == [whole["pixel_auroc"], whole["aupro"]]
    assert figures(1) != figures(2)


def test_each_detector_is_handed_over(product: Path, measured: dict[str, Any]) -> None:
    seen: dict[int, str] = {}
    run_benchmark(
        read_layout(product, "mvtec"), SETTINGS, 2, trained=lambda seed, d: seen.update({seed: d.model_id})
    )
    assert seen == {run["seed"]: run["model_id"] for run in measured["by_seed"]}


def test_progress_names_the_seed(product: Path) -> None:
    stages: list[str] = []
    run_benchmark(read_layout(product, "mvtec"), SETTINGS, 2, lambda stage, *_: stages.append(stage))
    assert {"seed 1 of 2: features", "seed 2 of 2: densities", "seed 2 of 2: inspect"} <= set(stages)


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seed_is_no_benchmark(product: Path, seeds: int) -> None:
    for run in (run_benchmark, run_benchmark_by_product):
        with pytest.raises(BenchmarkError, match="at least one seed"):
            run(read_layout(product, "mvtec"), SETTINGS, seeds)


@pytest.fixture(scope="module")
def two_products(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product twice, its copy with one training part less."""
    root = tmp_path_factory.mktemp("products")
    for name in ("flange", "gasket"):
        shutil.copytree(product, root / name)
    (root / "gasket" / "train" / "good" / "011.png").unlink()
    return root


def test_each_product_has_models_of_its_own(
    two_products: Path, product: Path, measured: dict[str, Any]
) -> None:
    stages: set[str] = set()
    finished: list[str] = []
    together = run_benchmark_by_product(
        read_layout(two_products),
        SETTINGS,
        2,
        lambda stage, *_: stages.add(stage),
        lambda name, figures: finished.append(f"{name} {figures['configuration']['settings']['product']}"),
    )
    json.dumps(together, allow_nan=False)
    each = together["by_product"]
    assert list(each) == ["flange", "gasket"]
    assert finished == ["flange flange", "gasket gasket"]
    # The name of a product is in a model's identity, and in none of its figures.
    for name in ("image_auroc", "pixel_auroc", "aupro", "by_defect", "evidence"):
        assert each["flange"][name] == measured[name]
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        assert together[name] == pytest.approx(np.mean([one[name] for one in each.values()]))
    by_seed = np.array([[run["image_auroc"] for run in one["by_seed"]] for one in each.values()])
    assert together["image_auroc_spread"] == pytest.approx(np.ptp(by_seed.mean(axis=0)))
    assert each["gasket"]["configuration"]["parts"]["train"] == {"good": 11}
    assert together["configuration"]["parts"]["train"] == {"good": 23}
    assert together["seconds"]["total"] == pytest.approx(
        sum(one["seconds"]["total"] for one in each.values()), abs=0.02
    )
    assert {"flange: seed 1 of 2: features", "gasket: seed 2 of 2: inspect"} <= stages


def test_products_are_never_mixed_into_one_model(two_products: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "fit", lambda *_: pytest.fail("trained on both"))
    with pytest.raises(BenchmarkError, match="one product; found flange, gasket"):
        run_benchmark(read_layout(two_products), SETTINGS, 1)


def test_every_product_is_checked_before_the_first_is_trained(
    two_products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(two_products, tmp_path / "products"))
    for kind in KINDS:
        shutil.rmtree(root / "gasket" / "test" / kind)
    monkeypatch.setattr(Detector, "fit", lambda *_: pytest.fail("trained for nothing"))
    with pytest.raises(MetricError, match="good and defective test parts of gasket"):
        run_benchmark_by_product(read_layout(root), SETTINGS, 1)


def test_parts_of_no_product_are_one_benchmark(tmp_path: Path) -> None:
    for k in range(4):
        write_png(tmp_path / f"{k}.png", render_part(k, size=64).pixels)
    with pytest.raises(BenchmarkError, match="parts of no product"):
        run_benchmark_by_product(read_layout(tmp_path), SETTINGS, 1)


def test_what_cannot_be_measured_is_refused_before_training(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_good = Path(shutil.copytree(product, tmp_path / "flange"))
    for kind in KINDS:
        shutil.rmtree(only_good / "test" / kind)
    monkeypatch.setattr(Detector, "fit", lambda *_: pytest.fail("trained for nothing"))
    with pytest.raises(MetricError, match="good and defective"):
        run_benchmark(read_layout(only_good, "mvtec"), SETTINGS, 1)


@pytest.mark.skipif(not ALIENS.is_dir(), reason="the aliens are not part of the repository")
def test_aliens_are_told_from_good_ones() -> None:
    """A sanity bound at a quarter of the pixels and an eighth of the steps, not the published figure."""
    quick = DetectorSettings(image_size=128, device="cpu", density=DensitySettings(steps=100))
    measured = run_benchmark(read_layout(ALIENS), quick, 1)
    assert measured["image_auroc"] > 0.9


def test_trial_draws_fewer_parts_anew_for_each_seed(dataset: Dataset) -> None:
    everything, untouched = Trial().draw(dataset, 0)
    assert everything == [p.path for p in dataset.train_good]
    assert untouched is dataset
    few, left = Trial(parts=5).draw(dataset, 0)
    assert left is dataset
    assert len(set(few)) == 5 < len(everything)
    assert set(few) < set(everything)
    assert few == Trial(parts=5).draw(dataset, 0)[0] != Trial(parts=5).draw(dataset, 1)[0]


def test_trial_moves_defective_parts_from_testing_to_training(dataset: Dataset) -> None:
    spoilt, left = Trial(contamination=0.1).draw(dataset, 0)
    moved = set(spoilt) - {p.path for p in dataset.train_good}
    assert len(moved) / len(spoilt) == pytest.approx(0.1, abs=0.5 / len(spoilt))
    assert {p.label for p in dataset.test if p.path in moved}.isdisjoint({"good"})
    assert {p.path for p in dataset.parts} - {p.path for p in left.parts} == moved


def test_a_spoilt_run_says_how_many_defects_were_left_out(
    product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_and_last(_: Detector, features: object, hashes: list[str]) -> NDArray[np.bool_]:
        chosen = np.zeros(len(hashes), dtype=bool)
        chosen[[0, -1]] = True
        return chosen

    monkeypatch.setattr(Detector, "_suspected", first_and_last)
    # Parts so few that variations join them are not suspected.
    monkeypatch.setattr("differnet.detection.detector.variations_for", lambda parts: 0)
    trial = Trial(contamination=0.1)
    spoilt = run_benchmark(read_layout(product, "mvtec"), SETTINGS, 1, trial=trial)["by_seed"][0]
    good = len(read_layout(product, "mvtec").train_good)
    # Good parts come first, defective ones last.
    wanted = {"good": 1, "defective": 1, "of_defective": round(good / 9)}
    assert spoilt["suspects"] == wanted


def test_trials_without_meaning_are_refused(dataset: Dataset) -> None:
    for wrong in ({"parts": 0}, {"contamination": 0.5}, {"contamination": -0.1}):
        with pytest.raises(BenchmarkError):
            Trial(**wrong)
    with pytest.raises(BenchmarkError, match="1000000 training parts"):
        Trial(parts=1_000_000).draw(dataset, 0)
    with pytest.raises(BenchmarkError, match="defective"):
        Trial(contamination=0.49).draw(dataset, 0)
