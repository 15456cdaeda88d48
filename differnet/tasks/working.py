"""The process of one task: take it, do it, and say how it ended."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from differnet.records import DiffernetError
from differnet.store import Store, StoreError
from differnet.store.tasks import State, TaskEntry, Tasks
from differnet.tasks.course import Course, StoppedError
from differnet.tasks.kinds import TRAININGS, kind_of, read_wish
from differnet.tasks.starting import machine, take_up, trainings_at_once

Found = TypeVar("Found")

_AWAY = 90.0
"""Seconds for which the record may be busy or away when a task ends: a server is started anew in less."""

_PATIENCE = 0.5

# Half the share of what somebody waits for, such as the dashboard; with nothing else to do it is as fast.
_NICE = 3

log = logging.getLogger(__name__)


def work_on(store: Store, task_id: str, ended: threading.Event | None = None) -> State | None:
    """Do a task, and say in the record how it ended; then start those that waited for it.

    Args:
        store: The record.
        task_id: Which task.
        ended: Set when the process is asked to end.

    Returns:
        How it ended; ``None`` where another process has it, or it is not its turn.

    Raises:
        StoreError: There is no such task, or the record cannot be written.
    """
    tasks = Tasks(store)
    owner = f"{machine()}:{os.getpid()}-{secrets.token_hex(4)}"
    entry = tasks.get(task_id)
    heavy = entry.kind in TRAININGS
    taken = tasks.take(task_id, owner, TRAININGS if heavy else (), trainings_at_once() if heavy else None)
    if taken is None:
        log.info("%s is not to be done now, or is done by another process", task_id)
        return None
    log.info("%s: %s, asked for by %s", task_id, taken.title, taken.author)
    state, reason, outcome = _carried_out(tasks, taken, store, owner, ended)
    _patiently(lambda: _say(tasks, taken, state, reason, outcome))
    log.info("%s: %s", task_id, state)
    take_up(store)
    return state


def told_error(error: Exception) -> dict[str, str]:
    """Say what went wrong, as the record keeps it: ``kind``, ``expected``, ``found`` and ``remedy``.

    Example:
        >>> told_error(ZeroDivisionError("division by zero"))["found"]
        'ZeroDivisionError: division by zero'
    """
    kind = type(error).__name__
    if isinstance(error, DiffernetError):
        return {"kind": kind, "expected": error.expected, "found": error.found, "remedy": error.remedy}
    if isinstance(error, OSError):
        expected, remedy = "the system to allow it", "Check paths, permissions and free space."
        name = f" ({error.filename})" if error.filename else ""
        found = f"{kind}: {error.strerror or error}{name}"
    elif isinstance(error, MemoryError):
        expected, found = "enough memory", "none left"
        remedy = "Close other programs, or choose a smaller picture size."
    else:
        expected, found = "no error that differnet does not know", f"{kind}: {error}"
        remedy = "This is a bug. The log of the task shows where it came from; please report it."
    return {"kind": kind, "expected": expected, "found": found, "remedy": remedy}


def _carried_out(
    tasks: Tasks, taken: TaskEntry, store: Store, owner: str, ended: threading.Event | None
) -> tuple[State, str, dict[str, Any]]:
    try:
        kind, wish = kind_of(taken.kind), read_wish(taken.kind, taken.wish)
        with Course(tasks, taken.task_id, owner, ended) as course:
            outcome = kind.work(wish, store, course)
        # Here, so that what the record cannot keep is told as a failure.
        return "done", "", json.loads(json.dumps(outcome, allow_nan=False))
    except StoppedError as stopped:
        return "stopped", str(stopped), {}
    except KeyboardInterrupt:
        return "stopped", "its process was asked twice to end", {}
    except Exception as error:
        log.exception("%s failed", taken.task_id)
        told = told_error(error)
        reason = f"expected {told['expected']}; found {told['found']}. {told['remedy']}"
        return "failed", reason, {"error": told}


def _say(tasks: Tasks, taken: TaskEntry, state: State, reason: str, outcome: dict[str, Any]) -> bool:
    if state == "done":
        return tasks.finish(taken.task_id, taken.owner, outcome)
    say = tasks.stop if state == "stopped" else tasks.fail
    return say(taken.task_id, taken.owner, reason, outcome)


def _patiently(step: Callable[[], Found]) -> Found:
    """Take a step of the record once more while it is busy or away."""
    deadline = time.monotonic() + _AWAY
    while True:
        try:
            return step()
        except StoreError as error:
            if not error.passing or time.monotonic() > deadline:
                raise
            time.sleep(_PATIENCE)


@contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """Turn the first SIGTERM or SIGINT into a wish to end at the next step; the second one ends at once."""
    asked = threading.Event()

    def ask(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    kinds = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(kind, ask) for kind in kinds]
    try:
        yield asked
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def step_back() -> None:
    """Let other programs of this machine go first."""
    if hasattr(os, "nice"):
        # A container may forbid it; then the machine is shared evenly.
        with suppress(OSError):
            os.nice(_NICE)
