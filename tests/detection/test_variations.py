"""One, two and three good parts: what is learned from variations of them, and that nothing is promised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detection.conftest import SIZE, SMALL
from differnet.detection import BundleError, DensitySettings, Detector, Family, cross_fitting
from differnet.detection.ensemble import deal
from differnet.detection.gathering import Features
from differnet.detection.manifest import sealed
from differnet.detection.sources import Seen, as_picture
from differnet.detection.variations import Strength, fold_names, strength_for, variations_for, vary
from differnet.images.reading import write_png
from differnet.images.synthetic import render_wrong_input
from differnet.records import Picture, Verdict

Pixels = NDArray[np.uint8]
Files = Callable[[list[Pixels]], list[Path]]

USUAL = Strength()
QUICK = replace(SMALL, image_size=64, density=DensitySettings(steps=10, couplings=2, hidden=8))
KEPT = {Verdict.PASS, Verdict.REVIEW}
REJECTED = {Verdict.DEFECT, Verdict.OOD}
P_VALUES = ("p_value", "p_value_global", "p_value_local", "p_value_ood")


@pytest.fixture(scope="module", params=[1, 2, 3])
def few(request: pytest.FixtureRequest, good: list[Pixels]) -> tuple[int, Detector]:
    """How many parts, and what was learned from them; tests do not change it."""
    return request.param, Detector(SMALL).fit(good[: request.param]).calibrate()


def test_good_parts_are_not_rejected_and_obvious_wrong_ones_are(
    few: tuple[int, Detector], good: list[Pixels], fresh: list[Pixels]
) -> None:
    parts, detector = few
    seen = [i.record.verdict for i in detector.inspect_many(good[:parts])]
    assert set(seen) <= KEPT
    verdicts = [i.record.verdict for i in detector.inspect_many(fresh)]
    # From one part nothing is known of other parts: most are still not rejected.
    assert sum(v in KEPT for v in verdicts) >= 0.75 * len(verdicts)
    blank = [np.full((SIZE, SIZE, 3), level, np.uint8) for level in (0, 127, 255)]
    noise = [render_wrong_input(seed, "noise", size=SIZE) for seed in (1, 2)]
    assert {i.record.verdict for i in detector.inspect_many([*blank, *noise])} <= REJECTED


def test_nothing_is_promised(few: tuple[int, Detector], fresh: list[Pixels]) -> None:
    parts, detector = few
    facts = detector.facts()
    calibration = facts["calibration"]
    assert calibration["scheme"] == "variations"
    assert not calibration["promised"]
    assert calibration["parts"] == facts["training_parts"] == parts
    assert calibration["smallest_alpha"] == pytest.approx(1 / (parts + 1))
    assert calibration["interval_review"] == calibration["interval_defect"] == [0.0, 1.0]
    assert facts["variations"] == 48 - parts
    for inspection in detector.inspect_many([*fresh[:4], render_wrong_input(1, "noise", size=SIZE)]):
        record = inspection.record
        assert [getattr(record, name) for name in P_VALUES] == [None] * 4
        assert record.strangeness is not None
        assert not any("p =" in reason for reason in record.reasons)
        assert all(region.p_value >= 1 / (parts + 1) for region in record.regions)


def test_it_is_saved_and_loaded(few: tuple[int, Detector], fresh: list[Pixels], tmp_path: Path) -> None:
    _, detector = few
    loaded = Detector.load(detector.save(tmp_path / "model"), "cpu")
    assert loaded.facts() == detector.facts()
    for one, other in zip(loaded.inspect_many(fresh[:3]), detector.inspect_many(fresh[:3]), strict=True):
        assert one.record.verdict is other.record.verdict
        assert one.record.strangeness == pytest.approx(other.record.strangeness, rel=1e-4, abs=1e-4)


def reseal(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = model / "manifest.json"
    fields = json.loads(path.read_bytes())
    fields.pop("seal")
    change(fields)
    path.write_bytes(sealed(fields))


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "cross-fitted"},
        {"scheme": "split"},
        {"real_parts": None},
        {"real_parts": 0},
        {"real_parts": 49},
    ],
)
def test_a_count_of_parts_belongs_to_variations_alone(
    good: list[Pixels], tmp_path: Path, change: dict[str, Any]
) -> None:
    model = Detector(QUICK).fit(good[:2]).calibrate().save(tmp_path / "model")
    reseal(model, lambda fields: fields["calibration"].update(change))
    with pytest.raises(BundleError):
        Detector.load(model, "cpu")


def test_bundles_of_before_variations_still_load(saved: Path, detector: Detector, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in saved.iterdir():
        (model / file.name).write_bytes(file.read_bytes())

    def older(fields: dict[str, Any]) -> None:
        del fields["calibration"]["real_parts"]
        del fields["provenance"]["variations"]

    reseal(model, older)
    assert Detector.load(model, "cpu").facts() == detector.facts()


@pytest.mark.parametrize("parts", [1, 3])
def test_the_same_seed_gives_the_same_model(good: list[Pixels], parts: int) -> None:
    first, again, other = (
        Detector(replace(QUICK, seed=seed)).fit(good[:parts]).calibrate() for seed in (3, 3, 4)
    )
    assert first.model_id == again.model_id != other.model_id
    assert first.facts()["calibration_id"] == again.facts()["calibration_id"]
    assert first.thresholds == again.thresholds


def test_copies_count_as_one_part(good: list[Pixels]) -> None:
    """Six copies of a part say nothing of how parts vary: no promise can rest on them."""
    alone = Detector(QUICK).fit(good[:1]).calibrate()
    copies = Detector(QUICK).fit([good[0]] * 6).calibrate()
    assert copies.model_id == alone.model_id
    assert copies.facts()["calibration"] == alone.facts()["calibration"]
    pair = Detector(QUICK).fit([good[0], good[1], good[0]]).calibrate()
    assert pair.facts()["calibration"]["parts"] == 2
    assert pair.trained_on == {as_picture(p, QUICK.reading).sha256 for p in good[:2]}


def test_unreadable_files_are_listed_beside_few_parts(good: list[Pixels], files: Files) -> None:
    paths = files(good[:4])
    paths[1].write_bytes(b"no picture")
    trained = Detector(QUICK).fit(paths).calibrate()
    assert [name for name, _ in trained.skipped] == [str(paths[1])]
    assert trained.facts()["calibration"]["parts"] == 3


def test_four_parts_promise_again(good: list[Pixels]) -> None:
    detector = Detector(QUICK).fit(good[:2]).calibrate()
    facts = detector.fit(good[:4]).calibrate().facts()
    assert facts["calibration"]["promised"]
    assert facts["calibration"]["scheme"] == "cross-fitted"
    # Learned from with variations, calibrated without.
    assert facts["calibration"]["parts"] == facts["training_parts"] == 4
    assert facts["variations"] == 60


def test_variations_count_as_no_parts(good: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fold misses whole parts, and what is kept of the held-out evidence is the parts' own."""
    missed: list[set[str]] = []
    extracted: list[Features] = []
    cross_fit = cross_fitting.cross_fit

    def remember(features: Features, names: list[str], *given: Any) -> Any:
        extracted.append(features)
        fold_of = deal(names, QUICK.folds, QUICK.seed).tolist()
        missed.extend(
            {name for name, of in zip(names, fold_of, strict=True) if of == fold} for fold in set(fold_of)
        )
        return cross_fit(features, names, *given)

    monkeypatch.setattr("differnet.detection.detector.cross_fit", remember)
    detector = Detector(QUICK).fit([good[0], *good[:8], good[3]]).calibrate()
    assert sorted(name for names in missed for name in names) == sorted(
        as_picture(p, QUICK.reading).sha256 for p in good[:8]
    )
    ensemble, held, calibration = detector.ensemble_, detector._held_out, detector.calibration_
    assert ensemble is not None
    assert held is not None
    assert calibration is not None
    assert len(extracted[0]) == 64
    assert len(held.whole) == calibration.parts == 8
    # Eight parts are too few to tell kinds, however many pictures are made of them.
    assert [w.parts for w in ensemble.complete.wholes] == [8] * len(ensemble.complete.wholes)
    assert ensemble.kind_features == 0
    own = detector._extract(good[:8], "", None, Seen())
    assert torch.allclose(extracted[0].statistics[0][::8], own.statistics[0], atol=1e-5)


