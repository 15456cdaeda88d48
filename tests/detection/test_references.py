"""The good parts that a model keeps: they cover the others, are few and small, and the nearest is found."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection.conftest import SIZE, SMALL
from differnet.detection import DensitySettings, Detector, DetectorError, DetectorSettings, References
from differnet.detection.references import THUMBNAIL_SIDE, spread_out, thumbnail_of
from differnet.images.headers import read_header
from differnet.images.reading import read_image, write_png
from differnet.images.synthetic import render_part
from differnet.records import MOST_REFERENCES

Pixels = NDArray[np.uint8]
Figures = NDArray[np.float64]
Files = Callable[[list[Pixels]], list[Path]]

QUICK = replace(SMALL, image_size=64, folds=2, density=DensitySettings(steps=5, couplings=1, hidden=8))


def farthest(points: Figures, chosen: list[int]) -> float:
    """Return how far the worst-covered point is from the nearest chosen one."""
    apart = np.linalg.norm(points[:, None] - points[chosen][None], axis=2)
    return float(apart.min(axis=1).max())


@pytest.mark.parametrize("seed", range(20))
def test_no_choice_of_as_many_covers_twice_as_well(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(11, 2)) * rng.choice([1.0, 6.0], size=(11, 1))
    chosen = spread_out(points, 3)
    best = min(farthest(points, list(three)) for three in combinations(range(11), 3))
    assert farthest(points, chosen) <= 2 * best + 1e-12


def test_the_same_points_give_the_same_choice_and_each_at_most_once() -> None:
    points = np.random.default_rng(0).normal(size=(40, 5))
    points[7] = points[3]
    assert spread_out(points, 12) == spread_out(points.copy(), 12)
    assert sorted(spread_out(points, 99)) == list(range(40))
    assert sorted(spread_out(np.ones((5, 2)), 5)) == list(range(5))
    assert spread_out(points, 0) == []
    assert spread_out(points[:0], 3) == []


def test_a_thumbnail_is_small_and_shows_the_picture() -> None:
    part = np.repeat(np.repeat(render_part(3, size=175).pixels, 4, axis=0), 4, axis=1)[:, :500]
    header = read_header(io.BytesIO(thumbnail_of(part)), len(thumbnail_of(part)))
    assert (header.kind, header.height) == ("jpeg", THUMBNAIL_SIDE)
    assert header.width == round(500 * THUMBNAIL_SIDE / 700)
    shown = read_image(thumbnail_of(part)).pixels.astype(float)
    shrunk = cv2.resize(part, (header.width, header.height), interpolation=cv2.INTER_AREA).astype(float)
    assert float(np.abs(shown - shrunk).mean()) < 3
    deep = (part.astype(np.uint16) * 257).astype(np.uint16)
    assert thumbnail_of(deep) == thumbnail_of(part)
    assert read_image(thumbnail_of(part[:40, :30])).pixels.shape == (40, 30, 3)


def test_every_training_part_has_a_like_one_among_those_kept(detector: Detector, good: list[Pixels]) -> None:
    kept = detector.references_
    assert kept is not None
    assert len(kept) == len(good) < MOST_REFERENCES
    assert set(kept.hashes) == set(detector.trained_on)
    assert kept.statistics.dtype == np.float16
    sixteen = Detector(replace(QUICK, references=16)).fit(good).references_
    assert sixteen is not None
    assert len(sixteen) == len(set(sixteen.hashes)) == 16


def nearest_of(detector: Detector, pixels: Pixels, but: str = "") -> Any:
    picture = detector._features([detector_picture(pixels)])
    whole = detector._fitted().complete.wholes[0]
    kept = detector.references_
    assert kept is not None
    return kept.nearest(whole.standardised(picture.statistics[0])[0].numpy(), but)


def detector_picture(pixels: Pixels) -> Any:
    from differnet.detection.sources import as_picture
    from differnet.images.reading import ReadingRule

    return as_picture(pixels, ReadingRule())


def test_the_nearest_part_is_the_one_that_was_changed_a_little(
    detector: Detector, good: list[Pixels]
) -> None:
    rng = np.random.default_rng(0)
    for place in (0, 5, 11, 30):
        noise = rng.integers(-2, 3, good[place].shape)
        changed = np.clip(good[place] + noise, 0, 255).astype(np.uint8)
        itself = hashlib.sha256(good[place].tobytes()).hexdigest()
        found = nearest_of(detector, changed)
        assert found.sha256 == itself
        assert found.pixels.shape == (SIZE, SIZE, 3)
        assert float(np.abs(found.pixels.astype(float) - good[place]).mean()) < 4
        other = nearest_of(detector, changed, but=itself)
        assert other.sha256 != itself
        assert other.distance > found.distance > 0


def test_distances_are_standard_deviations_of_good_parts(detector: Detector, fresh: list[Pixels]) -> None:
    near = [nearest_of(detector, pixels).distance for pixels in fresh]
    # Two independent draws differ by sqrt(2) of them; the nearest of 32 is nearer.
    assert 0.3 < float(np.median(near)) < 1.42
    assert nearest_of(detector, np.full((SIZE, SIZE, 3), 250, np.uint8)).distance > 2 * max(near)


def test_there_may_be_none(detector: Detector, good: list[Pixels], tmp_path: Path) -> None:
    without = Detector(replace(QUICK, references=0)).fit(good[:16]).calibrate()
    assert nearest_of(without, good[0]) is None
    loaded = Detector.load(without.save(tmp_path / "model"), "cpu")
    assert loaded.references_ is not None
    assert (len(loaded.references_), loaded.settings.references) == (0, 0)
    one = References.of(np.zeros((1, 4)), [thumbnail_of(good[0])], ["00" * 32])
    assert one.nearest(np.ones(4), but="00" * 32) is None
    assert one.nearest(np.full(4, np.nan)) is None
    found = one.nearest(np.full(4, 2.0))
    assert found is not None
    assert found.distance == 2.0
    with pytest.raises(DetectorError, match="references from 0 to 64"):
        DetectorSettings(references=65)


def test_what_was_kept_comes_back_from_the_file(detector: Detector, saved: Path) -> None:
    kept, loaded = detector.references_, Detector.load(saved, "cpu").references_
    assert kept is not None
    assert loaded is not None
    assert loaded.hashes == kept.hashes
    assert loaded.thumbnails == kept.thumbnails
    assert np.array_equal(loaded.statistics, kept.statistics)
    size = (saved / "references.safetensors").stat().st_size
    allowed = sum(map(len, kept.thumbnails)) + kept.statistics.nbytes + 4096
    assert size <= allowed


def test_copies_and_variations_of_a_part_count_once(good: list[Pixels]) -> None:
    kept = Detector(QUICK).fit([*good[:8], good[0], good[1]]).references_
    assert kept is not None
    assert len(kept) == len(set(kept.hashes)) == 8
    few = Detector(QUICK).fit(good[:3]).references_
    assert few is not None
    assert set(few.hashes) == {hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in good[:3]}


def test_what_is_ignored_is_painted_over_in_what_is_kept(good: list[Pixels], tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:24, :24] = 255
    write_png(tmp_path / "mask.png", mask)
    detector = Detector(replace(QUICK, ignore=tmp_path / "mask.png")).fit(good[:8])
    kept = detector.references_
    assert kept is not None
    ignored = detector.ignored_
    assert ignored is not None
    for thumbnail in kept.thumbnails:
        label = read_image(thumbnail).pixels[:24, :24].astype(float)
        assert float(label.reshape(-1, 3).std(axis=0).max()) < 3, "something of the label is left"


def test_a_file_that_is_gone_or_changed_after_it_was_learned_from_is_not_shown(
    good: list[Pixels], files: Files
) -> None:
    paths = files(good[:8])

    def meddle(stage: str, done: int, of: int) -> None:
        if stage == "boundary" and done == of:
            paths[2].unlink()
            write_png(paths[5], good[20])

    kept = Detector(QUICK).fit(paths, meddle).references_
    assert kept is not None
    assert len(kept) == 6
    assert len(kept.thumbnails) == len(kept.statistics) == 6
