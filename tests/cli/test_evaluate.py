from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

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


def test_a_person_reads_the_same_figures(invoke: Invoke, model: Path, product: Path) -> None:
    figures = json.loads(invoke("evaluate", model, product, "--json").stdout)
    shown = invoke("evaluate", model, product)
    assert f"{figures['image_auroc']:.4f}" in shown.stdout
    assert "of 3" in shown.stdout
    assert all(kind in shown.stdout for kind in DEFECT_KINDS)


@pytest.mark.usefixtures("quick_training")
def test_a_benchmark_trains_once_a_seed(invoke: Invoke, product: Path) -> None:
    words = ["benchmark", product, "--layout", "mvtec", "--seeds", 2, "--image-size", 64, "--json"]
    shown = invoke(*words)
    assert shown.exit_code == 0, shown.stderr
    figures = json.loads(shown.stdout, parse_constant=pytest.fail)
    wanted = {"image_auroc", "pixel_auroc", "aupro", "by_defect", "by_seed", "seconds", "configuration"}
    assert wanted <= figures.keys()
    assert len(figures["by_seed"]) == 2
    assert figures["configuration"]["layout"] == "mvtec"


@pytest.mark.usefixtures("quick_training")
def test_figures_that_were_not_measured_are_null(invoke: Invoke, tree: Path) -> None:
    words = ["benchmark", tree, "--image-size", 64]
    figures = json.loads(invoke(*words, "--json").stdout, parse_constant=pytest.fail)
    assert figures["pixel_auroc"] is None
    shown = invoke(*words)
    assert shown.exit_code == 0
    assert "not measured" in shown.stdout


def test_a_folder_without_defects_is_explained(invoke: Invoke, model: Path, product: Path) -> None:
    shown = invoke("evaluate", model, product / "train" / "good")
    assert shown.exit_code == 1
    assert "do this:" in shown.stderr
