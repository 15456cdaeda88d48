"""A run on disk: what was inspected, what was decided, and the pictures to show for it.

A run's folder needs neither the original pictures nor the model to be read:

```
run.json             facts: product, model, calibration, thresholds, versions, seed, counts
records.jsonl        one record a line
heat_maps/ID.npz     float32 heat map of each judged picture
pictures/ID.jpg      bounded preview of each readable picture
closeups/ID.jpg      its strongest region at full sharpness, where the preview lost detail
```

Artefacts are written first, the row last: a row that can be read has its files.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from differnet.durable import write_file
from differnet.images.reading import ImageError, ReadingRule, read_image
from differnet.records import DiffernetError, Inspection, Record, Region, Verdict
from differnet.strict_json import RecordFormatError, from_json, from_mapping, to_json

PREVIEW_SIDE = 512
"""Longest side of a stored preview in pixels: fills half a 1280 px page on a sharp screen."""

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

HASHED_BYTES = 32 * 2**20
"""Files up to this size are hashed to name a revision: about 30,000 records in 30 ms."""

# Four times what this module writes itself.
_PREVIEW_RULE = ReadingRule(max_pixels=4 * PREVIEW_SIDE**2, max_file_bytes=16 * 2**20)

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")


class RunError(DiffernetError):
    """Raised when a run's folder cannot be made, read or written."""


@dataclass(frozen=True)
class CalibrationFacts:
    """What the thresholds of a run rest on.

    Attributes:
        parts: Good parts that calibrated the verdict, each judged by what had not been trained on it.
        alpha_review, alpha_defect: Share of good parts that T1 and T2 are allowed to flag.
        smallest_alpha: ``1 / (parts + 1)``; no smaller share can be promised.
        interval_defect: 90 % interval of the share of good parts that this one calibration set
            really gives beyond T2; `Beta(k, n + 1 - k)` of split conformal prediction.
        interval_review: The same for T1.
        scheme: How the calibration parts were kept apart, in words (``held out``, ``5-fold``).
        promised: False where variations joined very few parts: no rate holds, thresholds are provisional.
    """

    parts: int
    alpha_review: float
    alpha_defect: float
    smallest_alpha: float
    interval_defect: tuple[float, float] | None = None
    interval_review: tuple[float, float] | None = None
    scheme: str = ""
    promised: bool = True


@dataclass(frozen=True)
class RunFacts:
    """What is true of a whole run.

    Attributes:
        run_id: Name of the run; the folder's name when empty.
        product: What is made.
        source: Where the pictures came from, for a person to read.
        calibration: What the thresholds rest on.
        t_review, t_defect: T1 and T2 on strangeness.
        versions: Library name to version.
        details: Further facts that a reader of the report should see (backbone, weights' hash).
        counts: Verdict to number of pictures; filled when the run is closed.
        heat_scale: Low and high end of the colour scale, in the heat map's unit.
        format_version: Of the folder, raised when a reader of the older form would be misled.
    """

    run_id: str = ""
    product: str = ""
    source: str = ""
    model_id: str = ""
    calibration_id: str = ""
    calibration: CalibrationFacts | None = None
    t_review: float | None = None
    t_defect: float | None = None
    threshold_revision: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    commit: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    heat_scale: tuple[float, float] | None = None
    format_version: int = 1


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
        raise _disk_error(path, error) from error


def _disk_error(path: Path, error: OSError) -> RunError:
    return RunError(
        expected=f"to read and write {path}",
        found=f"{type(error).__name__}: {error.strerror}",
        remedy="Check free space and permissions of the run's folder.",
    )


