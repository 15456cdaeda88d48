"""The one function that decodes a picture, for training, command line, page and service alike.

One rule for every file, so that the same bytes are the same pixels everywhere:

1. **Format** by content, never by name: PNG, JPEG, BMP, TIFF, WebP, PBM/PGM/PPM.
2. **Limits** from the header, before anything is decoded.
3. **Completeness**: a file that is cut short is an error, never half a grey picture.
4. **Depth**: up to 8 bits gives ``uint8``. 8-bit samples stay as they are; fewer bits are spread
   over 0 to 255. More than 8 bits gives ``uint16``, scaled linearly so that the white level becomes
   65535; values above white saturate. The white level is ``rule.white_level`` if set; else what the
   file declares (TIFF BitsPerSample, or MaxSampleValue where it is 1023, 4095 or 16383; PNM maxval);
   else 65535. It is never guessed from the picture's own content. A PNG's sBIT tells the bit depth but
   not the white level: the format demands samples that are already scaled up to 16 bits.
5. **Colour**: grey is repeated in R, G and B. CMYK becomes R = (255 - C)(255 - K) / 255, and so on.
   Alpha is composited over ``rule.background`` on the stored (gamma-encoded) values. ICC profiles,
   gamma and chromaticity chunks are ignored: a part looks the same whatever its tags claim.
6. **Orientation**: EXIF 1 to 8 is applied, from JPEG APP1, PNG eXIf, WebP EXIF or the TIFF tag.
7. **Frames**: a file of several full pictures is refused; previews beside the picture are ignored.

Pillow decodes up to 8 bits: it is as fast as OpenCV there and raises on broken data where OpenCV
returns what it has. OpenCV decodes deeper PNG and TIFF, which Pillow crushes to 8 bits.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from differnet.durable import write_file
from differnet.images.headers import (
    Header,
    ImageError,
    Refusal,
    check_complete,
    check_png_rows,
    is_interlaced,
    read_header,
    truncated,
    unreadable,
    unsupported,
)
from differnet.records import DiffernetError, Picture

__all__ = [
    "ImageError",
    "ReadingRule",
    "ReadingRuleError",
    "Refusal",
    "encode_png",
    "file_hash",
    "read_image",
    "read_mask",
    "read_masks",
    "write_png",
]

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

# A plain-text PNM costs some 60 bytes of memory a number while it is parsed.
_MAX_TEXT_NUMBERS = 4_000_000
_DEEP_WHITE = 65_535
_BAND_ROWS = 128
_HASHED_AT_ONCE = 2**20
# Bytes of a file up to which asking its header first would save nothing.
_FETCHED_UNSEEN = 2**20


class ReadingRuleError(DiffernetError):
    """A reading rule that cannot be followed."""


@dataclass(frozen=True)
class ReadingRule:
    """The part of reading that a person may choose. It is stored in the model bundle.

    Attributes:
        max_pixels: Largest width x height that is decoded.
        max_file_bytes: Largest file that is read.
        white_level: Stored value that means white in pictures of more than 8 bits, the same for
            every picture (4095 for a 12-bit camera that writes 16-bit files); ``None``: what the
            file declares. Has no effect on 8-bit pictures.
        background: RGB, 0 to 255, that shows through transparent pixels; white as on a page.
    """

    max_pixels: int = 100_000_000
    max_file_bytes: int = 512 * 2**20
    white_level: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        """Refuse values that no picture could be read by."""
        _require(_is_count(self.max_pixels), "max_pixels", "a number above 0", self.max_pixels)
        _require(_is_count(self.max_file_bytes), "max_file_bytes", "a number above 0", self.max_file_bytes)
        white = self.white_level
        _require(
            white is None or (_is_count(white) and 255 < white <= _DEEP_WHITE),
            "white_level",
            "256 to 65535, or none",
            white,
        )
        sound = isinstance(self.background, tuple) and len(self.background) == 3
        sound = sound and all(type(value) is int and 0 <= value <= 255 for value in self.background)
        _require(sound, "background", "three numbers from 0 to 255", self.background)

    def to_json(self) -> dict[str, int | list[int] | None]:
        """Return the fields as JSON values.

        >>> ReadingRule(white_level=4095).to_json()["white_level"]
        4095
        """
        return {**asdict(self), "background": list(self.background)}

    @classmethod
    def from_json(cls, fields_: Mapping[str, Any]) -> ReadingRule:
        """Build the rule from :meth:`to_json`'s fields.

        Raises:
            ReadingRuleError: A field is missing, unknown or out of range.

        >>> ReadingRule.from_json(ReadingRule(white_level=1023).to_json()).white_level
        1023
        """
        names = {field.name for field in fields(cls)}
        _require(set(fields_) == names, "fields", f"exactly {sorted(names)}", sorted(map(str, fields_)))
        background = fields_["background"]
        _require(isinstance(background, list | tuple), "background", "three numbers", background)
        return cls(**{**fields_, "background": tuple(background)})


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _require(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise ReadingRuleError(
            expected=f"{expected} as {name} of the reading rule",
            found=repr(found)[:80],
            remedy="Correct the setting, or leave it out for the default.",
        )


_DEFAULT_RULE = ReadingRule()


def read_image(source: Path | str | bytes, rule: ReadingRule = _DEFAULT_RULE) -> Picture:
    """Decode one picture by the one rule of this module.

    The file is opened once and its bytes are read once: the hash, the header and the pixels all
    belong to the same bytes.

    Args:
        source: A file, or the bytes of one.
        rule: Limits, white level and background.

    Returns:
        The picture, ``(height, width, 3)`` RGB, ``uint8`` or ``uint16``, writable and contiguous.

    Raises:
        ImageError: The picture is refused; ``reason`` says why. Nothing else escapes.

    >>> grey = np.full((4, 6), 128, np.uint8)
    >>> read_image(encode_png(grey)).pixels.shape
    (4, 6, 3)
    """
    started = time.perf_counter()
    try:
        path, blob = _fetch(source, rule)
        header = _admit(io.BytesIO(blob), len(blob), rule)
        header = check_complete(header, blob)
        pixels, mode = _decode(header, blob, rule)
    except ImageError:
        raise
    except Exception as error:
        # OpenCV has its own word for it.
        if isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem:
            raise _too_large("a picture that fits in memory", "not enough memory to decode it") from error
        # Codecs raise almost anything on damaged files; whatever it is, the picture is unreadable.
        raise unreadable(f"{type(error).__name__}: {str(error)[:200]}") from error
    return Picture(
        pixels=_upright(pixels, header.orientation),
        path=path,
        sha256=hashlib.sha256(blob).hexdigest(),
        bit_depth=header.bit_depth,
        source_mode=mode,
        orientation=header.orientation,
        captured_at=header.captured_at,
        decode_ms=1e3 * (time.perf_counter() - started),
    )


def file_hash(path: Path, most_bytes: int) -> str:
    """Return the sha256 of a file that could not be decoded.

    Args:
        path: The file.
        most_bytes: Larger ones are not read.

    Returns:
        Hexadecimal digest; empty when not even its bytes can be read.
    """
    try:
        with _open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > most_bytes:
                return ""
            digest = hashlib.sha256()
            while some := stream.read(_HASHED_AT_ONCE):
                digest.update(some)
            return digest.hexdigest()
    except (ImageError, OSError):
        return ""


def _too_large(expected: str, found: str) -> ImageError:
    return ImageError(
        Refusal.TOO_LARGE,
        expected=expected,
        found=found,
        remedy="Scale or cut the picture, or raise the limit in the reading rule.",
    )


def _fetch(source: Path | str | bytes, rule: ReadingRule) -> tuple[Path | None, bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        blob = bytes(source)
        _check_file_size(len(blob), rule)
        return None, blob
    path = Path(source)
    with _open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        _check_file_size(size, rule)
        if size > _FETCHED_UNSEEN:
            # A bomb is refused here, from a few kilobytes, before its bytes are fetched.
            _admit(stream, size, rule)
            stream.seek(0)
        # As many bytes as are asked for are made ready, whatever there is.
        blob = stream.read(size + 1)
        if len(blob) > size:
            # Somebody is still writing.
            blob += stream.read(max(0, rule.max_file_bytes + 1 - len(blob)))
    _check_file_size(len(blob), rule)
    return path, blob


def _open_regular(path: Path) -> BinaryIO:
    """Open without ever waiting: a FIFO would block a plain open until somebody writes."""
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOCTTY"):
        flags |= getattr(os, name, 0)
    try:
        handle = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        kind = "a folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "a device, pipe or socket"
        os.close(handle)
        raise _not_a_file(path, kind)
    return os.fdopen(handle, "rb")


def _not_opened(path: Path, error: Exception) -> ImageError:
    if isinstance(error, PermissionError) and path.is_dir():
        return _not_a_file(path, "a folder")
    missing = isinstance(error, FileNotFoundError)
    return ImageError(
        Refusal.MISSING if missing else Refusal.UNREADABLE,
        expected=f"a picture file at {str(path)!r}",
        found="no such file" if missing else f"{type(error).__name__}: {error}",
        remedy="Check the path, the drive and the permissions.",
    )


def _not_a_file(path: Path, kind: str) -> ImageError:
    return ImageError(
        Refusal.NOT_A_FILE,
        expected=f"a picture file at {str(path)!r}",
        found=kind,
        remedy="Name a single picture file.",
    )


def _check_file_size(size: int, rule: ReadingRule) -> None:
    if size == 0:
        raise ImageError(
            Refusal.EMPTY,
            expected="a picture file",
            found="an empty file",
            remedy="Copy the file again from its source; wait until the camera has closed it.",
        )
    if size > rule.max_file_bytes:
        raise _too_large(f"at most {rule.max_file_bytes:,} bytes", f"a file of {size:,} bytes")


def _admit(stream: BinaryIO, size: int, rule: ReadingRule) -> Header:
    header = read_header(stream, size)
    if header.pixels > rule.max_pixels:
        raise _too_large(
            f"at most {rule.max_pixels:,} pixels",
            f"a {header.kind.upper()} header of {header.width:,} x {header.height:,} pixels",
        )
    return header


def _decode(header: Header, blob: bytes, rule: ReadingRule) -> tuple[Pixels, str]:
    if header.kind == "tiff" and header.orientation != 1:
        blob = _without_orientation(header, blob)
    if header.kind == "pnm":
        return _finish_samples(header, _decode_pnm(header, blob), rule)
    if header.bits > 8:
        return _finish_samples(header, _decode_deep(header, blob), rule)
    return _decode_shallow(header, blob, rule)


def _without_orientation(header: Header, blob: bytes) -> bytes:
    """Set the orientation tag to 1: both decoders would turn a TIFF upright unasked."""
    offset, length = header.orientation_at
    upright = (1).to_bytes(length, "big" if header.big_endian else "little")
    return b"".join((blob[:offset], upright, blob[offset + length :]))


# Up to 8 bits: Pillow.


class _StoredTiff(TiffImageFile):
    """A TIFF as stored: Pillow would turn it upright by its XMP where the tag is absent."""

    def load_end(self) -> None:
        """Leave the pixels alone."""


_OPENERS: dict[str, Callable[[BinaryIO], Image.Image]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "bmp": BmpImageFile,
    "tiff": _StoredTiff,
    "webp": WebPImageFile,
}
_MODE_NAMES = {
    "1": "bilevel",
    "L": "grey",
    "LA": "grey+alpha",
    "La": "grey+alpha",
    "RGB": "rgb",
    "RGBA": "rgba",
    "P": "palette",
    "PA": "palette",
    "CMYK": "cmyk",
    "YCbCr": "rgb",
}

# Pillow warns of odd TIFF tags and above 89 Mpx, though both are checked before; Python's warning
# filters belong to the process, so that only one thread at a time may change them.
_quiet = threading.Lock()


def _decode_shallow(header: Header, blob: bytes, rule: ReadingRule) -> tuple[Pixels, str]:
    if header.kind == "tiff":
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _load(header, blob)
    else:
        image = _load(header, blob)
    if image.mode not in _MODE_NAMES:
        raise unsupported(f"a picture of Pillow's mode {image.mode}", "Save it as grey or RGB.")
    return _to_rgb(image, rule.background), _mode_name(image)


def _load(header: Header, blob: bytes) -> Image.Image:
    try:
        image = _OPENERS[header.kind](io.BytesIO(blob))
        if image.size != (header.width, header.height):
            raise unreadable(f"two sizes: {header.width} x {header.height}, and {image.size}")
        image.load()
    except OSError as error:
        raise _from_pillow(error) from error
    # The last rows of an interlaced picture are filled by earlier passes too.
    if header.kind == "png" and (is_interlaced(blob) or _ends_in_black(image)):
        check_png_rows(header, blob)
    return image


def _ends_in_black(image: Image.Image) -> bool:
    """Whether one of the last two rows is all 0, as Pillow leaves rows that never came.

    It takes a stream that ends too soon, but in good order, for a whole picture. Asking every PNG for its
    rows would take half as long again.
    """
    ending = np.asarray(image.crop((0, max(0, image.height - 2), image.width, image.height)))
    return not all(row.any() for row in ending)


def _from_pillow(error: OSError) -> ImageError:
    cut = "truncated" in str(error).lower()
    return (truncated if cut else unreadable)(f"{type(error).__name__}: {str(error)[:200]}")


def _mode_name(image: Image.Image) -> str:
    name = _MODE_NAMES[image.mode]
    if "transparency" in image.info:
        return {"grey": "grey+alpha", "bilevel": "grey+alpha", "rgb": "rgba"}.get(name, name)
    return name


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        return _composite(rgba[..., :3], rgba[..., 3], background)
    if image.mode == "CMYK":
        return _cmyk_to_rgb(np.asarray(image))
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "L":
        return _repeat(np.asarray(image))
    return _copy_rgb(image if image.mode == "RGB" else image.convert("RGB"))


def _copy_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Copy band by band: at 5 Mpx 4 ms instead of 11 to 21, as the bands stay in the cache."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND_ROWS):
        bottom = min(image.height, top + _BAND_ROWS)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _cmyk_to_rgb(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    paper = 255 - cmyk.astype(np.uint16)
    return ((paper[..., :3] * paper[..., 3:] + 127) // 255).astype(np.uint8)


def _composite(
    colour: NDArray[np.uint8], alpha: NDArray[np.uint8], background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    if alpha.min() == 255:
        return np.ascontiguousarray(colour)
    # 255 * 255 + 127 still fits in 16 bits.
    cover = alpha[..., None].astype(np.uint16)
    behind = (255 - cover) * np.array(background, np.uint16)
    return ((colour * cover + behind + 127) // 255).astype(np.uint8)


def _repeat(grey: NDArray[Any]) -> NDArray[Any]:
    # Three times as fast as numpy.repeat.
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(grey), cv2.COLOR_GRAY2RGB))


# More than 8 bits: OpenCV, and PNM by hand.


def _decode_deep(header: Header, blob: bytes) -> NDArray[np.uint16]:
    """Decode to the stored samples, ``(height, width)`` or ``(height, width, channels)`` in RGB(A)."""
    samples = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise unreadable(f"a {header.bits}-bit {header.kind.upper()} that does not decode")
    if samples.dtype != np.uint16 or samples.shape[:2] != (header.height, header.width):
        raise unreadable(f"{samples.dtype} pixels of shape {samples.shape} where the header differs")
    if samples.ndim == 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    # OpenCV moves 10, 12 and 14 bits to the top of the 16.
    return np.right_shift(np.asarray(samples, np.uint16), 16 - header.bits)


def _decode_pnm(header: Header, blob: bytes) -> NDArray[Any]:
    shape = (header.height, header.width, header.channels)[: 2 if header.channels == 1 else 3]
    kind, count = blob[1:2], header.pixels * header.channels
    if kind == b"4":
        stride = (header.width + 7) // 8
        packed = np.frombuffer(blob, np.uint8, header.height * stride, header.starts_at)
        return np.unpackbits(packed.reshape(header.height, stride), axis=1)[:, : header.width]
    if kind in (b"5", b"6"):
        depth = np.dtype(np.uint8 if header.bits == 8 else ">u2")
        stored = np.frombuffer(blob, depth, count, header.starts_at).reshape(shape)
        return stored.astype(depth.newbyteorder("="))
    return _decode_text_pnm(header, blob, count).reshape(shape)


def _decode_text_pnm(header: Header, blob: bytes, count: int) -> NDArray[np.uint16]:
    if count > _MAX_TEXT_NUMBERS:
        raise unsupported(f"a plain-text PNM of {count:,} numbers", "Save it as binary PGM or PPM.")
    numbers = blob[header.starts_at : header.starts_at + 16 * count].split()
    if blob[1:2] == b"1":
        numbers = [bytes([digit]) for digit in b"".join(numbers)]
    if len(numbers) < count:
        raise truncated(f"a PNM of {len(numbers):,} numbers that needs {count:,}")
    return np.array(numbers[:count]).astype(np.int64).clip(0, _DEEP_WHITE).astype(np.uint16)


def _finish_samples(header: Header, samples: NDArray[Any], rule: ReadingRule) -> tuple[Pixels, str]:
    """Scale stored samples to full range, then composite, invert and repeat as the header says."""
    deep = header.bits > 8
    full, kind = (_DEEP_WHITE, np.uint16) if deep else (255, np.uint8)
    white = rule.white_level if deep and rule.white_level else header.white
    key = None if header.colour_key is None else _matches(samples, header.colour_key)
    alpha = samples[..., 3] if samples.ndim == 3 and samples.shape[2] == 4 else None
    colour = samples if alpha is None else samples[..., :3]
    if header.inverted:
        colour = header.white - np.minimum(colour, header.white)
    pixels = _stretch(colour, white, full, kind)
    pixels = _repeat(pixels) if pixels.ndim == 2 else np.ascontiguousarray(pixels)
    if alpha is not None and header.alpha in ("straight", "premultiplied"):
        pixels = _composite_deep(pixels, alpha, header.alpha, rule.background)
    elif key is not None:
        pixels[key] = np.array(rule.background, np.uint16) * 257
    return pixels, _samples_mode(header)


def _matches(samples: NDArray[Any], key: tuple[int, ...]) -> NDArray[np.bool_]:
    if samples.ndim == 2:
        return np.asarray(samples == key[0])
    return np.asarray((samples[..., : len(key)] == np.array(key)).all(axis=2))


def _stretch(stored: NDArray[Any], white: int, full: int, kind: type[Any]) -> NDArray[Any]:
    """Map 0..white to 0..full by one table, rounded; what is above white saturates."""
    if white == full:
        return stored.astype(kind, copy=False)
    steps = np.arange(full + 1, dtype=np.int64).clip(0, white)
    table = ((steps * full + white // 2) // white).astype(kind)
    return np.asarray(table[np.minimum(stored, full)])


def _composite_deep(
    colour: NDArray[np.uint16], alpha: NDArray[np.uint16], how: str, background: tuple[int, int, int]
) -> NDArray[np.uint16]:
    # 65535 * 65535 + 32767 still fits in 32 bits.
    cover = alpha[..., None].astype(np.uint32)
    behind = (_DEEP_WHITE - cover) * (np.array(background, np.uint32) * 257)
    if how == "premultiplied":
        seen = colour + (behind + 32_767) // _DEEP_WHITE
        return np.minimum(seen, _DEEP_WHITE).astype(np.uint16)
    # The two products weigh 65535 together, so that their sum fits as well.
    return ((colour * cover + behind + 32_767) // _DEEP_WHITE).astype(np.uint16)


def _samples_mode(header: Header) -> str:
    if header.bits == 1:
        return "bilevel"
    transparent = header.alpha in ("straight", "premultiplied") or header.colour_key is not None
    if header.channels < 3:
        return "grey+alpha" if transparent else "grey"
    return "rgba" if transparent else "rgb"


# EXIF orientation: what has to be done to the stored picture to make it upright.
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    return np.ascontiguousarray(_TURNS[orientation](pixels))


def read_mask(path: Path | str | bytes, shape: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Read a ground-truth mask: which pixels are defective.

    A mask that reaches half white is a picture whose soft edges are cut at half white; a darker one
    is a map of class numbers, where everything above 0 is a defect.

    Args:
        path: The mask file.
        shape: ``(height, width)`` that the mask must have.

    Returns:
        ``(height, width)`` bool.

    Raises:
        ImageError: The file is refused, or the shape is another one.

    >>> read_mask(encode_png(np.array([[0, 1], [2, 0]], np.uint8))).tolist()
    [[False, True], [True, False]]
    """
    pixels = read_image(path, replace(_DEFAULT_RULE, background=(0, 0, 0))).pixels
    levels = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    if shape is not None and levels.shape != tuple(shape):
        raise ImageError(
            Refusal.WRONG_SHAPE,
            expected=f"a mask of {shape[0]} x {shape[1]} (height x width)",
            found=f"{levels.shape[0]} x {levels.shape[1]}",
            remedy="Give the mask the size of its picture.",
        )
    half = np.iinfo(levels.dtype).max // 2 + 1
    return np.asarray(levels >= (half if levels.max() >= half else 1))


