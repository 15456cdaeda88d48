"""The sample product: the same seed gives the same bytes, masks are true, and what is wrong looks wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.images import synthetic
from differnet.images.synthetic import (
    DEFECT_KINDS,
    MASK_LEVEL,
    WRONG_INPUT_KINDS,
    SyntheticError,
    make_sample_product,
    render_part,
    render_wrong_input,
)
from differnet.images.synthetic import __main__ as command

Pixels = NDArray[np.uint8]

# Half the usual edge renders four times as fast; shapes scale with it.
SIZE = 160


@pytest.fixture(scope="module")
def good() -> Pixels:
    """Twenty good parts, ``(20, SIZE, SIZE, 3)``."""
    return np.stack([render_part(seed, size=SIZE).pixels for seed in range(20)])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample product; tests do not change it."""
    folder = tmp_path_factory.mktemp("sample") / "flange"
    return make_sample_product(folder, train=3, good_test=2, per_defect=1, per_wrong=1, seed=3)


def _change(before: Pixels, after: Pixels) -> NDArray[np.int16]:
    change: NDArray[np.int16] = np.abs(before.astype(np.int16) - after.astype(np.int16)).max(axis=-1)
    return change


def _flat_is_below(pixels: Pixels) -> bool:
    """Tell whether the belt shows between the flange's flat and where its rim would be."""
    strip = pixels[round(0.853 * SIZE) : round(0.867 * SIZE), SIZE // 2 - 8 : SIZE // 2 + 8]
    return bool(strip.mean() < 90.0)


def _detail(pixels: Pixels) -> float:
    """Return the Laplacian's variance: high for sharp or noisy pictures, low for blurred or empty ones."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("defect", [None, "scratch", "missing_piece"])
def test_same_seed_gives_same_pixels(defect: str | None) -> None:
    once, again = render_part(11, defect=defect), render_part(11, defect=defect)
    other = render_part(12, defect=defect)
    assert once.pixels.shape == (320, 320, 3)
    assert once.pixels.dtype == np.uint8
    assert np.array_equal(once.pixels, again.pixels)
    assert np.array_equal(once.mask, again.mask)
    assert not np.array_equal(once.pixels, other.pixels)


def test_rendering_leaves_the_global_generator_alone() -> None:
    np.random.seed(5)
    expected = np.random.random_sample()
    np.random.seed(5)
    render_part(1, defect="stain", size=SIZE)
    assert np.random.random_sample() == expected


def test_a_good_part_has_an_empty_mask() -> None:
    part = render_part(4, size=SIZE)
    assert part.defect is None
    assert part.mask.dtype == np.bool_
    assert not part.mask.any()


@pytest.mark.parametrize("defect", DEFECT_KINDS)
def test_the_mask_is_what_changed(defect: str, good: Pixels) -> None:
    for seed in range(20):
        part = render_part(seed, defect=defect, size=SIZE)
        change = _change(good[seed], part.pixels)
        assert np.array_equal(change > MASK_LEVEL, part.mask), (defect, seed)
        share = float(part.mask.mean())
        assert 40 / 320**2 <= share <= 0.12, (defect, seed, share)
        assert change[part.mask].mean() >= 12.0, (defect, seed)


def test_kinds_of_defects_differ_on_the_same_part() -> None:
    masks = [render_part(2, defect=kind, size=SIZE).mask for kind in DEFECT_KINDS]
    for i, mask in enumerate(masks):
        assert all((mask != other).any() for other in masks[i + 1 :])


def test_defects_lie_in_many_places() -> None:
    centres = np.array(
        [np.argwhere(render_part(s, defect="dent", size=SIZE).mask).mean(axis=0) for s in range(12)]
    )
    assert (centres.std(axis=0) > 0.1 * SIZE).all()


def test_good_parts_vary_within_a_range(good: Pixels) -> None:
    brightness = good.reshape(20, -1).mean(axis=1)
    assert 0.5 < brightness.std() < 6.0
    assert 90.0 < brightness.min() < brightness.max() < 135.0
    middle = np.median(good, axis=0).astype(np.uint8)
    apart = np.array([_change(picture, middle).mean() for picture in good])
    assert apart.min() > 2.0
    assert apart.max() < 25.0


def test_the_part_never_leaves_the_picture(good: Pixels) -> None:
    border = np.concatenate([good[:, :8], good[:, -8:]], axis=1)
    assert border.mean() < 75.0
    assert np.percentile(border, 99.5) < 130.0


def test_other_sizes_show_the_same_part() -> None:
    large = cv2.resize(render_part(6, size=320).pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    assert _change(np.asarray(large, dtype=np.uint8), render_part(6, size=SIZE).pixels).mean() < 12.0


@pytest.mark.parametrize("kind", WRONG_INPUT_KINDS)
def test_wrong_inputs_are_far_from_good(kind: str, good: Pixels) -> None:
    middle = np.median(good, axis=0).astype(np.uint8)
    usual = max(_change(picture, middle).mean() for picture in good)
    assert all(_flat_is_below(picture) for picture in good)
    detail = [_detail(picture) for picture in good]
    for seed in range(8):
        pixels = render_wrong_input(seed, kind, SIZE)
        assert np.array_equal(pixels, render_wrong_input(seed, kind, SIZE))
        if kind == "blurred":
            assert _detail(pixels) < 0.4 * min(detail), seed
        elif kind == "upside_down":
            assert not _flat_is_below(pixels), seed
        else:
            assert _change(pixels, middle).mean() > 1.3 * usual, seed


def test_upside_down_is_the_part_turned_round(good: Pixels) -> None:
    for seed in range(8):
        as_laid = render_wrong_input(seed, "upside_down", SIZE)
        turned = np.ascontiguousarray(np.rot90(as_laid, 2))
        assert _flat_is_below(turned), seed
        assert _change(as_laid, good[seed]).max() > 100, seed


def test_blank_is_sometimes_a_lens_cap() -> None:
    brightness = [render_wrong_input(seed, "blank", SIZE).mean() for seed in range(20)]
    assert 2 <= sum(b < 20 for b in brightness) <= 14


@pytest.mark.parametrize(
    "render",
    [
        lambda: render_part(0, defect="rust"),
        lambda: render_part(0, size=32),
        lambda: render_wrong_input(0, "sideways"),
        lambda: render_wrong_input(0, "blank", 10),
    ],
)
def test_unknown_requests_are_refused(render: object) -> None:
    assert callable(render)
    with pytest.raises(SyntheticError) as caught:
        render()
    assert caught.value.remedy


def test_the_tree_has_the_counts_that_were_asked_for(sample: Path) -> None:
    assert len(list((sample / "train/good").glob("*.png"))) == 3
    assert len(list((sample / "test/good").glob("*.png"))) == 2
    for kind in DEFECT_KINDS:
        pictures = sorted(path.stem for path in (sample / "test" / kind).iterdir())
        masks = sorted(path.stem for path in (sample / "ground_truth" / kind).iterdir())
        assert pictures == ["000"]
        assert masks == ["000_mask"]
        mask = cv2.imread(str(sample / "ground_truth" / kind / "000_mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert set(np.unique(mask)) == {0, 255}
    assert {path.name for path in (sample / "wrong_inputs").iterdir()} == {*WRONG_INPUT_KINDS, "unreadable"}


def test_one_file_cannot_be_read(sample: Path) -> None:
    unreadable = list((sample / "wrong_inputs/unreadable").iterdir())
    assert len(unreadable) == 1
    content = unreadable[0].read_bytes()
    assert content.startswith(b"\x89PNG")
    assert b"IEND" not in content


def test_the_manifest_tells_every_file(sample: Path) -> None:
    manifest = json.loads((sample / "sample.json").read_text(encoding="utf-8"))
    assert manifest["seed"] == 3
    assert manifest["counts"] == {"train": 3, "good_test": 2, "per_defect": 1, "per_wrong": 1}
    assert manifest["generator_version"] == synthetic.GENERATOR_VERSION
    files = _files(sample)
    del files["sample.json"]
    assert manifest["files"] == files


def test_more_pictures_do_not_change_the_others(sample: Path, tmp_path: Path) -> None:
    more = make_sample_product(tmp_path / "more", train=4, good_test=2, per_defect=1, per_wrong=0, seed=3)
    before, after = _files(sample), _files(more)
    shared = (before.keys() & after.keys()) - {"sample.json"}
    assert len(shared) == 3 + 2 + 2 * len(DEFECT_KINDS) + 1
    assert all(before[name] == after[name] for name in shared)


def test_every_picture_is_another(sample: Path) -> None:
    digests = list(_files(sample).values())
    assert len(set(digests)) == len(digests)


def test_a_complete_folder_is_reused_and_a_damaged_one_made_anew(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        calls.append((done, total))

    def make() -> Path:
        return make_sample_product(
            tmp_path / "f", train=2, good_test=0, per_defect=0, per_wrong=0, progress=note
        )

    folder = make()
    assert calls == [(1, 2), (2, 2)]
    first = _files(folder)
    make()
    assert len(calls) == 2
    (folder / "train/good/000.png").write_bytes(b"damaged")
    make()
    assert len(calls) == 4
    assert _files(folder) == first


def test_other_peoples_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work", encoding="utf-8")
    with pytest.raises(SyntheticError, match="thesis"):
        make_sample_product(tmp_path, train=1, good_test=0, per_defect=0, per_wrong=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sample_product(tmp_path / "f", train=2, good_test=0, per_defect=0, per_wrong=0, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_negative_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SyntheticError, match="zero or more"):
        make_sample_product(tmp_path / "f", train=-1)


def test_the_command_writes_the_small_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path / "small"), "--small"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "small")
    assert "32 of 32 pictures" in captured.err
    total = sum(path.stat().st_size for path in (tmp_path / "small").rglob("*") if path.is_file())
    assert total < 4_000_000
    assert (tmp_path / "small/overview.png").is_file()


def test_the_command_reports_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    assert command.main([str(tmp_path), "--small"]) == 1
    assert "mine.txt" in capsys.readouterr().err
