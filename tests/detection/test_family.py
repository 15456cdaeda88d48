"""Several products in one model: each part is judged as what it is."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.conftest import SIZE, SMALL
from differnet.detection import BundleError, Detector, DetectorError, Family
from differnet.images.synthetic import render_wrong_input
from differnet.records import Verdict

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def turned(good: list[Pixels]) -> list[Pixels]:
    """Another product: the same parts seen as negatives, which no brightness of the first looks like."""
    return [255 - pixels for pixels in good]


@pytest.fixture(scope="module")
def family(good: list[Pixels], turned: list[Pixels]) -> Family:
    return Family.fit({"flange": good, "negative": turned}, SMALL)


def test_parts_are_judged_as_the_product_they_are(family: Family, fresh: list[Pixels]) -> None:
    pictures = [p for pixels in fresh for p in (pixels, 255 - pixels)]
    records = [i.record for i in family.inspect_many(pictures)]
    assert [r.product for r in records] == ["flange", "negative"] * len(fresh)
    assert all(r.inference_ms > 0 for r in records)
    for posterior, record in zip(family.identify(pictures), records, strict=True):
        assert sum(posterior.values()) == pytest.approx(1.0)
        assert max(posterior, key=lambda name: posterior[name]) == record.product


def test_judged_as_by_the_detector_of_its_product_alone(family: Family, fresh: list[Pixels]) -> None:
    alone = [i.record for i in family.detectors["flange"].inspect_many(fresh[:5])]
    together = [i.record for i in family.inspect_many([*fresh[:5], 255 - fresh[5]])]
    for one, other in zip(alone, together, strict=False):
        assert one.verdict is other.verdict
        assert one.strangeness == pytest.approx(other.strangeness, rel=1e-5, abs=1e-5)
        assert one.model_id == other.model_id


def test_being_told_the_product_overrules(family: Family, fresh: list[Pixels]) -> None:
    record = family.inspect(fresh[0], "negative").record
    assert record.product == "negative"
    assert record.verdict is Verdict.OOD
    with pytest.raises(DetectorError, match="flange, negative"):
        family.inspect(fresh[0], "bolt")


def test_unknown_products_are_out_of_distribution(family: Family) -> None:
    wrong = [render_wrong_input(seed, "noise", size=SIZE) for seed in range(4)]
    assert {i.record.verdict for i in family.inspect_many(wrong)} == {Verdict.OOD}


def test_unreadable_pictures_are_invalid(family: Family, tmp_path: Path, fresh: list[Pixels]) -> None:
    found = list(family.inspect_many([fresh[0], tmp_path / "absent.png", fresh[1]]))
    assert [i.record.verdict is Verdict.INVALID for i in found] == [False, True, False]


def test_a_family_comes_back(family: Family, tmp_path: Path, fresh: list[Pixels]) -> None:
    folder = family.save(tmp_path / "family")
    loaded = Family.load(family.save(folder), "cpu")
    assert loaded.products == family.products
    pictures = [fresh[0], 255 - fresh[1]]
    for one, other in zip(family.inspect_many(pictures), loaded.inspect_many(pictures), strict=True):
        assert one.record.product == other.record.product
        assert one.record.strangeness == pytest.approx(other.record.strangeness, rel=1e-4)


CHANGES: dict[str, Callable[[dict[str, dict[str, str]]], object]] = {
    "outside": lambda m: m["flange"].update(folder="../other"),
    "swapped": lambda m: (m["flange"].update(folder="product-1"), m["negative"].update(folder="product-0")),
    "other model": lambda m: m["flange"].update(model_id="0" * 16),
    "further field": lambda m: m["flange"].update(kind="os.system"),
    "none": lambda m: m.clear(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_families_are_refused(family: Family, tmp_path: Path, name: str) -> None:
    folder = family.save(tmp_path / "family")
    fields = json.loads((folder / "family.json").read_text())
    CHANGES[name](fields["products"])
    (folder / "family.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError):
        Family.load(folder, "cpu")


def test_foreign_folders_are_left_alone(family: Family, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="nothing there was touched"):
        family.save(tmp_path)
    with pytest.raises(BundleError):
        Family.load(tmp_path, "cpu")
    folder = family.save(tmp_path / "family")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="nothing there was touched"):
        family.save(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_detectors_that_do_not_see_alike_make_no_family(detector: Detector, good: list[Pixels]) -> None:
    other = Detector(replace(SMALL, image_size=64)).fit(good[:8]).calibrate()
    older = copy.copy(detector)
    older.preprocessing_ = tuple(replace(of, halving=False) for of in detector.preprocessing_)
    for detectors in ({}, {"a": detector, "b": other}, {"a": detector, "b": older}):
        with pytest.raises(DetectorError, match="backbone, input and reading"):
            Family(detectors)
