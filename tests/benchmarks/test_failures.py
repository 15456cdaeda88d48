"""What goes wrong is found from figures alone, told in words, and drawn small."""

from __future__ import annotations

import doctest
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from differnet.detection import DensitySettings, Detector, DetectorSettings
from differnet.evaluation.benchmark import run_benchmark
from differnet.images.layouts import read_layout
from differnet.images.synthetic import make_sample_product

SMALL = DetectorSettings(
    image_size=64, folds=2, device="cpu", density=DensitySettings(steps=10, couplings=0, hidden=8)
)


@pytest.fixture(scope="module")
def failures(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("failures")


def run(good: Sequence[float | None], dents: Sequence[float | None], **kept: Any) -> dict[str, Any]:
    parts = {f"good/{i}": {"label": "good", "total": v} for i, v in enumerate(good)}
    parts |= {f"dent/{i}": {"label": "dent", "total": v, **kept} for i, v in enumerate(dents)}
    return {"scores": parts}


def test_docstring_examples(failures: ModuleType) -> None:
    assert doctest.testmod(failures).failed == 0


def test_the_worst_are_those_that_most_others_outrank(failures: ModuleType) -> None:
    found = failures.worst([run([1, 2, 3, 9], [8, 2.5, 2, 12]), run([1, 2, 3, 9], [8, 2.5, 10, 12])])
    assert [f.name for f in found] == ["dent/1", "dent/2", "dent/0", "good/3", "good/2", "good/1"]
    # Stranger than dent/1: two of four. Than dent/2: two and a tie in one run, none in the other.
    assert [f.outranked for f in found[:3]] == [0.5, 2.5 / 8, 0.25]
    assert [f.outranked for f in found[3:]] == [5 / 8, 3 / 8, 0.5 / 8]
    assert found[1].strangeness == 6.0
    assert len(failures.worst([run([1, 2, 3, 9], [8, 2.5, 2, 12])], missed=1, false_alarms=1)) == 2
    # Of equal rank, the less strange defect and the stranger good part are the worse.
    alike = failures.worst([run([1, 7, 8], [6, 5, 9])])
    assert [f.name for f in alike] == ["dent/1", "dent/0", "good/2", "good/1"]


def test_where_nothing_goes_wrong_nothing_is_found(failures: ModuleType) -> None:
    assert failures.worst([run([1, 2], [3, None])]) == []


def test_what_is_known_is_said(failures: ModuleType) -> None:
    facts = {"p_whole": 0.01, "p_local": 0.5, "defect_pixels": 80, "heat": 5.0, "heat_at_defect": 1.0}
    (found,) = failures.worst([run([1, 2], [1.5], **facts)], false_alarms=0)
    words = failures.guess(found)
    assert "80 pixels" in words
    assert "the whole alone finds it strange" in words
    assert "hotter elsewhere (5.0) than there (1.0)" in words
    lines = failures.table({"few": [found], "none": []})
    assert lines[2].startswith("| few | 1 | dent/0 | dent | 50.0 % of good parts | 1.50 | 0.010 | 0.500 | ")
    assert len({line.count("|") for line in lines}) == 1
    assert failures.guess(failures.worst([run([1, 2], [1.5])])[0]) == ""


def test_failures_are_drawn_with_their_true_region(failures: ModuleType, tmp_path: Path) -> None:
    folder = make_sample_product(tmp_path / "flange", train=12, good_test=4, per_defect=1, per_wrong=0)
    dataset = read_layout(folder)
    kept: list[Detector] = []
    measured = run_benchmark(dataset, SMALL, 1, trained=lambda seed, detector: kept.append(detector))
    found = failures.worst(measured["by_seed"], missed=2, false_alarms=1)
    assert found
    path = tmp_path / "reports" / "failures.png"
    failures.write_picture(path, found, dataset, kept[0])
    content = path.read_bytes()
    assert len(content) <= failures.LARGEST_FILE
    drawn = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=int)
    assert drawn.ndim == 3
    # The line around a defect is the only saturated red there is.
    red = (drawn[..., 0] > 200) & (drawn[..., 1] < 120) & (drawn[..., 2] < 120)
    assert red.any()
    failures.write_picture(path, [], dataset, kept[0])
    assert not path.exists()
