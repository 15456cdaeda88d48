"""Fit, calibrate, inspect: the promises a person relies on, on a small product."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detection.conftest import SIZE, SMALL
from differnet.calibration import CalibrationError
from differnet.detection import DensitySettings, Detector, DetectorError, DetectorSettings, PatchScale
from differnet.detection import detector as detector_module
from differnet.detection.densities import TrainingLoss
from differnet.detection.ensemble import deal
from differnet.detection.regions import strange_regions
from differnet.detection.sources import as_picture
from differnet.evaluation import image_auroc
from differnet.features import Backbone
from differnet.images.reading import read_image
from differnet.images.synthetic import WRONG_INPUT_KINDS, render_part, render_wrong_input
from differnet.records import Inspection, Picture, Record, Verdict

Pixels = NDArray[np.uint8]
Figures = NDArray[np.float64]
Files = Callable[[list[Pixels]], list[Path]]

QUICK = replace(SMALL, image_size=64, folds=2, density=DensitySettings(steps=10, couplings=2, hidden=8))
REJECTED = {Verdict.DEFECT, Verdict.OOD, Verdict.INVALID}


def judged(detector: Detector, pictures: list[Any]) -> list[Record]:
    return [inspection.record for inspection in detector.inspect_many(pictures)]


def obvious_defect(pixels: Pixels) -> tuple[Pixels, tuple[slice, slice]]:
    """Return the part with a loud patch, and where it is."""
    place = (slice(30, 54), slice(36, 60))
    spoilt = pixels.copy()
    spoilt[place] = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return spoilt, place


def test_good_parts_pass_and_wrong_inputs_do_not(detector: Detector, fresh: list[Pixels]) -> None:
    verdicts = [record.verdict for record in judged(detector, list(fresh))]
    # 24 parts at a promised 5 %: more than 5 rejections would happen once in 200 seeds.
    assert sum(verdict is not Verdict.PASS for verdict in verdicts) <= 5
    wrong = [render_wrong_input(seed, kind, size=SIZE) for kind in WRONG_INPUT_KINDS for seed in (1, 2)]
    found = [record.verdict for record in judged(detector, wrong)]
    assert set(found) <= REJECTED
    # At 96 pixels a mild one may look like a defect of the part.
    assert found.count(Verdict.OOD) >= len(found) - 2


def test_missing_pieces_are_stranger_than_good_parts(detector: Detector, fresh: list[Pixels]) -> None:
    broken = [render_part(seed, defect="missing_piece", size=SIZE).pixels for seed in range(900, 940)]
    strangeness = [record.strangeness or 0.0 for record in judged(detector, [*fresh, *broken])]
    assert image_auroc(strangeness, [False] * len(fresh) + [True] * len(broken)) > 0.6


def test_records_are_complete_and_in_order(detector: Detector, fresh: list[Pixels], files: Files) -> None:
    paths = files(fresh[:3])
    inspections = list(detector.inspect_many(paths))
    assert [i.record.path for i in inspections] == [str(path) for path in paths]
    for inspection, path in zip(inspections, paths, strict=True):
        record = inspection.record
        assert record.sha256 == read_image(path).sha256
        assert record.item_id == record.sha256[:16]
        assert record.part_id == path.stem
        assert record.model_id == detector.model_id
        assert (record.t_review, record.t_defect) == (detector.thresholds.review, detector.thresholds.defect)
        assert record.bits_per_dim_local is not None
        figures = [getattr(record, f.name) for f in fields(record) if f.name.startswith(("nll", "p_value"))]
        assert all(math.isfinite(figure) for figure in figures)
        assert 0 < (record.p_value or 0) <= 1
        assert inspection.heat_map is not None
        assert inspection.heat_map.shape == (SIZE, SIZE)
        assert inspection.heat_map.dtype == np.float32


def test_p_value_and_verdict_agree(detector: Detector, fresh: list[Pixels]) -> None:
    spoilt = [obvious_defect(pixels)[0] for pixels in fresh[:4]]
    calibration = detector.calibration_
    assert calibration is not None
    for record in judged(detector, [*fresh, *spoilt]):
        assert record.p_value is not None
        if record.verdict is not Verdict.OOD:
            assert (record.verdict is Verdict.PASS) == (record.p_value > calibration.alpha_review)


def test_heat_is_hottest_on_the_defect(detector: Detector, fresh: list[Pixels]) -> None:
    pixels, place = obvious_defect(fresh[0])
    tall = np.repeat(pixels, 2, axis=0)
    inspection = detector.inspect(pixels)
    assert inspection.heat_map is not None
    assert inspection.record.verdict in (Verdict.DEFECT, Verdict.OOD)
    row, column = np.unravel_index(int(inspection.heat_map.argmax()), inspection.heat_map.shape)
    assert place[0].start <= row < place[0].stop
    assert place[1].start <= column < place[1].stop
    strongest = inspection.record.regions[0]
    assert strongest.x <= column < strongest.x + strongest.width
    assert strongest.y <= row < strongest.y + strongest.height
    assert strongest.peak == pytest.approx(float(inspection.heat_map.max()))
    stretched = detector.inspect(tall)
    assert stretched.heat_map is not None
    assert stretched.heat_map.shape == tall.shape[:2]


def test_same_seed_same_model_other_seed_another(good: list[Pixels]) -> None:
    first, again, other = (
        Detector(replace(QUICK, seed=seed)).fit(good[:16]).calibrate() for seed in (3, 3, 4)
    )
    assert first.model_id == again.model_id != other.model_id
    assert first.thresholds == again.thresholds != other.thresholds
    assert first.facts()["calibration_id"] == again.facts()["calibration_id"]
    assert first.facts()["training_fingerprint"] == other.facts()["training_fingerprint"]


def test_training_leaves_torchs_own_generator_and_threads_alone(good: list[Pixels]) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    models = set()
    threads = torch.get_num_threads()
    for seed in (1, 99):
        torch.manual_seed(seed)
        models.add(Detector(QUICK).fit(good[:8]).model_id)
    assert len(models) == 1
    assert torch.get_num_threads() == threads
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), wanted)


def test_batches_do_not_change_verdicts(detector: Detector, fresh: list[Pixels]) -> None:
    pictures = [*fresh[:5], obvious_defect(fresh[5])[0], np.full((SIZE, SIZE, 3), 90, np.uint8)]
    together = judged(detector, pictures)
    for one, record in zip(pictures, together, strict=True):
        alone = detector.inspect(one).record
        assert alone.verdict is record.verdict
        assert alone.strangeness == pytest.approx(record.strangeness, rel=1e-5, abs=1e-5)
        assert alone.nll_global == pytest.approx(record.nll_global, rel=1e-5)
        assert alone.nll_local == pytest.approx(record.nll_local, rel=1e-5)


def test_more_pictures_than_a_batch_keep_their_order(detector: Detector, fresh: list[Pixels]) -> None:
    pictures = [*fresh, *fresh[:9]]
    found = judged(detector, list(pictures))
    assert [r.sha256 for r in found[:9]] == [r.sha256 for r in found[24:]]
    assert len({r.sha256 for r in found}) == 24


def test_unreadable_files_are_skipped_in_training_and_listed(good: list[Pixels], files: Files) -> None:
    paths = files(good[:9])
    paths[2].write_bytes(b"no picture")
    paths[5].write_bytes(paths[5].read_bytes()[:200])
    progress: list[tuple[str, int, int]] = []
    trained = Detector(QUICK).fit(paths, lambda *told: progress.append(told))
    assert [name for name, _ in trained.skipped] == [str(paths[2]), str(paths[5])]
    assert all(reason for _, reason in trained.skipped)
    assert trained.provenance_["training_parts"] == 7
    assert ("features", 9, 9) in progress
    assert progress[-1][1] == progress[-1][2]


def test_unreadable_files_are_invalid_and_the_run_goes_on(
    detector: Detector, fresh: list[Pixels], files: Files, tmp_path: Path
) -> None:
    paths = files(fresh[:4])
    paths[1].write_bytes(b"\x89PNG\r\n\x1a\n")
    asked = [*paths, tmp_path / "absent.png", tmp_path, Path("nul\0byte.png")]
    told: list[tuple[str, int, int]] = []
    inspections = list(detector.inspect_many(asked, lambda *given: told.append(given)))
    assert [i.record.path for i in inspections] == [str(path) for path in asked]
    invalid = [i.record.verdict is Verdict.INVALID for i in inspections]
    assert invalid == [False, True, False, False, True, True, True]
    for inspection in np.array(inspections, dtype=object)[invalid]:
        assert inspection.record.reasons[0]
        assert inspection.heat_map is None
        assert inspection.record.strangeness is None
        assert inspection.record.p_value is None
    assert told == [("inspect", i + 1, 7) for i in range(7)]


def test_pictures_of_an_iterator_are_drawn_as_they_are_needed(
    detector: Detector, fresh: list[Pixels], files: Files
) -> None:
    paths = [path for path in files(fresh[:4]) for _ in range(20)]
    drawn: list[Path] = []

    def drawing() -> Iterator[Path]:
        for path in paths:
            drawn.append(path)
            yield path

    told = detector.inspect_many(drawing())
    first = next(told)
    assert len(drawn) < len(paths)
    records = [first.record, *(inspection.record for inspection in told)]
    assert [record.path for record in records] == [str(path) for path in paths]
    assert len({record.strangeness for record in records}) == 4
    assert list(detector.inspect_many(iter([]))) == []


def test_regions_are_where_the_heat_map_says_so_and_only_there(
    detector: Detector, fresh: list[Pixels]
) -> None:
    spoilt = [pixels.copy() for pixels in fresh[:6]]
    for number, pixels in enumerate(spoilt):
        pixels[20:30, 10 : 12 + 4 * number] = 255
    judge, found = detector._judge(), 0
    for inspection in detector.inspect_many([*fresh, *spoilt]):
        assert inspection.heat_map is not None
        known = judge.calibration
        told = strange_regions(inspection.heat_map, judge.region_threshold, known.peaks)
        assert inspection.record.regions == told
        found += bool(told)
    assert 0 < found < len(fresh) + len(spoilt)


class Poisoned:
    """A backbone whose maps are spoilt on their way out."""

    def __init__(self, true: Backbone, value: float, where: str) -> None:
        self.true, self.value, self.where, self.strides = true, value, where, true.strides

    def __call__(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        maps = [m.clone() for m in self.true(pixels)]
        for features in maps if self.where == "everywhere" else maps[1:2]:
            if self.where == "everywhere":
                features[:] = self.value
            else:
                features[0, 0, 0, 0] = self.value
        return maps


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize("where", ["everywhere", "one number"])
def test_features_that_are_not_finite_never_pass(
    saved: Path, fresh: list[Pixels], value: float, where: str
) -> None:
    spoilt = Detector.load(saved, "cpu")
    assert spoilt.backbone_ is not None
    spoilt.backbone_ = Poisoned(spoilt.backbone_, value, where)  # type: ignore[assignment]
    record = spoilt.inspect(fresh[0]).record
    assert record.verdict in REJECTED
    if not math.isfinite(value):
        assert record.verdict is Verdict.INVALID
        assert record.strangeness is None


def test_one_spoilt_picture_does_not_spoil_its_neighbours(
    saved: Path, fresh: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neighbours are those that go through the network together: here all.
    monkeypatch.setattr("differnet.detection.detector.processors", lambda: 1)
    spoilt = Detector.load(saved, "cpu")
    assert spoilt.backbone_ is not None
    wanted = [r.verdict for r in judged(spoilt, list(fresh[1:4]))]
    spoilt.backbone_ = Poisoned(spoilt.backbone_, math.nan, "one number")  # type: ignore[assignment]
    verdicts = [r.verdict for r in judged(spoilt, list(fresh[:4]))]
    assert verdicts == [Verdict.INVALID, *wanted]


def test_training_on_features_that_are_not_finite_is_an_error(
    good: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", lambda *given: [m * math.nan for m in true(*given)])
    spoilt = Detector(QUICK)
    with pytest.raises(Exception, match="finite"):
        spoilt.fit(good[:8])
    with pytest.raises(DetectorError, match="fit"):
        spoilt.calibrate()


NOISE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
NO_PARTS: dict[str, NDArray[Any]] = {
    "black": np.zeros((SIZE, SIZE, 3), np.uint8),
    "white": np.full((SIZE, SIZE, 3), 255, np.uint8),
    "grey": np.full((SIZE, SIZE, 3), 127, np.uint8),
    "red": np.full((50, 70, 3), (200, 10, 10), np.uint8),
    "noise": NOISE,
    "noise_16_bit": NOISE.astype(np.uint16) * 257,
    "one_pixel": np.full((1, 1, 3), 80, np.uint8),
    "one_row": NOISE[:1],
    "one_column": NOISE[:, :1],
    "two_pixels": np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8),
    "checks": np.kron(np.indices((8, 8)).sum(0)[..., None] % 2 * 255, np.ones((12, 12, 3))).astype(np.uint8),
    "gradient": np.repeat(np.linspace(0, 255, SIZE).astype(np.uint8)[None, :, None], SIZE, 0).repeat(3, 2),
    "nearly_black": np.where(NOISE > 250, 1, 0).astype(np.uint8),
    "black_16_bit": np.zeros((SIZE, SIZE, 3), np.uint16),
}


@pytest.mark.parametrize("pixels", NO_PARTS.values(), ids=NO_PARTS.keys())
def test_what_is_no_part_never_passes(detector: Detector, pixels: NDArray[Any]) -> None:
    inspection = detector.inspect(pixels)
    assert inspection.record.verdict in REJECTED
    assert inspection.heat_map is None or inspection.heat_map.shape == pixels.shape[:2]


def test_array_picture_and_file_get_the_same_verdict(
    detector: Detector, fresh: list[Pixels], files: Files
) -> None:
    path = files(fresh[:1])[0]
    ways: list[Any] = [path, str(path), read_image(path), fresh[0], np.asfortranarray(fresh[0])]
    found = [detector.inspect(way).record for way in ways]
    assert len({(r.verdict, r.strangeness, r.nll_local, r.width, r.height) for r in found}) == 1
    assert found[3].sha256 == found[4].sha256
    assert found[3].part_id == found[3].sha256[:16]


WRONG_ARRAYS: list[Any] = [
    np.zeros((8, 8, 3), np.float32),
    np.zeros((8, 8, 3), np.int16),
    np.zeros((8, 8, 3), ">u2"),
    np.zeros((8, 8, 3), bool),
    np.zeros((8, 8), np.uint8),
    np.zeros((8, 8, 4), np.uint8),
    np.zeros((3, 8, 8), np.uint8),
    np.zeros((0, 8, 3), np.uint8),
    np.zeros((8, 0, 3), np.uint8),
    np.zeros((1, 8, 8, 3), np.uint8),
    None,
    3,
]


@pytest.mark.parametrize("pixels", WRONG_ARRAYS, ids=lambda a: f"{getattr(a, 'dtype', a)}-{np.shape(a)}")
def test_arrays_that_are_no_picture_are_typed_errors(detector: Detector, pixels: Any) -> None:
    with pytest.raises(DetectorError, match="RGB pixels"):
        detector.inspect(pixels)
    if isinstance(pixels, np.ndarray):
        with pytest.raises(DetectorError, match="RGB pixels"):
            detector.inspect(Picture(pixels, None, "0" * 64))


def test_held_out_parts_calibrate_too(saved: Path, fresh: list[Pixels]) -> None:
    loaded = Detector.load(saved, "cpu")
    before = loaded.facts()
    assert before["calibration"]["scheme"] == "cross-fitted"
    after = loaded.calibrate(list(fresh)).facts()
    assert after["calibration"]["scheme"] == "split"
    assert after["calibration"]["parts"] == 24
    assert after["model_id"] == before["model_id"]
    assert after["calibration_id"] != before["calibration_id"]
    # 24 parts promise no less than 4 %: the rate in force is said.
    assert after["calibration"]["alpha_defect"] == pytest.approx(1 / 25)
    assert after["calibration"]["alpha_review"] == pytest.approx(0.05)


def test_calibrating_on_what_was_trained_on_is_refused(good: list[Pixels], fresh: list[Pixels]) -> None:
    trained = Detector(QUICK).fit(good[:8])
    with pytest.raises(DetectorError, match="1 of 6 pictures"):
        trained.calibrate([*fresh[:5], good[3]])
    assert trained.calibration_ is None
    trained.calibrate(list(fresh[:5]))


def test_good_parts_are_judged_by_members_that_have_not_seen_them(
    detector: Detector, good: list[Pixels], fresh: list[Pixels]
) -> None:
    """Calibration evidence is like that of fresh parts, and stranger than the members' own parts."""
    calibration = detector.calibration_
    assert calibration is not None

    def whole(parts: list[Pixels]) -> Figures:
        return np.array([r.typicality_global for r in judged(detector, parts)], dtype=np.float64)

    seen, unseen = whole(list(good)), whole(list(fresh))
    dimensions = detector._judge().identity.dimensions[0]
    held = 0.5 * dimensions * (np.exp(calibration.whole[:, 0]) - 1)
    assert held.mean() > seen.mean()
    # Members that have seen three quarters of the parts judge both.
    assert abs(held.mean() - unseen.mean()) < 4 * math.hypot(held.std() / 32**0.5, unseen.std() / 24**0.5)


