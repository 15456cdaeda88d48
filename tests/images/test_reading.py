from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from differnet.images.reading import (
    ImageError,
    ReadingRule,
    ReadingRuleError,
    Refusal,
    encode_png,
    read_image,
    read_mask,
    write_png,
)
from differnet.records import Picture
from images.pictures import (
    COMPLETE_FILES,
    exif_block,
    make_png,
    make_tiff,
    png_chunk,
    random_samples,
    saved,
    smooth_picture,
    stretched,
    upright,
)

Array = NDArray[Any]


USUAL_RULE = ReadingRule()


def refusal(source: bytes | Path | str, rule: ReadingRule = USUAL_RULE) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(source, rule)
    return caught.value


# What is read.


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_eight_bit_rgb_is_unchanged(kind: str) -> None:
    pixels = random_samples((7, 9, 3), 255)
    picture = read_image(saved(pixels, kind))
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.source_mode, picture.bit_depth, picture.orientation) == ("rgb", 8, 1)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_eight_bit_grey_is_repeated(kind: str) -> None:
    grey = random_samples((7, 9), 255)
    picture = read_image(saved(grey, kind))
    assert np.array_equal(picture.pixels, np.dstack([grey] * 3))
    assert picture.source_mode == "grey"


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs(compression: str) -> None:
    pixels = random_samples((31, 17, 3), 255)
    assert np.array_equal(read_image(saved(pixels, "TIFF", compression=compression)).pixels, pixels)


def test_lossless_webp_and_lossy_kinds() -> None:
    pixels = smooth_picture()
    assert np.array_equal(read_image(saved(pixels, "WEBP", lossless=True)).pixels, pixels)
    for blob in (saved(pixels, "WEBP", quality=95), saved(pixels, "JPEG", quality=95)):
        difference = read_image(blob).pixels.astype(float) - pixels
        assert np.abs(difference).mean() < 4


def test_jpeg_equals_the_other_decoder() -> None:
    blob = saved(smooth_picture(), "JPEG", quality=80)
    other = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert other is not None
    assert np.array_equal(read_image(blob).pixels, other)


def test_bilevel_and_few_bits_are_spread() -> None:
    bits = random_samples((9, 13), 1)
    for kind in ("PNG", "TIFF", "PPM"):
        picture = read_image(saved(bits.astype(bool), kind))
        assert np.array_equal(picture.pixels[..., 0], bits * 255), kind
        assert (picture.bit_depth, picture.source_mode) == (1, "bilevel")
    four = random_samples((9, 12), 15)
    packed = four[:, ::2] << 4 | four[:, 1::2]
    blob = make_png(packed, 4, 0).replace(struct.pack(">II", 6, 9), struct.pack(">II", 12, 9))
    blob = blob[:29] + struct.pack(">I", zlib.crc32(blob[12:29])) + blob[33:]
    picture = read_image(blob)
    assert np.array_equal(picture.pixels[..., 1], four * 17)
    assert picture.bit_depth == 4
    assert np.array_equal(read_image(make_tiff(four, 4)).pixels[..., 1], four * 17)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_palette(kind: str) -> None:
    image = Image.fromarray(smooth_picture()).quantize(17)
    stream = io.BytesIO()
    image.save(stream, kind)
    picture = read_image(stream.getvalue())
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert (picture.source_mode, picture.bit_depth) == ("palette", 8)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_deep_tiff_is_scaled_by_its_bits(bits: int, order: str, shape: tuple[int, ...]) -> None:
    stored = random_samples(shape, 2**bits - 1)
    picture = read_image(make_tiff(stored, bits, order=order))
    wanted = stretched(stored, 2**bits - 1)
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, wanted if wanted.ndim == 3 else np.dstack([wanted] * 3))
    assert picture.bit_depth == bits


def test_white_level_of_a_16_bit_tiff() -> None:
    stored = random_samples((5, 7), 4095)
    plain, declared = make_tiff(stored, 16), make_tiff(stored, 16, t281=4095)
    assert np.array_equal(read_image(plain).pixels[..., 0], stored)
    assert np.array_equal(read_image(declared).pixels[..., 0], stretched(stored, 4095))
    assert read_image(declared).bit_depth == 12
    chosen = read_image(plain, ReadingRule(white_level=4095))
    assert np.array_equal(chosen.pixels[..., 0], stretched(stored, 4095))


