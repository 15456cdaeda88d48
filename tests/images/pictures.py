"""Picture files of every kind, written byte by byte where no library writes them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from differnet.images.reading import encode_png

Array = NDArray[Any]


def random_samples(shape: tuple[int, ...], largest: int, seed: int = 0) -> Array:
    kind = np.uint8 if largest < 256 else np.uint16
    return np.random.default_rng(seed).integers(0, largest + 1, shape).astype(kind)


def smooth_picture(height: int = 60, width: int = 80) -> Array:
    y, x = np.mgrid[0:height, 0:width]
    channels = [127 + 100 * np.sin(x / 9), 127 + 100 * np.cos(y / 7), (x + y) % 256]
    return np.stack(channels, axis=2).astype(np.uint8)


def saved(pixels: Array, kind: str, mode: str | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def make_png(samples: Array, bits: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG chunk by chunk; Pillow writes neither 16-bit colour nor sBIT."""
    height, width = samples.shape[:2]
    depth = samples.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in depth)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    middle = b"".join(png_chunk(*chunk) for chunk in chunks)
    pixels = png_chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + middle + pixels + png_chunk(b"IEND", b"")


def pack_bits(samples: Array, bits: int, order: str) -> bytes:
    if bits in (8, 16, 32):
        kinds = {8: "u1", 16: order + "u2", 32: order + "f4"}
        return bytes(samples.astype(kinds[bits]).tobytes())
    rows = samples.reshape(samples.shape[0], -1).astype(np.uint32)
    shifts = np.arange(bits - 1, -1, -1)
    return b"".join(np.packbits((row[:, None] >> shifts & 1).astype(np.uint8)).tobytes() for row in rows)


def make_tiff(samples: Array, bits: int, *, order: str = "<", **tags: int | list[int]) -> bytes:
    """Write an uncompressed TIFF of one strip; ``tNNN`` sets or replaces tag NNN."""
    samples = np.atleast_3d(samples)
    height, width, channels = samples.shape
    strip = pack_bits(samples, bits, order)
    entries: dict[int, int | list[int]] = {
        256: width, 257: height, 258: [bits] * channels, 259: 1, 262: 2 if channels >= 3 else 1,
        273: 0, 277: channels, 278: height, 279: len(strip), 284: 1,
    }  # fmt: skip
    entries |= {int(name[1:]): value for name, value in tags.items()}
    values = {tag: value if isinstance(value, list) else [value] for tag, value in entries.items()}
    wide = {256, 257, 273, 278, 279}
    lengths = {tag: len(value) * (4 if tag in wide else 2) for tag, value in values.items()}
    place = 8 + 2 + 12 * len(values) + 4
    pixels_at = place + sum(n for n in lengths.values() if n > 4)
    if 273 not in {int(name[1:]) for name in tags}:
        values[273] = [pixels_at]
    table, far = b"", b""
    for tag in sorted(values):
        code = "I" if tag in wide else "H"
        packed = struct.pack(f"{order}{len(values[tag])}{code}", *values[tag])
        if len(packed) > 4:
            packed, far = struct.pack(order + "I", place + len(far)), far + packed
        table += struct.pack(order + "HHI", tag, 4 if tag in wide else 3, len(values[tag]))
        table += packed.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = struct.pack(order + "IH", 8, len(values))
    return magic + head + table + struct.pack(order + "I", 0) + far + strip


def exif_block(orientation: int, taken: str = "") -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    if taken:
        exif[306] = taken
    return exif.tobytes()


def upright(stored: Array, orientation: int) -> Array:
    """Say what each EXIF orientation means, pixel by pixel, from the table of the standard.

    The standard names where row 0 and column 0 of the stored picture are on the upright one.
    """
    height, width = stored.shape[:2]
    seen = np.empty((width, height, *stored.shape[2:]) if orientation > 4 else stored.shape, stored.dtype)
    for y in range(height):
        for x in range(width):
            there = {
                1: (y, x), 2: (y, width - 1 - x), 3: (height - 1 - y, width - 1 - x), 4: (height - 1 - y, x),
                5: (x, y), 6: (x, height - 1 - y), 7: (width - 1 - x, height - 1 - y), 8: (width - 1 - x, y),
            }[orientation]  # fmt: skip
            seen[there] = stored[y, x]
    return seen


def stretched(stored: Array, white: int) -> Array:
    scaled: Array = np.floor(np.minimum(stored.astype(float), white) * 65535 / white + 0.5)
    return scaled.astype(np.uint16)


def make_complete_files() -> dict[str, bytes]:
    pixels, deep = smooth_picture(), random_samples((20, 30, 3), 65535)
    return {
        "png": saved(pixels, "PNG"),
        "deep png": encode_png(deep),
        "palette png": saved(pixels, "PNG", mode="P"),
        "jpeg": saved(pixels, "JPEG"),
        "progressive jpeg": saved(pixels, "JPEG", progressive=True),
        "jpeg with thumbnail": saved(pixels, "JPEG", exif=b"Exif\0\0" + saved(pixels, "JPEG")),
        "bmp": saved(pixels, "BMP"),
        "tiff": saved(pixels, "TIFF"),
        "lzw tiff": saved(pixels, "TIFF", compression="tiff_lzw"),
        "deep tiff": make_tiff(deep, 16),
        "deep lzw tiff": bytes(cv2.imencode(".tif", deep)[1].tobytes()),
        "webp": saved(pixels, "WEBP"),
        "lossless webp": saved(pixels, "WEBP", lossless=True),
        "ppm": saved(pixels, "PPM"),
        "deep pgm": b"P5 30 20 4095\n" + bytes(1200),
    }


COMPLETE_FILES = make_complete_files()
