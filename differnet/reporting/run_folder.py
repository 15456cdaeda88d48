"""A run on disk: what was inspected, what was decided, and the pictures to show for it.

A run's folder needs neither the original pictures nor the model to be read:

```
run.json             facts: product, model, calibration, thresholds, versions, seed, counts
records.jsonl        one record a line
heat_maps/, pictures/, closeups/     what is shown of each picture, see `differnet.reporting.artefacts`
```

Artefacts are written first, the row last: a row that can be read has its files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from differnet.records import Inspection, Record, Verdict
from differnet.reporting.artefacts import (
    Artefacts,
    RunError,
    disk_error,
    heat_map_path,
    heat_scale_of,
    write_atomically,
)
from differnet.reporting.run import RunFacts
from differnet.strict_json import RecordFormatError, from_json, from_mapping, to_json

if TYPE_CHECKING:
    from differnet.store import ReviewEntry

HASHED_BYTES = 32 * 2**20
"""Files up to this size are hashed to name a revision: about 30,000 records in 30 ms."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")


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
        self._artefacts = Artefacts(path)
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
        except OSError as error:
            raise disk_error(path, error) from error
        Artefacts(path).make()
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

    @property
    def reviews(self) -> tuple[tuple[Record, ReviewEntry], ...]:
        """None: what people say of pictures is kept in the record, see `differnet.store.Store.review`."""
        return ()

    def append(self, inspection: Inspection, pixels: NDArray[np.uint8] | NDArray[np.uint16] | None) -> Record:
        """Keep one inspected picture. When this returns, it is on the disk.

        Args:
            inspection: Record and heat map.
            pixels: ``(height, width, 3)`` RGB of the picture, any size, ``uint8`` or ``uint16``;
                ``None`` for a picture that could not be read.

        Returns:
            The record as kept: run id, heat map path and, where absent, the time of processing filled in,
            and an item id that no other picture of this run has (the same picture twice gives ``ID`` and
            ``ID-2``).

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
        record = replace(
            inspection.record,
            run_id=self.facts.run_id,
            item_id=item_id,
            heat_map_path=None,
            processed_at=inspection.record.processed_at or _now("milliseconds"),
        )
        if inspection.heat_map is not None:
            record = replace(record, heat_map_path=heat_map_path(item_id))
        line = to_json(record).encode("ascii") + b"\n"
        self._artefacts.keep(self._artefacts.pack(record, inspection.heat_map, pixels))
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
        """Low and high end of the one colour scale for every picture of this run, see `heat_scale_of`."""
        if self.facts.heat_scale is not None:
            return self.facts.heat_scale
        # Derived from many files: kept until the run has grown.
        if self._derived_scale is None or self._derived_scale[0] != len(self._records):
            self._derived_scale = len(self._records), heat_scale_of(self._records, self.heat_map)
        return self._derived_scale[1]

    def heat_map(self, record: Record) -> NDArray[np.float32] | None:
        """Read a record's heat map, see `Artefacts.heat_map`."""
        return self._artefacts.heat_map(record)

    def preview(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the bounded preview, ``(height, width, 3)`` RGB, or ``None`` when there is none."""
        return self._artefacts.preview(record)

    def closeup(self, record: Record) -> NDArray[np.uint8] | None:
        """Read the strongest region at full sharpness, RGB, or ``None`` when there is none."""
        return self._artefacts.closeup(record)

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
            raise disk_error(path, error) from error
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


def _now(timespec: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=timespec)
