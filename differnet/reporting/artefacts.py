"""What a run shows beside its records: heat maps, previews and close-ups, as files in its folder.

```
heat_maps/ID.npz     heat map of each judged picture, float16, 128 places at most along a side
pictures/ID.jpg      bounded preview of each readable picture
closeups/ID.jpg      its strongest region at full sharpness, where the preview lost detail
```
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.durable import remove_drafts, write_file, write_files
from differnet.images.reading import ImageError, ReadingRule, read_image
from differnet.records import DiffernetError, Record, Region, Verdict
from differnet.strict_json import RecordFormatError

PREVIEW_SIDE = 512
"""Longest side of a stored preview in pixels: fills half a 1280 px page on a sharp screen."""

HEAT_SIDE = 128
"""Longest side of a stored heat map: what it shows is coarser, and is drawn at the size of the preview."""

CLOSEUP_SIDE = 320
"""Longest side of a stored close-up in pixels."""

JPEG_QUALITY = 88
"""Chosen so that a 512 px preview stays near 60 kB without visible blocks on metal textures."""

LARGEST_HEAT_MAP = 4 * 100_000_000 + 2**20
"""Bytes that a stored heat map may unpack to: float32 over the largest picture that is read, 100 Mpx."""

DEFAULT_HEAT_SCALE = (3.0, 12.0)
"""Colour scale while a run has nothing to derive one from, in powers of ten: good places pass 3 about once
in a thousand."""

HEAT_SCALE_SAMPLE = 100
"""Heat maps of either kind that are read to derive a run's colour scale."""

_LEAST_HALVED = 64
"""Pixels along the shorter side from which on a last odd row or column may be lost in halving."""

DRAFT_SECONDS = 60.0
"""Age from which a draft has nobody who writes it: a batch of files takes a second or two."""

Kind = TypeVar("Kind", np.uint8, np.float32)

# Four times what this module writes itself.
_PREVIEW_RULE = ReadingRule(max_pixels=4 * PREVIEW_SIDE**2, max_file_bytes=16 * 2**20)

FOLDERS = ("heat_maps", "pictures", "closeups")


class RunError(DiffernetError):
    """Raised when a run's folder cannot be made, read or written."""


