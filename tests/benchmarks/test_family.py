"""One model of two small products: told and found agree where it is found, and wrong inputs are counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from differnet.detection import DensitySettings, DetectorSettings
from differnet.evaluation.per_part import figures_json
from differnet.images.layouts import Dataset, read_layout
from differnet.images.reading import read_image, write_png
from differnet.images.synthetic import make_sample_product

SMALL = DetectorSettings(
    image_size=64, folds=2, device="cpu", density=DensitySettings(steps=10, couplings=0, hidden=8)
)


@pytest.fixture(scope="module")
def family(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("family")


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The sample product, and its negatives as another one."""
    root = tmp_path_factory.mktemp("family")
    first = make_sample_product(root / "flange", train=12, good_test=4, per_defect=1, per_wrong=0)
    for path in sorted(first.glob("t*/*/*.png")):
        turned = root / "negative" / path.relative_to(first)
        turned.parent.mkdir(parents=True, exist_ok=True)
        write_png(turned, 255 - read_image(path).pixels)
    return {name: read_layout(root / name) for name in ("flange", "negative")}


@pytest.fixture(scope="module")
def measured(family: ModuleType, products: dict[str, Dataset]) -> dict[str, Any]:
    run: dict[str, Any] = family.measure(products, SMALL, seed=0, wrong_inputs=2)
    return run


def test_each_product_is_judged_told_and_found(measured: dict[str, Any]) -> None:
    assert list(measured["by_product"]) == ["flange", "negative"]
    for name, one in measured["by_product"].items():
        counted = one["identified"]
        assert [sum(counted[kind].values()) for kind in ("good", "defective")] == [4, 7]
        # A negative looks like no part of the other product.
        assert counted["good"] == {name: 4}
        for part in one["scores"].values():
            if part["product"] == name:
                # Of a part whose product is found, nothing but the batch it came in may differ.
                assert part["found"] == pytest.approx(part["told"], abs=1e-3)
        assert 0 <= one["found"] <= 1


def test_wrong_inputs_are_counted_by_verdict(measured: dict[str, Any]) -> None:
    wrong = measured["wrong"]
    assert list(wrong) == ["no product", "views of flange", "views of negative"]
    # The sample product goes by another name here, so a flange is a wrong product.
    assert set(wrong["no product"]) == {"flange", "cover plate", "empty belt", "noise", "black", "white"}
    assert sum(wrong["no product"]["noise"].values()) == 2
    assert wrong["no product"]["black"] == {"OOD": 1}
    assert sum(wrong["views of flange"]["blur"].values()) == 2
    assert "other_product" not in wrong["views of flange"]


def test_the_section_names_bars_and_who_keeps_them(family: ModuleType, measured: dict[str, Any]) -> None:
    stored = json.loads(figures_json({"by_seed": [measured, {**measured, "seed": 1}]}))
    ids = [{"seed": 0, "model_id": measured["by_product"]["flange"]["model_id"]}]
    lines = family.section(stored, {"flange": {"by_seed": ids}})
    text = "\n".join(lines)
    assert "| flange | 2 | " in text
    assert "| 1 of 2 |" in text
    assert "not measured alone" in text
    assert "100.0 % (8/8; at least " in text
    assert "| no product | black | 2 | 100 % | 100 % | 0 % |" in text
    one = stored["by_seed"][0]["by_product"]["negative"]
    one["identified"] = {"good": {"flange": 4}, "defective": {"negative": 7}}
    for part in one["scores"].values():
        part["found"] = 0.0
    assert "**missed**" in next(line for line in family.section(stored, {}) if line.startswith("| negative"))
