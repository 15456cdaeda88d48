"""Features of many parts, gathered part by part into memory that is there once, or into a file.

Putting batches behind one another at the end would hold everything twice. Where it is more than a gigabyte it
goes into files that the system pages in and out, and that are gone with the features.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from differnet.records import DiffernetError

IN_MEMORY = 1 << 30
"""Bytes of features that are kept in memory; more go into a file."""


@dataclass(frozen=True)
class Features:
    """What the backbone makes of some parts.

    Attributes:
        statistics: One ``(parts, features)`` a zoom, pooled.
        patches: One ``(parts, rows, columns, channels)`` a scale.
        kept: One ``(rows, columns)`` bool a scale: the patches that count, the same of every part.
        fields: A zoom's maps ``(parts, channels, rows, columns)``, half precision: they only say where.
        shares: How much of each cell of a zoom's maps counts, ``(rows, columns)`` a map, the same of every
            part; ``None`` where all counts.
        place: Folder of the file that they lie in, which goes with them; ``None`` for memory.
    """

    statistics: tuple[Tensor, ...]
    patches: tuple[Tensor, ...]
    kept: tuple[Tensor, ...]
    fields: tuple[tuple[Tensor, ...], ...]
    shares: tuple[tuple[Tensor, ...] | None, ...]
    place: _Place | None = field(default=None, repr=False, compare=False)

    def __getitem__(self, index: Tensor | slice) -> Features:
        return self._with([tensor[index] for tensor in self.tensors])

    def __len__(self) -> int:
        return len(self.statistics[0])

    def keep(self, numbers: Sequence[int]) -> Features:
        """Return the same of parts by their numbers, ascending; these features are not to be used any more.

        The parts are moved together where they lie, which takes no further memory.
        """
        for tensor in self.tensors:
            for place, number in enumerate(numbers):
                if place != number:
                    tensor[place] = tensor[number]
        return self[: len(numbers)]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything of which each part has its own: statistics, patches, then the maps of each zoom."""
        return (*self.statistics, *self.patches, *(m for maps in self.fields for m in maps))

    def _with(self, tensors: Sequence[Tensor]) -> Features:
        """Return the same with other tensors, in the order of `tensors`."""
        given = iter(tensors)
        statistics = tuple(next(given) for _ in self.statistics)
        patches = tuple(next(given) for _ in self.patches)
        fields = tuple(tuple(next(given) for _ in maps) for maps in self.fields)
        return replace(self, statistics=statistics, patches=patches, fields=fields)


class RoomError(DiffernetError):
    """No room for the features of so many parts."""


class _Place:
    """A folder that is gone with this object, or at the program's end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="differnet-features-"))
        # A system that does not let go of an open file leaves it to the end of the program.
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def tensor(self, shape: Sequence[int], dtype: torch.dtype, number: int) -> Tensor:
        """Return a tensor that lies in a file.

        Raises:
            RoomError: The disk has no room for it.
        """
        path, size = self.folder / f"{number}.bin", math.prod(shape)
        try:
            with path.open("wb") as file:
                # Room that is only found missing when it is written to ends the process, without a word.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
        except OSError as error:
            raise RoomError(
                expected=f"room for {size * dtype.itemsize / 1e9:.1f} GB of features in {self.folder.parent}",
                found=str(error),
                remedy="Make room there, or name another folder in TMPDIR.",
            ) from error
        return torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(*shape)


class Gathering:
    """Features of parts that come in batches.

    Args:
        most: Parts that may come.
        in_memory: Bytes that are kept in memory; more go into a file.
    """

    def __init__(self, most: int, in_memory: int = IN_MEMORY) -> None:
        self._most, self._in_memory = most, in_memory
        self._room: Features | None = None
        self._number = 0

    def add(self, features: Features) -> None:
        """Take the features of some parts, behind those that are there.

        Raises:
            RoomError: They are to go into a file, and the disk has no room for them.
        """
        if self._room is None:
            self._room = self._made(features)
        end = self._number + len(features)
        for room, tensor in zip(self._room.tensors, features.tensors, strict=True):
            room[self._number : end] = tensor
        self._number = end

    @property
    def features(self) -> Features | None:
        """Of all parts that came; ``None`` where none did."""
        return None if self._room is None else self._room[: self._number]

    def _made(self, like: Features) -> Features:
        tensors = like.tensors
        shapes = [(self._most, *tensor.shape[1:]) for tensor in tensors]
        size = sum(math.prod(shape) * t.element_size() for shape, t in zip(shapes, tensors, strict=True))
        if size <= self._in_memory:
            return like._with([torch.empty(s, dtype=t.dtype) for s, t in zip(shapes, tensors, strict=True)])
        place = _Place()
        room = [place.tensor(s, t.dtype, i) for i, (s, t) in enumerate(zip(shapes, tensors, strict=True))]
        return replace(like._with(room), place=place)