class RunFolder:
    """A run's folder, open for appending or for reading.

    Make one with `RunFolder.create` or `RunFolder.open`. Usable in a ``with`` statement, which
    closes the run at its end; a run that is left by an error stays unfinished and can be resumed.

    Attributes:
        path: The folder.
        facts: What is true of the whole run.
        torn_line: Bytes of a last line that a crash cut off, or ``b""``. It was never
            acknowledged, is not among the records, and is cut away by the next append.
    """

    def __init__(
        self, path: Path, facts: RunFacts, records: list[Record], end: int = 0, torn_line: bytes = b""
    ) -> None:
        self.path = path
        self.facts = facts
        self.torn_line = torn_line
        self._records = records
        self._names = {record.item_id.lower() for record in records}
        self._end = end
        self._derived_scale: tuple[int, tuple[float, float]] | None = None

    @classmethod
    def create(cls, path: Path, facts: RunFacts | Mapping[str, Any]) -> RunFolder:
        """Start a run in a new or empty folder.

        Args:
            path: Folder to make.
            facts: What is known before the first picture.

        Returns:
            The run, ready for `append`.

        Raises:
            RunError: The folder already holds something, or cannot be made.
            RecordFormatError: The facts hold an unknown field or a figure that is not finite.
        """
        known = facts if isinstance(facts, RunFacts) else from_mapping(RunFacts, facts)
        known = replace(known, run_id=known.run_id or path.name, started_at=known.started_at or _now())
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunError(
                    expected=f"a new or empty folder at {path}",
                    found="files in it",
                    remedy="Choose another folder; a run never overwrites one.",
                )
            for name in ("heat_maps", "pictures", "closeups"):
                (path / name).mkdir()
        except OSError as error:
            raise _disk_error(path, error) from error
        write_atomically(path / "records.jsonl", b"")
        run = cls(path, known, [])
        run._write_facts()
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Read a run from disk. Nothing is changed by it.

        Args:
            path: A run's folder.

        Returns:
            The run with all of its acknowledged records.

        Raises:
            RunError: There is no run, or it is of a newer form.
            RecordFormatError: ``run.json`` or a whole line of ``records.jsonl`` is not as written.
        """
        try:
            facts = from_json(RunFacts, (path / "run.json").read_bytes())
            body = (path / "records.jsonl").read_bytes()
        except OSError as error:
            raise RunError(
                expected=f"a run with run.json and records.jsonl in {path}",
                found=f"{type(error).__name__}: {error.strerror}",
                remedy="Give the folder that `differnet inspect --out` has written.",
            ) from error
        if facts.format_version != RunFacts.format_version:
            raise RunError(
                expected=f"a run of format {RunFacts.format_version}",
                found=f"format {facts.format_version}",
                remedy="Read it with the version of differnet that wrote it.",
            )
        *lines, torn_line = body.split(b"\n")
        records = [_record(line, number) for number, line in enumerate(lines, 1)]
        return cls(path, facts, records, len(body) - len(torn_line), torn_line)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records in the order in which they were appended."""
        return tuple(self._records)

    def append(self, inspection: Inspection, pixels: NDArray[np.uint8] | NDArray[np.uint16] | None) -> Record:
        """Keep one inspected picture. When this returns, it is on the disk.

        Args:
            inspection: Record and heat map.
            pixels: ``(height, width, 3)`` RGB of the picture, any size, ``uint8`` or ``uint16``;
                ``None`` for a picture that could not be read.

        Returns:
            The record as kept: run id and heat map path filled in, and an item id that no other
            picture of this run has (the same picture twice gives ``ID`` and ``ID-2``).

        Raises:
            RunError: The run is finished, or the disk refused.
            RecordFormatError: The record or the heat map holds a figure that is not finite.
        """
        if self.facts.finished_at is not None:
            raise RunError(
                expected=f"run {self.facts.run_id} to be open",
                found=f"finished at {self.facts.finished_at}",
                remedy="Inspect into a new folder.",
            )
        item_id = self._unused_name(inspection.record)
        record = replace(inspection.record, run_id=self.facts.run_id, item_id=item_id, heat_map_path=None)
        if inspection.heat_map is not None:
            record = replace(record, heat_map_path=f"heat_maps/{item_id}.npz")
        line = to_json(record).encode("ascii") + b"\n"
        if inspection.heat_map is not None:
            write_atomically(self.path / str(record.heat_map_path), _pack_heat_map(inspection.heat_map))
        if pixels is not None:
            self._write_pictures(record, _eight_bits(pixels))
        self._append_line(line)
        self._names.add(item_id.lower())
        self._records.append(record)
        return record

    def close(self) -> None:
        """Finish the run: count, derive the colour scale, and write both into ``run.json``."""
        if self.facts.finished_at is not None:
            return
        tally = Counter(record.verdict for record in self._records)
        self.facts = replace(
            self.facts,
            finished_at=_now(),
            counts={verdict.value: tally[verdict] for verdict in Verdict},
            heat_scale=self.heat_scale,
        )
        self._write_facts()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    @property
    def heat_scale(self) -> tuple[float, float]:
        """Low and high end of the one colour scale for every picture of this run.

        Low is the median hottest value of passed parts, so that colour means hotter than what good
        parts show; high is the upper decile of the hottest values of flagged parts.
        """
        if self.facts.heat_scale is not None:
            return self.facts.heat_scale
        # Derived from many files: kept until the run has grown.
        if self._derived_scale is None or self._derived_scale[0] != len(self._records):
            self._derived_scale = len(self._records), self._derive_scale()
        return self._derived_scale[1]

    def heat_map(self, record: Record) -> NDArray[np.float32] | None:
        """Read a record's heat map.

        Args:
            record: One of this run's records.

        Returns:
            ``(rows, columns)`` float32, or ``None`` when there is none or its file is damaged.
        """
        path = self._inside(record.heat_map_path)
        return None if path is None else _unpack_heat_map(path)

    def preview(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the bounded preview, ``(height, width, 3)`` RGB, or ``None`` when there is none."""
        return self._picture(f"pictures/{record.item_id}.jpg")

    def closeup(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the strongest region at full sharpness, RGB, or ``None`` when there is none."""
        return self._picture(f"closeups/{record.item_id}.jpg")

    def _derive_scale(self) -> tuple[float, float]:
        passed = self._peaks({Verdict.PASS})
        flagged = self._peaks({Verdict.DEFECT, Verdict.REVIEW})
        low = float(np.median(passed)) if passed else DEFAULT_HEAT_SCALE[0]
        high = float(np.quantile(flagged, 0.9)) if flagged else low + DEFAULT_HEAT_SCALE[1]
        return low, max(high, low + 1.0)

    def _peaks(self, verdicts: set[Verdict]) -> list[float]:
        chosen = [record for record in self._records if record.verdict in verdicts and record.heat_map_path]
        step = max(1, -(-len(chosen) // HEAT_SCALE_SAMPLE))
        maps = (self.heat_map(record) for record in chosen[::step])
        return [float(heat_map.max()) for heat_map in maps if heat_map is not None]

    def _picture(self, relative: str) -> NDArray[np.uint8] | None:
        path = self._inside(relative)
        if path is None:
            return None
        try:
            # Bounded: a run may come from anywhere, and with it a picture that asks for gigabytes.
            return _eight_bits(read_image(path, _PREVIEW_RULE).pixels)
        except ImageError:
            return None

    def _inside(self, relative: str | None) -> Path | None:
        """Find the file that a record names, unless it lies outside the run's folder or is no plain file."""
        if not relative:
            return None
        try:
            path = (self.path / relative).resolve()
            return path if path.is_relative_to(self.path.resolve()) and path.is_file() else None
        except (OSError, ValueError):
            # A name that no file can have: too long, or of characters that no file system knows.
            return None

    def _unused_name(self, record: Record) -> str:
        """Choose an item id that is safe as a file's name and new to this run."""
        name = record.item_id
        if not _SAFE_NAME.fullmatch(name):
            name = hashlib.sha256(
                f"{record.sha256} {record.path}".encode("utf-8", "surrogatepass")
            ).hexdigest()[:16]
        candidate, copy = name, 1
        while candidate.lower() in self._names:
            copy += 1
            candidate = f"{name}-{copy}"
        return candidate

    def _write_pictures(self, record: Record, pixels: NDArray[np.uint8]) -> None:
        preview = _shrink(pixels, PREVIEW_SIDE)
        write_atomically(self.path / "pictures" / f"{record.item_id}.jpg", encode_jpeg(preview))
        if record.regions and preview.shape != pixels.shape:
            scale = pixels.shape[1] / max(1, record.width)
            closeup = _cut_out(pixels, max(record.regions, key=lambda region: region.peak), scale)
            write_atomically(self.path / "closeups" / f"{record.item_id}.jpg", encode_jpeg(closeup))

    def _append_line(self, line: bytes) -> None:
        """Add a line after the last whole one; what a crash or a full disk left there is cut away."""
        path = self.path / "records.jsonl"
        try:
            with path.open("r+b") as stream:
                stream.truncate(self._end)
                stream.seek(self._end)
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise _disk_error(path, error) from error
        self._end += len(line)
        self.torn_line = b""

    def _write_facts(self) -> None:
        write_atomically(self.path / "run.json", to_json(self.facts).encode("ascii") + b"\n")


def list_runs(folder: Path) -> list[Path]:
    """Find the runs in a folder of runs, the latest first.

    Args:
        folder: A folder with run folders in it, or a run's folder itself.

    Returns:
        Paths of folders that hold ``run.json`` and ``records.jsonl``.
    """
    if not folder.is_dir():
        return []
    candidates = [folder, *(entry for entry in folder.iterdir() if entry.is_dir())]
    runs = [path for path in candidates if _is_run(path)]
    return sorted(runs, key=lambda path: ((path / "run.json").stat().st_mtime_ns, path.name), reverse=True)


def run_revision(path: Path) -> str:
    """Name the content of a run, for a cache to be keyed by.

    Args:
        path: A run's folder.

    Returns:
        Hexadecimal digest. Files up to `HASHED_BYTES` count by their content, so that a label which
        is changed within one clock tick is a new revision; larger ones by inode, size and time.

    Raises:
        RunError: The run is gone or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in (path / "run.json", path / "records.jsonl"):
            state = file.stat()
            digest.update(f"{state.st_ino} {state.st_size} {state.st_mtime_ns}\n".encode())
            if state.st_size <= HASHED_BYTES:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise _disk_error(path, error) from error
    return digest.hexdigest()


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB pixels as JPEG.

    Args:
        pixels: ``(height, width, 3)`` RGB.

    Returns:
        The file's bytes.
    """
    _, buffer = cv2.imencode(
        ".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return bytes(buffer)


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file() and (path / "records.jsonl").is_file()


def _record(line: bytes, number: int) -> Record:
    try:
        return from_json(Record, line)
    except RecordFormatError as error:
        raise RecordFormatError(
            expected=f"a record in line {number} of records.jsonl ({error.expected})",
            found=error.found,
            remedy=error.remedy,
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _eight_bits(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise RunError(
            expected="(height, width, 3) RGB pixels, uint8 or uint16",
            found=f"{pixels.shape} {pixels.dtype}",
            remedy="Hand over the pixels of a Picture.",
        )
    return (
        (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8, copy=False)
    )


def _shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Reduce to a longest side, never enlarge."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _cut_out(pixels: NDArray[np.uint8], region: Region, scale: float) -> NDArray[np.uint8]:
    """Cut a square round a region, with half its size of surroundings on every side."""
    height, width = pixels.shape[:2]
    side = int(min(max(2 * max(region.width, region.height) * scale, 96), height, width))
    left = int(np.clip((region.x + region.width / 2) * scale - side / 2, 0, width - side))
    top = int(np.clip((region.y + region.height / 2) * scale - side / 2, 0, height - side))
    return _shrink(pixels[top : top + side, left : left + side], CLOSEUP_SIDE)


def _pack_heat_map(heat_map: NDArray[np.float32]) -> bytes:
    if heat_map.ndim != 2 or heat_map.size == 0 or not np.isfinite(heat_map).all():
        raise RecordFormatError(
            expected="a (rows, columns) heat map of finite numbers",
            found=f"shape {heat_map.shape}, {int(np.count_nonzero(~np.isfinite(heat_map)))} not finite",
            remedy="A picture whose heat map is not finite is INVALID and has none.",
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, heat_map=heat_map.astype(np.float32))
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
    if heat_map.ndim != 2 or heat_map.size == 0 or heat_map.dtype != np.float32:
        return None
    return heat_map if bool(np.isfinite(heat_map).all()) else None
