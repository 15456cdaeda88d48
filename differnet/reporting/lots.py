"""Yield by lot and by type: which folder, which hour, which camera gave fewer good parts.

A run does not say what its lots are. Pictures of one lot usually lie in one folder; where all lie in one,
they are parted by when they were taken, or else inspected. What was done is said in words, so that a reader
can tell whether it makes sense for the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from differnet.evaluation.intervals import Rate, rate
from differnet.records import Record, Verdict
from differnet.reporting.counts import VERDICTS, Truth, truth_of

if TYPE_CHECKING:
    from differnet.store import RunTable

# Label, path, when taken, when inspected, and place of the verdict.
_Part = tuple[str | None, str, str | None, str | None, int]

SMALLEST_LOT = 10
"""Pictures a lot on average below which folders are joined to those above them: a folder a part is no lot."""

MOST_WINDOWS = 24
"""Windows of time at most: more are hard to read, and each has fewer pictures."""

_WINDOWS = (
    ("10 minutes", timedelta(minutes=10)),
    ("half an hour", timedelta(minutes=30)),
    ("an hour", timedelta(hours=1)),
    ("2 hours", timedelta(hours=2)),
    ("4 hours", timedelta(hours=4)),
    ("8 hours", timedelta(hours=8)),
    ("a day", timedelta(days=1)),
    ("a week", timedelta(weeks=1)),
    ("4 weeks", timedelta(weeks=4)),
)
_ORIGIN = datetime(2024, 1, 1)
"""A Monday at midnight, from which all windows are counted."""
_EPOCH = datetime(1970, 1, 1)
# A time as the record keeps it, and how much of it tells the second.
_OF_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00").fullmatch
_TO_SECONDS = 19
_QUARTER = 900


@dataclass(frozen=True)
class Group:
    """Pictures that belong together.

    Attributes:
        name: For a person.
        counts: ``(5,)`` in the order of `VERDICTS`.
        passed: Share of the pictures that pass at once, with its exact 95 % interval.
    """

    name: str
    counts: NDArray[np.int64]
    passed: Rate


@dataclass(frozen=True)
class Lots:
    """A run parted into lots.

    Attributes:
        words: What a lot is here, or why there are none.
        groups: The lots, in the order of their names or times; none where there is nothing to compare.
    """

    words: str
    groups: tuple[Group, ...]


def lots_of(records: Sequence[Record]) -> Lots:
    """Part a run into lots.

    Args:
        records: Of the run. Pictures that are labelled as wrong inputs belong to no lot.

    Returns:
        Lots by folder where there is more than one, else by time where that tells them apart, else none.

    Example:
        >>> from differnet.records import Verdict
        >>> def part(path, verdict):
        ...     return Record("", "", "", "", path, "", verdict, ())
        >>> monday = [part(f"monday/{i}.png", Verdict.PASS) for i in range(20)]
        >>> tuesday = [part(f"tuesday/{i}.png", Verdict.DEFECT) for i in range(20)]
        >>> found = lots_of([*monday, *tuesday])
        >>> [(lot.name, str(lot.passed)) for lot in found.groups]
        [('monday', '100 % (83.2 % to 100 %)'), ('tuesday', '0 % (0 % to 16.8 %)')]
    """
    columns = {verdict: column for column, verdict in enumerate(VERDICTS)}
    parts = [(r.label, r.path, r.captured_at, r.processed_at, columns[r.verdict]) for r in records]
    return _lots(parts, UTC, MOST_WINDOWS)


def lots_of_table(table: RunTable, zone: tzinfo = UTC, most: int = MOST_WINDOWS) -> Lots:
    """Part a run of the record into lots, as `lots_of` does.

    Args:
        table: Of the run.
        zone: Whose times name windows of time.
        most: Windows at most.
    """
    parts = zip(
        table.label, table.path, table.captured_at, table.processed_at, table.verdict.tolist(), strict=True
    )
    return _lots(list(parts), zone, most)


def lots_of_counts(
    counts: Mapping[tuple[str, str | None, Verdict], int], zone: tzinfo = UTC, most: int = MOST_WINDOWS
) -> Lots:
    """Part what was inspected in many runs by time.

    Args:
        counts: Pictures by when they were inspected (UTC, an hour such as ``2026-11-23T06`` or a day), label
            and verdict; those that are labelled as wrong inputs belong to no lot.
        zone: Whose times name windows; of days, which are those of UTC, it changes nothing.
        most: Windows at most.
    """
    kept = {key: n for key, n in counts.items() if truth_of(key[1]) is not Truth.WRONG_INPUT}
    by_day = all("T" not in time for time, _, _ in kept)
    moments = _moments([time if by_day else f"{time}:00+00:00" for time, _, _ in kept], zone)
    numbers = np.array(list(kept.values()), dtype=np.int64)
    if moments is not None:
        windows = _WINDOWS[-3:] if by_day else _WINDOWS[2:]
        if (chosen := _window(moments, int(numbers.sum()), most, windows)) is not None:
            words, length = chosen
            of_day = " of UTC" if by_day else ""
            codes = np.array([VERDICTS.index(verdict) for _, _, verdict in kept])
            groups = _windows(moments, codes, length, numbers)
            return Lots(f"A lot is what was inspected within {words}{of_day}.", groups)
    return Lots("Too little was inspected at too few times to be parted into lots.", ())


def types_of(records: Iterable[Record]) -> tuple[Group, ...]:
    """Part a run by product, and by view of the part where it has several.

    Args:
        records: Of the run.

    Returns:
        In the order of their names; one where all are of one type.
    """
    found = list(records)
    views = len({record.view_id for record in found}) > 1
    named = [
        ((record.product or "no product named") + (f", view {record.view_id or 'unnamed'}" if views else ""))
        for record in found
    ]
    codes = np.array([VERDICTS.index(record.verdict) for record in found], dtype=np.int64)
    return _groups(named, codes)


def worst(groups: Sequence[Group], number: int) -> tuple[Group, ...]:
    """Choose the groups of lowest yield, in the order in which they stand.

    Args:
        groups: Any number.
        number: How many at most.
    """
    lowest = sorted(range(len(groups)), key=lambda place: groups[place].passed.share or 0.0)[:number]
    return tuple(groups[place] for place in sorted(lowest))


def _lots(parts: Sequence[_Part], zone: tzinfo, most: int) -> Lots:
    known = {label: truth_of(label) for label in {part[0] for part in parts}}
    kept = [part for part in parts if known[part[0]] is not Truth.WRONG_INPUT]
    codes = np.array([part[4] for part in kept], dtype=np.int64)
    folders = _folders(kept)
    if len(set(folders)) > 1:
        shared = _shared_depth(folders)
        named = {folder: "/".join(folder[shared:]) or "." for folder in set(folders)}
        return Lots("A lot is a folder of pictures.", _groups([named[folder] for folder in folders], codes))
    for said, moments in (
        ("taken", _moments([part[2] for part in kept], zone)),
        ("inspected", _moments([part[3] for part in kept], zone)),
    ):
        if moments is not None and (chosen := _window(moments, len(kept), most)) is not None:
            words, length = chosen
            return Lots(
                f"No folders but those of labels part the pictures; a lot is what was {said} within {words}"
                + (", which need not be when it was made." if said == "inspected" else "."),
                _windows(moments, codes, length),
            )
    return Lots("Neither folders, other than by label, nor times part the pictures: there are no lots.", ())


def _groups(
    names: Sequence[str], codes: NDArray[np.int64], numbers: NDArray[np.int64] | None = None
) -> tuple[Group, ...]:
    """Count by name, in the order of the names; ``numbers`` pictures at each place, one where not given."""
    known = sorted(set(names))
    places = {name: place for place, name in enumerate(known)}
    cells = np.array([places[name] for name in names], dtype=np.int64) * len(VERDICTS) + codes
    weights = np.ones(len(cells)) if numbers is None else numbers.astype(np.float64)
    counted = np.bincount(cells, weights, minlength=len(known) * len(VERDICTS)).astype(np.int64)
    rows = counted.reshape(-1, len(VERDICTS))
    return tuple(
        Group(name, row, rate(int(row[0]), int(row.sum()))) for name, row in zip(known, rows, strict=True)
    )


def _windows(
    moments: NDArray[np.int64],
    codes: NDArray[np.int64],
    length: timedelta,
    numbers: NDArray[np.int64] | None = None,
) -> tuple[Group, ...]:
    """Count by window of time. Names of windows sort as times do."""
    begun = moments // (length // timedelta(seconds=1))
    named = {start: _window_name(length, _ORIGIN + start * length) for start in set(begun.tolist())}
    return _groups([named[start] for start in begun.tolist()], codes, numbers)


def _folders(parts: Sequence[_Part]) -> list[tuple[str, ...]]:
    """Name the folder of each picture without what only says its label; small ones are joined."""
    known: dict[tuple[str, str | None], tuple[str, ...]] = {}
    folders = []
    for label, path, *_ in parts:
        key = (path.replace("\\", "/") if "\\" in path else path).rpartition("/")[0], label
        if key not in known:
            known[key] = _folder(*key)
        folders.append(known[key])
    while (number := len(different := set(folders))) > 1 and len(folders) < SMALLEST_LOT * number:
        deepest = max(len(folder) for folder in different)
        above = {folder: folder[: deepest - 1] for folder in different}
        if len(set(above.values())) < 2:
            break
        folders = [above[folder] for folder in folders]
    return folders


def _folder(path: str, label: str | None) -> tuple[str, ...]:
    folder = tuple(path.split("/")) if path else ()
    named = tuple((label or "").split("/"))
    # A folder that is named like the label is no lot: its yield would be that of the label.
    return folder[: -len(named)] if label and folder[-len(named) :] == named else folder


def _shared_depth(folders: Sequence[tuple[str, ...]]) -> int:
    first, last = min(folders), max(folders)
    return next(
        (depth for depth, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )


def _moments(times: Sequence[str | None], zone: tzinfo) -> NDArray[np.int64] | None:
    """Read times as seconds since the origin; ``None`` where one is absent or no time.

    Those that name a zone become that of ``zone``, others stay.
    """
    if all(_OF_UTC(time or "") for time in times):
        return _moments_of_utc([str(time)[:_TO_SECONDS] for time in times], zone)
    moments = []
    for time in times:
        try:
            moment = datetime.fromisoformat(time or "")
            aware = moment.tzinfo is not None
            moments.append(moment.astimezone(zone).replace(tzinfo=None) if aware else moment)
        except (ValueError, OverflowError):
            return None
    seconds = [(moment - _ORIGIN) // timedelta(seconds=1) for moment in moments]
    return np.array(seconds, dtype=np.int64) if seconds else None


def _moments_of_utc(times: Sequence[str], zone: tzinfo) -> NDArray[np.int64] | None:
    """Read times of UTC, told to the second, as `_moments` does: a hundred thousand at once."""
    try:
        seconds = np.array(times, dtype="datetime64[s]").astype(np.int64)
        # Clocks are put forward and back on quarters of an hour, in every zone since 1972.
        quarters, place = np.unique(seconds // _QUARTER, return_inverse=True)
        offsets = [datetime.fromtimestamp(int(q) * _QUARTER, zone).utcoffset() for q in quarters]
    except (ValueError, OverflowError, OSError):
        return None
    shifts = np.array([offset // timedelta(seconds=1) if offset else 0 for offset in offsets], dtype=np.int64)
    origin = (_ORIGIN - _EPOCH) // timedelta(seconds=1)
    return seconds + shifts[place] - origin if len(seconds) else None


def _window(
    moments: NDArray[np.int64],
    parts: int,
    most: int,
    windows: Sequence[tuple[str, timedelta]] = _WINDOWS,
) -> tuple[str, timedelta] | None:
    """Choose the shortest window that makes few enough lots, and at least two."""
    for words, length in windows:
        number = len(np.unique(moments // (length // timedelta(seconds=1))))
        if number < 2:
            return None
        if number <= most and parts >= SMALLEST_LOT * number:
            return words, length
    return None


def _window_name(length: timedelta, start: datetime) -> str:
    end = start + length
    if length >= timedelta(days=1):
        return f"{start:%Y-%m-%d}" if length == timedelta(days=1) else f"from {start:%Y-%m-%d}"
    return f"{start:%Y-%m-%d %H:%M} to {end:%H:%M}"