def test_calibration_stands_in_the_order_of_the_parts(good: list[Pixels]) -> None:
    """A part that is odd among the training parts is odd at its own place of the calibration."""
    odd = [*good[:11], render_wrong_input(1, "noise", size=SIZE)]
    calibration = Detector(QUICK).fit(odd).calibrate().calibration_
    assert calibration is not None
    assert calibration.whole.argmax() == 11
    assert calibration.local.argmax(axis=0).tolist() == [11, 11]


@pytest.mark.parametrize("parts", [4, 5, 11, 12])
def test_few_parts_make_a_detector_that_can_be_saved(good: list[Pixels], parts: int, tmp_path: Path) -> None:
    small = Detector(replace(QUICK, folds=4)).fit(good[:parts]).calibrate()
    assert small.facts()["calibration"]["smallest_alpha"] == pytest.approx(1 / (parts + 1))
    loaded = Detector.load(small.save(tmp_path / "model"), "cpu")
    assert loaded.model_id == small.model_id


def test_no_readable_part_is_refused(good: list[Pixels], files: Files) -> None:
    with pytest.raises(DetectorError, match="good parts"):
        Detector(QUICK).fit([])
    path = files(good[:1])[0]
    path.write_bytes(b"")
    with pytest.raises(DetectorError, match="none of which can be read"):
        Detector(QUICK).fit([path])