def test_the_white_level_never_comes_from_the_picture() -> None:
    dark, bright = np.full((4, 4), 900, np.uint16), np.full((4, 4), 3900, np.uint16)
    # A writer that keeps each picture's own maximum in MaxSampleValue must not change the scale.
    pictures = [read_image(make_tiff(stored, 16, t281=int(stored.max()))) for stored in (dark, bright)]
    assert [int(picture.pixels.max()) for picture in pictures] == [900, 3900]


def test_values_above_white_saturate() -> None:
    stored = np.array([[0, 1000, 1023, 1024, 65535]], np.uint16)
    seen = read_image(make_tiff(stored, 16), ReadingRule(white_level=1023)).pixels[0, :, 0]
    assert seen.tolist() == [0, int(stretched(stored, 1023)[0, 1]), 65535, 65535, 65535]


def test_the_white_level_leaves_8_bits_alone() -> None:
    pixels = random_samples((4, 5, 3), 255)
    for blob in (encode_png(pixels), saved(pixels, "PPM"), make_tiff(pixels, 8)):
        assert np.array_equal(read_image(blob, ReadingRule(white_level=1023)).pixels, pixels)


def test_12_bits_in_a_16_bit_frame_keep_their_levels() -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    for blob in (encode_png(ramp), encode_png(np.dstack([ramp] * 3)), make_tiff(ramp, 16)):
        seen = read_image(blob, ReadingRule(white_level=4095)).pixels
        assert len(np.unique(seen)) == 4096
        assert (int(seen.min()), int(seen.max())) == (0, 65535)


def test_sixteen_bit_png() -> None:
    stored = random_samples((6, 5, 4), 65535)
    assert np.array_equal(read_image(make_png(stored[..., 0], 16, 0)).pixels[..., 2], stored[..., 0])
    picture = read_image(make_png(stored[..., :3], 16, 2))
    assert np.array_equal(picture.pixels, stored[..., :3])
    assert (picture.bit_depth, picture.source_mode) == (16, "rgb")


def test_sbit_names_the_depth_and_leaves_white() -> None:
    twelve = random_samples((6, 5), 4095)
    scaled = stretched(twelve, 4095)
    picture = read_image(make_png(scaled, 16, 0, (b"sBIT", b"\x0c")))
    assert np.array_equal(picture.pixels[..., 0], scaled)
    assert picture.bit_depth == 12


