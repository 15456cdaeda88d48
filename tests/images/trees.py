"""Small folders in the shapes of published datasets, and what is asked of their parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from differnet.images.layouts import Part
from differnet.images.reading import encode_png

BLANK = encode_png(np.zeros((2, 3), np.uint8))
MARKED = encode_png(np.full((2, 3), 255, np.uint8))


def plant(root: Path, names: Iterable[str], content: bytes = BLANK) -> None:
    """Write the same file under each name."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def numbered(folder: str, count: int, suffix: str = ".png") -> list[str]:
    """Name files 000, 001 and so on in a folder."""
    return [f"{folder}/{k:03d}{suffix}" for k in range(count)]


def named(parts: Iterable[Part]) -> list[str]:
    """Return the file names of parts."""
    return [part.path.name for part in parts]


def masks(root: Path, parts: Iterable[Part]) -> list[list[str]]:
    """Return the masks of each part, relative to the folder."""
    return [[mask.relative_to(root).as_posix() for mask in part.mask_paths] for part in parts]


def of_kind(parts: Iterable[Part], label: str | None) -> list[Part]:
    """Return the parts of a label."""
    return [part for part in parts if part.label == label]