def test_enough_parts_are_not_varied(good: list[Pixels]) -> None:
    assert Detector(QUICK).fit(good[:31]).calibrate().facts()["variations"] == 31
    assert Detector(QUICK).fit(good[:32]).calibrate().facts()["variations"] == 0


def test_further_parts_calibrate_what_was_learned_from_one(good: list[Pixels], fresh: list[Pixels]) -> None:
    """Split conformal prediction holds whatever the densities were learned from."""
    calibration = Detector(QUICK).fit(good[:1]).calibrate(fresh).facts()["calibration"]
    assert calibration["promised"]
    assert (calibration["scheme"], calibration["parts"]) == ("split", len(fresh))


def test_a_family_may_have_a_product_of_one_part(
    good: list[Pixels], fresh: list[Pixels], tmp_path: Path
) -> None:
    family = Family.fit({"flange": good[:6], "negative": [255 - good[0]]}, QUICK)
    family = Family.load(family.save(tmp_path / "family"), "cpu")
    promised = [d.facts()["calibration"]["promised"] for d in family.detectors.values()]
    assert promised == [True, False]
    records = [i.record for i in family.inspect_many([fresh[0], 255 - fresh[0]])]
    assert [r.p_value is None for r in records] == [r.product == "negative" for r in records]


def test_nothing_of_an_ignored_region_reaches_the_variations(good: list[Pixels], tmp_path: Path) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:32, :32] = 255
    write_png(tmp_path / "mask.png", mask)
    labelled = []
    for level in (0, 255):
        part = good[0].copy()
        part[:32, :32] = level
        labelled.append(Picture(part, None, hashlib.sha256(b"one part").hexdigest()))
    one, other = (
        Detector(replace(QUICK, ignore=tmp_path / "mask.png")).fit([p]).calibrate() for p in labelled
    )
    assert one.model_id == other.model_id
    assert one.facts()["calibration_id"] == other.facts()["calibration_id"]