@pytest.mark.parametrize("maxval", [3, 100, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_pnm_is_scaled_by_its_maxval(maxval: int, shape: tuple[int, ...]) -> None:
    stored = random_samples(shape, maxval)
    full = 255 if maxval < 256 else 65535
    wanted = np.floor(stored.astype(float) * full / maxval + 0.5)
    magic = 5 if len(shape) == 2 else 6
    head = f"P{magic}\n# camera 3\n6 4\n{maxval}\n".encode()
    text = f"P{magic - 3} 6 4 {maxval}\n".encode() + b" ".join(b"%d" % v for v in stored.ravel())
    raster = stored.astype("u1" if maxval < 256 else ">u2").tobytes()
    for blob in (head + raster, text):
        seen = read_image(blob).pixels
        assert seen.dtype == (np.uint8 if maxval < 256 else np.uint16)
        assert np.array_equal(seen, wanted if wanted.ndim == 3 else np.dstack([wanted] * 3))


def test_plain_text_bitmap() -> None:
    assert read_image(b"P1 3 2\n101 010").pixels[..., 0].tolist() == [[0, 255, 0], [255, 0, 255]]


def test_white_is_zero() -> None:
    eight, deep = random_samples((5, 6), 255), random_samples((5, 6), 4095)
    assert np.array_equal(read_image(make_tiff(eight, 8, t262=0)).pixels[..., 0], 255 - eight)
    seen = read_image(make_tiff(deep, 12, t262=0)).pixels[..., 0]
    assert np.array_equal(seen, stretched(4095 - deep, 4095))


# Colour.


def test_alpha_is_composited_over_the_background() -> None:
    rgba = random_samples((6, 7, 4), 255)
    background = (10, 200, 90)
    cover = rgba[..., 3:] / 255
    wanted = np.floor(rgba[..., :3] * cover + np.array(background) * (1 - cover) + 0.5)
    for blob in (saved(rgba, "PNG"), saved(rgba, "TIFF"), saved(rgba, "WEBP", lossless=True, exact=True)):
        picture = read_image(blob, ReadingRule(background=background))
        assert np.abs(picture.pixels - wanted).max() <= 1e-9
        assert picture.source_mode == "rgba"


def test_grey_alpha() -> None:
    la = random_samples((6, 7, 2), 255)
    picture = read_image(make_png(la, 8, 4))
    cover = la[..., 1] / 255
    wanted = np.floor(la[..., 0] * cover + 255 * (1 - cover) + 0.5)
    assert np.array_equal(picture.pixels[..., 0], wanted)
    assert picture.source_mode == "grey+alpha"


@pytest.mark.parametrize(("colour", "channels"), [(4, 2), (6, 4)])
def test_deep_alpha(colour: int, channels: int) -> None:
    stored = random_samples((6, 7, channels), 65535)
    seen = read_image(make_png(stored, 16, colour), ReadingRule(background=(255, 0, 255))).pixels
    cover = stored[..., -1:] / 65535
    behind = np.array((65535, 0, 65535)) * (1 - cover)
    wanted = np.floor(stored[..., :-1] * cover + behind + 0.5)
    assert np.abs(seen - wanted).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("extra", "opaque"), [(1, False), (2, False), (0, True)])
def test_tiff_extra_samples(bits: int, extra: int, opaque: bool) -> None:
    full = 2**bits - 1
    stored = random_samples((5, 6, 4), full)
    stored[..., 3] = full // 2
    if extra == 1:
        stored[..., :3] //= 2
    seen = read_image(make_tiff(stored, bits, t338=extra)).pixels.astype(float)
    colour, cover = stored[..., :3].astype(float), stored[..., 3:] / full
    wanted = colour if opaque else (colour if extra == 1 else colour * cover) + full * (1 - cover)
    # Pillow divides premultiplied 8-bit colours by alpha first: one level is lost there, doubled here.
    assert np.abs(seen - wanted).max() <= 2


def test_transparent_colours_of_png() -> None:
    eight = random_samples((5, 6), 255)
    seen = read_image(make_png(eight, 8, 0, (b"tRNS", struct.pack(">H", int(eight[2, 3]))))).pixels
    assert (seen[eight == eight[2, 3]] == 255).all()
    assert np.array_equal(seen[eight != eight[2, 3]][:, 0], eight[eight != eight[2, 3]])
    deep = random_samples((5, 6, 3), 65535)
    key = struct.pack(">HHH", *(int(value) for value in deep[2, 3]))
    seen = read_image(make_png(deep, 16, 2, (b"tRNS", key))).pixels
    assert (seen[2, 3] == 65535).all()
    seen[2, 3] = deep[2, 3]
    assert np.array_equal(seen, deep)
    grey = random_samples((5, 6), 65535)
    seen = read_image(make_png(grey, 16, 0, (b"tRNS", struct.pack(">H", int(grey[1, 1]))))).pixels
    assert (seen[1, 1] == 65535).all()


def test_transparent_palette() -> None:
    image = Image.fromarray(smooth_picture()).quantize(8)
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=bytes([0, 128] + [255] * 6))
    picture = read_image(stream.getvalue(), ReadingRule(background=(0, 0, 0)))
    indices = np.asarray(image)
    assert (picture.pixels[indices == 0] == 0).all()
    assert picture.source_mode == "palette"


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_follows_the_stated_formula(kind: str) -> None:
    cmyk = np.kron(random_samples((2, 3, 4), 255), np.ones((16, 16, 1), np.uint8))
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    stream = io.BytesIO()
    Image.fromarray(cmyk, "CMYK" if cmyk.shape[2] == 4 else None).save(stream, kind, **options)
    picture = read_image(stream.getvalue())
    paper = 255.0 - cmyk
    wanted = paper[..., :3] * paper[..., 3:] / 255
    assert np.abs(picture.pixels - wanted).max() <= (4 if kind == "JPEG" else 0.51)
    assert picture.source_mode == "cmyk"


def test_icc_profiles_are_ignored() -> None:
    from PIL import ImageCms

    pixels = random_samples((4, 5, 3), 255)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert np.array_equal(read_image(saved(pixels, "PNG", icc_profile=profile)).pixels, pixels)


