"""Decoding in processes of their own, under limits of memory and time.

A codec that crashes, or that a file sends round in circles, costs one process and that picture; the process
is replaced. Pixels come back through memory that both share, or through a pipe: neither leaves anything to
clean up after a crash.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from differnet.images.headers import ImageError, Refusal
from differnet.images.reading import ReadingRule
from differnet.images.shared_pixels import SharedPixels
from differnet.records import DiffernetError, Picture


class DecoderError(DiffernetError):
    """Raised when no process can be started to decode in; that is no fault of the pictures'."""


@dataclass(frozen=True)
class Refused:
    """A file that is no picture, judged INVALID without being opened again.

    Attributes:
        path: The file.
        error: Why.
        sha256: Of its bytes, empty where even they could not be read.
    """

    path: Path
    error: ImageError
    sha256: str = ""


@dataclass(frozen=True)
class Limits:
    """What decoding one picture may take.

    Attributes:
        memory: Bytes that a process may address, its own libraries included; 0 for no limit. By default six
            times what the largest picture that is read takes.
        seconds: Until its process is ended.
    """

    memory: int = 4 * 2**30
    seconds: float = 60.0


_USUAL_LIMITS = Limits()
_PIPE = 2**20
# Pictures of all decoders that lie in shared memory at a time; what more there are goes through pipes.
_SLOTS = 64
# glibc gives large blocks back to the system at once and asks for the next picture's anew: a third of what
# decoding 5 million pixels takes. A decoder keeps those of pictures up to 8 million (older versions of glibc
# allow no more); what it may take in all is limited all the same.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20)}

READY = b"ready\n"
"""What a new process says first: whatever ends it before is no fault of a picture's."""


