from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from differnet.images.reading import write_png
from differnet.images.synthetic import DEFECT_KINDS

Invoke = Callable[..., Result]


def test_evaluation_is_one_strict_object(invoke: Invoke, model: Path, product: Path) -> None:
    shown = invoke("evaluate", model, product, "--json")
    assert shown.exit_code == 0, shown.stderr
    figures = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert 0.0 <= figures["image_auroc"] <= 1.0
    assert figures["pixel_auroc"] is not None
    assert set(DEFECT_KINDS) <= figures["by_defect"].keys()
    assert figures["overkill"]["of"] == 3
    # Hundreds of parts would flood a terminal; `inspect` writes their records.
    assert "scores" not in figures


def test_a_person_reads_the_same_figures(invoke: Invoke, model: Path, product: Path) -> None:
    figures = json.loads(invoke("evaluate", model, product, "--json").stdout)
    shown = invoke("evaluate", model, product)
    assert f"{figures['image_auroc']:.4f}" in shown.stdout
    assert "of 3" in shown.stdout
    assert all(kind in shown.stdout for kind in DEFECT_KINDS)


@pytest.mark.usefixtures("quick_training")
def test_a_benchmark_trains_once_a_seed(invoke: Invoke, product: Path, tmp_path: Path) -> None:
    words = ["benchmark", product, "--layout", "mvtec", "--seeds", 2, "--image-size", 64, "--json"]
    mask = np.zeros((8, 8), np.uint8)
    mask[0] = 255
    write_png(tmp_path / "rim.png", mask)
    shown = invoke(*words, "--ignore", tmp_path / "rim.png")
    assert shown.exit_code == 0, shown.stderr
    figures = json.loads(shown.stdout, parse_constant=pytest.fail)
    wanted = {"image_auroc", "pixel_auroc", "aupro", "by_defect", "by_seed", "seconds", "configuration"}
    assert wanted <= figures.keys()
    assert len(figures["by_seed"]) == 2
    assert "scores" not in figures["by_seed"][0]
    assert figures["configuration"]["layout"] == "mvtec"
    assert figures["configuration"]["settings"]["ignore"] == "rim.png"


@pytest.mark.usefixtures("quick_training")
def test_a_benchmark_of_the_best_quality_looks_twice(invoke: Invoke, product: Path) -> None:
    words = ["benchmark", product, "--layout", "mvtec", "--image-size", 64, "--quality", "best"]
    shown = invoke(*words, "--json")
    assert shown.exit_code == 0, shown.stderr
    settings = json.loads(shown.stdout, parse_constant=pytest.fail)["configuration"]["settings"]
    assert settings["zooms"] == [1.0, 1.5]
    refused = invoke(*words, "--method", "gaussian")
    assert refused.exit_code == 2
    assert "--quality" in refused.stderr


@pytest.mark.usefixtures("quick_training")
def test_a_benchmark_of_one_training_part(invoke: Invoke, product: Path) -> None:
    words = ["benchmark", product, "--layout", "mvtec", "--image-size", 64, "--train-parts", 1, "--json"]
    shown = invoke(*words)
    assert shown.exit_code == 0, shown.stderr
    figures = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert figures["configuration"]["trial"]["parts"] == 1
    assert 0 <= figures["image_auroc"] <= 1


@pytest.mark.usefixtures("quick_training")
def test_figures_that_were_not_measured_are_null(invoke: Invoke, tree: Path) -> None:
    words = ["benchmark", tree, "--image-size", 64]
    figures = json.loads(invoke(*words, "--json").stdout, parse_constant=pytest.fail)
    assert figures["pixel_auroc"] is None
    shown = invoke(*words)
    assert shown.exit_code == 0
    assert "not measured" in shown.stdout


@pytest.fixture
def products(tree: Path) -> Path:
    """Two products, one of them with masks."""
    root = tree.parent / "products"
    shutil.copytree(tree, root / "nut")
    shutil.move(tree, root / "bolt")
    for index in range(3):
        mask = np.zeros((24, 32), dtype=bool)
        mask[4:8, 4 : 8 + index] = True
        write_png(root / "bolt" / "scratch" / f"{index}_mask.png", mask)
    return root


@pytest.mark.usefixtures("quick_training")
def test_a_benchmark_of_products_measures_each_and_the_mean(invoke: Invoke, products: Path) -> None:
    words = ["benchmark", products, "--image-size", 64]
    shown = invoke(*words, "--json")
    assert shown.exit_code == 0, shown.stderr
    figures = json.loads(shown.stdout, parse_constant=pytest.fail)
    each = figures["by_product"]
    assert list(each) == ["bolt", "nut"]
    assert figures["image_auroc"] == pytest.approx(np.mean([one["image_auroc"] for one in each.values()]))
    assert each["bolt"]["pixel_auroc"] is not None
    assert figures["pixel_auroc"] is None
    for name, one in each.items():
        assert f"{name}: AUROC, part {one['image_auroc']:.4f}" in shown.stderr
    table = invoke(*words).stdout
    for name, one in (*each.items(), ("mean", figures)):
        assert f"{one['image_auroc']:.4f}" in next(
            line for line in table.split("\n") if line.startswith(name)
        )


@pytest.mark.usefixtures("quick_training")
def test_one_product_of_several_is_measured_alone(invoke: Invoke, products: Path) -> None:
    shown = invoke("benchmark", products, "--product", "nut", "--image-size", 64, "--json")
    figures = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert "by_product" not in figures
    assert figures["configuration"]["settings"]["product"] == "nut"
    assert figures["configuration"]["parts"] == {"train": {"good": 6}, "test": {"good": 2, "scratch": 3}}


def test_training_still_wants_one_product(invoke: Invoke, products: Path, tmp_path: Path) -> None:
    shown = invoke("train", products, "--out", tmp_path / "model")
    assert shown.exit_code == 1
    assert "bolt, nut" in shown.stderr


def test_a_folder_without_defects_is_explained(invoke: Invoke, model: Path, product: Path) -> None:
    shown = invoke("evaluate", model, product / "train" / "good")
    assert shown.exit_code == 1
    assert "do this:" in shown.stderr