def test_steps_out_of_order_are_errors(good: list[Pixels]) -> None:
    fresh_one = Detector(QUICK)
    for step in (
        lambda: fresh_one.calibrate(),
        lambda: fresh_one.inspect(good[0]),
        lambda: fresh_one.facts(),
    ):
        with pytest.raises(DetectorError, match="fit"):
            step()
    fitted = fresh_one.fit(good[:6])
    with pytest.raises(DetectorError, match="calibrat"):
        fitted.inspect(good[0])
    fitted.calibrate()
    with pytest.raises(DetectorError, match="good parts"):
        fitted.fit([])
    for step in (lambda: fitted.calibrate(), lambda: fitted.inspect(good[0])):
        with pytest.raises(DetectorError, match="fit"):
            step()


def test_loaded_detectors_have_no_parts_of_their_own_to_calibrate_on(saved: Path) -> None:
    with pytest.raises(DetectorError, match="keeps no training features"):
        Detector.load(saved, "cpu").calibrate()


@pytest.mark.parametrize("parts", [1, 2])
def test_a_calibration_that_cannot_judge_changes_nothing(
    saved: Path, fresh: list[Pixels], parts: int
) -> None:
    loaded = Detector.load(saved, "cpu")
    before = loaded.facts()
    with pytest.raises(CalibrationError):
        loaded.calibrate(list(fresh[:parts]))
    assert loaded.facts() == before