def test_variations_are_the_same_part_seen_again(good: list[Pixels]) -> None:
    part = as_picture(good[0], SMALL.reading)
    assert vary(part, 0, 7, SIZE, USUAL) is part
    some = [vary(part, number, 7, SIZE, USUAL) for number in range(1, 9)]
    assert len({p.sha256 for p in some}) == 8
    for picture in some:
        assert picture.pixels.shape == part.pixels.shape
        assert picture.pixels.dtype == np.uint8
        difference = np.abs(picture.pixels.astype(float) - part.pixels).mean()
        assert 1 < difference < 60
    assert np.array_equal(vary(part, 3, 7, SIZE, USUAL).pixels, some[2].pixels)
    assert not np.array_equal(vary(part, 3, 8, SIZE, USUAL).pixels, some[2].pixels)
    still = vary(part, 3, 7, SIZE, USUAL, move=False)
    assert not np.array_equal(still.pixels, some[2].pixels)


def test_variations_of_deep_large_and_tiny_pictures() -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (40, 500, 3), dtype=np.uint16)
    varied = vary(Picture(deep, None, "a" * 64, bit_depth=16), 1, 0, 64, USUAL)
    assert (varied.pixels.shape, str(varied.pixels.dtype), varied.bit_depth) == ((40, 500, 3), "uint16", 16)
    large = vary(Picture(np.zeros((300, 600, 3), np.uint8), None, "b" * 64), 1, 0, 64, USUAL)
    assert large.pixels.shape == (128, 256, 3)
    tiny = vary(Picture(np.full((1, 1, 3), 80, np.uint8), None, "c" * 64), 1, 0, 64, USUAL)
    assert tiny.pixels.shape == (1, 1, 3)


def test_whole_parts_are_held_out_where_there_are_several() -> None:
    assert [variations_for(parts) for parts in (1, 2, 3, 4, 16, 31, 32)] == [47, 23, 15, 15, 3, 1, 0]
    assert fold_names(["a", "b"], 3) == ["a"] * 3 + ["b"] * 3
    assert len(set(fold_names(["a"], 48))) == 48


def test_from_four_parts_on_variations_go_half_as_far() -> None:
    assert strength_for(1) == strength_for(3) == USUAL
    assert strength_for(4).turn == USUAL.turn / 2
    assert {far / 2 for far in vars(USUAL).values()} == set(vars(strength_for(31)).values())
