"""What a picture file declares about itself, read before a single pixel is decoded.

A 49 KB PNG can ask for 2 GiB. So the size, depth and colour model are read here from the first
bytes by six small parsers that allocate nothing, and a file that is cut short is found by its own
bookkeeping (chunk lengths, end markers, strip tables) instead of by a codec's good will.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO

from differnet.records import DiffernetError

# Loops over a hostile file's own tables stop here. A 100 Mpx PNG in 8 KiB chunks has 75,000.
_MAX_CHUNKS = 200_000
_MAX_SEGMENTS = 10_000
_MAX_TAGS = 4_096
_MAX_PAGES = 64
_MAX_TABLE = 100_000
_MAX_SIDE_CHUNK = 16 * 2**20
# libjpeg skips junk between markers; more than this is no header any more.
_MAX_JUNK = 4_096
# Every scan of a progressive JPEG visits every pixel again: a usual file has ten scans.
_MAX_SCAN_PIXELS = 2_000_000_000

_DEPTHS = (1, 2, 4, 8, 10, 12, 14, 16)


class Refusal(StrEnum):
    """Why a picture was refused. The codes are stable: records and tables keep them."""

    MISSING = "missing"
    NOT_A_FILE = "not_a_file"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    MULTI_FRAME = "multi_frame"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    WRONG_SHAPE = "wrong_shape"
    CRASHED = "crashed"
    TOO_SLOW = "too_slow"
    UNJUDGED = "unjudged"


class ImageError(DiffernetError):
    """A picture that cannot be read, and why.

    Args:
        reason: The code to count and filter by.
        expected: What would have been right.
        found: What was there instead.
        remedy: What the person can do about it.
    """

    def __init__(self, reason: Refusal, *, expected: str, found: str, remedy: str) -> None:
        """Keep the code beside the sentence."""
        self.reason = reason
        super().__init__(expected=expected, found=found, remedy=remedy)


def truncated(found: str) -> ImageError:
    """Make the error for a file that ends before its picture does."""
    return ImageError(
        Refusal.TRUNCATED,
        expected="a complete picture file",
        found=found,
        remedy="Copy the file again from its source; wait until the camera has closed it.",
    )


def unreadable(found: str) -> ImageError:
    """Make the error for a file whose bytes contradict its format."""
    return ImageError(
        Refusal.UNREADABLE,
        expected="an intact PNG, JPEG, BMP, TIFF, WebP, PGM or PPM file",
        found=found,
        remedy="Open it in a viewer; if that fails too, the file is damaged: take the picture again.",
    )


def unsupported(found: str, remedy: str) -> ImageError:
    """Make the error for a sound file of a kind that is not read."""
    return ImageError(
        Refusal.UNSUPPORTED,
        expected="a bilevel, grey, RGB, palette or CMYK picture of 1 to 16 unsigned integer bits a channel",
        found=found,
        remedy=remedy,
    )


def multi_frame(found: str) -> ImageError:
    """Make the error for a file of several full pictures.

    A verdict on the first frame alone would let the others pass unseen.
    """
    return ImageError(
        Refusal.MULTI_FRAME,
        expected="one picture a file",
        found=found,
        remedy="Save each frame as a file of its own.",
    )


@dataclass(frozen=True)
class Header:
    """What a file declares.

    Attributes:
        kind: ``png``, ``jpeg``, ``bmp``, ``tiff``, ``webp`` or ``pnm``.
        width, height: As stored, before any EXIF orientation.
        bits: Bits a stored sample (a container of 16 may carry 12: see ``bit_depth``).
        bit_depth: Bits a channel that carry the picture, one of 1, 2, 4, 8, 10, 12, 14, 16.
        channels: Samples a pixel, alpha included; 1 for a palette.
        white: Stored value that means white.
        alpha: ``none``, ``straight``, ``premultiplied``, or ``unused`` (an extra sample to drop).
        palette: Whether samples index a colour table.
        inverted: Whether 0 means white (TIFF).
        colour_key: The stored colour that means transparent (16-bit PNG).
        orientation: EXIF orientation, 1 to 8.
        orientation_at: Offset and length of the orientation's bytes in a TIFF file.
        captured_at: ISO 8601, or ``None``.
        starts_at: Offset of the pixels (BMP, PNM) or of the compressed stream (JPEG).
        extents: Offset and length of every strip or tile (TIFF), or of every piece of the compressed stream
            (PNG, from :func:`check_complete` on).
        big_endian: Byte order (TIFF).
    """

    kind: str
    width: int
    height: int
    bits: int = 8
    bit_depth: int = 8
    channels: int = 3
    white: int = 255
    alpha: str = "none"
    palette: bool = False
    inverted: bool = False
    colour_key: tuple[int, ...] | None = None
    orientation: int = 1
    orientation_at: tuple[int, int] = (0, 0)
    captured_at: str | None = None
    starts_at: int = 0
    extents: tuple[tuple[int, int], ...] = ()
    big_endian: bool = False

    @property
    def pixels(self) -> int:
        """Pixels of the decoded picture."""
        return self.width * self.height


class _Bytes:
    """Random access to a file whose size is known; reading past the end is truncation."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self.size = size

    def take(self, offset: int, count: int) -> bytes:
        if offset + count > self.size:
            raise truncated(f"a header that goes on after the file's end at byte {self.size:,}")
        self._stream.seek(offset)
        taken = self._stream.read(count)
        if len(taken) != count:
            raise truncated("a file that became shorter while it was read")
        return taken

    def peek(self, offset: int, count: int) -> bytes:
        """Take what there is, at most ``count`` bytes."""
        return self.take(offset, max(0, min(count, self.size - offset)))


