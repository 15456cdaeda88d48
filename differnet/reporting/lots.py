"""Yield by lot and by type: which folder, which hour, which camera gave fewer good parts.

A run does not say what its lots are. Pictures of one lot usually lie in one folder; where all lie in one,
they are parted by when they were taken, or else inspected. What was done is said in words, so that a reader
can tell whether it makes sense for the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from differnet.evaluation.intervals import Rate, rate
from differnet.records import Record
from differnet.reporting.counts import VERDICTS, Truth, truth_of

Key = TypeVar("Key", str, datetime)

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
    kept = [record for record in records if truth_of(record.label) is not Truth.WRONG_INPUT]
    folders = _folders(kept)
    if len(set(folders)) > 1:
        shared = _shared_depth(folders)
        named = ["/".join(folder[shared:]) or "." for folder in folders]
        return Lots("A lot is a folder of pictures.", _groups(zip(named, kept, strict=True), str))
    for said, moments in (
        ("taken", _moments(record.captured_at for record in kept)),
        ("inspected", _moments(record.processed_at for record in kept)),
    ):
        if moments is not None and (chosen := _window(moments)) is not None:
            words, length = chosen
            begun = [_ORIGIN + (moment - _ORIGIN) // length * length for moment in moments]
            return Lots(
                f"No folders but those of labels part the pictures; a lot is what was {said} within {words}"
                + (", which need not be when it was made." if said == "inspected" else "."),
                _groups(zip(begun, kept, strict=True), partial(_window_name, length)),
            )
    return Lots("Neither folders, other than by label, nor times part the pictures: there are no lots.", ())


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
    return _groups(zip(named, found, strict=True), str)


def worst(groups: Sequence[Group], number: int) -> tuple[Group, ...]:
    """Choose the groups of lowest yield, in the order in which they stand.

    Args:
        groups: Any number.
        number: How many at most.
    """
    lowest = sorted(range(len(groups)), key=lambda place: groups[place].passed.share or 0.0)[:number]
    return tuple(groups[place] for place in sorted(lowest))


def _groups(keyed: Iterable[tuple[Key, Record]], name: Callable[[Key], str]) -> tuple[Group, ...]:
    counted: dict[Key, NDArray[np.int64]] = {}
    columns = {verdict: column for column, verdict in enumerate(VERDICTS)}
    for key, record in keyed:
        counted.setdefault(key, np.zeros(len(VERDICTS), dtype=np.int64))[columns[record.verdict]] += 1
    return tuple(
        Group(name(key), counts, rate(int(counts[0]), int(counts.sum())))
        for key, counts in sorted(counted.items(), key=lambda item: item[0])
    )


def _folders(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Name the folder of each picture without what only says its label; small ones are joined."""
    folders = [_folder(record) for record in records]
    while (number := len(set(folders))) > 1 and len(folders) < SMALLEST_LOT * number:
        deepest = max(len(folder) for folder in folders)
        above = [folder[: deepest - 1] for folder in folders]
        if len(set(above)) < 2:
            break
        folders = above
    return folders


def _folder(record: Record) -> tuple[str, ...]:
    folder = tuple(record.path.replace("\\", "/").split("/")[:-1])
    label = tuple((record.label or "").split("/"))
    # A folder that is named like the label is no lot: its yield would be that of the label.
    return folder[: -len(label)] if record.label and folder[-len(label) :] == label else folder


def _shared_depth(folders: Sequence[tuple[str, ...]]) -> int:
    first, last = min(folders), max(folders)
    return next(
        (depth for depth, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )


def _moments(times: Iterable[str | None]) -> list[datetime] | None:
    """Read times; ``None`` where one is absent or no time. Those of a zone become UTC, others stay."""
    moments = []
    for time in times:
        try:
            moment = datetime.fromisoformat(time or "")
            aware = moment.tzinfo is not None
            moments.append(moment.astimezone(UTC).replace(tzinfo=None) if aware else moment)
        except (ValueError, OverflowError):
            return None
    return moments or None


def _window(moments: Sequence[datetime]) -> tuple[str, timedelta] | None:
    """Choose the shortest window that makes few enough lots, and at least two."""
    for words, length in _WINDOWS:
        number = len({(moment - _ORIGIN) // length for moment in moments})
        if number < 2:
            return None
        if number <= MOST_WINDOWS and len(moments) >= SMALLEST_LOT * number:
            return words, length
    return None


def _window_name(length: timedelta, start: datetime) -> str:
    end = start + length
    if length >= timedelta(days=1):
        return f"{start:%Y-%m-%d}" if length == timedelta(days=1) else f"from {start:%Y-%m-%d}"
    return f"{start:%Y-%m-%d %H:%M} to {end:%H:%M}"