def test_rates_can_be_changed_as_far_as_the_parts_carry_them(saved: Path, fresh: list[Pixels]) -> None:
    loaded = Detector.load(saved, "cpu")
    before = loaded.thresholds
    loaded.with_alphas(0.25, 0.1)
    assert loaded.thresholds.review < loaded.thresholds.defect < before.review
    assert loaded.facts()["calibration"]["alpha_review"] == 0.25
    for review, defect, error in ((0.2, 0.01, CalibrationError), (0.05, 0.2, DetectorError)):
        with pytest.raises(error):
            loaded.with_alphas(review, defect)
        assert loaded.settings.alpha_review == 0.25
        assert loaded.inspect(fresh[0]).record.t_review == loaded.thresholds.review


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"folds": 1},
        {"folds": 0},
        {"scales": ()},
        {"alpha_review": 0.0},
        {"alpha_review": 1.0},
        {"alpha_defect": 0.2},
        {"alpha_defect": math.nan},
        {"image_size": 0},
        {"image_size": 8193},
        {"image_size": 2048, "zooms": (1.0, 4.5)},
        {"zooms": ()},
        {"zooms": (1.0,) * 5},
        {"zooms": (0.0,)},
        {"zooms": (-1.0,)},
        {"zooms": (math.nan,)},
        {"zooms": (math.inf,)},
        {"scales": (PatchScale("far", (8,), zoom=1),)},
        {"strides": ()},
        {"strides": (16, 8)},
        {"strides": (8, 8, 16)},
        {"strides": (8, 12)},
    ],
)
def test_settings_are_refused_before_anything_is_trained(wrong: dict[str, Any]) -> None:
    with pytest.raises(DetectorError):
        DetectorSettings(**wrong)


