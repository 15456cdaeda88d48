"""An explanation agrees with the verdict, shows where a defect lies, and says when not to trust it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detection.conftest import SIZE, SMALL
from differnet.calibration import HeatScale
from differnet.detection import POOLED, DensitySettings, Detector, DetectorError, Explanation, explain
from differnet.detection.densities import gaussian_layers
from differnet.detection.explaining import TYPICAL_SHARE
from differnet.evaluation import image_auroc
from differnet.flows import LowRankWhitening
from differnet.images.reading import ImageError, write_png
from differnet.images.synthetic import DEFECT_KINDS, render_part, render_wrong_input
from differnet.records import Verdict

Pixels = NDArray[np.uint8]

# Defects are a few pixels wide: smaller pictures do not show them.
SIDE = 160


class Broken(NamedTuple):
    """A part with a defect that the detector rejects."""

    kind: str
    mask: NDArray[np.bool_]
    heat: NDArray[np.float32]
    found: Explanation


@pytest.fixture(scope="module")
def seer() -> Detector:
    """A detector whose local densities are conditional flows, not only their Gaussians."""
    density = DensitySettings(steps=200, hidden=32)
    settings = replace(SMALL, image_size=SIDE, folds=2, density=density)
    found = Detector(settings).fit([render_part(seed, size=SIDE).pixels for seed in range(40)]).calibrate()
    kept = found.facts()["couplings_kept"]
    assert (kept["fine"], kept["coarse"]) == (1, 1), "there is no inverse of a flow to test"
    return found


@pytest.fixture(scope="module")
def good_ones(seer: Detector) -> list[Explanation]:
    return [explain(seer, render_part(seed, size=SIDE).pixels) for seed in range(500, 520)]


@pytest.fixture(scope="module")
def broken(seer: Detector) -> list[Broken]:
    """Every rejected one of six parts with each kind of defect."""
    found = []
    for kind in DEFECT_KINDS:
        for seed in range(900, 906):
            part = render_part(seed, defect=kind, size=SIDE)
            explained = explain(seer, part.pixels)
            if explained.record.verdict is Verdict.DEFECT and part.mask.any():
                heat = seer.inspect(part.pixels).heat_map
                assert heat is not None
                found.append(Broken(kind, part.mask, heat, explained))
    assert len(found) >= 12
    assert len({one.kind for one in found}) == len(DEFECT_KINDS)
    return found


def over_picture(cells: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    height, width = mask.shape
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def test_an_explanation_judges_as_the_detector_does(
    seer: Detector, good_ones: list[Explanation], broken: list[Broken]
) -> None:
    for found in [*good_ones[:3], broken[0].found]:
        record = found.record
        everything = found.statistics[0]
        assert (everything.density, everything.statistic) == ("all", "together")
        assert everything.strangeness == record.strangeness
        assert everything.p_value == record.p_value
        by_density = {s.density: s.p_value for s in found.statistics if s.statistic == "together"}
        assert by_density["whole"] == record.p_value_global
        assert by_density["patches"] == record.p_value_local
        (wrong,) = [s for s in found.statistics if s.statistic == "wrong input"]
        assert wrong.p_value == record.p_value_ood
    pixels = render_part(501, size=SIDE).pixels
    judged, told = seer.inspect(pixels).record, explain(seer, pixels).record
    assert judged.strangeness == told.strangeness
    assert judged.verdict == told.verdict
    assert judged.regions == told.regions


def test_every_statistic_stands_on_the_scale_of_the_thresholds(
    good_ones: list[Explanation], broken: list[Broken]
) -> None:
    names = [(s.density, s.name, s.statistic) for s in good_ones[0].statistics[4:]]
    assert names == [
        ("whole", "whole", "typicality"),
        *(("patches", scale, "typicality") for scale in ("fine", "coarse")),
        *(("patches", scale, "improbability") for scale in ("fine", "coarse")),
    ]
    for place in range(4, len(names) + 4):
        of_good = [found.statistics[place] for found in good_ones]
        assert all(s.p_value is not None and 0 < s.p_value <= 1 for s in of_good)
        # Strangeness is -log10 of the share of good parts that show as much: its median is near 0.3.
        assert 0.05 < float(np.median([s.strangeness for s in of_good])) < 0.9
        assert sum(s.strangeness > 1.5 for s in of_good) <= 3
    for one in broken:
        assert max(s.strangeness for s in one.found.statistics[4:]) > 1.5


def test_maps_are_on_the_calibrations_scale_and_comparable(
    seer: Detector, good_ones: list[Explanation]
) -> None:
    named = [(m.density, m.name, m.heat.shape) for m in good_ones[0].maps]
    fine, coarse = SIDE // 8, SIDE // 16
    assert named == [
        ("patches", "fine", (fine, fine)),
        ("patches", "coarse", (coarse, coarse)),
        ("whole", "whole", (fine, fine)),
    ]
    for place in range(3):
        heat = np.concatenate([found.maps[place].heat.ravel() for found in good_ones])
        assert heat.min() >= 0
        # One good place in ten is at 1, one in a hundred at 2; cells of a part are not independent.
        assert 0.03 < float((heat >= 1).mean()) < 0.25
        assert float((heat >= 2).mean()) < 0.05
    for found in good_ones:
        weights = {m.name: m.weight for m in found.maps}
        assert weights["fine"] == weights["coarse"] == 0.5
        assert 0 <= weights["whole"] <= 1


def test_typical_parts_hardly_change(good_ones: list[Explanation], broken: list[Broken]) -> None:
    moved = np.array([[p.moved for p in found.patches] for found in good_ones])
    # One place in a hundred of good parts is beyond typical, by how the limit is set.
    assert float(moved.mean()) < 3 * TYPICAL_SHARE
    typical = np.median([found.change.max() for found in good_ones])
    strange = np.median([one.found.change.max() for one in broken])
    assert strange > 3 * typical
    for found in good_ones:
        if found.record.verdict is Verdict.PASS:
            record = found.record
            assert record.strangeness is not None
            assert found.strangeness_after <= record.strangeness + 1e-6


def test_what_would_have_to_change_lies_where_the_defect_is(broken: list[Broken]) -> None:
    areas, heat, inside, covered = [], [], [], []
    for one in broken:
        change = over_picture(one.found.change, one.mask)
        areas.append(image_auroc(change.ravel(), one.mask.ravel()))
        heat.append(image_auroc(one.heat.ravel(), one.mask.ravel()))
        inside.append(float(change[one.mask].sum() / change.sum()))
        covered.append(float(one.mask.mean()))
    assert float(np.median(areas)) > 0.97
    assert float(np.mean(areas)) > 0.9
    # As well as the heat map, which is not moved features but how rare they are.
    assert float(np.mean(areas)) > float(np.mean(heat)) - 0.05
    # Of all that changes, far more than by its area lies on the defect: cells are larger than most defects.
    assert float(np.mean(inside)) > 4 * float(np.mean(covered))


def test_after_the_move_a_broken_part_is_typical(
    seer: Detector, good_ones: list[Explanation], broken: list[Broken]
) -> None:
    after = [one.found.strangeness_after for one in broken]
    before = [one.found.record.strangeness or 0.0 for one in broken]
    assert min(before) >= seer.thresholds.defect
    assert max(after) < seer.thresholds.review
    assert max(after) <= max(found.record.strangeness or 0.0 for found in good_ones)


def test_shares_add_up_and_say_which_scale(good_ones: list[Explanation], broken: list[Broken]) -> None:
    for found in [*good_ones, *(one.found for one in broken)]:
        shares = [p.share for p in found.patches]
        assert sum(shares) == pytest.approx(1.0 if found.change.any() else 0.0)
        for whole in found.wholes:
            assert whole.shares.shape == (len(whole.strides), len(POOLED))
            assert whole.shares.sum() == pytest.approx(1.0 if whole.change else 0.0)
    assert any(whole.change > 0 for one in broken for whole in one.found.wholes)


def test_what_the_whole_would_lose_is_where_its_quadrant_was_changed(seer: Detector) -> None:
    pixels = render_part(502, size=SIDE).pixels
    for name, rows, columns in (
        ("upper left", slice(0, 70), slice(0, 70)),
        ("lower right", slice(90, 160), slice(90, 160)),
    ):
        spoilt = pixels.copy()
        noise = np.random.default_rng(1).integers(0, 256, spoilt[rows, columns].shape, dtype=np.uint8)
        spoilt[rows, columns] = noise
        (whole,) = explain(seer, spoilt).wholes
        by_kind = dict(zip(POOLED, whole.shares.sum(axis=0), strict=True))
        quadrants = {kind: share for kind, share in by_kind.items() if kind not in ("average", "spread")}
        assert max(quadrants, key=lambda kind: quadrants[kind]) == name


def test_the_way_back_is_sound_and_a_broken_one_is_told(seer: Detector, broken: list[Broken]) -> None:
    assert all(one.found.round_trip.sound for one in broken)
    assert max(one.found.round_trip.largest_error for one in broken) < 1e-4
    damaged = deepcopy(seer)
    assert damaged.ensemble_ is not None
    with torch.no_grad():
        for density in damaged.ensemble_.complete.patches:
            whitening = gaussian_layers(density.flow)[1]
            (whitening.block if isinstance(whitening, LowRankWhitening) else whitening.axes).mul_(1.01)
    found = explain(damaged, render_part(900, defect="crack", size=SIDE).pixels)
    assert not found.round_trip.sound
    assert found.round_trip.largest_error > 1e-3
    assert bool(np.isfinite(found.change).all())


def test_wrong_inputs_are_explained_too(seer: Detector) -> None:
    for kind in ("blank", "noise", "upside_down"):
        found = explain(seer, render_wrong_input(1, kind, size=SIDE))
        assert found.record.verdict in (Verdict.OOD, Verdict.DEFECT)
        assert np.isfinite(found.strangeness_after)
        assert bool(np.isfinite(found.change).all())


def test_the_nearest_good_part_is_another_one(seer: Detector) -> None:
    trained = render_part(3, size=SIDE).pixels
    found = explain(seer, trained)
    assert found.nearest is not None
    assert found.nearest.sha256 in seer.trained_on
    assert found.nearest.sha256 != found.record.sha256
    assert found.nearest.pixels is not None
    assert found.nearest.pixels.shape == (SIDE, SIDE, 3)


def test_nothing_changes_where_a_product_is_ignored(good: list[Pixels], tmp_path: Path) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:32, :32] = 255
    write_png(tmp_path / "mask.png", mask)
    density = DensitySettings(steps=5, couplings=1, hidden=8)
    settings = replace(SMALL, folds=2, density=density, ignore=tmp_path / "mask.png")
    detector = Detector(settings).fit(good[:16]).calibrate()
    spoilt = good[20].copy()
    spoilt[8:90, 8:90] = np.random.default_rng(0).integers(0, 256, (82, 82, 3), dtype=np.uint8)
    found = explain(detector, spoilt)
    assert found.change.any()
    # A third of a 12 x 12 grid, less what is interpolated across its border.
    assert not found.change[:3, :3].any()
    for one in found.maps:
        cells = one.heat.shape[0] // 3
        assert not one.heat[: cells - 1, : cells - 1].any()
        assert one.heat.any()


def test_a_second_look_has_maps_and_changes_of_its_own(good: list[Pixels]) -> None:
    density = DensitySettings(steps=5, couplings=0, hidden=8)
    best = replace(SMALL, image_size=64, folds=2, density=density, zooms=(1.0, 1.5), scales=SMALL.scales)
    found = explain(Detector(best).fit(good[:12]).calibrate(), good[20])
    assert [(m.density, m.name, m.zoom) for m in found.maps] == [
        ("patches", "fine", 0),
        ("patches", "coarse", 0),
        ("whole", "whole", 0),
        ("whole", "whole 2", 1),
    ]
    assert [w.name for w in found.wholes] == ["whole", "whole 2"]


def test_of_variations_no_p_value_is_promised(good: list[Pixels]) -> None:
    density = DensitySettings(steps=5, couplings=0, hidden=8)
    detector = Detector(replace(SMALL, image_size=64, folds=2, density=density)).fit(good[:2]).calibrate()
    found = explain(detector, good[5])
    assert {s.p_value for s in found.statistics} == {None}
    assert all(np.isfinite(s.strangeness) for s in found.statistics)


def test_what_cannot_be_explained_is_a_typed_error(
    seer: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError):
        explain(seer, tmp_path / "no.png")
    with pytest.raises(DetectorError, match="Call fit"):
        explain(Detector(SMALL), np.zeros((64, 64, 3), np.uint8))
    damaged = deepcopy(seer)
    assert damaged.ensemble_ is not None
    with torch.no_grad():
        gaussian_layers(damaged.ensemble_.complete.patches[0].flow)[0].scale.fill_(1e-44)
    with pytest.raises(DetectorError, match="INVALID"):
        explain(damaged, render_part(1, size=SIDE).pixels)


def test_the_limit_is_what_one_good_place_in_a_hundred_exceeds(seer: Detector) -> None:
    calibration = seer.calibration_
    assert calibration is not None
    for scale in range(2):
        limit = calibration.typical_energy(scale, TYPICAL_SHARE)
        assert HeatScale.from_row(calibration.heat[scale]).surprise([limit])[0] == pytest.approx(2.0)
