"""Keep every threshold that was ever in force, who set it and why, in a file that is only added to.

One line a revision, JSON in ASCII. Each line carries the sha256 of the line before it and its own, so that
a line that was changed, removed, added or moved within the file is noticed when it is read. Nobody can
notice from the file alone that its last lines were cut off together, or that all of it was written anew:
keep the ``sha256`` of the revision in force elsewhere too (records do), and ask `Revisions.history` for it.

Writers take turns by a lock on the file, write a line in one call at its end, and have it on the disk
before they return. A revision that was returned is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from differnet.calibration.thresholds import Suggestion
from differnet.durable import sync_folder
from differnet.records import DiffernetError

_NONE_BEFORE = "0" * 64


class RevisionError(DiffernetError):
    """A file of revisions that is damaged or cannot be written, or a revision that may not be made."""


@dataclass(frozen=True)
class Revision:
    """Thresholds as somebody put them in force.

    Attributes:
        number: From 1, without gaps.
        time: UTC, ISO 8601 with microseconds.
        author: Who set them.
        reason: Why; never empty.
        review, defect: Thresholds on strangeness, ``review <= defect``.
        rule: How they were found.
        promises, cannot: What was promised of them, and what was not.
        model_id: Of the model whose strangeness they are for.
        calibration_id: Of the calibration that it is measured on.
        rolled_back_to: Number of the revision that these thresholds are taken from, if any.
        previous: sha256 of the line before, 64 zeros of the first.
        sha256: Of this line without itself.
    """

    number: int
    time: str
    author: str
    reason: str
    review: float
    defect: float
    rule: str
    promises: tuple[str, ...]
    cannot: tuple[str, ...]
    model_id: str
    calibration_id: str
    rolled_back_to: int | None
    previous: str
    sha256: str


class Revisions:
    """The thresholds of one line, oldest first, in one file.

    Args:
        path: File to read and add to. It is made by the first revision; its folder must exist.

    Example:
        >>> import tempfile
        >>> from differnet.calibration import by_overkill
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = Revisions(Path(folder) / "thresholds.jsonl")
        ...     names = {"author": "Ada", "model_id": "flange-3", "calibration_id": "c-1"}
        ...     first = kept.append(by_overkill(range(99), 0.05, 0.01), reason="start", **names)
        ...     second = kept.append(by_overkill(range(99), 0.10, 0.02), reason="too few reviews", **names)
        ...     third = kept.rollback(1, author="Ada", reason="reviewers drowned")
        ...     (third.number, third.review == first.review, third.rolled_back_to, len(kept.history()))
        (3, True, 1, 3)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(
        self,
        suggestion: Suggestion,
        *,
        author: str,
        reason: str,
        model_id: str,
        calibration_id: str,
        after: int | None = None,
    ) -> Revision:
        """Put thresholds in force.

        Args:
            suggestion: Thresholds with their promises.
            author: Who sets them.
            reason: Why.
            model_id: Of the model whose strangeness they are for.
            calibration_id: Of the calibration that it is measured on.
            after: Number of the last revision that the author knows of, 0 for none: of two people who decide
                at once the second is told of the first. ``None`` does not ask.

        Returns:
            The revision, on the disk.

        Raises:
            RevisionError: A name or the reason is empty, a threshold is not finite, ``review`` lies above
                ``defect``, somebody set others meanwhile, the file is damaged, or the disk refused. The file
                is then as it was.
        """
        return self._add(
            asdict(suggestion)
            | {
                "author": author,
                "reason": reason,
                "model_id": model_id,
                "calibration_id": calibration_id,
                "rolled_back_to": None,
            },
            after,
        )

    def rollback(self, number: int, *, author: str, reason: str, after: int | None = None) -> Revision:
        """Put the thresholds of an earlier revision in force again, as a new revision.

        Nothing is removed. The model and the calibration are those of that revision: thresholds of one
        model say nothing of another's strangeness.

        Args:
            number: Of the earlier revision.
            author: Who rolls back.
            reason: Why.
            after: As in `append`.

        Raises:
            RevisionError: There is no such revision, or as `append`.
        """
        earlier = next((r for r in self.history() if r.number == number), None)
        if earlier is None:
            raise RevisionError(
                expected=f"a revision of {self.path}",
                found=f"number {number} of {len(self.history())}",
                remedy="Choose a number from its history.",
            )
        return self._add(
            asdict(earlier) | {"author": author, "reason": reason, "rolled_back_to": number}, after
        )

    def history(self, holding: str | None = None) -> tuple[Revision, ...]:
        """Return every revision, oldest first; none where there is no file.

        Args:
            holding: sha256 of a revision that was kept elsewhere: that the file still has it shows that
                nothing up to it was cut off or written anew.

        Raises:
            RevisionError: A line was changed, removed, moved or torn, or the one kept elsewhere is missing.
        """
        try:
            with self.path.open("rb") as stream, _locked(stream.fileno(), shared=True):
                revisions = self._read(stream.read())
        except FileNotFoundError:
            revisions = ()
        except OSError as error:
            raise self._refused(error) from error
        if holding is not None and all(r.sha256 != holding for r in revisions):
            raise RevisionError(
                expected=f"the revision {holding[:12]} in {self.path}",
                found=f"{len(revisions)} revisions without it",
                remedy="Lines were cut off or written anew: restore the file from a backup.",
            )
        return revisions

    def current(self) -> Revision | None:
        """Return the revision in force, the last one; ``None`` before the first.

        Raises:
            RevisionError: The file is damaged anywhere.
        """
        return next(reversed(self.history()), None)

    def _add(self, facts: dict[str, Any], after: int | None) -> Revision:
        self._check(facts)
        made = not self.path.exists()
        try:
            # Unbuffered, so that one call writes the line; O_APPEND, so that it is written at the end.
            with self.path.open("a+b", buffering=0) as stream, _locked(stream.fileno(), shared=False):
                stream.seek(0)
                content = stream.read()
                before = self._read(content)
                _require_last(before, after)
                revision = self._next(facts, before)
                self._write(stream.fileno(), _line(revision), len(content))
            if made:
                sync_folder(self.path.parent)
        except OSError as error:
            raise self._refused(error) from error
        return revision

    def _next(self, facts: dict[str, Any], before: tuple[Revision, ...]) -> Revision:
        facts = facts | {
            "number": len(before) + 1,
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "previous": before[-1].sha256 if before else _NONE_BEFORE,
            "review": float(facts["review"]),
            "defect": float(facts["defect"]),
            "sha256": "",
        }
        return Revision(**(facts | {"sha256": _digest(Revision(**facts))}))

    def _write(self, handle: int, line: bytes, length: int) -> None:
        try:
            written = os.write(handle, line)
            if written != len(line):
                raise OSError(f"{written} of {len(line)} bytes written")
            os.fsync(handle)
        except OSError:
            # The lock is held: what lies behind the old end is this line and nobody else's.
            os.ftruncate(handle, length)
            raise

    def _read(self, content: bytes) -> tuple[Revision, ...]:
        if not content:
            return ()
        *lines, rest = content.split(b"\n")
        if rest:
            self._damaged(
                len(lines) + 1, "is cut off", "It was never in force: remove the unfinished last line."
            )
        revisions: list[Revision] = []
        for number, line in enumerate(lines, 1):
            revision = self._parsed(number, line)
            before = revisions[-1].sha256 if revisions else _NONE_BEFORE
            if revision.number != number or revision.previous != before:
                self._damaged(number, f"says it is number {revision.number}, and follows another line")
            revisions.append(revision)
        return tuple(revisions)

    def _parsed(self, number: int, line: bytes) -> Revision:
        try:
            told = json.loads(line)
            told |= {name: tuple(told[name]) for name in ("promises", "cannot")}
            revision = Revision(**told)
            # Written again, so that every byte counts: another order, a number spelt otherwise, a key twice.
            same = _line(revision) == line + b"\n" and _digest(revision) == revision.sha256
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
            self._damaged(number, "is no revision")
        if not same:
            self._damaged(number, "is not what was written: its sha256 differs")
        return revision

    def _damaged(
        self,
        number: int,
        what: str,
        remedy: str = "Restore the file from a backup; nothing in it is trusted.",
    ) -> NoReturn:
        raise RevisionError(
            expected=f"an unbroken chain of revisions in {self.path}",
            found=f"line {number} {what}",
            remedy=remedy,
        )

    def _check(self, facts: dict[str, Any]) -> None:
        empty = [n for n in ("author", "reason", "model_id", "calibration_id") if not str(facts[n]).strip()]
        if empty:
            raise RevisionError(
                expected="an author, a reason, a model and a calibration",
                found=f"no {', no '.join(empty)}",
                remedy="Say who sets the thresholds, why, and for what.",
            )
        review, defect = facts["review"], facts["defect"]
        if not (math.isfinite(review) and math.isfinite(defect) and review <= defect):
            raise RevisionError(
                expected="two finite thresholds, that of the review not above that of defects",
                found=f"review {review}, defect {defect}",
                remedy="Set both to the same strangeness to review nothing.",
            )

    def _refused(self, error: OSError) -> RevisionError:
        return RevisionError(
            expected=f"to read and write {self.path}",
            found=f"{type(error).__name__}: {error.strerror or error}",
            remedy="Check free space and permissions of its folder.",
        )


def _require_last(before: tuple[Revision, ...], after: int | None) -> None:
    if after is None or len(before) == after:
        return
    last = f"revision {before[-1].number} by {before[-1].author}" if before else "none"
    raise RevisionError(
        expected=f"revision {after} to be the last, as the author saw it" if after else "no revision yet",
        found=last,
        remedy="Somebody set other thresholds meanwhile: look at those, and decide again.",
    )


def _line(revision: Revision) -> bytes:
    return json.dumps(asdict(revision), allow_nan=False).encode("ascii") + b"\n"


def _digest(revision: Revision) -> str:
    told = {f.name: getattr(revision, f.name) for f in fields(Revision) if f.name != "sha256"}
    return hashlib.sha256(json.dumps(told, allow_nan=False).encode("ascii")).hexdigest()


@contextmanager
def _locked(handle: int, *, shared: bool) -> Iterator[None]:
    """Hold the file's lock, with other readers if ``shared``; closing the file gives it back as well."""
    if os.name == "nt":
        # Windows has no flock. Two writers at once make two lines of one number there, which is noticed.
        yield
        return
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)
