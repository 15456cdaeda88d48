"""What people said of inspected pictures: the last word on each, and how often verdicts agree with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from differnet.evaluation.intervals import Rate, rate
from differnet.records import DiffernetError, Record, Verdict
from differnet.reporting.counts import VERDICTS, Truth, tabulate
from differnet.store import Asked, ReviewEntry, Store

# Items that a message names.
_NAMED = 6
_REJECTED = (Verdict.DEFECT, Verdict.OOD)


class ReviewError(DiffernetError):
    """A review of something that is not there, or is not one thing, or that cannot be written down."""


@dataclass(frozen=True)
class LastWord:
    """What was said last of a picture, however often and in how many runs it was inspected.

    Attributes:
        record: The item that it was said of, with its verdict.
        entry: What was said.
    """

    record: Record
    entry: ReviewEntry


@dataclass(frozen=True)
class Located:
    """A judged picture that is where it was, byte for byte what was judged."""

    word: LastWord
    path: Path


@dataclass(frozen=True)
class Lost:
    """A judged picture that cannot be used.

    Attributes:
        path: As recorded.
        reason: In a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Agreement:
    """Verdicts beside what people said of the same pictures.

    Attributes:
        rows: How the program decided (``passed``, ``to review``, ``rejected``, ``invalid``) to how many of
            these people called good, defect and unsure.
        overkill: Pictures called good that were rejected, among those that could be judged.
        escape: Pictures called defect that passed, among those that could be judged.
        passed_defect: Called defect, among the passed that were called good or defect.
        rejected_good: Called good, among the rejected that were called good or defect.
    """

    rows: dict[str, tuple[int, int, int]]
    overkill: Rate
    escape: Rate
    passed_defect: Rate
    rejected_good: Rate


def find_item(store: Store, run_id: str, named: str) -> Record:
    """Find the one item of a run that is meant.

    Args:
        store: The record.
        run_id: Of the run.
        named: Item id, part id, or the path as it was recorded.

    Raises:
        ReviewError: There is none, or several.
        StoreError: There is no such run.
    """
    store.run(run_id)
    found = store.named(run_id, named)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ReviewError(
            expected=f"an item id, a part id or a recorded path of run {run_id}",
            found=named,
            remedy=f"List them: differnet db items --run {run_id} --json",
        )
    listed = ", ".join(f"{record.item_id} ({record.path})" for record in found[:_NAMED])
    raise ReviewError(
        expected=f"one item of run {run_id} named {named}",
        found=f"{len(found)}: {listed}" + (" ..." if len(found) > _NAMED else ""),
        remedy="Give the item id or the path of the one that is meant.",
    )


def last_words(store: Store, asked: Asked) -> list[LastWord]:
    """Return the last word on each picture that is meant, in the order in which the pictures were reviewed.

    A picture goes by its product and the sha256 of its bytes. Whichever runs are asked for, what was said of
    it later in another one counts: nobody learns from a part that has been called a defect since.

    Args:
        store: The record.
        asked: Which items; a picture is meant where any of its items is.
    """
    latest: dict[tuple[str, str], LastWord] = {}
    for record, entry in store.reviewed(Asked()):
        key = _key(record)
        if key not in latest or entry.made_at >= latest[key].entry.made_at:
            latest[key] = LastWord(record, entry)
    meant = {_key(record) for record, _ in store.reviewed(asked)}
    return [word for key, word in latest.items() if key in meant]


def locate(store: Store, words: Iterable[LastWord], root: Path) -> tuple[list[Located], list[Lost]]:
    """Look for pictures where they were when they were inspected, and whether they are still the same.

    Args:
        store: The record; it may know the same picture in several places.
        words: The last word on each.
        root: Where relative paths begin.

    Returns:
        The pictures that are there, and those that are not, each with a reason.
    """
    found: list[Located] = []
    lost: list[Lost] = []
    for word in words:
        record = word.record
        if not record.sha256:
            lost.append(Lost(record.path, "could not be read when it was judged"))
            continue
        held = _held(root / record.path, record.sha256)
        path = root / record.path if held else _elsewhere(store, record.sha256, root)
        if path is not None:
            found.append(Located(word, path))
        elif held is None:
            lost.append(Lost(record.path, "is not there, or cannot be read"))
        else:
            lost.append(Lost(record.path, "is another picture now: its sha256 is not what was judged"))
    return found, lost


def agreement(words: Sequence[LastWord]) -> Agreement:
    """Compare verdicts with what people said.

    Args:
        words: The last word on each picture. Reviewed pictures are hardly ever a random sample of what a line
            makes, so that the rates hold for them alone.
    """
    return verdict_agreement((word.record.verdict, word.entry.judgement) for word in words)


def verdict_agreement(words: Iterable[tuple[Verdict, str]]) -> Agreement:
    """Compare verdicts with what people said, as `agreement`.

    Args:
        words: Verdict and last word on each picture.

    Example:
        >>> told = verdict_agreement([(Verdict.DEFECT, "good"), (Verdict.DEFECT, "defect")])
        >>> told.rows["rejected"], told.overkill.events, told.escape.of
        ((1, 1, 0), 1, 1)
    """
    truths = {"good": Truth.GOOD, "defect": Truth.DEFECT, "unsure": Truth.UNLABELLED}
    pairs = [(int(truths[judgement]), VERDICTS.index(verdict)) for verdict, judgement in words]
    cells = np.array(pairs, dtype=np.int8).reshape(-1, 2)
    counts = tabulate(cells[:, 0], cells[:, 1])

    def told(*verdicts: Verdict) -> tuple[int, int, int]:
        columns = [VERDICTS.index(verdict) for verdict in verdicts]
        good, defect, unsure = (
            int(counts.table[truth][columns].sum()) for truth in (Truth.GOOD, Truth.DEFECT, Truth.UNLABELLED)
        )
        return good, defect, unsure

    passed, rejected = told(Verdict.PASS), told(*_REJECTED)
    return Agreement(
        {
            "passed": passed,
            "to review": told(Verdict.REVIEW),
            "rejected": rejected,
            "invalid": told(Verdict.INVALID),
        },
        counts.overkill,
        counts.escape,
        rate(passed[1], passed[0] + passed[1]),
        rate(rejected[0], rejected[0] + rejected[1]),
    )


def file_sha256(path: Path) -> str | None:
    """Return the sha256 of a file's bytes in hexadecimal digits, ``None`` where it cannot be read."""
    # Another room has the like, and loads torch with it.
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None


def _held(path: Path, sha256: str) -> bool | None:
    found = file_sha256(path)
    return None if found is None else found == sha256


def _elsewhere(store: Store, sha256: str, root: Path) -> Path | None:
    places = dict.fromkeys(record.path for record in store.items(Asked(sha256=sha256), "latest"))
    return next((root / place for place in places if _held(root / place, sha256)), None)


def _key(record: Record) -> tuple[str, str]:
    # What could not be read has no sha256, and is the same as nothing else.
    return record.product, record.sha256 or f"{record.run_id}/{record.item_id}"
