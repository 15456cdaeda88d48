"""What a detector is given: files, pictures, arrays; and what is known of them. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from differnet.detection.settings import DetectorError
from differnet.detection.usual import QUALITY_FIGURES
from differnet.images.decoders import Refused
from differnet.images.reading import ImageError, ReadingRule, read_image
from differnet.records import Picture

Source = Path | str | Picture | Refused | NDArray[Any]
Batch = list[tuple[Source, Picture | ImageError]]
Item = TypeVar("Item")

BATCH = 16
"""Pictures that are looked at together."""


@dataclass
class Seen:
    """What is known of pictures beside their features, one entry a readable picture."""

    hashes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    quality: list[list[float]] = field(default_factory=list)

    def add(self, others: Seen) -> None:
        """Take further pictures, behind those that are there."""
        self.hashes += others.hashes
        self.names += others.names
        self.sources += others.sources
        self.quality += others.quality

    @property
    def figures(self) -> NDArray[np.float64]:
        """``(pictures, 4)`` quality figures."""
        return np.array(self.quality, dtype=np.float64).reshape(-1, len(QUALITY_FIGURES))


def decoded(sources: Iterable[Source], rule: ReadingRule, size: int = BATCH) -> Iterator[Batch]:
    """Decode pictures batch by batch; one batch ahead, while the one before it is looked at.

    Args:
        sources: Files, decoded pictures, refused files, or arrays; drawn as they are needed.
        rule: How files are read.
        size: Of a batch.

    Yields:
        Each source with its picture, or with the reason why it has none.

    Raises:
        DetectorError: An array is no picture.
    """
    if isinstance(sources, Sequence) and len(sources) == 1:
        # Nothing to be ahead of: threads would take a millisecond to start and to end.
        yield [decode(sources[0], rule)]
        return
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        # One batch is decoded while the one before it is in the network.
        waiting: list[Future[tuple[Source, Picture | ImageError]]] = []
        for batch in in_batches(sources, size):
            following = [pool.submit(decode, source, rule) for source in batch]
            if waiting:
                yield [future.result() for future in waiting]
            waiting = following
        if waiting:
            yield [future.result() for future in waiting]


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Draw items as they are needed, so many at a time; what is left at the end may be fewer.

    Example:
        >>> list(in_batches("abcde", 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    drawn = iter(items)
    while batch := list(islice(drawn, size)):
        yield batch


def decode(source: Source, rule: ReadingRule) -> tuple[Source, Picture | ImageError]:
    """Return a source with its picture, or with the reason why it has none.

    Raises:
        DetectorError: An array is no picture.
    """
    try:
        return source, as_picture(source, rule)
    except ImageError as error:
        return source, error


def readable(batch: Batch) -> list[Picture]:
    """Return the pictures of a batch that could be read."""
    return [picture for _, picture in batch if isinstance(picture, Picture)]


def as_picture(source: Source, rule: ReadingRule) -> Picture:
    """Decode a file, or check pixels in memory.

    Raises:
        ImageError: The file cannot be read.
        DetectorError: The array is no picture.
    """
    if isinstance(source, Path | str):
        return read_image(Path(source), rule)
    if isinstance(source, Refused):
        raise source.error
    pixels = source.pixels if isinstance(source, Picture) else np.ascontiguousarray(source)
    colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
    if not colour or pixels.dtype not in (np.uint8, np.uint16):
        raise DetectorError(
            expected="(height, width, 3) RGB pixels of uint8 or uint16, at least one",
            found=f"shape {pixels.shape} of {pixels.dtype}",
            remedy="Convert the array, or give a file.",
        )
    if isinstance(source, Picture):
        return source
    depth = 8 * pixels.dtype.itemsize
    return Picture(pixels, None, hashlib.sha256(pixels.tobytes()).hexdigest(), bit_depth=depth)


def fingerprint(hashes: Sequence[str]) -> str:
    """Return what names a set of training parts, by their sorted sha256."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def name_of(source: Source) -> str:
    """Return the path of a source, or its hash."""
    if isinstance(source, Picture):
        return str(source.path or source.sha256)
    if isinstance(source, Refused):
        return str(source.path)
    return str(source) if isinstance(source, Path | str) else "pixels in memory"


def processors() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
