"""I1, I2 and I3: mutated pictures, bombs, and the one rule of reading on every way into the program."""

from __future__ import annotations

import io
import struct
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import torch
from images.pictures import (
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
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from differnet.detection import Detector, DetectorSettings, sources
from differnet.images import reading
from differnet.images.reading import ImageError, ReadingRule, encode_png
from differnet.records import Picture, Record, Verdict
from differnet.strict_json import from_json
from trust.apart import Attempt, Outcome, apart, here
from trust.bundles import make_bundle
from trust.finding import Figure, Finding
from trust.mutations import mutate_bytes

MOST_SECONDS_OF_A_PICTURE = 5.0
MOST_SECONDS_OF_A_BOMB = 0.05
MOST_EXTRA_MIB = 64
# Relative: the same picture in another batch of the network.
_ROUNDING = 1e-5

Array = NDArray[Any]


def _variants() -> dict[str, list[bytes]]:
    pixels, deep = smooth_picture(), random_samples((20, 30, 3), 65_535)
    lzw: bytes = cv2.imencode(".tif", deep)[1].tobytes()
    exif = exif_block(6, "2026:03:04 05:06:07")
    return {
        "PNG, 8 bits": [saved(pixels, "PNG", exif=exif), saved(np.dstack([pixels, pixels[..., 0]]), "PNG")],
        "PNG, 16 bits": [encode_png(deep), make_png(deep[..., 0], 16, 0, (b"tRNS", b"\1\2"))],
        "PNG, palette": [saved(pixels, "PNG", mode="P"), saved(pixels, "PNG", mode="P", transparency=3)],
        "JPEG, baseline": [saved(pixels, "JPEG", exif=exif), saved(pixels, "JPEG", mode="CMYK")],
        "JPEG, progressive": [saved(pixels, "JPEG", progressive=True, exif=exif)],
        "BMP": [saved(pixels, "BMP"), saved(pixels, "BMP", mode="P"), saved(pixels, "BMP", mode="1")],
        "TIFF": [
            saved(pixels, "TIFF", tiffinfo={274: 6}),
            saved(pixels, "TIFF", compression="tiff_lzw"),
            make_tiff(deep >> 4, 12, t274=8),
            lzw,
        ],
        "WebP": [saved(pixels, "WEBP", exif=exif), saved(pixels, "WEBP", lossless=True)],
        "PNM": [saved(pixels, "PPM"), b"P5 30 20 4095\n" + deep[..., 0].tobytes(), b"P3 2 1 9\n1 2 3 4 5 6 "],
    }


VARIANTS = _variants()


def mutated_pictures(size: int, seed: int, *, apart_: bool = True) -> Finding:
    """I1: read mutated pictures of nine formats, and inspect those that can be read.

    Args:
        size: How many, shared evenly among the formats.
        seed: Of the mutations, and of the model that inspects.
        apart_: In a process of their own, so that one that dies is counted; else here.
    """
    started = time.perf_counter()
    names = list(VARIANTS)
    cases = [(names[number % len(names)], seed, number) for number in range(size)]
    with tempfile.TemporaryDirectory() as scratch:
        model = str(make_bundle(Path(scratch), seed))
        outcomes = (apart if apart_ else here)(_inspector, model, cases)
    told = Counter(o.told for o in outcomes)
    sound = {name for name in told if name.startswith(("inspected", "refused"))}
    slowest = max(range(size), key=lambda i: outcomes[i].seconds)
    figures: dict[str, Figure] = {
        "inspected": sum(told[name] for name in sound if name.startswith("inspected")),
        "refused with a reason": sum(told[name] for name in sound if name.startswith("refused")),
        "died": told["died"],
        "hung": told["hung"],
        "something else": sum(told[name] for name in told.keys() - sound - {"died", "hung"}),
        "longest, s": round(outcomes[slowest].seconds, 3),
        "longest": f"{cases[slowest][0]}: {outcomes[slowest].told}",
        **{name: told[name] for name in sorted(told)},
    }
    passed = told.keys() == sound and outcomes[slowest].seconds <= MOST_SECONDS_OF_A_PICTURE
    return Finding("I1", "mutated pictures", size, figures, passed, time.perf_counter() - started)


def _inspector(model: str) -> Attempt:
    torch.set_num_threads(1)
    judge = Detector.load(Path(model), "cpu")

    def attempt(case: tuple[str, int, int]) -> str:
        return _inspected(judge, mutated_picture(*case))

    attempt((next(iter(VARIANTS)), 0, 0))
    return attempt


def _inspected(judge: Detector, blob: bytes) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = reading.read_image(blob)
            record = judge.inspect(picture).record
    except ImageError as error:
        return f"refused: {error.reason.value}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    finite = record.strangeness is not None and np.isfinite(record.strangeness)
    if record.verdict is Verdict.PASS and not finite:
        return "passed without a finite figure"
    return f"inspected: {record.verdict.value}"


def mutated_picture(variant: str, seed: int, number: int) -> bytes:
    """Return one damaged file of a format; every second damaged PNG has its checksums made right again."""
    rng = np.random.default_rng([seed, number])
    files = VARIANTS[variant]
    blob = files[int(rng.integers(len(files)))]
    others = list(VARIANTS.values())[int(rng.integers(len(VARIANTS)))]
    for _ in range(int(rng.integers(1, 4))):
        match int(rng.integers(4)):
            case 0:
                blob = _extreme_number(blob, rng)
            case 1:
                at = int(rng.integers(min(len(blob), 200) + 1))
                blob = blob[:at] + mutate_bytes(blob[at : at + 40], others[0], rng) + blob[at + 40 :]
            case _:
                blob = mutate_bytes(blob, others[0], rng)
    return _with_right_checksums(blob) if rng.integers(2) and blob[:4] == b"\x89PNG" else blob


def _extreme_number(blob: bytes, rng: np.random.Generator) -> bytes:
    """Write an extreme number where the header's numbers stand."""
    values = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 60_000, 9_000)
    value = values[int(rng.integers(len(values)))]
    length = (1, 2, 4)[int(rng.integers(3))]
    endian: Literal["big", "little"] = "big" if rng.integers(2) else "little"
    at = int(rng.integers(min(len(blob), 200) + 1))
    return blob[:at] + (value % (1 << 8 * length)).to_bytes(length, endian) + blob[at + length :]


