"""Plain folders: good (ok, normal, train/good) beside anything else; or pictures and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from differnet.images.layouts.files import (
    GOOD_NAMES,
    MASK_NAMES,
    TEST_NAMES,
    TRAIN_NAMES,
    VALIDATION_NAMES,
    child,
    folders,
    good_folders,
    has_pictures,
    is_mask_name,
    mask_places,
    masks_of,
    pictures_below,
    pictures_in,
    split_good,
)
from differnet.images.layouts.mvtec import read_splits
from differnet.images.layouts.parts import GOOD, Layout, Part, Reading


def is_plain(root: Path) -> bool:
    """Whether a folder names its good parts, or holds pictures and no folders of pictures."""
    if names_good(root):
        return True
    others = [folder for folder in folders(root) if not is_mask_name(folder.name)]
    return not any(has_pictures(folder) for folder in others) and bool(pictures_in(root))


def names_good(root: Path) -> bool:
    """Whether the folder names its good parts: good, train/good or test/good."""
    splits = (child(root, TRAIN_NAMES), child(root, TEST_NAMES))
    return any(good_folders(place) for place in (root, *splits) if place is not None)


def read_plain(root: Path) -> Reading:
    """List the parts: of the splits as they stand, the good beside them by the rule."""
    loose = pictures_in(root)
    if not names_good(root):
        note = "No folder names: every picture is taken for a good part, and none is kept for testing."
        return [Part(file, GOOD, None) for file in loose], [note]
    masks = [folder for folder in folders(root) if is_mask_name(folder.name)]
    parts = read_splits(root)
    split_given = any(part.label == GOOD for part in parts)
    parts += _read_root_classes(root, masks, split_given)
    note = f"{len(loose)} pictures directly in {root.name} have no class and are left out."
    return parts, [note] if loose else []


def _read_root_classes(root: Path, masks: Sequence[Path], split_given: bool) -> list[Part]:
    good: list[Path] = []
    parts: list[Part] = []
    for folder in folders(root):
        name = folder.name.lower()
        if name in GOOD_NAMES:
            good += pictures_below(folder)
        elif name not in TRAIN_NAMES | TEST_NAMES | VALIDATION_NAMES | MASK_NAMES:
            places = mask_places(masks, folder.name)
            parts += [
                Part(file, folder.name, "test", masks_of(file, places)) for file in pictures_below(folder)
            ]
    if split_given:
        # train/good is there as it stands; good parts beside it are not in train.
        return [Part(file, GOOD, "test") for file in good] + parts
    return split_good(good) + parts


FOLDER = Layout(
    "good (or ok, normal, train/good) beside a folder for each kind of defect, or only pictures",
    is_plain,
    read_plain,
    # Any folder of pictures would be a product otherwise.
    matches_one_of_several=names_good,
)