def test_inputs_may_be_as_large_as_the_defects_ask_for() -> None:
    assert DetectorSettings(image_size=1024, zooms=(1.0, 4.0)).sizes == (1024, 4096)
    assert DetectorSettings(image_size=8192).sizes == (8192,)


@pytest.mark.parametrize(("strides", "channels"), [((8, 16), (40, 112)), ((4, 8, 16), (24, 40, 112))])
def test_a_network_may_end_sooner(
    strides: tuple[int, ...],
    channels: tuple[int, ...],
    good: list[Pixels],
    fresh: list[Pixels],
    tmp_path: Path,
) -> None:
    whole = Detector(QUICK).fit(good[:12]).calibrate()
    sooner = Detector(replace(QUICK, strides=strides)).fit(good[:12]).calibrate()
    assert (sooner._network().strides, sooner._network().channels) == (strides, channels)
    assert sooner.ensemble_ is not None
    assert sooner.ensemble_.complete.wholes[0].shape.features == 6 * sum(channels)
    # What is left out is not computed, and not kept.
    kept = [sum(t.numel() for t in d._network().network.state_dict().values()) for d in (sooner, whole)]
    assert kept[0] < 0.5 * kept[1]
    loaded = Detector.load(sooner.save(tmp_path / "model"), "cpu")
    assert loaded.settings.strides == strides
    assert loaded.model_id == sooner.model_id != whole.model_id
    own, told = judged(sooner, fresh[:4]), judged(loaded, fresh[:4])
    assert [r.strangeness for r in told] == [r.strangeness for r in own]


