"""Run cases in a process of their own, and know what each took, or which of them killed or hung it.

A case that crashes the interpreter, or never ends, must not take the check with it. Memory is the peak of the
resident set over what was resident when the case began; where the kernel cannot reset its peak it is the
growth of the peak over that of all cases before, which hides what was used before.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

MIB = 2**20
# ru_maxrss counts bytes on macOS, KiB elsewhere.
_UNIT = 1 if sys.platform == "darwin" else 1024

Attempt = Callable[[Any], str]
Prepare = Callable[[Any], Attempt]


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        told: What the attempt returned; ``died`` or ``hung`` where it did not return.
        seconds: That it took.
        extra_mib: Memory beyond what was resident before it.
    """

    told: str
    seconds: float
    extra_mib: float


class Hung(BaseException):
    """A case that took longer than anything may; no handler of ordinary errors swallows it."""


@contextmanager
def hang_guard(seconds: float) -> Iterator[None]:
    """Raise `Hung` in a block that takes too long; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def here(prepare: Prepare, given: Any, cases: Sequence[Any], repeats: int = 1) -> list[Outcome]:
    """Run cases in this process, where a planted fault is met; what else it does blurs the memory."""
    attempt = prepare(given)
    return [_measured(attempt, case, repeats) for case in cases]


def apart(
    prepare: Prepare, given: Any, cases: Sequence[Any], patience: float = 120.0, repeats: int = 1
) -> list[Outcome]:
    """Run cases one after another in a new process.

    Args:
        prepare: Called once there with ``given``; returns what is called with each case. A function of a
            module, found there by its name, that has run what is measured once on a harmless case.
        given: Can be pickled.
        cases: Can be pickled.
        patience: Seconds that a case may take before the process is ended.
        repeats: Tries of a case; its time is the least of them.

    Returns:
        One outcome a case. After a case that killed or hung the process, a new one goes on.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        outcomes += _run_until_it_breaks(prepare, given, cases[len(outcomes) :], patience, repeats)
    return outcomes


@contextmanager
def _main_of_its_own() -> Iterator[None]:
    """Let a new process run nothing of this one's main program: tests of pages put others in its place."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _run_until_it_breaks(
    prepare: Prepare, given: Any, cases: Sequence[Any], patience: float, repeats: int
) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, prepare, given, list(cases), repeats))
    with _main_of_its_own():
        process.start()
    theirs.close()
    outcomes: list[Outcome] = []
    try:
        if not ours.poll(patience) or ours.recv() != "ready":
            raise RuntimeError("the process that runs cases did not start")
        while len(outcomes) < len(cases):
            if not ours.poll(patience):
                return [*outcomes, Outcome("hung", patience, 0.0)]
            try:
                outcomes.append(ours.recv())
            except EOFError:
                return [*outcomes, Outcome("died", 0.0, 0.0)]
        return outcomes
    finally:
        process.kill()
        process.join()
        ours.close()


def _serve(pipe: Connection, prepare: Prepare, given: Any, cases: Sequence[Any], repeats: int) -> None:
    attempt = prepare(given)
    pipe.send("ready")
    for case in cases:
        pipe.send(_measured(attempt, case, repeats))


def _measured(attempt: Attempt, case: Any, repeats: int) -> Outcome:
    told, shortest, extra = "", float("inf"), 0.0
    for _ in range(repeats):
        before = _forget_peak()
        started = time.perf_counter()
        told = attempt(case)
        shortest = min(shortest, time.perf_counter() - started)
        extra = max(extra, (peak() - before) / MIB)
    return Outcome(told, shortest, extra)


def _forget_peak() -> int:
    """Set the kernel's peak to what is resident now, and return that; the peak as it is where that fails."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak()
    return peak()


def peak() -> int:
    """Return the largest resident set in bytes.

    Linux hands a parent's peak down to what it starts, in ru_maxrss but not in VmHWM.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
