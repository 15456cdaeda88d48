"""The report is written from whatever files of figures lie beside it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest

from differnet.detection import DensitySettings, DetectorSettings


class Small(DetectorSettings):
    """Settings whose defaults train in a second."""

    def __init__(self, **chosen: Any) -> None:
        density = DensitySettings(steps=10, couplings=0, hidden=8)
        super().__init__(**{"image_size": 64, "folds": 2, "device": "cpu", "density": density, **chosen})


@pytest.fixture
def accuracy(
    program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The program, with an empty folder of reports."""
    found = program("accuracy")
    monkeypatch.setattr(found, "REPORTS", tmp_path)
    monkeypatch.setattr(found, "PICTURE", tmp_path / "accuracy" / "failures.png")
    monkeypatch.setattr(found, "read_results", lambda: {})
    return found


def test_stored_figures_make_the_report_they_made(
    program: Callable[[str], ModuleType], accuracy: ModuleType, tmp_path: Path
) -> None:
    stored = Path(__file__).parents[2] / "reports"
    for path in stored.glob("*-sample.json"):
        shutil.copy(path, tmp_path)
    text = accuracy.tables()
    assert text.startswith("# Accuracy\n")
    assert re.search(r"\| sample( \(earlier design\))? \| 3 \| \*\*", text)
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "*"))) <= 110


def test_a_measured_product_has_its_failures_and_its_ablation(
    accuracy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(folder: Path) -> Path:
        made: Path = make(folder, train=16, good_test=4, per_defect=1, per_wrong=0)
        return made

    make = accuracy.make_sample_product
    monkeypatch.setattr(accuracy, "make_sample_product", small)
    monkeypatch.setattr(accuracy, "DetectorSettings", Small)
    words = ["accuracy.py", "--only", "sample", "--ablation", "sample", "--seeds", "1"]
    monkeypatch.setattr("sys.argv", words)
    accuracy.main()
    text = (tmp_path / "accuracy.md").read_text("utf-8")
    assert "## What goes wrong" in text
    assert "](accuracy/failures.png)" in text
    assert "| sample | as it is by default | 1 | " in text
    assert "* ablation of sample: commit " in text
    assert (tmp_path / "accuracy" / "failures.png").exists()


def test_the_slower_quality_stands_beside_the_default_on_the_same_parts(
    program: Callable[[str], ModuleType], accuracy: ModuleType, tmp_path: Path
) -> None:
    stored = Path(__file__).parents[2] / "reports"
    shutil.copy(stored / "benchmark-sample.json", tmp_path)
    default = json.loads((stored / "benchmark-sample.json").read_text("utf-8"))
    for run in default["by_seed"]:
        for part in run["scores"].values():
            # Worse by hand: every defect below every good part.
            part["total"] -= 1000 if part["label"] != "good" else 0
    default["image_auroc"] = 0.0
    (tmp_path / "benchmark-sample-best.json").write_text(json.dumps(default), "utf-8")
    text = accuracy.tables()
    section = text[text.index("## The slower quality") : text.index("## What goes wrong")]
    lost = -100 * fmean(r["image_auroc"] for r in default["by_seed"])
    # Its densities are not those of the slower quality.
    assert f"| sample (earlier design) | 3 | **0.00** | {lost:+.2f} | " in section
    assert "| below |" in section
    # It is no product of its own: the first table has the default's row alone.
    assert "| sample-best |" not in text


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("| Magnetic Tile Defects (MTD)", "mtd"),
        ("| aliens (toy", "aliens"),
        ("| aliens, 16", "aliens-16"),
        ("| the sample product", "sample"),
    ],
)
def test_the_readme_tells_the_figures_that_were_measured_last(row: str, name: str) -> None:
    root = Path(__file__).parents[2]
    told = next(line for line in (root / "README.md").read_text("utf-8").splitlines() if line.startswith(row))
    measured = json.loads((root / "reports" / f"benchmark-{name}.json").read_text("utf-8"))
    wanted = [f"{100 * measured['image_auroc']:.2f}"]
    wanted += [
        "no masks" if measured[figure] is None else f"{100 * measured[figure]:.1f}"
        for figure in ("pixel_auroc", "aupro")
    ]
    assert [cell.strip() for cell in told.split("|")][3:6] == wanted