def test_a_closer_look_sees_more_of_a_small_defect(
    good: list[Pixels], fresh: list[Pixels], tmp_path: Path
) -> None:
    """The first zoom gives the context, the second the patches: one sixteenth as large."""
    scales = (PatchScale("patches", (16,), zoom=1),)
    close = Detector(replace(QUICK, zooms=(1.0, 4.0), scales=scales)).fit(good[:12]).calibrate()
    assert [p.size for p in close.preprocessing_] == [64, 256]
    assert close.calibration_ is not None
    assert close.calibration_.whole.shape == (12, 2)
    loaded = Detector.load(close.save(tmp_path / "model"), "cpu")
    assert loaded.settings.zooms == (1.0, 4.0)
    assert loaded.settings.scales == scales
    spoilt, _ = obvious_defect(fresh[0])
    first, again = (judged(d, [fresh[0], spoilt]) for d in (close, loaded))
    assert [r.strangeness for r in first] == pytest.approx([r.strangeness for r in again], rel=1e-5)
    assert (first[0].strangeness or 0) < (first[1].strangeness or 0)
    assert first[1].verdict in REJECTED
    maps = close._fitted().evidence(close._features([as_picture(spoilt, close.settings.reading)])).maps
    assert [m.shape for m in maps] == [(1, 16, 16)]