# Orientation and time.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_format(orientation: int) -> None:
    small = random_samples((3, 5, 3), 255)
    big = np.kron(small, np.ones((16, 16, 1), np.uint8))
    exif = exif_block(orientation)
    deep = random_samples((3, 5, 3), 65535)
    lossless = {
        "png": (saved(small, "PNG", exif=exif), small),
        "webp": (saved(small, "WEBP", lossless=True, exif=exif), small),
        "tiff": (make_tiff(small, 8, t274=orientation), small),
        "tiff lzw": (saved(small, "TIFF", compression="tiff_lzw", tiffinfo={274: orientation}), small),
        "deep tiff": (make_tiff(deep, 16, t274=orientation), deep),
        "deep tiff, big-endian": (make_tiff(deep, 16, order=">", t274=orientation), deep),
        "12-bit tiff": (make_tiff(deep >> 4, 12, t274=orientation), stretched(deep >> 4, 4095)),
        "deep png": (make_png(deep, 16, 2, (b"eXIf", exif.removeprefix(b"Exif\0\0"))), deep),
    }
    for name, (blob, stored) in lossless.items():
        picture = read_image(blob)
        assert np.array_equal(picture.pixels, upright(stored, orientation)), name
        assert picture.orientation == orientation
        assert picture.pixels.flags.c_contiguous
        assert picture.pixels.flags.writeable
    jpeg = read_image(saved(big, "JPEG", quality=100, subsampling=0, exif=exif))
    assert np.abs(jpeg.pixels - upright(big, orientation).astype(float)).max() <= 4


def test_a_late_exif_block_of_png_counts() -> None:
    small = random_samples((3, 5, 3), 255)
    blob = make_png(small, 8, 2)
    late = png_chunk(b"eXIf", exif_block(6).removeprefix(b"Exif\0\0"))
    assert np.array_equal(read_image(blob[:-12] + late + blob[-12:]).pixels, upright(small, 6))


def test_nonsense_exif_is_no_orientation() -> None:
    pixels = random_samples((3, 5, 3), 255)
    for exif in (
        exif_block(9),
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ):
        picture = read_image(saved(pixels, "PNG", exif=exif))
        assert np.array_equal(picture.pixels, pixels)
        assert picture.orientation == 1


def test_capture_time() -> None:
    pixels = random_samples((3, 5, 3), 255)
    taken = read_image(saved(pixels, "JPEG", exif=exif_block(1, "2026:03:04 05:06:07")))
    assert taken.captured_at == "2026-03-04T05:06:07"
    for nonsense in ("0000:00:00 00:00:00", "yesterday", "2026:13:04 05:06:07"):
        assert read_image(saved(pixels, "JPEG", exif=exif_block(1, nonsense))).captured_at is None
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2026:03:04 05:06:07", 0x9011: "+02:00"})
    assert read_image(saved(pixels, "JPEG", exif=exif)).captured_at == "2026-03-04T05:06:07+02:00"


# Refusals.