def read_header(stream: BinaryIO, size: int) -> Header:
    """Read what a file declares, without decoding and without trusting its name.

    Args:
        stream: Seekable; only a few kilobytes of it are read.
        size: Bytes of the file.

    Returns:
        The header. Size limits are the caller's business.

    Raises:
        ImageError: Unknown format, contradicting or incomplete header, or a kind that is not read.
    """
    source = _Bytes(stream, size)
    magic = source.peek(0, 16)
    for matches, parse in _FORMATS:
        if matches(magic):
            header = parse(source)
            if header.width < 1 or header.height < 1:
                raise unreadable(f"a {header.kind} header of {header.width} x {header.height} pixels")
            return header
    raise _unknown(magic)


def _unknown(magic: bytes) -> ImageError:
    names = {
        b"GIF8": "a GIF",
        b"%PDF": "a PDF",
        b"PK\x03\x04": "a ZIP archive",
        b"II+\0": "a BigTIFF",
        b"MM\0+": "a BigTIFF",
        b"v/1\x01": "an OpenEXR file",
    }
    name = next((name for mark, name in names.items() if magic.startswith(mark)), None)
    if magic[4:8] == b"ftyp":
        name = "an HEIF, AVIF or video file"
    if magic[:4] == b"\x00\x00\x00\x0c" or magic[:4] == b"\xff\x4f\xff\x51":
        name = "a JPEG 2000 file"
    if name is None:
        return unreadable(f"bytes of no known picture format (they begin with {magic[:8].hex(' ')})")
    return ImageError(
        Refusal.UNSUPPORTED,
        expected="a PNG, JPEG, BMP, TIFF, WebP, PGM or PPM file",
        found=name,
        remedy="Save the picture as PNG, which keeps every bit.",
    )


def _depth_of(significant_bits: int) -> int:
    return next((depth for depth in _DEPTHS if depth >= significant_bits), 16)


# PNG: https://www.w3.org/TR/png-3/, section 11.

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_SIDE_CHUNKS = (b"acTL", b"eXIf", b"sBIT", b"tRNS")
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def _png(source: _Bytes) -> Header:
    length, name, width, height, bits, colour = struct.unpack(">I4sIIBB", source.take(8, 18))
    if name != b"IHDR" or length != 13 or bits not in _PNG_DEPTHS.get(colour, ()):
        raise unreadable("a PNG whose first chunk is no valid IHDR")
    header = Header(
        "png",
        width,
        height,
        bits=bits,
        bit_depth=8 if colour == 3 else bits,
        white=2**bits - 1,
        channels=_PNG_CHANNELS[colour],
        alpha="straight" if colour in (4, 6) else "none",
        palette=colour == 3,
    )
    offset = 8
    for _ in range(_MAX_CHUNKS):
        length, name = struct.unpack(">I4s", source.take(offset, 8))
        if name in (b"IDAT", b"IEND"):
            return header
        if name in _PNG_SIDE_CHUNKS and length <= _MAX_SIDE_CHUNK:
            header = _apply_png_chunk(header, name, source.take(offset + 8, length))
        offset += 12 + length
    raise unreadable(f"a PNG of more than {_MAX_CHUNKS:,} chunks")


