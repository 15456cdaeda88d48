"""The ground truth of one picture, found from its own path: what layouts know, without a listing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from differnet.images.layouts.files import GOOD_NAMES, is_mask_name, is_visible, mask_places, masks_of
from differnet.images.layouts.mtd import mask_of_tile

# Folders between a picture and the one that holds its product's masks: split and kind, or two more for
# pictures that lie deeper.
_ABOVE = 4
# A folder of more is one of pictures, not of splits and kinds.
_MOST_LISTED = 2_000


def masks_near(picture: Path) -> tuple[Path, ...]:
    """Find the masks of one picture where the layouts of a folder have them.

    MTD's tiles have theirs beside them under the same name; MVTec AD and its relatives, VisA and plain
    folders in a tree of masks beside the splits; KolektorSDD and others beside the picture. Masks that only a
    listing names, of manifests and Real-IAD, take reading that listing: `read_layout`.

    Args:
        picture: Its file.

    Returns:
        None, one, or several whose union is meant. None for a part in a folder of good ones.
    """
    if found := mask_of_tile(picture):
        return found
    for depth, root in enumerate(picture.parents[1 : 1 + _ABOVE], 1):
        if trees := list(_trees_of_masks(root)):
            kinds = [folder.name for folder in picture.parents[:depth]]
            if any(kind.lower() in GOOD_NAMES for kind in kinds):
                return ()
            # A kind is whichever folder on the way has one of its name among the masks.
            places = [place for kind in kinds for place in mask_places(trees, kind)]
            if found := masks_of(picture, [place for place in places if place.is_dir()]):
                return found
    return masks_of(picture)


def _trees_of_masks(root: Path) -> Iterator[Path]:
    try:
        with os.scandir(root) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_LISTED:
                    return
                if is_mask_name(entry.name) and is_visible(entry.name) and entry.is_dir():
                    yield root / entry.name
    except OSError:
        # A folder that may not be listed tells of no masks.
        return