def test_large_pictures_go_through_the_network_in_small_groups(
    saved: Path, fresh: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Detector.load(saved, "cpu")
    wanted = [r.strangeness for r in judged(loaded, list(fresh[:5]))]
    groups: list[int] = []
    true = Backbone.forward

    def counted(backbone: Backbone, pixels: torch.Tensor) -> list[torch.Tensor]:
        groups.append(len(pixels))
        return true(backbone, pixels)

    monkeypatch.setattr(Backbone, "forward", counted)
    monkeypatch.setattr(detector_module, "_PIXELS_A_PASS", 2 * SIZE**2)
    assert [r.strangeness for r in judged(loaded, list(fresh[:5]))] == pytest.approx(wanted, rel=1e-4)
    assert sorted(groups) == [1, 2, 2]


def test_provenance_cannot_overwrite_what_is_measured(saved: Path) -> None:
    loaded = Detector.load(saved, "cpu")
    loaded.provenance_ |= {"model_id": "forged", "t_defect": 1e9}
    facts = loaded.facts()
    assert facts["model_id"] == loaded.model_id
    assert facts["t_defect"] == loaded.thresholds.defect


def test_several_scales_and_smallest_pictures(good: list[Pixels], fresh: list[Pixels]) -> None:
    scales = (PatchScale("fine", (8,), 3), PatchScale("coarse", (16, 32)))
    several = Detector(replace(QUICK, scales=scales)).fit(good[:14]).calibrate()
    inspection = several.inspect(fresh[0])
    assert inspection.heat_map is not None
    assert inspection.heat_map.shape == (SIZE, SIZE)
    assert several.facts()["couplings_kept"].keys() == {"whole", "fine", "coarse", "of"}
    rejected: Inspection = several.inspect(NOISE)
    assert rejected.record.verdict in REJECTED


def test_the_best_quality_looks_twice_and_leaves_other_choices_alone() -> None:
    best = DetectorSettings.of_quality("best", image_size=128, seed=3)
    assert best.sizes == (128, 192)
    assert {scale.zoom for scale in best.scales} == {0, 1}
    assert best.seed == 3
    assert DetectorSettings.of_quality("standard", seed=3) == DetectorSettings(seed=3)
    with pytest.raises(DetectorError, match="standard"):
        DetectorSettings.of_quality("finest")


def test_a_model_of_the_best_quality_judges_saves_and_loads(
    good: list[Pixels], fresh: list[Pixels], tmp_path: Path
) -> None:
    density = replace(QUICK.density, steps=3)
    settings = DetectorSettings.of_quality("best", image_size=64, folds=2, device="cpu", density=density)
    looking = Detector(settings).fit(good[:14]).calibrate()
    loaded = Detector.load(looking.save(tmp_path / "model"), "cpu")
    spoilt, place = obvious_defect(fresh[0])
    inspection = loaded.inspect(spoilt)
    assert inspection.record.verdict in REJECTED
    assert inspection.heat_map is not None
    heat = inspection.heat_map
    elsewhere = np.ones_like(heat, dtype=bool)
    elsewhere[place] = False
    assert heat[place].mean() > 1.5 * heat[elsewhere].mean()
    assert looking.inspect(spoilt).record.strangeness == pytest.approx(
        inspection.record.strangeness, rel=1e-5
    )


def test_copies_of_a_picture_are_dealt_into_one_fold() -> None:
    """A member that learned from one copy must not calibrate the other."""
    names = [f"part {i}" for i in range(20)]
    hashes = names + names[:5]
    fold_of = deal(hashes, 4, seed=3)
    assert fold_of[:5].tolist() == fold_of[20:].tolist()
    assert sorted(fold_of[:20].tolist()) == sorted([0, 1, 2, 3] * 5)
    assert deal(hashes, 4, seed=4).tolist() != fold_of.tolist()


def test_defects_among_the_good_parts_are_left_out_and_listed(
    good: list[Pixels], fresh: list[Pixels]
) -> None:
    # Of different kinds: three alike among 35 parts are a kind of part, not an exception.
    spoilt = [obvious_defect(fresh[0])[0], fresh[1].copy()]
    spoilt[1][:, 40:56] = 0
    mixed: list[Any] = [*good[:10], spoilt[0], *good[10:25], spoilt[1], *good[25:]]
    hashes = {hashlib.sha256(np.ascontiguousarray(p).tobytes()).hexdigest() for p in spoilt}
    clean = Detector(QUICK).fit(list(good))
    # One folder of good parts in five has a suspect.
    assert len(clean.suspects) <= 1
    trained = Detector(QUICK).fit(mixed).calibrate()
    assert len(trained.suspects) <= 3
    assert trained.facts()["suspects_left_out"] == len(trained.suspects)
    assert trained.facts()["training_parts"] == len(mixed) - len(trained.suspects)
    assert trained.trained_on.isdisjoint(hashes)
    keeping = Detector(replace(QUICK, keep_suspects=True)).fit(mixed)
    assert keeping.suspects == []
    assert hashes < keeping.trained_on


def test_every_density_tells_its_loss_and_the_model_is_the_same(good: list[Pixels]) -> None:
    told: list[TrainingLoss] = []
    settings = replace(QUICK, density=replace(QUICK.density, whole_couplings=2))
    one = Detector(settings).fit(good).calibrate()
    two = Detector(settings).fit(good, losses=told.append).calibrate()
    assert one.model_id == two.model_id
    assert one.facts()["calibration_id"] == two.facts()["calibration_id"]
    members = list(dict.fromkeys(loss.member for loss in told))
    assert sorted(members) == ["all parts", "without fold 1 of 2", "without fold 2 of 2"]
    for member in members:
        patches = [loss for loss in told if loss.member == member and loss.density == "fine patches"]
        assert [loss.step for loss in patches] == list(range(1, 11))
    assert {loss.density for loss in told} == {"whole part", "fine patches", "coarse patches"}
    assert all(math.isfinite(loss.training) for loss in told)
