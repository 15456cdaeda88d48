"""MVTec AD and its relatives: folders of splits, in them folders of kinds, masks in a tree of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from differnet.images.layouts.files import (
    GOOD_NAMES,
    TEST_NAMES,
    TRAIN_NAMES,
    VALIDATION_NAMES,
    child,
    folders,
    has_pictures,
    is_mask_name,
    mask_places,
    masks_of,
    pictures_below,
    pictures_in,
)
from differnet.images.layouts.parts import GOOD, Layout, Part, Reading, Split

_LOCO_KINDS = ("logical_anomalies", "structural_anomalies")
_PUBLIC = "test_public"
# Their labels are not published.
_PRIVATE = ("test_private", "test_private_mixed")


def is_mvtec(root: Path) -> bool:
    """Whether there is a train split with pictures, and a test split."""
    train = child(root, TRAIN_NAMES)
    return train is not None and child(root, TEST_NAMES) is not None and has_pictures(train)


def read_mvtec(root: Path) -> Reading:
    """List one product's parts."""
    return _one_product(root, read_splits(root))


def read_splits(root: Path) -> list[Part]:
    """List the parts of the splits of a folder, whichever there are."""
    parts: list[Part] = []
    masks = [folder for folder in folders(root) if is_mask_name(folder.name)]
    for folder in folders(root):
        name = folder.name.lower()
        if name in TRAIN_NAMES | VALIDATION_NAMES:
            parts += _read_classes(folder, "train", masks, loose=GOOD)
        elif name in TEST_NAMES:
            parts += _read_classes(folder, "test", masks, loose=None)
    return parts


def _read_classes(folder: Path, split: Split, masks: Sequence[Path], loose: str | None) -> list[Part]:
    """Read a folder of classes; pictures directly in it get the label ``loose``."""
    parts = [Part(file, loose, split) for file in pictures_in(folder)]
    for kind in folders(folder):
        if is_mask_name(kind.name):
            continue
        good = kind.name.lower() in GOOD_NAMES
        label = GOOD if good else kind.name
        places = [] if good else mask_places(masks, kind.name)
        parts += [
            Part(file, label, split, () if good else masks_of(file, places)) for file in pictures_below(kind)
        ]
    return parts


def _one_product(root: Path, parts: Sequence[Part]) -> Reading:
    """Name the product, and say where only some of the defects have a mask."""
    defective = [part for part in parts if part.split == "test" and part.label not in (GOOD, None)]
    bare = sum(not part.mask_paths for part in defective)
    notes = []
    if 0 < bare < len(defective):
        counted = f"{bare:,} of {len(defective):,} defective test parts"
        notes = [f"{counted} have no mask: pixel figures leave them out."]
    return [replace(part, product=root.name or None) for part in parts], notes


def is_mvtec_loco(root: Path) -> bool:
    """Whether the test split of an MVTec tree names logical or structural anomalies."""
    test = child(root, TEST_NAMES)
    return test is not None and is_mvtec(root) and child(test, _LOCO_KINDS) is not None


def is_btad(root: Path) -> bool:
    """Whether good parts are called ok and others ko."""
    train, test = child(root, TRAIN_NAMES), child(root, TEST_NAMES)
    return train is not None and test is not None and (train / "ok").is_dir() and (test / "ko").is_dir()


def is_mvtec_ad_2(root: Path) -> bool:
    """Whether there is a train split beside public or private test parts."""
    train = child(root, TRAIN_NAMES)
    named = any((root / name).is_dir() for name in (_PUBLIC, *_PRIVATE))
    return named and train is not None and has_pictures(train)


def read_mvtec_ad_2(root: Path) -> Reading:
    """List one product's parts; private test parts are test parts without a label."""
    parts = read_splits(root)
    if (public := root / _PUBLIC).is_dir():
        masks = [folder for folder in folders(public) if is_mask_name(folder.name)]
        parts += _read_classes(public, "test", masks, loose=None)
    for name in _PRIVATE:
        if (root / name).is_dir():
            parts += [Part(file, None, "test") for file in pictures_below(root / name)]
    return _one_product(root, parts)


MVTEC = Layout("train/good, test/<kind> and perhaps ground_truth/<kind>", is_mvtec, read_mvtec)
MVTEC_LOCO = Layout(
    "train/good, test/logical_anomalies, test/structural_anomalies, ground_truth/<kind>/<picture>/*.png",
    is_mvtec_loco,
    read_mvtec,
)
MVTEC_AD_2 = Layout(
    "train/good, test_public/{good,bad,ground_truth/bad} and perhaps test_private",
    is_mvtec_ad_2,
    read_mvtec_ad_2,
)
BTAD = Layout("train/ok, test/ok, test/ko and ground_truth/ko", is_btad, read_mvtec)