def read_masks(paths: Sequence[Path | str], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the ground truth of one picture: the union of its masks.

    Args:
        paths: The mask files; none marks nothing.
        shape: ``(height, width)`` that each mask must have.

    Returns:
        ``(height, width)`` bool.

    Raises:
        ImageError: A file is refused, or its shape is another one.

    >>> read_masks([], (1, 2)).tolist()
    [[False, False]]
    """
    united = np.zeros(shape, dtype=np.bool_)
    for path in paths:
        united |= read_mask(path, shape)
    return united


def encode_png(pixels: NDArray[Any]) -> bytes:
    """Encode a picture or mask as PNG, without loss.

    Args:
        pixels: ``(height, width)`` or ``(height, width, 3)`` RGB; ``uint8``, ``uint16`` or bool.

    Returns:
        The file's bytes.

    Raises:
        ValueError: Another shape or type.

    >>> encode_png(np.zeros((2, 2), bool))[1:4]
    b'PNG'
    """
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    grey = pixels.ndim == 2
    if pixels.dtype not in (np.uint8, np.uint16) or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(f"no picture: shape {pixels.shape}, type {pixels.dtype}")
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels if grey else pixels[..., ::-1]))
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be encoded")
    return encoded.tobytes()


def write_png(path: Path | str, pixels: NDArray[Any]) -> None:
    """Write a PNG that is either complete under its name or not there at all.

    Args:
        path: Where to; an existing file is replaced.
        pixels: As for :func:`encode_png`.

    Raises:
        OSError: The disk refuses; no half-written file stays behind.
    """
    write_file(Path(path), encode_png(pixels))