def _apply_png_chunk(header: Header, name: bytes, content: bytes) -> Header:
    if name == b"acTL" and content[:4] != b"\0\0\0\1":
        raise multi_frame("an animated PNG")
    if name == b"eXIf":
        return _with_exif(header, content)
    if header.bits == 16 and name == b"sBIT" and content:
        # Section 11.3.2.4: samples are already scaled up to 16 bits, so white stays 65535.
        colours = content[: 1 if header.channels < 3 else 3]
        return replace(header, bit_depth=_depth_of(max(9, *colours)))
    if header.bits == 16 and name == b"tRNS":
        if len(content) != 2 * header.channels:
            raise unreadable("a PNG whose tRNS chunk does not fit its colour type")
        return replace(header, colour_key=struct.unpack(f">{header.channels}H", content))
    return header


def _complete_png(header: Header, blob: bytes) -> Header:
    """Walk every chunk, check its CRC, note where the pixels are, and reach IEND."""
    offset, end, view = 8, len(blob), memoryview(blob)
    pieces: list[tuple[int, int]] = []
    for _ in range(_MAX_CHUNKS):
        if offset + 12 > end:
            raise truncated("a PNG without its IEND chunk")
        length, name = struct.unpack_from(">I4s", blob, offset)
        if offset + 12 + length > end:
            raise truncated(f"a PNG that ends inside its {name.decode('latin-1')} chunk")
        (stored,) = struct.unpack_from(">I", blob, offset + 8 + length)
        if zlib.crc32(view[offset + 4 : offset + 8 + length]) != stored:
            raise unreadable(f"a PNG whose {name.decode('latin-1')} chunk fails its checksum")
        if name == b"IEND":
            return replace(header, extents=tuple(pieces))
        if name == b"IDAT":
            pieces.append((offset + 8, length))
        if name == b"eXIf" and pieces:
            header = _with_exif(header, blob[offset + 8 : offset + 8 + length])
        offset += 12 + length
    raise unreadable(f"a PNG of more than {_MAX_CHUNKS:,} chunks")


# Where the seven passes of an interlaced PNG begin, and how far apart their pixels are: x, y, dx, dy.
_PNG_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_READ_AT_ONCE, _INFLATED_AT_ONCE = 2**16, 2**20


def is_interlaced(blob: bytes) -> bool:
    """Whether a PNG's pixels come in seven passes."""
    return blob[28] == 1


