"""Memory that a decoder's process fills and the job reads, so that large pictures go through no pipe.

Five million pixels are 15 MB: to push them through a pipe takes both ends together as long as decoding them.
The memory is a file without a name, gone with the last process that holds it, whatever becomes of either.
What pictures have filled stays taken until then, to be filled anew. A process that a picture has taken over
can write into the slots of its own decoder, where pictures of before may still be read; it could as well have
told other pixels of those that come after.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SLOT_BYTES = 32 * 2**20
"""Of one picture: 11 million pixels in colour. Only what pictures fill is taken from the machine."""


class SharedPixels:
    """Slots for pictures in memory that a process can be handed.

    Args:
        slots: How many.

    Attributes:
        handle: Of the memory, for a process to inherit.

    Raises:
        OSError: The system has no such memory, or none left.
    """

    def __init__(self, slots: int) -> None:
        import fcntl  # of POSIX, as the memory is of Linux

        self.handle = os.memfd_create("pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.handle, slots * SLOT_BYTES)
            # A process that a picture has taken over could cut it short, which would end whoever reads, or
            # let it grow without an end.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.handle, fcntl.F_ADD_SEALS, seals)
            self._memory = mmap.mmap(self.handle, slots * SLOT_BYTES)
        except (OSError, ValueError):
            os.close(self.handle)
            raise
        self._free = list(range(0, slots * SLOT_BYTES, SLOT_BYTES))
        # Pictures end in whatever thread lets go of them, also while this one holds the lock.
        self._lock = threading.RLock()

    @classmethod
    def if_possible(cls, slots: int) -> Self | None:
        """Return shared memory, or ``None`` where the system has none; pictures then go through a pipe."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            return cls(slots)
        except (OSError, ValueError):
            return None

    def take(self) -> int | None:
        """Return where a free slot begins, in bytes, or ``None`` while all hold pictures."""
        with self._lock:
            return self._free.pop() if self._free else None

    def give_back(self, slot: int) -> None:
        """Let a slot be filled anew."""
        with self._lock:
            self._free.append(slot)

    def picture(self, slot: int, shape: Sequence[int], dtype: str) -> NDArray[Any]:
        """Return the pixels that were put into a slot, which is free again when nobody holds them any more.

        Args:
            slot: As `take` gave it.
            shape: Of the pixels; they fill at most `SLOT_BYTES`.
            dtype: Of the pixels.

        Raises:
            EOFError: So many are in no slot: whoever says so is not to be heard any further.
        """
        if dtype not in ("uint8", "uint16") or not all(type(n) is int and n > 0 for n in shape):
            raise EOFError
        count = math.prod(shape)
        if count * np.dtype(dtype).itemsize > SLOT_BYTES:
            raise EOFError
        flat = np.frombuffer(self._memory, np.dtype(dtype), count, slot)
        pixels = flat.reshape(shape)
        weakref.finalize(flat, self.give_back, slot).atexit = False
        return pixels

    def close(self) -> None:
        """Let go of the memory; pictures that somebody still holds stay whole."""
        os.close(self.handle)
        try:
            self._memory.close()
        except BufferError:
            # Of a picture that is still held: the memory ends with the last of them.
            return


def put(handle: int, slot: int, pixels: memoryview) -> bool:
    """Put pixels into a slot, in the process that was handed the memory.

    Returns:
        Whether they fitted, and the system had memory for them.
    """
    if len(pixels) > SLOT_BYTES:
        return False
    done = 0
    try:
        while done < len(pixels):
            done += os.pwrite(handle, pixels[done:], slot + done)
    except OSError:
        return False
    return True
