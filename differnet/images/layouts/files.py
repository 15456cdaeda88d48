"""Names of folders and files: which are pictures, which are masks, and whose mask a file is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from differnet.images.layouts.parts import GOOD, Part
from differnet.images.reading import ImageError, read_mask

PICTURE_SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
GOOD_NAMES = frozenset(
    ("good", "ok", "okay", "normal", "nominal", "pass", "defect_free", "defect-free", "no_defect")
)
MASK_NAMES = frozenset(("ground_truth", "groundtruth", "gt", "mask", "masks", "labels", "annotations"))
TRAIN_NAMES = frozenset(("train", "training"))
TEST_NAMES = frozenset(("test", "testing"))
# A held-out set of good parts serves calibration, which is part of training.
VALIDATION_NAMES = frozenset(("validation", "val", "valid"))
# What a mask's stem adds to its picture's, in lower case.
_MASK_ENDINGS = ("_mask", "_label", "_gt")


def folders(root: Path) -> list[Path]:
    """List the visible folders in a folder, by name."""
    found = (child for child in root.iterdir() if child.is_dir() and is_visible(child.name))
    return sorted(found, key=_name)


def child(root: Path, names: Iterable[str]) -> Path | None:
    """Find the folder in a folder that has one of the names, in whatever case."""
    wanted = set(names)
    return next((folder for folder in folders(root) if folder.name.lower() in wanted), None)


def good_folders(root: Path) -> list[Path]:
    """List the folders in a folder whose name says that their parts are good."""
    return [folder for folder in folders(root) if folder.name.lower() in GOOD_NAMES]


def is_visible(name: str) -> bool:
    """Whether a name is a person's, rather than the system's."""
    return not name.startswith((".", "__MACOSX"))


def is_mask_name(name: str) -> bool:
    """Whether a folder of this name holds masks."""
    return name.lower() in MASK_NAMES


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures of one folder, without the masks that lie beside them."""
    found = _image_files(folder)
    stems = {file.stem for file in found}
    return [file for file in found if not _is_mask_beside(file.stem, stems)]


def pictures_below(folder: Path) -> list[Path]:
    """List the pictures of a folder and its subfolders, by name; masks are left out."""
    return sorted(_each_below(folder), key=by_name)


def has_pictures(folder: Path) -> bool:
    """Whether there is a picture in a folder or below; stops at the first."""
    return next(_each_below(folder), None) is not None


def by_name(file: Path) -> tuple[str, str]:
    """Return what files are sorted by: the name as a string, then the whole path."""
    return file.name, file.as_posix()


def split_good(files: Sequence[Path]) -> list[Part]:
    """Make the 4th, 8th, 12th ... file a test part.

    Args:
        files: In any order; they are sorted by name as strings.
    """
    ranked = sorted(files, key=by_name)
    return [Part(file, GOOD, "test" if k % 4 == 0 else "train") for k, file in enumerate(ranked, 1)]


def mask_places(roots: Iterable[Path], kind: str) -> list[Path]:
    """List where masks of a kind of defect may lie: a folder of the kind's name first."""
    roots = list(roots)
    return [*(root / kind for root in roots), *roots]


def masks_of(picture: Path, places: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Find a picture's masks.

    Args:
        picture: Its stem names them.
        places: Folders of masks, the likeliest first. There a mask is ``<stem>_mask``, ``<stem>``, or each
            file of a folder ``<stem>``. Last of all ``<stem>_mask``, ``<stem>_label`` and ``<stem>_GT``
            beside the picture are looked for.

    Returns:
        None, one, or several whose union is meant.
    """
    for place in places:
        for stem in (f"{picture.stem}_mask", picture.stem):
            if (found := _with_any_suffix(place / stem, picture.suffix)) is not None:
                return (found,)
        # In the folder of all masks such a folder may be a kind's, rather than a picture's.
        several = place / picture.stem
        if not is_mask_name(place.name) and several.is_dir() and (files := _image_files(several)):
            return tuple(files)
    for ending in ("_mask", "_label", "_GT"):
        beside = picture.with_name(picture.stem + ending)
        if (found := _with_any_suffix(beside, picture.suffix)) is not None:
            return (found,)
    return ()


def marks_something(mask: Path) -> bool | None:
    """Whether a mask marks a defect; ``None`` for one that cannot be read."""
    try:
        return bool(read_mask(mask).any())
    except ImageError:
        return None


def _name(path: Path) -> str:
    return path.name


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and is_visible(path.name)


def _image_files(folder: Path) -> list[Path]:
    return sorted((file for file in folder.iterdir() if _is_picture(file) and not file.is_dir()), key=_name)


def _is_mask_beside(stem: str, stems: set[str]) -> bool:
    return any(stem.lower().endswith(end) and stem[: -len(end)] in stems for end in _MASK_ENDINGS)


def _each_below(folder: Path) -> Iterator[Path]:
    for place, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if is_visible(name) and not is_mask_name(name))
        yield from pictures_in(Path(place))


def _with_any_suffix(stem: Path, suffix: str) -> Path | None:
    for ending in (".png", suffix, ".bmp", ".tif", ".tiff", ".jpg"):
        candidate = stem.with_name(stem.name + ending)
        if candidate.is_file():
            return candidate
    return None
