"""A step of a program that fails: the n-th open, write, sync, rename, process or question to the record."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE)

# What SQLite says where the system says one of these.
_SQLITE = {
    errno.ENOSPC: "database or disk is full",
    errno.EIO: "disk I/O error",
    errno.EACCES: "attempt to write a readonly database",
    errno.EMFILE: "unable to open database file",
}

FILES = ("folder", "open", "write", "flush", "sync", "mode", "rename", "list")
RECORD = ("connect", "execute", "commit", "answer")
KINDS = (*FILES, "process", *RECORD)
"""Steps that can fail. ``answer`` is a commit that took place and whose answer is an error all the same."""


class Faults:
    """Lets one step fail, within a ``with`` statement.

    Args:
        kind: Of `KINDS`.
        step: Which of its steps, from 0.
        number: Of the error, of `ERRORS`.
        below: Folders, opens and lists count where they are of something below this one.
        onwards: Whether all later steps of the kind fail as well, as on a disk that stays full.
    """

    def __init__(self, kind: str, step: int, number: int, below: Path, *, onwards: bool = False) -> None:
        self.counted = 0
        self.hit = False
        self._kind = kind
        self._step = step
        self._number = number
        self._below = below
        self._onwards = onwards
        self._counting = threading.Lock()
        self._undone = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            getattr(self, f"_prepare_{self._kind}")(stack)
            self._undone = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undone.close()

    def fails(self) -> bool:
        """Count a step, and tell whether it fails."""
        with self._counting:
            here = self.counted
            self.counted += 1
            failing = here >= self._step if self._onwards else here == self._step
            self.hit |= failing
        return failing

    def _system(self, path: object = None) -> None:
        if self.fails():
            raise OSError(self._number, os.strerror(self._number), path)

    def _record(self) -> None:
        if self.fails():
            raise sqlite3.OperationalError(_SQLITE[self._number])

    def _is_below(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).absolute().is_relative_to(self._below)

    def _around(self, stack: ExitStack, owner: Any, name: str, *, below: bool = False) -> None:
        true = getattr(owner, name)

        def asked(*given: Any, **named: Any) -> Any:
            if not below or (given and self._is_below(given[0])):
                self._system(given[0] if below else None)
            return true(*given, **named)

        stack.enter_context(patch.object(owner, name, asked))

    def _prepare_folder(self, stack: ExitStack) -> None:
        self._around(stack, os, "mkdir", below=True)

    def _prepare_open(self, stack: ExitStack) -> None:
        self._around(stack, os, "open", below=True)
        self._around(stack, io, "open", below=True)

    def _prepare_list(self, stack: ExitStack) -> None:
        self._around(stack, os, "scandir", below=True)

    def _prepare_sync(self, stack: ExitStack) -> None:
        self._around(stack, os, "fsync")

    def _prepare_mode(self, stack: ExitStack) -> None:
        self._around(stack, Path, "chmod")

    def _prepare_rename(self, stack: ExitStack) -> None:
        self._around(stack, Path, "replace")
        self._around(stack, Path, "rename")

    def _prepare_process(self, stack: ExitStack) -> None:
        self._around(stack, subprocess, "Popen")

    def _prepare_write(self, stack: ExitStack) -> None:
        self._around(stack, os, "write")
        self._prepare_streams(stack, ("write", "truncate"))

    def _prepare_flush(self, stack: ExitStack) -> None:
        self._prepare_streams(stack, ("flush",))

    def _prepare_streams(self, stack: ExitStack, steps: tuple[str, ...]) -> None:
        true: Callable[..., Any] = io.open

        def opened(place: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
            stream = true(place, mode, *given, **named)
            ours = ("r" not in mode or "+" in mode) and self._ours(place)
            return _Stream(stream, steps, self._system) if ours else stream

        # Of `Path.open` and `os.fdopen`.
        stack.enter_context(patch.object(io, "open", opened))

    def _ours(self, place: object) -> bool:
        if isinstance(place, int):
            link = Path(f"/proc/self/fd/{place}")
            return self._is_below(link.readlink()) if link.is_symlink() else True
        return self._is_below(place)

    def _prepare_connect(self, stack: ExitStack) -> None:
        self._listen(stack, "do_connect")

    def _prepare_execute(self, stack: ExitStack) -> None:
        for name in ("do_execute", "do_execute_no_params", "do_executemany"):
            self._listen(stack, name)

    def _listen(self, stack: ExitStack, name: str) -> None:
        def asked(*_: Any) -> None:
            self._record()

        event.listen(Engine, name, asked)
        stack.callback(event.remove, Engine, name, asked)

    def _prepare_commit(self, stack: ExitStack) -> None:
        true: Callable[[Any, Any], None] = DefaultDialect.do_commit

        def commit(dialect: Any, connection: Any) -> None:
            self._record()
            true(dialect, connection)

        stack.enter_context(patch.object(DefaultDialect, "do_commit", commit))

    def _prepare_answer(self, stack: ExitStack) -> None:
        true: Callable[[Any, Any], None] = DefaultDialect.do_commit

        def commit(dialect: Any, connection: Any) -> None:
            true(dialect, connection)
            self._record()

        stack.enter_context(patch.object(DefaultDialect, "do_commit", commit))


class _Stream:
    """A stream some of whose steps fail."""

    def __init__(self, stream: Any, steps: tuple[str, ...], refuse: Callable[[], None]) -> None:
        self._stream = stream
        self._steps = steps
        self._refuse = refuse

    def __getattr__(self, name: str) -> Any:
        true = getattr(self._stream, name)
        if name not in self._steps:
            return true

        def step(*given: Any) -> Any:
            self._refuse()
            return true(*given)

        return step

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(self, *told: Any) -> None:
        self._stream.__exit__(*told)