class Artefacts:
    """The files that show the pictures of one run. A record names them by its item id alone.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folders that are not there yet.

        Raises:
            RunError: The disk refused.
        """
        for name in FOLDERS:
            make_folder(self.folder / name)

    @staticmethod
    def pack(
        record: Record,
        heat_map: NDArray[np.float32] | None,
        pixels: NDArray[np.uint8] | NDArray[np.uint16] | None,
    ) -> dict[str, bytes]:
        """Make the files of one picture.

        Args:
            record: Its row; its item id is safe as a file's name.
            heat_map: ``(rows, columns)``, or ``None`` for a picture that was not judged.
            pixels: ``(height, width, 3)`` RGB of the picture, any size; ``None`` where it could not be read.

        Returns:
            Content of each file, by its path in the run's folder.

        Raises:
            RecordFormatError: The heat map holds a figure that is not finite.
            RunError: ``pixels`` are no picture.
        """
        files: dict[str, bytes] = {}
        if heat_map is not None:
            files[heat_map_path(record.item_id)] = _pack_heat_map(heat_map)
        if pixels is not None:
            shown = eight_bits(pixels)
            preview = shrink(shown, PREVIEW_SIDE)
            files[f"pictures/{record.item_id}.jpg"] = encode_jpeg(preview)
            if record.regions and preview.shape != shown.shape:
                scale = shown.shape[1] / max(1, record.width)
                closeup = _cut_out(shown, max(record.regions, key=lambda region: region.peak), scale)
                files[f"closeups/{record.item_id}.jpg"] = encode_jpeg(closeup)
        return files

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Write files of `pack`, of one picture or of many. When this returns, they are on the disk.

        Raises:
            RunError: The disk refused.
        """
        try:
            write_files(self.folder, files)
        except OSError as error:
            raise disk_error(self.folder, error) from error

    def tidy(self) -> int:
        """Remove drafts that a process left that was killed while it wrote; return how many.

        Drafts that are younger than `DRAFT_SECONDS` stay: another process may be writing them.

        Raises:
            RunError: The disk refused.
        """
        removed = 0
        try:
            for name in FOLDERS:
                removed += remove_drafts(self.folder / name, DRAFT_SECONDS)
        except OSError as error:
            raise disk_error(self.folder, error) from error
        return removed

    def heat_map(self, record: Record) -> NDArray[np.float32] | None:
        """Read a record's heat map.

        Args:
            record: One of this run's records.

        Returns:
            ``(rows, columns)`` float32, or ``None`` when there is none or its file is damaged.
        """
        path = self._inside(record.heat_map_path)
        return _unpack_heat_map(path) if path is not None else None

    def preview(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the bounded preview, ``(height, width, 3)`` RGB, or ``None`` when there is none."""
        return self._picture(f"pictures/{record.item_id}.jpg")

    def closeup(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the strongest region at full sharpness, RGB, or ``None`` when there is none."""
        return self._picture(f"closeups/{record.item_id}.jpg")

    def _picture(self, relative: str) -> NDArray[np.uint8] | None:
        path = self._inside(relative)
        if path is None:
            return None
        try:
            # Bounded: a run may come from anywhere, and with it a picture that asks for gigabytes.
            return eight_bits(read_image(path, _PREVIEW_RULE).pixels)
        except ImageError:
            return None

    def _inside(self, relative: str | None) -> Path | None:
        """Find the file that a record names, unless it lies outside the run's folder or is no plain file."""
        if not relative:
            return None
        try:
            path = (self.folder / relative).resolve()
            return path if path.is_relative_to(self.folder.resolve()) and path.is_file() else None
        except (OSError, ValueError):
            # A name that no file can have: too long, or of characters that no file system knows.
            return None


def closeup_square(record: Record) -> tuple[int, int, int] | None:
    """Tell where a record's close-up was cut out: left, top and side in pixels of the original picture.

    Returns:
        ``None`` where the record has no region, and so no close-up.

    Example:
        >>> closeup_square(Record("r", "i", "p", "", "p.png", "0", Verdict.PASS, ())) is None
        True
    """
    if not record.regions or not record.width or not record.height:
        return None
    strongest = max(record.regions, key=lambda region: region.peak)
    return _square_round(strongest, record.height, record.width, 1.0)


def heat_map_path(item_id: str) -> str:
    """Name a picture's heat map, relative to the run's folder."""
    return f"heat_maps/{item_id}.npz"


def heat_scale_of(
    records: Sequence[Record], heat_map: Callable[[Record], NDArray[np.float32] | None]
) -> tuple[float, float]:
    """Choose one colour scale for every picture of a run.

    Args:
        records: Of the run.
        heat_map: Reads the heat map of a record.

    Returns:
        Low, the median hottest value of passed parts, so that colour means hotter than what good parts show;
        high, the upper decile of the hottest values of flagged parts. In the heat map's unit.
    """
    passed = _peaks(records, {Verdict.PASS}, heat_map)
    flagged = _peaks(records, {Verdict.DEFECT, Verdict.REVIEW}, heat_map)
    low = float(np.median(passed)) if passed else DEFAULT_HEAT_SCALE[0]
    high = float(np.quantile(flagged, 0.9)) if flagged else low + DEFAULT_HEAT_SCALE[1]
    return low, max(high, low + 1.0)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, never a part.

    Args:
        path: File to make or replace; its folder must exist.
        content: All of its bytes.

    Raises:
        RunError: The disk refused (full, read-only, gone).
    """
    try:
        write_file(path, content)
    except OSError as error:
        raise disk_error(path, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder, with those that it lies in, where it is not there yet.

    Raises:
        RunError: The disk refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error


def disk_error(path: Path, error: OSError) -> RunError:
    """Say which step of a run the disk refused."""
    return RunError(
        expected=f"to read and write {path}",
        found=f"{type(error).__name__}: {error.strerror}",
        remedy="Check free space and permissions of the run's folder.",
    )


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB pixels as JPEG.

    Args:
        pixels: ``(height, width, 3)`` RGB.

    Returns:
        The file's bytes.
    """
    turned = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, buffer = cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(buffer)


def _peaks(
    records: Sequence[Record],
    verdicts: set[Verdict],
    heat_map: Callable[[Record], NDArray[np.float32] | None],
) -> list[float]:
    chosen = [record for record in records if record.verdict in verdicts and record.heat_map_path]
    step = max(1, -(-len(chosen) // HEAT_SCALE_SAMPLE))
    maps = (heat_map(record) for record in chosen[::step])
    return [float(found.max()) for found in maps if found is not None]


def eight_bits(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return ``(height, width, 3)`` RGB pixels as they are shown, in 8 bits.

    Raises:
        RunError: They are no picture.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise RunError(
            expected="(height, width, 3) RGB pixels, uint8 or uint16",
            found=f"{pixels.shape} {pixels.dtype}",
            remedy="Hand over the pixels of a Picture.",
        )
    return (
        (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8, copy=False)
    )


def _sampled(heat_map: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Reduce a smooth map to a longest side, sampling it between its cells; a smaller one stays as it is."""
    height, width = heat_map.shape
    scale = side / max(height, width)
    if scale >= 1:
        return heat_map
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(heat_map, size, interpolation=cv2.INTER_LINEAR))


def shrink(pixels: NDArray[Kind], side: int) -> NDArray[Kind]:
    """Reduce a picture or a map to a longest side; a smaller one stays as it is."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    # Halves, which are quick, down to less than twice the side, where interpolating skips no pixel: averaging
    # 5 million pixels at once takes ten times as long.
    while max(pixels.shape[:2]) >= 2 * side and min(pixels.shape[:2]) >= _LEAST_HALVED:
        rows, columns = (length // 2 for length in pixels.shape[:2])
        even = pixels[: 2 * rows, : 2 * columns]
        pixels = np.asarray(
            cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), dtype=pixels.dtype
        )
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kind = cv2.INTER_LINEAR if max(pixels.shape[:2]) < 2 * side else cv2.INTER_AREA
    return np.asarray(cv2.resize(pixels, size, interpolation=kind), dtype=pixels.dtype)


def _cut_out(pixels: NDArray[np.uint8], region: Region, scale: float) -> NDArray[np.uint8]:
    """Cut a square round a region."""
    height, width = pixels.shape[:2]
    left, top, side = _square_round(region, height, width, scale)
    return shrink(pixels[top : top + side, left : left + side], CLOSEUP_SIDE)


def _square_round(region: Region, height: int, width: int, scale: float) -> tuple[int, int, int]:
    """Lay a square round a region, with half its size of surroundings on every side, inside the picture."""
    side = int(min(max(2 * max(region.width, region.height) * scale, 96), height, width))
    left = int(np.clip((region.x + region.width / 2) * scale - side / 2, 0, width - side))
    top = int(np.clip((region.y + region.height / 2) * scale - side / 2, 0, height - side))
    return left, top, side


def _pack_heat_map(heat_map: NDArray[np.float32]) -> bytes:
    # To be looked at beside a preview, where three digits are plenty; whole ones cost a tenth of inspecting.
    # Heat is smooth: it need not be averaged to be reduced.
    small = _sampled(heat_map, HEAT_SIDE) if heat_map.ndim == 2 and heat_map.size else heat_map
    # What is kept has to be finite; of a large map, that is a hundredth of what there is to look at.
    if small.ndim != 2 or small.size == 0 or not np.isfinite(small).all():
        raise RecordFormatError(
            expected="a (rows, columns) heat map of finite numbers",
            found=f"shape {heat_map.shape}, {int(np.count_nonzero(~np.isfinite(heat_map)))} not finite",
            remedy="A picture whose heat map is not finite is INVALID and has none.",
        )
    shown = np.minimum(small, np.finfo(np.float16).max).astype(np.float16)
    member, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(member, shown, allow_pickle=False)
    # Not deflated, which would take four times as long as all the rest of this, for a fifth of 32 kB.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("heat_map.npy", member.getvalue())
    return buffer.getvalue()


def _unpack_heat_map(path: Path) -> NDArray[np.float32] | None:
    """Read a heat map without pickle and without trusting the size that its archive claims."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("heat_map.npy")
            if member.file_size > LARGEST_HEAT_MAP:
                return None
            heat_map = np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
    except (
        *(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error),
        # Packed in a way that is not read, encrypted, or of a header that asks for more than there is.
        *(NotImplementedError, RuntimeError, MemoryError),
    ):
        return None
    # Older runs keep float32 at the picture's size.
    if heat_map.ndim != 2 or heat_map.size == 0 or heat_map.dtype not in (np.float16, np.float32):
        return None
    return heat_map.astype(np.float32) if bool(np.isfinite(heat_map).all()) else None