def check_png_rows(header: Header, blob: bytes) -> None:
    """Inflate a PNG's pixels and throw them away, to know whether all rows are there.

    Chunks, checksums and the compressed stream may all be whole, and the picture half.

    Args:
        header: From :func:`check_complete` on the same bytes.
        blob: The whole file.

    Raises:
        ImageError: There are fewer rows than the header says.
    """
    passes = _PNG_PASSES if is_interlaced(blob) else ((0, 0, 1, 1),)
    needed = 0
    for x, y, across, down in passes:
        columns, rows = -(-(header.width - x) // across), -(-(header.height - y) // down)
        # Each row begins with the number of its filter; a pass without columns has no rows.
        needed += rows * (1 + (columns * header.channels * header.bits + 7) // 8) if columns > 0 < rows else 0
    stream, found = zlib.decompressobj(), 0
    for offset, length in header.extents:
        for begin in range(offset, offset + length, _READ_AT_ONCE):
            left = blob[begin : min(begin + _READ_AT_ONCE, offset + length)]
            while left and found < needed and not stream.eof:
                found += len(stream.decompress(left, _INFLATED_AT_ONCE))
                left = stream.unconsumed_tail
    if found < needed:
        raise truncated(f"a PNG of {found:,} bytes of pixels that needs {needed:,}")


# JPEG: ITU-T T.81, annex B.

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def _jpeg(source: _Bytes) -> Header:
    header, offset = None, 2
    exif: bytes | None = None
    for _ in range(_MAX_SEGMENTS):
        offset, marker = _next_marker(source, offset)
        if marker in (0xD8, 0xD9):
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        (length,) = struct.unpack(">H", source.take(offset, 2))
        if marker == 0xDA and header is not None:
            header = replace(header, starts_at=offset)
            return _with_exif(header, exif) if exif else header
        if length < 2 or marker == 0xDA:
            break
        if marker == 0xE1 and exif is None:
            segment = source.take(offset + 2, length - 2)
            exif = segment[6:] if segment.startswith(b"Exif\0") else None
        if marker in _JPEG_FRAMES:
            header = _jpeg_frame(source.take(offset + 2, 6))
        offset += length
    raise unreadable("a JPEG whose markers do not lead to a picture")


def _next_marker(source: _Bytes, offset: int) -> tuple[int, int]:
    window = source.peek(offset, _MAX_JUNK)
    at = window.find(b"\xff")
    while 0 <= at < len(window) - 1 and window[at + 1] in (0x00, 0xFF):
        at = window.find(b"\xff", at + 1)
    if 0 <= at < len(window) - 1:
        return offset + at + 2, window[at + 1]
    if len(window) < _MAX_JUNK:
        raise truncated("a JPEG that ends inside its header")
    raise unreadable("a JPEG with no marker where one must be")


def _jpeg_frame(frame: bytes) -> Header:
    bits, height, width, channels = struct.unpack(">BHHB", frame)
    if bits != 8:
        raise unsupported(f"a JPEG of {bits} bits a channel", "Save it as 16-bit PNG or TIFF.")
    if channels not in (1, 3, 4):
        raise unsupported(f"a JPEG of {channels} channels", "Save it as grey or RGB.")
    return Header("jpeg", width, height, channels=channels)


def _complete_jpeg(header: Header, blob: bytes) -> Header:
    """Find the end marker after the scan's start, and refuse endless progressive scans."""
    if blob.rfind(b"\xff\xd9", header.starts_at) < 0:
        # OpenCV would decode the rest as grey without a word.
        raise truncated("a JPEG without its end marker")
    scans = 1 + blob.count(b"\xff\xda", header.starts_at)
    if scans * header.pixels > _MAX_SCAN_PIXELS:
        raise ImageError(
            Refusal.TOO_LARGE,
            expected=f"at most {_MAX_SCAN_PIXELS:,} pixels over all scans of a progressive JPEG",
            found=f"{scans:,} scans of {header.width} x {header.height} pixels",
            remedy="Save it as a baseline JPEG or as PNG.",
        )
    return header


# BMP: BITMAPFILEHEADER and the DIB headers.


def _bmp(source: _Bytes) -> Header:
    starts_at, dib = struct.unpack("<II", source.take(10, 8))
    compression = 0
    if dib == 12:
        width, height, _, bits = struct.unpack("<HHHH", source.take(18, 8))
    elif dib in (40, 52, 56, 64, 108, 124):
        width, height, _, bits, compression = struct.unpack("<iiHHI", source.take(18, 16))
    else:
        raise unreadable(f"a BMP with an unknown header of {dib} bytes")
    if compression not in (0, 3) or bits not in (1, 4, 8, 16, 24, 32):
        raise unsupported(f"a BMP of {bits} bits and compression {compression}", "Save it as PNG.")
    raster = (width * bits + 31) // 32 * 4 * abs(height)
    return Header(
        "bmp", width, abs(height), palette=bits <= 8, starts_at=starts_at, extents=((starts_at, raster),)
    )


# WebP: RFC 9649.


def _webp(source: _Bytes) -> Header:
    (riff,) = struct.unpack("<I", source.take(4, 4))
    end = riff + 8
    header, offset = replace(_webp_size(source), extents=((0, end),)), 12
    for _ in range(_MAX_SEGMENTS):
        if offset + 8 > min(end, source.size):
            return header
        name, length = struct.unpack("<4sI", source.take(offset, 8))
        if name == b"EXIF":
            exif = source.peek(offset + 8, min(length, _MAX_SIDE_CHUNK))
            header = _with_exif(header, exif.removeprefix(b"Exif"))
        offset += 8 + length + length % 2
    raise unreadable("a WebP of too many chunks")


def _webp_size(source: _Bytes) -> Header:
    name = source.take(12, 4)
    if name == b"VP8X":
        flags, low = source.take(20, 1)[0], source.take(24, 6)
        if flags & 0x02:
            raise multi_frame("an animated WebP")
        width, height = (int.from_bytes(low[i : i + 3], "little") + 1 for i in (0, 3))
        return Header("webp", width, height)
    if name == b"VP8L":
        (packed,) = struct.unpack("<I", source.take(21, 4))
        return Header("webp", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
    if name == b"VP8 " and source.take(23, 3) == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", source.take(26, 4))
        return Header("webp", width & 0x3FFF, height & 0x3FFF)
    raise unreadable("a WebP without a picture chunk")


def _complete_extents(header: Header, blob: bytes) -> Header:
    for offset, length in header.extents:
        if offset + length > len(blob):
            raise truncated(f"a {header.kind.upper()} of {len(blob):,} bytes that needs {offset + length:,}")
    return header


# PNM: netpbm's pbm(5), pgm(5), ppm(5).


def _pnm(source: _Bytes) -> Header:
    head = source.peek(0, 65_536)
    kind = head[1:2]
    bilevel = kind in (b"1", b"4")
    numbers, offset = _pnm_numbers(head, 2 if bilevel else 3)
    width, height = numbers[:2]
    white = 1 if bilevel else numbers[2]
    if not 1 <= white <= 65_535:
        raise unreadable(f"a PNM with a largest value of {white}")
    channels = 3 if kind in (b"3", b"6") else 1
    bits = 1 if bilevel else (8 if white < 256 else 16)
    length = height * ((width * channels * bits + 7) // 8) if kind in (b"4", b"5", b"6") else 0
    return Header(
        "pnm",
        width,
        height,
        bits=bits,
        bit_depth=_depth_of(white.bit_length()),
        channels=channels,
        white=white,
        inverted=bilevel,
        starts_at=offset,
        extents=((offset, length),),
    )


def _pnm_numbers(head: bytes, count: int) -> tuple[list[int], int]:
    """Read ``count`` decimal numbers, skipping comments; the pixels begin one byte later."""
    numbers: list[int] = []
    offset = 2
    while len(numbers) < count:
        while head[offset : offset + 1].isspace() or head[offset : offset + 1] == b"#":
            offset = head.find(b"\n", offset) if head[offset : offset + 1] == b"#" else offset + 1
            if offset < 0:
                raise unreadable("a PNM with an endless comment")
        start = offset
        while head[offset : offset + 1].isdigit() and offset - start < 10:
            offset += 1
        if offset == start:
            raise (truncated if offset >= len(head) else unreadable)("a PNM with an incomplete header")
        numbers.append(int(head[start:offset]))
    return numbers, offset + 1


def _complete_pnm(header: Header, blob: bytes) -> Header:
    _complete_extents(header, blob)
    offset, length = header.extents[0]
    if length and blob[offset + length : offset + length + 2] == blob[:2]:
        raise multi_frame("several pictures in one PNM")
    return header


# TIFF 6.0, and EXIF, which is a TIFF directory without pixels.

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
_ORIENTATION, _DATE_TIME, _EXIF_IFD = 274, 306, 0x8769
_DATE_TAKEN, _OFFSET_TAKEN = 0x9003, 0x9011


class _Directory:
    """One directory (IFD) of a TIFF structure: entries are found now, values read on demand."""

    def __init__(self, source: _Bytes, offset: int, order: str) -> None:
        self._source, self._order = source, order
        (count,) = struct.unpack(order + "H", source.take(offset, 2))
        if count > _MAX_TAGS:
            raise unreadable(f"a TIFF directory of {count:,} entries")
        table = source.take(offset + 2, 12 * count)
        self._entries: dict[int, tuple[int, int, int]] = {}
        for k in range(count):
            tag, kind, length = struct.unpack_from(order + "HHI", table, 12 * k)
            self._entries.setdefault(tag, (kind, length, offset + 2 + 12 * k + 8))
        after = source.peek(offset + 2 + 12 * count, 4)
        self.following: int = struct.unpack(order + "I", after)[0] if len(after) == 4 else 0

    def place(self, tag: int) -> tuple[int, int]:
        """Offset and bytes of a tag's value; ``(0, 0)`` where the tag is absent."""
        if tag not in self._entries:
            return 0, 0
        kind, length, at = self._entries[tag]
        total = _TYPE_BYTES.get(kind, 1) * length
        if total <= 4:
            return at, total
        return int(struct.unpack(self._order + "I", self._source.take(at, 4))[0]), total

    def integers(self, tag: int, default: Sequence[int] = ()) -> tuple[int, ...]:
        offset, total = self.place(tag)
        if not total:
            return tuple(default)
        kind, length, _ = self._entries[tag]
        if kind not in _INTEGERS or length > _MAX_TABLE:
            raise unreadable(f"a TIFF whose tag {tag} is no table of integers")
        return struct.unpack(f"{self._order}{length}{_INTEGERS[kind]}", self._source.take(offset, total))

    def integer(self, tag: int, default: int) -> int:
        return (*self.integers(tag), default)[0]

    def text(self, tag: int) -> str:
        offset, total = self.place(tag)
        if not 0 < total <= 64 or offset + total > self._source.size:
            return ""
        return self._source.take(offset, total).split(b"\0")[0].decode("ascii", "replace").strip()


def _byte_order(magic: bytes) -> str:
    return "<" if magic[:2] == b"II" else ">"


def _tiff(source: _Bytes) -> Header:
    order = _byte_order(source.take(0, 4))
    (offset,) = struct.unpack(order + "I", source.take(4, 4))
    page = _Directory(source, offset, order)
    _check_single_page(source, page, offset, order)
    header = _tiff_page(page)
    return replace(
        header,
        orientation=_orientation(page),
        orientation_at=page.place(_ORIENTATION),
        captured_at=_captured_at(page, source, order),
        big_endian=order == ">",
    )


def _check_single_page(source: _Bytes, page: _Directory, offset: int, order: str) -> None:
    """Let previews and masks (NewSubfileType bits 0 and 2) pass, refuse further full pages."""
    seen, preview = {offset}, bool(page.integer(254, 0) & 5)
    while page.following:
        if page.following in seen or len(seen) > _MAX_PAGES:
            raise unreadable("a TIFF whose directories never end")
        seen.add(page.following)
        page = _Directory(source, page.following, order)
        if preview or not page.integer(254, 0) & 5:
            raise multi_frame("a TIFF of several pages")


def _tiff_page(page: _Directory) -> Header:
    width, height = page.integer(256, 0), page.integer(257, 0)
    channels, photometric = page.integer(277, 1), page.integer(262, 1)
    depths = set(page.integers(258, (1,)))
    bits = max(depths)
    _check_tiff_samples(page, channels, depths)
    extra = page.integers(338)
    alpha = {1: "premultiplied", 2: "straight"}.get(extra[0], "unused") if extra else "none"
    if bits > 8:
        _check_deep_tiff(page, channels, photometric, bits)
        alpha = "straight" if alpha == "none" and channels == 4 else alpha
    _check_tiles(page, width, height)
    white = _tiff_white(page, bits)
    return Header(
        "tiff",
        width,
        height,
        bits=bits,
        channels=channels,
        white=white,
        alpha=alpha,
        bit_depth=8 if photometric == 3 else _depth_of(white.bit_length()),
        palette=photometric == 3,
        inverted=photometric == 0,
        extents=_tiff_extents(page, width, height, channels, bits),
    )


def _check_tiff_samples(page: _Directory, channels: int, depths: set[int]) -> None:
    formats = set(page.integers(339, (1,)))
    if 3 in formats:
        raise unsupported(
            "a TIFF of floating-point samples, which name no black and no white",
            "Convert it to 16-bit integers with fixed limits, the same for every picture.",
        )
    if formats & {2, 5, 6}:
        raise unsupported("a TIFF of signed or complex samples", "Convert it to unsigned 16-bit integers.")
    if len(depths) != 1 or not depths <= set(_DEPTHS):
        raise unsupported(f"a TIFF of {sorted(depths)} bits a sample", "Save it with 8 or 16 bits a sample.")
    if not 1 <= channels <= 6:
        raise unsupported(f"a TIFF of {channels} samples a pixel", "Save it as grey or RGB.")
    # None, LZW, deflate, PackBits. Not fax (2 to 4) nor JPEG (7) inside TIFF: a strip of these that
    # is cut short decodes to something without an error.
    if page.integer(259, 1) not in (1, 5, 8, 32_773, 32_946):
        raise unsupported(f"a TIFF of compression {page.integer(259, 1)}", "Save it uncompressed or as LZW.")


def _check_deep_tiff(page: _Directory, channels: int, photometric: int, bits: int) -> None:
    # OpenCV 5.0 decodes these layouts and no others correctly; the rest it scrambles without an error.
    chunky = page.integer(284, 1) == 1 or channels == 1
    known = (photometric in (0, 1) and channels == 1) or (photometric == 2 and channels in (3, 4))
    if not (chunky and known and page.integer(266, 1) == 1):
        raise unsupported(
            f"a {bits}-bit TIFF of {channels} channels, colour model {photometric}, in an unusual layout",
            "Save it as 16-bit PNG, or as interleaved grey or RGB TIFF.",
        )


def _check_tiles(page: _Directory, width: int, height: int) -> None:
    across, down = page.integer(322, 0), page.integer(323, 0)
    if across * down > max(4 * width * height, 4096 * 4096):
        raise unreadable(f"a TIFF whose tiles of {across} x {down} exceed its {width} x {height} pixels")


def _tiff_white(page: _Directory, bits: int) -> int:
    """White of the stored samples: all ones, or MaxSampleValue where it states a bit depth.

    Some writers keep the largest value of this very picture in MaxSampleValue, which would give
    every picture a gain of its own; only 2^k - 1 can be a statement about the camera.
    """
    declared = max(page.integers(281, (0,)))
    if bits == 16 and declared in (1023, 4095, 16_383):
        return declared
    return int(2**bits - 1)


def _tiff_extents(
    page: _Directory, width: int, height: int, channels: int, bits: int
) -> tuple[tuple[int, int], ...]:
    tiled = page.place(324)[1] > 0
    offsets, lengths = page.integers(324 if tiled else 273), page.integers(325 if tiled else 279)
    if not offsets:
        raise unreadable("a TIFF without strips or tiles")
    extents = tuple(zip(offsets, lengths, strict=False))
    if tiled or page.integer(259, 1) != 1:
        return extents
    planes = channels if page.integer(284, 1) == 2 else 1
    needed = height * ((width * (channels // planes) * bits + 7) // 8) * planes
    if sum(lengths) >= needed:
        return extents
    # Byte counts may be missing or too small: then the raster has to follow the last strip's offset.
    return (*extents, (max(offsets), needed - sum(lengths[: len(offsets) - 1])))


def _with_exif(header: Header, exif: bytes) -> Header:
    """Take orientation and time out of an EXIF block; a broken block changes nothing."""
    exif = exif.lstrip(b"\0")
    source = _Bytes(io.BytesIO(exif), len(exif))
    try:
        order = _byte_order(source.take(0, 4))
        (offset,) = struct.unpack(order + "I", source.take(4, 4))
        page = _Directory(source, offset, order)
        return replace(header, orientation=_orientation(page), captured_at=_captured_at(page, source, order))
    except ImageError:
        return header


def _orientation(page: _Directory) -> int:
    value = page.integer(_ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _captured_at(page: _Directory, source: _Bytes, order: str) -> str | None:
    when, zone = page.text(_DATE_TIME), ""
    try:
        at = page.integer(_EXIF_IFD, 0)
        if at:
            camera = _Directory(source, at, order)
            when, zone = camera.text(_DATE_TAKEN) or when, camera.text(_OFFSET_TAKEN)
    except ImageError:
        # The time is a convenience: a broken camera directory must not cost the picture.
        return _iso_time(when, "")
    return _iso_time(when, zone)


def _iso_time(when: str, zone: str) -> str | None:
    try:
        moment = datetime.fromisoformat(when[:10].replace(":", "-") + "T" + when[11:] + zone)
    except ValueError:
        return None
    return moment.isoformat()


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[_Bytes], Header]], ...] = (
    (lambda magic: magic.startswith(_PNG_MAGIC), _png),
    (lambda magic: magic.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda magic: magic.startswith(b"BM"), _bmp),
    (lambda magic: magic[:4] in (b"II*\0", b"MM\0*"), _tiff),
    (lambda magic: magic[:4] == b"RIFF" and magic[8:12] == b"WEBP", _webp),
    (lambda magic: magic[:1] == b"P" and magic[1:2] in b"123456" and magic[2:3].isspace(), _pnm),
)

_COMPLETE: dict[str, Callable[[Header, bytes], Header]] = {
    "png": _complete_png,
    "jpeg": _complete_jpeg,
    "bmp": _complete_extents,
    "tiff": _complete_extents,
    "webp": _complete_extents,
    "pnm": _complete_pnm,
}


def check_complete(header: Header, blob: bytes) -> Header:
    """Check by the file's own bookkeeping that all of it is there.

    Args:
        header: From :func:`read_header` on the same bytes.
        blob: The whole file.

    Returns:
        The header, with what only stands after the pixels (a late EXIF block).

    Raises:
        ImageError: The file ends early, fails a checksum, or holds several pictures.
    """
    return _COMPLETE[header.kind](header, blob)