def _with_right_checksums(blob: bytes) -> bytes:
    """Compute the checksum of every chunk of a PNG anew, as whoever forges one does."""
    fixed, offset = bytearray(blob), 8
    while offset + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, offset)
        if offset + 12 + length > len(fixed):
            break
        checksum = zlib.crc32(fixed[offset + 4 : offset + 8 + length])
        struct.pack_into(">I", fixed, offset + 8 + length, checksum)
        offset += 12 + length
    return bytes(fixed)


# Bombs.


def _png_bomb(width: int, height: int, bits: int, colour: int, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    palette = png_chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(50_000_000 // 8), 9))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + palette + pixels + png_chunk(b"IEND", b"")


def _jpeg_bomb(frame: bytes, **options: Any) -> bytes:
    blob = bytearray(saved(smooth_picture(), "JPEG", **options))
    at = blob.index(frame)
    blob[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(blob)


def _endless_scans() -> bytes:
    blob = saved(smooth_picture(3000, 3000), "JPEG", progressive=True, quality=5)
    scan = blob.rindex(b"\xff\xda")
    return blob[:-2] + blob[scan:-2] * 300 + blob[-2:]


def _bmp_bomb(width: int, height: int, bits: int, compression: int) -> bytes:
    blob = bytearray(saved(smooth_picture(), "BMP"))
    blob[18:34] = struct.pack("<iiHHI", width, height, 1, bits, compression)
    return bytes(blob)


def _tiff_table(tag: int, entries: int) -> bytes:
    blob = bytearray(make_tiff(np.zeros((3, 4)), 8) + bytes(4 * entries))
    at = blob.index(struct.pack("<HHI", tag, 3 if tag == 258 else 4, 1))
    blob[at : at + 12] = struct.pack("<HHII", tag, 4, entries, 100)
    return bytes(blob)


def _tiff_that_returns() -> bytes:
    blob = bytearray(make_tiff(np.zeros((3, 4)), 8, t254=1))
    (entries,) = struct.unpack_from("<H", blob, 8)
    struct.pack_into("<I", blob, 8 + 2 + 12 * entries, 8)
    return bytes(blob)


def _webp_bomb(kind: str) -> bytes:
    if kind == "extended":
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
    blob = bytearray(saved(smooth_picture(), "WEBP", lossless=kind == "lossless"))
    if kind == "lossless":
        at = blob.index(b"VP8L") + 9
        blob[at : at + 4] = struct.pack("<I", 16_383 | 16_383 << 14)
    else:
        at = blob.index(b"\x9d\x01\x2a") + 3
        blob[at : at + 4] = struct.pack("<HH", 16_383, 16_383)
    return bytes(blob)


_TWO = random_samples((2, 2), 255)

BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG of 20,000 x 20,000 bits, sound": lambda: _png_bomb(20_000, 20_000, 1, 0),
    "PNG, 16 bits, colour and alpha": lambda: _png_bomb(2**31 - 1, 2**31 - 1, 16, 6),
    "PNG, palette": lambda: _png_bomb(65_535, 65_535, 8, 3),
    "PNG, interlaced": lambda: _png_bomb(40_000, 40_000, 8, 0, 1),
    "PNG of one row": lambda: _png_bomb(2**31 - 1, 1, 8, 2),
    "JPEG, baseline": lambda: _jpeg_bomb(b"\xff\xc0"),
    "JPEG, progressive": lambda: _jpeg_bomb(b"\xff\xc2", progressive=True),
    "JPEG, CMYK": lambda: _jpeg_bomb(b"\xff\xc0", mode="CMYK"),
    "JPEG of 300 scans": _endless_scans,
    "BMP upside down": lambda: _bmp_bomb(60_000, -60_000, 24, 0),
    "BMP of bits": lambda: _bmp_bomb(2**31 - 1, 2**31 - 1, 1, 0),
    "BMP of runs": lambda: _bmp_bomb(30_000, 30_000, 8, 1),
    "TIFF, LZW": lambda: make_tiff(_TWO, 8, t256=60_000, t257=60_000, t259=5),
    "TIFF, deflate, 16 bits": lambda: make_tiff(_TWO, 16, t256=30_000, t257=30_000, t259=8),
    "TIFF of one vast tile": lambda: make_tiff(np.zeros((3, 4)), 8, t322=60_000, t323=60_000),
    "TIFF of a million strips": lambda: _tiff_table(273, 1_000_000),
    "TIFF whose pages return": _tiff_that_returns,
    "WebP, lossy": lambda: _webp_bomb("lossy"),
    "WebP, lossless": lambda: _webp_bomb("lossless"),
    "WebP, extended": lambda: _webp_bomb("extended"),
    "PGM": lambda: b"P5 60000 60000 255\n" + bytes(1000),
}


class _Decoded(BaseException):
    """A bomb went past the checks and reached a decoder."""


def bombs(size: int, seed: int, *, apart_: bool = True) -> Finding:
    """I2: read each bomb from a file and from memory; none may reach a decoder.

    Args:
        size: How many of the 21, from the first.
        seed: Has no effect: bombs are the same every time.
        apart_: Measure time and memory as well, in a process of their own.
    """
    started = time.perf_counter()
    chosen = list(BOMBS.items())[:size]
    told: dict[str, str] = {}
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        for number, (name, make) in enumerate(chosen):
            files[name] = Path(scratch) / f"{number}.bin"
            files[name].write_bytes(make())
            told[name] = _stopped(files[name])
        stopped = [name for name, how in told.items() if how.startswith("refused")]
        if apart_:
            harmless = Path(scratch) / "harmless.png"
            harmless.write_bytes(encode_png(_TWO))
            outcomes = apart(_reader, str(harmless), [str(files[name]) for name in stopped], repeats=3)
    figures: dict[str, Figure] = {"refused before decoding": len(stopped)}
    figures |= dict(sorted(Counter(told.values()).items()))
    passed = len(stopped) == len(chosen)
    if outcomes:
        slow = max(range(len(outcomes)), key=lambda i: outcomes[i].seconds)
        large = max(range(len(outcomes)), key=lambda i: outcomes[i].extra_mib)
        figures |= {
            "longest, s": round(outcomes[slow].seconds, 4),
            "longest": stopped[slow],
            "most extra memory, MiB": round(outcomes[large].extra_mib, 1),
            "most extra memory": stopped[large],
        }
        passed = passed and all(o.told.startswith("refused") for o in outcomes)
        passed = passed and outcomes[slow].seconds <= MOST_SECONDS_OF_A_BOMB
        passed = passed and outcomes[large].extra_mib <= MOST_EXTRA_MIB
    if others := {name: how for name, how in told.items() if not how.startswith("refused")}:
        figures["not refused"] = str(others)[:2000]
    return Finding("I2", "bombs", len(chosen), figures, passed, time.perf_counter() - started)


def _stopped(file: Path) -> str:
    def explode(*_: object) -> None:
        raise _Decoded

    with patch.object(reading, "_decode", explode):
        reasons = {_read(file), _read(file.read_bytes())}
    return reasons.pop() if len(reasons) == 1 else f"two answers: {sorted(reasons)}"


def _read(source: Path | bytes) -> str:
    try:
        reading.read_image(source)
    except ImageError as error:
        return f"refused: {error.reason.value}"
    except _Decoded:
        return "decoded"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    return "read"


def _reader(harmless: str) -> Attempt:
    for _ in range(2):
        reading.read_image(Path(harmless))
    return lambda file: _read(Path(file))


# One rule on every way in.


class Ruled(NamedTuple):
    """A file, and what the stated rule makes of it.

    Attributes:
        blob: The file.
        pixels: What every reader has to see.
        within: Largest difference that the codec itself, or rounding, may leave.
    """

    blob: bytes
    pixels: Array
    within: float = 0.0


def ruled_pictures() -> dict[str, Ruled]:
    """Return files of every orientation, depth and colour model, with the pixels that the rule gives."""
    small, deep = random_samples((24, 40, 3), 255), random_samples((24, 40, 3), 65_535)
    coarse = np.kron(random_samples((3, 5, 3), 255), np.ones((16, 16, 1), np.uint8))
    ruled: dict[str, Ruled] = {}
    for way in range(1, 9):
        exif = exif_block(way)
        for name, blob, stored in (
            ("PNG", saved(small, "PNG", exif=exif), small),
            ("WebP", saved(small, "WEBP", lossless=True, exif=exif), small),
            ("TIFF", make_tiff(small, 8, t274=way), small),
            ("deep TIFF", make_tiff(deep, 16, t274=way), deep),
            ("deep PNG", make_png(deep, 16, 2, (b"eXIf", exif.removeprefix(b"Exif\0\0"))), deep),
        ):
            ruled[f"{name}, orientation {way}"] = Ruled(blob, upright(stored, way))
        blob = saved(coarse, "JPEG", quality=100, subsampling=0, exif=exif)
        ruled[f"JPEG, orientation {way}"] = Ruled(blob, upright(coarse, way), 4)
    for bits in (10, 12, 16):
        stored = random_samples((24, 40, 3), 2**bits - 1)
        ruled[f"TIFF of {bits} bits"] = Ruled(make_tiff(stored, bits), stretched(stored, 2**bits - 1))
        raster = stored.astype(">u2").tobytes()
        blob = f"P6 40 24 {2**bits - 1}\n".encode() + raster
        ruled[f"PPM of {bits} bits"] = Ruled(blob, stretched(stored, 2**bits - 1))
    twelve = random_samples((24, 40), 4095)
    told = make_tiff(twelve, 16, t281=4095)
    ruled["TIFF that declares 12 bits of 16"] = Ruled(told, np.dstack([stretched(twelve, 4095)] * 3))
    rgba = random_samples((24, 40, 4), 255)
    cover = rgba[..., 3:] / 255
    over_white = np.floor(rgba[..., :3] * cover + 255 * (1 - cover) + 0.5)
    ruled["PNG with alpha"] = Ruled(saved(rgba, "PNG"), over_white)
    ruled["WebP with alpha"] = Ruled(saved(rgba, "WEBP", lossless=True, exact=True), over_white)
    ruled["TIFF with alpha"] = Ruled(saved(rgba, "TIFF"), over_white)
    grey = np.floor(rgba[..., 0] * cover[..., 0] + 255 * (1 - cover[..., 0]) + 0.5)
    ruled["PNG, grey with alpha"] = Ruled(make_png(rgba[..., [0, 3]], 8, 4), np.dstack([grey] * 3))
    inks = np.kron(random_samples((2, 3, 4), 255), np.ones((16, 16, 1), np.uint8))
    paper = 255.0 - inks
    printed = paper[..., :3] * paper[..., 3:] / 255
    for kind, within in (("TIFF", 0.51), ("JPEG", 4.0)):
        stream = io.BytesIO()
        options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        Image.fromarray(inks, "CMYK").save(stream, kind, **options)
        ruled[f"{kind}, CMYK"] = Ruled(stream.getvalue(), printed, within)
    palette = Image.fromarray(smooth_picture()).quantize(17)
    for kind in ("PNG", "BMP", "TIFF"):
        stream = io.BytesIO()
        palette.save(stream, kind)
        ruled[f"{kind}, palette"] = Ruled(stream.getvalue(), np.asarray(palette.convert("RGB")))
    return ruled


def one_rule(size: int, seed: int) -> Finding:
    """I3: each file is what the rule says, and the same to every way into the program.

    Compared bit by bit: `read_image` of the path, of its text and of the bytes, and what training decodes.
    Compared by the figures of the verdict: the program's ``inspect``, the detector given the path, and the
    detector given the decoded picture.

    Args:
        size: How many of the files, evenly.
        seed: Of the model.
    """
    started = time.perf_counter()
    every = list(ruled_pictures().items())
    chosen = [every[int(place)] for place in np.linspace(0, len(every) - 1, min(size, len(every)))]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        for number, (name, ruled) in enumerate(chosen):
            files[name] = Path(scratch) / f"{number:03}.bin"
            files[name].write_bytes(ruled.blob)
        pictures = {name: reading.read_image(file) for name, file in files.items()}
        for name, ruled in chosen:
            seen = pictures[name].pixels
            if seen.shape != ruled.pixels.shape or np.abs(seen - ruled.pixels.astype(float)).max() > (
                ruled.within
            ):
                wrong.append(f"{name}: not what the rule says")
        ways: dict[str, dict[str, str]] = {
            "text of the path": {n: _digest(reading.read_image(str(file))) for n, file in files.items()},
            "bytes": {n: _digest(reading.read_image(file.read_bytes())) for n, file in files.items()},
            "training": _seen_in_training(Path(scratch), files, seed),
        }
        for way, digests in ways.items():
            wrong += [f"{n}: other pixels by {way}" for n in files if digests.get(n) != _digest(pictures[n])]
        wrong += _judged_otherwise(make_bundle(Path(scratch) / "bundle", seed), files, pictures)
    figures: dict[str, Figure] = {"ways into the program": 6, "differences": len(wrong)}
    if wrong:
        figures["first differences"] = "; ".join(wrong[:10])[:2000]
    return Finding(
        "I3", "one rule of reading", len(chosen), figures, not wrong, time.perf_counter() - started
    )


def _digest(picture: Picture) -> str:
    told = f"{picture.pixels.shape} {picture.pixels.dtype} ".encode()
    return sha256(told + picture.pixels.tobytes()).hexdigest()


def _seen_in_training(scratch: Path, files: dict[str, Path], seed: int) -> dict[str, str]:
    """Train on the files and note the pixels that training got of each."""
    seen: dict[Path, str] = {}
    true = sources.as_picture

    def noting(source: Any, rule: ReadingRule) -> Picture:
        picture = true(source, rule)
        if isinstance(source, Path):
            seen[source] = _digest(picture)
        return picture

    model = Detector.load(make_bundle(scratch / "trained", seed), "cpu")
    settings = DetectorSettings(
        backbone=model.settings.backbone,
        weights=scratch / "trained" / "weights.safetensors",
        image_size=model.settings.image_size,
        density=model.settings.density,
        scales=model.settings.scales,
        folds=2,
        device="cpu",
        keep_suspects=True,
    )
    with patch.object(sources, "as_picture", noting), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Detector(settings).fit(list(files.values()))
    return {name: seen.get(file, "not read") for name, file in files.items()}


def _judged_otherwise(model: Path, files: dict[str, Path], pictures: dict[str, Picture]) -> list[str]:
    """Return where the program, or the detector given a path, judges otherwise than of decoded pixels."""
    from differnet.cli import app

    judge = Detector.load(model, "cpu")
    wanted = {name: judge.inspect(picture).record for name, picture in pictures.items()}
    direct = {name: judge.inspect(file).record for name, file in files.items()}
    ended = CliRunner().invoke(app, ["inspect", str(model), *map(str, files.values()), "--device", "cpu"])
    lines = [from_json(Record, line) for line in ended.stdout.splitlines()]
    if len(lines) != len(files):
        return [f"differnet inspect gave {len(lines)} records of {len(files)}: {ended.stderr[-300:]}"]
    told = dict(zip(files, lines, strict=True))
    return [
        f"{name}: judged otherwise by {way}"
        for way, records in (("the program", told), ("its path", direct))
        for name, record in records.items()
        if not _alike(record, wanted[name])
    ]


def _alike(one: Record, other: Record) -> bool:
    same = ("sha256", "verdict", "width", "height", "bit_depth")
    if any(getattr(one, name) != getattr(other, name) for name in same):
        return False
    figures = ("nll_global", "nll_local", "strangeness")
    pairs = [(getattr(one, name), getattr(other, name)) for name in figures]
    return all(a is not None and b is not None and abs(a - b) <= _ROUNDING * max(1, abs(b)) for a, b in pairs)