@pytest.mark.parametrize("name", COMPLETE_FILES)
def test_a_file_cut_short_is_an_error(name: str, tmp_path: Path) -> None:
    whole = COMPLETE_FILES[name]
    read_image(whole)
    cuts = [1, 2, 3, 7, 12, 20, 30, 60] + [int(len(whole) * share) for share in (0.2, 0.4, 0.6, 0.8, 0.95)]
    for cut in [*cuts, len(whole) - 20, len(whole) - 2, len(whole) - 1]:
        error = refusal(whole[:cut])
        assert error.reason in (Refusal.TRUNCATED, Refusal.UNREADABLE), cut
        if cut > 100:
            assert error.reason == Refusal.TRUNCATED, cut
    file = tmp_path / "cut"
    file.write_bytes(whole[: len(whole) // 2])
    assert refusal(file).reason == Refusal.TRUNCATED


def bombs() -> Iterator[tuple[str, bytes]]:
    side = 20_000
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    yield (
        "png",
        (
            b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", header)
            + png_chunk(b"IDAT", rows)
            + png_chunk(b"IEND", b"")
        ),
    )
    jpeg = bytearray(COMPLETE_FILES["jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    yield "jpeg", bytes(jpeg)
    bmp = bytearray(COMPLETE_FILES["bmp"])
    bmp[18:26] = struct.pack("<ii", 60_000, -60_000)
    yield "bmp", bytes(bmp)
    yield "tiff", make_tiff(random_samples((2, 2), 255), 8, t256=60_000, t257=60_000, t259=5)
    webp = bytearray(COMPLETE_FILES["lossless webp"])
    at = webp.index(b"VP8L") + 9
    webp[at : at + 4] = struct.pack("<I", 16_383 | 16_383 << 14)
    yield "webp", bytes(webp)
    yield "pgm", b"P5 60000 60000 255\n" + bytes(1000)


@pytest.mark.parametrize(
    ("name", "bomb"), list(bombs()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_bombs_are_refused_from_the_header(name: str, bomb: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(bomb)
    assert len(bomb) < 60_000
    tracemalloc.start()
    started = time.perf_counter()
    error = refusal(file)
    elapsed = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.reason == Refusal.TOO_LARGE, name
    assert elapsed < 0.05
    assert peak < 64 * 2**20


def test_a_large_file_is_refused_without_fetching_it(tmp_path: Path) -> None:
    file = tmp_path / "large.bmp"
    with file.open("wb") as stream:
        stream.write(COMPLETE_FILES["bmp"])
        stream.truncate(600 * 2**20)
    started = time.perf_counter()
    assert refusal(file).reason == Refusal.TOO_LARGE
    assert time.perf_counter() - started < 0.05
    assert refusal(COMPLETE_FILES["png"], ReadingRule(max_file_bytes=100)).reason == Refusal.TOO_LARGE


def test_the_pixel_limit_is_the_rules() -> None:
    blob = encode_png(np.zeros((10, 10), np.uint8))
    assert refusal(blob, ReadingRule(max_pixels=99)).reason == Refusal.TOO_LARGE
    assert read_image(blob, ReadingRule(max_pixels=100)).width == 10


def test_endless_progressive_scans_are_refused() -> None:
    blob = saved(smooth_picture(3000, 3000), "JPEG", progressive=True, quality=30)
    scan = blob.rindex(b"\xff\xda")
    assert refusal(blob[:-2] + blob[scan:-2] * 300 + blob[-2:]).reason == Refusal.TOO_LARGE


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (make_tiff(np.zeros((3, 4)), 32, t339=3), Refusal.UNSUPPORTED),
        (make_tiff(np.zeros((3, 4)), 16, t339=2), Refusal.UNSUPPORTED),
        (make_tiff(np.zeros((3, 4, 3)), 16, t284=2), Refusal.UNSUPPORTED),
        (make_tiff(np.zeros((3, 4, 2)), 16, t338=2), Refusal.UNSUPPORTED),
        (make_tiff(np.zeros((3, 4)), 8, t259=6), Refusal.UNSUPPORTED),
        (make_tiff(np.zeros((3, 4)), 8, t259=7), Refusal.UNSUPPORTED),
        (make_tiff(np.zeros((3, 4)), 1, t259=4), Refusal.UNSUPPORTED),
        (make_tiff(np.zeros((3, 4)), 8, t322=60_000, t323=60_000), Refusal.UNREADABLE),
        (b"GIF89a" + bytes(20), Refusal.UNSUPPORTED),
        (b"\0\0\0\x20ftypheic" + bytes(20), Refusal.UNSUPPORTED),
        (b"%PDF-1.7" + bytes(20), Refusal.UNSUPPORTED),
        (b"just some text that is no picture", Refusal.UNREADABLE),
        (b"", Refusal.EMPTY),
        (b"P5 0 4 255\n", Refusal.UNREADABLE),
        (b"P5 4 4 70000\n" + bytes(40), Refusal.UNREADABLE),
        (b"P5 4 # no end of the comment", Refusal.UNREADABLE),
    ],
)
def test_refusals_by_reason(blob: bytes, reason: Refusal) -> None:
    assert refusal(blob).reason == reason


def test_tables_and_chains_without_end_are_refused() -> None:
    blob = bytearray(make_tiff(np.zeros((3, 4)), 8) + bytes(400_000))
    entry = blob.index(struct.pack("<HHI", 258, 3, 1))
    blob[entry : entry + 12] = struct.pack("<HHII", 258, 3, 200_000, 100)
    assert refusal(bytes(blob)).reason == Refusal.UNREADABLE
    loop = bytearray(make_tiff(np.zeros((3, 4)), 8, t254=1))
    loop[8 + 2 + 12 * 11 : 8 + 2 + 12 * 11 + 4] = struct.pack("<I", 8)
    assert refusal(bytes(loop)).reason == Refusal.UNREADABLE
    chunks = png_chunk(b"juNk", b"") * 200_001
    png = COMPLETE_FILES["png"]
    assert refusal(png[:33] + chunks + png[33:]).reason == Refusal.UNREADABLE


def test_a_twelve_bit_jpeg_is_explained() -> None:
    blob = bytearray(COMPLETE_FILES["jpeg"])
    blob[blob.index(b"\xff\xc0") + 4] = 12
    error = refusal(bytes(blob))
    assert error.reason == Refusal.UNSUPPORTED
    assert "12 bits" in error.found


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [Image.fromarray(random_samples((8, 9, 3), 255, seed)) for seed in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    assert refusal(stream.getvalue()).reason == Refusal.MULTI_FRAME


def test_two_pnm_pictures_in_one_file_are_refused() -> None:
    one = b"P5 3 2 255\n" + bytes(6)
    assert refusal(one + one).reason == Refusal.MULTI_FRAME
    assert read_image(one + b"\n").width == 3


def test_a_previews_page_is_ignored() -> None:
    pixels = random_samples((8, 9, 3), 255)
    stream = io.BytesIO()
    preview = Image.fromarray(pixels[::2, ::2])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(pixels).save(stream, "TIFF", save_all=True, append_images=[preview])
    assert np.array_equal(read_image(stream.getvalue()).pixels, pixels)


def test_the_format_comes_from_the_content(tmp_path: Path) -> None:
    pixels = random_samples((4, 5, 3), 255)
    file = tmp_path / "picture.jpg"
    file.write_bytes(saved(pixels, "PNG"))
    assert np.array_equal(read_image(file).pixels, pixels)


def test_things_that_are_no_files(tmp_path: Path) -> None:
    assert refusal(tmp_path).reason == Refusal.NOT_A_FILE
    assert refusal(tmp_path / "absent.png").reason == Refusal.MISSING
    assert refusal(str(tmp_path / "a\0b.png")).reason == Refusal.UNREADABLE
    assert refusal(tmp_path / ("x" * 5000)).reason == Refusal.UNREADABLE
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png").reason == Refusal.EMPTY


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert refusal(pipe).reason == Refusal.NOT_A_FILE
    assert refusal("/dev/null").reason == Refusal.NOT_A_FILE
    place = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(place))
        assert refusal(place).reason in (Refusal.NOT_A_FILE, Refusal.UNREADABLE)


def flip(blob: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(blob)
    for at in rng.integers(0, len(damaged), rng.integers(1, 6)):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def overwrite(blob: bytes, rng: np.random.Generator) -> bytes:
    at, length = int(rng.integers(0, min(len(blob), 400))), int(rng.integers(1, 9))
    return blob[:at] + rng.bytes(length) + blob[at + length :]


def cut_out(blob: bytes, rng: np.random.Generator) -> bytes:
    first, last = sorted(int(at) for at in rng.integers(0, len(blob), 2))
    return blob[:first] + blob[last:]


@pytest.mark.parametrize("name", COMPLETE_FILES)
@pytest.mark.parametrize("damage", [flip, overwrite, cut_out])
def test_damaged_files_give_a_picture_or_an_image_error(name: str, damage: Any) -> None:
    rng = np.random.default_rng([7, *name.encode()])
    rule = ReadingRule(max_pixels=4_000_000)
    for _ in range(25):
        started = time.perf_counter()
        try:
            picture = read_image(damage(COMPLETE_FILES[name], rng), rule)
        except ImageError:
            continue
        finally:
            assert time.perf_counter() - started < 5
        assert isinstance(picture, Picture)
        assert picture.pixels.ndim == 3
        assert picture.pixels.shape[2] == 3


def test_png_checksums_see_every_flip() -> None:
    rng = np.random.default_rng(3)
    blob = COMPLETE_FILES["png"]
    for at in rng.integers(0, len(blob), 100):
        damaged = bytearray(blob)
        damaged[at] ^= 1 << int(rng.integers(8))
        refusal(bytes(damaged))


def png_of(raster: bytes, width: int, height: int, bits: int, colour: int, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    palette = png_chunk(b"PLTE", bytes(range(48))) if colour == 3 else b""
    pixels = zlib.compress(raster)
    # In two pieces, as writers with small buffers do.
    pieces = png_chunk(b"IDAT", pixels[:7]) + png_chunk(b"IDAT", pixels[7:])
    end = png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + palette + pieces + end


@pytest.mark.parametrize(("bits", "colour"), [(1, 0), (8, 0), (8, 2), (4, 3), (8, 4), (8, 6)])
@pytest.mark.parametrize("missing", [1, 5, 39])
def test_a_png_without_all_of_its_rows_is_cut_short(bits: int, colour: int, missing: int) -> None:
    """Every chunk, checksum and the compressed stream itself are whole; the rows are not."""
    row = 1 + (60 * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * bits + 7) // 8
    raster = b"".join(b"\0" + b"\x11" * (row - 1) for _ in range(40))
    assert read_image(png_of(raster, 60, 40, bits, colour)).height == 40
    half = png_of(raster[: row * (40 - missing)], 60, 40, bits, colour)
    assert refusal(half).reason == Refusal.TRUNCATED


@pytest.mark.parametrize(("width", "height"), [(60, 40), (61, 41), (5, 5), (3, 1), (1, 3), (1, 1)])
def test_an_interlaced_png_without_all_of_its_rows_is_cut_short(width: int, height: int) -> None:
    grids = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [
        b"\0" + b"\x55" * len(range(x, width, across))
        for x, y, across, down in grids
        for _ in range(y, height, down)
        if x < width
    ]
    whole = png_of(b"".join(rows), width, height, 8, 0, 1)
    assert (read_image(whole).pixels == 0x55).all()
    for kept in range(len(rows)):
        assert refusal(png_of(b"".join(rows[:kept]), width, height, 8, 0, 1)).reason == Refusal.TRUNCATED


def test_a_picture_that_is_black_at_its_end_is_whole() -> None:
    pixels = random_samples((40, 60, 3), 255)
    pixels[20:] = 0
    assert np.array_equal(read_image(encode_png(pixels)).pixels, pixels)
    assert not read_image(encode_png(np.zeros((4, 5), np.uint8))).pixels.any()
    assert not read_image(encode_png(np.zeros((4, 5), bool))).pixels.any()


def test_another_exception_of_a_codec_becomes_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import differnet.images.reading as reading

    full, torn = cv2.error("no memory"), cv2.error("damaged")
    full.code, torn.code = cv2.Error.StsNoMem, cv2.Error.StsAssert
    for raised, reason in (
        (RecursionError("deep"), Refusal.UNREADABLE),
        (MemoryError(), Refusal.TOO_LARGE),
        (full, Refusal.TOO_LARGE),
        (torn, Refusal.UNREADABLE),
    ):

        def fail(*_: object, raised: Exception = raised) -> None:
            raise raised

        monkeypatch.setattr(reading, "_decode", fail)
        assert refusal(COMPLETE_FILES["png"]).reason == reason


def test_what_is_written_while_a_file_is_fetched_belongs_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import differnet.images.reading as reading

    blob, file = COMPLETE_FILES["png"], tmp_path / "growing.png"
    check = reading._check_file_size

    def still_writing(size: int, rule: ReadingRule) -> None:
        check(size, rule)
        with file.open("ab") as stream:
            stream.write(blob[size:])

    monkeypatch.setattr(reading, "_check_file_size", still_writing)
    for begun in (1, len(blob) // 2):
        file.write_bytes(blob[:begun])
        found = read_image(file)
        assert found.sha256 == hashlib.sha256(blob).hexdigest()
        assert np.array_equal(found.pixels, read_image(blob).pixels)
    # What outgrows the limit meanwhile is refused too.
    file.write_bytes(blob[:50])
    assert refusal(file, ReadingRule(max_file_bytes=len(blob) - 1)).reason == Refusal.TOO_LARGE


def test_pillows_global_leniency_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for whole in COMPLETE_FILES.values():
        refusal(whole[: len(whole) * 3 // 4])


def test_between_pillows_warning_and_the_limit_no_warning_is_raised() -> None:
    blob = saved(np.zeros((9500, 9500), bool), "TIFF", compression="tiff_adobe_deflate")
    assert read_image(blob).pixels.shape == (9500, 9500, 3)


# The record, the rule, masks and writing.


def test_hash_path_and_time(tmp_path: Path) -> None:
    blob = COMPLETE_FILES["png"]
    file = tmp_path / "part 1 µ.png"
    file.write_bytes(blob)
    picture = read_image(str(file))
    assert picture.sha256 == hashlib.sha256(blob).hexdigest()
    assert picture.path == file
    assert picture.decode_ms > 0
    assert read_image(blob).path is None


def test_threads_read_alike() -> None:
    blobs = [COMPLETE_FILES[name] for name in ("tiff", "png", "deep tiff", "jpeg")] * 6
    alone = [hashlib.sha256(read_image(blob).pixels.tobytes()).hexdigest() for blob in blobs]
    together: dict[int, str] = {}

    def read(k: int) -> None:
        together[k] = hashlib.sha256(read_image(blobs[k]).pixels.tobytes()).hexdigest()

    threads = [threading.Thread(target=read, args=(k,)) for k in range(len(blobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[k] for k in range(len(blobs))] == alone


def test_the_error_survives_a_worker_process() -> None:
    error = refusal(b"GIF89a" + bytes(20))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ImageError)
    assert (again.reason, str(again)) == (error.reason, str(error))
    assert "a GIF" in str(again)


def test_the_rule_survives_json() -> None:
    import json

    rule = ReadingRule(max_pixels=5, white_level=4095, background=(1, 2, 3))
    assert ReadingRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_pixels": 0}, {"max_pixels": True}, {"max_file_bytes": 1.5}, {"white_level": 255},
        {"white_level": 70_000}, {"background": (0, 0)}, {"background": (0, 0, 256)}, {"background": "red"},
        {"background": (0.0, 0.0, 0.0)},
    ],
)  # fmt: skip
def test_a_senseless_rule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ReadingRuleError):
        ReadingRule(**wrong)
    with pytest.raises(ReadingRuleError):
        ReadingRule.from_json({**ReadingRule().to_json(), **wrong})


def test_a_rule_with_other_fields_is_refused() -> None:
    fields = ReadingRule().to_json()
    with pytest.raises(ReadingRuleError):
        ReadingRule.from_json({**fields, "gamma": 2})
    fields.pop("white_level")
    with pytest.raises(ReadingRuleError):
        ReadingRule.from_json(fields)


def test_masks_of_every_habit() -> None:
    soft = np.array([[0, 3, 127], [128, 250, 255]], np.uint8)
    assert read_mask(encode_png(soft)).tolist() == [[False, False, False], [True, True, True]]
    classes = np.array([[0, 1, 2], [3, 0, 0]], np.uint8)
    for mask in (classes, classes.astype(np.uint16)):
        assert np.array_equal(read_mask(encode_png(mask)), classes > 0)
    bits = classes > 0
    assert np.array_equal(read_mask(encode_png(bits)), bits)
    red = np.dstack([bits * np.uint8(255), np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8)])
    assert np.array_equal(read_mask(encode_png(red)), bits)
    assert not read_mask(encode_png(np.zeros((2, 3), np.uint8))).any()


def test_a_mask_of_another_shape_is_refused() -> None:
    mask = encode_png(np.zeros((4, 6), bool))
    assert read_mask(mask, (4, 6)).shape == (4, 6)
    with pytest.raises(ImageError) as caught:
        read_mask(mask, (6, 4))
    assert caught.value.reason == Refusal.WRONG_SHAPE


@pytest.mark.parametrize("largest", [255, 65535])
def test_png_round_trip(largest: int, tmp_path: Path) -> None:
    pixels = random_samples((6, 7, 3), largest)
    write_png(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels)
    write_png(tmp_path / "a.png", pixels[::-1])
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels[::-1])
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    before = (tmp_path / "a.png").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_png(tmp_path / "a.png", np.ones((2, 2), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)])
def test_no_picture_is_not_encoded(wrong: Array) -> None:
    with pytest.raises(ValueError, match="no picture"):
        encode_png(wrong)


def test_this_room_needs_no_torch() -> None:
    code = (
        "import sys, differnet.images.scanning, differnet.images.quality\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'streamlit')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_reading_costs_little_more_than_decoding() -> None:
    blob = saved(smooth_picture(1000, 1200), "JPEG", quality=90)

    def best(action: Any) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            action()
            times.append(time.perf_counter() - started)
        return min(times)

    def decode() -> None:
        np.array(Image.open(io.BytesIO(blob)))

    # Hash, header and completeness together; measured 1.1 on an idle machine.
    assert best(lambda: read_image(blob)) < 2.5 * best(decode)