class Decoders:
    """Processes that decode files, used in a ``with`` statement.

    Args:
        rule: How pictures are read.
        count: How many processes.
        limits: What a picture may take.

    Example:
        >>> with Decoders(ReadingRule(), count=1) as decoders:
        ...     decoders.decode(Path("nowhere.png")).result().error.reason.value
        'missing'
    """

    def __init__(self, rule: ReadingRule, count: int = 1, limits: Limits = _USUAL_LIMITS) -> None:
        self._free: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        slots = max(1, _SLOTS // count)
        self._all = [_Decoder(rule, limits, slots) for _ in range(count)]
        for decoder in self._all:
            self._free.put(decoder)
        self._threads = ThreadPoolExecutor(max_workers=count, thread_name_prefix="decoding")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def decode(self, path: Path) -> Future[Picture | Refused]:
        """Begin to decode a file; the picture, or why there is none, is the future's result.

        The future raises `DecoderError` where the system does not let a process start.
        """
        return self._threads.submit(self._decode, path)

    def close(self) -> None:
        """End the processes. What was not begun is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for decoder in self._all:
            decoder.close()
        self._threads.shutdown(wait=True)

    def _decode(self, path: Path) -> Picture | Refused:
        decoder = self._free.get()
        try:
            return decoder.decode(path)
        finally:
            self._free.put(decoder)


class _Decoder:
    """One process, begun when it is first needed and after each one that ended."""

    def __init__(self, rule: ReadingRule, limits: Limits, slots: int) -> None:
        self._rule = rule.to_json()
        self._limits = limits
        self._shared = SharedPixels.if_possible(slots)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._ready = False
        self._starting = threading.Lock()

    def decode(self, path: Path) -> Picture | Refused:
        # Twice: somebody may have ended the process for no fault of the file's.
        found = self._decode_once(path)
        if found is None or (isinstance(found, Refused) and found.error.reason is Refusal.CRASHED):
            found = self._decode_once(path)
        if found is None:
            raise _not_started("one that ended, or was silent, before it was asked anything")
        return found

    def _decode_once(self, path: Path) -> Picture | Refused | None:
        """Return the picture or why there is none, and ``None`` where no process came to ask for it."""
        process = self._started()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limits.seconds, end)
        timer.daemon = True
        timer.start()
        try:
            if not self._ready:
                _hear(process)
                self._ready = True
            return _ask(process, path, self._rule, self._shared)
        except (EOFError, OSError):
            # Whatever the system calls a pipe with nobody at its other end.
            ended = self._ended(process, late.is_set())
            return Refused(path, ended) if self._ready else None
        finally:
            timer.cancel()

    def close(self) -> None:
        with self._starting:
            self._closed = True
            if self._process is not None:
                _end(self._process)
            if self._shared is not None:
                self._shared.close()
                self._shared = None

    def _started(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._closed:
                raise RuntimeError("the decoders are closed")
            if self._process is None or self._process.poll() is not None:
                if self._process is not None:
                    _end(self._process)
                limits = (str(self._limits.memory), str(math.ceil(self._limits.seconds)))
                self._process, self._ready = _start(limits, self._shared), False
            return self._process

    def _ended(self, process: subprocess.Popen[bytes], late: bool) -> ImageError:
        process.kill()
        status = process.wait()
        if late:
            return ImageError(
                Refusal.TOO_SLOW,
                expected=f"a picture that is decoded within {self._limits.seconds:g} s",
                found="one that was not, and whose decoder was ended",
                remedy="Save it again with another program, or scale it down.",
            )
        how = f"by signal {-status}" if status < 0 else f"with exit code {status}"
        return ImageError(
            Refusal.CRASHED,
            expected="a picture that a decoder survives",
            found=f"one whose decoder ended {how}",
            remedy="Save it again with another program; it may be damaged, or made to do harm.",
        )


def _start(limits: Sequence[str], shared: SharedPixels | None) -> subprocess.Popen[bytes]:
    # One thread each: there are as many decoders as are wanted.
    environment = {**_KEPT_MEMORY, **os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    handles = [] if shared is None else [shared.handle]
    words = [*limits, *map(str, handles)]
    try:
        process = subprocess.Popen(
            # -P: a file that lies where the job was started is no module of this program.
            [sys.executable, "-P", "-m", "differnet.images.decoder_process", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=handles,
            # Ctrl-C on the terminal is for the job alone.
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(f"{type(error).__name__}: {error.strerror or error}") from error
    _widen(process)
    return process


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Let a pipe hold a mebibyte where the system can: a picture is many, and every wait costs."""
    if process.stdout is None or not sys.platform.startswith("linux"):
        return
    import fcntl

    # An unprivileged user may be allowed less.
    with contextlib.suppress(OSError):
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _not_started(found: str) -> DecoderError:
    return DecoderError(
        expected="a process that decodes pictures",
        found=found,
        remedy="Look at free memory, open files and processes of this machine, then go on: nothing is lost.",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                # A question that nobody is left to read.
                continue


def _hear(process: subprocess.Popen[bytes]) -> None:
    """Wait for a new process to say that it can be asked."""
    if process.stdout is None or process.stdout.readline() != READY:
        raise EOFError


def _ask(
    process: subprocess.Popen[bytes], path: Path, rule: dict[str, Any], shared: SharedPixels | None
) -> Picture | Refused:
    questions, answers = process.stdin, process.stdout
    if questions is None or not isinstance(answers, BufferedReader):
        raise EOFError
    slot = None if shared is None else shared.take()
    pixels: NDArray[Any] | None = None
    try:
        question = {"path": str(path), "rule": rule, "slot": slot}
        questions.write(json.dumps(question).encode("ascii") + b"\n")
        questions.flush()
        line = answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        facts = json.loads(line)
        if "reason" in facts:
            sha256 = facts.pop("sha256")
            return Refused(path, ImageError(Refusal(facts.pop("reason")), **facts), sha256)
        lies = facts.pop("pixels")
        there = lies.pop("shared")
        if not there:
            return Picture(**{**facts, "pixels": _read_pixels(answers, **lies), "path": path})
        if shared is None or slot is None:
            raise EOFError
        pixels = shared.picture(slot, **lies)
        return Picture(**{**facts, "pixels": pixels, "path": path})
    finally:
        if shared is not None and slot is not None and pixels is None:
            shared.give_back(slot)


def _read_pixels(answers: BufferedReader, shape: list[int], dtype: str) -> NDArray[Any]:
    pixels = np.empty(shape, np.dtype(dtype))
    view = pixels.data.cast("B")
    filled = 0
    while filled < len(view):
        count = answers.readinto(view[filled:])
        if not count:
            raise EOFError
        filled += count
    return pixels
