"""Thresholds that were in force: nothing is lost, nothing is changed unnoticed, writers do not tear."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from differnet.calibration import RevisionError, Revisions, Suggestion, revisions

PLAIN = Suggestion(1.5, 2.5, "overkill: 5 % and 1 %", ("1 % of good parts.",), ("No escapes.", "Drift."))
NAMES: dict[str, Any] = {"author": "Ada", "model_id": "flange-3", "calibration_id": "c-1"}


def three(folder: Path) -> Revisions:
    kept = Revisions(folder / "thresholds.jsonl")
    kept.append(PLAIN, reason="start", **NAMES)
    kept.append(replace(PLAIN, review=1.0, defect=1.0), reason="Grüße\nin two lines", **NAMES)
    kept.rollback(1, author="Bob", reason="too many reviews")
    return kept


def test_what_was_written_is_read(tmp_path: Path) -> None:
    kept = three(tmp_path)
    first, second, third = kept.history()
    assert (first.number, first.review, first.defect, first.reason) == (1, 1.5, 2.5, "start")
    assert (first.promises, first.cannot, first.rule) == (PLAIN.promises, PLAIN.cannot, PLAIN.rule)
    assert second.reason == "Grüße\nin two lines"
    assert second.previous == first.sha256
    assert first.time <= second.time <= third.time
    assert first.time.endswith("+00:00")
    # A line each, whatever was typed.
    assert len(kept.path.read_bytes().splitlines()) == 3


def test_rollback_is_a_new_revision_of_the_old_thresholds(tmp_path: Path) -> None:
    kept = three(tmp_path)
    first, _, third = kept.history()
    assert kept.current() == third
    assert (third.number, third.rolled_back_to, third.author) == (3, 1, "Bob")
    same = ("review", "defect", "rule", "promises", "cannot", "model_id", "calibration_id")
    assert [getattr(third, name) for name in same] == [getattr(first, name) for name in same]
    assert third.reason == "too many reviews"
    for number in (0, 4, -1):
        with pytest.raises(RevisionError, match=f"number {number} of 3"):
            kept.rollback(number, author="Bob", reason="back")


def test_of_two_who_decide_at_once_the_second_is_told_of_the_first(tmp_path: Path) -> None:
    kept = Revisions(tmp_path / "thresholds.jsonl")
    first = kept.append(PLAIN, reason="start", after=0, **NAMES)
    for late in (0, 2):
        with pytest.raises(RevisionError, match="revision 1 by Ada"):
            kept.append(PLAIN, reason="at once", after=late, **NAMES)
    with pytest.raises(RevisionError, match="revision 1 by Ada"):
        kept.rollback(1, author="Bob", reason="back", after=0)
    assert kept.history() == (first,)
    second = kept.append(PLAIN, reason="knows", after=1, **NAMES)
    third = kept.rollback(1, author="Bob", reason="back", after=2)
    assert kept.history() == (first, second, third)
    with pytest.raises(RevisionError, match="none"):
        Revisions(tmp_path / "other.jsonl").append(PLAIN, reason="none yet", after=1, **NAMES)


def test_no_file_is_no_history(tmp_path: Path) -> None:
    kept = Revisions(tmp_path / "thresholds.jsonl")
    assert kept.history() == ()
    assert kept.current() is None
    with pytest.raises(RevisionError):
        kept.rollback(1, author="Bob", reason="back")
    assert not kept.path.exists()


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    kept = three(tmp_path)
    content = kept.path.read_bytes()
    for place, byte in enumerate(content):
        flipped = byte ^ (1 << place % 8)
        kept.path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        with pytest.raises(RevisionError):
            kept.history()


def test_missing_moved_repeated_and_torn_lines_are_noticed(tmp_path: Path) -> None:
    kept = three(tmp_path)
    a, b, c = kept.path.read_bytes().splitlines(keepends=True)
    for lines in (
        [b, c],
        [a, c],
        [b, a, c],
        [a, c, b],
        [a, a, b, c],
        [a, b, c, c],
        [a, b, b"\n", c],
        [b"\n"],
    ):
        kept.path.write_bytes(b"".join(lines))
        with pytest.raises(RevisionError, match="line"):
            kept.history()
    for cut in (1, len(c) - 1):
        kept.path.write_bytes(a + b + c[:cut])
        with pytest.raises(RevisionError, match="line 3 is cut off") as torn:
            kept.current()
        assert "remove the unfinished last line" in torn.value.remedy
        with pytest.raises(RevisionError):
            kept.append(PLAIN, reason="on top", **NAMES)
        assert kept.path.read_bytes() == a + b + c[:cut]


def test_whole_lines_of_another_file_and_forged_numbers_are_noticed(tmp_path: Path) -> None:
    """A line that is sound in itself must follow this line and no other, and be the next."""
    kept = three(tmp_path)
    (tmp_path / "other").mkdir()
    foreign = three(tmp_path / "other").path.read_bytes().splitlines(keepends=True)
    a, b, c = kept.path.read_bytes().splitlines(keepends=True)
    for lines in ([a, b, foreign[2]], [a, foreign[1], c], [foreign[0], b, c]):
        kept.path.write_bytes(b"".join(lines))
        with pytest.raises(RevisionError, match="follows another line"):
            kept.history()
    kept.path.write_bytes(a + b + c)
    third = replace(kept.history()[2], number=4)
    forged = replace(third, sha256=revisions._digest(third))
    kept.path.write_bytes(a + b + revisions._line(forged))
    with pytest.raises(RevisionError, match="line 3 says it is number 4"):
        kept.history()


def test_lines_cut_off_together_are_noticed_by_who_kept_the_last_sha256(tmp_path: Path) -> None:
    kept = three(tmp_path)
    last = kept.history()[-1].sha256
    assert len(kept.history(holding=last)) == 3
    kept.path.write_bytes(b"".join(kept.path.read_bytes().splitlines(keepends=True)[:2]))
    assert len(kept.history()) == 2
    with pytest.raises(RevisionError, match=last[:12]):
        kept.history(holding=last)
    kept.path.unlink()
    with pytest.raises(RevisionError):
        kept.history(holding=last)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"number": 1}',
        b"NaN",
        b'{"promises": 1}',
    ],
    ids=lambda line: line[:8].decode("latin-1"),
)
def test_what_is_no_revision_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "thresholds.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(RevisionError, match="line 1 is no revision"):
        Revisions(path).history()


def test_equal_json_written_otherwise_is_refused(tmp_path: Path) -> None:
    kept = three(tmp_path)
    a, b, c = kept.path.read_text().splitlines()
    told = json.loads(b)
    other = (
        json.dumps(told, separators=(",", ":")),
        json.dumps(told, sort_keys=True),
        b.replace('"review": 1.0', '"review": 1.00'),
        b.replace('"review": 1.0', '"review": 9.0, "review": 1.0'),
        json.dumps(told | {"more": 1}),
    )
    for line in other:
        assert line != b
        kept.path.write_text(f"{a}\n{line}\n{c}\n")
        with pytest.raises(RevisionError, match="line 2"):
            kept.history()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, {"reason": ""}),
        ({}, {"reason": " \n"}),
        ({}, {"author": ""}),
        ({}, {"model_id": ""}),
        ({}, {"calibration_id": " "}),
        ({"review": float("nan")}, {}),
        ({"defect": float("inf")}, {}),
        ({"review": 3.0}, {}),
    ],
)
def test_revisions_without_reason_or_sense_are_refused(
    tmp_path: Path, change: dict[str, Any], names: dict[str, str]
) -> None:
    kept = three(tmp_path)
    before = kept.path.read_bytes()
    with pytest.raises(RevisionError):
        kept.append(replace(PLAIN, **change), **({"reason": "why"} | NAMES | names))
    with pytest.raises(RevisionError):
        kept.rollback(1, author="Bob", reason="")
    assert kept.path.read_bytes() == before


def test_writers_take_turns(tmp_path: Path) -> None:
    """Four threads and two processes, ten revisions each: 60 lines, one chain."""
    kept = Revisions(tmp_path / "thresholds.jsonl")
    program = (
        "import sys; from differnet.calibration import Revisions, Suggestion\n"
        "told = Suggestion(1.0, 2.0, 'r', ('p.',), ())\n"
        "for i in range(10): Revisions(sys.argv[1]).append("
        "told, author='x', reason=f'process {i}', model_id='m', calibration_id='c')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(kept.path)]) for _ in range(2)]

    def write(name: str) -> None:
        for i in range(10):
            kept.append(PLAIN, reason=f"{name} {i}", **NAMES)

    threads = [threading.Thread(target=write, args=(f"thread {k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in running] == [0, 0]
    assert [r.number for r in kept.history()] == list(range(1, 61))


@pytest.mark.parametrize("where", ["fsync", "write", "short"])
def test_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    kept = three(tmp_path)
    before = kept.path.read_bytes()
    write = os.write

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "short":
            patch.setattr(os, "write", lambda handle, line: write(handle, line[:7]))
        else:
            patch.setattr(os, where, full)
        with pytest.raises(RevisionError) as refused:
            kept.append(PLAIN, reason="full", **NAMES)
    assert str(kept.path) in refused.value.expected
    assert kept.path.read_bytes() == before
    assert kept.append(PLAIN, reason="room again", **NAMES).number == 4


def test_a_revision_is_on_the_disk_before_it_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is synced with all its bytes written, and the folder after the file was made."""
    kept = Revisions(tmp_path / "thresholds.jsonl")
    synced: list[int] = []
    true = os.fsync

    def watch(handle: int) -> None:
        told = os.fstat(handle)
        synced.append(-1 if stat.S_ISDIR(told.st_mode) else told.st_size)
        true(handle)

    monkeypatch.setattr(os, "fsync", watch)
    kept.append(PLAIN, reason="start", **NAMES)
    assert synced == [len(kept.path.read_bytes()), -1]


def test_folder_that_is_missing_or_in_the_way_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(RevisionError, match="permissions of its folder"):
        Revisions(tmp_path / "none" / "thresholds.jsonl").append(PLAIN, reason="start", **NAMES)
    with pytest.raises(RevisionError):
        Revisions(tmp_path).history()
