"""The process in which files are decoded: whatever a codec does to it, the job that asked goes on.

Run by `differnet.images.decoders` as ``python -P -m differnet.images.decoder_process BYTES SECONDS`` and the
handle of shared memory, where there is some, it answers one question after another until its input ends. It
says that it is ready; a question is a line of JSON, the answer a line of JSON, that is followed by the pixels
unless they lie in that memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from differnet.images.decoders import READY
from differnet.images.headers import ImageError
from differnet.images.reading import ReadingRule, file_hash, read_image
from differnet.images.shared_pixels import put
from differnet.records import Picture

try:
    import resource
except ImportError:  # Windows has no such limits.
    resource = None  # type: ignore[assignment]

# The parent ends a process that takes too long; this is for one whose parent was killed meanwhile.
_GRACE = 5


def main() -> None:
    """Answer questions from standard input, on what was standard output."""
    # The job is asked to end, and ends this by closing the pipe when it has what it wants.
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    memory, seconds, *handles = (int(word) for word in sys.argv[1:])
    limit_memory(memory)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a codec prints must not stand among the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answers.write(READY)
    answers.flush()
    for question in sys.stdin.buffer:
        with _no_longer_than(seconds):
            answer(json.loads(question), answers, *handles)


@contextlib.contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    """End this process where a codec goes round in circles: the job that would do so may be gone."""
    if not hasattr(signal, "alarm"):
        yield
        return
    signal.alarm(seconds + _GRACE)
    try:
        yield
    finally:
        signal.alarm(0)


def limit_memory(most: int) -> None:
    """Let the system refuse this process more memory than ``most`` bytes; 0 for no limit."""
    if resource is None or most <= 0:
        return
    for kind, limit in ((resource.RLIMIT_AS, most), (resource.RLIMIT_CORE, 0)):
        # macOS refuses some limits; the time limit of the parent remains.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))


def answer(question: dict[str, Any], answers: BinaryIO, shared: int | None = None) -> None:
    """Decode one file and write the picture, or why there is none.

    Args:
        question: ``path``, ``rule``, as `ReadingRule.to_json` gives it, and ``slot``, where in shared memory
            the pixels may lie, or ``None``.
        answers: Where to.
        shared: Handle of the memory.
    """
    path = Path(question["path"])
    try:
        picture = read_image(path, ReadingRule.from_json(question["rule"]))
    except ImageError as error:
        said = {name: getattr(error, name) for name in ("expected", "found", "remedy")}
        known = file_hash(path, question["rule"]["max_file_bytes"])
        _write(answers, {"reason": error.reason.value, "sha256": known, **said}, b"")
        return
    pixels = np.ascontiguousarray(picture.pixels)
    facts = {f.name: getattr(picture, f.name) for f in dataclasses.fields(Picture)}
    content, slot = pixels.data.cast("B"), question["slot"]
    there = shared is not None and slot is not None and put(shared, slot, content)
    lies = {"shape": pixels.shape, "dtype": pixels.dtype.name, "shared": there}
    _write(answers, facts | {"path": str(path), "pixels": lies}, b"" if there else content)


def _write(answers: BinaryIO, facts: dict[str, Any], pixels: bytes | memoryview) -> None:
    answers.write(json.dumps(facts).encode("ascii") + b"\n")
    answers.write(pixels)
    answers.flush()


if __name__ == "__main__":
    main()
