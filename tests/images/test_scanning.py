from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from differnet.images.layouts import LayoutError
from differnet.images.reading import ReadingRule, encode_png, write_png
from differnet.images.scanning import scan

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def part(seed: int, largest: int = 255, shape: tuple[int, ...] = (12, 16, 3)) -> np.ndarray:
    kind = np.uint8 if largest < 256 else np.uint16
    return np.random.default_rng(seed).integers(0, largest + 1, shape).astype(kind)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, label, count in (("train", "good", 24), ("test", "good", 3), ("test", "dent", 4)):
        place = tmp_path / split / label
        place.mkdir(parents=True)
        for k in range(count):
            write_png(place / f"{k:03d}.png", part(hash_of(split, label, k)))
    return tmp_path


def hash_of(split: str, label: str, k: int) -> int:
    return 1000 * ["train", "test"].index(split) + 100 * ["good", "dent"].index(label) + k


def test_a_clean_folder_has_no_warnings(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = scan(folder, progress=lambda done, total: seen.append((done, total)))
    assert report.layout == "mvtec"
    assert report.counts == {"train": {"good": 24}, "test": {"good": 3, "dent": 4}}
    assert report.readable == 31
    assert report.warnings == ()
    assert (report.sizes, report.modes, report.depths) == ({"16 x 12": 31}, {"rgb": 31}, {8: 31})
    assert seen == [(k, 31) for k in range(1, 32)]
    assert report.suggested_white_level is None


def test_unreadable_files_are_named_with_reasons(folder: Path) -> None:
    (folder / "train/good/005.png").write_bytes(b"")
    (folder / "test/dent/001.png").write_bytes(encode_png(part(1))[:-30])
    report = scan(folder)
    assert {(file.path.name, file.reason) for file in report.unreadable} == {
        ("005.png", "empty"),
        ("001.png", "truncated"),
    }
    assert report.readable == 29
    assert any("2 files cannot be read" in warning for warning in report.warnings)


def test_duplicates_and_leakage(folder: Path) -> None:
    train, test = folder / "train/good", folder / "test/good"
    (train / "copy.png").write_bytes((train / "000.png").read_bytes())
    (test / "leak.png").write_bytes((train / "001.png").read_bytes())
    # The same picture saved by another program: other bytes, same pixels.
    stream = io.BytesIO()
    Image.open(train / "002.png").save(stream, "BMP")
    (test / "again.bmp").write_bytes(stream.getvalue())
    report = scan(folder)
    assert {frozenset(path.name for path in group) for group in report.duplicates} == {
        frozenset({"000.png", "copy.png"}),
        frozenset({"001.png", "leak.png"}),
    }
    assert {(leak.train.name, leak.test.name, leak.same) for leak in report.leaks} == {
        ("001.png", "leak.png", "bytes"),
        ("002.png", "again.bmp", "pixels"),
    }
    assert any("too good" in warning for warning in report.warnings)


def test_the_white_level_is_suggested_from_the_whole_folder(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for k, largest in enumerate([900, 1000, 3000, 800]):
        write_png(tmp_path / "good" / f"{k}.png", part(k, largest))
    report = scan(tmp_path)
    assert report.suggested_white_level == 4095
    assert any("white level to 4095" in warning for warning in report.warnings)
    assert report.depths == {16: 4}
    assert scan(tmp_path, rule=ReadingRule(white_level=4095)).suggested_white_level is None


@pytest.mark.parametrize(
    ("peak", "level"), [(1023, 1023), (1024, 4095), (4096, 16_383), (16_384, None), (65_535, None)]
)
def test_white_levels_at_their_edges(tmp_path: Path, peak: int, level: int | None) -> None:
    (tmp_path / "good").mkdir()
    for k in range(2):
        pixels = part(k, 300)
        pixels[0, 0] = peak
        write_png(tmp_path / "good" / f"{k}.png", pixels)
    assert scan(tmp_path).suggested_white_level == level


def test_blank_pictures_and_mixtures_are_warned_of(folder: Path) -> None:
    write_png(folder / "train/good/blank.png", np.zeros((12, 16, 3), np.uint8))
    write_png(folder / "train/good/grey.png", part(70, shape=(12, 16)))
    write_png(folder / "train/good/deep.png", part(71, 65_535))
    report = scan(folder)
    assert [path.name for path in report.flagged["black"]] == ["blank.png"]
    words = " ".join(report.warnings)
    assert "blank.png" in words
    assert "Bit depths are mixed" in words
    assert "Grey and colour pictures are mixed" in words


def test_masks_are_checked_against_their_pictures(folder: Path) -> None:
    masks = folder / "ground_truth/dent"
    masks.mkdir(parents=True)
    write_png(masks / "000_mask.png", np.ones((12, 16), bool))
    write_png(masks / "001_mask.png", np.ones((16, 12), bool))
    report = scan(folder)
    assert report.masks == 1
    assert [(file.path.name, file.reason) for file in report.unreadable] == [("001_mask.png", "wrong_shape")]


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for k in range(4):
        write_png(tmp_path / "good" / f"{k}.png", part(k))
    words = " ".join(scan(tmp_path).warnings)
    assert "Only 3 good parts" in words
    assert "recall cannot be measured" in words


def test_the_report_is_json_with_relative_paths(folder: Path) -> None:
    (folder / "train/good/005.png").write_bytes(b"")
    (folder / "test/good/leak.png").write_bytes((folder / "train/good/001.png").read_bytes())
    again = json.loads(json.dumps(scan(folder).to_json(), allow_nan=False))
    assert again["unreadable"][0]["path"] == "train/good/005.png"
    assert again["leaks"] == [{"train": "train/good/001.png", "test": "test/good/leak.png", "same": "bytes"}]
    assert again["counts"]["train"]["good"] == 24


def test_a_folder_without_a_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LayoutError):
        scan(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real images are not here")
def test_the_real_aliens_are_clean() -> None:
    report = scan(SHARED / "aliens")
    assert (report.readable, report.unreadable, report.leaks) == (118, (), ())
    assert report.sizes == {"550 x 380": 118}
    assert report.warnings == ()
