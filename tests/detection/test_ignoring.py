"""Regions that count for nothing, from the mask's file to the verdict of a loaded model."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from detection.conftest import SIZE, SMALL
from detection.test_bundle import CALIBRATION, refused, rewrite
from differnet.detection import DensitySettings, Detector, DetectorError, pooled_statistics
from differnet.detection.ignoring import IgnoreMask
from differnet.images.reading import ReadingRule, write_png
from differnet.records import Verdict

Pixels = NDArray[np.uint8]

# Cells of 8 pixels 2 to 5 down and 3 to 6 across: a label on the part, not along the borders of cells.
LABEL = (slice(18, 45), slice(26, 54))
CELLS = (slice(16, 48), slice(24, 56))
ELSEWHERE = (slice(54, 81), slice(26, 54))


def spoilt(pixels: Pixels, place: tuple[slice, slice]) -> Pixels:
    changed = pixels.copy()
    changed[place] = np.random.default_rng(0).integers(0, 256, changed[place].shape, dtype=np.uint8)
    return changed


def mask_file(folder: Path, mask: NDArray[Any]) -> Path:
    write_png(folder / "mask.png", mask)
    return folder / "mask.png"


@pytest.fixture(scope="module")
def masked(good: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """Learned from parts whose labels all differ."""
    folder = tmp_path_factory.mktemp("ignore")
    mask = np.zeros((SIZE, SIZE), np.uint8)
    # Whatever is above 0 is ignored.
    mask[LABEL] = 1
    file = mask_file(folder, mask)
    trained = Detector(replace(SMALL, ignore=file)).fit(good).calibrate()
    file.unlink()
    return trained


def test_a_defect_in_the_region_changes_nothing_and_one_outside_does(
    masked: Detector, fresh: list[Pixels]
) -> None:
    """Nothing at all: what is ignored is painted over, so that no receptive field reaches it."""
    for part in fresh[:4]:
        clean, hidden, seen = (
            masked.inspect(p) for p in (part, spoilt(part, LABEL), spoilt(part, ELSEWHERE))
        )
        same = ("verdict", "strangeness", "nll_global", "nll_local", "p_value", "regions", "reasons")
        assert [getattr(hidden.record, n) for n in same] == [getattr(clean.record, n) for n in same]
        assert hidden.heat_map is not None
        assert seen.heat_map is not None
        assert np.array_equal(hidden.heat_map, clean.heat_map)  # type: ignore[arg-type]
        assert seen.record.verdict in (Verdict.DEFECT, Verdict.OOD)
        assert (seen.record.strangeness or 0) > 2 * max(clean.record.strangeness or 0, 1)
        assert not hidden.heat_map[CELLS].any()
        assert not seen.heat_map[CELLS].any()
        for region in seen.record.regions:
            row, column = region.y + region.height / 2, region.x + region.width / 2
            assert not (LABEL[0].start <= row < LABEL[0].stop and LABEL[1].start <= column < LABEL[1].stop)


def test_the_same_defect_is_found_without_the_mask(detector: Detector, fresh: list[Pixels]) -> None:
    assert detector.inspect(spoilt(fresh[0], LABEL)).record.verdict in (Verdict.DEFECT, Verdict.OOD)


def test_pictures_of_another_size_have_the_region_in_the_same_place(
    masked: Detector, fresh: list[Pixels]
) -> None:
    large = fresh[0].repeat(2, 0).repeat(2, 1)
    twice = (slice(36, 90), slice(52, 108))
    clean, hidden = (masked.inspect(p) for p in (large, spoilt(large, twice)))
    assert hidden.record.strangeness == clean.record.strangeness
    assert hidden.heat_map is not None
    assert not hidden.heat_map[32:96, 48:112].any()
    assert hidden.heat_map.any()


def test_a_saved_model_keeps_its_mask(masked: Detector, fresh: list[Pixels], tmp_path: Path) -> None:
    loaded = Detector.load(masked.save(tmp_path / "model"), "cpu")
    assert loaded.settings.ignore is None
    # 16 of 12 x 12 cells.
    assert loaded.facts()["ignored"] == pytest.approx(1 / 9)
    assert loaded.ignored_ is not None
    assert masked.ignored_ is not None
    assert np.array_equal(loaded.ignored_.cells, masked.ignored_.cells)
    assert loaded.facts()["calibration_id"] == masked.facts()["calibration_id"]
    pictures = [fresh[0], spoilt(fresh[0], LABEL), spoilt(fresh[0], ELSEWHERE)]
    for before, after in zip(masked.inspect_many(pictures), loaded.inspect_many(pictures), strict=True):
        assert before.record.strangeness == after.record.strangeness
        assert np.array_equal(before.heat_map, after.heat_map)  # type: ignore[arg-type]
    again = Detector.load(loaded.with_alphas(0.2, 0.1).save(tmp_path / "again"), "cpu")
    again.calibrate(list(fresh))
    assert again.ignored_ is not None
    assert again.calibration_ is not None
    assert again.calibration_.ignored is again.ignored_


MASK_CHANGES: dict[str, Any] = {
    "lost": lambda t: t.pop("ignored"),
    "moved": lambda t: t.update(ignored=t["ignored"].flip(0)),
    "other numbers": lambda t: t.update(ignored=t["ignored"].to(torch.uint8)),
    "smaller": lambda t: t.update(ignored=t["ignored"][1:, 1:].clone()),
    "of one dimension": lambda t: t.update(ignored=t["ignored"].flatten()),
    "everything": lambda t: t.update(ignored=torch.ones_like(t["ignored"])),
    "empty": lambda t: t.update(ignored=t["ignored"][:0].clone()),
}


@pytest.mark.parametrize("name", MASK_CHANGES)
def test_hostile_masks_are_refused_though_every_hash_is_right(
    masked: Detector, tmp_path: Path, name: str
) -> None:
    model = masked.save(tmp_path / "model")
    assert load_file(model / CALIBRATION)["ignored"].dtype == torch.bool
    rewrite(model, CALIBRATION, MASK_CHANGES[name])
    refused(model)


def test_a_model_without_a_mask_has_none(saved: Path) -> None:
    assert "ignored" not in load_file(saved / CALIBRATION)
    assert Detector.load(saved, "cpu").ignored_ is None


QUICK = replace(SMALL, image_size=64, folds=2, density=DensitySettings(steps=10, couplings=2, hidden=8))


def test_masks_that_leave_nothing_or_cannot_be_read_are_typed_errors(
    good: list[Pixels], tmp_path: Path
) -> None:
    nearly = np.ones((64, 64), np.uint8)
    nearly[:8, :16] = 0
    for mask, found in ((np.full((9, 7), 200, np.uint8), "everything"), (nearly, "96.9%")):
        file = mask_file(tmp_path, mask)
        with pytest.raises(DetectorError, match=found):
            Detector(replace(QUICK, ignore=file)).fit(good[:6])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for path in (broken, tmp_path / "absent.png", tmp_path):
        with pytest.raises(DetectorError, match="a mask at"):
            Detector(replace(QUICK, ignore=path)).fit(good[:6])
    # Half of every coarse patch: none of them is left.
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::16] = 1
    coarse = tuple(dataclasses.replace(s, strides=(32,)) for s in QUICK.scales)
    with pytest.raises(DetectorError, match="a patch of every scale"):
        Detector(replace(QUICK, scales=coarse, ignore=mask_file(tmp_path, stripes))).fit(good[:6])


def test_a_wholly_ignored_quadrant_and_zooms_go_together(
    good: list[Pixels], fresh: list[Pixels], tmp_path: Path
) -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[:5, :5] = 255
    scales = tuple(dataclasses.replace(s, zoom=1) for s in QUICK.scales)
    chosen = replace(QUICK, zooms=(1.0, 2.0), scales=scales, ignore=mask_file(tmp_path, mask))
    trained = Detector(chosen).fit(good[:12]).calibrate()
    loaded = Detector.load(trained.save(tmp_path / "model"), "cpu")
    hidden, clean = spoilt(fresh[0], (slice(0, 48), slice(0, 48))), fresh[0]
    assert loaded.inspect(hidden).record.strangeness == trained.inspect(clean).record.strangeness


def seen_cells(mask: list[list[int]], sizes: tuple[int, ...], folder: Path) -> list[list[bool]]:
    found: list[list[bool]] = IgnoreMask.read(
        mask_file(folder, np.array(mask, np.uint8)), sizes, ReadingRule()
    ).cells.tolist()
    return found


def test_a_cell_is_ignored_where_any_of_its_pixels_is(tmp_path: Path) -> None:
    large = np.zeros((80, 160), np.uint8)
    large[10, 159] = 1
    cells = np.array(seen_cells(large.tolist(), (64, 32), tmp_path))
    assert cells.shape == (8, 8)
    # Row 10 of 80 begins the second of eight.
    assert np.argwhere(cells).tolist() == [[1, 7]]
    # A mask of three pixels over eight cells: the third and the sixth are cut by the middle one's borders.
    assert seen_cells([[0, 1, 0]], (64,), tmp_path)[0] == [False] * 2 + [True] * 4 + [False] * 2


def test_shares_paint_and_grids_agree() -> None:
    cells = np.zeros((8, 8), bool)
    cells[:4, :2] = True
    mask = IgnoreMask(cells)
    assert mask.kept_share(2, 2).tolist() == [[0.5, 1], [1, 1]]
    assert mask.kept(2, 2).tolist() == [[False, True], [True, True]]
    assert np.array_equal(mask.kept(8, 8), ~cells)
    # Cells that do not divide the grid overlap, as torch's adaptive pooling has them.
    kept = torch.from_numpy(~cells).float()[None, None]
    for rows, columns in ((3, 5), (5, 3), (7, 8)):
        pooled_share = functional.adaptive_avg_pool2d(kept, (rows, columns))[0, 0].numpy()
        assert np.allclose(mask.kept_share(rows, columns), pooled_share, rtol=0, atol=1e-6)
    for kind, shade in ((np.uint8, [0, 128, 255]), (np.uint16, [0, 32768, 65535])):
        pixels = np.ones((80, 40, 3), kind)
        painted = mask.paint(pixels, (0.0, 0.5, 1.0))
        assert np.unique(painted[:40, :10].reshape(-1, 3), axis=0).tolist() == [shade]
        assert painted.astype(int).sum() - painted[:40, :10].astype(int).sum() == 3 * (80 * 40 - 40 * 10)
        assert pixels.max() == 1
    assert mask.over(4, 2).tolist() == [[True, False]] * 2 + [[False, False]] * 2
    # Rows 3 and 6 of 10 touch two cells each.
    assert mask.over(10, 1)[:, 0].tolist() == [True] * 5 + [False] * 5


def pooled(features: Tensor, kept: Tensor) -> Tensor:
    return pooled_statistics([features], [kept])


def test_pooling_leaves_ignored_cells_out() -> None:
    features = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(pooled(features, torch.ones(4, 6)), pooled_statistics([features]), atol=1e-6)
    kept = torch.ones(4, 6)
    kept[:2, :3] = 0
    kept[3, 4] = 0
    left = features[:, :, kept.bool()]
    found = pooled(features, kept)
    assert torch.allclose(found[:, :3], left.mean(2), atol=1e-6)
    assert torch.allclose(found[:, 3:6], left.std(2, correction=0), atol=1e-6)
    assert found[:, 6:9].tolist() == [[0, 0, 0]] * 2
    corner = features[:, :, 2:, 3:].flatten(2)[:, :, kept[2:, 3:].flatten().bool()]
    assert torch.allclose(found[:, 15:18], corner.mean(2), atol=1e-6)
    # A cell that is half kept weighs half.
    kept[0] = torch.tensor([0.5, 0, 0, 0, 0, 0])
    assert torch.allclose(pooled(features, kept)[:, 6:9], features[:, :, 0, 0], atol=1e-6)
