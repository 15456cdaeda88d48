"""KolektorSDD and KolektorSDD2: a mask beside every picture, blank where the part is good."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from differnet.images.layouts.files import (
    TEST_NAMES,
    TRAIN_NAMES,
    child,
    folders,
    marks_something,
    masks_of,
    pictures_in,
    split_good,
)
from differnet.images.layouts.parts import GOOD, Layout, LayoutError, Part, Reading, Split

# One folder an electrical commutator, with pictures of its surfaces.
_ITEM = re.compile(r"kos\d+", re.IGNORECASE)
_DEFECT = "defect"
# Every 4th commutator's good surfaces are test parts.
_EVERY = 4


def is_kolektorsdd(root: Path) -> bool:
    """Whether there are folders kos01, kos02 and so on, with labels beside the pictures."""
    return any(any(item.glob("*_label.bmp")) for item in _items(root))


def read_kolektorsdd(root: Path) -> Reading:
    """List the surfaces; those of one commutator are never in train and in test, if they are good.

    Pictures of the same object are alike: split among themselves they would make a test too easy.
    """
    parts: list[Part] = []
    items = _items(root)
    for number, item in enumerate(items, 1):
        parts += _labelled(pictures_in(item), "test" if number % _EVERY == 0 else "train", defects="test")
    notes = ["No published split of good parts: those of every 4th folder by name are test parts."]
    if len(items) < _EVERY:
        others = [part for part in parts if part.label != GOOD]
        parts = split_good([part.path for part in parts if part.label == GOOD]) + others
        notes = ["No published split of good parts: every 4th by name is a test part."]
    return parts, notes + _unreadable(parts)


def is_kolektorsdd2(root: Path) -> bool:
    """Whether train and test are flat, with labels beside the pictures."""
    train, test = child(root, TRAIN_NAMES), child(root, TEST_NAMES)
    return all(place is not None and any(place.glob("*_GT.png")) for place in (train, test))


def read_kolektorsdd2(root: Path) -> Reading:
    """List the surfaces of both splits; defective ones of the train split are not learned from."""
    parts: list[Part] = []
    splits: tuple[tuple[Split, frozenset[str]], ...] = (("train", TRAIN_NAMES), ("test", TEST_NAMES))
    for split, names in splits:
        if (folder := child(root, names)) is not None:
            parts += _labelled(pictures_in(folder), split, defects=split)
    return parts, _unreadable(parts)


def _items(root: Path) -> list[Path]:
    if _ITEM.fullmatch(root.name):
        return [root]
    return [folder for folder in folders(root) if _ITEM.fullmatch(folder.name)]


def _labelled(pictures: Iterable[Path], good: Split, defects: Split) -> Iterator[Part]:
    """Label pictures by whether their masks mark anything.

    Raises:
        LayoutError: A picture has no mask, so that nothing tells whether it is good.
    """
    for picture in pictures:
        masks = masks_of(picture)
        if not masks:
            raise LayoutError(
                expected=f"a mask beside every picture of {picture.parent}, blank where the part is good",
                found=f"none beside {picture.name}",
                remedy="Add the mask, or move the picture out of the folder.",
            )
        marked = marks_something(masks[0])
        if marked is None:
            yield Part(picture, None, defects, masks)
        elif marked:
            yield Part(picture, _DEFECT, defects, masks)
        else:
            yield Part(picture, GOOD, good)


def _unreadable(parts: Iterable[Part]) -> list[str]:
    lost = [part.mask_paths[0].name for part in parts if part.label is None]
    if not lost:
        return []
    return [f"{len(lost):,} masks cannot be read, first {lost[0]}: their parts have no label."]


KOLEKTORSDD = Layout("kos01, kos02 ... with Part0.jpg and Part0_label.bmp", is_kolektorsdd, read_kolektorsdd)
KOLEKTORSDD2 = Layout("train and test with 10000.png and 10000_GT.png", is_kolektorsdd2, read_kolektorsdd2)
